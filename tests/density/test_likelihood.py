"""The certificate is a bound, the optimum is unique, and reflection changes nothing but the phase."""

import numpy as np
import pytest

from density.likelihood import (
    Circle,
    certified_maximum,
    escape,
    maximise,
    minimum_phase,
    optimality_gap,
    ranked_maximum,
    spectral_factor,
)
from tests.reference import dense_gap

BASES = ("cosine", "periodic")


def weights(rng, basis, m=512, n=400):
    """Binned samples of something with a gap, two modes and empty stretches."""
    x = np.concatenate([rng.normal(0.3, 0.05, n), rng.normal(0.7, 0.02, n // 2)]) % 1
    size = m + 1 if basis == "cosine" else m
    return np.bincount(np.rint(x * m).astype(int) % size, minlength=size).astype(float)


def angles(circle):
    return 2 * np.pi * np.arange(circle.size) / circle.size


def spread(circle):
    """Weights on all nodes of the circle."""
    if not circle.even:
        return circle.share
    return np.concatenate([circle.share, circle.share[-2:0:-1]])


def random_coefficients(rng, basis, K):
    a = rng.standard_normal(K + 1)
    return a if basis == "cosine" else a + 1j * rng.standard_normal(K + 1)


@pytest.mark.parametrize("basis", BASES)
def test_transforms_are_the_sums_that_they_stand_for(rng, basis):
    circle = Circle(weights(rng, basis, m=64), basis)
    a = random_coefficients(rng, basis, 9)
    theta = angles(circle)
    V = np.exp(1j * np.outer(theta, np.arange(10)))
    A = (V @ a)[: len(circle.weights)]
    assert np.allclose(circle.values(a), A)
    assert np.allclose(circle.moments(circle.share, 10), spread(circle) @ V)
    p = np.abs(A) ** 2 / np.vdot(a, a).real
    assert np.isclose(circle.log_likelihood(a), circle.weights @ np.log(p))
    assert np.isclose(p.mean() if basis == "periodic" else np.trapezoid(p) / 64, 1)


@pytest.mark.parametrize("basis", BASES)
@pytest.mark.parametrize("K", [0, 1, 5, 23])
def test_the_gap_is_that_of_the_dense_matrix(rng, basis, K):
    circle = Circle(weights(rng, basis, m=128), basis)
    a = random_coefficients(rng, basis, K)
    dense = dense_gap(spread(circle), angles(circle), a)
    gap = optimality_gap(circle, a)
    assert gap >= dense - 1e-12
    assert np.isclose(gap, max(dense, 0), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("basis", BASES)
def test_the_gap_bounds_what_any_model_gains(rng, basis):
    circle = Circle(weights(rng, basis), basis)
    best = certified_maximum(circle, 20)
    for _ in range(60):
        a = random_coefficients(rng, basis, 20) * 0.8 ** np.arange(21)
        gained = best.log_likelihood - circle.log_likelihood(a)
        assert gained <= optimality_gap(circle, a) + 1e-12
        assert gained >= -1e-9  # and nothing beats the certified maximum


@pytest.mark.parametrize("basis", BASES)
@pytest.mark.parametrize("K", [0, 1, 2, 12, 40, 90])
def test_every_order_is_certified(rng, basis, K):
    circle = Circle(weights(rng, basis, m=2048), basis)
    best = certified_maximum(circle, K)
    assert best.gap_nats < 1e-8
    M = circle.gap_column(best.a)
    T = np.array([[M[k - j] if k >= j else np.conj(M[j - k]) for j in range(K + 1)] for k in range(K + 1)])
    assert np.allclose(T.conj() @ best.a, best.a, atol=1e-5)


@pytest.mark.parametrize("basis", BASES)
def test_random_starts_reach_the_same_optimum(rng, basis):
    circle = Circle(weights(rng, basis), basis)
    best = certified_maximum(circle, 16)
    for _ in range(20):
        found = maximise(circle, random_coefficients(rng, basis, 16))
        for _ in range(4):
            if optimality_gap(circle, found.a) <= 1e-6:
                break
            found = maximise(circle, escape(circle, found.a))
        assert abs(found.log_likelihood - best.log_likelihood) < 1e-6


@pytest.mark.parametrize("basis", BASES)
def test_escape_ascends_from_a_stationary_point_that_is_not_the_maximum(rng, basis):
    circle = Circle(weights(rng, basis), basis)
    flat = np.zeros(7, dtype=float if basis == "cosine" else complex)
    flat[3] = 1  # |A| = 1: the uniform density written so that a cannot move to leave it
    assert optimality_gap(circle, flat) > 0.1
    assert circle.log_likelihood(escape(circle, flat)) > circle.log_likelihood(flat) + 1e-3


@pytest.mark.parametrize("basis", BASES)
def test_minimum_phase_moves_every_zero_out_and_keeps_the_modulus(rng, basis):
    for K in (1, 2, 9, 30):
        a = random_coefficients(rng, basis, K)
        b = minimum_phase(a)
        z = np.exp(2j * np.pi * np.arange(257) / 257)
        before = np.abs(np.polyval(a[::-1], z)) / np.linalg.norm(a)
        assert np.allclose(np.abs(np.polyval(b[::-1], z)), before, atol=1e-9)
        assert np.abs(np.roots(b[::-1])).min() > 1 - 1e-6
        assert np.isclose(b[0].imag, 0, atol=1e-12)
        assert b[0].real > 0
        assert np.allclose(minimum_phase(b), b)
        assert np.isclose(np.linalg.norm(b), 1)


@pytest.mark.parametrize("basis", BASES)
def test_the_spectral_factor_recovers_a_minimum_phase_polynomial(rng, basis):
    circle = Circle(np.ones(1025 if basis == "cosine" else 1024), basis)
    a = minimum_phase(random_coefficients(rng, basis, 6) * 0.5 ** np.arange(7))
    assert np.allclose(spectral_factor(circle, circle.density(a), 6, floor=0), a, atol=1e-8)


@pytest.mark.parametrize("basis", BASES)
def test_fejer_means_are_non_negative(rng, basis):
    assert Circle(weights(rng, basis), basis).smoothed(30).min() > -1e-12


def test_ranking_stops_near_the_maximum(rng):
    circle = Circle(weights(rng, "cosine"), "cosine")
    best, ranked = certified_maximum(circle, 40), ranked_maximum(circle, 40, precision=1e-5)
    assert ranked.steps <= best.steps
    assert 0 <= best.log_likelihood - ranked.log_likelihood + 1e-12 < 1e-3


def test_a_start_of_lower_order_never_costs_likelihood(rng):
    circle = Circle(weights(rng, "cosine"), "cosine")
    low = certified_maximum(circle, 8)
    assert certified_maximum(circle, 20, low.a).log_likelihood >= low.log_likelihood - 1e-12
