"""The choice of the map by an information criterion: all climb the same ladder of orders beside each other."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from .cells import ENDS, Cells
from .circles import maxima, promised
from .code_length import log_mass
from .fourier import FourierDensity, Tail
from .image import AnyMap, Image, nodes_for
from .likelihood import Circle
from .mixture_map import MixtureMap
from .report import Candidate, FitReport, Status

LADDER = (0, 1, 2, 3, 4, 6, 8, 11, 16, 22, 32, 45, 64, 90, 128, 181, 256, 362, 512)
_RANK = 0.1  # orders and maps are ranked on likelihoods this exact, in nats of the whole data
_STAGES = (16, 64, 128, 256, 512)  # orders that are tried on a circle of their own size
_BEAM = 4  # maps that climb beyond the first stage, those that promise most
_PATIENCE = 2  # orders of a higher criterion after which a map stops, unless a higher one promises more
_FALLS = 2  # times the last one, the falls of the criterion that may follow
_CLEAR, _DOUBT = 0.001, 20.0  # nats a sample, and twice nats of all, that a map must be behind to be left early
_PRICE = 1.5  # nats of all data that every number must bring, of maps and of orders between maps: AIC3 (Bozdogan 1993)
_PLACED = 1.75  # the same, of a mixture of peaks: a peak stands where it gains most, so it gains more by chance
_SINGULAR = 6.0  # nats by which a map that is infinite at an end must beat the others
_OUTER = 8  # samples at an end whose spacing says how far the next one may lie
_NARROW = 1e-6  # width of an interval in u that counts as a point
_TWO = 5  # numbers of two normal components: where the best of the others has as many, mixtures are tried too
_RESIDUE = 32  # the highest order that a mixture map is judged with: what it leaves should be smooth
_FINE = 2.0  # waves an interval that a map for rounded data is judged with
_FEW = 1 << 14  # samples
_MERGED = 1 << 14  # groups of cells, by mass and by place


def highest_order(data: Cells, n: float) -> int:
    """Orders beyond this are not tried: 3 sqrt(n) parameters overfit, and c intervals say nothing of c waves."""
    top = min(512, 3 * np.sqrt(n) + 8)
    if data.widths is not None:
        top = min(top, len(data.centres))
    return max(int(top), 1)


class Climber:
    """A map on its way up the ladder, with the maximum of every order so far.

    found, likelihood : coefficients by order, and their likelihood on the circle of this stage.
    own : what the map's own numbers add to the criterion, over n.
    far : likelihoods of Fejer means by order, lower bounds, on the coarse circle `wide`.
    worth : by which maps are compared, nats a sample: mean log-likelihood less the price of every number.
    """

    def __init__(self, m: AnyMap, data: Cells, basis: str):
        self.map, self.image = m, Image(data, m, basis)
        self.price = (2 if basis == "cosine" else 4) / data.n
        price = _PLACED if isinstance(m, MixtureMap) else _PRICE
        self.own = 2 * (price * m.n_parameters(False) + (_SINGULAR if m.singular else 0)) / data.n
        self._data = data
        self.top = highest_order(data, data.n)
        if isinstance(m, MixtureMap):
            self.top = min(self.top, _RESIDUE)
        if data.widths is not None:  # a map that leaves waves as fine as the intervals is not the one to take
            self.top = min(self.top, max(16, int(_FINE / np.max(self.image.high - self.image.low))))
        self.found: dict[int, np.ndarray] = {0: np.ones(1)}
        self.likelihood: dict[int, float] = {0: 0.0}  # u is uniform
        self.far: dict[int, float] = {}
        self.worth = -np.inf

    @cached_property
    def offset(self) -> float:
        """What the map's own numbers and its slope at the data add to the criterion, over n."""
        return self.own - 2 * float(self._data.masses @ np.maximum(self._slopes(), -745.0))

    def _slopes(self):
        """log du/dx at the values, or of the whole interval that a value was rounded from."""
        data = self._data
        slopes, (low, high) = self.map.log_derivative(data.centres), data.bounds
        if data.widths is None and data.spans is None:
            return slopes
        width = self.image.high - self.image.low
        wide = width > _NARROW
        return np.where(wide, np.log(np.where(wide, width, 1) / np.where(wide, high - low, 1)), slopes)

    def criterion(self, K: int) -> float:
        """AIC over n, in the units of the data."""
        return -2 * self.likelihood[K] + self.price * K + self.offset

    @property
    def best(self) -> int:
        """The order of the lowest criterion so far."""
        return min(self.likelihood, key=self.criterion)

    @property
    def candidate(self) -> Candidate:
        """For the report."""
        return Candidate(self.map.kind, self.map.scale, self.best, self.worth)

    def look_ahead(self, far: dict[int, float], wide: Circle) -> None:
        """Take the promises of the orders to come, and the circle that they were made on."""
        self.far, self.wide = far, wide

    def measure_on(self, circle: Circle) -> None:
        """Likelihoods on another circle, of the best order and of the last ones."""
        kept = {self.best, *sorted(self.found)[-3:]}
        self.likelihood = {k: circle.log_likelihood(self.found[k]) for k in sorted(kept)}

    def promised(self, K: int) -> float:
        """A lower bound for the likelihood of this order."""
        return max((value for k, value in self.far.items() if k <= K), default=np.inf)

    def still(self) -> float:
        """How much the criterion may yet fall, over n: as in the last doubling, or as the promises of higher orders."""
        tried = sorted(self.likelihood)
        last, before = tried[-1], tried[-3] if len(tried) > 2 else None
        if last >= self.top:
            return 0.0
        if before is None:
            return np.inf
        fall = (
            _FALLS * 2 * (self.likelihood[last] - self.likelihood[before]) - self.price * last
        )  # of one doubling more
        here = self.promised(last)
        rises = [2 * (value - here) - self.price * (k - last) for k, value in self.far.items() if k > last]
        return max(fall, *rises, 0.0)

    def hopes(self) -> bool:
        """Whether the promise of a higher order is better than what was found."""
        best, last = self.best, max(self.likelihood)
        ahead = [k for k in self.far if k > last]
        if not ahead:
            return False
        base = self.wide.log_likelihood(self.found[best])
        return any(-2 * (self.far[k] - base) + self.price * (k - best) < 0 for k in ahead)

    def wants_more(self) -> bool:
        """Whether to climb on within a stage."""
        best, last = self.best, max(self.likelihood)
        beyond = sum(k > best for k in self.likelihood)
        return beyond < (_PATIENCE if last <= _STAGES[0] else 1) or self.hopes()

    def promise_of_all(self) -> float:
        """The lowest criterion that the promises come to."""
        return min((-2 * value + self.price * k for k, value in self.far.items()), default=np.inf) + self.offset


