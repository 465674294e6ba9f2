"""A density of which every number is known, and what its quantiles and its entropy are computed by."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .atoms import NO_ATOMS, Atoms


@dataclass(frozen=True)
class KnownDensity:
    """A density whose every number is known.

    Attributes
    ----------
    name : as in tables and plots.
    pdf, cdf, ppf : functions of an array. With atoms, pdf is that of the rest and cdf and ppf hold both.
    entropy : nats, to 1e-10; with atoms that of `FourierDensity.entropy`, ``-sum m log m - int q log q``.
    support : where it is positive.
    atoms : values and masses of its point masses.
    grid : samples are rounded to multiples of it; pdf, cdf, ppf and entropy are those before rounding.
    circular : whether the ends of the support are one point, so that ``basis="periodic"`` fits.
    """

    name: str
    pdf: Callable[[np.ndarray], np.ndarray]
    cdf: Callable[[np.ndarray], np.ndarray]
    ppf: Callable[[np.ndarray], np.ndarray]
    entropy: float
    draw: Callable[[np.random.Generator, int], np.ndarray] | None = None  # faster than inversion, where there is a way
    support: tuple[float, float] = (-np.inf, np.inf)
    atoms: Atoms = NO_ATOMS
    grid: float | None = None
    circular: bool = False

    def sample(self, n: int, rng=None) -> np.ndarray:
        """`n` independent samples; `rng` as in SPEC 7."""
        rng = np.random.default_rng(rng)
        x = self.ppf(rng.random(n)) if self.draw is None else self.draw(rng, n)
        return x if self.grid is None else self.grid * np.round(x / self.grid)

    def kl(self, fitted) -> float:
        """``E log(self / fitted)`` in nats, for anything with a ``logpdf``; quadrature, error below 1e-9.

        Atoms are compared with ``fitted.atoms``: inf where one is missing there. Of rounded samples it is the
        divergence of the rounding cells, whose probabilities under `fitted` are ``2 ** -fitted.bits(x, grid)``.
        """
        from .quadrature import integrate, panels

        if self.grid is not None:
            return self._cell_divergence(fitted)
        value = 0.0
        if len(self.atoms):
            theirs = dict(zip(fitted.atoms.values, fitted.atoms.masses))
            if not set(self.atoms.values) <= set(theirs):
                return np.inf
            value = sum(m * np.log(m / theirs[x]) for x, m in zip(self.atoms.values, self.atoms.masses))
        ends = self.cdf(np.array(self.atoms.values))
        starts = ends - np.array(self.atoms.masses)

        def loss(u):
            u = np.minimum(u, 1 - 2.0**-53)
            free = ~((u[:, None] > starts) & (u[:, None] < ends)).any(axis=1)
            x = self.ppf(u[free])
            out = np.zeros(u.shape)
            out[free] = np.log(self.pdf(x)) - fitted.logpdf(x)
            return out

        # what was fitted may end, and fall off a cliff, anywhere beyond the sample's extremes
        edges = panels(256, np.concatenate([starts, ends]), graded=True)
        return value + integrate(loss, edges, tolerance=1e-10, rounds=24)[0]

    def cells(self, least: float = 1e-12) -> tuple[np.ndarray, np.ndarray]:
        """Values on the `grid` that samples take, and their probabilities, but for a mass of `least` at both ends."""
        if self.grid is None:
            raise ValueError(f"{self.name} is not rounded: it has no cells")
        lo, hi = np.round(self.ppf(np.array([least / 2, 1 - least / 2])) / self.grid)
        x = self.grid * np.arange(lo, hi + 1)
        return x, np.diff(self.cdf(np.append(x - self.grid / 2, x[-1] + self.grid / 2)))

    def _cell_divergence(self, fitted) -> float:
        x, mass = self.cells()
        x, mass = x[mass > 0], mass[mass > 0]
        return float(mass @ (np.log(mass) + np.log(2) * fitted.bits(x, self.grid)))


def inverse_of(cdf, pdf, knots):
    """Quantile function of a distribution with these cdf and pdf: Newton's method inside brackets of the `knots`."""
    mass = cdf(knots)

    def ppf(u):
        u = np.atleast_1d(np.asarray(u, float))
        right = np.clip(np.searchsorted(mass, u), 1, len(knots) - 1)
        a, b = knots[right - 1], knots[right]
        x = a + (b - a) / 2
        live = np.arange(u.size)
        for _ in range(60):
            at = x[live]
            wrong = cdf(at) - u[live]
            a, b = np.where(wrong < 0, at, a), np.where(wrong < 0, b, at)
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                newton = at - wrong / pdf(at)
            x[live] = np.where((newton > a) & (newton < b), newton, a + (b - a) / 2)
            open_ = np.abs(x[live] - at) > 4e-16 * np.maximum(np.abs(at), 1e-3)
            live, a, b = live[open_], a[open_], b[open_]
            if not len(live):
                break
        return x

    return ppf


