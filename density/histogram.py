"""A histogram that merges exactly: the sufficient statistic of every fit."""

from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from ._checks import as_array, as_nan_policy, kept_samples, non_finite_message
from ._threads import resolve_workers, thread_map
from .progress import reporting
from .sources import blocks, is_dask, is_source, sketch_of_dask

CELLS = 1 << 17
_FIRST, _BLOCK = 1 << 19, 1 << 23  # samples between two checks of the number of cells
_SMALL = 1 << 17  # below this numpy sorts faster than numba loads
_PAGE = 9  # a page holds 2^9 neighbouring cells
_REACH = 1 << 18  # pages in whose range a plain array finds a row
_CHUNK = 1 << 14  # samples that a thread scales and counts at a time, in cache
_ROW = (1 << _PAGE) + 8  # not a power of two: equal cells of many pages would share one cache set


class HistogramSketch:
    """Counts in dyadic nested cells, at the finest level that needs at most `cells` of them.

    A cell is a prefix of the ordered bit pattern of a double, so its width doubles from level to level, and grows with
    the octave of x: linear where the data share an octave, log-spaced outwards. The number of occupied cells can only
    grow with the data and only fall with the level, so the level that is reached depends on the multiset of samples
    alone. That makes merging exact: any split of the data, in any order, gives the same sketch, bit for bit. Up to
    `cells` distinct values are kept exactly.

    Parameters
    ----------
    cells : most cells kept; memory is 16 bytes a cell.
    unit : the cells are dyadic in x / unit, 1 <= unit < 2; only sketches of one unit merge. With ``natural_unit(x)``
        they move with the data, so that data in other units of measurement fall into the same cells.

    Notes
    -----
    Time 4-8 ns a sample on one core, memory O(cells). Integers beyond 2^53 are rounded to doubles.

    Examples
    --------
    >>> import numpy as np, density as ds
    >>> x = np.random.default_rng(7).normal(size=1000)
    >>> a = ds.HistogramSketch().update(x[:300])
    >>> b = ds.HistogramSketch().update(x[300:])
    >>> a |= b
    >>> a == ds.HistogramSketch().update(x), a.n
    (True, 1000)
    """

    def __init__(self, *, cells: int = CELLS, unit: float = 1.0):
        if cells != int(cells) or cells < 1024:
            raise ValueError(f"cells={cells} is too few for a density; pass an integer >= 1024")
        if not 1 <= unit < 2:
            raise ValueError(f"unit={unit!r} must lie in [1, 2): cells are the same for a unit twice as large")
        self.cells = int(cells)
        self.unit = float(unit)
        self._shift = 0  # bits of the pattern that were dropped
        self._ids = np.empty(0, np.int64)  # sorted
        self._counts = np.empty(0, np.int64)
        self._ends = (np.inf, -np.inf)  # the least and the greatest sample
        self._pending: list[np.ndarray] = []  # ordered bits not merged yet
        self._pending_size = 0

    # --- adding data ---

    def update(
        self,
        x,
        weights=None,
        *,
        workers: int | None = None,
        progress: Any = False,
        nan_policy: str = "raise",
    ) -> "HistogramSketch":
        """Add samples; `weights`, if given, are integer multiplicities >= 0. Returns self, so that calls chain.

        x is an array, or what is larger than memory: a memory map, a zarr array or an h5py dataset, read by blocks of
        about four million samples; an iterator or a generator of arrays; a dask array, one graph of tasks on the
        scheduler that is set (then `workers` is the scheduler's). All of them give the sketch of the same samples in
        memory, bit for bit.

        `progress` is True for a bar on stderr, or a callable that is told (samples done, all samples; None if unknown);
        of a dask array it counts the blocks that are done, on whichever scheduler.

        Raises ValueError when x holds NaN or an infinity, unless ``nan_policy="omit"`` leaves them out; masked entries
        of a masked array always are. An array or a dask array is then not counted at all; of what is read by blocks
        those before the bad one are counted, as they are after Ctrl-C.
        """
        omit = as_nan_policy(nan_policy)
        if is_dask(x) and weights is None:
            empty = partial(HistogramSketch, cells=self.cells, unit=self.unit)
            return self.merge(sketch_of_dask(x, empty, progress, nan_policy))
        if is_source(x) or (progress is not False and progress is not None):
            if weights is not None:
                raise TypeError("weights go with an array in memory, without progress; call update(x, w) by blocks")
            return self._update_blocks(x if is_source(x) else as_array(x), workers, progress, nan_policy)
        (x, weights), workers = kept_samples(x, weights, omit), resolve_workers(workers)
        if weights is not None:
            return self._update_weighted(x, weights)
        if len(x) < _SMALL:
            if not np.isfinite(x).all():
                raise ValueError(non_finite_message(x))
            self._reach(x)
            self._pending.append(self._bits(x))
            self._pending_size += len(x)
            if self._pending_size >= _SMALL:
                self._flush()
            return self
        shift, ids, counts, ends = _sketch_large(x, self.unit, max(self._shift, 0), self.cells, workers)
        self._reach(ends)
        self._flush()
        self._absorb(shift, ids, counts)
        return self

    def _update_blocks(self, x, workers: int | None, progress, nan_policy: str) -> "HistogramSketch":
        parts, total = blocks(x)
        done = 0
        with reporting(progress, total, "sample") as advance:
            for number, part in enumerate(parts):
                try:
                    self.update(part, workers=workers, nan_policy=nan_policy)
                except (ValueError, TypeError) as error:
                    counted = f"block {number} of the samples was not counted, the {done} samples before it were"
                    raise type(error)(f"{counted}: {error}") from None
                done += np.size(part)
                advance(np.size(part))
        return self

    def _update_weighted(self, x, w) -> "HistogramSketch":
        if w.dtype.kind not in "bui":
            raise TypeError(f"a sketch counts: weights must be integers, not {w.dtype}; pass real ones to fit")
        if (w < 0).any():
            raise ValueError("weights must be >= 0")
        if not np.isfinite(x).all():
            raise ValueError(non_finite_message(x))
        self._flush()
        kept = w > 0
        self._reach(x[kept])
        order = np.argsort(v := self._bits(x[kept]))
        self._absorb(0, *_runs(v[order], w[kept][order].astype(np.int64)))
        return self

    def merge(self, other: "HistogramSketch") -> "HistogramSketch":
        """Add the samples of `other`; the same as ``self |= other``."""
        if not isinstance(other, HistogramSketch):
            raise TypeError(f"cannot merge a {type(other).__name__} into a HistogramSketch")
        if other.cells != self.cells:
            raise ValueError(f"cells={self.cells} and cells={other.cells} differ; merge sketches of equal cells=")
        if other.unit != self.unit:
            raise ValueError(f"unit={self.unit!r} and unit={other.unit!r} differ; merge sketches of equal unit=")
        self._flush()
        other._flush()
        self._reach(other._ends if len(other._ids) else ())
        self._absorb(other._shift, other._ids, other._counts)
        return self

    def __ior__(self, other: "HistogramSketch") -> "HistogramSketch":
        return self.merge(other)

    def __or__(self, other: "HistogramSketch") -> "HistogramSketch":
        return HistogramSketch(cells=self.cells, unit=self.unit).merge(self).merge(other)

    def _reach(self, x) -> None:
        """Take note of the least and the greatest of these samples."""
        if len(x):
            self._ends = min(self._ends[0], float(np.min(x))), max(self._ends[1], float(np.max(x)))

    def _bits(self, x):
        """Ordered bits of x / unit."""
        return ordered_bits(x if self.unit == 1 else np.asarray(x, np.float64) / self.unit)

    def cell_of(self, x):
        """Index of the cell of each x that was counted."""
        self._flush()
        return np.searchsorted(self._ids, self._bits(x) >> self._shift)

    def _flush(self) -> None:
        if self._pending:
            values = np.sort(np.concatenate(self._pending))
            self._pending, self._pending_size = [], 0
            self._absorb(0, *_runs(values, None))

    def _absorb(self, shift: int, ids, counts) -> None:
        """Add cells of another level, then coarsen until they fit."""
        level = max(self._shift, shift)
        mine = _coarsen(self._ids, self._counts, level - self._shift)
        theirs = _coarsen(ids, counts, level - shift)
        both = np.concatenate([mine[0], theirs[0]])
        order = np.argsort(both)
        ids, counts = _runs(both[order], np.concatenate([mine[1], theirs[1]])[order])
        self._shift, self._ids, self._counts = _fit_level(level, ids, counts, self.cells)

    # --- reading it ---

    @property
    def n(self) -> int:
        """Samples counted."""
        self._flush()
        return int(self._counts.sum())

    @property
    def exact(self) -> bool:
        """Whether every distinct value still has a cell of its own."""
        self._flush()
        return self._shift == 0

    @property
    def counts(self):
        """Samples in each occupied cell, from left to right."""
        self._flush()
        return self._counts.copy()

    @property
    def centres(self):
        """Middle of each occupied cell; the sample itself while the sketch is exact (and its unit 1)."""
        low, high = self.bounds
        return low + (high - low) / 2

    @property
    def bounds(self):
        """Ends (low, high) of each occupied cell, the outermost two at the least and the greatest sample."""
        self._flush()
        low = from_ordered_bits(self._ids << self._shift) * self.unit
        high = from_ordered_bits(((self._ids + 1) << self._shift) - 1) * self.unit
        return np.clip(low, *self._ends), np.clip(high, *self._ends)

    def quantile(self, q):
        """Quantiles of the samples, linear between the middles of the steps of the empirical distribution."""
        if self.n == 0:
            raise ValueError("the sketch is empty; call update(x) first")
        total = self._counts.cumsum()
        return np.interp(np.asarray(q, float) * total[-1], total - self._counts / 2, self.centres)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, HistogramSketch):
            return NotImplemented
        self._flush()
        other._flush()
        return (
            (self.cells, self.unit, self._shift, self._ends) == (other.cells, other.unit, other._shift, other._ends)
            and np.array_equal(self._ids, other._ids)
            and np.array_equal(self._counts, other._counts)
        )

    __hash__ = None  # type: ignore[assignment]  # a sketch changes

    def __getstate__(self) -> dict:
        self._flush()
        return self.__dict__.copy()

    def __repr__(self) -> str:
        n = self.n
        if n == 0:
            return "HistogramSketch(empty)"
        kind = "exact values" if self.exact else f"cells, {52 - self._shift} bits of mantissa"
        lo, hi = self.centres[[0, -1]]
        return f"HistogramSketch(n={n}, {len(self._ids)} {kind}, from {lo:.6g} to {hi:.6g})"


