"""Expectation-maximisation on bins: against the formulas of a round, sample by sample, and on data that break it."""

import numpy as np
import pytest

from density.components import Parts, ascended, binned, evenly_spread, single, with_one_more
from density.expectation import Bins


def _plain_round(x, w, n, parts):
    """One round with the prior on the widths, written as sums over samples."""
    widths, tied = parts[2:]
    density = [w_k / s * np.exp(-0.5 * ((x - m) / s) ** 2) / np.sqrt(2 * np.pi) for w_k, m, s in zip(*parts[:3])]
    share = np.array(density) / np.sum(density, axis=0)
    mass = np.array([np.sum(w * r) for r in share])
    centre = np.array([np.sum(w * r * x) for r in share]) / mass
    squares = np.array([np.sum(w * r * (x - m) ** 2) for r, m in zip(share, centre)])
    common = len(widths) / np.sum(1 / widths**2)
    variance = np.full(len(mass), squares.sum()) if tied else (n * squares + 2 * common) / (n * mass + 2)
    return mass, centre, np.sqrt(variance), float(w @ np.log(np.sum(density, axis=0)))


@pytest.mark.parametrize("tied", [False, True])
def test_a_round_is_that_of_the_formulas(rng, tied):
    x, n = np.sort(rng.standard_normal(300)) + 2 * (np.arange(300) > 180), 300
    data = Bins(x, np.full(n, 1 / n), np.zeros(n))
    start = Parts(np.array([0.3, 0.7]), np.array([-1.0, 2.0]), np.array([0.9, 0.9 if tied else 1.4]), tied)
    mass, centre, widths, likelihood = _plain_round(x, data.w, n, start)
    assert np.isclose(ascended(data, start, n, rounds=0)[1], likelihood, rtol=1e-13)
    found, _ = ascended(data, start, n, rounds=1)
    assert np.allclose(found.weights, mass, rtol=1e-12)
    assert np.allclose(found.means, centre, rtol=1e-12)
    assert np.allclose(found.widths, widths, rtol=1e-12)
    assert found.n_parameters == (4 if tied else 5)


def test_rounds_of_one_width_never_lose(rng):
    data, _, _ = binned(np.sort(rng.standard_t(2, 2000)), np.ones(2000), 256)
    parts, before = evenly_spread(data, 5), -np.inf
    for _ in range(30):
        parts, likelihood = ascended(data, parts, 2000, rounds=1)
        assert likelihood >= before - 1e-12
        before = likelihood


def test_variance_inside_of_bins_is_not_lost(rng):
    x = np.sort(rng.standard_normal(20_000))
    coarse, loc, scale = binned(x, np.ones(len(x)), 16)
    parts = single(coarse)
    assert np.isclose(loc + scale * parts.means[0], x.mean(), atol=1e-12)
    assert np.isclose(scale * parts.widths[0], x.std(), rtol=1e-12)


def test_a_new_component_goes_where_one_is_missing(rng):
    x = np.sort(np.concatenate([rng.standard_normal(900), 8 + 0.1 * rng.standard_normal(100)]))
    data, loc, scale = binned(x, np.ones(1000), 250)
    parts = with_one_more(data, Parts(np.ones(1), np.array([-loc / scale]), np.array([1 / scale])))
    assert np.isclose(loc + scale * parts.means[-1], 8, atol=0.1)
    assert np.isclose(parts.weights[-1], 0.1, atol=0.03)
    assert np.isclose(parts.weights.sum(), 1, rtol=1e-12)


def test_bins_far_from_every_component_have_a_finite_likelihood():
    x = np.array([0.0, 1.0, 2.0, 1e6])
    data = Bins(x, np.full(4, 0.25), np.zeros(4))
    parts = Parts(np.ones(1), np.array([1.0]), np.array([0.1]))
    found, likelihood = ascended(data, parts, 4, rounds=3)
    assert np.isfinite(likelihood)
    assert np.isfinite(np.concatenate(found[:3])).all()


def test_as_many_components_as_values_have_a_width():
    parts = evenly_spread(Bins(np.arange(5.0), np.full(5, 0.2), np.zeros(5)), 5)
    assert parts.tied
    assert np.all(parts.widths > 0)


@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
def test_scales_of_the_data_change_nothing(rng, scale):
    x = np.sort(rng.standard_normal(400))
    one, _, _ = binned(x, np.ones(400), 100)
    other, _, unit = binned(scale * x, np.ones(400), 100)
    assert np.allclose(one.x, other.x, rtol=1e-9, atol=1e-12)
    assert np.isclose(unit, scale * np.abs(x - x.mean()).mean(), rtol=1e-9)
