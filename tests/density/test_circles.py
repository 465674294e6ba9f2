"""Rows of circles: each is what one circle alone gives."""

import numpy as np
import pytest

from density import circles
from density.likelihood import Circle, ranked_maximum


@pytest.fixture
def several(rng):
    """Circles of one size, one of them with empty nodes."""
    weights = rng.random((4, 257)) * (1 + np.cos(np.linspace(0, np.pi, 257)) ** 2)
    weights[1, 50:200] = 0
    return [Circle(w, "cosine") for w in weights]


def test_likelihoods_and_promises_are_those_of_each_circle(several, rng):
    a = [rng.standard_normal(k) for k in (1, 4, 9, 9)]
    assert np.allclose(
        circles.log_likelihoods(several, a), [c.log_likelihood(v) for c, v in zip(several, a)], atol=1e-12
    )
    orders = [1, 2, 7]
    for mine, circle in zip(circles.promised(several, orders), several):
        alone = circle.promises(orders)
        assert all(abs(mine[k] - alone[k]) < 1e-12 for k in orders)


@pytest.mark.parametrize("order", [1, 5, 12])
def test_maxima_are_those_of_each_circle(several, rng, order):
    starts = [None, np.ones(1), rng.standard_normal(order), None]
    promises = [circle.promises([order])[order] for circle in several]
    found = circles.maxima(several, order, starts, promises, 1e-10)
    for circle, start, mine in zip(several, starts, found):
        alone = ranked_maximum(circle, order, start, precision=1e-10)
        assert abs(mine.log_likelihood - alone.log_likelihood) < 1e-8
        assert np.isclose(np.linalg.norm(mine.a), 1)
        assert abs(circle.log_likelihood(mine.a) - mine.log_likelihood) < 1e-12


def test_circles_of_different_kinds_are_taken_one_by_one(several, rng):
    mixed = [several[0], Circle(rng.random(128), "periodic"), Circle(rng.random(129), "cosine")]
    found = circles.maxima(mixed, 3, [None] * 3, [np.inf] * 3, 1e-9)
    for circle, mine in zip(mixed, found):
        assert mine.log_likelihood == ranked_maximum(circle, 3, precision=1e-9).log_likelihood
    assert len(circles.promised(mixed, [1, 2])) == 3
    assert np.allclose(
        circles.log_likelihoods(mixed, [m.a for m in found]), [m.log_likelihood for m in found], atol=1e-12
    )