def natural_unit(x) -> float:
    """The mantissa of max |x| over an irrational number: it moves with the data and makes no cell end on round values.

    Dividing two arrays that differ by a factor by their units leaves the same numbers but for the last digit, up to
    a power of two, and the cells do not see that.
    """
    x = np.asarray(x).reshape(-1)
    parts = (x[at : at + _CHUNK] for at in range(0, len(x), _CHUNK))  # least and greatest in one reading
    largest = max(max(abs(float(part.max())), abs(float(part.min()))) for part in parts)
    return 2 * float(np.frexp(largest / np.sqrt(3))[0]) if 0 < largest < np.inf else 1.0


def ordered_bits(x):
    """Doubles as int64 in the same order, +0 and -0 together; neighbours differ by one."""
    bits = np.ascontiguousarray(x, dtype=np.float64).view(np.int64)
    return np.where(bits < 0, np.int64(np.iinfo(np.int64).min) - bits, bits)


def from_ordered_bits(v):
    """The inverse of `ordered_bits`."""
    return np.where(v < 0, np.int64(np.iinfo(np.int64).min) - v, v).view(np.float64)


def _runs(values, counts):
    """Distinct values of a sorted array with the sum of their counts (1 each if None)."""
    if len(values) == 0:
        return values, np.empty(0, np.int64)
    first = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    if counts is None:
        return values[first], np.diff(first, append=len(values))
    return values[first], np.add.reduceat(counts, first)


