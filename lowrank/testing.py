"""The laws that every kind of matrix obeys, as a class of tests that a new kind inherits."""

import pickle
from typing import Any

import numpy as np

import lowrank as lr

from .operands import Operand, as_operand
from .sketches import SKETCHES, Embedding, GivenSketch
from .sketching import SparseStack

__all__ = ["OperandConformance"]

SEED = 20261


class OperandConformance:
    """Tests of one kind of matrix against the array that it stands for; needs a test runner, and only numpy else.

    Subclass it under a name that the runner collects, and define `make`. The matrix should have at least 30 rows and
    20 columns, neither zero nor of rank below 6.

    Attributes
    ----------
    tolerance : relative to the largest entry; what the kind's own arithmetic costs, 1e-12 unless said.
    exact_norms : whether `sketch` returns exact column norms (a kind that is known by products alone cannot).
    note : what ``notes`` must say where the kind is converted before it is read; "" where nothing has to be said.

    Examples
    --------
    >>> import numpy as np, lowrank as lr
    >>> from lowrank.testing import OperandConformance
    >>> class TestFortran(OperandConformance):
    ...     def make(self, rng):
    ...         A = rng.standard_normal((60, 25))
    ...         return np.asfortranarray(A), A
    >>> TestFortran().test_columns_rows_and_entries()
    """

    tolerance: float = 1e-12
    exact_norms: bool = True
    note: str = ""

    def make(self, rng: np.random.Generator) -> tuple[Any, np.ndarray]:
        """(what a user passes as A, the same matrix as an array)."""
        raise NotImplementedError("define make(rng) -> (A, the same matrix as an array)")

    def pair(self) -> tuple[Operand, np.ndarray, np.random.Generator]:
        """A fresh operand, its array, and a generator to go on with; the same at every call."""
        rng = np.random.default_rng(SEED)
        A, dense = self.make(rng)
        return as_operand(A), np.asarray(dense), rng

    def close(self, found: Any, expected: np.ndarray, growth: float = 1.0) -> None:
        """Equal within the tolerance times the largest number expected."""
        scale = float(np.abs(expected).max(initial=0.0))
        np.testing.assert_allclose(np.asarray(found), expected, rtol=0, atol=growth * self.tolerance * scale)

    def test_shape_and_dtype(self) -> None:
        operand, A, _ = self.pair()
        assert operand.shape == A.shape
        assert operand.dtype in (np.float32, np.float64, np.complex64, np.complex128)
        assert (operand.dtype.kind == "c") == (A.dtype.kind == "c")
        assert operand.entries_read == 0
        assert as_operand(operand) is operand
        assert operand.kind != Operand.kind, "give the kind a name"

    def test_columns_rows_and_entries(self) -> None:
        operand, A, rng = self.pair()
        m, n = A.shape
        J, rows = rng.permutation(n)[:6], rng.permutation(m)[:9]
        self.close(operand.columns(J), A[:, J])
        self.close(operand.rows(rows), A[rows])
        self.close(operand.entries(rows, J), A[np.ix_(rows, J)])
        for kept, expected in ((operand.keep_columns(J), A[:, J]), (operand.keep_rows(rows), A[rows])):
            self.close(kept.toarray() if hasattr(kept, "toarray") else kept, expected)
        assert operand.columns(J[:0]).shape == (m, 0)
        assert operand.rows(rows[:0]).shape == (0, n)
        assert operand.columns(J).dtype == operand.rows(rows).dtype == operand.dtype
        if m == n:
            self.close(operand.diagonal(), A.diagonal())

    def test_products(self) -> None:
        operand, A, rng = self.pair()
        m, n = A.shape
        X, Z = rng.standard_normal((n, 3)).astype(operand.dtype), rng.standard_normal((m, 70)).astype(operand.dtype)
        self.close(operand.matmat(X), A @ X, growth=10)
        self.close(operand.rmatmat(Z), A.conj().T @ Z, growth=10)

    def test_sketch(self) -> None:
        operand, A, rng = self.pair()
        omega = rng.standard_normal((3, A.shape[0]))
        norms = np.linalg.norm(A, axis=0) ** 2
        for S in _sketches(80, A.shape[0], rng):
            sketch = operand.sketch(S, omega)
            self.close(sketch.Y, S.to_dense() @ A, growth=20)
            self.close(sketch.W, omega @ A, growth=10)
            if self.exact_norms:
                self.close(sketch.squared_norms, norms, growth=100)
            else:
                assert 0.2 * norms.sum() < sketch.squared_norm < 5 * norms.sum()
            assert operand.sketch(S).W.shape == (0, A.shape[1])

    def test_transpose(self) -> None:
        operand, A, rng = self.pair()
        rows = rng.permutation(A.shape[0])[:5]
        turned = operand.T
        assert turned.shape == A.T.shape
        self.close(turned.columns(rows), A[rows].T)
        assert operand.entries_read == turned.entries_read > 0, "a transpose shares the counter"
        self.close(turned.T.columns(np.array([1])), A[:, [1]])
        X = rng.standard_normal((A.shape[0], 2)).astype(operand.dtype)
        self.close(turned.matmat(X), A.T @ X, growth=10)
        for S in _sketches(18, A.shape[1], rng):
            self.close(turned.sketch(S).Y, S.to_dense() @ A.T, growth=20)

    def test_every_verb_is_counted(self) -> None:
        operand, A, rng = self.pair()
        m, n = A.shape
        verbs = {
            "columns": lambda: operand.columns(np.arange(n)),
            "rows": lambda: operand.rows(np.arange(m)),
            "entries": lambda: operand.entries(np.arange(m), np.arange(n)),
            "matmat": lambda: operand.matmat(np.eye(n, dtype=operand.dtype)),
            "rmatmat": lambda: operand.rmatmat(np.eye(m, dtype=operand.dtype)),
            "sketch": lambda: operand.sketch(SparseStack.draw(8, m, rng)),
        }
        for name, verb in verbs.items():
            before = operand.entries_read
            verb()
            assert operand.entries_read > before, f"{name} reads entries and does not count them"

    def test_scale(self) -> None:
        operand, A, rng = self.pair()
        rows = rng.permutation(A.shape[0])[:4]
        self.close(operand.scaled(0.25).rows(rows), 0.25 * A[rows])
        assert operand.largest() > 0

    def test_workers_change_no_bit(self) -> None:
        operand, A, rng = self.pair()
        J = np.arange(7)
        X = rng.standard_normal((A.shape[0], 5)).astype(operand.dtype)
        sketches = [lambda w, S=S: operand.sketch(S, workers=w).Y for S in _sketches(40, A.shape[0], rng)]
        for verb in (*sketches, lambda w: operand.columns(J, workers=w), lambda w: operand.rmatmat(X, workers=w)):
            first = verb(1)
            for workers in (2, 3):
                np.testing.assert_array_equal(verb(workers), first)

    def test_column_id(self) -> None:
        self._factorisation(lr.column_id)

    def test_column_id_best(self) -> None:
        self._factorisation(lr.column_id, quality="best")

    def test_column_id_by_every_sketch(self) -> None:
        _, A, rng = self.pair()
        for S in _sketches(30, A.shape[0], rng):
            self._factorisation(lr.column_id, sketch=S)

    def test_what_is_sparse_stays_sparse(self) -> None:
        operand, A, _ = self.pair()
        sparse = hasattr(self.make(np.random.default_rng(SEED))[0], "nnz")
        parts = [(f.C, A[:, f.indices]) for f in (lr.column_id(operand, rank=5, rng=7),)]
        parts += [(f.R, A[f.indices]) for f in (lr.row_id(operand, rank=5, rng=7),)]
        g = lr.cur(operand, rank=5, rng=7)
        for kept, expected in (*parts, (g.C, A[:, g.columns]), (g.R, A[g.rows])):
            assert hasattr(kept, "nnz") == sparse
            if sparse:
                assert getattr(kept, "nnz", 0) <= np.count_nonzero(expected)

    def test_what_was_converted_is_said(self) -> None:
        operand, _, _ = self.pair()
        for f in (lr.column_id(operand, rank=5, rng=7), lr.cur(operand, rank=5, rng=7)):
            assert self.note in "\n".join(f.notes)
            assert self.note in f.explain()

    def test_row_id(self) -> None:
        self._factorisation(lr.row_id)

    def test_two_sided_id(self) -> None:
        self._factorisation(lr.two_sided_id)

    def test_cur(self) -> None:
        self._factorisation(lr.cur)
        self._factorisation(lr.cur, core="optimal")

    def test_nystrom(self) -> None:
        operand, A, _ = self.pair()
        if _positive(A):
            f = lr.nystrom(operand, rank=6, rng=7)
            left = np.real(np.trace(A) - np.vdot(f.factor, f.factor)) / np.real(np.trace(A))
            assert abs(f.trace_error - left) <= 1e3 * self.tolerance
            self.close(f.to_dense()[:, f.landmarks], A[:, f.landmarks], growth=1e3)
            assert operand.entries_read > 0
            self._products(f)
            return
        said = "nystrom took a matrix that is not positive semidefinite"
        try:
            lr.nystrom(operand, rank=6, rng=7)
        except ValueError as problem:
            said = str(problem)
        assert said.startswith(("K ", "K[")), said

    def test_certify(self) -> None:
        operand, A, _ = self.pair()
        assert lr.certify(operand, A, rng=7).estimate <= 1e3 * self.tolerance
        low, high = lr.certify(operand, np.zeros_like(A), rng=7).interval
        assert low / 2 <= 1 <= 2 * high

    def test_selections(self) -> None:
        operand, A, _ = self.pair()
        for pick in (lr.select_columns, lr.select_rows):
            J = pick(operand, 5, rng=7)
            assert len(set(J.tolist())) == 5
            C = A[:, J] if pick is lr.select_columns else A[J].T
            B = A if pick is lr.select_columns else A.T
            left = B - C @ np.linalg.lstsq(C, B, rcond=None)[0]
            best = np.linalg.norm(np.linalg.svd(A, compute_uv=False)[5:])
            assert np.linalg.norm(left) <= 5 * best + 1e3 * self.tolerance * np.linalg.norm(A)

    def _factorisation(self, make: Any, **options: Any) -> None:
        operand, A, _ = self.pair()
        f = make(operand, rank=5, rng=7, **options)
        g = make(A, rank=5, rng=7, **options)
        size = float(np.linalg.norm(A))
        error, peer = (float(np.linalg.norm(A - h.to_dense())) / size for h in (f, g))
        best = float(np.linalg.norm(np.linalg.svd(A, compute_uv=False)[5:])) / size
        slack = 1e3 * self.tolerance
        assert best - slack <= error <= max(1.5 * peer, 4 * best) + slack, (best, error, peer)
        assert error <= 1 + slack
        low, high = f.certificate.interval
        assert low / 2 - slack <= error <= 2 * high + slack, "the certificate is far from the error"
        if hasattr(f, "C"):
            picked = f.columns if hasattr(f, "columns") else f.indices
            self.close(f.C.toarray() if hasattr(f.C, "toarray") else f.C, A[:, picked])
        if hasattr(f, "R"):
            picked = f.rows if hasattr(f, "rows") else f.indices
            self.close(f.R.toarray() if hasattr(f.R, "toarray") else f.R, A[picked])
        assert f.entries_read == operand.entries_read > 0
        again = pickle.loads(pickle.dumps(f))
        np.testing.assert_array_equal(again.to_dense(), f.to_dense())
        self._products(f)

    def _products(self, f: Any) -> None:
        """Every product and adjoint of a result beside the dense one, for vectors and matrices."""
        B, rng = f.to_dense(), np.random.default_rng(SEED)
        m, n = B.shape
        X, Y = (rng.standard_normal((size, 2)).astype(B.dtype) for size in (n, m))
        if B.dtype.kind == "c":
            X, Y = X * (1 - 2j), Y * (3 + 1j)
        operator = f.aslinearoperator()
        for x, y in ((X, Y), (X[:, 0], Y[:, 0])):
            for found, expected in (
                (f @ x, B @ x), (f.matmat(x), B @ x), (operator @ x, B @ x), (x.T @ f.T, x.T @ B.T),
                (f.H @ y, B.conj().T @ y), (f.rmatmat(y), B.conj().T @ y), (operator.H @ y, B.conj().T @ y),
                (f.T @ y, B.T @ y), (y.T @ f, y.T @ B), (f.T.H @ x, B.conj() @ x), (f.H.T @ x, B.conj() @ x),
            ):  # fmt: skip
                self.close(found, expected, growth=1e3)


def _sketches(height: int, m: int, rng: np.random.Generator) -> list[Embedding]:
    """One of each kind for m rows: those of `SKETCHES`, and an array of the user's own."""
    own = GivenSketch(rng.standard_normal((height, m)) / height**0.5, m)
    return [draw(height, m, rng) for draw in SKETCHES.values()] + [own]


def _positive(A: np.ndarray) -> bool:
    """Whether A is Hermitian and positive semidefinite, to rounding."""
    if A.shape[0] != A.shape[1]:
        return False
    size = 1e-5 * float(np.abs(A).max(initial=0.0))
    return bool(np.abs(A - A.conj().T).max(initial=0.0) <= size and np.linalg.eigvalsh(A)[0] >= -size)
