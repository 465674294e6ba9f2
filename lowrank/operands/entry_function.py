"""A matrix that is known by a function of row and column numbers."""

from collections.abc import Callable

import numpy as np

from .base import Counter, Operand


class EntryMatrix(Operand):
    """The matrix of ``function(I, J)``, a (len(I), len(J)) block for index arrays I and J; made by
    `KernelMatrix.from_entries`."""

    kind = "matrix of entries"
    reads = "KernelMatrix.from_entries(function, shape)"

    def __init__(self, function: Callable, shape: tuple[int, int], dtype=None):
        if not callable(function):
            raise TypeError(f"function={function!r} is not callable; pass function(I, J) -> (len(I), len(J)) array")
        try:
            m, n = (int(x) for x in shape)
        except (TypeError, ValueError):
            raise TypeError(f"shape={shape!r}; expected two numbers, of rows and of columns") from None
        if m < 0 or n < 0:
            raise ValueError(f"shape={shape!r} is negative")
        self.function, self.shape, self.counter = function, (m, n), Counter()
        if dtype is None:
            found = np.dtype(np.float64) if min(m, n) == 0 else self._call(np.arange(1), np.arange(1)).dtype
            dtype = found if found.kind in "fc" and found.itemsize >= 4 else np.float64
        self.dtype = np.dtype(dtype)
        if self.dtype not in (np.float32, np.float64, np.complex64, np.complex128):
            raise TypeError(f"dtype={self.dtype}; expected float32, float64, complex64 or complex128")

    @property
    def T(self) -> Operand:
        from .kernel import Transposed

        return Transposed(self)

    def _call(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        block = np.asarray(self.function(rows, columns))
        if block.shape != (len(rows), len(columns)):
            raise ValueError(
                f"function(I, J) returned shape {block.shape} for {len(rows)} rows and {len(columns)} columns; "
                f"expected {(len(rows), len(columns))}"
            )
        return block

    def _fill(self, rows, columns, out: np.ndarray) -> None:
        at = [
            np.arange(*where.indices(length)) if isinstance(where, slice) else np.asarray(where)
            for where, length in zip((rows, columns), self.shape, strict=True)
        ]
        block = self._call(*at)
        if not np.isfinite(block).all():
            i, j = (int(x) for x in np.argwhere(~np.isfinite(block))[0])
            raise ValueError(f"the entry at ({at[0][i]}, {at[1][j]}) is {block[i, j]}; lowrank needs finite entries")
        np.copyto(out, block, casting="same_kind")
