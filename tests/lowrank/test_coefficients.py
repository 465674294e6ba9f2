"""Coefficients beside least squares, the products of probes beside a GEMM, Osinsky's rule beside its definition."""

import numpy as np
import pytest
import scipy.sparse as sp

import lowrank as lr
from lowrank import coefficients as coef
from lowrank._kernels import add_products
from lowrank._selection_kernels import advance
from lowrank.operands import as_operand
from lowrank.passes import first_pass
from lowrank.selection import osinsky

DTYPES = [np.float32, np.float64, np.complex64, np.complex128]


def draw(rng, shape, dtype):
    A = rng.standard_normal(shape)
    return (A + 1j * rng.standard_normal(shape) if np.dtype(dtype).kind == "c" else A).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("workers", [1, 3])
def test_exact_coefficients_are_those_of_least_squares(rng, dtype, workers):
    A = draw(rng, (2500, 40), dtype)  # more rows than are preconditioned at a time
    C = A[:, :7] * np.array([1, 1e2, 1, 1e-2, 1, 1, 1], dtype)
    S = draw(rng, (60, 2500), dtype)
    Z = coef.exact(C, S @ C, as_operand(A), workers=workers)
    expected = np.linalg.lstsq(C, A, rcond=None)[0]
    assert Z.dtype == dtype
    np.testing.assert_allclose(C @ Z, C @ expected, atol=300 * np.finfo(dtype).eps * abs(A).max())
    np.testing.assert_array_equal(Z, coef.exact(C, S @ C, as_operand(np.asfortranarray(A)), workers=1))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("gap", [1.0, 1e-3, 1e-12])
