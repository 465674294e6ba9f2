"""Two stages: draw more columns than wanted, then keep k of them by pivoted QR."""

import math

import numpy as np

from .base import Candidates, Choice, Selection
from .osinsky import basis
from .working import draw_distinct, pivot_order, reduced, squared_norms


def probabilities(Y: np.ndarray, V: np.ndarray) -> np.ndarray:
    """Half by leverage, half by what the leading space leaves of a column; Boutsidis et al. (2009), equation 2."""
    lever = squared_norms(V, 1)
    rest = squared_norms(Y - (Y @ V) @ V.conj().T, 0)
    total = float(rest.sum())
    if not total > 0:
        return lever / lever.sum()
    return 0.5 * lever / lever.sum() + 0.5 * rest / total


def choose(candidates: Candidates) -> Choice:
    k, n = candidates.k, candidates.Y.shape[1]
    if min(k, *candidates.Y.shape) == 0:
        return Choice(np.empty(0, dtype=np.int64), "column_sampling")
    Y = reduced(candidates)
    V, _ = basis(Y, k)  # step 1: leading right singular vectors
    if V.shape[1] == 0:
        return Choice(np.empty(0, dtype=np.int64), "column_sampling")
    p = probabilities(Y, V)
    count = min(n, math.ceil(k * (2 + math.log(k))))
    drawn = np.sort(draw_distinct(p, count, candidates.rng))  # step 2: of the order of k log k columns
    scale = np.sqrt(np.minimum(1.0, count * p[drawn]))
    _, order = pivot_order(V[drawn].conj().T / scale)  # step 3: exactly k of them
    return Choice(drawn[order[: min(V.shape[1], drawn.size)]], "column_sampling")


COLUMN_SAMPLING = Selection(
    "column_sampling",
    choose,
    "||A - C C^+ A||_F = O(k sqrt(log k)) ||A - A_k||_F with probability at least 0.7.",
    "Boutsidis, Mahoney and Drineas (2009), An improved approximation algorithm for the column subset selection "
    "problem, doi 10.1137/1.9781611973068.105, algorithm 1.",
)
