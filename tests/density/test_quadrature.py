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
