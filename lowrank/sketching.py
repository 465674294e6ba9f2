"""Random sketches S A: the sparse stack, applied panel by panel to anything that can fill a panel with entries.

References
----------
Cohen, Nelson and Woodruff (2016), Optimal approximate matrix product in terms of stable rank, doi
10.4230/LIPIcs.ICALP.2016.11 (the stack of independent hash blocks).
Tropp, Yurtsever, Udell and Cevher (2019), Streaming low-rank matrix approximation, doi 10.1137/18M1201068
(sparse sign maps in this setting, section 3.3).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ._threads import blas_threads, thread_map

ZETA = 4  # non-zeros in each column of S; 4 x (1/2)^2 = 1 keeps norms, and halving is exact in binary


@dataclass(frozen=True, eq=False)
class SparseStack:
    """A (d, m) map with four entries of +-1/2 in each column, one in each of four stacked hash blocks.

    ``E ||S x||^2 = ||x||^2`` for every x. `rows` (m, 4) holds where each column's entries stand, `signs` (m, 4) the
    entries themselves.
    """

    rows: np.ndarray
    signs: np.ndarray
    height: int

    @classmethod
    def draw(cls, height: int, m: int, rng: np.random.Generator) -> "SparseStack":
        """A random stack of at least `height` rows (rounded up to a multiple of four) for matrices with m rows."""
        block = -(-max(height, ZETA) // ZETA)
        rows = rng.integers(0, block, size=(m, ZETA), dtype=np.int32) + block * np.arange(ZETA, dtype=np.int32)
        signs = rng.integers(0, 2, size=(m, ZETA), dtype=np.int8) - 0.5
        return cls(rows, signs, ZETA * block)

    @property
    def shape(self) -> tuple[int, int]:
        return self.height, len(self.rows)

    def buckets(self, start: int, stop: int, dtype) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Columns ``start:stop`` of S stored by rows: bounds, members counted from `start`, signs."""
        flat = self.rows[start:stop].ravel()
        short = flat.astype(np.uint16) if self.height <= 1 << 16 else flat  # numpy sorts 16 bits by radix
        order = np.argsort(short, kind="stable")  # stable: members ascend within a bucket
        starts = np.zeros(self.height + 1, dtype=np.int64)
        np.cumsum(np.bincount(flat, minlength=self.height), out=starts[1:])
        return starts, (order // ZETA).astype(np.int32), self.signs[start:stop].ravel()[order].astype(dtype)

    def to_dense(self) -> np.ndarray:
        """S itself, for tests and small problems."""
        S = np.zeros(self.shape)
        np.put_along_axis(S.T, self.rows.astype(np.int64), self.signs, axis=1)
        return S

    def __matmul__(self, A: np.ndarray) -> np.ndarray:
        """S A for a small dense A."""
        A = np.asarray(A)

        def fill(rows: slice, columns: slice, out: np.ndarray) -> None:
            np.copyto(out, A[rows, columns])

        return sweep(self, None, fill, A.shape[1], A.dtype, workers=1).Y


@dataclass(frozen=True, eq=False)
class Sketch:
    """What one pass over A leaves: ``Y = S A`` (d, n), ``W = Omega A`` (p, n), squared column norms (n,)."""

    Y: np.ndarray
    W: np.ndarray
    squared_norms: np.ndarray

    @property
    def squared_norm(self) -> float:
        return float(self.squared_norms.sum())


def sweep(
    stack: SparseStack,
    probes: np.ndarray | None,
    fill: Callable[[slice, slice, np.ndarray], None],
    n: int,
    dtype,
    *,
    workers: int,
    tile: tuple[int, int] = (1024, 1024),
) -> Sketch:
    """One pass over an m x n matrix: its sparse sketch, its Gaussian probes and its column norms.

    ``fill(rows, columns, out)`` writes a tile of A into `out`. `tile` = (rows, columns) of a panel and `workers`
    change the time only: every sum runs over the rows of A in ascending order, and panels are cut at the same rows.
    """
    from ._kernels import gather_signed

    m = stack.shape[1]
    dtype = np.dtype(dtype)
    real = dtype.type(0).real.dtype
    parts = dtype.itemsize // real.itemsize  # a complex column is two real ones
    p = 0 if probes is None else len(probes)
    Y = np.zeros((stack.height, parts * n), dtype=real)
    W = np.zeros((p, parts * n), dtype=real)
    norms = np.zeros(parts * n)
    rows, width = tile[0], max(1, min(tile[1] // parts, -(-n // max(workers, 1))))
    panels = [(i, min(i + rows, m)) for i in range(0, m, rows)]
    plans = [(slice(i, e), *stack.buckets(i, e, real)) for i, e in panels]
    omega = [] if probes is None else [np.ascontiguousarray(probes[:, i:e], dtype=real) for i, e in panels]

    def strip(j: int) -> None:
        stop = min(j + width, n)
        left, right = parts * j, parts * stop
        buffer = np.empty((min(rows, m), stop - j + 8), dtype=dtype)
        flat = buffer.view(real)
        for step, (where, starts, members, signs) in enumerate(plans):
            high = where.stop - where.start
            fill(where, slice(j, stop), buffer[:high, : stop - j])
            gather_signed(flat, high, right - left, starts, members, signs, Y, left, norms)
            if p:
                W[:, left:right] += omega[step] @ flat[:high, : right - left]

    with blas_threads(1), np.errstate(over="ignore", invalid="ignore"):  # non-finite sums are judged by the caller
        thread_map(strip, range(0, n, width), workers)
    return Sketch(Y.view(dtype), W.view(dtype), norms.reshape(n, parts).sum(axis=1))
