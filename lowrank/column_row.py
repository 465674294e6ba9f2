"""CR: a matrix product approximated by a few of its column-row pairs."""

import enum
import math
import time
from dataclasses import dataclass

import numpy as np

from ._checks import check_choice
from ._tensors import takes_tensors
from .certificate import Certificate, from_residuals, of_nothing
from .pairs import Pairs, greedy, leverage_odds, norm_odds
from .results import Product, Record

PROBES = 10
SMALL = 2**24  # m n p up to which the product itself is formed, and the error is known instead of estimated
METHODS = ("norm", "sampling", "greedy", "leverage")
WEIGHTS = ("none", "diagonal", "full")


class PairStatus(enum.Enum):
    """How a product was approximated; the value is what the user reads."""

    RANK_REACHED = "As many different column-row pairs were kept as were asked for."
    REPEATED = "Some pairs were drawn more than once; each stands once, with its weights added up."
    STOPPED = "No further pair lowers the error, so fewer were kept than were asked for."
    POOR = (
        "The error is larger than the product itself: zero would be closer. "
        'Take weights="diagonal" or weights="full", or a larger rank.'
    )
    ZERO = "The product is zero: in every pair the column or the row vanishes."
    EMPTY = "Rank 0 was asked for, or X and Y have no entries; the approximation is zero."


@dataclass(frozen=True, eq=False, repr=False)
class ColumnRow(Product):
    """``X Y ~ C L R`` with C = X[:, indices] and R = Y[indices, :]; made by `cr`.

    indices : (k,) pairs in order of choice;  C : (m, k);  R : (k, p);  weights : (k,) the diagonal of L, or L itself
    (k, k) for ``weights="full"``;  rank, status, certificate, entries_read, selection, notes, seconds.
    """

    indices: np.ndarray
    C: np.ndarray
    weights: np.ndarray
    R: np.ndarray
    record: Record

    kind = "column-row product"
    parts = ("C", "R")

    def factors(self):
        return self.C, self.weights[:, None] * self.R if self.weights.ndim == 1 else self.weights @ self.R

    def _weighted(self, X, weights):
        return weights[:, None] * X if weights.ndim == 1 else weights @ X

    def _matmat(self, X):
        return self.C @ self._weighted(self.R @ X, self.weights)

    def _rmatmat(self, X):
        return self.R.conj().T @ self._weighted(self.C.conj().T @ X, self.weights.conj().T)

    def _lines(self):
        m, p = self.shape
        return [f"product of {m} x n and n x {p}, {self.dtype}, from {self.rank} pairs", *self.record.lines()]


@takes_tensors
def cr(X, Y, rank, *, method="norm", weights="none", rng=None) -> ColumnRow:
    r"""Approximate the product `X Y` by `rank` of its n column-row pairs.

    .. math:: X Y = \sum_{i=1}^n x_i y_i \approx \sum_{s,t \in S} x_s L_{st} y_t

    Parameters
    ----------
    X : (m, n) array; float32, float64, complex64, complex128 (integers and bool become float64).
    Y : (n, p) array.
    rank : pairs to keep, ``0 <= rank <= n``; for the methods that draw, the number of draws.
    method : how S is chosen.
        "norm", the pairs of largest :math:`|x_i| |y_i|`;
        "sampling", independent draws with probability proportional to :math:`|x_i| |y_i|`, which gives the least
        expected error of all unbiased draws, :math:`E \|XY - CR\|_F^2 \le (\sum |x_i| |y_i|)^2 / k`;
        "leverage", independent draws, half by the leverage of pair i in the leading spaces of X and Y, half by norm;
        "greedy", one by one the pair that lowers the error most, under the weights that were asked for.
    weights : the matrix L.
        "none", ones for "norm" and "greedy", and 1 / (k p_i) for the methods that draw, which makes them unbiased;
        "diagonal", the diagonal L of least Frobenius error;
        "full", the L of least Frobenius error, :math:`C^+ X Y R^+`.
    rng : seed or numpy Generator (SPEC 7), for the draws and for the probes of the certificate.

    Returns
    -------
    ColumnRow
        A linear operator; ``certificate`` holds its relative error: exact where ``m n p`` is at most 2^24, else from 10
        Gaussian probes with a 95 % interval.

    Raises
    ------
    ValueError
        If the shapes do not fit, an entry is not finite, `rank` is out of range, or the product would overflow.
    TypeError
        For a kind or dtype that is not read.

    Complexity
    ----------
    "norm" and "sampling" 2 n (m + p) flops; "leverage" 4 n (m + p) + 12 n k^2; "greedy" min(4 m n p, 2 n^2 (m + p)) +
    2 n k (m + p + k). "diagonal" adds 2 n k (m + p), "full" 2 k n (m + p) + 2 k^2 (m + p). The certificate takes
    20 n (m + p). The product itself would take 2 m n p.

    References
    ----------
    Drineas, Kannan and Mahoney (2006), Fast Monte Carlo algorithms for matrices I, doi 10.1137/S0097539704442684
    (sampling: figure 2, lemmas 3 and 4). Chen, Billings and Luo (1989), Orthogonal least squares, doi
    10.1080/00207178908953472 (the recursion of "greedy").

    Examples
    --------
    >>> import numpy as np, lowrank as lr
    >>> X = np.array([[3.0, 0.0, 0.1], [0.0, 2.0, 0.1]])
    >>> Y = np.array([[1.0, 1.0], [1.0, -1.0], [0.1, 0.1]])
    >>> c = lr.cr(X, Y, rank=2)
    >>> c.indices.tolist(), c.weights.tolist()
    ([0, 1], [1.0, 1.0])
    >>> round(c.certificate.estimate, 5)
    0.00391
    """
    began = time.perf_counter()
    pairs = Pairs.of(X, Y)
    k = _check_pairs(rank, pairs.count)
    check_choice(method, METHODS, "method")
    check_choice(weights, WEIGHTS, "weights")
    generator = np.random.default_rng(rng)
    if k == 0 or pairs.B.size == 0 or pairs.Y.size == 0:
        status, J, w = PairStatus.EMPTY, np.empty(0, np.int64), np.empty(0)
    elif not pairs.size.any():
        status, J, w = PairStatus.ZERO, np.empty(0, np.int64), np.empty(0)
    else:
        J, w, status = _select(pairs, k, method, weights, generator)
    if weights == "diagonal":
        w = pairs.diagonal_weights(J)
    elif weights == "full":
        w = pairs.full_weights(J)
    w = w.astype(pairs.dtype)
    certificate = _certify(pairs, J, w, generator)
    if not len(J):
        certificate = of_nothing(certificate)
    if certificate.estimate > 1 and status not in (PairStatus.EMPTY, PairStatus.ZERO):
        status = PairStatus.POOR
    L = pairs.unscaled(w, J) if w.ndim == 2 else w
    if not np.isfinite(L).all():
        raise ValueError(
            "the full weights leave the range of floating point, because the rows of Y differ too much in scale; "
            'take weights="diagonal"'
        )
    choices = (f"{len(J)} of {pairs.count} pairs by {method}", f"weights {weights}")
    seconds = time.perf_counter() - began
    record = Record(status, certificate, pairs.entries, seconds, method, choices, pairs.notes)  # pyright: ignore
    return ColumnRow(J, pairs.original_X[:, J], L, pairs.original_Y[J], record)