class Contest:
    """The maps that are tried on some data, and what the best of them has reached."""

    def __init__(self, data: Cells, tail: Tail, K: int | None, basis: str):
        self.data, self.tail, self.K, self.basis = data, tail, K, basis
        self.lowest = np.inf  # criterion of the best map so far

    def enter(self, maps: Sequence[AnyMap], peaks: Callable[[], AnyMap] | None = None) -> list[Climber]:
        """Every map with its best order and its worth.

        peaks : makes one more map, which is tried if the best of the others has as many numbers as two peaks would.
        """
        if len(maps) == 1 and self.K is not None and peaks is None:  # nothing to choose
            return [Climber(maps[0], self.data, self.basis)]
        if self.data.widths is None and len(self.data.centres) > 2 * _MERGED:
            self.data = _merged(self.data)
        climbers = [Climber(m, self.data, self.basis) for m in maps]
        if self.K is None:
            climbers += self._climb(climbers, peaks)
        else:
            if peaks is not None and self.K >= _TWO:
                climbers.append(Climber(peaks(), self.data, self.basis))
            for c in climbers:
                c.likelihood.clear()
            self._try([(c, c.image.circle(self.K)) for c in climbers], self.K)
        self._judge(climbers)
        return climbers

    def _behind(self, criterion: float) -> bool:
        return criterion > self.lowest + 2 * _CLEAR + _DOUBT / self.data.n

    def _nodes(self, order: int) -> int:
        """Half of a fit's nodes rank the maps of few samples: what that changes is far below their noise."""
        return nodes_for(order) // (2 if self.data.n <= _FEW else 1)

    def _try(self, pairs: "list[tuple[Climber, Circle]]", K: int) -> None:
        """The maximum of order K for each climber on its circle."""
        starts = [c.found[max(c.found)] for c, _ in pairs]
        circles, promises = [circle for _, circle in pairs], [c.promised(K) for c, _ in pairs]
        for (c, _), m in zip(pairs, maxima(circles, K, starts, promises, _RANK / self.data.n)):
            c.found[K], c.likelihood[K] = m.a, m.log_likelihood
            self.lowest = min(self.lowest, c.criterion(K))

    def _climb(self, climbers: list[Climber], peaks: Callable[[], AnyMap] | None = None) -> list[Climber]:
        """Up the ladder by stages, on circles as large as each needs; the map of peaks, if it was asked for.

        A larger circle is made only for maps whose best order comes near the limit of the smaller one, or where the
        Fejer means of a higher order already promise a lower AIC: a comb of 25 modes gains nothing below order 25.
        Likelihoods of different circles differ by their binning, so what was found is measured anew on the next.
        """
        highest = max(c.top for c in climbers)
        ahead = [k for k in LADDER if k <= highest and k & (k - 1) == 0]
        wide = [c.image.circle(ahead[-1], nodes=max(512, 8 * ahead[-1])) for c in climbers]
        for c, far, circle in zip(climbers, promised(wide, ahead), wide):
            c.look_ahead({k: value for k, value in far.items() if k <= c.top}, circle)
        climbing, late = climbers, []
        for top in _STAGES:
            orders = [k for k in LADDER if k <= min(top, highest)]
            circles = {c: c.image.circle(orders[-1], nodes=self._nodes(orders[-1])) for c in climbing}
            for c in climbing:
                c.measure_on(circles[c])
            live = climbing
            for K in orders:
                pairs = [(c, circles[c]) for c in live if c.top >= K and K not in c.found]
                if pairs:
                    self._try(pairs, K)
                    live = [c for c in live if c.wants_more() and not self._behind(c.criterion(c.best) - c.still())]
            if peaks is not None and not late and _numbers(min(climbers, key=lambda c: c.criterion(c.best))) >= _TWO:
                late = [Climber(peaks(), self.data, self.basis)]
                self._climb(late)
            near = [c for c in live if c.best >= 0.7 * orders[-1] or c.hopes()]
            near = [c for c in near if c.top > orders[-1] and not self._behind(c.criterion(c.best) - c.still())]
            climbing = sorted(near, key=Climber.promise_of_all)[:_BEAM]
            if not climbing:
                break
        return late

    def _judge(self, climbers: list[Climber]) -> None:
        """AIC3 over -2 n; of maps in doubt from the data themselves and with the safety tail, without the binning."""
        for c in climbers:
            c.worth = c.likelihood[c.best] - c.offset / 2 - _PRICE * c.best * c.price / 2 + np.log1p(-self.tail.mass)
        highest = max(c.worth for c in climbers)
        for c in climbers:
            if highest - c.worth <= _CLEAR + _DOUBT / 2 / self.data.n:
                c.worth = self._exact(c)

    def _exact(self, c: Climber) -> float:
        report = FitReport(Status.CERTIFIED, self.data.n)
        density = FourierDensity(self.basis, c.map, c.found[c.best], self.tail, 2, report)
        scores = np.maximum(_scores(self.data, density), -745.0)
        beyond = self._beyond(c, scores) if c.map.bounded and self.tail.mass else 0.0
        return float(self.data.masses @ scores) - c.own / 2 - _PRICE * c.best * c.price / 2 - beyond

    def _beyond(self, c: Climber, scores) -> float:
        """What new samples are expected to lose beyond the ends of the data, where only the safety tail is left.

        Each end is passed with probability 1 / (n + 1), less what falls into the room that the map leaves there: with
        spacings like those of the outermost samples, all but exp(-room / spacing).
        """
        data, loss = self.data, 0.0
        ends = np.array([c.image.low, 1 - c.image.high[::-1]])[:, : _OUTER + 1]
        for u, end in zip(ends, (0, -1)):
            counts = (data.masses if end == 0 else data.masses[::-1])[: len(u)] * data.n
            spacing = max(float(u[-1] - u[0]) / max(float(counts[1:].sum()), 1e-300), 1e-300)
            drop = float(scores[end] - self.tail.log_pdf(data.centres[end]))
            loss += max(drop, 0.0) * float(np.exp(-u[0] / spacing))
        return loss / data.n


