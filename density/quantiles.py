"""Quantiles of a Fourier density: Newton's method inside brackets, and past the atoms."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .fourier import FourierDensity


def quantile(p: "FourierDensity", y):
    """The least x with cdf(x) >= y, atoms included."""
    if not len(p.atoms):
        return free_quantile(p, y)
    out = np.full(y.shape, np.nan)
    values, masses = np.array(p.atoms.values), np.array(p.atoms.masses)
    share = 1 - p.atoms.mass
    before = share * p._below(values) + np.cumsum(masses) - masses
    after = share * p._above(values) + p.atoms.above(values)  # mass beyond each atom
    upper = y > 0.5
    target = np.where(upper, 1 - y, y)
    # the first atom whose top reaches y, and whether y lies on its step or below it
    reach = np.where(upper, np.searchsorted(-after, -target), np.searchsorted(before + masses, target))
    atom = np.minimum(reach, len(values) - 1)
    on = (reach < len(values)) & np.where(upper, target < after[atom] + masses[atom], target > before[atom]) & (y > 0)
    out[on] = values[atom[on]]
    free = ~on & ~np.isnan(y)
    less = np.concatenate([[0], np.cumsum(masses)])[reach[free]]
    more = np.concatenate([np.cumsum(masses[::-1])[::-1], [0]])[reach[free]]
    # the fitted part's own level, from the side where it has its digits
    low, high = (y[free] - less) / share, ((1 - y[free]) - more) / share
    out[free] = free_quantile(p, np.clip(low, 0, 1), np.clip(high, 0, 1))
    out[y == 0], out[y == 1] = p.support
    return out


def free_quantile(p: "FourierDensity", y, above=None):
    """Quantile of the part without atoms; `above` is 1 - y where it is known better."""
    above = 1 - y if above is None else above
    x, lower, higher = p._knots
    upper = y > 0.5
    target = np.where(upper, above, y)
    right = np.where(upper, np.searchsorted(-higher, -target, side="left"), np.searchsorted(lower, target))
    out = np.where(right == 0, p._free_support[0], np.where(right == len(x), p._free_support[1], np.nan))
    out[np.isnan(y)] = np.nan  # which sorts behind everything
    out[y == 0], out[above == 0] = p._free_support
    live = np.flatnonzero(np.isnan(out) & ~np.isnan(y))
    lo, hi, upper, target = x[right[live] - 1], x[right[live]], upper[live], target[live]
    guess = (lo + hi) / 2
    for _ in range(200):
        excess = np.where(upper, target - p._above(guess), p._below(guess) - target)
        lo, hi = np.where(excess < 0, guess, lo), np.where(excess < 0, hi, guess)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            newton = guess - excess / np.exp(p._log_pdf(guess))
        following = np.where((newton > lo) & (newton < hi), newton, lo + (hi - lo) / 2)
        ulp = 4e-16 * np.abs(guess)
        done = (np.abs(following - guess) <= ulp) | (hi - lo <= ulp) | (excess == 0)
        out[live[done]] = np.where(excess == 0, guess, following)[done]
        if done.all():
            break
        live, lo, hi, upper, target = live[~done], lo[~done], hi[~done], upper[~done], target[~done]
        guess = following[~done]
    else:
        out[live] = guess
    return out


def fitted_quantile(p: "FourierDensity", y):
    """u with int_0^u p = y: a table, then Newton inside its cell."""
    grid = np.linspace(0, 1, max(4096, 32 * p.order) + 1)
    mass = np.maximum.accumulate(p._mass(grid))
    right = np.clip(np.searchsorted(mass, y), 1, len(grid) - 1)
    lo, hi = grid[right - 1], grid[right]
    width = mass[right] - mass[right - 1]
    u = lo + (hi - lo) * np.clip((y - mass[right - 1]) / np.where(width > 0, width, 1), 0, 1)
    for _ in range(3):
        with np.errstate(divide="ignore", invalid="ignore"):
            newton = u - (p._mass(u) - y) / p._p(u)
        u = np.where((newton >= lo) & (newton <= hi), newton, u)
    tiny = np.finfo(np.float64).tiny
    return np.clip(u, tiny, 1 - 2.0**-53) if not p.map.bounded else u
