"""Columns drawn by leverage: how much of a column the leading (or the ridged) row space needs."""

import numpy as np

from .base import Candidates, Choice, Selection
from .osinsky import basis
from .working import draw_distinct, leading, squared_norms, working


def ridge_scores(Y: np.ndarray, k: int) -> np.ndarray:
    """``tau_j = y_j^* (Y Y^* + lambda)^-1 y_j`` with ``lambda = ||Y - Y_k||_F^2 / k``; they sum to at most 2 k.

    Cohen, Musco and Musco (2017), definition 1.
    """
    V, s = basis(Y, min(Y.shape))
    tail = float(np.sum(s[k:] ** 2)) / k
    return squared_norms(V * np.sqrt(s[: V.shape[1]] ** 2 / (s[: V.shape[1]] ** 2 + tail)), 1)


def _choose_leverage(candidates: Candidates) -> Choice:
    V = leading(candidates)
    return Choice(draw_distinct(squared_norms(V, 1), candidates.k, candidates.rng), "leverage")


def _choose_ridge(candidates: Candidates) -> Choice:
    if min(candidates.k, *candidates.Y.shape) == 0:
        return Choice(np.empty(0, dtype=np.int64), "ridge_leverage")
    scores = ridge_scores(working(candidates.Y), candidates.k)
    return Choice(draw_distinct(scores, candidates.k, candidates.rng), "ridge_leverage")


LEVERAGE = Selection(
    "leverage",
    _choose_leverage,
    "||A - C C^+ A||_F <= (1 + eps) ||A - A_r||_F with constant probability once k is of the order of "
    "r log(r) / eps^2, for the scores of rank r; at k = r none.",
    "Drineas, Mahoney and Muthukrishnan (2008), Relative-error CUR matrix decompositions, doi 10.1137/07070471X.",
)
RIDGE_LEVERAGE = Selection(
    "ridge_leverage",
    _choose_ridge,
    "||A - C C^+ A||_F^2 <= (1 + eps) ||A - A_r||_F^2 with constant probability once k is of the order of "
    "r log(r) + r / eps; unlike plain leverage, it does not jump where singular values r and r + 1 are close.",
    "Cohen, Musco and Musco (2017), Input sparsity time low-rank approximation via ridge leverage score sampling, "
    "doi 10.1137/1.9781611974782.115.",
)
