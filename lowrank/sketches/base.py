"""What every sketching map S offers, and the two ways of applying it to anything that can fill a tile with entries."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lowrank._threads import blas_threads, thread_map

ROWS = 1024  # rows of a panel
STRIP = 512  # real columns that a thread works on; fixed, so that the number of threads changes no bit
STORED = 1 << 22  # entries of S (panels) or of A (whole columns) that are held at a time

Fill = Callable[[slice, slice, np.ndarray], None]


@dataclass(frozen=True, eq=False)
class Sketch:
    """What one pass over A leaves: ``Y = S A`` (d, n), ``W = Omega A`` (p, n), squared column norms (n,)."""

    Y: np.ndarray
    W: np.ndarray
    squared_norms: np.ndarray
    loose: np.ndarray | None = None  # Gram matrix of probes in the directions where the norm is estimated, if it is

    def norm_interval(self, level: float = 0.05) -> tuple[float, float]:
        """Interval of ||A||_F over the square root of `squared_norm`: a point where column norms were read."""
        if self.loose is None or not self.squared_norm > 0:
            return 1.0, 1.0
        from lowrank.certificate import spread

        part = float(np.trace(self.loose)) / len(self.loose) / self.squared_norm
        if not part > 0:
            return 1.0, 1.0
        low, high = (math.sqrt(max(1.0 + part * (x * x - 1.0), 0.0)) for x in spread(self.loose, level))
        return low, high

    @property
    def squared_norm(self) -> float:
        return float(self.squared_norms.sum())


@dataclass(frozen=True, eq=False)
class Tabled:
    """p probes of length m that repeat a few rows: probe t has ``table[index[i], t]`` at i; index is (m,) int32."""

    table: np.ndarray
    index: np.ndarray

    def to_dense(self) -> np.ndarray:
        """The probes as a (p, m) array."""
        return self.table.take(self.index, axis=0).T


class Embedding:
    """A (d, m) linear map that keeps norms in expectation, ``E ||S x||^2 = ||x||^2``.

    A new one defines `height`, `shape`, `block`, `more` and `sweep`; the last is one call of `by_panels` (a product for
    each panel of 1024 rows of A) or of `by_columns` (whole columns at once, as a fast transform needs them).
    """

    name: ClassVar[str] = "sketch"

    height: int  # d

    @property
    def shape(self) -> tuple[int, int]:
        raise NotImplementedError

    def block(self, start: int, stop: int) -> np.ndarray:
        """Rows ``start:stop`` of S as a (stop - start, m) array, for matrices that are known by products alone."""
        raise NotImplementedError

    def more(self, height: int, rng: np.random.Generator) -> "Embedding":
        """`height` further rows: ``[a S; b T]`` keeps norms for T = more(...) and a^2, b^2 their shares of the rows."""
        raise NotImplementedError

    def sweep(self, probes: np.ndarray | None, fill: Fill, n: int, dtype, *, workers: int, tile=None) -> Sketch:
        """``S A``, ``probes A`` and squared column norms in one pass; ``fill(rows, columns, out)`` writes tiles."""
        raise NotImplementedError

    def to_dense(self) -> np.ndarray:
        """S itself, for tests and small problems."""
        return self.block(0, self.height)

    def __matmul__(self, A: np.ndarray) -> np.ndarray:
        """S A for a dense A; integers and booleans are taken as float64."""
        A = np.asarray(A)
        if A.ndim not in (1, 2) or len(A) != self.shape[1]:
            raise ValueError(f"the sketch is for {self.shape[1]} rows, but A has shape {A.shape}")
        wide = (A if A.ndim == 2 else A[:, None]).astype(np.result_type(A, np.float32), copy=False)

        def fill(rows: slice, columns: slice, out: np.ndarray) -> None:
            np.copyto(out, wide[rows, columns])

        return self.sweep(None, fill, wide.shape[1], wide.dtype, workers=1).Y.reshape(self.height, *A.shape[1:])


class _Totals:
    """Y, W and the norms while they grow; a complex column of A is two real ones."""

    def __init__(self, height: int, probes: np.ndarray | None, n: int, dtype):
        self.dtype = np.dtype(dtype)
        self.real = self.dtype.type(0).real.dtype
        self.parts = self.dtype.itemsize // self.real.itemsize
        self.omega = None if probes is None else np.asarray(probes, dtype=self.real)
        self.Y = np.zeros((height, self.parts * n), dtype=self.real)
        self.W = np.zeros((0 if probes is None else len(probes), self.parts * n), dtype=self.real)
        self.norms = np.zeros(self.parts * n)

    def see(self, rows: slice, at: slice, flat: np.ndarray) -> None:
        """Probes and norms of the rows `rows` and real columns `at` of A."""
        if self.omega is not None and len(self.W):
            self.W[:, at] += self.omega[:, rows] @ flat
        self.norms[at] += np.einsum("ij,ij->j", flat, flat, dtype=np.float64)

    def sketch(self) -> Sketch:
        norms = self.norms.reshape(-1, self.parts).sum(axis=1)
        return Sketch(self.Y.view(self.dtype), self.W.view(self.dtype), norms)


def by_panels(
    shape: tuple[int, int], panel: Callable[[int, int], np.ndarray], probes, fill: Fill, n: int, dtype, workers: int
) -> Sketch:
    """Sums of ``panel(i, e) @ A[i:e]`` over panels of rows, where ``panel(i, e)`` is ``S[:, i:e]`` of a real S.

    Floor: 2 d m n flops of GEMM and one read of A. A strip of columns is summed over ascending rows by one thread; S
    is made a few panels at a time, so that it never stands in memory as a whole.
    """
    d, m = shape
    totals = _Totals(d, probes, n, dtype)
    width = STRIP // totals.parts
    rows = max(1, STORED // (ROWS * max(d, 1))) * ROWS

    for top in range(0, m, rows):
        bottom = min(top + rows, m)
        cuts = [(i, min(i + ROWS, bottom)) for i in range(top, bottom, ROWS)]
        made = thread_map(lambda cut: np.ascontiguousarray(panel(*cut), dtype=totals.real), cuts, workers)

        def strip(j: int, cuts=cuts, made=made) -> None:
            stop = min(j + width, n)
            at = slice(totals.parts * j, totals.parts * stop)
            buffer = np.empty((min(ROWS, m), stop - j), dtype=totals.dtype)
            for (i, e), part in zip(cuts, made, strict=True):
                fill(slice(i, e), slice(j, stop), buffer[: e - i])
                flat = buffer[: e - i].view(totals.real)
                totals.Y[:, at] += part @ flat
                totals.see(slice(i, e), at, flat)

        with blas_threads(1), np.errstate(all="ignore"):  # sums that are not finite are judged by the caller
            thread_map(strip, range(0, n, width), workers)
    return totals.sketch()


def by_columns(
    shape: tuple[int, int], apply: Callable[[np.ndarray], np.ndarray], probes, fill: Fill, n: int, dtype, workers: int
) -> Sketch:
    """``apply(A[:, strip])`` for strips of whole columns; `apply` sees real (m, w) arrays that it may overwrite."""
    d, m = shape
    totals = _Totals(d, probes, n, dtype)
    width = max(1, min(STRIP // 8, STORED // max(m, 1) // totals.parts))

    def strip(j: int) -> None:
        stop = min(j + width, n)
        at = slice(totals.parts * j, totals.parts * stop)
        buffer = np.empty((m, stop - j), dtype=totals.dtype)
        fill(slice(0, m), slice(j, stop), buffer)
        flat = buffer.view(totals.real)
        totals.see(slice(0, m), at, flat)
        totals.Y[:, at] = apply(flat)

    if m:
        with blas_threads(1), np.errstate(all="ignore"):
            thread_map(strip, range(0, n, width), workers)
    return totals.sketch()