def _check_pairs(rank, n: int) -> int:
    try:
        if isinstance(rank, (bool, np.bool_)):
            raise TypeError
        k = rank.__index__()
    except (AttributeError, TypeError):
        raise TypeError(f"rank={rank!r} is not an integer; pass an integer from 0 to n={n}") from None
    if not 0 <= k <= n:
        raise ValueError(f"rank={k} is out of range: X Y has n={n} column-row pairs; pass 0<=rank<={n}")
    return k


def _select(pairs: Pairs, k: int, method: str, weights: str, rng: np.random.Generator):
    """Indices, the rule's own weights, and the status."""
    if method == "norm":
        J = np.argsort(-pairs.size, kind="stable")[:k]
        J = J[pairs.size[J] > 0]
        return J, np.ones(len(J)), PairStatus.RANK_REACHED if len(J) == k else PairStatus.STOPPED
    if method == "greedy":
        J = greedy(pairs, k, weighted=weights != "none")
        return J, np.ones(len(J)), PairStatus.RANK_REACHED if len(J) == k else PairStatus.STOPPED
    odds = norm_odds(pairs) if method == "sampling" else leverage_odds(pairs, k, rng)
    heap = np.cumsum(odds)
    drawn = np.searchsorted(heap, rng.random(k) * heap[-1], side="right")
    drawn = np.minimum(drawn, np.flatnonzero(odds)[-1])  # a draw may round up to the total
    J, first, count = np.unique(drawn, return_index=True, return_counts=True)
    order = np.argsort(first)
    J, count = J[order], count[order]
    status = PairStatus.RANK_REACHED if len(J) == k else PairStatus.REPEATED
    return J, count / (k * odds[J]), status  # Drineas, Kannan and Mahoney (2006), figure 2


def _certify(pairs: Pairs, J: np.ndarray, w: np.ndarray, rng: np.random.Generator) -> Certificate:
    """Relative error of the chosen pairs: exact for small products, else from probes of product and error alike."""
    m, n, p = len(pairs.B), pairs.count, pairs.Y.shape[1]
    exact = m * n * p <= SMALL
    left = pairs.B if exact else rng.standard_normal((PROBES, m)).astype(np.finfo(pairs.dtype).dtype) @ pairs.B
    whole = left @ pairs.Y
    part = (left[:, J] * w if w.ndim == 1 else left[:, J] @ w) @ pairs.Y[J]
    if exact:
        norm, error = float(np.linalg.norm(whole)), float(np.linalg.norm(whole - part))
        relative = error / norm if norm > 0 else (0.0 if error == 0 else math.inf)
        return Certificate(relative, (relative, relative), pairs.magnified(error), 0)
    # both norms are estimated; the ends of the interval set the upper end of one against the lower end of the other
    error, norm = from_residuals(whole - part, 1.0), from_residuals(whole, 1.0)
    if norm.absolute == 0:
        return Certificate(0.0, (0.0, 0.0), 0.0, PROBES)
    relative = error.absolute / norm.absolute
    interval = error.interval[0] / norm.interval[1], error.interval[1] / norm.interval[0]
    return Certificate(relative, interval, pairs.magnified(error.absolute), PROBES)
