"""K + shift I: as a matrix of its own, in the factorisation, and in solves with F F* beside dense references."""

import numpy as np
import pytest
import scipy.sparse
from scipy.sparse.linalg import LinearOperator, aslinearoperator, cg

import lowrank as lr
from lowrank import gallery
from lowrank.operands import as_operand
from lowrank.operands.shifted import Shifted


def hadamard(n):
    """Orthonormal and exact in floating point for n a power of 4."""
    from scipy.linalg import hadamard as signs

    return signs(n) / np.sqrt(n)


def with_eigenvalues(values, dtype=np.float64):
    """A Hermitian matrix with the eigenvalues given and, for powers of two, entries without rounding."""
    n = len(values)
    H = hadamard(n).astype(dtype)
    if np.dtype(dtype).kind == "c":
        H = H * np.array([1, 1j, -1, -1j], dtype)[np.arange(n) % 4][:, None]
    return (H * values) @ H.conj().T, H


@pytest.mark.parametrize("form", [np.asarray, scipy.sparse.csr_array, scipy.sparse.csc_array, aslinearoperator])
def test_every_verb_serves_the_shifted_matrix(rng, form):
    A = rng.standard_normal((20, 20))
    operand, M = Shifted(as_operand(form(A)), 0.5), A + 0.5 * np.eye(20)
    J, rows = np.array([3, 19, 0]), np.array([19, 4, 3, 7])
    np.testing.assert_allclose(operand.columns(J), M[:, J], atol=1e-14)
    np.testing.assert_allclose(operand.rows(rows), M[rows], atol=1e-14)
    np.testing.assert_allclose(operand.entries(rows, J), M[np.ix_(rows, J)], atol=1e-14)
    np.testing.assert_allclose(operand.diagonal(), M.diagonal(), atol=1e-14)
    out = np.empty((5, 3))
    operand._fill(slice(2, 7), J, out)
    np.testing.assert_allclose(out, M[2:7, J], atol=1e-14)
    assert operand.entries_read == operand.base.entries_read > 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
def test_a_shift_is_part_of_the_matrix(rng, dtype):
    B = rng.standard_normal((40, 5)) + (1j * rng.standard_normal((40, 5)) if np.dtype(dtype).kind == "c" else 0)
    K = (B @ B.conj().T).astype(dtype)
    f = lr.nystrom(K, rank=12, shift=0.25, rng=7)
    g = lr.nystrom(K + dtype(0.25) * np.eye(40, dtype=dtype), rank=12, rng=7)
    assert np.array_equal(f.landmarks, g.landmarks)
    np.testing.assert_allclose(f.factor, g.factor, atol=1e3 * np.finfo(dtype).eps)
    assert (f.shift, g.shift) == (0.25, 0.0)
    assert "F F* approximates K + 0.25 I" in f.explain()
    assert f.dtype == dtype


@pytest.mark.parametrize("selection", ["rpcholesky", "greedy", "kmeans", "leverage", "uniform"])
def test_an_indefinite_matrix_is_an_error_or_is_shifted_on_request(rng, selection):
    values = np.concatenate([[4.0], np.linspace(1, 0.01, 62), [-0.5]])
    K = with_eigenvalues(values)[0]
    with pytest.raises(ValueError, match=r"K is not positive semidefinite: .* fell to -.*; pass shift=\"auto\" or"):
        lr.nystrom(K, rank=64, selection=selection, rng=7)
    f = lr.nystrom(K, rank=64, selection=selection, shift="auto", rng=7)
    assert 0.5 <= f.shift < 8
    np.testing.assert_allclose(f.to_dense(), K + f.shift * np.eye(64), atol=1e-12)
    assert lr.nystrom(K + 0.5 * np.eye(64), rank=20, selection=selection, shift="auto", rng=7).shift == 0
    below = lr.nystrom(K - 5 * np.eye(64), rank=64, selection=selection, shift="auto", rng=7)
    np.testing.assert_allclose(below.to_dense(), K + (below.shift - 5) * np.eye(64), atol=1e-11)


@pytest.mark.parametrize("shift, error, message", [
    (-1.0, ValueError, r"shift=-1.0 is not a finite number >= 0; pass such a number, None, or \"auto\""),
    (np.inf, ValueError, "shift=inf is not a finite number"),
    ("tiny", TypeError, "shift='tiny'; pass None, a number to add to the diagonal"),
    (True, TypeError, "shift=True; pass None"),
])  # fmt: skip
def test_shifts_that_are_none(shift, error, message):
    with pytest.raises(error, match=message):
        lr.nystrom(np.eye(3), rank=1, shift=shift)


