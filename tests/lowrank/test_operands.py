"""The verbs of every operand beside the dense matrix, the entries counted, and the sentences for what is not read."""

import numpy as np
import pytest

import lowrank as lr
from lowrank.operands import as_operand
from lowrank.sketching import SparseStack


def gaussian(P, Q, h):
    return np.exp(-((P[:, None, :] - Q[None, :, :]) ** 2).sum(axis=2) / (2 * h * h))


def cauchy(P, Q):
    return 1.0 / (1.0 + np.abs(P[:, None, 0] - Q[None, :, 0]))


KINDS = ["dense", "dense complex", "fortran", "fused", "fused f32", "far apart", "callable", "transposed"]


@pytest.fixture(params=KINDS)
def pair(request, rng):
    """(operand, the dense matrix it stands for, tolerance)."""
    X, Y = rng.standard_normal((60, 3)), rng.standard_normal((25, 3))
    A = rng.standard_normal((60, 25))
    made = {
        "dense": lambda: (A, A, 1e-13),
        "dense complex": lambda: (A + 1j * A**2, A + 1j * A**2, 1e-13),
        "fortran": lambda: (np.asfortranarray(A), A, 1e-13),
        "fused": lambda: (lr.KernelMatrix(lr.GaussianKernel(1.5), X, Y), gaussian(X, Y, 1.5), 1e-12),
        "fused f32": lambda: (
            lr.KernelMatrix(lr.GaussianKernel(1.5), X.astype("f4"), Y.astype("f4")),
            gaussian(X, Y, 1.5),
            1e-5,
        ),
        "far apart": lambda: (
            lr.KernelMatrix(lr.GaussianKernel(1e-3), X + 1e3, Y + 1e3),
            gaussian(X + 1e3, Y + 1e3, 1e-3),
            1e-12,
        ),
        "callable": lambda: (lr.KernelMatrix(cauchy, X, Y), cauchy(X, Y), 1e-13),
        "transposed": lambda: (lr.KernelMatrix(cauchy, Y, X).T, cauchy(Y, X).T, 1e-13),
    }[request.param]()
    return as_operand(made[0]), made[1], made[2]


def test_every_verb_equals_the_dense_one_and_is_counted(pair, rng):
    operand, A, tol = pair
    m, n = A.shape
    assert operand.shape == A.shape
    close = {"rtol": 0, "atol": tol * 30}
    J, rows = rng.permutation(n)[:6], rng.permutation(m)[:9]
    for workers in (1, 2):
        np.testing.assert_allclose(operand.columns(J, workers=workers), A[:, J], **close)
    np.testing.assert_allclose(operand.rows(rows), A[rows], **close)
    np.testing.assert_allclose(operand.entries(rows, J), A[np.ix_(rows, J)], **close)
    np.testing.assert_allclose(operand.diagonal() if m == n else operand.entries(rows, rows[:0]), np.empty((9, 0)))
    assert operand.entries_read == 2 * 6 * m + 9 * n + 54
    S = SparseStack.draw(20, m, rng)
    sketch = operand.sketch(S, rng.standard_normal((2, m)), workers=2)
    np.testing.assert_allclose(sketch.Y, S.to_dense() @ A, **close)
    np.testing.assert_allclose(sketch.squared_norms, np.linalg.norm(A, axis=0) ** 2, rtol=30 * tol, atol=30 * tol)
    V, U = rng.standard_normal((n, 3)), rng.standard_normal((m, 2))
    np.testing.assert_allclose(operand.matmat(V), A @ V, **close)
    np.testing.assert_allclose(operand.rmatmat(U), A.conj().T @ U, **close)
    assert operand.entries_read == 2 * 6 * m + 9 * n + 54 + 3 * m * n
    np.testing.assert_allclose(operand.T.columns(rows), A[rows].T, **close)
    assert operand.entries_read == 2 * 6 * m + 9 * n + 54 + 3 * m * n + 9 * n, "a transpose shares the counter"
    np.testing.assert_allclose(operand.scaled(0.25).rows(rows), 0.25 * A[rows], **close)
    assert operand.largest() == pytest.approx(max(np.abs(A.real).max(), np.abs(A.imag).max()), rel=1e-5)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "int64"])
