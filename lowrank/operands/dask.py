"""dask arrays: a pass is one graph of tasks, on whatever scheduler the user has; never loaded as a whole."""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from lowrank._threads import blas_threads
from lowrank.sketching import Embedding, Sketch, SparseStack

from .base import Counter, Operand
from .blocked import Running, split, squared_norms, stacked
from .dense import readable

FAN = 8  # partial results that one task adds: fixed, so that sums have one order whatever runs when


class Dask(Operand):
    """A two-dimensional dask array with known chunks.

    Each block gives its part of the sketch, of the probes and of the norms; parts are added in a tree of fixed
    shape, so that one seed gives one answer on threads, processes and clusters, and a scheduler never holds more than a
    few blocks. The chosen columns come as a numpy array of (m, k), so that a result neither keeps the graph nor reads A
    again; ``A[:, f.indices]`` is the same part, lazily. `workers` is left to the scheduler: set it there.

    Complexity
    ----------
    Memory: a block for each worker of the scheduler, and (d + p + 1) numbers a column for each block under way.
    """

    kind = "dask array"
    reads = "dask arrays with known chunks"

    def __init__(self, A: Any, counter: Counter | None = None, factor: float = 1.0):
        if A.ndim != 2:
            raise ValueError(f"A has shape {A.shape}; expected two dimensions, so reshape it to a matrix")
        if any(np.isnan(size) for axis in A.chunks for size in axis):
            raise ValueError(
                f"A is a dask array of unknown shape {A.shape}; call A.compute_chunk_sizes() first, or make it with "
                "to_dask_array(lengths=True)"
            )
        self.dtype, self.notes = readable(np.dtype(A.dtype))
        self.A, self.factor, self.counter = A, factor, counter or Counter()
        self.shape = int(A.shape[0]), int(A.shape[1])

    @classmethod
    def accepts(cls, A) -> bool:
        array = sys.modules.get("dask.array")
        return array is not None and isinstance(A, array.Array)

    @property
    def T(self) -> "Dask":
        return Dask(self.A.T, self.counter, self.factor)

    def scaled(self, factor: float) -> "Dask":
        return Dask(self.A, self.counter, factor * self.factor)

    # --- graphs ---

    def _compute(self, task: Any) -> Any:
        import dask

        with blas_threads(
            1
        ):  # the scheduler's threads are the parallel ones; workers elsewhere have limits of their own
            return dask.compute(task)[0]

    def _edges(self, axis: int) -> list[tuple[int, int]]:
        ends = np.cumsum(self.A.chunks[axis])
        return [(int(e) - int(c), int(e)) for e, c in zip(ends, self.A.chunks[axis], strict=True) if c]

    def _blocks(self) -> list[list[Any]]:
        """The blocks that have entries, as delayed objects, row by row."""
        keep = [[i for i, size in enumerate(axis) if size] for axis in self.A.chunks]
        return [[row[j] for j in keep[1]] for row in (self.A.to_delayed()[i] for i in keep[0])]

    def _summed(self, parts: list[Any], add: Callable) -> Any:
        """The parts added in a tree of fan FAN, in their order."""
        import dask

        add = dask.delayed(add, pure=False)
        while len(parts) > 1:
            parts = [add(parts[i : i + FAN]) for i in range(0, len(parts), FAN)]
        return parts[0]

    def _prepare(self):
        """A function of a block as it comes that returns an array to compute with."""
        return _Prepared(self.dtype, self.factor)

    # --- verbs ---

    def _sketch(self, S: SparseStack, probes: np.ndarray | None, workers: int) -> Sketch:
        import dask

        m, n = self.shape
        p = 0 if probes is None else len(probes)
        if m == 0 or n == 0:
            return Sketch(np.zeros((S.height, n), self.dtype), np.zeros((p, n), self.dtype), np.zeros(n))
        part = dask.delayed(_part, pure=False)
        rows = self._edges(0)
        # a block of rows and its share of S: one object in the graph for all blocks beside one another
        stacks = [dask.delayed(SparseStack(S.rows[i:e], S.signs[i:e], S.height), pure=False) for i, e in rows]
        omega = [dask.delayed(None if probes is None else probes[:, i:e], pure=False) for i, e in rows]
        grid, prepare = self._blocks(), self._prepare()
        strips = [
            self._summed([part(line[j], stacks[i], omega[i], prepare) for i, line in enumerate(grid)], _add_each)
            for j in range(len(grid[0]))
        ]
        found = self._compute(strips)
        return Sketch(*(np.concatenate([strip[i] for strip in found], axis=-1) for i in range(3)))

    def _sketch_by(self, S: Embedding, probes: np.ndarray | None, workers: int) -> Sketch:
        product, norms = self._product(stacked(S, probes, self.dtype))
        return split(product, S.height, norms)

    def _rmatmat(self, X: np.ndarray, workers: int) -> np.ndarray:
        return self._product(X)[0]

    def _product(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """``A^H X`` and the squared column norms of A."""
        import dask

        if 0 in self.shape:
            n = self.shape[1]
            return np.zeros((n, X.shape[1]), np.result_type(self.dtype, X.dtype)), np.zeros(n)
        product = dask.delayed(_adjoint_product, pure=False)
        shares = [dask.delayed(X[i:e], pure=False) for i, e in self._edges(0)]
        grid, prepare = self._blocks(), self._prepare()
        strips = [
            self._summed([product(line[j], shares[i], prepare) for i, line in enumerate(grid)], _add_each)
            for j in range(len(grid[0]))
        ]
        found = self._compute(strips)
        return np.concatenate([strip[0] for strip in found]), np.concatenate([strip[1] for strip in found])

    def _take(self, rows: Any, columns: Any) -> np.ndarray:
        part = self.A
        if not _everything(columns, self.shape[1]):
            part = part[:, columns]
        if not _everything(rows, self.shape[0]):
            part = part[rows]
        return self._prepare()(self._compute(part))

    def _columns(self, J: np.ndarray, workers: int) -> np.ndarray:
        return np.ascontiguousarray(self._take(slice(0, self.shape[0]), J))

    def _fill(self, rows, columns, out: np.ndarray) -> None:
        np.copyto(out, self._take(rows, columns))

    def diagonal(self) -> np.ndarray:
        import dask.array

        self._served(min(self.shape))
        return self._prepare()(self._compute(dask.array.diagonal(self.A)))

    def largest(self) -> float:
        import dask

        if 0 in self.shape:
            return 0.0
        look = dask.delayed(_look, pure=False)
        grid, prepare = self._blocks(), self._prepare()
        found = [
            look(block, i, j, prepare)
            for line, (i, _) in zip(grid, self._edges(0), strict=True)
            for block, (j, _) in zip(line, self._edges(1), strict=True)
        ]
        best, wrong = self._compute(self._summed(found, _worst))
        if wrong is not None:
            raise ValueError(
                f"A[{wrong[0]}, {wrong[1]}] is {wrong[2]}; lowrank needs finite entries, so remove or impute them first"
            )
        return best


class _Prepared:
    """Makes an array of the dtype to compute in out of a block; an object, so that it travels to workers."""

    def __init__(self, dtype: np.dtype, factor: float):
        self.dtype, self.factor = dtype, factor

    def __call__(self, block: Any) -> np.ndarray:
        if not isinstance(block, np.ndarray):
            kind = f"{type(block).__module__}.{type(block).__qualname__}"
            raise TypeError(
                f"the blocks of A are {kind}, not numpy arrays; map them first, as A.map_blocks(np.asarray)"
            )
        block = block.astype(self.dtype, copy=False)
        return block if self.factor == 1.0 else block * block.dtype.type(self.factor)


def _everything(index: Any, size: int) -> bool:
    return isinstance(index, slice) and index.start == 0 and index.stop == size


def _part(block: Any, stack: SparseStack, omega: np.ndarray | None, prepare: _Prepared) -> tuple:
    """What one block adds to the sketch of its columns."""
    block = prepare(block)
    running = Running(stack, omega, block.shape[1], block.dtype, workers=1)
    with np.errstate(over="ignore", invalid="ignore"):  # non-finite sums are judged by the caller
        running.add(slice(0, len(block)), slice(0, block.shape[1]), block)
    found = running.result()
    return found.Y, found.W, found.squared_norms


def _add_each(parts: list[tuple]) -> tuple:
    with np.errstate(over="ignore", invalid="ignore"):
        return tuple(_add([part[i] for part in parts]) for i in range(len(parts[0])))


def _add(parts: list[np.ndarray]) -> np.ndarray:
    total = parts[0].copy()
    for part in parts[1:]:
        total += part
    return total


def _adjoint_product(block: Any, X: np.ndarray, prepare: _Prepared) -> tuple[np.ndarray, np.ndarray]:
    block = prepare(block)
    with np.errstate(over="ignore", invalid="ignore"):
        return block.conj().T @ X, squared_norms(block)


def _look(block: Any, i: int, j: int, prepare: _Prepared) -> tuple:
    """(largest part, first position that is not finite, or None) of the block whose corner is (i, j)."""
    block = prepare(block)
    finite = np.isfinite(block)
    if finite.all():
        return max(float(np.abs(part).max()) for part in (block.real, block.imag)), None
    row, column = (int(x) for x in np.argwhere(~finite)[0])
    return 0.0, (i + row, j + column, block[row, column])


def _worst(parts: list[tuple]) -> tuple:
    positions = [wrong for _, wrong in parts if wrong is not None]
    return max(best for best, _ in parts), min(positions, key=lambda at: at[:2]) if positions else None
