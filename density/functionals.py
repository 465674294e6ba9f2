"""Numbers and curves that follow from a density: moments, characteristic function, modes."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .fourier import FourierDensity


def moment(p: "FourierDensity", k: int, central: bool):
    """``E x^k`` of the fitted part, or ``E (x - mean)^k``; see `FourierDensity.moment`."""
    if isinstance(k, bool) or not isinstance(k, (int, float, np.number)) or not 0 <= k < np.inf or k != int(k):
        raise ValueError(f"moment({k!r}) is not defined; pass an integer >= 0")
    k = int(k)
    if k == 0:
        return np.float64(1)
    if central and p.map.tail_index <= 1:
        return np.float64(np.nan)
    if k >= p.map.tail_index:  # both tails of an odd moment are infinite on the whole line, one of them on a half line
        signed = k % 2 and (np.isinf(p.map.support).all() or central)
        return np.float64(np.nan if signed else np.inf * (-1 if k % 2 and np.isinf(p.map.support[0]) else 1))
    loc, scale, standard = p.map.centred()
    z, share = standard.inverse, 1 - p.atoms.mass

    def expect(g):
        return share * p._expect(lambda u: g(z(u))) + p.atoms.expect(lambda v: g((v - loc) / scale))

    if k == 1 and not central:
        return np.float64(loc + scale * expect(lambda z: z))
    shift = -expect(lambda z: z) if central else loc / scale
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):  # beyond the range of doubles: inf, or 0
        return np.float64(scale) ** k * expect(lambda z: (shift + z) ** k)


def modes(p: "FourierDensity", least: float):
    """Local maxima from left to right; see `FourierDensity.modes`."""
    if not isinstance(least, (int, float, np.number)) or not 0 <= least <= 1:
        raise ValueError(f"least={least!r} is not a share of the highest density; pass 0 <= least <= 1")
    u = np.linspace(0, 1, max(4096, 64 * p.order) + 1)
    x = p.map.inverse(u)
    x = np.unique(x[np.isfinite(x)])
    y = p._log_pdf(x)
    ends = (np.inf, np.inf) if p.map.singular else (-np.inf, -np.inf)  # a pole of the map is no mode
    if p.basis == "periodic" and p.map.bounded:
        ends = (y[-2], np.inf)  # the last point is the first
    padded = np.concatenate([ends[:1], y, ends[1:]])
    # the first point of a plateau counts, the others do not
    peak = np.flatnonzero((y > padded[:-2]) & (y >= padded[2:]))
    lo, hi = x[np.maximum(peak - 1, 0)], x[np.minimum(peak + 1, len(x) - 1)]
    golden = (np.sqrt(5) - 1) / 2
    for _ in range(80):
        a, b = hi - golden * (hi - lo), lo + golden * (hi - lo)
        left = p._log_pdf(a) >= p._log_pdf(b)
        lo, hi = np.where(left, lo, a), np.where(left, b, hi)
    inner = lo + (hi - lo) / 2
    at = np.where(p._log_pdf(inner) > y[peak], inner, x[peak])
    top = p._log_pdf(at)
    return at[top >= top.max() + np.log(least)] if least else at


def to_scipy(p: "FourierDensity"):
    """The density as a distribution of scipy; see the method of FourierDensity."""
    from scipy import stats

    if len(p.atoms):
        raise TypeError(
            f"scipy's continuous distributions have no atoms, and this one has {len(p.atoms)}; use its own methods"
        )

    class FourierLaw(stats.rv_continuous):
        def _shape_info(self):
            return []

        def _pdf(self, x, *_):
            return p.pdf(x)

        def _logpdf(self, x, *_):
            return p.logpdf(x)

        def _cdf(self, x, *_):
            return p.cdf(x)

        def _sf(self, x, *_):
            return p.sf(x)

        def _ppf(self, q, *_):
            return p.ppf(q)

    lo, hi = p.support
    make: Any = getattr(stats, "make_distribution")  # noqa: B009  (scipy's stubs do not know it yet)
    return make(FourierLaw(a=lo, b=hi, name="FourierLaw"))()
