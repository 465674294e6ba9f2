"""The maps that an automatic fit tries on the line, besides the common ones: placed by more than the quartiles."""

import numpy as np

from .cells import Cells
from .maps import Map, candidates

_PART = 0.05  # of the data beyond each of the two quantiles that a skewed map is placed by
_SKEW = 0.02  # of their distance, by which their middle must lie off the median


def entrants(data: Cells, quartiles) -> list[Map]:
    """Those whose ends, moments or skewness come from the data."""
    return [*_beside_atoms(data, quartiles), *_with_moments(data), *_close_ends(data), *_skewed(data)]


def _beside_atoms(data: Cells, quartiles) -> list[Map]:
    """Half lines that begin at an atom with all other samples on one side of it, as after a ReLU."""
    below, above = data.edges
    maps = []
    if data.widths is None and below is not None:
        maps += candidates("auto", support=(below, np.inf), quartiles=quartiles, extent=data.extent)
    if data.widths is None and above is not None:
        maps += candidates("auto", support=(-np.inf, above), quartiles=quartiles, extent=data.extent)
    return maps


def _with_moments(data: Cells) -> list[Map]:
    """The normal law of the data's own mean and variance: of normal data nothing is left to fit."""
    lo, hi = data.extent
    z = (data.centres - lo) / (hi - lo)
    mean = float((data.masses * z).sum())
    deviation = float(np.sqrt((data.masses * (z - mean) ** 2).sum()))
    return [Map("normal", lo + (hi - lo) * mean, (hi - lo) * deviation)]


def _close_ends(data: Cells) -> list[Map]:
    """The arcsine law with the room of one more sample in u, far less in x: for densities infinite at an end."""
    lo, hi = data.ends
    if data.widths is not None or data.edges != (None, None):
        return []
    room = (hi - lo) * (np.pi / (2 * data.n)) ** 2  # u = 2 arcsin(sqrt(z)) / pi = 1 / n
    return [Map("arcsine", lo - room, hi - lo + 2 * room)] if lo - room < lo and hi + room > hi else []


def _skewed(data: Cells) -> list[Map]:
    """The log-normal law with an end of its own, through the median and two outer quantiles.

    ``log(x - end)`` is symmetric for end = (a b - m^2) / (a + b - 2 m), with m the median and a, b the quantiles
    (Aitchison, Brown 1957, The Lognormal Distribution, section 6.2); right-skewed data have the end below.
    """
    from scipy.special import ndtri

    low, high = data.bounds
    lo, hi = float(low[0]), float(high[-1])
    a, m, b = (data.quantile([_PART, 0.5, 1 - _PART]) - lo) / (hi - lo)  # nothing overflows
    right = a + b > 2 * m
    if abs(a + b - 2 * m) <= _SKEW * (b - a) or not a < m < b:
        return []
    if not right:
        a, m, b = 1 - b, 1 - m, 1 - a
    end = min((a * b - m * m) / (a + b - 2 * m), -1 / data.n)
    shape = 2 * float(ndtri(1 - _PART)) / float(np.log((b - end) / (a - end)))
    sign = 1.0 if right else -1.0
    with np.errstate(over="ignore"):
        loc, scale = (lo if right else hi) + sign * (hi - lo) * end, sign * (hi - lo) * (m - end)
    return [Map("lognormal", float(loc), float(scale), shape)] if np.isfinite([loc, scale]).all() else []
