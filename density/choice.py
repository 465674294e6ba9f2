"""The choice of the order by an information criterion, and of the map by held-out likelihood."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .cells import Cells
from .code_length import log_mass
from .fourier import FourierDensity, Tail
from .image import AnyMap, circle_of
from .likelihood import Certified, Circle, Maximum, certified_maximum, ranked_maximum, spectral_factor
from .mixture_map import MixtureMap
from .report import Candidate, FitReport, OrderStep, Status
from .roughness import SmoothedCircle
from .validation import Folds, automatic_gamma

_LADDER = (0, 1, 2, 3, 4, 6, 8, 11, 16, 22, 32, 45, 64, 90, 128, 181, 256, 362, 512)
_COARSE = (0, 2, 4, 8, 16, 32, 64, 128, 256)
_SINGULAR = 6.0  # nats of all held-out data by which a map that is infinite at an end must beat the others
_RESIDUE = 32  # the highest order that a mixture map is judged with: what it leaves should be smooth
_RANK = 0.02  # orders and maps are ranked on likelihoods this exact, in nats of the whole data
_WORTH = 0.1  # nats of all held-out data that each number of a map and its order must bring
_FINE = 2.0  # waves an interval that a map for rounded data is judged with


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


def best_order(
    data: Cells, m: AnyMap, K: int | None, basis: str, *, criterion: str = "aic", roughness: float | None = 0.0
) -> tuple[Certified, tuple[OrderStep, ...], float]:
    """The certified maximum of the order that the criterion prefers (or of K), the path to it, and gamma.

    roughness : gamma, or None to choose it by cross-validation.
    """
    per_order = 1 if basis == "cosine" else 2
    price = per_order * (np.log(data.n) if criterion == "bic" else 2) / data.n
    top = _highest(data, data.n)
    path: tuple[OrderStep, ...] = ()
    start = None
    if K is None:
        K, path, circle, start = _climb(data, m, basis, top, criterion, price)
    else:
        circle = circle_of(data, m, K, basis)
    gamma = roughness
    if gamma is None:
        wide, gamma = automatic_gamma(data, m, basis, K, min(2 * K + 8, top) if path else K)
        if wide > K:
            K, circle = wide, circle_of(data, m, wide, basis)
    best = certified_maximum(SmoothedCircle(circle, gamma) if gamma else circle, K, start)
    if K not in {step.order for step in path}:
        aic = -2 * best.log_likelihood + 2 * per_order * K / data.n
        path = (*path, OrderStep(K, best.log_likelihood, aic, -2 * best.log_likelihood + price * K))
    return best, path, gamma


def _climb(
    data: Cells, m: AnyMap, basis: str, top: int, criterion: str, price: float
) -> tuple[int, tuple[OrderStep, ...], Circle, np.ndarray]:
    """Best order, path, circle and coefficients: up the ladder, then bisection of the two steps around the best."""
    best, found, aic, circle = _ascend(data, m, [k for k in _LADDER if k <= top], basis, patience=3)
    folds = Folds(data, m, basis, max(found)) if criterion == "cv" else None
    known: dict[int, float] = {}

    def score(k: int) -> float:
        """The criterion; lower is better."""
        if folds is None:
            return -2 * found[k].log_likelihood + price * k
        if k not in known:
            known[k] = -2 * folds.score(k)
        return known[k]

    while True:
        best = min(found, key=score)
        below = max((k for k in found if k < best), default=best)
        above = min((k for k in found if k > best), default=best)
        untried = [k for k in ((below + best) // 2, (best + above) // 2) if k not in found]
        if not untried:
            break
        for k in untried:
            start = max((j for j in found if j < k), default=None)
            found[k] = ranked_maximum(circle, k, None if start is None else found[start].a, precision=_RANK / data.n)
    path = tuple(OrderStep(k, found[k].log_likelihood, aic(k), score(k)) for k in sorted(found))
    return best, path, circle, found[best].a


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
