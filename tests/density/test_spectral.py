"""The closed-form start: exact where it can be, close to the entropy where it cannot."""

import math

import numpy as np
import pytest
import torch

from density.bin_mass import autocorrelation, bin_bits
from density.spectral import _factor, spectral_start

STEP = torch.zeros(1, 1, dtype=torch.float64)


def rate(samples, log_step=STEP, order=16):
    x = torch.tensor(samples)[None]
    location, log_scale, a = spectral_start(x, log_step, order, 1e-4)
    v = torch.round((x - location) / torch.exp(log_step)) * torch.exp(log_step)
    return bin_bits(v[None], log_scale, log_step, a, 1e-4).mean().item(), v[0].numpy()


def entropy(v):
    _, counts = np.unique(v, return_counts=True)
    return float(-(counts / v.size) @ np.log2(counts / v.size))


@pytest.mark.parametrize(
    "name, excess",
    [
        ("normal", 0.02),
        ("laplace", 0.02),
        ("uniform", 0.1),
        ("two", 0.1),
        ("exponential", 0.06),
        ("t3", 0.03),
        ("cauchy", 0.3),
    ],
)
def test_the_rate_is_close_to_the_entropy(rng, name, excess):
    n = 20_000
    samples = {
        "normal": lambda: rng.normal(size=n) * 5,
        "laplace": lambda: rng.laplace(size=n) * 2 + 0.3,
        "uniform": lambda: rng.random(n) * 30,
        "two": lambda: np.where(rng.random(n) < 0.5, rng.normal(size=n) - 6, 2 * rng.normal(size=n) + 6),
        "exponential": lambda: rng.exponential(size=n) * 4,
        "t3": lambda: rng.standard_t(3, size=n),
        "cauchy": lambda: rng.standard_cauchy(size=n),
    }[name]()
    bits, v = rate(samples)
    assert bits <= entropy(v) + excess


def test_degenerate_channels_are_ordinary(rng):
    zeros = np.where(rng.random(5000) < 0.999, 0.0, rng.normal(size=5000) * 20)
    for samples, most in [
        (np.full(50, 3.3), 1e-3),
        (zeros, 0.05),
        (np.array([1.0, 2.0]), 3.0),
        (rng.normal(size=99) * 1e-9, 1e-3),
    ]:
        bits, _ = rate(samples)
        assert 0 <= bits <= most


def test_the_factor_of_a_series_is_exact(rng):
    """|A|^2 of the factor is the Fejer mean that it was made from, whatever its zeros."""
    a = torch.tensor(rng.normal(size=(3, 9)))
    c = autocorrelation(a)
    fejer = c * (1 - torch.arange(1, 9, dtype=torch.float64) / 9)
    ours = autocorrelation(_factor(c, 8))
    assert torch.allclose(ours, fejer * (1 - 1e-3), atol=1e-6)


def test_scaling_and_shifting_the_data_moves_the_map_alone(rng):
    samples = torch.tensor(rng.laplace(size=(1, 3000)))
    location, log_scale, a = spectral_start(samples, STEP, 8, 1e-4)
    moved = spectral_start(samples * 8 + 5, STEP + math.log(8), 8, 1e-4)
    assert torch.allclose(moved[0], location * 8 + 5)
    assert torch.allclose(moved[1], log_scale + math.log(8))
    assert torch.allclose(moved[2], a, atol=1e-9)
