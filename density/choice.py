"""The choice of the order by an information criterion, and of the map by held-out likelihood."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .cells import Cells
from .censored import CensoredCircle
from .code_length import log_mass
from .fourier import FourierDensity, Tail
from .likelihood import Certified, Circle, Maximum, certified_maximum, ranked_maximum, spectral_factor
from .maps import Map
from .mixture_map import MixtureMap
from .own_map import OwnMap
from .report import Candidate, FitReport, OrderStep, Status

_LADDER = (0, 1, 2, 3, 4, 6, 8, 11, 16, 22, 32, 45, 64, 90, 128, 181, 256, 362, 512)
_COARSE = (0, 2, 4, 8, 16, 32, 64, 128, 256)
_SINGULAR = 6.0  # nats of all held-out data by which a map that is infinite at an end must beat the others
_RESIDUE = 32  # the highest order that a mixture map is judged with: what it leaves should be smooth
_RANK = 0.02  # orders and maps are ranked on likelihoods this exact, in nats of the whole data
_WORTH = 0.1  # nats of all held-out data that each number of a map and its order must bring
_FINE = 2.0  # waves an interval that a map for rounded data is judged with
_POINT = 1 / 32  # half waves of the highest order that an interval may be wide and still count as a point

AnyMap = Map | OwnMap | MixtureMap


def _nodes_for(order: int) -> int:
    """Twice the 16 K that linear binning needs, a power of two."""
    return 1 << int(np.ceil(np.log2(max(1024, 32 * order))))


def circle_of(data: Cells, m: AnyMap, order: int, basis: str, masses=None) -> Circle:
    """The image of the data on the circle, with nodes for `order`; intervals stay intervals where that matters."""
    masses = data.masses if masses is None else masses
    count, periodic = _nodes_for(order), basis == "periodic"
    if data.widths is None:
        return Circle(_nodes_of(m.forward(data.centres), masses, count, periodic), basis)
    low, high = (m.forward(x) for x in data.bounds)
    wide = (high - low) * max(order, 1) > _POINT
    points = _nodes_of((low + high)[~wide] / 2, masses[~wide], count, periodic)
    if not wide.any():
        return Circle(points, basis)
    low, high, masses = low[wide], high[wide], masses[wide]
    pieces = int(np.clip(np.ceil(2 * count * np.max(high - low)), 1, 64))
    inside = (np.arange(pieces) + 0.5) / pieces
    spread = low[:, None] + (high - low)[:, None] * inside
    every = points + _nodes_of(spread.reshape(-1), np.repeat(masses / pieces, pieces), count, periodic)
    return CensoredCircle(every, basis, points, low, high, masses)


def _nodes_of(u, masses, count: int, periodic: bool):
    """Linear binning to equispaced nodes of [0, 1]."""
    u = u * count
    left = np.minimum(u.astype(np.int64), count - 1)
    part = u - left
    out = np.bincount(left, masses * (1 - part), count + 1) + np.bincount(left + 1, masses * part, count + 1)
    if periodic:
        out[0] += out[-1]
        return out[:-1]
    return out


def _highest(data: Cells, n: float) -> int:
    """Orders beyond this are not tried: 3 sqrt(n) parameters overfit, and c intervals say nothing of c waves."""
    top = min(512, 3 * np.sqrt(n) + 8)
    if data.widths is not None:
        top = min(top, len(data.centres))
    return max(int(top), 1)


def _promise(circle: Circle, K: int) -> float:
    """Likelihood of the spectral start, a lower bound for that of the fit and three FFTs cheap."""
    return circle.log_likelihood(spectral_factor(circle, circle.smoothed(K), K))


def _ascend(data: Cells, m: AnyMap, orders, basis: str, masses=None, patience: int = 2):
    """Maxima up the ladder, each started from the one before where that is likelier, and the order of lowest AIC.

    Small orders are tried on few nodes; a larger circle is made only when the best order comes near its limit, or when
    the spectral start of a higher order already promises a lower AIC: a comb of 25 modes gains nothing below order 25.
    Likelihoods of different circles differ by their binning and are never compared.
    """
    n = data.n if masses is None else float(masses.sum()) * data.n
    cost = (2 if basis == "cosine" else 4) / n
    stages = [[k for k in orders if k <= top] for top in (64, 512) if top == 64 or orders[-1] > 64]
    for stage in stages:
        circle = circle_of(data, m, stage[-1], basis, masses)
        found: dict[int, Maximum] = {}
        aic = lambda k, f=found: -2 * f[k].log_likelihood + cost * k  # noqa: E731
        higher = {k: -2 * _promise(circle, k) + cost * k for k in stage}
        best, previous, risen = stage[0], None, 0
        for i, K in enumerate(stage):
            found[K] = ranked_maximum(circle, K, previous, precision=_RANK / n)
            previous = found[K].a
            if aic(K) <= aic(best):
                best, risen = K, 0
                continue
            risen += 1
            if risen >= patience and all(higher[k] >= aic(best) for k in stage[i + 1 :]):
                break
        beyond = [k for k in orders if k > stage[-1]]
        if not beyond:
            break
        wide = circle_of(data, m, beyond[-1], basis, masses)
        base = wide.log_likelihood(found[best].a)
        if best < 0.7 * stage[-1] and all(-2 * (_promise(wide, k) - base) + cost * (k - best) >= 0 for k in beyond):
            break
    return best, found, aic, circle


def best_order(data: Cells, m: AnyMap, K: int | None, basis: str) -> tuple[Certified, tuple[OrderStep, ...]]:
    per_order = 1 if basis == "cosine" else 2
    if K is not None:
        best = certified_maximum(circle_of(data, m, K, basis), K)
        step = OrderStep(K, best.log_likelihood, -2 * best.log_likelihood + 2 * per_order * K / data.n)
        return best, (step,)
    top = _highest(data, data.n)
    best, found, aic, circle = _ascend(data, m, [k for k in _LADDER if k <= top], basis, patience=3)
    below = max((k for k in found if k < best), default=best)
    above = min((k for k in found if k > best), default=best)
    # Bisect the two steps of the ladder that enclose the best order.
    while True:
        untried = [k for k in ((below + best) // 2, (best + above) // 2) if k not in found]
        if not untried:
            break
        for k in untried:
            start = max((j for j in found if j < k), default=None)
            found[k] = ranked_maximum(circle, k, None if start is None else found[start].a, precision=_RANK / data.n)
        best = min(found, key=aic)
        below = max((k for k in found if k < best), default=best)
        above = min((k for k in found if k > best), default=best)
    path = tuple(OrderStep(k, found[k].log_likelihood, aic(k)) for k in sorted(found))
    return certified_maximum(circle, best, found[best].a), path


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


def judge(data: Cells, maps: Sequence[AnyMap], tail: Tail, K: int | None, basis: str) -> list[Tried]:
    """Held-out likelihood of every map: fit on two thirds of the samples, score on the rest.

    The counts are thinned by a generator of fixed seed, so the choice is a function of the sketch.
    """
    counts = data.masses * data.n
    rng = np.random.default_rng(20240215)
    whole = np.floor(counts)
    draw = rng.binomial((whole + (rng.random(len(counts)) < counts - whole)).astype(np.int64), 1 / 3)
    test = np.minimum(draw, counts)
    train = counts - test
    if test.sum() == 0 or np.count_nonzero(train) < 2:
        test = train = counts
    n_train, n_test = float(train.sum()), float(test.sum())
    seen = test > 0
    judged = []
    for m in maps:
        if isinstance(m, MixtureMap):  # it has many parameters: judged on samples that none of them has seen
            m = m.refitted(data.centres, train)
        if K is None:
            top = min(_highest(data, n_train), _RESIDUE if isinstance(m, MixtureMap) else 256)
            if data.widths is not None:  # a map that leaves waves as fine as the intervals is not the one to take
                low, high = data.bounds
                top = min(top, max(16, int(_FINE / np.max(m.forward(high) - m.forward(low)))))
            best, found, _, _ = _ascend(data, m, [k for k in _COARSE if k <= top], basis, train / data.n)
        else:
            best = K
            found = {K: ranked_maximum(circle_of(data, m, K, basis, train / n_train), K, precision=_RANK / n_train)}
        density = FourierDensity(basis, m, found[best].a, tail, 2, FitReport(Status.CERTIFIED, n_train))
        scores = np.maximum(_scores(data, density, seen), -745.0)
        handicap = _SINGULAR / n_test if m.singular else 0.0
        held_out = float(test[seen] @ scores) / n_test - handicap
        fitted = best * (1 if basis == "cosine" else 2) + m.n_parameters(False)
        judged.append(Tried(Candidate(m.kind, m.scale, best, held_out), scores, test[seen], fitted, handicap))
    return judged


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
