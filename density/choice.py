"""The order on the chosen map: from the orders that the contest tried, halving the two steps around the best."""

import numpy as np

from .cells import Cells
from .circles import log_likelihoods
from .contest import Climber, highest_order
from .image import circle_of
from .likelihood import Certified, Circle, certified_maximum, ranked_maximum
from .report import OrderStep
from .roughness import SmoothedCircle
from .validation import Folds, automatic_gamma

_RANK = 0.02  # orders are ranked on likelihoods this exact, in nats of the whole data
_NEAR = 16  # orders closer than this part of the best are not told apart: their AIC differs by less than its noise


def best_order(
    data: Cells, climber: Climber, K: int | None, basis: str, *, criterion: str = "aic", roughness: float | None = 0.0
) -> tuple[Certified, tuple[OrderStep, ...], float]:
    """The certified maximum of the order that the criterion prefers (or of K), the path to it, and gamma.

    roughness : gamma, or None to choose it by cross-validation.
    """
    m = climber.map
    per_order = 1 if basis == "cosine" else 2
    price = per_order * (np.log(data.n) if criterion == "bic" else 2) / data.n
    path: tuple[OrderStep, ...] = ()
    if K is None:
        K, path, circle, start = _bisected(data, climber, basis, criterion, price)
    else:
        circle, start = circle_of(data, m, K, basis), climber.found.get(K)
    gamma = roughness
    if gamma is None:
        top = highest_order(data, data.n)
        wide, gamma = automatic_gamma(data, m, basis, K, min(2 * K + 8, top) if path else K)
        if wide > K:
            K, circle = wide, circle_of(data, m, wide, basis)
    best = certified_maximum(SmoothedCircle(circle, gamma) if gamma else circle, K, start)
    if K not in {step.order for step in path}:
        aic = -2 * best.log_likelihood + 2 * per_order * K / data.n
        path = (*path, OrderStep(K, best.log_likelihood, aic, -2 * best.log_likelihood + price * K))
    return best, path, gamma


def _bisected(
    data: Cells, climber: Climber, basis: str, criterion: str, price: float
) -> tuple[int, tuple[OrderStep, ...], Circle, np.ndarray]:
    """Best order, path, circle and coefficients."""
    found = dict(climber.found)
    circle = circle_of(data, climber.map, max(found), basis)
    likelihood = dict(zip(found, log_likelihoods([circle] * len(found), list(found.values()))))
    folds = Folds(data, climber.map, basis, max(found)) if criterion == "cv" else None
    known: dict[int, float] = {}

    def score(k: int) -> float:
        """The criterion; lower is better."""
        if k not in known:
            known[k] = -2 * likelihood[k] + price * k if folds is None else -2 * folds.score(k)
        return known[k]

    while True:
        best = min(found, key=score)
        below = max((k for k in found if k < best), default=best)
        above = min((k for k in found if k > best), default=best)
        near = best // _NEAR
        untried = [
            (x + y) // 2 for x, y in ((below, best), (best, above)) if y - x > 1 + near and (x + y) // 2 not in found
        ]
        if not untried:
            break
        for k in untried:
            start = found[max(j for j in found if j < k)]
            maximum = ranked_maximum(circle, k, start, precision=_RANK / data.n)
            found[k], likelihood[k] = maximum.a, maximum.log_likelihood
    aic = (2 if basis == "cosine" else 4) / data.n
    path = tuple(OrderStep(k, likelihood[k], -2 * likelihood[k] + aic * k, score(k)) for k in sorted(found))
    return best, path, circle, found[best]