def _numbers(c: Climber) -> int:
    """That were fitted: of the map, and its best order."""
    return c.map.n_parameters(False) + c.best


def _merged(data: Cells) -> Cells:
    """Neighbouring values in groups of about equal mass, each at its mean; the outermost stay alone.

    No group is wide beside the finest wave of a bounded map either: waves would settle on the means of a thin tail.
    """
    total = data.masses.cumsum()
    which = np.minimum(((total - data.masses / 2) * _MERGED).astype(np.int64), _MERGED - 1)
    place = (data.centres - data.centres[0]) * (_MERGED / (data.centres[-1] - data.centres[0]))
    further = np.diff(place.astype(np.int64)) > 0
    alone = np.arange(len(which)) < ENDS  # they tell the tails apart
    apart = (np.diff(which) > 0) | further | (alone | alone[::-1])[1:]
    which = np.concatenate([[0], np.cumsum(apart)])
    masses = np.bincount(which, data.masses)
    centres = np.bincount(which, data.masses * data.centres) / masses
    spans = data.spans
    if spans is not None:
        single = np.bincount(which) == 1
        first = np.searchsorted(which, np.arange(len(masses)))
        low, high = (np.where(single, end[first], centres) for end in spans)
        spans = low, high
    return replace(data, centres=centres, masses=masses, spans=spans)


def _scores(data: Cells, density: FourierDensity):
    """Log-density of every value, of its mean over the interval where there is one."""
    low, high = data.bounds
    if data.widths is not None:
        return log_mass(density, low, high) - np.log(high - low)
    scores, wide = density._log_pdf(data.centres), np.flatnonzero(low < high)
    scores[wide] = log_mass(density, low[wide], high[wide]) - np.log(high[wide] - low[wide])
    return scores
