"""``A + shift I`` for a matrix of any kind: the diagonal is added to the entries as they are served."""

import numpy as np

from .base import Operand


class Shifted(Operand):
    """``A + shift I`` with A's own counter."""

    def __init__(self, base: Operand, shift: float):
        self.base, self.shift = base, shift
        self.kind, self.shape, self.dtype, self.tile = base.kind, base.shape, base.dtype, base.tile
        self.counter, self.notes = base.counter, base.notes

    @property
    def T(self) -> "Shifted":
        return Shifted(self.base.T, self.shift)

    def _fill(self, rows, columns, out: np.ndarray) -> None:
        self.base._fill(rows, columns, out)
        self._add(self._at(rows, 0), self._at(columns, 1), out)

    def columns(self, J: np.ndarray, *, workers: int = 1) -> np.ndarray:
        out = self.base.columns(J, workers=workers)
        out[np.asarray(J), np.arange(len(J))] += out.dtype.type(self.shift)
        return out

    def rows(self, J: np.ndarray, *, workers: int = 1) -> np.ndarray:
        out = self.base.rows(J)
        out[np.arange(len(J)), np.asarray(J)] += out.dtype.type(self.shift)
        return out

    def entries(self, rows, columns) -> np.ndarray:
        out = self.base.entries(rows, columns)
        self._add(np.asarray(rows), np.asarray(columns), out)
        return out

    def diagonal(self) -> np.ndarray:
        return self.base.diagonal() + self.dtype.type(self.shift)

    def matmat(self, X: np.ndarray, *, workers: int = 1) -> np.ndarray:
        return self.base.matmat(X, workers=workers) + X * self.dtype.type(self.shift)

    def rmatmat(self, X: np.ndarray, *, workers: int = 1) -> np.ndarray:
        return self.base.rmatmat(X, workers=workers) + X * self.dtype.type(self.shift)

    def _at(self, where, axis: int) -> np.ndarray:
        return np.arange(*where.indices(self.shape[axis])) if isinstance(where, slice) else np.asarray(where)

    def _add(self, rows: np.ndarray, columns: np.ndarray, out: np.ndarray) -> None:
        out[np.equal.outer(rows, columns)] += out.dtype.type(self.shift)
