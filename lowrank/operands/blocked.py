"""Matrices that are read by slices and need not fit into memory: memory maps, zarr, h5py, and what looks like them."""

import math
import mmap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

import numpy as np

from lowrank._threads import blas_threads, thread_map
from lowrank.sketching import Embedding, Sketch, SparseStack

from .base import Counter, Operand
from .dense import readable

BLOCK = 1 << 25  # bytes read at a time, unless one chunk is larger; two blocks are alive, one read and one worked on
PANEL = 1024  # rows at which sums over probes are cut, wherever the blocks end: then an array and a file agree to a bit
STRIP = 256  # columns that a thread works on at a time
NARROW = 64  # columns of a block where columns are contiguous; its runs of 2^16 rows are long enough for any disk


class Blocked(Operand):
    """An array with ``shape``, ``dtype``, ``ndim`` and two-dimensional slicing, read block by block, one ahead.

    Blocks are whole chunks (``shards`` or ``chunks`` of the array, where it has them), else rows or columns in the
    order of storage; each pass over A reads each chunk once. Chosen columns and rows are gathered chunk by chunk.
    Sums run over ascending rows as they do in memory: one seed gives the indices and the sketched coefficients of the
    array that the file holds, to the last bit.

    Complexity
    ----------
    Memory: two blocks of 32 MB (or of one chunk) beside what a verb returns.
    """

    kind = "blocked array"
    in_blocks = True
    hashed = True
    reads = "zarr arrays, h5py datasets and other arrays that are read by two-dimensional slices"

    def __init__(self, A: Any, counter: Counter | None = None, *, transposed: bool = False, factor: float = 1.0):
        if A.ndim != 2:
            raise ValueError(f"A has shape {tuple(A.shape)}; expected two dimensions, so reshape it to a matrix")
        self.dtype, self.notes = readable(np.dtype(A.dtype))
        self.A, self.transposed, self.factor = A, transposed, factor
        m, n = (int(x) for x in A.shape)
        self.shape = (n, m) if transposed else (m, n)
        self.chunk, self.block = _layout(A, (m, n), self.dtype.itemsize, transposed)
        self.counter = counter or Counter()

    @classmethod
    def accepts(cls, A) -> bool:
        if isinstance(A, (np.ndarray, np.generic)):
            return False
        return all(hasattr(A, name) for name in ("shape", "dtype", "ndim", "__getitem__")) and _has_dtype(A.dtype)

    @property
    def T(self) -> "Blocked":
        return type(self)(self.A, self.counter, transposed=not self.transposed, factor=self.factor)

    def scaled(self, factor: float) -> "Blocked":
        return type(self)(self.A, self.counter, transposed=self.transposed, factor=factor * self.factor)

    # --- reading ---

    def _load(self, rows: slice, columns: slice) -> np.ndarray:
        """``A[rows, columns]`` in A's own dtype, in memory after this call."""
        try:
            part = np.asarray(self.A[columns, rows] if self.transposed else self.A[rows, columns])
        except Exception as problem:
            where = f"A[{rows.start}:{rows.stop}, {columns.start}:{columns.stop}]"
            problem.add_note(f"while lowrank read {where}{' of the transpose' * self.transposed}")
            raise
        part = part.T if self.transposed else part
        expected = rows.stop - rows.start, columns.stop - columns.start
        if part.shape != expected:
            kind = f"{type(self.A).__module__}.{type(self.A).__qualname__}"
            raise TypeError(f"a slice of the {kind} A came as shape {part.shape}, not {expected}; convert A to numpy")
        return part

    def _release(self, block: np.ndarray) -> None:
        """Called when `block` has been used."""

    def _converted(self, part: np.ndarray) -> np.ndarray:
        part = part.astype(self.dtype, copy=False)
        return part if self.factor == 1.0 else part * part.dtype.type(self.factor)

    def _blocks(self) -> Iterator[tuple[slice, slice, np.ndarray]]:
        """One pass: strips of columns, and the rows of each ascending; the next block is read ahead.

        Leaving the loop for whatever reason, Ctrl-C among them, waits for the block that is being read and no more.
        """
        (m, n), (high, wide) = self.shape, self.block
        at = [
            (slice(i, min(i + high, m)), slice(j, min(j + wide, n)))
            for j in range(0, n, wide)
            for i in range(0, m, high)
        ]
        if not at:
            return
        with ThreadPoolExecutor(1) as reader:
            following = reader.submit(self._load, *at[0])
            for step, (rows, columns) in enumerate(at):
                block = following.result()
                if step + 1 < len(at):
                    following = reader.submit(self._load, *at[step + 1])
                yield rows, columns, self._converted(block)
                self._release(block)
                if self.counter.tick is not None:
                    self.counter.tick(step + 1, len(at))

    # --- the verbs ---

    def _sketch(self, S: SparseStack, probes: np.ndarray | None, workers: int) -> Sketch:
        running = Running(S, probes, self.shape[1], self.dtype, workers)
        with blas_threads(1), np.errstate(over="ignore", invalid="ignore"):  # non-finite sums are judged by the caller
            for rows, columns, block in self._blocks():
                running.add(rows, columns, block)
        return running.result()

    def _sketch_by(self, S: Embedding, probes: np.ndarray | None, workers: int) -> Sketch:
        norms = np.zeros(self.shape[1])
        return split(self._rmatmat(stacked(S, probes, self.dtype), workers, norms), S.height, norms)

    def _rmatmat(self, X: np.ndarray, workers: int, norms: np.ndarray | None = None) -> np.ndarray:
        out = np.zeros((self.shape[1], X.shape[1]), dtype=np.result_type(self.dtype, X.dtype))
        with blas_threads(1), np.errstate(over="ignore", invalid="ignore"):
            for rows, columns, block in self._blocks():
                left = np.ascontiguousarray(X[rows].conj().T)

                def strip(j: int, columns=columns, block=block, left=left) -> None:
                    at = slice(j, min(j + STRIP, columns.stop))
                    part = block[:, at.start - columns.start : at.stop - columns.start]
                    if part.strides[1] != part.itemsize:  # the order of the sums of the array in memory
                        part = np.ascontiguousarray(part)
                    out[at] += (left @ part).conj().T
                    if norms is not None:
                        norms[at] += squared_norms(part)

                thread_map(strip, range(columns.start, columns.stop, STRIP), workers)
        return out

    def _columns(self, J: np.ndarray, workers: int) -> np.ndarray:
        out = np.empty((self.shape[0], len(J)), dtype=self.dtype)
        self._fill(slice(0, self.shape[0]), J, out)
        return out

    def _fill(self, rows, columns, out: np.ndarray) -> None:
        for high, where_i, local_i in _groups(rows, self.chunk[0], self.block[0]):
            for wide, where_j, local_j in _groups(columns, self.chunk[1], self.block[1]):
                part = self._load(high, wide)
                picked = part[local_i][:, local_j] if part.shape[0] <= part.shape[1] else part[:, local_j][local_i]
                target = (where_i, where_j)
                if not (isinstance(where_i, slice) or isinstance(where_j, slice)):
                    target = np.ix_(where_i, where_j)
                out[target] = self._converted(picked)
                self._release(part)

    def diagonal(self) -> np.ndarray:
        n = min(self.shape)
        self._served(n)
        out = np.empty(n, dtype=self.dtype)
        for i in range(0, n, PANEL):
            at = slice(i, min(i + PANEL, n))
            out[at] = self._converted(np.diagonal(self._load(at, at)))
        return out

    def largest(self) -> float:
        best, wrong = 0.0, None
        for rows, columns, block in self._blocks():
            if not np.isfinite(block).all():
                i, j = (int(x) for x in np.argwhere(~np.isfinite(block))[0])
                found = rows.start + i, columns.start + j, block[i, j]
                wrong = found if wrong is None or found[:2] < wrong[:2] else wrong
            elif block.size:
                best = max(best, float(np.abs(np.real(block)).max()), float(np.abs(np.imag(block)).max()))
        if wrong is not None:
            raise ValueError(
                f"A[{wrong[0]}, {wrong[1]}] is {wrong[2]}; lowrank needs finite entries, so remove or impute them first"
            )
        return best