def test_normal_equations_hand_over_what_they_cannot_solve(rng, dtype, gap):
    """Columns that differ by `gap`: a Gram matrix tells them apart down to 1e-4, the dense rows to rounding."""
    gap = max(gap, 100 * float(np.finfo(dtype).eps))
    A = draw(rng, (900, 30), dtype) * (rng.random((900, 30)) < 0.05)
    A[:, 1] = A[:, 0] + dtype(gap) * A[:, 1]
    C, S = sp.csc_array(A[:, :5]), draw(rng, (60, 900), dtype)
    Z = coef.normal(C, S @ A[:, :5], as_operand(sp.csr_array(A)))
    best = np.linalg.norm(A - A[:, :5] @ np.linalg.lstsq(A[:, :5], A, rcond=None)[0])
    assert Z.dtype == dtype
    assert np.linalg.norm(A - A[:, :5] @ Z) <= best * (1 + 1e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("h", [1, 8, 21])
def test_products_of_probes_are_a_gemm_in_the_order_of_the_rows(rng, dtype, h):
    panel, omega = draw(rng, (24, 700), dtype), draw(rng, (3, h), dtype)
    out = np.ones((3, 900), dtype)
    add_products(panel, h, 650, omega, out, 100)
    expected = np.ones((3, 900))
    expected[:, 100:750] += omega.astype(float) @ panel[:h, :650]
    np.testing.assert_allclose(out, expected, atol=60 * np.finfo(dtype).eps)
    parts = np.ones((3, 900), dtype)
    for i in range(0, h, 5):  # the cuts of panels change no bit
        rows = min(5, h - i)
        piece = np.ascontiguousarray(omega[:, i : i + rows])
        add_products(np.ascontiguousarray(panel[i:]), rows, 650, piece, parts, 100)
    np.testing.assert_array_equal(parts, out)


@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
def test_a_step_takes_the_pivot_out_of_every_column(rng, dtype):
    V, E, u = draw(rng, (30, 5), dtype), draw(rng, (30, 9), dtype), draw(rng, 5, dtype)
    weight, error, score = np.full(30, 90.0), np.zeros(30), np.zeros(30)
    weight[7] = 1e-20
    along = V @ u
    expected = E - np.outer(along / along[4], E[4])
    left = np.maximum(weight - np.abs(along) ** 2, 0.0)
    left[4] = 0.0
    found = advance(V, u, E, 4, weight, error, score, 0.5, 1e-12)
    errors = np.sum(np.abs(expected) ** 2, axis=1)
    np.testing.assert_allclose(E, expected, atol=1e-12)
    np.testing.assert_allclose(weight, left, atol=1e-12)
    np.testing.assert_allclose(error, errors, atol=1e-12)
    scores = np.where(left > 1e-12, (errors + 0.5) / np.maximum(left, 1e-12), np.inf)
    assert found == scores.argmin()
    assert score[4] == score[7] == np.inf
    E[:], weight[:] = 0.0, np.where(np.arange(30) == 8, 300.0, 200.0)
    assert advance(V, u, E, 4, weight, error, score, 0.0, 1e-12) == 8, "the larger weight among equals"


@pytest.mark.parametrize("dtype", DTYPES)
def test_coefficients_from_one_product_are_those_of_least_squares_or_none(rng, dtype):
    """None where columns, or the residual, are too small for normal equations."""
    A = draw(rng, (900, 60), dtype)
    near = A.copy()
    near[:, 1] = near[:, 0] + 1e-9 * near[:, 1]
    flat = draw(rng, (900, 5), dtype) @ draw(rng, (5, 60), dtype)
    J = np.array([3, 1, 7, 0, 30])
    for name, B, given in (("well", A, True), ("near", near, False), ("no residual", flat, False)):
        operand = as_operand(B)
        start = first_pass(operand, 20, np.random.default_rng(7), probes=0, workers=1)
        before = operand.entries_read
        Z = coef.direct(B[:, J], J, start.sketch, operand, np.random.default_rng(8), workers=2)
        if not given:
            assert Z is None, name
            assert operand.entries_read == before, name
        else:
            expected = np.linalg.lstsq(B[:, J], B, rcond=None)[0]
            assert Z.dtype == dtype
            np.testing.assert_allclose(Z, expected, atol=300 * np.finfo(dtype).eps)


def test_osinsky_from_eigenvectors_is_as_good_as_from_the_svd_of_all_of_A(rng):
    n, k = 700, 30
    s = lr.gallery.SPECTRA["exponential"](n)
    A = lr.gallery.with_spectrum(900, n, s, basis="haar", rng=rng)
    Y = first_pass(as_operand(A), 50, np.random.default_rng(7), probes=0, workers=1).sketch.Y
    V, E, largest = osinsky.precisely(Y, k, np.random.default_rng(8))
    assert largest == pytest.approx(np.linalg.norm(Y, 2))
    np.testing.assert_allclose(V.T @ V, np.eye(k), atol=1e-9)
    exact = np.linalg.svd(A)[2][:k].T
    best = osinsky.greedy(exact, A - (A @ exact) @ exact.T)

    def error(J):
        Q = np.linalg.qr(A[:, J])[0]
        return np.linalg.norm(A - Q @ (Q.T @ A))

    assert error(osinsky.greedy(V, E)) <= 1.15 * error(best)
    assert osinsky.precisely(Y[:, :200], k, rng) is None, "the SVD is cheaper there"


def test_single_precision_keeps_columns_that_it_resolves(rng):
    """Singular values down to 2.5e-5: n eps = 2.4e-4 of single precision would end the rank at 177 or so."""
    n, k = 2000, 200
    s = lr.gallery.polynomial_spectrum(n)
    A = lr.gallery.with_spectrum(n, n, s, basis="cheap", rng=rng)
    f, g = (lr.column_id(B, rank=k, selection="lu", rng=7) for B in (A.astype(np.float32), A))
    assert f.rank == k
    assert np.linalg.norm(A - f.to_dense()) <= 1.08 * np.linalg.norm(A - g.to_dense())


def test_what_rounding_leaves():
    assert coef.rounding(100, np.float64) == coef.rounding(100, np.complex128) == 100 * np.finfo(np.float64).eps
    assert coef.rounding(100, np.float32) == coef.rounding(100, np.complex64) == 40 * np.finfo(np.float32).eps


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("wide", [False, True])
def test_independent_columns_are_told_by_the_longest_one(rng, dtype, wide):
    """A further column counts from `cut` of the longest one on, wherever that stands; its own length says nothing."""
    m = 6 if wide else 100
    eps, k = float(np.finfo(dtype).eps), 8 if wide else 4
    cut = {"d": 4 * max(m, k) * eps, "D": 4 * max(m, k) * eps}.get(np.dtype(dtype).char, 4 * max(m, k) ** 0.5 * eps)
    Q = np.linalg.qr(draw(rng, (m, 6), dtype))[0]
    for longest in (1.0, 1e8, 1e-8):
        for slip, count in ((1.4 * cut, 4), (cut / 1.4, 3)):
            C = np.stack([Q[:, 0], Q[:, 1], Q[:, 2], Q[:, 1] + dtype(slip) * Q[:, 3]], axis=1) * dtype(longest)
            if wide:
                C = np.hstack([C, C])
            kept, P, R = coef.independent(C.astype(dtype))
            assert len(kept) == count
            assert {0, 2} <= set(kept % 4)
            assert np.all(np.diff(kept) > 0)
            np.testing.assert_allclose(P @ R, C[:, kept], atol=30 * eps * longest)
            np.testing.assert_allclose(P.conj().T @ P, np.eye(count), atol=30 * eps)
            assert not np.tril(R, -1).any()
    short = np.stack([Q[:, 0], dtype(1e-30) * Q[:, 1]], axis=1)  # resolved beside itself, nothing beside the other
    assert coef.independent(short)[0].tolist() == [0]
    assert coef.independent(short[:, ::-1])[0].tolist() == [1]


@pytest.mark.parametrize("dtype", [np.float64, np.complex64])
def test_no_column_and_nothing_but_zeros(dtype):
    for C in (np.zeros((9, 0), dtype), np.zeros((9, 3), dtype), np.zeros((3, 9), dtype)):
        kept, Q, R = coef.independent(C)
        assert (kept.shape, Q.shape, R.shape) == ((0,), (len(C), 0), (0, 0))
        assert coef.solve(Q, R, np.ones((len(C), 5), dtype), workers=1).shape == (0, 5)
    Q, R = coef.orthogonal(np.eye(4, 2, dtype=dtype))
    assert coef.solve(Q, R, np.ones((4, 0), dtype), workers=1).shape == (2, 0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_coefficients_in_strips_are_those_of_least_squares(rng, dtype):
    C, B = draw(rng, (40, 6), dtype), draw(rng, (40, 1100), dtype)
    before = C.copy()
    Q, R = coef.orthogonal(C)
    Z = coef.solve(Q, R, B, workers=1)
    np.testing.assert_array_equal(C, before)
    np.testing.assert_allclose(Z, np.linalg.lstsq(C, B, rcond=None)[0], atol=100 * np.finfo(dtype).eps)
    np.testing.assert_array_equal(Z, coef.solve(Q, R, B, workers=3))
    assert Z.dtype == dtype


@pytest.mark.parametrize("gap, dense", [(1e-2, False), (1e-6, True)])
def test_which_columns_the_gram_matrix_is_trusted_with(rng, monkeypatch, gap, dense):
    """Condition 1e4 of unit columns is its square root of 1e-8; scaling the columns changes nothing."""
    A = draw(rng, (900, 30), np.float64) * (rng.random((900, 30)) < 0.05)
    A[:, 1] = A[:, 0] + gap * A[:, 1]
    A[:, :5] *= [1e-9, 1, 1e9, 1, 1]
    calls, exact = [], coef.exact
    monkeypatch.setattr(coef, "exact", lambda *a, **o: calls.append(1) or exact(*a, **o))
    C, S = sp.csc_array(A[:, :5]), draw(rng, (60, 900), np.float64)
    Z = coef.normal(C, S @ A[:, :5], as_operand(sp.csr_array(A)))
    assert bool(calls) == dense
    scale = np.linalg.norm(A[:, :5], axis=0)
    best = np.linalg.norm(A - A[:, :5] / scale @ np.linalg.lstsq(A[:, :5] / scale, A, rcond=None)[0])
    assert np.linalg.norm(A - A[:, :5] @ Z) <= best * (1 + 1e-6) + 1e-6 * np.linalg.norm(A[:, 5:])
