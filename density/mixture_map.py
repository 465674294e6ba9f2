"""The distribution function of a small Gaussian mixture as a map: sharp peaks of any scale come out nearly flat."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .components import Parts, ascended, binned, evenly_spread, single, with_one_more
from .expectation import Bins

_COARSE, _FINE = 512, 768  # bins to choose the components on, and to fit the chosen ones; gaps add 256 at most
_FILLED = 4  # samples in each bin, where they are few
_MOST = 16  # components
_FIRST, _ROUNDS = 8, 50  # of expectation-maximisation after each new component, and to the end
_NEAR, _GAIN = 0.5, 0.1  # nats of all data that the rounds left may bring, of those compared and of the chosen one
_PRICE = 1.5  # nats that a number must bring: AIC3
_PATIENCE = 3  # components that may be added without being worth more
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
        """Weights, means and widths, but for the sum of the weights; equal widths are one number."""
        return 2 * len(self.weights) - 1 + len(set(self.widths))

    def describe(self) -> str:
        """How many components, and over which scales."""
        least, most = min(self.widths), max(self.widths)
        widths = f"all of width {least:.4g}" if least == most else f"widths {least:.4g} to {most:.4g}"
        return f"mixture({len(self.weights)} components, {widths})"

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

    Components with widths of their own are added one at a time, each where it helps most beside the others held fixed,
    with expectation-maximisation of all of them in between; those of one width for all start from evenly spread means.
    All on at most 1024 bins of about equal mass, the finer the sharper the peak. Nothing is random, so the result is a
    function of the sketch.

    References
    ----------
    Banfield, Raftery (1993), doi 10.2307/2532201: mixtures with equal and with unequal widths as rivals.
    """
    bins, loc, scale = binned(centres, masses, int(np.clip(n / _FILLED, 64, _COARSE)))
    chosen = _tied(bins, n, *_free(bins, n))
    if n > _COARSE * _FILLED:
        bins, loc, scale = binned(centres, masses, int(min(n / _FILLED, _FINE)))
    return _map_of(ascended(bins, chosen, n, rounds=_ROUNDS, enough=_GAIN)[0], loc, scale)


def _free(bins: Bins, n: float) -> tuple[Parts, float]:
    """Components with widths of their own, and their worth.

    Up with a few rounds each, then down while fewer are worth more in the end: where components overlap a few rounds
    leave much to gain, and more components seem to be needed than are.
    """
    parts, found = single(bins), []
    while len(found) + 1 < _MOST:
        parts, likelihood = ascended(bins, with_one_more(bins, parts), n, rounds=_FIRST, enough=_NEAR)
        found.append((parts, _worth(parts, likelihood, n)))
        best = max(range(len(found)), key=lambda i: found[i][1])
        if len(found) > best + _PATIENCE:
            break
    chosen, highest = found[best]
    for parts, _ in reversed(found[: best + 1]):
        least = highest + _price(parts, n)
        parts, likelihood = ascended(bins, parts, n, rounds=_ROUNDS, enough=_NEAR, least=least)
        worth = _worth(parts, likelihood, n)
        if worth < highest:
            break
        chosen, highest = parts, worth
    return chosen, highest


def _tied(bins: Bins, n: float, chosen: Parts, highest: float) -> Parts:
    """Components of one width, or those that the best of them become with widths of their own, if worth more."""
    best, most, last = chosen, -np.inf, len(chosen.weights)
    for k in range(2, _MOST + 1):
        if k > last + _PATIENCE:
            break
        parts = evenly_spread(bins, k)
        parts, likelihood = ascended(bins, parts, n, rounds=_ROUNDS, enough=_NEAR, least=most + _price(parts, n))
        worth = _worth(parts, likelihood, n)
        if worth > most:
            best, most = parts, worth
            last = max(last, k) if worth > highest else last
    released, likelihood = ascended(bins, best._replace(tied=False), n, rounds=_ROUNDS, enough=_NEAR)
    rivals = ((chosen, highest), (best, most), (released, _worth(released, likelihood, n)))
    return max(rivals, key=lambda found: found[1])[0]


def _price(parts: Parts, n: float) -> float:
    return parts.n_parameters * _PRICE / n


def _worth(parts: Parts, likelihood: float, n: float) -> float:
    return likelihood - _price(parts, n)


def _floats(values) -> tuple[float, ...]:
    return tuple(float(v) for v in values)


def _map_of(parts: Parts, loc: float, scale: float) -> MixtureMap:
    return MixtureMap(_floats(parts.weights), _floats(loc + scale * parts.means), _floats(scale * parts.widths))