def entropy_of(pdf, lo: float, hi: float) -> float:
    """``-int p log p`` over [lo, hi] by quadrature."""
    from .quadrature import integrate

    def minus_p_log_p(u):
        p = pdf(lo + (hi - lo) * u)
        return -p * np.log(np.maximum(p, 1e-300)) * (hi - lo)

    return integrate(minus_p_log_p, 512)[0]


def gaussian_mixture(name: str, weights, means, widths) -> KnownDensity:
    """A mixture of Gaussians; its quantiles by bisection, its entropy by quadrature."""
    from scipy.special import ndtr

    weights, means, widths = (np.asarray(v, float) for v in (weights, means, widths))

    def pdf(x):
        z = (np.asarray(x, float)[..., None] - means) / widths
        return np.exp(-0.5 * z * z) @ (weights / (widths * np.sqrt(2 * np.pi)))

    def cdf(x):
        return ndtr((np.asarray(x, float)[..., None] - means) / widths) @ weights

    def draw(rng, n):
        part = rng.choice(len(weights), size=n, p=weights / weights.sum())
        return means[part] + widths[part] * rng.standard_normal(n)

    lo, hi = float((means - 12 * widths).min()), float((means + 12 * widths).max())
    ppf = inverse_of(cdf, pdf, np.linspace(lo, hi, 8193))
    return KnownDensity(name, pdf, cdf, ppf, entropy_of(pdf, lo, hi), draw)


def von_mises_mixture(name: str, weights, means, concentrations) -> KnownDensity:
    """A mixture of von Mises densities ``exp(kappa cos(x - mu)) / (2 pi I_0(kappa))`` on [0, 2 pi).

    Its cdf is the series ``x / 2 pi + sum_k I_k / (pi k I_0) (sin k(x - mu) + sin k mu)`` (Mardia and Jupp 2000,
    Directional Statistics, section 3.5.4), whose terms fall faster than geometrically once k passes sqrt(kappa).
    """
    from scipy.special import i0e, ive

    weights, means, kappa = (np.asarray(v, float) for v in (weights, means, concentrations))
    k = np.arange(1, 40 + int(12 * np.sqrt(kappa.max())))
    ratio = ive(k[:, None], kappa) / i0e(kappa) / (np.pi * k[:, None]) * weights
    a, b = (ratio * np.cos(k[:, None] * means)).sum(axis=1), (ratio * np.sin(k[:, None] * means)).sum(axis=1)

    def pdf(x):
        x = np.asarray(x, float)
        z = np.exp(kappa * (np.cos(x[..., None] - means) - 1)) @ (weights / (2 * np.pi * i0e(kappa)))
        return np.where((x >= 0) & (x <= 2 * np.pi), z, 0.0)

    def cdf(x):
        x = np.clip(np.asarray(x, float), 0, 2 * np.pi)
        angles = x[..., None] * k
        return np.clip(x / (2 * np.pi) + np.sin(angles) @ a - (np.cos(angles) - 1) @ b, 0, 1)

    def draw(rng, n):
        part = rng.choice(len(weights), size=n, p=weights / weights.sum())
        return rng.vonmises(means[part], kappa[part]) % (2 * np.pi)

    ppf = inverse_of(cdf, pdf, np.linspace(0, 2 * np.pi, 2049))
    ends = (0.0, 2 * np.pi)
    return KnownDensity(name, pdf, cdf, ppf, entropy_of(pdf, *ends), draw, support=ends, circular=True)
