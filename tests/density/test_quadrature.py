"""Integrals whose values are known."""

import numpy as np
import pytest

from density.quadrature import integrate


@pytest.mark.parametrize(
    "f, value",
    [
        (lambda u: u**6, 1 / 7),
        (lambda u: np.cos(40 * np.pi * u) ** 2, 0.5),
        (lambda u: -np.log(u), 1.0),
        (lambda u: -np.log(u * (1 - u)), 2.0),
        (lambda u: np.exp(-1e4 * (u - 0.3) ** 2), np.sqrt(np.pi) / 100),
    ],
)
def test_value_and_error_bound(f, value):
    found, error = integrate(f, 16)
    assert abs(found - value) <= max(error, 1e-11)
    assert error < 1e-8


def test_halving_ends_at_most_so_many_panels_of_noise_but_goes_on_around_a_jump(rng):
    seen = []

    def noise(u):
        seen.append(len(u))
        return rng.random(u.shape)

    value, error = integrate(noise, 8, tolerance=1e-12, most=1000)
    assert sum(seen) <= 15 * (1000 + 1024)  # the last round is summed, not halved
    assert abs(value - 0.5) < 0.1
    assert error > 0.1
    value, error = integrate(lambda u: np.where(u < 1 / 3, 0.0, 1.0), 8, tolerance=1e-9, most=1000)
    assert abs(value - 2 / 3) < 1e-11
    assert error < 1e-10
