"""What every kind of matrix offers: shape, dtype and five verbs, each of which counts the entries that it served."""

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from lowrank.sketching import Embedding, Sketch, SparseStack, sweep


class Counter:
    """Entries served so far, shared by an operand and its transpose; `tick` hears of each block of a long pass."""

    def __init__(self):
        self.entries = 0
        self.copied = 0  # bytes that came from an accelerator
        self.tick: Callable[[int, int], None] | None = None


class Operand:
    """A matrix seen through five verbs: `sketch`, `columns`, `rows`, `entries`, `matmat` with `rmatmat`.

    A new kind defines `shape`, `dtype`, `reads`, `accepts`, `wrap`, `T`, and ``_fill(rows, columns, out)``, which
    writes ``A[rows, columns]`` (each a slice or an index array) into `out`; the verbs follow from it. A kind
    with something faster overrides the underscored verb.
    """

    kind: str = "matrix"
    reads: ClassVar[str] = "nothing"
    shape: tuple[int, int]
    dtype: np.dtype
    notes: tuple[str, ...] = ()
    counter: Counter
    tile: tuple[int, int] = (1024, 1024)
    in_blocks: ClassVar[bool] = False  # whether passes are long and tell `counter.tick` of their blocks
    hashed: ClassVar[bool] = False  # whether a few hundred more rows of a sparse sketch cost less than Gaussian probes
    tabled: ClassVar[bool] = False  # whether `_sketch` takes the probes of a long matrix as a table
    turned: bool = False  # whether this is the transpose of what the user passed, whose positions errors name

    @classmethod
    def accepts(cls, A: Any) -> bool:
        return False

    @classmethod
    def wrap(cls, A: Any) -> "Operand":
        return cls(A)  # type: ignore[call-arg]

    @property
    def T(self) -> "Operand":
        """The transpose (no conjugation), which shares the counter."""
        raise self._unsupported("a transpose", "column_id, nystrom")

    def _fill(self, rows, columns, out: np.ndarray) -> None:
        raise self._unsupported("entries", "nothing")

    def _unsupported(self, verb: str, working: str) -> NotImplementedError:
        return NotImplementedError(f"a {self.kind} has no {verb}; what works with it: {working}")

    @property
    def entries_read(self) -> int:
        return self.counter.entries

    @property
    def size(self) -> int:
        """Entries that one pass over the matrix reads."""
        return self.shape[0] * self.shape[1]

    def _served(self, count: int) -> None:
        self.counter.entries += int(count)

    # --- the verbs ---

    def sketch(self, S: Embedding, probes: Any = None, *, workers: int = 1) -> Sketch:
        """``S A``, ``probes A`` and the squared column norms, in one pass over A. For A S take the sketch of `T`."""
        if S.shape[1] != self.shape[0]:
            raise ValueError(f"the sketch is for {S.shape[1]} rows, but A has shape {self.shape}")
        self._served(self.size)
        if isinstance(S, SparseStack):
            return self._sketch(S, probes, workers)
        return self._sketch_by(S, probes, workers)

    def columns(self, J: np.ndarray, *, workers: int = 1) -> np.ndarray:
        """``A[:, J]`` as a new array."""
        self._served(self.shape[0] * len(J))
        return self._columns(np.asarray(J), workers)

    def rows(self, J: np.ndarray, *, workers: int = 1) -> np.ndarray:
        """``A[J, :]`` as a new array."""
        self._served(self.shape[1] * len(J))
        out = np.empty((len(J), self.shape[1]), dtype=self.dtype)
        self._fill(np.asarray(J), slice(0, self.shape[1]), out)
        return out

    def keep_columns(self, J: np.ndarray, *, workers: int = 1) -> Any:
        """``A[:, J]`` as a result keeps it: sparse where A is sparse, else an array."""
        return self.columns(J, workers=workers)

    def keep_rows(self, J: np.ndarray, *, workers: int = 1) -> Any:
        """``A[J, :]`` as a result keeps it: sparse where A is sparse, else an array."""
        return self.rows(J, workers=workers)

    def entries(self, rows, columns) -> np.ndarray:
        """The block ``A[rows][:, columns]`` as a new array."""
        self._served(len(rows) * len(columns))
        out = np.empty((len(rows), len(columns)), dtype=self.dtype)
        self._fill(np.asarray(rows), np.asarray(columns), out)
        return out

    def diagonal(self) -> np.ndarray:
        """The diagonal of a square A."""
        n = min(self.shape)
        self._served(n)
        return np.array([self._one(i) for i in range(n)], dtype=self.dtype)

    def matmat(self, X: np.ndarray, *, workers: int = 1) -> np.ndarray:
        """``A X`` for X of shape (n, c)."""
        return self.T.rmatmat(np.conj(X), workers=workers).conj()

    def rmatmat(self, X: np.ndarray, *, workers: int = 1) -> np.ndarray:
        """``A^H X`` for X of shape (m, c)."""
        self._served(self.size)
        return self._rmatmat(X, workers)

    # --- what a kind may replace ---

    def _sketch(self, S: SparseStack, probes: np.ndarray | None, workers: int) -> Sketch:
        return sweep(S, probes, self._fill, self.shape[1], self.dtype, workers=workers, tile=self.tile)

    def _sketch_by(self, S: Embedding, probes: np.ndarray | None, workers: int) -> Sketch:
        """As `_sketch`, for any other sketch."""
        return sweep(S, probes, self._fill, self.shape[1], self.dtype, workers=workers, tile=self.tile)

    def _columns(self, J: np.ndarray, workers: int) -> np.ndarray:
        out = np.empty((self.shape[0], len(J)), dtype=self.dtype)
        self._fill(slice(0, self.shape[0]), J, out)
        return out

    def _rmatmat(self, X: np.ndarray, workers: int) -> np.ndarray:
        m, n = self.shape
        high = max(1, min(m, (1 << 22) // max(n, 1)))
        total = np.zeros((n, X.shape[1]), dtype=np.result_type(self.dtype, X.dtype))
        buffer = np.empty((high, n), dtype=self.dtype)
        for i in range(0, m, high):
            stop = min(i + high, m)
            self._fill(slice(i, stop), slice(0, n), buffer[: stop - i])
            total += buffer[: stop - i].conj().T @ X[i:stop]
        return total

    def _one(self, i: int):
        out = np.empty((1, 1), dtype=self.dtype)
        self._fill(slice(i, i + 1), slice(i, i + 1), out)
        return out[0, 0]

    def largest(self) -> float:
        """max |a_ij|; where A is not finite, an error that names the first such position."""
        m, n = self.shape
        high = max(1, min(m, (1 << 22) // max(n, 1)))
        buffer = np.empty((min(high, m), n), dtype=self.dtype)
        best = 0.0
        for i in range(0, m, high):
            block = buffer[: min(i + high, m) - i]
            self._fill(slice(i, i + len(block)), slice(0, n), block)
            if not np.isfinite(block).all():
                row, column = (int(x) for x in np.argwhere(~np.isfinite(block))[0])
                raise self._not_finite(i + row, column, block[row, column])
            if block.size:
                best = max(best, float(np.abs(np.real(block)).max()), float(np.abs(np.imag(block)).max()))
        return best

    def _not_finite(self, row: int, column: int, value) -> ValueError:
        place = f"{column}, {row}" if self.turned else f"{row}, {column}"
        return ValueError(f"A[{place}] is {value}; lowrank needs finite entries, so remove or impute them first")

    def _turned(self, other: "Operand") -> "Operand":
        """`other`, marked as the transpose of this one."""
        other.turned = not self.turned
        return other

    def scaled(self, factor: float) -> "Operand":
        """``factor * A``, where squares of the entries would leave the range of floating point."""
        return Scaled(self, factor)


class Scaled(Operand):
    """``factor * A`` with A's own counter; multiplied tile by tile, never stored."""

    def __init__(self, base: Operand, factor: float):
        self.base, self.factor = base, factor
        self.kind, self.shape, self.dtype, self.tile = base.kind, base.shape, base.dtype, base.tile
        self.counter, self.notes, self.turned = base.counter, base.notes, base.turned

    @property
    def T(self) -> "Operand":
        return Scaled(self.base.T, self.factor)

    def _fill(self, rows, columns, out: np.ndarray) -> None:
        self.base._fill(rows, columns, out)
        out *= out.dtype.type(self.factor)
