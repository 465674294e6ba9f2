"""The distribution function of a small Gaussian mixture as a map: sharp peaks of any scale come out nearly flat."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .expectation import Bins

_BINS = 768  # at most, and at most 256 more for gaps
_FILLED = 4  # samples in each bin, where they are few
_MOST = 16  # components
_ROUNDS = 15  # of expectation-maximisation after each new component
_FINAL = 150  # for the number of components that is taken
_GAIN = 0.002  # nats of all data that a round of these still brings
_PRICE = 3  # of a number, in -2 log-likelihood: AIC3
_PATIENCE = 4  # components that may be added without a better criterion
_PLACES, _PLACING = 16, 6  # where a new component is tried, and rounds from there
_SIEVED, _KEPT = 2, 4  # rounds after which only the best so many of the places are kept
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


def mixture_map(centres, masses, n: float) -> MixtureMap:
    """The Gaussian mixture of 2 to 16 components of the lowest ``-2 log L + 3 parameters`` (AIC3).

    Components are added one at a time, each where it helps most beside the others held fixed (Verbeek, Vlassis, Kroese
    2003), with expectation-maximisation of all of them in between, on at most 1024 bins of about equal mass, the finer
    the sharper the peak. Nothing is random, so the result is a function of the sketch.

    References
    ----------
    Dempster, Laird, Rubin (1977), doi 10.1111/j.2517-6161.1977.tb01600.x.
    Verbeek, Vlassis, Kroese (2003), Efficient greedy learning of Gaussian mixture models, Neural Computation 15(2).
    """
    bins, loc, scale = _bins(centres, masses, n)
    mean = bins.w @ bins.x
    deviation = np.sqrt(bins.w @ (bins.x * bins.x + bins.within) - mean * mean)
    parts = np.ones(1), np.array([mean]), np.array([deviation])
    lowest, best, chosen = np.inf, 0, parts
    for k in range(2, _MOST + 1):
        parts, likelihood = _ascend(bins, _with_one_more(bins, parts), _ROUNDS)
        criterion = -2 * likelihood + (3 * k - 1) * _PRICE / n
        if criterion < lowest:
            lowest, best, chosen = criterion, k, parts
        elif k >= best + _PATIENCE or criterion > lowest + 3 * _PRICE / n:
            break
    return _map_of(_ascend(bins, chosen, _FINAL, enough=_GAIN / n)[0], loc, scale)


def _floats(values) -> tuple[float, ...]:
    return tuple(float(v) for v in values)


def _bins(centres, masses, n: float):
    """Bins of about equal mass, and the loc and scale taken out of them."""
    masses = masses / masses.sum()
    loc = float(masses @ centres)
    scale = float(masses @ np.abs(centres - loc))
    centres = (centres - loc) / scale
    total = masses.cumsum()
    bins = int(np.clip(n / _FILLED, 64, _BINS))
    which = np.minimum(((total - masses / 2) * bins).astype(np.int64), bins - 1)
    # a bin across a gap would lie where no sample does
    which += np.concatenate([[0], np.cumsum(np.diff(centres) > (centres[-1] - centres[0]) / 256)])
    which = np.unique(which, return_inverse=True)[1]
    w = np.bincount(which, masses)
    x = np.bincount(which, masses * centres) / np.maximum(w, 1e-300)
    within = np.bincount(which, masses * (centres - x[which]) ** 2) / np.maximum(w, 1e-300)
    keep = w > 0
    return Bins(x[keep], w[keep], within[keep]), loc, scale


def _with_one_more(bins: Bins, parts):
    """The component whose best share of the mixture gains most, the others held fixed: a few rounds from each place."""
    weights, means, widths = parts
    x, w = bins.x, bins.w
    old = bins.densities(*parts)[0].sum(axis=0)
    edges = np.interp(np.linspace(0, 1, 2 * _PLACES + 1), w.cumsum() - w / 2, x)
    m, s = edges[1::2].copy(), np.maximum((edges[2::2] - edges[:-1:2]) / 2, (x[-1] - x[0]) * 1e-9)
    share = np.full(_PLACES, 0.5 / (len(weights) + 1))
    for i in range(_PLACING):
        new, squares = bins.densities(share, m, s)
        both = (1 - share)[:, None] * old
        both += new
        if i == _SIEVED:
            kept = np.argsort(np.log(both) @ w)[-_KEPT:]
            share, m, s, new, squares, both = (a[kept] for a in (share, m, s, new, squares, both))
        new /= both
        new *= w
        mass, m, variance = bins.moments(new, squares, m, s)
        share = np.clip(mass, 1e-9, 0.9)
        s = np.sqrt(np.maximum(variance, bins.finest(m)))
    both = (1 - share)[:, None] * old
    both += bins.densities(share, m, s)[0]
    j = int(np.argmax(np.log(both, out=both) @ w))
    return np.append(weights * (1 - share[j]), share[j]), np.append(means, m[j]), np.append(widths, s[j])


def _ascend(bins: Bins, parts, rounds: int, enough: float = 0.0):
    """Expectation-maximisation from `parts`: weights, means and widths, sorted, and the mean log-likelihood.

    enough : nats a sample and round; the ascent ends once ten rounds bring less.
    """
    weights, means, widths = (np.array(a) for a in parts)
    before = -np.inf
    for i in range(rounds):
        share, squares = bins.densities(weights, means, widths)
        total = share.sum(axis=0)
        if enough and i % 10 == 0:
            likelihood = float(bins.w @ np.log(total))
            if likelihood - before < 10 * enough:
                break
            before = likelihood
        share *= bins.w / total
        mass, means, variances = bins.moments(share, squares, means, widths)
        widths = np.sqrt(np.maximum(variances, bins.finest(means)))
        weights = mass / mass.sum()
    likelihood = float(bins.w @ np.log(bins.densities(weights, means, widths)[0].sum(axis=0)))
    order = np.argsort(means)
    return (weights[order], means[order], widths[order]), likelihood


def _map_of(parts, loc: float, scale: float) -> MixtureMap:
    weights, means, widths = parts
    return MixtureMap(_floats(weights), _floats(loc + scale * means), _floats(scale * widths))