@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
@pytest.mark.parametrize("shift", [1e-12, 1e-6, 1.0, 1e6])
def test_solve_is_backward_stable_and_right_where_it_can_be(rng, dtype, shift):
    """Eigenvalues from 1 to 2^-36 known without rounding, on columns of a Hadamard matrix H.

    The residual is judged in extended precision against ``eps (|M| |x| + |b|)``, the error against the solution by H
    and the condition number; along the range alone it is ``eps / shift`` of the right-hand side at most.
    """
    w = 4.0 ** -np.arange(0, 18, 2.25).round()
    K, H = with_eigenvalues(np.concatenate([w, np.zeros(56)]), dtype)
    f = lr.nystrom(K, rank=8, selection="greedy")
    w, V = w[: f.rank], H[:, : f.rank]
    M = f.to_dense().astype(np.clongdouble) + np.longdouble(shift) * np.eye(64)
    eps = np.finfo(float).eps
    b = rng.standard_normal(64).astype(dtype)
    x = f.solve(b, shift)
    size = np.linalg.norm(M.astype(complex), 2) * np.linalg.norm(x) + np.linalg.norm(b)
    assert np.linalg.norm((M @ x - b).astype(complex)) <= 30 * eps * size
    exact = V @ (V.conj().T @ b / (w + shift)) + (b - V @ (V.conj().T @ b)) / shift
    assert np.linalg.norm(x - exact) <= 100 * eps * (1 + shift) / shift * np.linalg.norm(exact)
    c = V[:, 0]
    assert np.linalg.norm(f.solve(c, shift) - c / (1 + shift)) <= 100 * eps * (1 + 1 / shift)


@pytest.mark.parametrize("shift", [1e-12, 1e-3, 1e3])
def test_logdet_and_eigh_on_a_graded_spectrum(shift):
    w = 4.0 ** -np.arange(9.0)
    K, _ = with_eigenvalues(np.concatenate([w, np.zeros(55)]))
    f = lr.nystrom(K, rank=9, selection="greedy")
    values, V = f.eigh()
    assert f.rank == 9
    np.testing.assert_allclose(values, w, rtol=0, atol=1e-14)
    assert (np.abs(values - w) <= 100 * np.finfo(float).eps * 9 * np.sqrt(w)).all()
    np.testing.assert_allclose(V.T @ V, np.eye(9), atol=1e-14)
    exact = np.log(w + shift).sum() + 55 * np.log(shift)
    assert abs(f.logdet(shift) - exact) <= 1e-13 * abs(exact) + (1e-15 / (w + shift)).sum()


def test_a_shift_of_zero_cannot_be_solved_with():
    f = lr.nystrom(np.eye(5), rank=2, rng=7)
    for call in (lambda: f.solve(np.ones(5), 0.0), lambda: f.logdet(0), lambda: f.preconditioner(-1.0),
                 lambda: f.solve(np.ones(5), None)):  # fmt: skip
        with pytest.raises(ValueError, match="F F\\* is singular, so pass a positive finite shift"):
            call()
    with pytest.raises(ValueError, match=r"shapes do not fit: Nystrom approximation \(5, 5\) with an operand of shape"):
        f.solve(np.ones(4), 1.0)


def test_an_empty_factor_solves_too():
    f = lr.nystrom(np.zeros((4, 4)), rank=2, rng=7)
    np.testing.assert_array_equal(f.solve(np.ones(4), 0.5), 2 * np.ones(4))
    assert f.logdet(0.5) == pytest.approx(4 * np.log(0.5))


def test_preconditioned_conjugate_gradients_need_few_iterations(rng):
    """Kernel ridge regression on clusters: the better the factor, the fewer the iterations, down to a handful."""
    X = gallery.clusters(600, 3, rng=rng)
    K = lr.GaussianKernel(0.5)(X, X)
    shift, y = 1e-4, rng.standard_normal(600)
    A = LinearOperator((600, 600), matvec=lambda v: K @ v + shift * v, dtype=float)  # pyright: ignore
    count = []
    for k in (0, 40, 120, 240):
        f = lr.nystrom(lr.GaussianKernel(0.5), X, rank=k, rng=7)
        steps = []
        x, info = cg(A, y, rtol=1e-8, maxiter=2000, M=f.preconditioner(shift), callback=steps.append)
        assert info == 0
        np.testing.assert_allclose(K @ x + shift * x, y, atol=1e-6 * np.linalg.norm(y))
        count.append(len(steps))
    assert count == sorted(count, reverse=True)
    assert count[-1] <= 12
    assert count[0] > 20 * count[-1]
    P = f.preconditioner(shift)
    B = rng.standard_normal((600, 3))
    np.testing.assert_allclose(P @ B, f.solve(B, shift))
    np.testing.assert_allclose(P.H @ B, f.solve(B, shift))
