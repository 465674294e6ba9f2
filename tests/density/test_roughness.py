"""The penalty on the derivative: its value, its derivatives, and a certificate that knows of it."""

import numpy as np
import pytest

import density as ds
from density.likelihood import Circle, certified_maximum, optimality_gap
from density.roughness import SmoothedCircle, derivatives, roughness


@pytest.fixture(params=["cosine", "periodic"])
def basis(request):
    return request.param


def _coefficients(rng, basis, count=6):
    a = rng.standard_normal(count) + (0 if basis == "cosine" else 1j * rng.standard_normal(count))
    return a / np.linalg.norm(a)


def test_it_is_the_integral_of_the_squared_slope(rng, basis):
    a = _coefficients(rng, basis)
    omega = np.pi if basis == "cosine" else 2 * np.pi
    u = np.linspace(0, 1, 20_001)
    A = np.exp(1j * omega * u[:, None] * np.arange(len(a))) @ a
    slope = np.gradient(np.abs(A) ** 2, u)
    assert np.isclose(roughness(a, omega), np.trapezoid(slope**2, u), rtol=1e-5)


def test_gradient_and_hessian_are_differences(rng, basis):
    a = _coefficients(rng, basis)
    omega = np.pi if basis == "cosine" else 2 * np.pi
    slope, curve = derivatives(a, omega)

    def moved(step):
        return roughness(a + (step if basis == "cosine" else step[:6] + 1j * step[6:]), omega)

    eye = np.eye(len(slope)) * 1e-4
    assert np.allclose(slope, [(moved(e) - moved(-e)) / 2e-4 for e in eye], rtol=1e-4, atol=1e-3)
    seen = [[moved(e + f) - moved(e - f) - moved(f - e) + moved(-e - f) for f in eye] for e in eye]
    assert np.abs(curve - np.array(seen) / 4e-8).max() < 1e-5 * np.abs(curve).max()


@pytest.mark.parametrize("gamma", [1e-5, 1e-2])
def test_the_certificate_bounds_the_penalised_gain(rng, basis, gamma):
    circle = SmoothedCircle(Circle(rng.random(129) ** 4, basis), gamma)
    best = certified_maximum(circle, 5)
    assert best.gap_nats < 1e-8
    poor = _coefficients(rng, basis)
    assert 0 < circle.objective(best.a) - circle.objective(poor) <= optimality_gap(circle, poor)


def test_a_larger_gamma_gives_a_smoother_fit(rng):
    x = rng.standard_normal(400)
    fits = [ds.fit(x, order=20, map="affine", roughness=g) for g in (0, 1e-4, 1e-2, 1.0)]
    rough = [roughness(p.coefficients, np.pi) for p in fits]
    assert rough == sorted(rough, reverse=True)
    assert all(p.gap_nats < 1e-6 for p in fits)
    assert [p.report.gamma for p in fits] == [0, 1e-4, 1e-2, 1.0]
    assert "Roughness: 0.01 times the integral of p'^2" in fits[2].explain()


def test_automatic_gamma_helps_an_order_that_is_too_high(rng):
    x = rng.standard_normal(300)
    plain, smooth = (ds.fit(x, order=30, map="affine", roughness=g) for g in (0, "auto"))
    assert smooth.order == 30
    assert smooth.report.gamma > 0
    new = rng.standard_normal(20_000)
    assert smooth.logpdf(new).mean() > plain.logpdf(new).mean()
    assert ds.fit(rng.standard_normal(5000), order=6, map="normal", roughness="auto").report.gamma == 0
    assert ds.fit(x, roughness="auto").gap_nats < 1e-6