def _coarsen(ids, counts, levels: int):
    return (ids, counts) if levels == 0 else _runs(ids >> levels, counts)


def _fit_level(shift: int, ids, counts, cells: int):
    """Drop as few bits as leave at most `cells` occupied; the number falls with every bit, so bisection finds them."""
    if len(ids) <= cells:
        return shift, ids, counts
    too_fine, enough = 0, 64 - shift
    while enough - too_fine > 1:
        bits = (too_fine + enough) // 2
        coarse = ids >> bits
        if 1 + np.count_nonzero(coarse[1:] != coarse[:-1]) > cells:
            too_fine = bits
        else:
            enough = bits
    return shift + enough, *_coarsen(ids, counts, enough)


def _page_table(pages):
    """Open-addressing table from page number to row; the kernel walks it the same way."""
    size = 1 << max(4, int(np.ceil(np.log2(4 * len(pages) + 1))))
    keys, slots = np.zeros(size, np.int64), np.full(size, -1, np.int64)
    down = 64 - (size.bit_length() - 1)
    homes = (pages.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(down)
    for row, (page, home) in enumerate(zip(pages.tolist(), homes.tolist())):
        while slots[home] >= 0:
            home = (home + 1) % size
        keys[home], slots[home] = page, row
    return keys, slots


def _counter(pages):
    """A function of bits, shift, table and overflow that counts on these pages, found by their number or by hashing."""
    from ._kernels import count_cells, count_near_cells

    reach = int(pages[-1] - pages[0]) + 1 if len(pages) else 1
    if reach > _REACH:
        keys, slots = _page_table(pages)
        return lambda bits, shift, *to: count_cells(bits, shift, _PAGE, keys, slots, *to)
    first, slots = pages[0] if len(pages) else np.int64(0), np.full(reach, -1, np.int32)
    slots[pages - first] = np.arange(len(pages))
    return lambda bits, shift, *to: count_near_cells(bits, shift, _PAGE, first, slots, *to)


def _count_part(part, unit: float, shift: int, rows: int, counter):
    """Counts by page and cell, the cells on no page, and the ends; None where a sample is not finite."""
    table, lows, highs = np.zeros((max(rows, 1), _ROW), np.int32), [], []
    scaled, overflow, spill = np.empty(_CHUNK), np.empty(_CHUNK, np.int64), []
    for at in range(0, len(part), _CHUNK):
        values = np.ascontiguousarray(part[at : at + _CHUNK], dtype=np.float64)
        lows.append(values.min())
        highs.append(values.max())
        if unit != 1:
            values = np.divide(values, unit, out=scaled[: len(values)])
        spilled = counter(values.view(np.int64), shift, table, overflow)
        if spilled < 0:
            return None
        if spilled:
            spill.append(overflow[:spilled].copy())
    return table, spill, (min(lows), max(highs))


def _sketch_large(x, unit: float, shift: int, cells: int, workers: int):
    """Count a long array block by block; each worker fills pages of its own, and sums of integers have no order."""
    sample = np.ascontiguousarray(x[:: max(1, len(x) // (1 << 18))], dtype=np.float64)
    if not np.isfinite(sample).all():
        raise ValueError(non_finite_message(x))
    shift, ids, counts = _fit_level(shift, *_runs(np.sort(ordered_bits(sample / unit) >> shift), None), cells)
    hot_ids, hot_counts = ids, counts
    ids, counts, ends = np.empty(0, np.int64), np.empty(0, np.int64), []
    first = min(_FIRST, len(x))
    stops = np.linspace(first, len(x), max(1, round((len(x) - first) / _BLOCK)) + 1).astype(np.int64)
    for start, stop in pairwise([0, *np.unique(stops).tolist()]):
        # Pages for the crowded stretches; a lone outlier is cheaper in the overflow list than on a page of its own.
        pages, load = _runs(hot_ids >> _PAGE, hot_counts)
        pages = pages[load >= max(8, load.sum() >> 15)]
        edges = np.linspace(start, stop, workers + 1).astype(np.int64)
        parts = [x[lo:hi] for lo, hi in pairwise(edges.tolist()) if hi > lo]
        one = partial(_count_part, unit=unit, shift=shift, rows=len(pages), counter=_counter(pages))
        counted = [d for d in thread_map(one, parts, workers) if d is not None]
        if len(counted) < len(parts):
            raise ValueError(non_finite_message(x))
        ends += [end for d in counted for end in d[2]]
        table = np.stack([d[0] for d in counted]).sum(axis=0, dtype=np.int64)[: len(pages)].reshape(-1)
        seen = np.flatnonzero(table)
        paged = (pages[seen // _ROW] << _PAGE) + seen % _ROW
        spilled = _runs(np.sort(np.concatenate([ids[:0], *(s for d in counted for s in d[1])])), None)
        merged = np.concatenate([ids, paged, spilled[0]])
        order = np.argsort(merged, kind="stable")  # three sorted runs, which this sort merges
        totals = np.concatenate([counts, table[seen], spilled[1]])
        level, ids, counts = _fit_level(shift, *_runs(merged[order], totals[order]), cells)
        shift, hot_ids, hot_counts = level, ids, counts
    return shift, ids, counts, (min(ends), max(ends))
