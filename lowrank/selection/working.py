"""A sketch in the form that the selections compute with, and weighted draws without replacement."""

import numpy as np
from scipy.linalg import qr

from .base import Candidates
from .osinsky import basis
from .osinsky import squared_norms as squared_norms


def working(Y: np.ndarray) -> np.ndarray:
    """Y in double precision and C order, a new array, times the power of two that brings its largest part to [1/2, 1).

    A selection returns integers: double costs little, and neither the precision nor the scale nor the memory order of
    what came in can then change the answer. Squares of what is left below 1e-154 vanish: such columns are rounding.
    """
    Y = np.array(Y, dtype=np.complex128 if Y.dtype.kind == "c" else np.float64, order="C")
    parts = Y.view(np.float64)
    largest = np.abs(parts).max(initial=0.0)
    if not np.isfinite(largest):
        raise ValueError("the sketch is not finite; a selection needs finite entries, so scale or clean A first")
    if largest > 0:
        np.ldexp(parts, -int(np.frexp(largest)[1]), out=parts)
    return Y


def reduced(candidates: Candidates) -> np.ndarray:
    """The sketch with a few more rows than k, as `working` returns it: enough for k leading singular vectors."""
    k = candidates.k
    return working(candidates.Y if candidates.exact else candidates.compressed(k + max(10, k // 4)))


def leading(candidates: Candidates) -> np.ndarray:
    """The k leading right singular vectors of the sketch as an (n, r) array; r < k where it has no further rank."""
    if min(candidates.k, *candidates.Y.shape) == 0:
        return np.empty((candidates.Y.shape[1], 0))
    return basis(reduced(candidates), candidates.k)[0]


def pivoted_qr(E: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``E[:, order] = Q R`` with pivots of falling size."""
    found: tuple = qr(E, mode="economic", pivoting=True, check_finite=False)
    Q, R, order = found
    return Q, R, order.astype(np.int64)


def pivot_order(E: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pivots of `pivoted_qr` and their order, without Q."""
    found: tuple = qr(E, mode="r", pivoting=True, check_finite=False)
    R, order = found
    return R.diagonal(), order.astype(np.int64)


def draw_distinct(weights: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """k distinct indices, one after another, each with probability proportional to its weight among those left.

    Fewer than k where fewer weights are positive. The k smallest of n exponentials of rate `weights` come in just this
    order (Efraimidis and Spirakis 2006, Weighted random sampling with a reservoir, doi 10.1016/j.ipl.2005.11.003).

    The set contains the distinct ones among k independent draws (take the draws until k different ones are there), so
    whatever a bound promises for k independent draws holds here.
    """
    clock = rng.standard_exponential(weights.size)
    with np.errstate(divide="ignore"):
        arrival = np.log(clock) - np.log(weights)  # logarithms: ratios of weights may leave the range of floating point
    return np.argsort(arrival, kind="stable")[: min(k, int(np.count_nonzero(weights)))]
