"""The data as a fit sees them: distinct values with masses, the width that rounding gave each, the atoms apart."""

from dataclasses import dataclass

import numpy as np

from ._checks import as_weights, kept_samples, non_finite_message
from .atoms import NO_ATOMS, Atoms
from .histogram import CELLS, HistogramSketch, natural_unit
from .repeats import repeats_in_cells, repeats_of_values, repeats_on_grid
from .sources import is_source

MINIMUM = 5  # samples
_MOST_ATOMS = 64
ENDS = 512  # cells at each end that are seen as intervals


@dataclass(frozen=True)
class Cells:
    """Distinct values with their masses (sum 1), what is known of their rounding, and the atoms taken out of them.

    Attributes
    ----------
    n : samples that are no atom; the effective number where weights were given.
    widths : None, or the width of the interval that each value was rounded from.
    spans : None, or the ends (low, high) of the sketch's cells at both ends of the data, and the values elsewhere:
        there a cell may be wide for a map, whose density may even be infinite.
    grid : the width, where all values are multiples of it.
    edges : values of the atoms at which the rest ends, if any, below and above.
    total : samples, the atoms included.
    """

    centres: np.ndarray
    masses: np.ndarray
    n: float
    widths: np.ndarray | None = None
    grid: float | None = None
    atoms: Atoms = NO_ATOMS
    edges: tuple[float | None, float | None] = (None, None)
    total: float = 0.0
    spans: tuple[np.ndarray, np.ndarray] | None = None

    def quantile(self, q):
        """Quantiles, linear between the middles of the steps."""
        total = self.masses.cumsum()
        return np.interp(np.asarray(q, float) * total[-1], total - self.masses / 2, self.centres)

    @property
    def bounds(self):
        """Left and right ends of the intervals; the values themselves where nothing was rounded."""
        if self.spans is not None:
            return self.spans
        half = 0.0 if self.widths is None else self.widths / 2
        return self.centres - half, self.centres + half

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the greatest value."""
        low, high = (self.centres, self.centres) if self.spans is None else self.spans
        return float(low[0]), float(high[-1])

    @property
    def extent(self) -> tuple[float, float]:
        """Ends of the data with the room of one more sample (or half a rounding cell) on each side."""
        low, high = self.bounds
        lo, hi = float(low[0]), float(high[-1])
        room = (hi - lo) / max(self.n - 1, 1) if self.widths is None else 0.0
        below, above = self.edges
        # The density may well begin at the atom, but not where it lies far from all other samples.
        lo = below if below is not None and lo - below <= 10 * room else lo - room
        hi = above if above is not None and above - hi <= 10 * room else hi + room
        return lo, hi


def cells(x, weights, workers, *, omit: bool = False) -> Cells:
    """Distinct values and masses of the data, with rounding and atoms detected; `omit` leaves NaN and inf out."""
    values, dtype = np.empty(0), None
    if isinstance(x, HistogramSketch):
        if weights is not None:
            raise TypeError("weights= does not go with a HistogramSketch; pass them to its update")
        sketch = x
    elif is_source(x):
        if weights is not None:
            raise TypeError("weights go with an array in memory, which x is not; leave them out")
        dtype, sketch = getattr(x, "dtype", None), _streamed(x, workers, omit)
    else:
        dtype = getattr(x, "dtype", None)
        values, weights = kept_samples(x, weights, omit)
        if not len(values):
            what = "x is empty" if not np.size(x) else "x holds no finite value"
            raise ValueError(f"{what}; a density needs at least {MINIMUM} samples")
        if weights is not None:
            weights = as_weights(weights, len(values))
            if not np.isfinite(values).all():
                raise ValueError(non_finite_message(values))
            weights = weights / weights.max()  # squares of tiny weights would vanish
            values, weights = values[weights > 0], weights[weights > 0]
        sketch = _sketch(values, workers)
    n = sketch.n
    if n < MINIMUM:
        raise ValueError(f"{n} samples are too few; a density needs at least {MINIMUM}")
    centres, counts = sketch.centres, sketch.counts
    spans = None if sketch.exact else sketch.bounds
    if len(centres) == 1:
        raise ValueError(
            f"all {n} samples equal {centres[0]:.6g}: a density does not exist; "
            "add the rounding noise that the data lost, or treat the value as a constant"
        )
    span = float(centres[-1]) - float(centres[0])
    if span < 1e-300:
        raise ValueError(f"the data span {span:.3g}, less than doubles divide with full precision; scale them up")
    if not np.isfinite(span):
        raise ValueError(f"the data span {centres[0]:.3g} to {centres[-1]:.3g}, more than a double holds; scale them")
    masses, squares = counts / n, np.empty(0)
    if weights is not None:
        which = sketch.cell_of(values)
        masses = np.bincount(which, weights, len(centres))
        squares = np.bincount(which, weights * weights, len(centres)) / masses.sum() ** 2
        masses /= masses.sum()
    grid = rounding(centres, n) if sketch.exact else None
    even = None if _half(centres, grid, dtype) is not None else grid  # the steps of float16 grow with the octave
    heavy, centres, free = _repeats(sketch, values, centres, counts, even)
    kept, atoms, share = masses, NO_ATOMS, 1.0
    if heavy.any():
        kept = np.where(heavy, masses * np.minimum(free / counts, 1), masses)  # of a rounded atom the height around it
        atoms, share = Atoms(_floats(centres[heavy]), _floats((masses - kept)[heavy])), float(kept.sum())
    rest = kept > 0
    left = share * n
    if left < MINIMUM - 0.5:
        value, mass = max(zip(atoms.values, atoms.masses), key=lambda a: a[1])
        raise ValueError(
            f"the value {value:.6g} holds {round(mass * n)} of {n} samples, and the other {round(left)} are too few; "
            f"a density of the rest needs at least {MINIMUM}"
        )
    if not rest.all():
        centres, counts, kept, masses = centres[rest], counts[rest], kept[rest], masses[rest]
        squares = squares[rest] if len(squares) else squares
    lowest, highest = float(centres[0]), float(centres[-1])
    edges = (
        max((v for v in atoms.values if v < lowest), default=None),
        min((v for v in atoms.values if v > highest), default=None),
    )
    total = n if weights is None else float(weights.sum() ** 2 / (weights @ weights))
    free_n = left if weights is None else share**2 / float((squares * (kept / masses)).sum())
    if not len(atoms):
        free_n = total
    widths = _widths(centres, counts, grid, dtype) if sketch.exact else None
    if widths is not None and grid is not None and not np.all(widths == grid):
        grid = None
    spans = None if spans is None else _spans_of_ends(centres, *(ends if rest.all() else ends[rest] for ends in spans))
    return Cells(centres, kept / share if share != 1 else kept, free_n, widths, grid, atoms, edges, total, spans)


def _spans_of_ends(centres, low, high):
    """The cells at both ends as intervals, the others as points."""
    below, above = centres.copy(), centres.copy()
    for ends in (slice(ENDS), slice(-ENDS, None)):
        below[ends] = np.minimum(low[ends], centres[ends])
        above[ends] = np.maximum(high[ends], centres[ends])
    return below, above


def _streamed(x, workers, omit: bool) -> HistogramSketch:
    return HistogramSketch().update(x, workers=workers, nan_policy="omit" if omit else "raise")


def _floats(values) -> tuple[float, ...]:
    return tuple(float(v) for v in values)


def _sketch(values, workers) -> HistogramSketch:
    """The values themselves where they are few, else cells that scale with them."""
    few = len(values) <= CELLS or len(np.unique(values[: 2 * CELLS])) <= CELLS
    sketch = HistogramSketch().update(values, workers=workers) if few else None
    if sketch is not None and sketch.exact:
        return sketch
    return HistogramSketch(unit=natural_unit(values)).update(values, workers=workers)


def rounding(values, n: int) -> float | None:
    """The step of which all values are multiples (up to an offset), if ties show that they were rounded."""
    if len(values) > 0.9 * n:
        return None
    gaps = np.diff(values)
    step = float(gaps.min())
    if step <= 0 or (values[-1] - values[0]) / step > 1 << 22:
        return None
    # Differences of decimal numbers carry the rounding of the values themselves.
    slack = 4 * np.finfo(np.float64).eps * max(abs(values[0]), abs(values[-1])) / step + 1e-9
    multiples = (values - values[0]) / step
    if slack < 0.05 and np.abs(multiples - np.round(multiples)).max() > max(1e-6, slack * (1 + multiples[-1])):
        return None
    return float((values[-1] - values[0]) / np.round(multiples[-1])) if slack < 0.05 else None


def _repeats(sketch: HistogramSketch, values, centres, counts, grid: float | None):
    """Which cells hold an atom, the middles of all cells with atoms in their places, and what else the cells hold."""
    if not sketch.exact:
        heavy, centres, free = repeats_in_cells(sketch, values)
    elif grid is None:
        heavy, free = repeats_of_values(counts), np.zeros(len(counts))
    else:
        heavy, free = repeats_on_grid(centres, counts, grid)
    if heavy.sum() > _MOST_ATOMS:
        heavy &= counts >= np.sort(counts[heavy])[-_MOST_ATOMS]
    return heavy, centres, free


def _half(centres, grid: float | None, dtype):
    """The spacing of float16 at each value, where that and no coarser grid is how the data were rounded; or None."""
    if dtype != np.float16:
        return None
    half = np.spacing(np.abs(centres).astype(np.float16)).astype(np.float64)
    return half if np.isfinite(half).all() and (grid is None or grid <= half.max()) else None


def _widths(centres, counts, grid: float | None, dtype):
    """Width of the interval that each value stands for, or None where they are as good as exact.

    The grid; of float16 also its own spacing, which grows with the octave; and where at least half of the samples
    repeat others without any common step, half of the way to the neighbours.
    """
    half = _half(centres, grid, dtype)
    if half is not None:
        return np.maximum(half, grid or 0.0)
    if grid is not None:
        return np.full(len(centres), grid)
    if len(centres) <= 0.5 * counts.sum():
        gaps = np.diff(centres)
        resolved = np.spacing(np.abs(centres))
        if np.median(gaps / resolved[1:]) < 4:
            raise ValueError(
                f"most values repeat, and they lie {np.median(gaps):.3g} apart, which is all that doubles resolve at "
                f"{centres[0]:.3g}: their digits were lost; subtract the offset before storing them"
            )
        near = np.minimum(np.append(gaps, gaps[-1]), np.insert(gaps, 0, gaps[0]))
        return np.maximum(near, 4 * resolved)  # so that the ends of an interval differ from its middle
    return None
