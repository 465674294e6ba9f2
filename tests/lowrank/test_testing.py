"""Every kind of matrix under the public conformance class; and a kind that breaks a law is noticed."""

import numpy as np
import pytest
import scipy.sparse
from scipy.sparse.linalg import LinearOperator, aslinearoperator

import lowrank as lr
from lowrank import gallery
from lowrank.operands import Dense
from lowrank.testing import OperandConformance

assert lr.testing.OperandConformance is OperandConformance


def decaying(rng, dtype=np.float64):
    return gallery.exponential_decay(170, 40, scale=3.0, rng=rng, dtype=dtype)


def thinned(rng, dtype=np.float64):
    """A decaying matrix of which two thirds of the entries are zero."""
    A = decaying(rng, dtype)
    return np.where(rng.random(A.shape) < 1 / 3, A, 0)


class TestDense(OperandConformance):
    def make(self, rng):
        A = decaying(rng)
        return A, A


class TestDenseSingleComplex(OperandConformance):
    tolerance = 3e-6

    def make(self, rng):
        A = decaying(rng, np.complex64)
        return np.asfortranarray(A), A


class TestSquare(OperandConformance):
    def make(self, rng):
        A = decaying(rng)[:40]
        return A[::-1][::-1], A


class TestCSR(OperandConformance):
    def make(self, rng):
        A = thinned(rng)
        return scipy.sparse.csr_array(A), A


class TestCSRMatrixComplex(OperandConformance):
    def make(self, rng):
        A = thinned(rng, np.complex128)
        return scipy.sparse.csr_matrix(A), A


class TestCSC(OperandConformance):
    def make(self, rng):
        A = thinned(rng)[:40]
        return scipy.sparse.csc_array(A), A


class TestCSCSingle(OperandConformance):
    tolerance = 3e-6

    def make(self, rng):
        A = thinned(rng, np.float32)
        return scipy.sparse.csc_matrix(A), A


class TestCOO(OperandConformance):
    note = "int32 entries were converted to float64."
    form = "coo_array"

    def make(self, rng):
        A = np.rint(1e4 * thinned(rng)[:60]).astype(np.int32)
        return getattr(scipy.sparse, self.form)(A), A


class TestDIA(TestCOO):
    note, form = "The DIA matrix was converted to CSR.", "dia_array"


class TestLIL(TestCOO):
    note, form = "The LIL matrix was converted to CSR.", "lil_matrix"


class TestDOK(TestCOO):
    note, form = "The DOK matrix was converted to CSR.", "dok_array"


class TestBSR(TestCOO):
    note, form = "The BSR matrix was converted to CSR.", "bsr_matrix"


class TestGaussianKernel(OperandConformance):
    def make(self, rng):
        X, Y = rng.random((170, 2)), rng.random((40, 2))
        return lr.KernelMatrix(lr.GaussianKernel(0.5), X, Y), lr.GaussianKernel(0.5)(X, Y)


class TestCallableKernel(OperandConformance):
    def make(self, rng):
        def cauchy(P, Q):
            return 1.0 / (1.0 + np.abs(P[:, None, 0] - Q[None, :, 0]))

        X = rng.random((60, 1))
        return (cauchy, X), cauchy(X, X)


class TestPositiveSemidefinite(OperandConformance):
    def make(self, rng):
        B = decaying(rng)[:60]
        return B @ B.T, B @ B.T


class TestPositiveSemidefiniteSparse(OperandConformance):
    def make(self, rng):
        B = thinned(rng)[:60]
        return scipy.sparse.csc_array(B @ B.T), B @ B.T


class TestPositiveSemidefiniteOperator(OperandConformance):
    exact_norms = False

    def make(self, rng):
        B = decaying(rng, np.complex128)[:60]
        return aslinearoperator(B @ B.conj().T), B @ B.conj().T


class TestSquareGaussianKernel(OperandConformance):
    def make(self, rng):
        X = rng.random((60, 2))
        return lr.KernelMatrix(lr.GaussianKernel(0.5), X), lr.GaussianKernel(0.5)(X, X)


class TestLinearOperator(OperandConformance):
    exact_norms = False

    def make(self, rng):
        A = decaying(rng)
        return aslinearoperator(A), A


class TestComplexOperator(OperandConformance):
    exact_norms = False

    def make(self, rng):
        A = decaying(rng, np.complex128)[:40]
        return LinearOperator(
            A.shape, matvec=lambda x: A @ x, rmatvec=lambda x: A.conj().T @ x, dtype=A.dtype
        ), A  # fmt: skip


class Wrong(Dense):
    """Rows come back negated."""

    kind = "wrong kind"

    def rows(self, J, *, workers=1):
        return -super().rows(J, workers=workers)


class Silent(Dense):
    """Counts nothing."""

    kind = "silent kind"

    def _served(self, count):
        pass


def test_a_kind_that_breaks_a_law_is_noticed():
    class Broken(OperandConformance):
        def make(self, rng):
            A = decaying(rng)
            return Wrong(A), A

    Broken().test_products()
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        Broken().test_columns_rows_and_entries()

    class Uncounted(OperandConformance):
        def make(self, rng):
            A = decaying(rng)
            return Silent(A), A

    with pytest.raises(AssertionError, match="columns reads entries and does not count them"):
        Uncounted().test_every_verb_is_counted()


def test_make_has_to_be_defined():
    with pytest.raises(NotImplementedError, match="define make"):
        OperandConformance().pair()
