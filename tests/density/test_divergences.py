"""Distances between two fits, against sums over quantiles and samples."""

from dataclasses import replace

import numpy as np
import pytest

import density as ds


def _fit(x, **kwargs):
    return ds.fit(x, **({"order": 4, "map": "logistic"} | kwargs))


@pytest.mark.parametrize("kwargs", [{}, {"map": "mixture", "order": 2}, {"map": "affine", "order": 8}])
def test_wasserstein_is_the_distance_of_quantiles(rng, kwargs):
    x, y = rng.standard_normal(2000), 1.5 * rng.standard_normal(2000) + 0.3
    p, q = _fit(x), _fit(y, **kwargs)
    bare = [replace(d, tail=replace(d.tail, mass=0.0)) for d in (p, q)]
    u = (np.arange(400_000) + 0.5) / 400_000
    gap = np.abs(bare[0].ppf(u) - bare[1].ppf(u))
    for order in (1, 2, 3.5):
        assert np.isclose(p.wasserstein(q, order=order), np.mean(gap**order) ** (1 / order), rtol=2e-3)
    t = np.linspace(-30, 30, 600_001)
    assert np.isclose(p.wasserstein(q), np.trapezoid(np.abs(bare[0].cdf(t) - bare[1].cdf(t)), t), rtol=1e-6)
    assert p.wasserstein(p) == 0
    assert np.isclose(p.wasserstein(q), q.wasserstein(p), rtol=1e-9)


def test_wasserstein_moves_with_shifts_and_scales(rng):
    x = rng.standard_normal(1000)
    p = _fit(x)
    assert np.isclose(p.wasserstein(_fit(x + 3)), 3, rtol=1e-6)
    assert np.isclose(p.wasserstein(_fit(x + 3), order=2), 3, rtol=1e-6)
    assert np.isclose(_fit(1e200 * x).wasserstein(_fit(1e200 * x + 3e200)), 3e200, rtol=1e-6)


def test_wasserstein_with_atoms(rng):
    x = np.where(rng.random(3000) < 0.4, 0.0, rng.exponential(size=3000))
    y = np.where(rng.random(3000) < 0.2, 0.0, rng.exponential(size=3000))
    p, q = ds.fit(x), ds.fit(y)
    from scipy import stats

    s, t = (replace(d, tail=replace(d.tail, mass=0.0)).sample(200_000, rng=7) for d in (p, q))
    assert np.isclose(p.wasserstein(q), stats.wasserstein_distance(s, t), atol=0.015)  # 5 standard errors of a mean


def test_wasserstein_of_counts_is_certain_where_the_density_nearly_vanishes(rng):
    """Quantiles jump at the gaps between the counts; a doubtful quadrature would warn, and warnings are errors."""
    few = ds.fit(rng.poisson(1, 20_000))
    waits = ds.fit(rng.exponential(3, size=2000))
    for p, q in ((few, waits), (few, ds.fit(rng.poisson(0.3, 2000))), (few, ds.fit(rng.normal(3, 1, 2000)))):
        bare = [replace(d, tail=replace(d.tail, mass=0.0)) for d in (p, q)]
        ends = np.concatenate([d.ppf([1e-13, 1 - 1e-13]) for d in bare])
        t = np.linspace(ends.min(), ends.max(), 400_001)
        assert np.isclose(p.wasserstein(q), np.trapezoid(np.abs(bare[0].cdf(t) - bare[1].cdf(t)), t), rtol=1e-6)
        assert p.wasserstein(q, order=2) >= p.wasserstein(q)


def test_distances_that_do_not_exist(rng):
    heavy = ds.fit(rng.standard_cauchy(2000), map="cauchy", order=3)
    p = _fit(rng.standard_normal(500))
    assert p.wasserstein(heavy) == np.inf
    with pytest.raises(ValueError, match=r"order=0\.5 of the distance is not known; pass order=1, 2"):
        p.wasserstein(p, order=0.5)
    with pytest.raises(TypeError, match="wasserstein takes a FourierDensity, not a int"):
        p.wasserstein(3)


def test_kl_sees_a_cliff_near_the_end_of_the_other_map(rng):
    x = rng.random(1000)
    p = ds.fit(x, support=(0, 1), order=0, map="affine")
    q = ds.fit(0.00002 + 0.99996 * x, map="affine", order=0)  # outside of its map there is only its safety tail
    lo, hi = q.map.support
    out = max(lo, 0) + max(1 - hi, 0)
    t = np.linspace(0, 1, 4_000_001)
    expected = np.mean(-q.logpdf((t[1:] + t[:-1]) / 2))
    assert np.isclose(p.kl(q), expected, atol=1e-6)
    assert out >= 0


def test_the_gallery_sees_the_cliff_too():
    known = ds.gallery.uniform()
    for n in (100_000, 3000):
        p = ds.fit(known.sample(n, rng=7))
        lo, hi = p.map.support
        kl = known.kl(p)
        assert kl > 0
        t = np.concatenate([np.linspace(0, max(lo, 0), 2001), np.linspace(max(lo, 0), min(hi, 1), 20_001)])
        t = np.unique(np.concatenate([t, np.linspace(min(hi, 1), 1, 2001)]))
        middle, width = (t[1:] + t[:-1]) / 2, np.diff(t)
        assert np.isclose(kl, -(p.logpdf(middle) @ width), rtol=1e-3)
