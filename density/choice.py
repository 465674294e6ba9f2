"""The choice of the order by an information criterion: up a ladder, then halving the two steps around the best."""

from collections.abc import Callable

import numpy as np

from .cells import Cells
from .image import AnyMap, circle_of
from .likelihood import Certified, Circle, Maximum, certified_maximum, ranked_maximum
from .report import OrderStep
from .roughness import SmoothedCircle
from .validation import Folds, automatic_gamma

_LADDER = (0, 1, 2, 3, 4, 6, 8, 11, 16, 22, 32, 45, 64, 90, 128, 181, 256, 362, 512)
_RANK = 0.02  # orders and maps are ranked on likelihoods this exact, in nats of the whole data
_STAGES = (16, 64, 512)  # orders that are tried on a circle of their own size
_NEAR = 16  # orders closer than this part of the best are not told apart: their AIC differs by less than its noise


def highest_order(data: Cells, n: float) -> int:
    """Orders beyond this are not tried: 3 sqrt(n) parameters overfit, and c intervals say nothing of c waves."""
    top = min(512, 3 * np.sqrt(n) + 8)
    if data.widths is not None:
        top = min(top, len(data.centres))
    return max(int(top), 1)


def ascend(
    data: Cells,
    m: AnyMap,
    orders,
    basis: str,
    masses=None,
    patience: int = 2,
    hopeless: "Callable[[float, float], bool] | None" = None,
):
    """Maxima up the ladder, each started from the one before where that is likelier, and the order of lowest AIC.

    Small orders are tried on few nodes; a larger circle is made only when the best order comes near its limit, or when
    the Fejer means of a higher order already promise a lower AIC: a comb of 25 modes gains nothing below order 25.
    Likelihoods of different circles differ by their binning and are never compared, but the maximum on one is the start
    on the next.

    hopeless : asked after every order with the lowest AIC so far and how much it could still fall, both over n; ends
        the ascent by True.
    """
    n = data.n if masses is None else float(masses.sum()) * data.n
    cost = (2 if basis == "cosine" else 4) / n
    wide = circle_of(data, m, orders[-1], basis, masses)
    far = wide.promises(orders)
    narrow: dict[int, Maximum] = {}
    for top in _STAGES:
        stage, beyond = [k for k in orders if k <= top], [k for k in orders if k > top]
        circle = circle_of(data, m, stage[-1], basis, masses) if beyond else wide
        near = circle.promises(stage) if beyond else far
        found: dict[int, Maximum] = {}
        aic = lambda k, f=found: -2 * f[k].log_likelihood + cost * k  # noqa: E731
        best, previous, risen, falls = stage[0], None, 0, [np.inf]
        for i, K in enumerate(stage):
            start = narrow[K].a if K in narrow else previous
            found[K] = ranked_maximum(circle, K, start, promise=near[K], precision=_RANK / n)
            previous = found[K].a
            if i:
                falls.append(2 * (found[K].log_likelihood - found[stage[i - 1]].log_likelihood))
            best, risen = (K, 0) if aic(K) <= aic(best) else (best, risen + 1)
            if hopeless is not None and i + 1 < len(orders):
                still = max(len(orders) * max(falls[-2:]), 4 * (max(far[k] for k in orders if k > K) - far[K]))
                if hopeless(aic(best), still):
                    return best, found, aic, circle
            if risen >= patience and all(-2 * near[k] + cost * k >= aic(best) for k in stage[i + 1 :]):
                break
        if not beyond:
            break
        narrow = found
        if best < 0.7 * stage[-1]:
            base = wide.log_likelihood(found[best].a)
            if all(-2 * (far[k] - base) + cost * (k - best) >= 0 for k in beyond):
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
    top = highest_order(data, data.n)
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
    best, found, aic, circle = ascend(data, m, [k for k in _LADDER if k <= top], basis, patience=3)
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
        near = best // _NEAR
        untried = [
            (x + y) // 2 for x, y in ((below, best), (best, above)) if y - x > 1 + near and (x + y) // 2 not in found
        ]
        if not untried:
            break
        for k in untried:
            start = max((j for j in found if j < k), default=None)
            found[k] = ranked_maximum(circle, k, None if start is None else found[start].a, precision=_RANK / data.n)
    path = tuple(OrderStep(k, found[k].log_likelihood, aic(k), score(k)) for k in sorted(found))
    return best, path, circle, found[best].a
