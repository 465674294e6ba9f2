"""Moments, characteristic function and modes agree with sums over samples and with what is known in closed form."""

import numpy as np
import pytest

import density as ds

VARIANTS = {
    "logistic": {"order": 9, "map": "logistic"},
    "affine": {"order": 12, "map": "affine"},
    "circular": {"order": 8, "support": (-9, 9), "basis": "periodic"},
    "line periodic": {"order": 5, "map": "normal", "basis": "periodic"},
    "mixture": {"order": 2, "map": "mixture"},
    "half": {"order": 24, "map": "exponential", "support": (-9, np.inf)},
}


@pytest.fixture(params=sorted(VARIANTS), scope="module")
def p(request):
    rng = np.random.default_rng(20272)
    x = np.concatenate([rng.normal(-1.5, 0.7, 1400), rng.normal(1.5, 0.4, 1000)])
    return ds.fit(x, **VARIANTS[request.param])


def _midpoints(p):
    """The fitted part in equal steps of u: its weights and its x."""
    u = (np.arange(400_000) + 0.5) / 400_000
    return p._p(u) / len(u), p.map.inverse(u)


def test_moments_agree_with_sums(p):
    w, x = _midpoints(p)
    for k in range(5):
        assert np.isclose(p.moment(k), w @ x**k, rtol=2e-3, atol=1e-3)
        assert np.isclose(p.moment(k, central=True), w @ (x - p.mean()) ** k, rtol=2e-3, atol=2e-3)
    assert p.moment(0) == 1
    assert p.mean() == p.moment(1)
    assert p.var() == p.moment(2, central=True)
    assert isinstance(p.moment(2), np.float64)


def test_modes_are_the_two_that_were_drawn(p):
    modes = p.modes(least=0.2)
    assert len(modes) == 2
    assert np.allclose(modes, [-1.5, 1.5], atol=0.35)
    h = 1e-4
    assert (p.pdf(modes) >= p.pdf(modes - h)).all()
    assert (p.pdf(modes) >= p.pdf(modes + h)).all()


def test_modes_at_ends_and_poles(rng):
    falling = ds.fit(rng.exponential(size=5000), support=(0, np.inf), order=0, map="exponential")
    assert falling.modes().tolist() == [0]
    poles = ds.fit(rng.normal(size=5000), map="arcsine", order=12)
    assert np.abs(poles.modes(least=0.5)).max() < 0.5
    with pytest.raises(ValueError, match="pass 0 <= least <= 1"):
        falling.modes(least=2)


def test_moments_that_do_not_exist(rng):
    x = rng.standard_normal(500)
    cauchy = ds.fit(x, map="cauchy", order=2)
    assert np.isnan(cauchy.mean())
    assert np.isnan(cauchy.moment(3))
    assert cauchy.moment(2) == np.inf
    assert np.isnan(cauchy.moment(2, central=True))
    for sign in (1.0, -1.0):
        support = (0, np.inf) if sign > 0 else (-np.inf, 0)
        q = ds.fit(sign * rng.pareto(1.0, 3000), support=support, map="loglogistic", order=2)
        assert q.map.tail_index < 2
        assert q.moment(2) == np.inf
        assert q.moment(3) == sign * np.inf
    for bad in (-1, 1.5, True, "a", None, np.nan, np.inf):
        with pytest.raises(ValueError, match="pass an integer >= 0"):
            cauchy.moment(bad)


@pytest.mark.parametrize("scale, variance", [(1e200, np.inf), (1e-200, 0.0)])
def test_moments_beyond_the_range_of_doubles(rng, scale, variance):
    p = ds.fit(scale * rng.standard_normal(900), map="logistic", order=3)
    assert p.var() == variance
    assert abs(p.mean()) < scale


def test_scipy_takes_it(p):
    law = p.to_scipy()
    t = np.linspace(-3, 3, 7)
    assert np.allclose(law.pdf(t), p.pdf(t))
    assert np.allclose(law.logpdf(t), p.logpdf(t))
    assert np.allclose(law.cdf(t), p.cdf(t))
    assert np.allclose(law.ccdf(t), p.sf(t))
    assert np.allclose(law.icdf([0.2, 0.7]), p.ppf([0.2, 0.7]))
    assert tuple(law.support()) == p.support
