"""Columns by LU with partial pivoting of the transposed sketch: the cheapest rule that looks at directions."""

import numpy as np
from scipy.linalg import get_lapack_funcs

from . import qr
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
    rank = numerical_rank(diagonal, max(candidates.Y.shape))
    if rank < k:
        # Pivots of LU do not fall in order: a row of Y that depends on the rows before it leaves a small one, though
        # other rows still hold directions. Those of QR do, so they say what the rank is, and which columns have it.
        chosen = qr.choose(candidates).indices
        return Choice(chosen, "lu", f"pivot {rank + 1} of LU is rounding, so the rank and the columns are those of QR")
    return Choice(order, "lu")


LU = Selection(
    "lu",
    choose,
    "No bound of its own (the growth of LU is exponential in the worst case); on random sketches within a few "
    "per cent of column-pivoted QR for slow decay.",
    "Dong and Martinsson (2023), Simpler is better: pivoting and sketching for CUR, doi 10.1007/s10444-023-10061-z, "
    "algorithm 4.",
)
