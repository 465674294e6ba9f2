"""The distribution function of a small Gaussian mixture as a map: sharp peaks of any scale come out nearly flat."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

_BINS = 1024  # and at most 256 more, for gaps
_COMPONENTS = (2, 3, 4, 6, 8)
_ROUNDS = 40  # of the expectation-maximisation that compares numbers of components; the best one gets four times more
_LOG_ROOT = 0.5 * np.log(2 * np.pi)


@dataclass(frozen=True)
class MixtureMap:
    """``F(x) = sum_k weights_k Phi((x - means_k) / widths_k)`` behind the face of `density.maps.Map`."""

    weights: tuple[float, ...]
    means: tuple[float, ...]
    widths: tuple[float, ...]
    kind: ClassVar[str] = "mixture"
    bounded: ClassVar[bool] = False
    singular: ClassVar[bool] = False
    support: ClassVar[tuple[float, float]] = (-np.inf, np.inf)
    tail_index: ClassVar[float] = np.inf

    @property
    def scale(self) -> float:
        """The smallest width."""
        return min(self.widths)

    def n_parameters(self, stated: bool) -> int:
        """Weights, means and widths, but for the sum of the weights."""
        return 3 * len(self.weights) - 1

    def describe(self) -> str:
        """How many components, and over which scales."""
        return f"mixture({len(self.weights)} components, widths {min(self.widths):.4g} to {max(self.widths):.4g})"

    def centred(self):
        """(loc, scale, the map of (x - loc) / scale)."""
        w, m, s = self._arrays
        loc = float(w @ m)
        far = max(float(s.max()), float(np.abs(m - loc).max()))  # squares of it may be beyond the range of doubles
        spread = far * float(np.sqrt(w @ ((s / far) ** 2 + ((m - loc) / far) ** 2)))
        return loc, spread, MixtureMap(self.weights, _floats((m - loc) / spread), _floats(s / spread))

    @property
    def _arrays(self):
        return np.array(self.weights), np.array(self.means), np.array(self.widths)

    def _mirrored(self) -> "MixtureMap":
        return MixtureMap(self.weights, tuple(-m for m in self.means), self.widths)

    def _z(self, x):
        _, m, s = self._arrays
        return (np.asarray(x, dtype=np.float64)[..., None] - m) / s

    def forward(self, x):
        """u = F(x)."""
        from scipy.special import ndtr

        return np.minimum(ndtr(self._z(x)) @ self._arrays[0], 1)

    def complement(self, x):
        """1 - u, accurate where u is close to 1."""
        from scipy.special import ndtr

        return np.minimum(ndtr(-self._z(x)) @ self._arrays[0], 1)

    def log_derivative(self, x):
        """log du/dx."""
        w, _, s = self._arrays
        with np.errstate(over="ignore", invalid="ignore"):
            terms = np.log(w) - np.log(s) - _LOG_ROOT - 0.5 * self._z(x) ** 2
            top = terms.max(axis=-1)
            return np.where(np.isneginf(top), -np.inf, top + np.log(np.exp(terms - top[..., None]).sum(axis=-1)))

    def inverse_complement(self, v):
        """x with complement(x) = v."""
        return -self._mirrored().inverse(v)

    def inverse(self, u):
        """x with forward(x) = u: Newton on the normal scores, inside the quantiles of the components."""
        from scipy.special import ndtri

        u = np.asarray(u, dtype=np.float64)
        flat = u.reshape(-1)
        out = np.where(flat <= 0, -np.inf, np.where(flat >= 1, np.inf, np.nan))
        live = np.flatnonzero((flat > 0) & (flat < 1))
        _, m, s = self._arrays
        target = ndtri(flat[live])
        quantiles = m + s * target[:, None]
        lo, hi = quantiles.min(axis=1), quantiles.max(axis=1)
        x = lo + (hi - lo) / 2
        for _ in range(100):
            if not len(live):
                break
            upper = target > 0
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                score = np.where(upper, -ndtri(self.complement(x)), ndtri(self.forward(x)))
                slope = np.exp(self.log_derivative(x) + 0.5 * score * score + _LOG_ROOT)
                newton = x - (score - target) / slope
            lo, hi = np.where(score < target, x, lo), np.where(score < target, hi, x)
            following = np.where((newton >= lo) & (newton <= hi), newton, lo + (hi - lo) / 2)
            done = np.abs(following - x) <= 4e-16 * np.maximum(np.abs(x), self.scale)
            out[live[done]] = following[done]
            live, lo, hi, x, target = live[~done], lo[~done], hi[~done], following[~done], target[~done]
        out[live] = x
        return out.reshape(u.shape)

    def refitted(self, centres, masses) -> "MixtureMap":
        """The same number of components fitted to other masses, from here."""
        x, w, within, loc, scale = _bins(centres, masses)
        weights, means, widths = self._arrays
        start = weights, (means - loc) / scale, widths / scale
        return _ascend(x, w, within, start, 2 * _ROUNDS)[0]._moved(loc, scale)

    def _moved(self, loc: float, scale: float) -> "MixtureMap":
        _, m, s = self._arrays
        return MixtureMap(self.weights, _floats(loc + scale * m), _floats(scale * s))


def mixture_map(centres, masses, n: float) -> MixtureMap:
    """The Gaussian mixture of 2 to 8 components that the Bayesian information criterion prefers.

    Expectation-maximisation on at most 1280 bins of about equal mass, the finer the sharper the peak; starts from
    the quantiles of the data, so the result is a function of the sketch.

    References
    ----------
    Dempster, Laird, Rubin (1977), doi 10.1111/j.2517-6161.1977.tb01600.x. Schwarz (1978), doi 10.1214/aos/1176344136.
    """
    x, w, within, loc, scale = _bins(centres, masses)
    found = []
    for k in _COMPONENTS:
        m, likelihood = _ascend(x, w, within, _start(x, w, k), _ROUNDS)
        found.append((-2 * likelihood + (3 * k - 1) * np.log(n) / n, k, m))
    best = min(found, key=lambda f: f[:2])[2]
    return _ascend(x, w, within, best._arrays, 4 * _ROUNDS)[0]._moved(loc, scale)


def _floats(values) -> tuple[float, ...]:
    return tuple(float(v) for v in values)


def _bins(centres, masses):
    """Centres, masses (sum 1) and variances of bins of about equal mass, and the loc and scale taken out of them."""
    masses = masses / masses.sum()
    loc = float(masses @ centres)
    scale = float(masses @ np.abs(centres - loc))
    centres = (centres - loc) / scale
    total = masses.cumsum()
    which = np.minimum(((total - masses / 2) * _BINS).astype(np.int64), _BINS - 1)
    # a bin across a gap would lie where no sample does
    which += np.concatenate([[0], np.cumsum(np.diff(centres) > (centres[-1] - centres[0]) / 256)])
    which = np.unique(which, return_inverse=True)[1]
    w = np.bincount(which, masses)
    x = np.bincount(which, masses * centres) / np.maximum(w, 1e-300)
    within = np.bincount(which, masses * (centres - x[which]) ** 2) / np.maximum(w, 1e-300)
    keep = w > 0
    return x[keep], w[keep], within[keep], loc, scale


def _start(x, w, k: int):
    """Components at the quantiles, as wide as the gap between their neighbours."""
    edges = np.interp((np.arange(k + 2) + 0.0) / (k + 1), w.cumsum() - w / 2, x)
    widths = (edges[2:] - edges[:-2]) / 3
    return np.full(k, 1 / k), edges[1:-1].copy(), np.maximum(widths, (x[-1] - x[0]) * 1e-9)


def _ascend(x, w, within, start, rounds: int):
    """Expectation-maximisation from `start`; the map and the mean log-likelihood."""
    weights, means, widths = (np.array(a) for a in start)
    gap = np.gradient(x)  # no component may be finer than the bins around it
    for _ in range(rounds):
        # expectation; the variance inside a bin counts as in E (x - mean)^2
        spread = (x[:, None] - means) ** 2 + within[:, None]
        terms = np.log(weights / widths) - _LOG_ROOT - 0.5 * spread / widths**2
        top = terms.max(axis=1, keepdims=True)
        share = np.exp(terms - top)
        share *= (w / share.sum(axis=1))[:, None]
        # maximisation
        weights = np.maximum(share.sum(axis=0), 1e-12)
        means = share.T @ x / weights
        variance = (share * ((x[:, None] - means) ** 2 + within[:, None])).sum(axis=0) / weights
        widths = np.sqrt(np.maximum(variance, np.interp(means, x, gap) ** 2))
        weights = weights / weights.sum()
    terms = np.log(weights / widths) - _LOG_ROOT - 0.5 * ((x[:, None] - means) ** 2 + within[:, None]) / widths**2
    top = terms.max(axis=1)
    likelihood = float(w @ (top + np.log(np.exp(terms - top[:, None]).sum(axis=1))))
    order = np.argsort(means)
    return MixtureMap(*(_floats(a[order]) for a in (weights, means, widths))), likelihood
