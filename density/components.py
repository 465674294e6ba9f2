"""The components of a Gaussian mixture on bins of the data, with widths of their own or one width for all."""

from typing import NamedTuple

import numpy as np

from .expectation import Bins, ascent

_PRIOR = 2.0  # samples that the common scale of the widths counts for
_PLACES, _PLACING = 16, 6  # where a new component is tried, and rounds from there
_SIEVED, _KEPT = 2, 4  # rounds after which only the best so many of the places are kept
_SETTLING = 10  # rounds that bring k means to the middle of what is nearest to them


class Parts(NamedTuple):
    """Weights, means and widths of the components; `tied` where all have one width."""

    weights: np.ndarray
    means: np.ndarray
    widths: np.ndarray
    tied: bool = False

    @property
    def n_parameters(self) -> int:
        """Numbers that are fitted."""
        k = len(self.weights)
        return 2 * k if self.tied else 3 * k - 1


def binned(centres, masses, bins: int):
    """Bins of about equal mass, and the loc and scale taken out of them.

    A bin across a gap would lie where no sample does, so there is another one for each of them.
    """
    masses = masses / masses.sum()
    loc = float(masses @ centres)
    scale = float(masses @ np.abs(centres - loc))
    centres = (centres - loc) / scale
    total = masses.cumsum()
    which = np.minimum(((total - masses / 2) * bins).astype(np.int64), bins - 1)
    which += np.concatenate([[0], np.cumsum(np.diff(centres) > (centres[-1] - centres[0]) / 256)])
    which = np.unique(which, return_inverse=True)[1]
    w = np.bincount(which, masses)
    x = np.bincount(which, masses * centres) / np.maximum(w, 1e-300)
    within = np.bincount(which, masses * (centres - x[which]) ** 2) / np.maximum(w, 1e-300)
    keep = w > 0
    return Bins(x[keep], w[keep], within[keep]), loc, scale


def single(bins: Bins) -> Parts:
    """The normal law of the mean and the variance."""
    mean = float(bins.w @ bins.x)
    deviation = np.sqrt(bins.w @ (bins.x * bins.x + bins.within) - mean * mean)
    return Parts(np.ones(1), np.array([mean]), np.array([deviation]))


def with_one_more(bins: Bins, parts: Parts) -> Parts:
    """The component whose best share of the mixture gains most, the others held fixed: a few rounds from each place.

    Verbeek, Vlassis, Kroese (2003), Efficient greedy learning of Gaussian mixture models, Neural Computation 15(2).
    """
    x, w = bins.x, bins.w
    old = bins.densities(*parts[:3])[0].sum(axis=0)
    edges = np.interp(np.linspace(0, 1, 2 * _PLACES + 1), w.cumsum() - w / 2, x)
    m, s = edges[1::2].copy(), np.maximum((edges[2::2] - edges[:-1:2]) / 2, (x[-1] - x[0]) * 1e-9)
    share = np.full(_PLACES, 0.5 / (len(parts.weights) + 1))
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
    weights = np.append(parts.weights * (1 - share[j]), share[j])
    return Parts(weights, np.append(parts.means, m[j]), np.append(parts.widths, s[j]))


def evenly_spread(bins: Bins, k: int) -> Parts:
    """Components of one width around k means that leave little variance, from the quantiles (Lloyd 1982)."""
    x, w = bins.x, bins.w
    means = np.interp((np.arange(k) + 0.5) / k, w.cumsum() - w / 2, x)
    for _ in range(_SETTLING):
        nearest = np.searchsorted((means[1:] + means[:-1]) / 2, x)
        weights = np.bincount(nearest, w, k)
        means = np.where(weights > 0, np.bincount(nearest, w * x, k) / np.maximum(weights, 1e-300), means)
    variance = float(w @ ((x - means[nearest]) ** 2 + bins.within))
    taken = np.flatnonzero(weights)
    width = np.sqrt(max(variance, float(bins.gap.min()) ** 2))
    return Parts(weights[taken], means[taken], np.full(len(taken), width), tied=True)


def ascended(
    bins: Bins, parts: Parts, n: float, *, rounds: int, enough: float = 0.0, least: float = -np.inf
) -> tuple[Parts, float]:
    """Expectation-maximisation from `parts`: components sorted by their means, and the mean log-likelihood.

    Widths of their own have a scaled inverse chi-squared prior that is worth two samples, its scale their harmonic
    mean: a component of a few samples takes on the width of the others and no spike remains, and one of hundreds keeps
    its own.

    enough : nats of all n samples; the ascent ends where the rounds that are left would bring less.
    least : mean log-likelihood; the ascent ends where the rounds that are left would not reach it.

    References
    ----------
    Dempster, Laird, Rubin (1977), doi 10.1111/j.2517-6161.1977.tb01600.x.
    Fraley, Raftery (2007), Bayesian regularization for normal mixture estimation, doi 10.1007/s00357-007-0004-5.
    """
    finest = float(bins.gap.min()) ** 2

    def tied(mass, means, variances, widths):
        common = max(float(mass @ variances) / float(mass.sum()), finest)
        return np.full(len(mass), np.sqrt(common))

    def free(mass, means, variances, widths):
        common = len(widths) / (1 / (widths * widths)).sum()
        size = n * mass
        variances = (size * variances + _PRIOR * common) / (size + _PRIOR)
        return np.sqrt(np.maximum(variances, bins.finest(means)))

    widths_of = tied if parts.tied else free
    found, likelihood = ascent(bins, parts[:3], rounds, enough=enough / n, widths_of=widths_of, least=least)
    return Parts(*found, parts.tied), likelihood
