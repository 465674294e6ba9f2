"""LinearOperators: blocks of products, what they cost, norms without entries, and operators that misbehave."""

import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator, aslinearoperator

import lowrank as lr
from lowrank import gallery
from lowrank.operands import as_operand
from lowrank.operands.operator import BLOCK


class Spy(LinearOperator):
    """Notes how many vectors each product had."""

    def __init__(self, A):
        self.A, self.widths = A, []
        super().__init__(A.dtype, A.shape)

    def _matvec(self, x):
        raise AssertionError("one by one")

    _rmatvec = _matvec

    def _matmat(self, X):
        self.widths.append(X.shape[1])
        return self.A @ X

    def _rmatmat(self, X):
        self.widths.append(X.shape[1])
        return self.A.conj().T @ X

    def _adjoint(self):
        raise AssertionError("not needed")


@pytest.mark.parametrize("make", [lr.column_id, lr.row_id, lr.cur])
def test_blocks_and_never_one_by_one(rng, make):
    A = gallery.polynomial_decay(400, 150, rng=rng)
    spy = Spy(A)
    f, g = make(spy, rank=30, rng=7), make(A, rank=30, rng=7)
    assert max(spy.widths) <= BLOCK
    assert len(spy.widths) <= 8
    np.testing.assert_allclose(f.to_dense(), g.to_dense(), atol=1e-10)
    assert f.certificate.estimate == pytest.approx(g.certificate.estimate, rel=0.05)
    assert "The norm of A is estimated" in f.explain()


def test_work_is_vectors_times_rows(rng):
    m, n = 400, 150
    operand = as_operand(aslinearoperator(rng.standard_normal((m, n))))
    operand.matmat(np.ones((n, 3)))
    assert operand.entries_read == 3 * m
    operand.rmatmat(np.ones((m, 100)))
    assert operand.entries_read == 3 * m + 100 * n
    operand.columns(np.array([1, 2]))
    assert operand.entries_read == 5 * m + 100 * n


@pytest.mark.parametrize("scale", [1.0, 1e-200, 1e200])
@pytest.mark.parametrize("spectrum", ["polynomial", "exponential", "stairs"])
def test_the_norm_is_close_without_looking_at_entries(rng, spectrum, scale):
    s = gallery.SPECTRA[spectrum](80)
    A = gallery.with_spectrum(300, 80, s, rng=rng) * scale
    f = lr.column_id(aslinearoperator(A), rank=12, rng=7)
    assert f.certificate.absolute / f.certificate.estimate == pytest.approx(np.linalg.norm(A / scale) * scale, rel=0.05)
    assert f.certificate.estimate == pytest.approx(f.relative_error(A), rel=0.4)


def test_without_rmatmat_it_says_so_and_rows_can_still_be_selected(rng):
    A = gallery.polynomial_decay(120, 40, rng=rng)
    forward = LinearOperator(A.shape, matvec=lambda x: A @ x, dtype=A.dtype)
    for make in (lr.column_id, lr.row_id, lr.cur):
        with pytest.raises(NotImplementedError, match=r"A is a LinearOperator without rmatmat.*define rmatmat"):
            make(forward, rank=3, rng=7)
    assert np.array_equal(lr.select_rows(forward, 3, rng=7), lr.select_rows(A, 3, rng=7))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_products_that_are_not_finite(rng, value):
    A = rng.standard_normal((90, 30))
    A[40, 7] = value
    with (
        np.errstate(invalid="ignore"),
        pytest.raises(ValueError, match=r"A\.rmatmat\(X\)\[7, \d+\] is (nan|inf|-inf) for a finite X"),
    ):
        lr.column_id(aslinearoperator(A), rank=3, rng=7)


def test_operators_that_do_not_keep_their_word(rng):
    A = rng.standard_normal((90, 30))
    lying = LinearOperator(A.shape, matvec=lambda x: A @ x, rmatvec=lambda x: 1j * (A.T @ x), dtype=float)
    with pytest.raises(ValueError, match=r"is complex for a real X, but A\.dtype is float64"):
        lr.column_id(lying, rank=3, rng=7)
    short = LinearOperator(A.shape, matvec=lambda x: A @ x, rmatmat=lambda X: A.T[:-1] @ X, dtype=float)
    with pytest.raises(ValueError, match=r"A\.rmatmat\(X\) returned shape \(29, \d+\) for X of shape \(90, \d+\)"):
        lr.column_id(short, rank=3, rng=7)
    with pytest.raises(TypeError, match="A has dtype float16"):
        as_operand(LinearOperator(A.shape, matvec=lambda x: A @ x, dtype=np.float16))


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (1, 9), (9, 1)])
def test_nothing_there_and_thin(shape):
    f = lr.column_id(aslinearoperator(np.ones(shape)), rank=min(shape), rng=7)
    np.testing.assert_allclose(f.to_dense(), np.ones(shape), atol=1e-12)


def test_zero_operator_and_integers():
    f = lr.column_id(aslinearoperator(np.zeros((80, 9))), rank=2, rng=7)
    assert f.status is lr.Status.ZERO
    g = lr.column_id(aslinearoperator(np.eye(20, dtype=int)), rank=2, rng=7)
    assert g.dtype == np.float64
    assert "int64 entries were converted to float64." in g.notes


def test_results_are_operators_that_can_be_factored_again(rng):
    A = gallery.exponential_decay(150, 60, scale=4.0, rng=rng)
    f = lr.column_id(A, rank=20, rng=7)
    g = lr.column_id(f.aslinearoperator(), rank=20, rng=7)
    np.testing.assert_allclose(g.to_dense(), f.to_dense(), atol=1e-8)
    assert lr.certify(aslinearoperator(A), f, rng=8).estimate == pytest.approx(f.relative_error(A), rel=0.5)


@pytest.mark.parametrize("name, s", [("flat", np.ones(60)), ("slow", np.arange(1.0, 61) ** -0.5)])
def test_the_interval_knows_that_the_norm_is_estimated(name, s):
    """100 seeds: 5 % miss at most, so that 15 or more misses are seen less than once in 10^4 runs."""
    A = gallery.with_spectrum(90, 60, s, rng=5)
    misses = width = 0
    for seed in range(100, 200):
        f, g = (lr.column_id(B, rank=6, rng=seed, workers=1) for B in (aslinearoperator(A), A))
        low, high = f.certificate.interval
        misses += not low <= f.relative_error(A) <= high
        width += (high / low > g.certificate.interval[1] / g.certificate.interval[0]) / 100
    assert misses < 15
    assert width > 0.5
