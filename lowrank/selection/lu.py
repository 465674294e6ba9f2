"""Columns by LU with partial pivoting of the transposed sketch: the cheapest rule that looks at directions."""

import numpy as np
from scipy.linalg import get_lapack_funcs

from .base import Candidates, Choice, Selection, numerical_rank


def pivots(Y: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The first k rows that partial pivoting picks from Y^T, and the pivots; overwrites Y (C-ordered)."""
    n = Y.shape[1]
    (getrf,) = get_lapack_funcs(("getrf",), (Y,))
    factored, swaps, info = getrf(Y.T, overwrite_a=True)
    if info < 0:
        raise RuntimeError(f"getrf refused its argument {-info}")
    order = np.arange(n)
    for step, other in enumerate(swaps):
        order[step], order[other] = order[other], order[step]
    return order[:k], np.diagonal(factored)[:k].copy()


def choose(candidates: Candidates) -> Choice:
    k = candidates.k
    order, diagonal = pivots(candidates.compressed(k), k)
    return Choice(order[: numerical_rank(diagonal, candidates.Y.shape[1])], "lu")


LU = Selection(
    "lu",
    choose,
    "No bound of its own (the growth of LU is exponential in the worst case); on random sketches within a few "
    "per cent of column-pivoted QR for slow decay.",
    "Dong and Martinsson (2023), Simpler is better: pivoting and sketching for CUR, doi 10.1007/s10444-023-10061-z, "
    "algorithm 4.",
)
