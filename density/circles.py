"""Several circles of one size beside each other: one transform and one Newton step for all of them.

A small Newton step is mostly the overhead of a dozen array operations. The maps that a fit tries are as many problems
of the same shape, so their transforms and their logarithms are rows of one array.
"""

from collections.abc import Sequence

import numpy as np
from scipy.linalg import get_lapack_funcs

from .likelihood import STALL, Circle, Maximum, even_factor, irfft, ranked_maximum, rfft, smoothed_order

_MOST_STEPS, _MOST_REFUSED = 300, 60
_MOST_DAMPING = 1e30
_WIDE = 160  # orders from which on a factorisation outweighs the overhead that rows of one array share


def log_likelihoods(circles: Sequence[Circle], coefficients: Sequence[np.ndarray]) -> list[float]:
    """Of each row of coefficients on its own circle, which may be of any kind."""
    if not _alike(circles):
        return [c.log_likelihood(a) for c, a in zip(circles, coefficients)]
    a = np.zeros((len(circles), max(map(len, coefficients))))
    for row, known in zip(a, coefficients):
        row[: len(known)] = known
    return _Rows(circles).log_likelihood(a, _Rows.values(a, circles[0].size)).tolist()


def promised(circles: Sequence[Circle], orders: Sequence[int]) -> list[dict[int, float]]:
    """`Circle.promises` of each circle."""
    if not _alike(circles):
        return [c.promises(orders) for c in circles]
    rows, size = _Rows(circles), circles[0].size
    c = rows.moments(rows.share, size, max(orders) + 1)
    found: list[dict[int, float]] = [{} for _ in circles]
    for K in orders:
        p = _fejer(c[:, : K + 1], size)
        p[rows.empty] = 1
        for known, value in zip(found, (rows.weights * np.log(np.maximum(p, 1e-300))).sum(axis=1)):
            known[K] = float(value)
    return found


def maxima(circles: Sequence[Circle], order: int, starts: Sequence, promises: Sequence[float], precision: float):
    """`likelihood.ranked_maximum` of each circle; starts may be None, and of any lower order."""
    if order >= _WIDE or not _alike(circles):
        every = zip(circles, starts, promises)
        return [ranked_maximum(c, order, s, promise=p, precision=precision) for c, s, p in every]
    rows, size = _Rows(circles), circles[0].size
    a = np.zeros((len(circles), order + 1))
    for row, start in zip(a, starts):
        row[: 1 if start is None else len(start)] = 1.0 if start is None else start
    A = rows.values(a, size)
    L = rows.log_likelihood(a, A)
    doubtful = np.flatnonzero(np.asarray(promises) > L)
    if len(doubtful):
        part = rows.chosen(doubtful)
        other = part.first_factors(size, order)
        B = part.values(other, size)
        reached = part.log_likelihood(other, B)
        better = reached > L[doubtful]
        taken = doubtful[better]
        a[taken], A[taken], L[taken] = other[better], B[better], reached[better]
    return _ascend(rows, a, A, L, size, precision)


def _alike(circles: Sequence[Circle]) -> bool:
    """Whether there are several, all plain and even, of one size."""
    first = circles[0]
    return len(circles) > 1 and first.even and all(type(c) is Circle and c.size == first.size for c in circles)


class _Rows:
    """Weights of the circles, a row each."""

    def __init__(self, circles: Sequence[Circle]):
        self.weights = np.stack([c.weights for c in circles])
        self.empty = self.weights == 0
        self.share = np.stack([c.share for c in circles])

    def chosen(self, which) -> "_Rows":
        """Some of the rows."""
        part = object.__new__(_Rows)
        part.weights, part.empty, part.share = self.weights[which], self.empty[which], self.share[which]
        return part

    @staticmethod
    def values(a, size: int):
        """A at the nodes; its conjugate would do as well everywhere but in the moments."""
        A = rfft(a, size, axis=-1)
        return np.conj(A, out=A)

    def log_likelihood(self, a, A):
        """``sum_j w_j log p(theta_j)`` of each row."""
        p = A.real**2 + A.imag**2
        p[self.empty] = 1
        with np.errstate(divide="ignore"):
            np.log(p, out=p)
        p *= self.weights
        return p.sum(axis=1) - np.log((a * a).sum(axis=1))

    def moments(self, f, size: int, count: int):
        """``sum_j f_j exp(i k theta_j)`` for k < count."""
        return irfft(f, size, axis=-1, norm="forward")[:, :count]

    def first_factors(self, size: int, order: int):
        """`likelihood.first_factor` of each row."""
        p = _fejer(self.moments(self.share, size, smoothed_order(order, size) + 1), size)
        return even_factor(p, order, size)


def _fejer(c, size: int):
    """Fejer means at the nodes from the moments of each row."""
    c = c * (1 - np.arange(c.shape[1]) / c.shape[1])
    c[:, 1:] *= 2
    return rfft(c, size, axis=-1).real


def _ascend(rows: _Rows, a, A, L, size: int, precision: float) -> list[Maximum]:
    """`likelihood.maximise` of every row; those that have arrived drop out.

    Newton's gains fall at least as fast from step to step as they did before: where the next one would be too small,
    the step is not made.
    """
    norm = np.linalg.norm(a, axis=1, keepdims=True)
    a, A = a / norm, A / norm
    count = a.shape[1]
    hankel = np.add.outer(np.arange(count), np.arange(count))
    (posv,) = get_lapack_funcs(("posv",), (a,))
    damping, steps, refused = np.zeros(len(a)), np.zeros(len(a), int), np.zeros(len(a), int)
    before = np.full(len(a), 1e-300)
    live, part = np.arange(len(a)), rows
    while len(live):
        here, there = a[live], A[live]
        there[part.empty] = 1
        f = part.share / there
        gradient = 2 * (part.moments(f, size, count) - here)
        f /= there
        systems = part.moments(f, size, 2 * count - 1)[:, hankel]
        systems *= 2
        diagonals = systems.reshape(len(live), -1)[:, :: count + 1]  # a view
        diagonals += 2 + damping[live, None]
        step = np.empty_like(here)
        for j, i in enumerate(live):
            _, step[j], failed = posv(systems[j], gradient[j])
            while failed and damping[i] < _MOST_DAMPING:
                raised = max(5 * damping[i], 1e-3)
                diagonals[j] += raised - damping[i]
                damping[i] = raised
                _, step[j], failed = posv(systems[j], gradient[j])
        gain = (gradient * step).sum(axis=1)
        there = here + step
        there /= np.linalg.norm(there, axis=1, keepdims=True)
        B = part.values(there, size)
        reached = part.log_likelihood(there, B)
        taken = reached - L[live] >= 0.1 * gain - STALL * np.maximum(1.0, np.abs(L[live]))
        better, worse = live[taken], live[~taken]
        a[better], A[better], L[better] = there[taken], B[taken], reached[taken]
        steps[live] += 1
        refused[worse] += 1
        damping[worse] = np.maximum(5 * damping[worse], 1e-3)
        damping[better] = np.where(damping[better] > 1e-6, damping[better] / 5, 0.0)
        enough = gain * np.minimum(gain / before[live], 1) < precision
        before[better] = gain[taken]
        done = (taken & enough) | (refused[live] >= _MOST_REFUSED) | (steps[live] >= _MOST_STEPS)
        if done.any():
            live, part = live[~done], part.chosen(~done)
    return [Maximum(a[i], float(L[i]), int(steps[i])) for i in range(len(a))]
