"""Which values repeat more often than chance allows among what surrounds them: the atoms of a sample.

In samples of a continuous law a value comes again only because numbers are rounded. How often is seen around it: from
the counts of its neighbours one tells how many a smooth law puts there, with the probability of as many as were found.
"""

import numpy as np

from .histogram import HistogramSketch

FALSE_ALARM = 1e-6  # probability that samples of a smooth law show an atom, over all their values together
_LEAST = 10  # samples of an atom
_OUTSTANDING = 10  # times the counts around it that an atom among free values holds
_OUTSTANDING_GRID = 5  # and one among rounded values, more than a smooth curve through its neighbours
_VARIED = 20  # distinct values from which on `most` is known well enough to go by its own noise
_NEAR, _WIDE = 4, 32  # neighbours on each side whose median is taken, and whose mean
_WINDOW = 16  # cells on each side of which the density is taken
_CANDIDATES = 256  # cells whose values are looked at
_CHUNK = 1 << 20  # samples


def smooth_counts(values, counts, grid: float):
    """What the neighbours on the grid let one expect at each value: the most that is plausible, and a fair guess.

    Log-linear counts on one side promise c_1^2 / c_2, with c_1 and c_2 the counts one and two steps away (a geometric
    law). Most: the largest of those and of the neighbours. Guess: the mean of two neighbours, or where there
    is one c_1^2 / c_2, at most 2 c_1.
    """
    place = np.round((values - values[0]) / grid).astype(np.int64)

    def at(offset):
        where = np.minimum(np.searchsorted(place, place + offset), len(place) - 1)
        return np.where(place[where] == place + offset, counts[where], 0).astype(np.float64)

    left, right = at(-1), at(1)
    near = np.maximum(left, right)
    promised = np.maximum(left**2 / np.maximum(at(-2), 1), right**2 / np.maximum(at(2), 1))
    guess = np.where((left > 0) & (right > 0), (left + right) / 2, np.minimum(promised, 2 * near))
    return np.maximum(promised, near), guess


def repeats_on_grid(values, counts, grid: float):
    """Which multiples of the grid are atoms, and what a smooth law would put at each value."""
    most, free = smooth_counts(values, counts, grid)
    noise = np.sqrt(most + 1) if len(counts) >= _VARIED else np.sqrt(counts)
    heavy = (counts >= _LEAST) & (counts >= _OUTSTANDING_GRID * most) & (counts - most > 6 * noise)
    if heavy.any():
        place = np.round((values - values[0]) / grid)
        heavy &= _beyond_density(place, place + 1, counts)[0]
    return heavy, free


def repeats_of_values(counts, places=None):
    """Which distinct values, given in order by their counts, are atoms; of `places` alone where those are given.

    The values around one were seen at least once each, so that their counts follow a Poisson law without its zero, of
    mean m = s / (1 - exp(-s)), and s <= min(m, 2 (m - 1)). The tail is taken at that bound, with m from up to 64
    neighbours and one repeat more than there were.
    """
    places = np.flatnonzero(counts >= _LEAST) if places is None else places[counts[places] >= _LEAST]
    median = np.nanmedian(_around(counts, places, _NEAR), axis=0) if len(places) else np.empty(0)
    clear = counts[places] >= _OUTSTANDING * median
    places, median = places[clear], median[clear]
    heavy = np.zeros(len(counts), bool)
    if len(places):
        around = np.minimum(_around(counts, places, _WIDE), _OUTSTANDING * median)  # other atoms do not count
        mean = (np.nansum(around, axis=0) + 1) / np.isfinite(around).sum(axis=0)
        heavy[places] = _unlikely(counts[places], mean, len(counts))
    return heavy


