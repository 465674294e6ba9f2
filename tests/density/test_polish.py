"""Exact likelihood on the samples: sums with and without finufft, and the certificate on them."""

import numpy as np
import pytest

import density as ds
from density.cells import cells
from density.likelihood import optimality_gap
from density.polish import PointCircle


@pytest.mark.parametrize("basis", ["cosine", "periodic"])
def test_the_fit_of_few_samples_is_certified_on_the_samples_themselves(rng, basis):
    x = rng.standard_normal(700)
    p = ds.fit(x, order=12, basis=basis, map="affine", support=(-6, 6))
    assert p.report.polish == "direct"
    assert "exact samples (direct sums)" in p.explain()
    circle = PointCircle(p.map.forward(x), np.ones(700), basis, 25, direct=True)
    assert optimality_gap(circle, p.coefficients) < 1e-12
    fitted = np.log(p._p(p.map.forward(x))).mean()
    assert np.isclose(fitted, circle.log_likelihood(p.coefficients), atol=1e-12)
    nudged = p.coefficients + 1e-4 * rng.standard_normal(13)
    assert circle.log_likelihood(nudged) < fitted


def test_it_is_left_out_for_rounded_and_for_many_data(rng):
    assert ds.fit(np.round(rng.standard_normal(900), 1), order=3).report.polish is None
    assert ds.fit(rng.standard_normal(30_000), order=3).report.polish is None


@pytest.mark.parametrize("basis", ["cosine", "periodic"])
def test_finufft_sums_what_we_sum(rng, basis):
    pytest.importorskip("finufft")
    data = cells(rng.random(300), None, 1)
    a = rng.standard_normal(9) + (0 if basis == "cosine" else 1j * rng.standard_normal(9))
    slow, fast = (PointCircle(data.centres, data.masses, basis, 17, direct=d) for d in (True, False))
    assert np.allclose(slow.values(a), fast.values(a), atol=1e-11)
    f = rng.standard_normal(300) + 1j * rng.standard_normal(300)
    assert np.allclose(slow.moments(f, 17), fast.moments(f, 17), atol=1e-10)
