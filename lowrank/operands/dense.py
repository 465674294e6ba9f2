"""Dense numpy arrays: C, Fortran and strided order, read-only and memory-mapped."""

from itertools import pairwise

import numpy as np

from lowrank._checks import check_array
from lowrank._threads import blas_threads, thread_map
from lowrank.sketching import Sketch, SparseStack

from .base import Counter, Operand

FLOATS = tuple(np.dtype(code) for code in ("f4", "f8", "c8", "c16"))
STRIPE = 1536  # bytes of a row that stay in L2, times 1024, while a tile is summed up
STRIP = 512  # columns of a product that a thread makes at a time
HIGH = 4096  # rows that it reads at a time, so that a copy of what is not stored by rows stays small
_CONVERTED: dict[str, type] = {"i": np.float64, "u": np.float64, "b": np.float64}


def readable(dtype: np.dtype) -> tuple[np.dtype, tuple[str, ...]]:
    """The dtype to compute in, and what to say where that is another; float16 and the like are refused."""
    native = dtype.newbyteorder("=")
    if native in FLOATS:
        return native, ()
    target = _CONVERTED.get(dtype.kind)
    if target is None:
        raise TypeError(
            f"A has dtype {dtype}; expected float32, float64, complex64 or complex128, "
            "so convert it with A.astype(np.float32) or another of these"
        )
    return np.dtype(target), (f"{dtype} entries were converted to float64.",)


class Dense(Operand):
    """A two-dimensional numpy array; integers and booleans are converted to float64, and the result says so."""

    kind = "dense array"
    hashed = True
    reads = "numpy arrays (float32, float64, complex64, complex128; integers and booleans are converted)"

    def __init__(self, A: np.ndarray, counter: Counter | None = None, notes: tuple[str, ...] = ()):
        A = check_array(A)
        if A.ndim != 2:
            raise ValueError(f"A has shape {A.shape}; expected two dimensions, so reshape it to a matrix")
        dtype, note = readable(A.dtype)
        notes = (*notes, *note)
        if A.dtype != dtype:
            A = A.astype(dtype)
        self.A, self.shape, self.dtype = A, A.shape, A.dtype
        self.counter, self.notes = counter or Counter(), notes
        by_rows = abs(A.strides[1]) <= abs(A.strides[0])
        stripe = STRIPE // np.dtype(dtype).type(0).real.itemsize
        self.tile = (1024, stripe) if by_rows else (1024, 64)  # measured: column-major tiles want to be narrow

    @classmethod
    def accepts(cls, A) -> bool:
        return isinstance(A, np.ndarray) and getattr(A, "_mmap", None) is None  # maps are read in blocks

    @property
    def T(self) -> Operand:
        return self._turned(Dense(self.A.T, self.counter, self.notes))

    def _fill(self, rows, columns, out: np.ndarray) -> None:
        if isinstance(rows, slice) or isinstance(columns, slice):
            np.copyto(out, self.A[rows, columns])
        else:
            np.copyto(out, self.A[np.ix_(rows, columns)])

    def _sketch(self, S: SparseStack, probes: np.ndarray | None, workers: int) -> Sketch:
        if probes is None and self.A.flags.c_contiguous:
            return S.sweep_rows(self.A, workers=workers)
        return super()._sketch(S, probes, workers)

    def _columns(self, J: np.ndarray, workers: int) -> np.ndarray:
        m = self.shape[0]
        out = np.empty((m, len(J)), dtype=self.dtype)
        if m == 0 or len(J) == 0:
            return out
        cuts = np.linspace(0, m, min(m, max(1, workers)) + 1, dtype=int)

        def take(part: tuple[int, int]) -> None:
            np.take(self.A[part[0] : part[1]], J, axis=1, out=out[part[0] : part[1]], mode="clip")  # "raise" buffers

        thread_map(take, list(pairwise(cuts)), workers)
        return out

    def diagonal(self) -> np.ndarray:
        self._served(min(self.shape))
        return np.diagonal(self.A).copy()

    def _rmatmat(self, X: np.ndarray, workers: int) -> np.ndarray:
        # strips on our own threads: BLAS's own spin, and cost ten times as much where cores are shared
        left = np.ascontiguousarray(X if X.dtype.kind == "f" else X.conj()).T  # BLAS reads either order
        out = np.zeros((left.shape[0], self.shape[1]), dtype=np.result_type(left, self.A))
        by_rows = self.A.strides[1] == self.A.itemsize

        def strip(j: int) -> None:
            for i in range(0, self.shape[0], HIGH):
                tile = self.A[i : i + HIGH, j : j + STRIP]
                if not by_rows:  # BLAS adds in another order where it is told of a transpose
                    tile = np.ascontiguousarray(tile)
                out[:, j : j + STRIP] += left[:, i : i + HIGH] @ tile

        with blas_threads(1):
            thread_map(strip, range(0, self.shape[1], STRIP), workers)
        return out.conj().T
