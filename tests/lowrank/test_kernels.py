"""Kernels of points beside their formulas in extended precision: near pairs, far origins, every scale, symmetry."""

import numba
import numpy as np
import pytest

import lowrank as lr
from lowrank.operands.point_kernel import DIRECT
from lowrank.testing import OperandConformance
from tests.reference_kernels import kernel_matrix

RADIAL = {
    "gaussian": lr.GaussianKernel(1.5),
    "laplace": lr.LaplaceKernel(1.5),
    "matern 1/2": lr.MaternKernel(1.5, nu=0.5),
    "matern 3/2": lr.MaternKernel(1.5),
    "matern 5/2": lr.MaternKernel(1.5, nu=2.5),
}
KERNELS = RADIAL | {
    "polynomial": lr.PolynomialKernel(3, offset=0.5, factor=0.2),
    "cosine": lr.CosineKernel(),
}
DIMS = [1, 3, 10, DIRECT + 1, 50]


def expected(kernel, P, Q):
    return kernel_matrix(type(kernel).__name__, P, Q, **vars(kernel))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", KERNELS)
def test_entries_follow_the_formula(rng, name, dtype):
    kernel, eps = KERNELS[name], np.finfo(dtype).eps
    for dim in DIMS:
        P, Q = (rng.standard_normal((n, dim)).astype(dtype) for n in (23, 31))
        K = lr.KernelMatrix(kernel, P, Q)
        truth = expected(kernel, P, Q)
        found = K.entries(np.arange(23), np.arange(31))
        assert found.dtype == K.dtype == dtype
        scale = np.abs(truth).max()
        assert np.abs(found - truth).max() <= 40 * eps * scale, dim
        np.testing.assert_array_equal(kernel(P, Q), found)
        J, rows = rng.permutation(31)[:5], rng.permutation(23)[:4]
        for part, whole in ((K.columns(J), truth[:, J]), (K.rows(rows), truth[rows]), (K.T.rows(J), truth.T[J])):
            assert np.abs(part - whole).max() <= 40 * eps * scale, dim


@pytest.mark.parametrize("shift", [0.0, 1e6])
@pytest.mark.parametrize("dim", [2, DIRECT + 10])
@pytest.mark.parametrize("name", RADIAL)
def test_pairs_that_nearly_coincide_keep_their_digits(rng, name, dim, shift):
    """1 - K(p, q) at distances down to 1e-9 (1e-10 of the shift is lost by the points, not by the kernel)."""
    kernel = RADIAL[name]
    P = rng.standard_normal((12, dim)) + shift
    gap = 10.0 ** -rng.integers(2, 9, size=12)
    Q = P + gap[:, None] * rng.standard_normal((12, dim))
    truth = expected(kernel, P, Q)
    found = kernel(P, Q).astype(np.longdouble)
    # what an entry may lose: rounding of the result, and 32 eps of r (1 - K behaves like r or r^2)
    near = np.arange(12)
    missing = 1 - truth[near, near]
    assert (np.abs(found - truth)[near, near] <= 4e-16 + 1e-14 * missing).all()
    assert np.abs(found - truth).max() < 1e-14


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_diagonal_is_exact_and_blocks_are_symmetric(rng, name, dtype):
    kernel = KERNELS[name]
    for dim in DIMS:
        X = (5 * rng.standard_normal((150, dim)) + 3).astype(dtype)
        X[10] = X[90]
        K = lr.KernelMatrix(kernel, X)
        block = K.entries(np.arange(150), np.arange(150))
        if dim <= DIRECT:
            np.testing.assert_array_equal(block, block.T)
            np.testing.assert_array_equal(K.columns(np.arange(150)), block)
        else:
            np.testing.assert_allclose(block, block.T, rtol=0, atol=60 * np.finfo(dtype).eps * np.abs(block).max())
        if name == "polynomial":
            np.testing.assert_allclose(K.diagonal(), np.diagonal(block), rtol=50 * np.finfo(dtype).eps)
        else:
            np.testing.assert_array_equal(np.diagonal(block), np.ones(150))
            np.testing.assert_array_equal(K.diagonal(), np.ones(150))
            assert block[10, 90] == 1
            assert block.max() <= 1