class Mapped(Blocked):
    """A numpy memory map: blocks are views, read ahead by touching their pages and given back to the system after use.

    Without the second the pages of a large file would pile up in the process until memory is short. A map that was
    opened with mode "c" keeps its pages, because they may hold changes that exist nowhere else.
    """

    kind = "memory map"
    reads = "numpy memory maps"

    def __init__(self, A: Any, counter: Counter | None = None, *, transposed: bool = False, factor: float = 1.0):
        super().__init__(A, counter, transposed=transposed, factor=factor)
        self._view = np.asarray(A).T if transposed else np.asarray(A)
        self._map = A._mmap if A.mode != "c" and hasattr(mmap, "MADV_DONTNEED") else None
        self._start = np.frombuffer(A._mmap, np.uint8).ctypes.data if self._map is not None else 0

    @classmethod
    def accepts(cls, A) -> bool:
        return isinstance(A, np.memmap) and getattr(A, "_mmap", None) is not None

    def _load(self, rows: slice, columns: slice) -> np.ndarray:
        block = self._view[rows, columns]
        if block.size and min(block.shape) > 1:  # one entry a page, in the order of the file
            lines = block if abs(block.strides[0]) >= abs(block.strides[1]) else block.T
            step = max(1, mmap.PAGESIZE // max(1, abs(lines.strides[1])))
            np.count_nonzero(lines[:, ::step])
        return block

    def _release(self, block: np.ndarray) -> None:
        if self._map is None or block.size == 0:
            return
        low, high = np.lib.array_utils.byte_bounds(block)
        first = (low - self._start) // mmap.PAGESIZE * mmap.PAGESIZE
        with suppress(OSError, ValueError):  # advice: where the system does not take it, memory is reclaimed later
            self._map.madvise(mmap.MADV_DONTNEED, first, high - self._start - first)


class Running:
    """A sparse sketch, probes and column norms while blocks of A come in, in the sums of `sketching.sweep`."""

    def __init__(self, S: SparseStack, probes: np.ndarray | None, n: int, dtype: np.dtype, workers: int):
        self.S, self.m, self.n, self.dtype, self.workers = S, S.shape[1], n, np.dtype(dtype), workers
        self.real = self.dtype.type(0).real.dtype
        self.parts = self.dtype.itemsize // self.real.itemsize  # a complex column is two real ones
        self.probes = np.zeros((0, self.m), self.real) if probes is None else probes
        wide = self.parts * n
        self.Y, self.W = np.zeros((S.height, wide), self.real), np.zeros((len(self.probes), wide), self.real)
        self.norms = np.zeros(wide)
        self.tail: np.ndarray | None = None  # rows that wait for their panel to fill
        self.plans: dict[int, tuple] = {}
        self.spare: SimpleQueue = SimpleQueue()

    def add(self, rows: slice, columns: slice, block: np.ndarray) -> None:
        start = rows.start
        if self.tail is not None:
            start -= len(self.tail)
            block = np.concatenate([self.tail, block])
        whole = len(block) if rows.stop == self.m else len(block) // PANEL * PANEL
        self.tail = block[whole:].copy() if whole < len(block) else None
        panels = [(i, min(i + PANEL, start + whole)) for i in range(start, start + whole, PANEL)]
        plans = [self._plan(*panel) for panel in panels]

        def strip(j: int) -> None:
            from lowrank._kernels import add_products, gather_signed

            stop = min(j + STRIP, columns.stop)
            left, right = self.parts * j, self.parts * stop
            buffer = np.empty((PANEL, STRIP + 8), self.dtype) if self.spare.empty() else self.spare.get()
            flat = buffer.view(self.real)
            for (i, e), (starts, members, signs, omega) in zip(panels, plans):
                high = e - i
                part = block[i - start : e - start, j - columns.start : stop - columns.start]
                np.copyto(buffer[:high, : stop - j], part)
                gather_signed(flat, high, right - left, starts, members, signs, self.Y, left, self.norms)
                if len(omega):
                    add_products(flat, high, right - left, omega, self.W, left)
            self.spare.put(buffer)

        thread_map(strip, range(columns.start, columns.stop, STRIP), self.workers)

    def _plan(self, i: int, e: int) -> tuple:
        """Buckets and probes of rows ``i:e``, kept for the strips of columns that follow."""
        if i not in self.plans:
            omega = np.ascontiguousarray(self.probes[:, i:e], dtype=self.real)
            self.plans[i] = *self.S.buckets(i, e, self.real), omega
        return self.plans[i]

    def result(self) -> Sketch:
        Y, W = self.Y.view(self.dtype), self.W.view(self.dtype)
        return Sketch(Y, W, self.norms.reshape(self.n, self.parts).sum(axis=1))


def stacked(S: Embedding, probes: np.ndarray | None, dtype: np.dtype) -> np.ndarray:
    """``[S; probes]^H``, with which one product gives a sketch of any kind: d m numbers, and 2 d flops an entry."""
    rows = [S.block(0, S.height)] + ([] if probes is None else [probes])
    return np.concatenate(rows).conj().T.astype(dtype, order="C")


def split(product: np.ndarray, height: int, norms: np.ndarray) -> Sketch:
    """The sketch out of ``A^H [S; probes]^H``."""
    found = product.conj().T
    return Sketch(np.ascontiguousarray(found[:height]), np.ascontiguousarray(found[height:]), norms)


def squared_norms(block: Any) -> np.ndarray:
    """Squared column norms in double precision."""
    parts = [block.real, block.imag] if block.dtype.kind == "c" else [block]
    return np.sum([np.einsum("ij,ij->j", part, part, dtype=np.float64) for part in parts], axis=0)


def _layout(A: Any, shape: tuple[int, int], itemsize: int, transposed: bool) -> tuple[tuple[int, int], tuple[int, int]]:
    """(chunk, block): what is stored together, and the multiple of it that is read at a time; (rows, columns)."""
    m, n = shape
    room = max(1, BLOCK // itemsize)
    stored = getattr(A, "shards", None) or getattr(A, "chunks", None)
    if stored is not None and len(stored) == 2:
        sizes = [max(1, int(c[0] if isinstance(c, tuple) else c)) for c in stored]  # dask and xarray list them all
        chunk = min(sizes[0], max(m, 1)), min(sizes[1], max(n, 1))
        wide = min(max(n, 1), chunk[1] * max(1, min(PANEL // chunk[1], room // (chunk[0] * chunk[1]))))
        high = chunk[0] * max(1, room // (chunk[0] * wide))
    elif isinstance(A, np.ndarray) and abs(A.strides[0]) < abs(A.strides[1]):
        chunk, wide = (max(m, 1), 1), NARROW
        high = max(PANEL, room // wide // PANEL * PANEL)
        if m < high:
            wide, high = max(NARROW, room // max(m, 1)), max(m, 1)
    else:
        chunk, wide = (1, max(n, 1)), max(1, min(n, room // PANEL))
        high = max(PANEL, room // wide // PANEL * PANEL)
    if transposed:
        return (chunk[1], chunk[0]), (wide, high)
    return chunk, (high, wide)


def _groups(index, chunk: int, block: int) -> list[tuple[slice, Any, Any]]:
    """``(slice of A, places in the result, places in the slice)`` for a slice or an index array along one axis.

    A slice is cut into blocks; indices are collected by the chunk that holds them.
    """
    if not isinstance(index, slice) and len(index) and (np.diff(index) == 1).all():
        index = slice(int(index[0]), int(index[-1]) + 1)
    if isinstance(index, slice):
        cuts = range(index.start // block * block, index.stop, block)
        parts = [slice(max(i, index.start), min(i + block, index.stop)) for i in cuts]
        return [(s, slice(s.start - index.start, s.stop - index.start), slice(None)) for s in parts if s.stop > s.start]
    owner = index // chunk
    order = np.argsort(owner, kind="stable")
    bounds = np.flatnonzero(np.diff(owner[order], prepend=-1))
    found = []
    for where in np.split(order, bounds[1:]) if len(order) else []:
        low, high = int(index[where].min()), int(index[where].max()) + 1
        found.append((slice(low, high), where, index[where] - low))
    return found


def _has_dtype(dtype: Any) -> bool:
    try:
        return bool(np.dtype(dtype).itemsize) and math.prod(np.dtype(dtype).shape) == 1
    except TypeError:
        return False