def test_integers_and_booleans_are_converted_and_said_so(dtype):
    operand = as_operand(np.ones((3, 2), dtype=dtype))
    assert operand.dtype == np.float64
    assert operand.notes == (f"{dtype} entries were converted to float64.",)
    assert f"note: {dtype} entries were converted" in lr.column_id(np.eye(3, dtype=dtype), rank=1, rng=7).explain()


def test_other_byte_order_is_read():
    A = np.arange(6.0).reshape(3, 2).astype(">f8")
    assert as_operand(A).dtype == np.float64
    np.testing.assert_array_equal(as_operand(A).rows(np.array([2])), [[4.0, 5.0]])


@pytest.mark.parametrize(
    "A, error, message",
    [
        (np.ones((2, 2), np.float16), TypeError, "A has dtype float16; expected float32, float64, complex64"),
        (np.array([["a"]]), TypeError, "A has dtype <U1; expected float32"),
        (np.array([[None]]), TypeError, "A has dtype object"),
        (np.ones((2, 2), np.longdouble), TypeError, "A has dtype "),
        (np.ones(3), ValueError, r"A has shape \(3,\); expected two dimensions"),
        (np.float64(3.0), TypeError, "A is a numpy.float64, which lowrank does not read yet; it reads numpy arrays"),
        (np.array(3.0), ValueError, r"A has shape \(\); expected two dimensions"),
        (np.ones((2, 2, 2)), ValueError, r"A has shape \(2, 2, 2\)"),
        (np.ma.masked_invalid(np.eye(2)), TypeError, "A is a masked array"),
        ("text", TypeError, "A is a builtins.str, which lowrank does not read yet"),
        (None, TypeError, "A is a builtins.NoneType"),
    ],
)
def test_what_is_not_read(A, error, message):
    with pytest.raises(error, match=message):
        as_operand(A)


def test_lists_and_kernel_tuples_are_read(rng):
    assert as_operand([[1, 2], [3, 4]]).shape == (2, 2)
    X = rng.standard_normal((5, 2))
    assert as_operand((cauchy, X)).shape == (5, 5)


@pytest.mark.parametrize("bandwidth", [0, -1.0, np.inf, np.nan, "wide", None])
def test_a_bandwidth_is_positive_and_finite(bandwidth):
    with pytest.raises(ValueError, match="is not a positive finite number"):
        lr.GaussianKernel(bandwidth)


def test_kernels_and_points_that_do_not_fit(rng):
    X = rng.standard_normal((6, 2))
    with pytest.raises(TypeError, match="kernel=3 is not callable; pass GaussianKernel"):
        lr.KernelMatrix(3, X)
    with pytest.raises(ValueError, match="X has points of dimension 2, but Y of dimension 1"):
        lr.KernelMatrix(cauchy, X, X[:, :1])
    with pytest.raises(ValueError, match=r"kernel\(P, Q\) returned shape \(1,\) for 1 and 2 points; expected \(1, 2\)"):
        lr.KernelMatrix(lambda P, Q: np.ones(len(P)), X)
    with pytest.raises(ValueError, match=r"X has shape \(6,\); expected \(points, dimension\)"):
        lr.KernelMatrix(cauchy, X[:, 0])
    with pytest.raises(TypeError, match="X has dtype complex128; expected float32 or float64 points"):
        lr.KernelMatrix(cauchy, X + 0j)
    X[4, 1] = np.nan
    with pytest.raises(ValueError, match=r"X\[4, 1\] is nan; points must be finite"):
        lr.KernelMatrix(cauchy, X)
    with pytest.raises(ValueError, match="the kernel returned NaN or inf"):
        lr.column_id(lr.KernelMatrix(lambda P, Q: np.full((len(P), len(Q)), np.inf), X[:3]), rank=1, rng=7)


def test_gaussian_kernel_is_one_on_the_diagonal_and_symmetric(rng):
    X = 50 * rng.standard_normal((40, 4))
    K = lr.GaussianKernel(2.0)(X, X)
    assert (K <= 1).all()
    np.testing.assert_allclose(np.diagonal(K), 1.0, atol=1e-11)
    np.testing.assert_allclose(K, K.T, atol=1e-11)


def test_diagonal_of_a_callable_costs_eight_entries_a_point(rng):
    operand = lr.KernelMatrix(cauchy, rng.standard_normal((20, 1)))
    np.testing.assert_array_equal(operand.diagonal(), np.ones(20))
    assert operand.entries_read == 64 + 64 + 16