@pytest.mark.parametrize("name", RADIAL)
@pytest.mark.parametrize("dim", [3, DIRECT + 5])
@pytest.mark.parametrize("size", [1e-300, 1e-150, 1e150, 1e299])
def test_a_common_scale_of_points_and_bandwidth_cancels(rng, name, dim, size):
    """K depends on the points over the bandwidth alone, out to the ends of the range, without a warning."""
    kernel = RADIAL[name]
    X = rng.standard_normal((20, dim))
    scaled = type(kernel)(**(vars(kernel) | {"bandwidth": 1.5 * size}))
    np.testing.assert_allclose(scaled(X * size, X * size), kernel(X, X), rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("name", RADIAL)
@pytest.mark.parametrize("dim", [3, DIRECT + 5])
def test_points_out_of_proportion_to_the_bandwidth(rng, name, dim):
    """Nearly equal or infinitely far, never NaN."""
    kernel, X = RADIAL[name], rng.standard_normal((20, dim))
    np.testing.assert_array_equal(kernel(1e-200 * X, 1e-200 * X), np.ones((20, 20)))
    for far in (1e10, 1e160, 1e307):
        np.testing.assert_array_equal(kernel(far * X, far * X), np.eye(20))
    single = (1e30 * X).astype(np.float32)
    np.testing.assert_array_equal(kernel(single, single), np.eye(20))


def test_directions_are_found_at_every_length(rng):
    X = rng.standard_normal((15, 3))
    K = lr.CosineKernel()(X, X)
    lengths = 10.0 ** rng.integers(-300, 300, size=15)
    np.testing.assert_allclose(lr.CosineKernel()(X * lengths[:, None], X), K, atol=1e-15)
    np.testing.assert_allclose(lr.CosineKernel()(X, -X), -K, atol=1e-15)
    with pytest.raises(ValueError, match=r"X\[4\] is the origin, which has no angle with other points"):
        lr.KernelMatrix(lr.CosineKernel(), X * (np.arange(15) != 4)[:, None])


@pytest.mark.parametrize("name", KERNELS)
def test_workers_and_memory_order_change_no_bit(rng, name):
    for dim in (4, DIRECT + 3):
        X = rng.standard_normal((3000, dim))
        J = np.arange(0, 3000, 700)
        first = lr.KernelMatrix(KERNELS[name], X).columns(J, workers=1)
        for other in (X, np.asfortranarray(X)):
            for workers in (1, 2, 3):
                found = lr.KernelMatrix(KERNELS[name], other).columns(J, workers=workers)
                np.testing.assert_array_equal(found, first)


@pytest.mark.parametrize("name", KERNELS)
def test_nystrom_takes_every_kernel(rng, name):
    X = rng.random((300, 3))
    K = KERNELS[name](X, X)
    found = lr.nystrom(KERNELS[name], X, rank=30, rng=7)
    assert found.trace_error == pytest.approx(np.trace(K - found.to_dense()) / np.trace(K), abs=1e-10)
    assert np.linalg.norm(K - found.to_dense()) < 0.2 * np.linalg.norm(K)


class _Kernel(OperandConformance):
    kernel = RADIAL["gaussian"]
    dim = 2
    dtype = np.float64

    def make(self, rng):
        X, Y = (rng.random((n, self.dim)).astype(self.dtype) for n in (170, 40))
        return lr.KernelMatrix(self.kernel, X, Y), expected(self.kernel, X, Y).astype(np.float64)


class TestLaplace(_Kernel):
    kernel = RADIAL["laplace"]


class TestMaternHigh(_Kernel):
    kernel = RADIAL["matern 3/2"]
    dim = DIRECT + 4


class TestMaternSingle(_Kernel):
    kernel = RADIAL["matern 5/2"]
    dtype = np.float32
    tolerance = 3e-6


class TestPolynomial(_Kernel):
    kernel = KERNELS["polynomial"]
    dim = 4


class TestCosine(_Kernel):
    kernel = KERNELS["cosine"]
    dim = 9


def tent(x, y):
    total = 0.0
    for t in range(x.size):
        total += abs(x[t] - y[t])
    return 1.0 / (1.0 + total)


def blocks(P, Q):
    return 1.0 / (1.0 + np.abs(P[:, None, :] - Q[None, :, :]).sum(axis=2))


class TestNumbaKernel(OperandConformance):
    def make(self, rng):
        X, Y = rng.random((60, 2)), rng.random((40, 2))
        return lr.KernelMatrix(lr.NumbaKernel(tent), X, Y), blocks(X, Y)


class TestFromEntries(OperandConformance):
    def make(self, rng):
        x, y = rng.random(70), rng.random(30)
        return lr.KernelMatrix.from_entries(lambda i, j: np.exp(-np.abs(x[i, None] - y[j])), (70, 30)), np.exp(
            -np.abs(x[:, None] - y)
        )


def test_a_function_compiled_by_numba_is_recognised(rng):
    X = rng.random((50, 2))
    compiled = numba.njit(tent)
    for kernel in (compiled, lr.NumbaKernel(compiled), lr.NumbaKernel(tent)):
        K = lr.KernelMatrix(kernel, X)
        assert isinstance(K.kernel, lr.NumbaKernel)
        np.testing.assert_allclose(K.rows(np.arange(50)), blocks(X, X), rtol=1e-14)
    assert lr.KernelMatrix(compiled, X.astype("f4")).dtype == np.float32
    assert lr.nystrom(compiled, X, rank=10, rng=7).rank == 10

    @numba.njit
    def on_blocks(P, Q):
        out = np.zeros((P.shape[0], Q.shape[0]))
        for i in range(P.shape[0]):
            for j in range(Q.shape[0]):
                out[i, j] = tent_(P[i], Q[j])
        return out

    tent_ = compiled
    assert lr.KernelMatrix(on_blocks, X).kernel is on_blocks
    np.testing.assert_allclose(lr.KernelMatrix(on_blocks, X).rows(np.arange(9)), blocks(X, X)[:9], rtol=1e-14)


def test_two_functions_of_one_name_are_two_kernels(rng):
    """Nothing of a user's function is kept on disk or mixed up with another's."""
    X = rng.random((4, 1))

    def made(c):
        def function(x, y):
            return c * x[0] * y[0]

        return function

    for c in (2.0, 3.0):
        np.testing.assert_allclose(lr.NumbaKernel(made(c))(X, X), c * X @ X.T, rtol=1e-15)


def test_numba_functions_that_do_not_fit(rng):
    X = rng.random((4, 1))
    with pytest.raises(TypeError, match="function=3 is not callable"):
        lr.NumbaKernel(3)

    def pairs(x, y):
        return x  # an array and no number

    sentence = r"numba cannot compile pairs\(x, y\) for points of dtype float64: .*it must take two"
    with pytest.raises(TypeError, match=sentence):
        lr.NumbaKernel(pairs)(X, X)
    with pytest.raises(ValueError, match="the kernel returned NaN or inf"):
        lr.KernelMatrix(lr.NumbaKernel(lambda x, y: np.nan), X).rows(np.arange(2))


def test_entries_by_row_and_column_numbers(rng):
    A = rng.standard_normal((30, 20))
    seen = []

    def entries(i, j):
        seen.append((i.dtype.kind, j.dtype.kind))
        return A[np.ix_(i, j)]

    K = lr.KernelMatrix.from_entries(entries, (30, 20))
    np.testing.assert_array_equal(K.columns(np.array([3, 1])), A[:, [3, 1]])
    np.testing.assert_array_equal(K.T.rows(np.array([3, 1])), A[:, [3, 1]].T)
    np.testing.assert_array_equal(lr.cur(K, rank=4, rng=7).C, lr.cur(A, rank=4, rng=7).C)
    assert set(seen) == {("i", "i")}
    square = lr.KernelMatrix.from_entries(lambda i, j: np.minimum.outer(i, j) + 1, (40, 40))
    assert square.dtype == np.float64
    assert lr.nystrom(square, rank=12, rng=7).rank == 12


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: lr.KernelMatrix.from_entries(3, (2, 2)), TypeError, "function=3 is not callable"),
        (lambda: lr.KernelMatrix.from_entries(np.add.outer, 5), TypeError, "shape=5; expected two numbers"),
        (lambda: lr.KernelMatrix.from_entries(np.add.outer, (-1, 5)), ValueError, r"shape=\(-1, 5\) is negative"),
        (lambda: lr.KernelMatrix.from_entries(np.add.outer, (2, 2), dtype="i4"), TypeError, "dtype=int32; expected"),
        (
            lambda: lr.KernelMatrix.from_entries(lambda i, j: np.ones(3), (5, 5)),
            ValueError,
            r"function\(I, J\) returned shape \(3,\) for 1 rows and 1 columns; expected \(1, 1\)",
        ),
        (
            lambda: lr.column_id(
                lr.KernelMatrix.from_entries(lambda i, j: np.where(i[:, None] == 2, np.nan, 1.0 + 0 * j), (5, 5)),
                rank=1,
            ),
            ValueError,
            r"the entry at \(2, 0\) is nan; lowrank needs finite entries",
        ),
        (lambda: lr.LaplaceKernel(0.0), ValueError, "bandwidth=0.0 is not a positive finite number"),
        (lambda: lr.MaternKernel(np.nan), ValueError, "bandwidth=nan is not a positive finite number"),
        (lambda: lr.MaternKernel(5e-324), ValueError, "bandwidth=5e-324 is not a positive finite number"),
        (lambda: lr.MaternKernel(1.0, nu=2.0), ValueError, "nu=2.0 is not available; pass 0.5, 1.5 or 2.5"),
        (lambda: lr.PolynomialKernel(0), ValueError, "degree=0 is not a positive integer"),
        (lambda: lr.PolynomialKernel(2.5), TypeError, "degree=2.5 is not a positive integer"),
        (lambda: lr.PolynomialKernel(2, offset=-1), ValueError, "offset=-1 is not a finite number >= 0"),
        (lambda: lr.PolynomialKernel(2, factor=np.inf), ValueError, "factor=inf is not a positive finite number"),
        (
            lambda: lr.PolynomialKernel(9)(np.full((1, 2), 1e40), np.full((1, 2), 1e40)),
            ValueError,
            "the kernel returned NaN or inf",
        ),
    ],
)
def test_what_is_no_kernel(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_rectangular_kernel_has_the_diagonal_of_its_pairs(rng):
    """K(X, Y) with as many points in each is not symmetric, and nobody takes its diagonal for ones."""
    X, Y = rng.random((20, 2)), rng.random((20, 2))
    for kernel in (*KERNELS.values(), blocks):
        K = lr.KernelMatrix(kernel, X, Y)
        np.testing.assert_allclose(K.diagonal(), np.diagonal(kernel(X, Y)), rtol=1e-12)
    with pytest.raises(ValueError, match=r"not (Hermitian|positive semidefinite)"):
        lr.nystrom(lr.KernelMatrix(lr.LaplaceKernel(0.1), X, Y), rank=10, rng=7)


@pytest.mark.parametrize("name", KERNELS)
def test_points_that_are_read_only_strided_or_none(rng, name):
    big = rng.random((40, 6))
    big.setflags(write=False)
    view = big[::2, ::-2]
    np.testing.assert_array_equal(KERNELS[name](view, view), KERNELS[name](view.copy(), view.copy()))
    assert KERNELS[name](big[:0], big).shape == (0, 40)
    assert lr.column_id(lr.KernelMatrix(KERNELS[name], big, big[:0]), rank=0).shape == (40, 0)
