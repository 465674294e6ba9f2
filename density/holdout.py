"""The choice of the map by held-out likelihood."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .cells import Cells
from .choice import ascend, highest_order
from .code_length import log_mass
from .fourier import FourierDensity, Tail
from .image import AnyMap, circle_of
from .likelihood import ranked_maximum
from .mixture_map import MixtureMap
from .report import Candidate, FitReport, Status

_ORDERS = (0, 2, 4, 8, 16, 32, 64, 128, 256)
_SINGULAR = 6.0  # nats of all held-out data by which a map that is infinite at an end must beat the others
_RESIDUE = 32  # the highest order that a mixture map is judged with: what it leaves should be smooth
_RANK = 0.02  # maps are ranked on likelihoods this exact, in nats of the whole data
_WORTH = 0.1  # nats of all held-out data that each number of a map and its order must bring
_MERGED = 1 << 14  # groups of cells
_ALONE = 512  # cells at each end that are not merged: they tell the tails apart
_CLEAR, _DOUBT = 0.01, 40.0  # nats a sample, and twice nats of all, that a map must be behind to be left early
_FINE = 2.0  # waves an interval that a map for rounded data is judged with


@dataclass(frozen=True)
class Tried:
    """A map with the log-likelihood of every held-out sample, and how many numbers were fitted for it."""

    candidate: Candidate
    scores: np.ndarray
    weights: np.ndarray
    n_parameters: int
    handicap: float

    @property
    def held_out(self) -> float:
        """Mean held-out likelihood, less the handicap."""
        return self.candidate.held_out

    @property
    def order(self) -> int:
        """Order that the map was judged with."""
        return self.candidate.order


class HoldOut:
    """Two thirds of the samples to fit maps on, the rest to score them with.

    The counts are thinned by a generator of fixed seed, so the choice is a function of the sketch. More than 32,768
    cells are merged to about half as many: what the maps differ by is far coarser.
    """

    def __init__(self, data: Cells, tail: Tail, K: int | None, basis: str):
        self.data = data = _merged(data) if data.widths is None and len(data.centres) > 2 * _MERGED else data
        self.tail, self.K, self.basis = tail, K, basis
        counts = data.masses * data.n
        rng = np.random.default_rng(20240215)
        whole = np.floor(counts)
        draw = rng.binomial((whole + (rng.random(len(counts)) < counts - whole)).astype(np.int64), 1 / 3)
        test = np.minimum(draw, counts)
        train = counts - test
        if test.sum() == 0 or np.count_nonzero(train) < 2:
            test = train = counts
        self.train, self.seen = train, test > 0
        self.test = test[self.seen]
        self.n_train, self.n_test = float(train.sum()), float(test.sum())
        self.lowest = np.inf  # AIC of the best map so far, over n, in the units of the data

    def judge(self, maps: Sequence[AnyMap]) -> list[Tried]:
        """Every map with its best order; the most promising first, so that others can be left early."""
        slopes = [self._slope(m) for m in maps]
        promises = [self._promise(m) + slope for m, slope in zip(maps, slopes)] if len(maps) > 1 else [0.0]
        judged: dict[int, Tried] = {}
        for i in np.argsort(-np.array(promises), kind="stable"):
            judged[i] = self._judged(maps[i], slopes[i])
        return [judged[i] for i in range(len(maps))]

    def _slope(self, m: AnyMap) -> float:
        """What the map itself adds to the mean log-likelihood of the samples."""
        seen = self.train > 0
        slope = np.maximum(m.log_derivative(self.data.centres[seen]), -745.0)
        return float(self.train[seen] @ slope) / self.n_train

    def _promise(self, m: AnyMap) -> float:
        """Likelihood of a histogram with some thirty numbers: enough to say where to begin."""
        circle = circle_of(self.data, m, 32, self.basis, self.train / self.n_train)
        return circle.promises([32])[32]

    def _judged(self, m: AnyMap, slope: float) -> Tried:
        data, n, per_order = self.data, self.n_train, 1 if self.basis == "cosine" else 2
        if isinstance(m, MixtureMap):  # it has many parameters: judged on samples that none of them has seen
            m = m.refitted(data.centres, self.train)
            slope = self._slope(m)
        offset = 2 * m.n_parameters(False) / n - 2 * slope

        def hopeless(aic: float, fall: float) -> bool:
            return aic + offset - fall > self.lowest + 2 * _CLEAR + _DOUBT / n

        if self.K is None:
            top = min(highest_order(data, n), _RESIDUE if isinstance(m, MixtureMap) else 256)
            if data.widths is not None:  # a map that leaves waves as fine as the intervals is not the one to take
                low, high = data.bounds
                top = min(top, max(16, int(_FINE / np.max(m.forward(high) - m.forward(low)))))
            orders = [k for k in _ORDERS if k <= top]
            best, found, aic, _ = ascend(data, m, orders, self.basis, self.train / data.n, hopeless=hopeless)
            self.lowest = min(self.lowest, aic(best) + offset)
        else:
            best = self.K
            circle = circle_of(data, m, best, self.basis, self.train / n)
            found = {best: ranked_maximum(circle, best, precision=_RANK / n)}
        density = FourierDensity(self.basis, m, found[best].a, self.tail, 2, FitReport(Status.CERTIFIED, n))
        scores = np.maximum(_scores(data, density, self.seen), -745.0)
        handicap = _SINGULAR / self.n_test if m.singular else 0.0
        held_out = float(self.test @ scores) / self.n_test - handicap
        fitted = best * per_order + m.n_parameters(False)
        return Tried(Candidate(m.kind, m.scale, best, held_out), scores, self.test, fitted, handicap)


def _merged(data: Cells) -> Cells:
    """Neighbouring values in groups of about equal mass, each at its mean; the outermost stay alone."""
    total = data.masses.cumsum()
    which = np.minimum(((total - data.masses / 2) * _MERGED).astype(np.int64), _MERGED - 1)
    gap = np.diff(data.centres) > (data.centres[-1] - data.centres[0]) / 256  # no group lies across a void
    alone = np.arange(len(which)) < _ALONE
    apart = (np.diff(which) > 0) | gap | (alone | alone[::-1])[1:]
    which = np.concatenate([[0], np.cumsum(apart)])
    masses = np.bincount(which, data.masses)
    return replace(data, centres=np.bincount(which, data.masses * data.centres) / masses, masses=masses)


def _scores(data: Cells, density: FourierDensity, seen):
    """Log-density of what was held out, averaged over the interval where it was rounded."""
    if data.widths is None:
        return density._log_pdf(data.centres[seen])
    low, high = (ends[seen] for ends in data.bounds)
    return log_mass(density, low, high) - np.log(high - low)


def preferred(tried: Sequence[Tried]) -> int:
    """The map of the highest held-out likelihood, unless a simpler one is as good.

    As good means no farther behind than chance explains, one standard error of the paired difference (Breiman,
    Friedman, Olshen, Stone 1984, section 3.4.3), and than a tenth of a nat of all held-out data for each number saved.
    The second keeps a map whose tails are wrong from passing: its rare large losses make the standard error large too.
    """
    best = max(tried, key=lambda t: t.held_out)
    n = float(best.weights.sum())
    close = []
    for i, t in enumerate(tried):
        loss = best.scores - t.scores
        variance = float(best.weights @ loss**2) / n - (float(best.weights @ loss) / n) ** 2
        chance = np.sqrt(max(variance, 0.0) * n)
        allowed = min(chance, _WORTH * (best.n_parameters - t.n_parameters))
        if t is best or (best.held_out - t.held_out) * n <= allowed:
            close.append((t.n_parameters, -t.held_out, i))
    return min(close)[2]
