"""Masses of intervals against the distribution function, and in digits where that has none."""

import numpy as np
import pytest

import density as ds
from density.code_length import log_mass

VARIANTS = {
    "logistic": {"order": 9, "map": "logistic"},
    "cauchy": {"order": 6, "map": "cauchy"},
    "affine": {"order": 60, "map": "affine"},
    "mixture": {"order": 2, "map": "mixture"},
    "bounded": {"order": 9, "support": (-9, 9)},
    "circular": {"order": 9, "support": (-9, 9), "basis": "periodic"},
    "half": {"order": 9, "support": (-9, np.inf)},
}


@pytest.fixture(params=sorted(VARIANTS), scope="module")
def p(request):
    rng = np.random.default_rng(20302)
    x = np.concatenate([rng.normal(-1.5, 0.7, 1400), rng.normal(1.5, 0.4, 1000)])
    return ds.fit(x, **VARIANTS[request.param])


@pytest.mark.parametrize("step", [3.0, 0.3, 1e-3])
def test_masses_are_differences_of_the_cdf(p, step):
    x = np.linspace(-4, 4, 333)
    rise = p.cdf(x + step / 2) - p.cdf(x - step / 2)
    assert np.abs(2.0 ** -p.bits(x, step) - rise).max() < 1e-13
    edges = np.linspace(-30, 30, 601)
    inside = np.exp(log_mass(p, edges[:-1], edges[1:])).sum()
    assert np.isclose(inside, p.cdf(30.0) - p.cdf(-30.0), atol=1e-13)


def test_narrow_cells_cost_what_the_pdf_says(p):
    x = np.linspace(-3, 3, 101)
    for step in (1e-6, 1e-13, 1e-200):
        assert np.abs(p.bits(x, step) + np.log2(p.pdf(x)) + np.log2(step)).max() < 2e-5
    assert p.bits(0.5, 1e-3).shape == ()
    assert np.isnan(p.bits([np.nan, 0.0], 1.0)[0])


def test_far_cells_have_finite_bits_where_there_is_a_tail():
    p = ds.fit(np.random.default_rng(20303).standard_normal(3000))
    far = np.array([-1e3, 1e6, 1e100, -1e300])
    bits = p.bits(far, 0.1)
    assert np.isfinite(bits).all()
    tail = p.tail.mass * p.tail.scale * 0.1 / np.pi / far[:2] ** 2
    assert np.allclose(bits[:2], -np.log2(tail), atol=1e-3)
    believed = ds.fit(np.random.default_rng(7).random(300), support=(0, 1), order=2)
    assert believed.bits(3.0, 0.1) == np.inf
    assert np.isclose(2 ** -believed.bits(0.0, 0.1), believed.cdf(0.05))


def test_integers_sum_to_one_and_cost_about_their_entropy(rng):
    x = rng.poisson(3.0, 20_000)
    p = ds.fit(x)
    assert p.report.grid == 1
    k = np.arange(-60, 200)
    mass = 2.0 ** -p.bits(k)
    assert np.isclose(mass.sum(), 1, atol=1e-4)
    counts = np.bincount(x) / len(x)
    entropy = -counts[counts > 0] @ np.log2(counts[counts > 0])
    assert entropy - 1e-9 <= p.bits(x).mean() < entropy + 0.002
    from scipy import stats

    truth = stats.poisson(3).pmf(k[60:75])
    assert np.abs(mass[60:75] - truth).max() < 0.005


def test_misuse_of_steps(rng):
    p = ds.fit(rng.standard_normal(300))
    with pytest.raises(
        ValueError, match=r"bits\(x\) needs the width of a cell: pass step=, because the data were not found"
    ):
        p.bits(0.0)
    for bad in (0, -1.0, np.inf, np.nan):
        with pytest.raises(ValueError, match="is not a width; pass a finite step > 0"):
            p.bits(0.0, bad)