def repeats_in_cells(sketch: HistogramSketch, values):
    """Which cells of a sketch hold an atom, the middles of all cells with atoms in their places, what else is there.

    Where the samples themselves are at hand, `values`, a cell with more of them than its neighbours allow shows which
    value it was that came again. Elsewhere the whole excess must stand out of the cells around it as a value would.
    """
    centres, counts = sketch.centres, sketch.counts
    heavy, expected = _beyond_density(*sketch.bounds, counts)
    free = np.zeros(len(counts))
    suspects = np.flatnonzero(heavy)
    if not len(suspects):
        return heavy, centres, free
    alone = repeats_of_values(counts, suspects)
    if not len(values):
        free[alone] = np.minimum(expected, counts)[alone]
        zero = int(sketch.cell_of(np.zeros(1))[0])
        if zero < len(counts) and alone[zero] and abs(centres[zero]) < 1e-290:
            centres[zero] = 0.0
        return alone, centres, free
    if len(suspects) > _CANDIDATES:
        excess = (counts - expected)[suspects]
        suspects = np.sort(suspects[np.argsort(excess)[-_CANDIDATES:]])
    heavy[:] = False
    for j, (seen, times) in zip(suspects, _values_in(sketch, suspects, values)):
        best = int(np.argmax(times))
        most, others = times[best], np.delete(times, best)
        if len(others) and most >= max(_LEAST, _OUTSTANDING * np.median(others)):
            heavy[j] = alone[j] or _unlikely(most, (others.sum() + 1) / len(others), len(counts))
        else:
            heavy[j] = alone[j] and not len(others)
        if heavy[j]:
            centres[j], free[j] = seen[best], counts[j] - most
    return heavy, centres, free


def _unlikely(counts, mean, tests: int):
    """Whether counts as high as these are, among `tests` values whose neighbours were seen `mean` times, if at all."""
    from scipy.special import gammainc

    s = np.minimum(mean, 2 * (mean - 1))
    return gammainc(counts, s) <= FALSE_ALARM / tests * -np.expm1(-s)


def _values_in(sketch: HistogramSketch, cells, values):
    """Distinct values of each of these cells, with how often they occur; one pass over the samples."""
    low, high = sketch.bounds
    low, high = low[cells], high[cells]
    slack = 4 * np.spacing(np.maximum(np.abs(low), np.abs(high)))  # the ends were multiplied by the unit
    edges = low - slack
    kept = []
    for start in range(0, len(values), _CHUNK):
        part = values[start : start + _CHUNK].astype(np.float64, copy=False)
        at = np.searchsorted(edges, part, side="right") - 1
        kept.append(part[(at >= 0) & (part <= (high + slack)[at])])
    near = np.concatenate(kept)
    where = sketch.cell_of(near)
    for j in cells:
        yield np.unique(near[where == j], return_counts=True)


def _around(counts, places, reach: int):
    """Counts of up to `reach` neighbours on each side, a row a neighbour; NaN beyond the ends."""
    reach = min(reach, len(counts) - 1)
    padded = np.concatenate([np.full(reach, np.nan), counts, np.full(reach, np.nan)])
    return np.stack([padded[places + reach + step] for step in range(-reach, reach + 1) if step])


def _beyond_density(low, high, counts):
    """Which cells hold more than the density on either side lets one expect, and how many that is.

    If the density is even over a cell of width w and a span v beside it, then of their c + S samples the cell holds a
    binomial number, with probability w / (w + v): P(at least c) = I_{w/(w+v)}(c, S + 1). Both sides must refuse, so
    that the flank of a peak does not. What was found is replaced by what was expected, lest it hide its neighbours.
    """
    from scipy.special import betainc

    heavy, expected = np.zeros(len(counts), bool), np.zeros(len(counts))
    scale = high[-1] - low[0]
    i = np.flatnonzero(counts >= _LEAST)
    left, right = np.maximum(i - _WINDOW, 0), np.minimum(i + _WINDOW + 1, len(counts))
    width = (high[i] - low[i]) / scale
    spans = (low[i] - low[left]) / scale, (high[right - 1] - high[i]) / scale
    shown = counts.astype(np.float64)
    for _ in range(4):
        total = np.concatenate([[0.0], np.cumsum(shown)])
        sums = np.maximum(total[i] - total[left], 0), np.maximum(total[right] - total[i + 1], 0)
        rates = [np.divide(S, v, out=np.zeros(len(i)), where=v > 0) for S, v in zip(sums, spans)]
        promise = np.maximum(*rates) * width
        clear = np.flatnonzero((counts[i] - promise > 4 * np.sqrt(promise + 1)) & ~heavy[i])  # the tails take longer
        for S, v in zip(sums, spans):
            share = width[clear] / np.maximum(width[clear] + v[clear], 1e-300)
            tail = betainc(counts[i[clear]], S[clear] + 1, share)
            clear = clear[(v[clear] == 0) | (tail <= FALSE_ALARM / len(counts))]
        if not len(clear):
            break
        heavy[i[clear]], expected[i[clear]] = True, promise[clear]
        shown[i[clear]] = promise[clear]
    return heavy, expected
