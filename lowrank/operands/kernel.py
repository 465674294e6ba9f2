"""Kernel matrices: entries are made from points when they are asked for, and the matrix is never stored."""

from collections.abc import Callable

import numpy as np

from lowrank._threads import blas_threads, thread_map

from .angular import PolynomialKernel
from .base import Counter, Operand
from .entry_function import EntryMatrix
from .numba_kernel import NumbaKernel, of_pairs
from .point_kernel import Evaluator, PointKernel

HIGH = 2048  # rows of the matrix that a thread makes at a time


class KernelMatrix(Operand):
    """The matrix of ``kernel(X[i], Y[j])``, entries of which are made on the fly.

    Parameters
    ----------
    kernel : `GaussianKernel`, `LaplaceKernel`, `MaternKernel`, `PolynomialKernel`, `CosineKernel`, `NumbaKernel` (or a
        function ``k(x, y) -> float`` compiled by numba), or a callable ``kernel(P, Q) -> (len(P), len(Q))`` on blocks
        of points, which several threads may call at the same time.
    X : (m, dim) array of real points.
    Y : (n, dim) array of real points, or None for the square matrix of X with itself.

    Complexity
    ----------
    Memory O((m + n) dim) beside what is asked for; time by the entries asked for.

    Examples
    --------
    >>> import numpy as np, lowrank as lr
    >>> X = np.linspace(0, 1, 200)[:, None]
    >>> f = lr.column_id(lr.KernelMatrix(lr.GaussianKernel(0.5), X), rank=8, rng=7)
    >>> bool(f.certificate.estimate < 1e-6)
    True
    """

    kind = "kernel matrix"
    reads = "KernelMatrix(kernel, X)"

    def __init__(self, kernel: Callable, X: np.ndarray, Y: np.ndarray | None = None):
        if not callable(kernel):
            raise TypeError(
                f"kernel={kernel!r} is not callable; pass GaussianKernel(bandwidth=...) or "
                "a function kernel(P, Q) that returns a (len(P), len(Q)) array"
            )
        self.kernel = kernel
        self.X, notes = _points(X, "X")
        self.Y, more = (self.X, ()) if Y is None else _points(Y, "Y")
        if self.X.shape[1] != self.Y.shape[1]:
            raise ValueError(f"X has points of dimension {self.X.shape[1]}, but Y of dimension {self.Y.shape[1]}")
        self.square = Y is None
        self.shape = len(self.X), len(self.Y)
        self.dtype = np.result_type(self.X.dtype, self.Y.dtype)
        self.counter, self.notes = Counter(), tuple(dict.fromkeys((*notes, *more)))
        self._evaluator = None
        if isinstance(kernel, PointKernel):
            self._evaluator = Evaluator(kernel, self.X, None if Y is None else self.Y)
        else:
            if min(self.shape) and of_pairs(kernel, self.X[0], self.Y[0]):
                self.kernel = NumbaKernel(kernel)
            self.dtype = self._probe_dtype()

    @classmethod
    def from_entries(cls, function: Callable, shape: tuple[int, int], *, dtype=None) -> EntryMatrix:
        """The matrix of ``function(I, J) -> (len(I), len(J))``, blocks of entries by row and column numbers.

        Parameters
        ----------
        function : takes two one-dimensional integer arrays; several threads may call it at the same time.
        shape : (m, n).
        dtype : of the entries; None means that of ``function([0], [0])``, float64 for integers.

        Examples
        --------
        >>> import numpy as np, lowrank as lr
        >>> A = lr.KernelMatrix.from_entries(lambda I, J: 1 / (1.0 + np.add.outer(I, J)), (90, 60))
        >>> bool(lr.column_id(A, rank=10, rng=7).certificate.estimate < 1e-6)
        True
        """
        return EntryMatrix(function, shape, dtype)

    def _probe_dtype(self) -> np.dtype:
        """The dtype that a user's kernel returns, and a check of the shape that it returns."""
        if min(self.shape) == 0:
            return self.dtype
        block = self._call(self.X[:1], self.Y[: min(2, len(self.Y))])
        if block.dtype.kind not in "fc" or block.dtype.itemsize < 4:
            return np.dtype(np.float64)
        return block.dtype

    @classmethod
    def accepts(cls, A) -> bool:
        return isinstance(A, tuple) and len(A) in (2, 3) and callable(A[0])

    @classmethod
    def wrap(cls, A) -> "KernelMatrix":
        return cls(*A)

    @property
    def T(self) -> "Operand":
        return Transposed(self)

    def _call(self, P: np.ndarray, Q: np.ndarray) -> np.ndarray:
        block = np.asarray(self.kernel(P, Q))
        if block.shape != (len(P), len(Q)):
            raise ValueError(
                f"kernel(P, Q) returned shape {block.shape} for {len(P)} and {len(Q)} points; "
                f"expected {(len(P), len(Q))}"
            )
        return block

    def _fill(self, rows, columns, out: np.ndarray) -> None:
        if self._evaluator is not None:
            self._evaluator.fill(rows, columns, out)
            if isinstance(self.kernel, PolynomialKernel):
                self._check(out)
        else:
            block = self._call(self.X[rows], self.Y[columns])
            self._check(block)
            np.copyto(out, block, casting="same_kind")

    def _check(self, block: np.ndarray) -> None:
        if not np.isfinite(block).all():
            raise ValueError("the kernel returned NaN or inf; a kernel must be finite at every pair of points")

    def _columns(self, J: np.ndarray, workers: int) -> np.ndarray:
        m = self.shape[0]
        out = np.empty((len(J), m), dtype=self.dtype).T

        def part(i: int) -> None:
            rows = slice(i, min(i + HIGH, m))
            self._fill(rows, J, out[rows])

        with blas_threads(1):
            thread_map(part, range(0, m, HIGH), workers)
        return out

    def diagonal(self) -> np.ndarray:
        """From the kernel's own ``diagonal(P)`` where it has one and X is Y, else from blocks of 8 x 8."""
        own = getattr(self.kernel, "diagonal", None)
        n = min(self.shape)
        if own is not None and self.square:
            self._served(n)
            return np.asarray(own(self.X)).astype(self.dtype)
        out = np.empty(n, dtype=self.dtype)
        for i in range(0, n, 8):
            stop = min(i + 8, n)
            block = np.empty((stop - i, stop - i), dtype=self.dtype)
            self._fill(slice(i, stop), slice(i, stop), block)
            out[i:stop] = np.diagonal(block)
            self._served((stop - i) ** 2)
        return out


class Transposed(Operand):
    """The transpose of an operand that only knows how to fill blocks."""

    def __init__(self, base: Operand):
        self.base, self.kind, self.dtype, self.notes = base, base.kind, base.dtype, base.notes
        self.shape = base.shape[1], base.shape[0]
        self.counter, self.turned = base.counter, not base.turned

    @property
    def T(self) -> Operand:
        return self.base

    def _fill(self, rows, columns, out: np.ndarray) -> None:
        self.base._fill(columns, rows, out.T)


def _points(X, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    X = np.asarray(X)
    notes: tuple[str, ...] = ()
    if X.ndim != 2:
        raise ValueError(f"{name} has shape {X.shape}; expected (points, dimension)")
    if X.dtype not in (np.float32, np.float64):
        if X.dtype.kind not in "iub":
            raise TypeError(f"{name} has dtype {X.dtype}; expected float32 or float64 points")
        notes = (f"{X.dtype} points were converted to float64.",)
        X = X.astype(np.float64)
    if not np.isfinite(X).all():
        row, column = (int(v) for v in np.argwhere(~np.isfinite(X))[0])
        raise ValueError(f"{name}[{row}, {column}] is {X[row, column]}; points must be finite")
    return X, notes
