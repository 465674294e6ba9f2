"""scipy.sparse matrices and arrays: CSR and CSC as they are, other formats converted to CSR; never made dense."""

import sys
from typing import Any

import numpy as np

from lowrank._threads import thread_map
from lowrank.sketching import Embedding, Sketch, SparseStack, Tabled

from .base import Counter, Operand
from .dense import readable

STRIP = 16  # columns of a product that a thread makes at a time
BLOCK = 64  # rows of a sketch that are multiplied with A at a time
SPLIT = 1024  # columns of a CSC matrix that a thread sketches at a time


class Sparse(Operand):
    """A scipy.sparse matrix in CSR or CSC form; `entries_read` counts stored entries alone.

    The sketch has d = 3 k + 16 dense rows, and the chosen columns and rows stay sparse in A's own format. Explicit
    zeros, unsorted indices and duplicates are read as scipy reads them; the matrix of the user is not changed.
    """

    kind = "sparse matrix"
    tabled = True
    reads = "scipy.sparse matrices and arrays (CSR and CSC as they are, other formats converted)"

    def __init__(self, A: Any, counter: Counter | None = None, notes: tuple[str, ...] = (), factor: float = 1.0):
        if A.ndim != 2:
            raise ValueError(f"A has shape {A.shape}; expected two dimensions, so reshape it to a matrix")
        dtype, note = readable(A.dtype)
        notes = (*notes, *note)
        if A.format not in ("csr", "csc"):
            notes = (*notes, f"The {A.format.upper()} matrix was converted to CSR.")
            A = A.tocsr()
        if A.dtype != dtype:
            A = A.astype(dtype)
        _check(A)
        if not A.has_canonical_format:
            A = A.copy()
            A.sum_duplicates()
        self.A, self.shape, self.dtype, self.factor = A, A.shape, A.dtype, factor
        self.counter, self.notes = counter or Counter(), notes
        self._csc: Any = None

    @classmethod
    def accepts(cls, A) -> bool:
        sparse = sys.modules.get("scipy.sparse")  # whoever holds a sparse matrix has imported it
        return sparse is not None and sparse.issparse(A)

    @property
    def T(self) -> Operand:
        return self._turned(Sparse(self.A.T, self.counter, self.notes, self.factor))

    @property
    def size(self) -> int:
        return int(self.A.nnz)

    def scaled(self, factor: float) -> "Sparse":
        A = self.A.copy()
        A.data *= A.dtype.type(factor)
        return Sparse(A, self.counter, self.notes, factor * self.factor)

    def _fill(self, rows, columns, out: np.ndarray) -> None:
        np.copyto(out, self._take(rows, columns).toarray())

    def _take(self, rows, columns) -> Any:
        """``A[rows, columns]``, the axis along which the format is compressed first."""
        everything = slice(None)
        if self.A.format == "csr":
            return self.A[rows, everything][everything, columns]
        return self.A[everything, columns][rows, everything]

    def keep_columns(self, J: np.ndarray, *, workers: int = 1) -> Any:
        found = self._by_columns()[:, np.asarray(J)].asformat(self.A.format)
        self._served(found.nnz)
        return found

    def keep_rows(self, J: np.ndarray, *, workers: int = 1) -> Any:
        found = self.A[np.asarray(J), :]
        self._served(found.nnz)
        return found

    def columns(self, J: np.ndarray, *, workers: int = 1) -> np.ndarray:
        return self.keep_columns(J).toarray()

    def rows(self, J: np.ndarray, *, workers: int = 1) -> np.ndarray:
        return self.keep_rows(J).toarray()

    def entries(self, rows, columns) -> np.ndarray:
        found = self._take(np.asarray(rows), np.asarray(columns))
        self._served(found.nnz)
        return found.toarray()

    def diagonal(self) -> np.ndarray:
        self._served(min(self.shape))
        return self.A.diagonal()

    def largest(self) -> float:
        data = self.A.data
        if not np.isfinite(data).all():
            where = np.flatnonzero(~np.isfinite(data))
            major = np.searchsorted(self.A.indptr, where, side="right") - 1
            minor = self.A.indices[where]
            rows, columns = (major, minor) if self.A.format == "csr" else (minor, major)
            first = np.lexsort((columns, rows))[0]
            raise self._not_finite(int(rows[first]), int(columns[first]), data[where[first]])
        return max(float(np.abs(part).max(initial=0.0)) for part in (data.real, data.imag))

    def _by_columns(self) -> Any:
        """A in CSC form, converted once: what is summed by columns stays in L1, which saves more than this costs."""
        if self._csc is None:
            self._csc = self.A.tocsc()
        return self._csc

    def gram(self, C: Any) -> tuple[np.ndarray, np.ndarray]:
        """``C^* C`` (k, k) and ``C^* A`` (k, n) in double precision for a sparse C, which stays sparse.

        A row of C with c entries meets a row of A with a entries in c a products: next to nothing beside the sketch.
        """
        self._served(self.size)
        C = C.astype(np.complex128 if self.dtype.kind == "c" else np.float64).tocsr()
        square = (C.conj().T @ C).toarray()
        if 4 * C.nnz > C.shape[0] * C.shape[1]:
            return square, self._rmatmat(C.toarray(), 1).conj().T
        if self.A.format == "csr":
            return square, (C.conj().T.tocsr() @ self.A).toarray()
        return square, (self.A.T @ C.conj()).toarray().T

    def restricted(self, rows: np.ndarray) -> "Sparse":
        """The matrix of these rows alone, with the same counter."""
        return Sparse(self._take(rows, slice(None)), self.counter, self.notes, self.factor)

    def _sketch(self, S: SparseStack, probes: Any, workers: int) -> Sketch:
        from lowrank._sparse_kernels import sketch_columns

        A, (m, n) = self._by_columns(), self.shape
        real = A.data.real.dtype
        signs = S.signs.astype(real)
        if isinstance(probes, Tabled):
            table, index = probes.table.astype(real, copy=False), probes.index
        else:
            table = np.zeros((m, 0), real) if probes is None else np.ascontiguousarray(probes.T, dtype=real)
            index = np.arange(m, dtype=np.int32)
        Y, W = np.zeros((n, S.height), A.dtype), np.zeros((n, table.shape[1]), A.dtype)
        norms = np.zeros(n)

        def work(j: int) -> None:
            stop = min(j + SPLIT, n)
            sketch_columns(A.indptr, A.indices, A.data, S.rows, signs, table, index, j, stop, Y, W, norms)

        with np.errstate(over="ignore", invalid="ignore"):  # non-finite sums are judged by the caller
            thread_map(work, range(0, n, SPLIT), workers)
        return Sketch(Y.T, W.T, norms)

    def _sketch_by(self, S: Embedding, probes: np.ndarray | None, workers: int) -> Sketch:
        """By products with 64 rows of S at a time, 2 d flops an entry; the transform of a sketch is not used."""
        A, n = self.A, self.shape[1]
        Y = np.empty((S.height, n), dtype=A.dtype)
        W = np.zeros((0 if probes is None else len(probes), n), dtype=A.dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            for i in range(0, S.height, BLOCK):
                stop = min(i + BLOCK, S.height)
                Y[i:stop] = self._rmatmat(S.block(i, stop).conj().T.astype(A.dtype, order="C"), workers).conj().T
            if probes is not None and len(probes):
                W[:] = self._rmatmat(probes.T.astype(A.dtype, order="C"), workers).conj().T
            squares = A.data.real.astype(np.float64) ** 2 + A.data.imag.astype(np.float64) ** 2
            columns = A.indices if A.format == "csr" else np.repeat(np.arange(n), np.diff(A.indptr))
            norms = np.bincount(columns, weights=squares, minlength=n)
        return Sketch(Y, W, norms)

    def _rmatmat(self, X: np.ndarray, workers: int) -> np.ndarray:
        adjoint = self.A.conj().T
        out = np.empty((self.shape[1], X.shape[1]), dtype=np.result_type(self.dtype, X.dtype))

        def strip(j: int) -> None:
            out[:, j : j + STRIP] = adjoint @ X[:, j : j + STRIP]

        thread_map(strip, range(0, X.shape[1], STRIP), workers)
        return out


def _check(A) -> None:
    """Indices in range: compiled loops trust them."""
    major, minor = A.shape if A.format == "csr" else A.shape[::-1]
    starts, at = A.indptr, A.indices
    if (
        len(starts) != major + 1
        or starts[0] != 0
        or starts[-1] != len(at)
        or len(at) != len(A.data)
        or (np.diff(starts) < 0).any()
        or (at.size and (at.min() < 0 or at.max() >= minor))
    ):
        raise ValueError(
            f"A is a damaged {A.format.upper()} matrix: its indices do not fit its shape {A.shape}; build it anew"
        )
