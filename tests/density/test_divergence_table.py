"""The table of divergences: its figures mean what its head says."""

import numpy as np

import density as ds
from benchmarks import bench_density_divergence as bench


def test_a_grid_across_a_peak_has_mass_one():
    x = np.linspace(-4, 4, 9)
    logpdf = bench._tabulated(x, 3 * np.exp(-40 * x * x) + 1e-9)
    t = np.linspace(-4, 4, 800_001)
    assert np.isclose(np.trapezoid(np.exp(logpdf(t)), t), 1, rtol=1e-4)


def test_the_tail_leaves_no_infinite_loss(rng):
    x = rng.standard_normal(1000)
    logpdf = bench.with_tail(bench.histogram(x), x)
    t = np.linspace(-400, 400, 800_001)
    assert np.isfinite(logpdf(np.array([-1e9, 1e9]))).all()
    assert np.isclose(np.trapezoid(np.exp(logpdf(t)), t), 1, atol=2e-3)


def test_a_row_has_every_contender_and_the_least_in_bold(monkeypatch):
    monkeypatch.setattr(bench, "densities", lambda: (ds.gallery.laplace(),))
    some = {name: bench.CONTENDERS[name] for name in ("density", "histogram", "gaussian_kde")}
    monkeypatch.setattr(bench, "CONTENDERS", {**some, "gaussian_kde": bench.Peer("scipy.stats", bench.gaussian_kde, 9)})
    row = bench.markdown(2000, 1).splitlines()[-1]
    assert row.startswith("| laplace | **")
    assert row.endswith("(9 samples) |")
    assert row.count("samples") == 1
    assert row.count("**") == 2
