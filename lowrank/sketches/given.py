"""A sketch of the user's own: an array, a sparse matrix, or any object with ``.shape`` and ``@``."""

import sys
from typing import Any

import numpy as np

from .base import Embedding, Fill, Sketch, by_columns, by_panels

UNITS = 64  # columns of the identity that an object without entries is multiplied with at a time


class GivenSketch(Embedding):
    """The user's (d, m) map; what it does to norms is the user's affair, and the certificate's to judge.

    matrix : an array or a CSC matrix where the user gave entries, else None;  operator : what was given.
    """

    name = "given"

    def __init__(self, operator: Any, m: int):
        self.operator = operator
        sparse = sys.modules.get("scipy.sparse")  # whoever holds a sparse matrix has imported it
        self.matrix: Any = None
        if sparse is not None and sparse.issparse(operator):
            self.matrix = operator.tocsc()
            values = self.matrix.data
        elif isinstance(operator, (np.ndarray, list, tuple)):
            self.matrix = values = np.asarray(operator)
        shape = getattr(operator if self.matrix is None else self.matrix, "shape", None)
        applies = self.matrix is not None or hasattr(type(operator), "__matmul__")
        if not (applies and isinstance(shape, tuple) and len(shape) == 2):
            raise TypeError(
                f"sketch= is a {type(operator).__qualname__} of shape {shape}; pass the name of a sketch, "
                f"a (d, {m}) array or sparse matrix, or an object with a .shape of two numbers and @"
            )
        self.height, self._columns = int(shape[0]), int(shape[1])
        if self._columns != m:
            raise ValueError(
                f"sketch has shape {self.shape}, but the matrix that it is applied to has {m} rows; "
                f"expected (d, {m}) with d >= the rank"
            )
        if self.matrix is not None:
            if values.dtype.kind not in "fciub":
                raise TypeError(f"sketch has dtype {values.dtype}; expected numbers")
            if not np.isfinite(values).all():
                raise ValueError("sketch has entries that are NaN or inf; a sketch must be finite")

    @property
    def shape(self) -> tuple[int, int]:
        return self.height, self._columns

    def more(self, height: int, rng: np.random.Generator) -> "Embedding":
        raise ValueError(
            f"the sketch that was given has {self.height} rows and cannot grow, and the tolerance needs {height} more; "
            'pass one with more rows, rank= in place of tol=, or the name of a sketch that grows, as sketch="sparse"'
        )

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(getattr(self.operator if self.matrix is None else self.matrix, "dtype", None) or np.float64)

    def fits(self, dtype) -> None:
        """Refuse a complex sketch of a real matrix: its coefficients would be complex."""
        if self.dtype.kind == "c" and np.dtype(dtype).kind != "c":
            raise TypeError(
                f"sketch is {self.dtype}, but A is {dtype}; pass a real sketch, such as np.vstack([S.real, S.imag])"
            )

    def block(self, start: int, stop: int) -> np.ndarray:
        if self.matrix is not None:
            part = self.matrix[start:stop]
            return np.asarray(part.toarray() if hasattr(part, "toarray") else part)
        return self._entries[start:stop]

    @property
    def _entries(self) -> np.ndarray:
        """S of an object without entries, by products with the unit vectors; made once."""
        if not hasattr(self, "_made"):
            m = self.shape[1]
            eye = [np.eye(m, min(UNITS, m - j), -j) for j in range(0, m, UNITS)]
            self._made = np.hstack([self._apply(E) for E in eye] or [np.empty(self.shape)])
        return self._made

    def _apply(self, block: np.ndarray) -> np.ndarray:
        found = np.asarray(self.operator @ block)
        if found.shape != (self.height, block.shape[1]):
            raise ValueError(
                f"sketch @ X returned shape {found.shape} for X of shape {block.shape}; "
                f"expected {(self.height, block.shape[1])}"
            )
        if found.dtype.kind == "c" and self.dtype.kind != "c":
            raise TypeError("sketch @ X is complex for a real X; pass a real sketch")
        return found

    def sweep(self, probes: np.ndarray | None, fill: Fill, n: int, dtype, *, workers: int, tile=None) -> Sketch:
        S: Any = self._entries if self.matrix is None and self.dtype.kind == "c" else self.matrix
        if S is None:
            return by_columns(self.shape, self._apply, probes, fill, n, dtype, workers)

        def panel(i: int, e: int) -> Any:
            part = S[:, i:e]
            return part.toarray() if hasattr(part, "toarray") else part

        if S.dtype.kind != "c":
            return by_panels(self.shape, panel, probes, fill, n, dtype, workers)

        def both(i: int, e: int) -> np.ndarray:
            part = panel(i, e)
            return np.vstack([part.real, part.imag])  # a complex S is two real ones, one below the other

        d, m = self.shape
        found = by_panels((2 * d, m), both, probes, fill, n, dtype, workers)
        return Sketch(found.Y[:d] + found.Y.dtype.type(1j) * found.Y[d:], found.W, found.squared_norms)
