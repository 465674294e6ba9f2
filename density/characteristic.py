"""The characteristic function E exp(i t x): in closed form, or by a rule whose error does not depend on t.

On a panel of z of half width h round m, f is a Legendre series ``sum_l b_l P_l``, and its wave is exact:
``int_{-1}^{1} P_l(s) e^{i w s} ds = 2 i^l j_l(w)`` with the spherical Bessel function (Olver et al., NIST Handbook of
Mathematical Functions, 2010, 18.17.19). So |error| <= int |f - series| for every t: a mesh that represents f serves
t = 0 and t = 10^9 alike, where a rule for the product needs panels in proportion to t (Filon 1928).
"""

from typing import TYPE_CHECKING

import numpy as np

from .maps import Map
from .quadrature import panels

if TYPE_CHECKING:
    from .fourier import FourierDensity

_DEGREE = 16
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(_DEGREE)
# b_l = (2 l + 1) / 2 sum_j w_j P_l(s_j) f(s_j)
_TO_SERIES = (np.polynomial.legendre.legvander(_NODES, _DEGREE - 1) * _WEIGHTS[:, None]) * (np.arange(_DEGREE) + 0.5)
_TOLERANCE = 1e-12  # of the mass, a panel
_OUTER = 1e-14  # of the mass beyond the first and the last panel
_ROUNDS = 40


def characteristic_function(p: "FourierDensity", t):
    """``E exp(i t x)``, the safety tail included; see the method of FourierDensity."""
    try:
        t = np.asarray(t, dtype=np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"the characteristic function is evaluated at real t, not at {t!r}") from None
    if not np.isfinite(t).all():
        raise ValueError("the characteristic function is evaluated at finite t")
    flat, tail = t.reshape(-1), p.tail
    far = max(abs(p.map.centred()[0]), abs(tail.loc), *(abs(v) for v in p.atoms.values), abs(p.map.scale))
    with np.errstate(over="ignore"):
        if np.isinf(np.abs(flat) * far).any():
            raise ValueError(f"t * x overflows for t up to {np.abs(flat).max():.3g} and x about {far:.3g}")
        if isinstance(p.map, Map) and p.map.kind == "affine":
            fitted = np.exp(1j * flat * p.map.loc) * _trigonometric(p, flat * p.map.scale)
        else:
            fitted = _by_panels(p, flat)
        wave = np.exp(1j * flat * tail.loc - tail.scale * np.abs(flat)) if tail.mass else 0.0
    both = (1 - p.atoms.mass) * ((1 - tail.mass) * fitted + tail.mass * wave)
    if len(p.atoms):
        both = both + np.exp(1j * flat[:, None] * np.array(p.atoms.values)) @ np.array(p.atoms.masses)
    return both.reshape(t.shape)[()]


def _trigonometric(p: "FourierDensity", t):
    """On the affine map p(u) = sum_n c_n e^{i n w u}, |n| <= K, so every term is an integral of one exponential."""
    K, a = p.order, p.coefficients
    c = np.correlate(a, a, mode="full")
    y = t[:, None] + p._period * np.arange(-K, K + 1)
    return (np.exp(0.5j * y) * np.sinc(y / (2 * np.pi))) @ c


def _by_panels(p: "FourierDensity", t):
    """The sum of the panels' waves, in coordinates centred on the map: x = loc + scale z."""
    from scipy.special import spherical_jn

    loc, scale, m = p.map.centred()
    middle, half, series = _panels(p, m)
    order = np.arange(_DEGREE)
    weights = 2 * 1j**order * series * half[:, None]
    out = np.empty(len(t), dtype=complex)
    for j, w in enumerate(t * scale):
        bessel = spherical_jn(order, np.abs(w * half)[:, None])
        if w < 0:
            bessel = bessel * (-1.0) ** order
        turn = w * middle  # beyond the doubles, where j_l has long vanished, its phase is of no account
        out[j] = np.exp(1j * np.where(np.isfinite(turn), turn, 0.0)) @ (weights * bessel).sum(axis=1)
    return np.exp(1j * t * loc) * out


def _panels(p: "FourierDensity", m):
    """Middles, half widths and Legendre coefficients of f on panels that represent it to `_TOLERANCE` each."""
    u = panels(16 + 2 * p.order, graded=True)
    u = u[(u > 0) & (u < 1)]
    outer = np.array([_OUTER])
    ends = [m.inverse(outer), m.inverse_complement(outer)] if not p.map.bounded else [[m.support[0]], [m.support[1]]]
    z = np.concatenate([m.inverse(u), *ends])
    z = np.unique(z[np.isfinite(z)])
    left, right, kept = z[:-1], z[1:], []
    for _ in range(_ROUNDS):
        middle, half = left + (right - left) / 2, (right - left) / 2
        series = _density(p, m, middle[:, None] + half[:, None] * _NODES) @ _TO_SERIES
        open_ = half * np.abs(series[:, -2:]).sum(axis=1) > _TOLERANCE
        open_ &= half > 1e-15 * np.abs(middle)
        kept.append((middle[~open_], half[~open_], series[~open_]))
        if not open_.any():
            break
        left, right, middle = left[open_], right[open_], middle[open_]
        left, right = np.concatenate([left, middle]), np.concatenate([middle, right])
    else:
        kept.append((middle[open_], half[open_], series[open_]))
    return tuple(np.concatenate(parts) for parts in zip(*kept))


def _density(p: "FourierDensity", m, z):
    flat = z.reshape(-1)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        return (p._p(m.forward(flat)) * np.exp(m.log_derivative(flat))).reshape(z.shape)
