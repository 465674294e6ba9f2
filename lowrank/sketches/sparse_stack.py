"""The sparse stack: four entries of +-1/2 in each column, applied panel by panel in a compiled loop."""

from dataclasses import dataclass

import numpy as np

from lowrank._threads import blas_threads, thread_map

from .base import Embedding, Fill, Sketch

STRIP = 768  # bytes of a row that a thread works on: the sketch of so many columns stays in L2
ZETA = 4  # non-zeros in each column of S; 4 x (1/2)^2 = 1 keeps norms, and halving is exact in binary


@dataclass(frozen=True, eq=False)
class SparseStack(Embedding):
    r"""A (d, m) map with four entries of +-1/2 in each column, one in each of four stacked hash blocks.

    .. math:: E \|S x\|^2 = \|x\|^2

    for every x, at four additions for each entry of A whatever d is: the default.

    Parameters
    ----------
    rows : (m, 4) where the entries of each column stand.
    signs : (m, 4) the entries themselves.
    height : d, a multiple of four.

    Complexity
    ----------
    ``S A`` costs 4 m n additions, and 4 nnz for a sparse A.

    References
    ----------
    Cohen, Nelson and Woodruff (2016), Optimal approximate matrix product in terms of stable rank, doi
    10.4230/LIPIcs.ICALP.2016.11 (the stack of independent hash blocks).
    Tropp, Yurtsever, Udell and Cevher (2019), Streaming low-rank matrix approximation, doi 10.1137/18M1201068
    (sparse sign maps in this setting, section 3.3).

    Examples
    --------
    >>> import numpy as np, lowrank as lr
    >>> S = lr.SparseStack.draw(400, 1000, np.random.default_rng(7))
    >>> S.shape, float(np.linalg.norm(S @ np.eye(1000)[3]))
    ((400, 1000), 1.0)
    """

    rows: np.ndarray
    signs: np.ndarray
    height: int

    name = "sparse"

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
        return (
            starts,
            (order // self.rows.shape[1]).astype(np.int32),
            self.signs[start:stop].ravel()[order].astype(dtype),
        )

    def more(self, height: int, rng: np.random.Generator) -> "SparseStack":
        return type(self).draw(height, len(self.rows), rng)

    def beside(self, height: int, rng: np.random.Generator) -> "SparseStack":
        """This stack with one more hash block of `height` rows, of entries +-1, below it: two sketches in one pass."""
        drawn = rng.integers(0, 2 * height, size=(len(self.rows), 1), dtype=np.int32)
        rows = np.hstack([self.rows, self.height + drawn // 2])
        signs = np.hstack([self.signs, 1.0 - 2.0 * (drawn % 2)])
        return type(self)(rows, signs, self.height + height)

    def block(self, start: int, stop: int) -> np.ndarray:
        out = np.zeros((stop - start, len(self.rows)))
        member, slot = np.nonzero((self.rows >= start) & (self.rows < stop))
        out[self.rows[member, slot] - start, member] = self.signs[member, slot]
        return out

    def sweep(self, probes: np.ndarray | None, fill: Fill, n: int, dtype, *, workers: int, tile=None) -> Sketch:
        """One pass over an m x n matrix: its sparse sketch, its Gaussian probes and its column norms.

        `tile` = (rows, columns) of a panel, (1024, 1024) unless said, and `workers` change the time only: every sum
        runs over the rows of A in ascending order, and panels are cut at the same rows.
        """
        from lowrank._kernels import add_products, gather_signed

        m = self.shape[1]
        dtype = np.dtype(dtype)
        real = dtype.type(0).real.dtype
        parts = dtype.itemsize // real.itemsize  # a complex column is two real ones
        p = 0 if probes is None else len(probes)
        Y = np.zeros((self.height, parts * n), dtype=real)
        W = np.zeros((p, parts * n), dtype=real)
        norms = np.zeros(parts * n)
        rows, wide = tile or (1024, 1024)
        width = max(1, min(wide // parts, -(-n // max(workers, 1))))
        panels = [(i, min(i + rows, m)) for i in range(0, m, rows)]
        plans = [(slice(i, e), *self.buckets(i, e, real)) for i, e in panels]
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
                    add_products(flat, high, right - left, omega[step], W, left)

        with blas_threads(1), np.errstate(over="ignore", invalid="ignore"):  # non-finite sums are judged by the caller
            thread_map(strip, range(0, n, width), workers)
        return Sketch(Y.view(dtype), W.view(dtype), norms.reshape(n, parts).sum(axis=1))

    def sweep_rows(self, A: np.ndarray, *, workers: int) -> Sketch:
        """As `sweep` without probes, to the last bit, where A stands in memory row after row: nothing is packed."""
        from lowrank._kernels import sketch_strip

        m, n = A.shape
        real = A.dtype.type(0).real.dtype
        parts = A.dtype.itemsize // real.itemsize
        wide = parts * n
        flat, signs = A.view(real).reshape(-1), self.signs.astype(real)
        Y, norms = np.empty((self.height, wide), real), np.zeros(wide)
        width = STRIP // real.itemsize

        def strip(j: int) -> None:
            stop = min(j + width, wide)
            part = np.zeros((self.height, stop - j), real)
            sketch_strip(flat, j, wide, m, stop - j, self.rows, signs, part, norms[j:stop])
            Y[:, j:stop] = part

        with np.errstate(over="ignore", invalid="ignore"):
            thread_map(strip, range(0, wide, width), workers)
        return Sketch(Y.view(A.dtype), np.empty((0, n), A.dtype), norms.reshape(n, parts).sum(axis=1))
