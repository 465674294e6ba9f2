"""`select_columns` and `select_rows` on matrices: the default's decision, and the trap of a sketch that is cut off."""

import numpy as np
import pytest

import lowrank as lr
from lowrank import gallery
from tests.reference import leave_out


@pytest.mark.parametrize("method", [name for name in lr.SELECTIONS if name != "given"])
def test_every_rule_on_a_sketched_matrix(rng, method):
    A = gallery.polynomial_decay(500, 60, rng=rng)
    J = lr.select_columns(A, 8, method=method, rng=7)
    assert len(J) == len(set(J.tolist())) == 8
    error = np.linalg.norm(leave_out(A, J))
    best = gallery.optimal_error(gallery.polynomial_spectrum(60), 8)
    assert error < (12 if method in ("uniform", "norm", "norm_sampling", "kmeans") else 5) * best
    for workers in (1, 2, 3):
        assert np.array_equal(J, lr.select_columns(np.asfortranarray(A), 8, method=method, rng=7, workers=workers))


def test_rows_are_the_columns_of_the_transpose(rng):
    A = rng.standard_normal((90, 120))
    assert np.array_equal(lr.select_rows(A, 6, rng=7), lr.select_columns(A.T, 6, rng=7))


@pytest.mark.parametrize("method", ["auto", "lu", "qr", "osinsky"])
def test_no_hash_block_is_cut_off(method):
    """Each row of A holds one large entry, in a column of its own: all k of these columns matter equally.

    A rule that read only the first k rows of the sketch would not see the rows of A that hash elsewhere and miss their
    columns; every seed must find all of them.
    """
    k, n = 40, 200
    rng = np.random.default_rng(20240613)
    A = np.zeros((2000, n))
    for j in range(k):
        A[rng.integers(2000), 5 * j] = 1.0
    A += 1e-6 * rng.standard_normal(A.shape)
    for seed in range(30, 50):
        found = set(lr.select_columns(A, k, method=method, rng=seed).tolist())
        assert np.linalg.norm(leave_out(A, sorted(found))) < 0.01, seed


def test_given(rng):
    A = rng.standard_normal((9, 5))
    assert lr.select_columns(A, 2, method="given", indices=[3, -1], rng=7).tolist() == [3, 4]
    with pytest.raises(ValueError, match='the selection "given" needs indices='):
        lr.select_columns(A, 2, method="given", rng=7)


def test_bad_arguments(rng):
    with pytest.raises(ValueError, match=r"k=6 exceeds min\(A.shape\)=5; pass k<=5"):
        lr.select_columns(rng.standard_normal((9, 5)), 6)
    with pytest.raises(ValueError, match="method='best' is not available; pass one of 'auto', 'lu', 'qr', 'osinsky'"):
        lr.select_columns(rng.standard_normal((9, 5)), 2, method="best")
