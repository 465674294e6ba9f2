"""log q at points: what it is by definition, how far rounding takes it, and how far out it holds."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

import density as ds
from density.fourier import _polynomial

LAWS = {
    "logistic": ({"map": "logistic"}, np.random.Generator.logistic),
    "normal": ({"map": "normal"}, np.random.Generator.normal),
    "laplace": ({"map": "laplace"}, np.random.Generator.laplace),
    "cauchy": ({"map": "cauchy"}, np.random.Generator.standard_cauchy),
    "affine": ({"map": "affine"}, np.random.Generator.random),
    "arcsine": ({"map": "arcsine"}, np.random.Generator.random),
    "mixture": ({"map": "mixture"}, np.random.Generator.normal),
    "half": ({"support": (0, np.inf)}, np.random.Generator.standard_exponential),
}


@pytest.mark.parametrize("scale", [1e-290, 1.0, 1e290])
@pytest.mark.parametrize("law", sorted(LAWS))
def test_log_q_is_the_logarithm_of_its_two_terms(rng, law, scale):
    kwargs, draw = LAWS[law]
    x = scale * draw(rng, size=600)
    p = ds.fit(x, order=7, **kwargs)
    t = np.concatenate([x, scale * np.array([-1e4, -50.0, -1e-9, 0.0, 1.0, 50.0, 1e4])])
    if scale == 1:
        t = np.concatenate([t, [-1e300, -1e160, 1e160, 1e300]])
    with np.errstate(all="ignore"):
        fitted = np.log(p._p(p.map.forward(t))) + p.map.log_derivative(t)
        terms = np.logaddexp(fitted + np.log1p(-p.tail.mass), p.tail.log_pdf(t))
    assert_allclose(p.logpdf(t), terms, rtol=1e-12, atol=1e-12)
    if not kwargs.get("support"):
        assert np.isfinite(p.logpdf(t)).all()


@pytest.mark.parametrize("K", [0, 1, 2, 9, 50, 201])
@pytest.mark.parametrize("kind", ["real", "complex"])
def test_rounding_of_the_polynomial_is_within_its_bound(rng, K, kind):
    a = rng.standard_normal(K + 1) + (1j * rng.standard_normal(K + 1) if kind == "complex" else 0)
    theta = np.concatenate([rng.uniform(-2 * np.pi, 2 * np.pi, 20_000), np.pi * np.arange(-2, 3), [1e-300, -1e-17]])
    x, y = _polynomial(theta, a)
    angles = theta.astype(np.longdouble)[:, None] * np.arange(K + 1)
    truth = (np.cos(angles) + 1j * np.sin(angles)) @ a.astype(np.clongdouble)
    bound = 8 * (K + 1) * 2.0**-53 * np.abs(a).sum()
    assert max(np.abs(x - truth.real).max(), np.abs(y - truth.imag).max()) <= bound


def test_the_sine_keeps_its_digits_at_small_angles(rng):
    theta = np.concatenate([np.logspace(-300, 0, 20_000), -np.logspace(-300, 0, 20_000)])
    assert_allclose(_polynomial(theta, np.array([0.0, 1.0]))[1], np.sin(theta), rtol=4e-16)


def test_two_workers_change_no_bit_nor_does_the_length(rng):
    p = ds.fit(rng.standard_normal(3000), order=9, map="normal")
    x = 3 * rng.standard_normal(150_001)
    whole = p.logpdf(x, workers=1)
    assert np.array_equal(p.logpdf(x, workers=2), whole)
    assert np.array_equal(p.logpdf(x[: 1 << 16], workers=2), whole[: 1 << 16])
    assert np.array_equal(p.logpdf(x.reshape(-1, 1)[::1]).reshape(-1), whole)
