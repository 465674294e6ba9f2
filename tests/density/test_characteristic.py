"""The characteristic function agrees with sums over u and with closed forms, and holds for any t."""

import numpy as np
import pytest

import density as ds
from density.characteristic import _by_panels

VARIANTS = {
    "logistic": {"order": 9, "map": "logistic"},
    "laplace": {"order": 7, "map": "laplace"},
    "affine": {"order": 12, "map": "affine"},
    "arcsine": {"order": 12, "map": "arcsine"},
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


def test_it_agrees_with_sums(p):
    u = (np.arange(400_000) + 0.5) / 400_000
    w, x = p._p(u) / len(u), p.map.inverse(u)
    t = np.array([[0.0, 0.2, -1.0], [1.0, 3.0, 6.0]])
    got = p.characteristic_function(t)
    tail = p.tail.mass * np.exp(1j * t * p.tail.loc - p.tail.scale * np.abs(t)) if p.tail.mass else 0
    want = (1 - p.tail.mass) * (np.exp(1j * t[..., None] * x) @ w) + tail
    assert got.shape == t.shape
    assert np.abs(got - want).max() < 2e-5  # of the sums
    assert np.isclose(got[0, 0], 1, atol=2e-10)
    assert np.isclose(got[0, 2], np.conj(got[1, 0]), atol=1e-12)
    assert np.iscomplexobj(p.characteristic_function(0.5))


def test_panels_give_what_the_closed_form_gives(rng):
    p = ds.fit(rng.random(900), order=20, map="affine")
    t = np.array([0.0, 1e-9, 0.3, 12.0, -400.0, 1e5, 1e9])
    assert np.abs(_by_panels(p, t) - (p.characteristic_function(t) - _tail(p, t)) / (1 - p.tail.mass)).max() < 1e-10


def _tail(p, t):
    return p.tail.mass * np.exp(1j * t * p.tail.loc - p.tail.scale * np.abs(t))


def test_the_normal_law_and_its_exponential_decay(rng):
    p = ds.fit(3 + 2 * rng.standard_normal(2000), order=0, map="normal")
    t = np.linspace(-4, 4, 33)
    want = (1 - p.tail.mass) * np.exp(1j * t * p.map.loc - 0.5 * (p.map.scale * t) ** 2) + _tail(p, t)
    assert np.abs(p.characteristic_function(t) - want).max() < 1e-13
    cauchy = ds.fit(rng.standard_cauchy(2000), order=0, map="cauchy")
    want = np.exp(1j * t * cauchy.map.loc - cauchy.map.scale * np.abs(t))
    both = (1 - cauchy.tail.mass) * want + _tail(cauchy, t)
    assert np.abs(cauchy.characteristic_function(t) - both).max() < 1e-10


def test_any_t_takes_the_same_panels(p):
    far = p.characteristic_function([1e8, -1e8, 1e60, 1e300])
    assert (np.abs(far) < 1e-5).all()
    assert np.isclose(far[1], np.conj(far[0]), atol=1e-12)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_it_moves_with_the_units(rng, scale):
    x = rng.standard_normal(600)
    t = np.array([0.2, 3.0])
    p, q = (ds.fit(s * x, map="logistic", order=3) for s in (1.0, scale))
    assert np.abs(q.characteristic_function(t / scale) - p.characteristic_function(t)).max() < 1e-11


def test_what_it_cannot_be_asked(rng):
    p = ds.fit(1e10 * rng.standard_normal(300), order=1, map="cauchy")
    with pytest.raises(ValueError, match="evaluated at finite t"):
        p.characteristic_function(np.nan)
    with pytest.raises(TypeError, match="evaluated at real t, not at 'a'"):
        p.characteristic_function("a")
    with pytest.raises(ValueError, match=r"t \* x overflows for t up to 1e\+300"):
        p.characteristic_function([0.0, 1e300])
    assert p.characteristic_function([]).shape == (0,)
