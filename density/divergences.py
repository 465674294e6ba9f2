"""Entropy of a density, and distances between two: Kullback-Leibler and Wasserstein, atoms included."""

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from .quadrature import integrate, panels
from .report import FitWarning

if TYPE_CHECKING:
    from .fourier import FourierDensity

_PANELS = 1 << 19  # of 15 points


def entropy(p: "FourierDensity"):
    """``- sum m_i log m_i - int q log q``; see `FourierDensity.entropy`."""
    continuous = p._expect_all(lambda x: -p._log_pdf(x))
    share, masses = 1 - p.atoms.mass, np.array(p.atoms.masses)
    return np.float64(share * (continuous - np.log(share)) - masses @ np.log(masses))


def kl(p: "FourierDensity", other: "FourierDensity"):
    """``sum m_i log(m_i / m'_i) + int q log(q / q')``; see `FourierDensity.kl`."""
    _check(p, other, "kl")
    (lo, hi), (other_lo, other_hi) = p._free_support, other._free_support
    theirs = dict(zip(other.atoms.values, other.atoms.masses))
    if lo < other_lo or hi > other_hi or not set(p.atoms.values) <= set(theirs):
        return np.float64(np.inf)
    ends = [end for end in other.map.support if np.isfinite(end)]
    continuous = p._expect_all(lambda x: p._log_pdf(x) - other._log_pdf(x), ends)
    share, masses = 1 - p.atoms.mass, np.array(p.atoms.masses)
    ratio = np.log(masses / np.array([theirs[v] for v in p.atoms.values]))
    return np.float64(max(0.0, share * (continuous + np.log(share / (1 - other.atoms.mass))) + masses @ ratio))


def wasserstein(p: "FourierDensity", other: "FourierDensity", order: float):
    """``(int_0^1 |Q - Q'|^order dy)^(1 / order)``; see `FourierDensity.wasserstein`."""
    from .quantiles import quantile

    _check(p, other, "wasserstein")
    if not isinstance(order, (int, float, np.number)) or not 1 <= order < np.inf:
        raise ValueError(f"order={order!r} of the distance is not known; pass order=1, 2 or another number >= 1")
    if order >= min(p.map.tail_index, other.map.tail_index):
        return np.float64(np.inf)
    pair = [replace(d, tail=replace(d.tail, mass=0.0)) for d in (p, other)]
    steps = np.concatenate([
        side
        for d in pair
        for v in [np.array(d.atoms.values)]
        for side in ((1 - d.atoms.mass) * d._below(v) + d.atoms.below(v, strictly=True), d.cdf(v))
    ])  # fmt: skip
    scale = max(float(np.diff(quantile(d, np.array([0.1, 0.9])))[0]) for d in pair) or 1.0
    last = 1 - 2.0**-53

    def cost(y):
        y = np.clip(y, 2.0**-1000, last)
        return np.abs(quantile(pair[0], y) - quantile(pair[1], y)) ** order / scale**order

    edges = panels(64 + 2 * (p.order + other.order), steps, graded=True)
    # A density that nearly vanishes inside, as between the values of counts, makes its quantiles jump there.
    value, error = integrate(cost, edges, tolerance=1e-9, rounds=48, most=_PANELS)
    if error > 1e-6 * max(value, 1e-6):
        warnings.warn(
            f"the quadrature of this distance may be wrong by {error:.1e} of {value:.3e}", FitWarning, stacklevel=3
        )
    return np.float64(scale * value ** (1 / order))


def _check(p, other, name: str) -> None:
    if not isinstance(other, type(p)):
        raise TypeError(f"{name} takes a FourierDensity, not a {type(other).__name__}")
