"""Osinsky's rule in its parts: the leading space, the greedy step beside its definition, what it asks of a sketch."""

from dataclasses import dataclass, field

import numpy as np
import pytest

import lowrank as lr
from lowrank.selection import osinsky
from tests.reference_selections import osinsky_columns


@pytest.mark.parametrize("shape", [(9, 40), (40, 9), (20, 20)])
@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
def test_the_leading_space_and_its_numerical_rank(rng, shape, dtype):
    """Singular values count down to max(shape) eps of the first, and k of them at most."""
    m, n = shape
    r, cut = min(shape), max(shape) * np.finfo(np.float64).eps
    s = np.ones(r)
    s[4:] = [2 * cut] + [cut / 1.5] * (r - 5)
    A = lr.gallery.with_spectrum(m, n, s, rng=rng, dtype=dtype)
    _, _, Vh = np.linalg.svd(A, full_matrices=False)
    for k, expected in ((3, 3), (9, 5)):
        V, values = osinsky.basis(A, k)
        assert V.shape == (n, expected)
        np.testing.assert_allclose(V.conj().T @ V, np.eye(expected), atol=1e-13)
        np.testing.assert_allclose(values[:4], 1.0, atol=1e-12)
        assert np.linalg.norm(V[:, :3] - Vh[:4].conj().T @ (Vh[:4] @ V[:, :3])) < 1e-10


@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
@pytest.mark.parametrize("k", [1, 3, 8])
def test_the_greedy_order_is_that_of_the_definition(rng, dtype, k):
    for n in (8, 25):
        A = rng.standard_normal((14, n)) + (1j * rng.standard_normal((14, n)) if dtype == np.complex128 else 0)
        A = (A @ np.tri(n) / n**0.5 + A).astype(dtype)  # columns that overlap, none much longer than the others
        V, _ = osinsky.basis(A, k)
        E = A - (A @ V) @ V.conj().T
        order = osinsky.greedy(V, E)
        assert len(set(order.tolist())) == k
        if n > k:  # else the error is rounding, and any order is as good
            assert order.tolist() == osinsky_columns(A, k)


def test_where_nothing_is_left_the_column_of_largest_weight_is_taken(rng):
    """On exact rank all errors are rounding: `noise` stands over them, and ties go to the weight."""
    V = np.linalg.qr(rng.standard_normal((30, 4)))[0]
    first = int(np.sum(V**2, axis=1).argmax())
    nothing = np.zeros((6, 30))
    assert osinsky.greedy(V, nothing)[0] == first
    rounding = 1e-16 * rng.standard_normal((6, 30))
    assert osinsky.greedy(V, rounding, noise=1e-28)[0] == first
    copies = np.vstack([V, V]) / 2**0.5  # a copy of a chosen column has no weight left
    assert len(set((osinsky.greedy(copies, np.zeros((6, 60))) % 30).tolist())) == 4


@dataclass
class Asked:
    """A sketch that keeps what it was asked for."""

    Y: np.ndarray
    k: int
    exact: bool = False
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(7))
    rows: list = field(default_factory=list)

    def compressed(self, rows):
        self.rows.append(rows)
        return self.Y[:rows].copy()


@pytest.mark.parametrize("k, rows", [(8, 18), (40, 50), (80, 100)])
def test_what_is_asked_of_a_sketch(rng, monkeypatch, k, rows):
    """Where an SVD is taken: k + max(10, k / 4) rows for the leading space, 64 for the residual; noise 64 eps s_1."""
    Y = rng.standard_normal((200, 150)).astype(np.float32)
    seen = []
    monkeypatch.setattr(osinsky, "greedy", lambda V, E, noise: seen.append((V, E, noise)) or np.arange(k))
    asked = Asked(Y, k)
    assert osinsky.choose(asked).method == "osinsky"
    assert asked.rows == [rows, 64]
    V, E, noise = seen[0]
    assert V.dtype == E.dtype == np.float64
    largest = np.linalg.norm(Y[:rows].astype(float), 2)
    assert noise == pytest.approx((64 * np.finfo(np.float32).eps * largest) ** 2)
    W = Y[:64].astype(float)
    np.testing.assert_allclose(E, W - W @ V @ V.T, atol=1e-12)
    exact = Asked(Y, k, exact=True)
    osinsky.choose(exact)
    assert exact.rows == [64]
    np.testing.assert_array_equal(asked.Y, exact.Y)
    assert osinsky.choose(Asked(0 * Y, k)).indices.shape == (0,)
