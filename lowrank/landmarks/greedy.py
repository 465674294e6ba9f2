"""The landmark with the largest residual diagonal, one after another: pivoted Cholesky."""

import numpy as np

from .base import Landmarks, Search


def run(search: Search) -> str:
    """One column at a time, ties by the lowest index: a matrix-vector product for each, bound by memory.

    Floor: F is read once for each landmark, n k^2 / 2 numbers in all, which is k / 8 times the traffic of blocks.
    """
    cholesky = search.cholesky
    while cholesky.wanted:
        weights = cholesky.weights()
        best = int(weights.argmax())
        if not weights[best] > 0:
            break
        cholesky.propose(np.array([best]), np.zeros(1))
        search.report(cholesky.size)
    return "deterministic: largest residual first"


GREEDY = Landmarks(
    "greedy",
    run,
    True,
    "No bound without a factor exponential in k; exponential convergence where the eigenvalues fall faster than 4^-k. "
    "It follows outliers: rpcholesky is the safer choice.",
    "Harbrecht, Peters and Schneider (2012), On the low-rank approximation by the pivoted Cholesky decomposition, "
    "doi 10.1016/j.apnum.2011.10.001.",
)
