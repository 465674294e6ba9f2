"""Kernel matrices: entries are made from points when they are asked for, and the matrix is never stored."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lowrank._threads import blas_threads, thread_map

from .base import Counter, Operand

HIGH = 2048  # rows of the matrix that a thread makes at a time


@dataclass(frozen=True)
class GaussianKernel:
    r"""The Gaussian kernel, ``K(p, q) = exp(-|p - q|^2 / (2 bandwidth^2))``.

    Parameters
    ----------
    bandwidth : positive float, in the unit of the points.

    Raises
    ------
    ValueError
        If the bandwidth is not positive and finite.

    Complexity
    ----------
    ``kernel(P, Q)`` costs one GEMM of (p, dim + 2) with (dim + 2, q) and one exponential an entry.

    Examples
    --------
    >>> import numpy as np, lowrank as lr
    >>> kernel = lr.GaussianKernel(bandwidth=2.0)
    >>> np.round(kernel(np.array([[0.0], [2.0]]), np.array([[0.0]])), 4)
    array([[1.    ],
           [0.6065]])
    """

    bandwidth: float

    def __post_init__(self):
        if not (isinstance(self.bandwidth, (int, float, np.integer, np.floating)) and 0 < self.bandwidth < math.inf):
            raise ValueError(f"bandwidth={self.bandwidth!r} is not a positive finite number")

    def __call__(self, P: np.ndarray, Q: np.ndarray) -> np.ndarray:
        return KernelMatrix(self, P, Q).entries(np.arange(len(P)), np.arange(len(Q)))

    def diagonal(self, P: np.ndarray) -> np.ndarray:
        return np.ones(len(P))


class KernelMatrix(Operand):
    """The matrix of ``kernel(X[i], Y[j])``, entries of which are made on the fly.

    Parameters
    ----------
    kernel : GaussianKernel, or a callable ``kernel(P, Q) -> (len(P), len(Q))`` on blocks of points.
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
        self._fused = isinstance(kernel, GaussianKernel) and self._prepare(kernel.bandwidth)
        if not isinstance(kernel, GaussianKernel):
            self.dtype = self._probe_dtype()

    def _probe_dtype(self) -> np.dtype:
        """The dtype that a user's kernel returns, and a check of the shape that it returns."""
        if min(self.shape) == 0:
            return self.dtype
        block = self._call(self.X[:1], self.Y[: min(2, len(self.Y))])
        if block.dtype.kind not in "fc" or block.dtype.itemsize < 4:
            return np.dtype(np.float64)
        return block.dtype

    def _prepare(self, bandwidth: float) -> bool:
        """Rows [x, -|x|^2/2, 1] and [y, 1, -|y|^2/2], whose product is the exponent -|x - y|^2 / 2.

        The sum cancels, so it is used only while eps max|x|^2 stays below 1e-10; further out, differences are formed.
        """
        center = self.Y.mean(axis=0, dtype=np.float64) if len(self.Y) else 0.0
        with np.errstate(over="ignore", invalid="ignore"):
            x = (self.X.astype(np.float64) - center) / bandwidth
            y = x if self.square else (self.Y.astype(np.float64) - center) / bandwidth
            xx, yy = np.einsum("ij,ij->i", x, x), np.einsum("ij,ij->i", y, y)
            spread = max(xx.max(initial=0.0), yy.max(initial=0.0)) * np.finfo(float).eps
        self._scale = bandwidth
        if not spread < 1e-10:
            return False
        ones = np.ones((1, 1))
        self._left = np.hstack([x, -0.5 * xx[:, None], np.broadcast_to(ones, (len(x), 1))])
        self._right = np.hstack([y, np.broadcast_to(ones, (len(y), 1)), -0.5 * yy[:, None]])
        return True

    @classmethod
    def accepts(cls, A) -> bool:
        return isinstance(A, tuple) and len(A) in (2, 3) and callable(A[0])

    @classmethod
    def wrap(cls, A) -> "KernelMatrix":
        return cls(*A)

    @property
    def T(self) -> "Operand":
        return _Transposed(self)

    def _call(self, P: np.ndarray, Q: np.ndarray) -> np.ndarray:
        block = np.asarray(self.kernel(P, Q))
        if block.shape != (len(P), len(Q)):
            raise ValueError(
                f"kernel(P, Q) returned shape {block.shape} for {len(P)} and {len(Q)} points; "
                f"expected {(len(P), len(Q))}"
            )
        return block

    def _fill(self, rows, columns, out: np.ndarray) -> None:
        if self._fused:
            self._fill_fused(rows, columns, out)
        elif isinstance(self.kernel, GaussianKernel):
            from scipy.spatial.distance import cdist

            P, Q = (Z[at].astype(np.float64) / self._scale for Z, at in ((self.X, rows), (self.Y, columns)))
            np.copyto(out, np.exp(-0.5 * cdist(P, Q, "sqeuclidean")), casting="same_kind")
        else:
            block = self._call(self.X[rows], self.Y[columns])
            if not np.isfinite(block).all():
                raise ValueError("the kernel returned NaN or inf; a kernel must be finite at every pair of points")
            np.copyto(out, block, casting="same_kind")

    def _fill_fused(self, rows, columns, out: np.ndarray) -> None:
        """One GEMM and one exponential, in blocks of columns that stay in cache, straight into `out`.

        Floor: 2 (dim + 2) flops and one exponential (about 1 ns) an entry; the block is touched three times in L2.
        """
        if abs(out.strides[0]) < abs(out.strides[1]):  # column-major: the same entries, in the order that out has
            left, right, out = self._right[columns], self._left[rows], out.T
        else:
            left, right = self._left[rows], self._right[columns]
        high = max(1, min(1024, (1 << 17) // max(1, len(left))))
        direct = out.dtype == np.float64
        work = None if direct else np.empty((len(left), min(high, len(right))))
        for j in range(0, len(right), high):
            stop = min(j + high, len(right))
            block = out[:, j:stop] if work is None else work[:, : stop - j]
            np.matmul(left, right[j:stop].T, out=block)
            np.minimum(block, 0.0, out=block)
            with np.errstate(under="ignore"):
                np.exp(block, out=block)
                if not direct:
                    np.copyto(out[:, j:stop], block, casting="same_kind")

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
        """From the kernel's own ``diagonal(P)`` where it has one, else from blocks of 8 x 8."""
        own = getattr(self.kernel, "diagonal", None)
        n = len(self.X)
        if own is not None:
            self._served(n)
            return np.asarray(own(self.X)).astype(self.dtype)
        out = np.empty(n, dtype=self.dtype)
        for i in range(0, n, 8):
            stop = min(i + 8, n)
            out[i:stop] = np.diagonal(self._call(self.X[i:stop], self.Y[i:stop]))
            self._served((stop - i) ** 2)
        return out


class _Transposed(Operand):
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
