"""Cross-validation of the order and of the roughness penalty on one map."""

import numpy as np

from .cells import Cells
from .image import AnyMap, circle_of
from .likelihood import ranked_maximum
from .roughness import SmoothedCircle

_FOLDS = 5
_GAMMAS = tuple(10.0**e for e in range(-6, 0))
_SMALL = 3000  # samples up to which gamma is chosen automatically: beyond that the order alone decides


class Folds:
    """Five ways to leave a fifth of the samples out, by a generator of fixed seed: a function of the sketch."""

    def __init__(self, data: Cells, m: AnyMap, basis: str, highest: int):
        counts = data.masses * data.n
        rng = np.random.default_rng(20240216)
        whole = np.floor(counts)
        left = (whole + (rng.random(len(counts)) < counts - whole)).astype(np.int64)
        self.n, self.pairs = data.n, []
        for fold in range(_FOLDS):
            test = rng.binomial(left, 1 / (_FOLDS - fold))
            left = left - test
            train = np.maximum(counts - test, 0.0)
            if test.sum() and np.count_nonzero(train) > 1:
                size = int(test.sum())
                circles = (circle_of(data, m, highest, basis, part.astype(np.float64)) for part in (train, test))
                self.pairs.append((*circles, size))
        self.eps = 2 / (data.n + 10)

    def score(self, K: int, gamma: float = 0.0) -> float:
        """Mean held-out log-likelihood of order K in u, with the share of the safety tail."""
        total = 0.0
        for train, test, size in self.pairs:
            circle = SmoothedCircle(train, gamma) if gamma else train
            a = ranked_maximum(circle, K, precision=1e-3 / self.n).a
            p = (1 - self.eps) * test.observed(test.density(a)) + self.eps
            total += size * float(test.observations @ np.log(p))
        return total / sum(size for *_, size in self.pairs)


def automatic_gamma(data: Cells, m: AnyMap, basis: str, K: int, wide: int) -> tuple[int, float]:
    """Order and gamma of the best cross-validated likelihood: K without a penalty, or `wide` with one.

    Up to 3000 samples; of more the order alone decides, and gamma is 0.
    """
    if data.n > _SMALL or wide == 0:
        return K, 0.0
    folds = Folds(data, m, basis, wide)
    if len(folds.pairs) < _FOLDS:
        return K, 0.0
    tried = [(folds.score(K), 0.0)] + [(folds.score(wide, gamma), gamma) for gamma in _GAMMAS]
    gamma = max(tried)[1]
    return (wide if gamma else K), gamma
