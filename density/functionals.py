"""Numbers and curves that follow from a density: moments, characteristic function, modes."""

from typing import TYPE_CHECKING, Any

import numpy as np

from .maps import Map

if TYPE_CHECKING:
    from .fourier import FourierDensity


def moment(p: "FourierDensity", k: int, central: bool):
    """``E x^k`` of the fitted part, or ``E (x - mean)^k``; see `FourierDensity.moment`."""
    if isinstance(k, bool) or k != int(k) or k < 0:
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


def characteristic_function(p: "FourierDensity", t):
    """``E exp(i t x)``, the safety tail included; see the method of FourierDensity."""
    t = np.asarray(t, dtype=np.float64)
    if not np.isfinite(t).all():
        raise ValueError("the characteristic function is evaluated at finite t")
    flat = t.reshape(-1)
    if isinstance(p.map, Map) and p.map.kind == "affine":
        # p(u) = sum_n c_n e^{i n w u}, |n| <= K, so every term is an integral of one exponential
        K, a = p.order, p.coefficients
        c = np.correlate(a, a, mode="full")
        y = flat[:, None] * p.map.scale + p._period * np.arange(-K, K + 1)
        waves = (np.exp(0.5j * y) * np.sinc(y / (2 * np.pi))) @ c
        fitted = np.exp(1j * flat * p.map.loc) * waves
    else:
        fitted = np.array([_wave(p, s) for s in flat], dtype=complex)
    tail = p.tail
    wave = np.exp(1j * flat * tail.loc - tail.scale * np.abs(flat)) if tail.mass else 0.0
    both = (1 - p.atoms.mass) * ((1 - tail.mass) * fitted + tail.mass * wave)
    if len(p.atoms):
        both = both + np.exp(1j * flat[:, None] * np.array(p.atoms.values)) @ np.array(p.atoms.masses)
    return both.reshape(t.shape)[()]


def _wave(p: "FourierDensity", t: float) -> complex:
    """``int_0^1 p(u) exp(i t x(u)) du``, the oscillation resolved where 1 - 1e-6 of the mass lies."""
    from .quadrature import integrate

    lo, hi = p.map.inverse(np.array([1e-6, 1 - 1e-6]))
    panels = 16 + 2 * p.order + int(min(abs(t) * (hi - lo), 1e5))
    real, imag = (
        integrate(lambda u, f=f: f(t * p.map.inverse(u)) * p._p(u), panels, tolerance=1e-11, rounds=30)[0]
        for f in (np.cos, np.sin)
    )
    return complex(real, imag)


def modes(p: "FourierDensity", least: float):
    """Local maxima from left to right; see `FourierDensity.modes`."""
    if not 0 <= least <= 1:
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
