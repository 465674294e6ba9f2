"""The probability of an interval, right in its leading digits however narrow or far out it is, and its code length.

In u the mass of [u, u + w] is w times the mean of a trigonometric polynomial: nothing cancels once w is known. w itself
is a difference of F, from the side where F is small, or F' times the width where that difference would lose digits.
"""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .fourier import FourierDensity

_NARROW = 1e-7  # relative width in u below which F' replaces a difference of F
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)  # exact to 1e-15 for waves of up to 8 radians


def log_mass(p: "FourierDensity", low, high, width=None):
    """``log P(low < x <= high)`` for flat arrays; `width` is high - low where the ends are too close to say."""
    width = high - low if width is None else width
    with np.errstate(divide="ignore", over="ignore"):
        mass = (1 - p.tail.mass) * _fitted(p, low, high, width) + _tail(p.tail, low, high, width)
        atoms = p.atoms.below(high) - p.atoms.below(low)
        out = np.log((1 - p.atoms.mass) * mass + atoms)
        if p.tail.mass:  # so far out that the mass underflows: width over the squared distance, in logarithms
            a, b = (np.abs((x - p.tail.loc) / p.tail.scale) for x in (low, high))
            beyond = np.log(p.tail.mass * (1 - p.atoms.mass) / np.pi) + np.log(width) - np.log(p.tail.scale)
            out = np.where(np.isneginf(out) & (a * b > 1e200), beyond - np.log(a) - np.log(b), out)
        return out


def bits(p: "FourierDensity", x, step):
    """``-log2 P(x - step/2 < . <= x + step/2)``; see `FourierDensity.bits`."""
    if step is None:
        step = p.report.grid
        if step is None:
            raise ValueError(
                "bits(x) needs the width of a cell: pass step=, because the data were not found to be rounded"
            )
    try:
        step = float(step)
    except (TypeError, ValueError):
        raise TypeError(f"step={step!r} is not a width; pass a finite step > 0") from None
    if not 0 < step < np.inf:
        raise ValueError(f"step={step!r} is not a width; pass a finite step > 0")
    width = np.full(x.shape, step)
    return np.where(np.isnan(x), np.nan, -log_mass(p, x - step / 2, x + step / 2, width) / np.log(2))


def _tail(tail, low, high, width):
    """Mass of the safety tail: ``arctan b - arctan a = arctan((b - a) / (1 + a b))``, on the right branch."""
    if tail.mass == 0:
        return np.zeros(np.shape(low))
    with np.errstate(over="ignore", invalid="ignore"):
        a, b = (low - tail.loc) / tail.scale, (high - tail.loc) / tail.scale
        angle = np.arctan2(width / tail.scale, 1 + a * b)
        far = np.maximum(np.abs(a), np.abs(b)) > 1e150  # 1 + a b is beyond the range of doubles
        beyond = np.where(a * b > 0, width / np.abs(a) / np.abs(b) * tail.scale, np.arctan(b) - np.arctan(a))
        return tail.mass / np.pi * np.where(far & np.isfinite(beyond), beyond, angle)


def _fitted(p: "FourierDensity", low, high, width):
    """Mass of the polynomial on the interval."""
    left, right = p.map.forward(low), p.map.forward(high)
    upper = left > 0.5
    ends = p.map.complement(low), p.map.complement(high)
    u = np.where(upper, ends[1], left)  # the lower end, counted from the nearer side
    w = np.where(upper, ends[0] - ends[1], right - left)
    narrow = w <= _NARROW * (u + w)
    if narrow.any():
        slope = np.exp(p.map.log_derivative(np.where(narrow, low + width / 2, low)))
        w = np.where(narrow, np.where(np.isfinite(slope), slope, 0.0) * np.where(narrow, width, 0), w)
    mass = w * _mean(p, u, w, upper)
    # Many waves in one interval: a difference of the distribution function, unless that is rounding.
    wide = np.flatnonzero(p._period * p.order * w > 8)
    if len(wide):
        whole = np.array([p._mass(np.minimum(e, 1.0), flip=False) for e in (left[wide], right[wide])])
        rise = whole[1] - whole[0]
        mass[wide] = rise
        faint = wide[rise < 1e-6]
        if len(faint):
            mass[faint] = [_panels(p, float(u[j]), float(w[j]), bool(upper[j])) for j in faint]
    return mass


def _mean(p: "FourierDensity", u, w, upper):
    """Mean of p over [u, u + w], u counted from 1 where `upper`."""
    points = u[:, None] + w[:, None] * (0.5 + 0.5 * _NODES)
    points = np.where(upper[:, None], 1 - points, points)
    return (p._p(points.reshape(-1)).reshape(points.shape) @ _WEIGHTS) / 2


def _panels(p: "FourierDensity", u: float, w: float, upper: bool) -> float:
    count = int(np.ceil(p._period * p.order * w / 8))
    starts = u + w * np.arange(count) / count
    pieces = _mean(p, starts, np.full(count, w / count), np.full(count, upper))
    return float(pieces.sum()) * w / count
