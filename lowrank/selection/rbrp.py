"""Robust block random pivoting: draw a block by residual norms, drop what is redundant in it, take the rest out."""

import numpy as np

from .base import Candidates, Choice, Selection
from .working import draw_distinct, pivoted_qr, squared_norms, working


def pivots(E: np.ndarray, k: int, rng: np.random.Generator, block: int) -> np.ndarray:
    """At most k columns of E (overwritten), block by block; fewer where nothing but rounding is left.

    Dong, Chen, Martinsson and Pearce (2023), section 3, with the filter tau = 1 / block. Cost 4 d n k flops of GEMM
    on the explicit residual, which needs no down-date of norms and so no safeguard against cancellation.
    """
    d, n = E.shape
    chosen: list[int] = []
    floor = (10 * max(d, n) * np.finfo(np.float64).eps) ** 2 * squared_norms(E, 0).max(initial=0.0)
    while len(chosen) < k:
        # step 1: draw a block by the squared norms of the residual
        weight = squared_norms(E, 0)
        weight[weight <= floor] = 0.0
        J = draw_distinct(weight, min(block, k - len(chosen)), rng)
        if J.size == 0:
            break
        # step 2: pivoted QR of the block
        Q, R, order = pivoted_qr(E[:, J])
        # step 3: the robust filter keeps the leading columns that carry all but 1/block of the block's energy
        tail = np.cumsum(squared_norms(R, 1)[::-1])[::-1]
        keep = max(1, int(np.count_nonzero(tail >= tail[0] / block)))
        keep = min(keep, int(np.count_nonzero(np.abs(R.diagonal()) ** 2 > floor)))
        J, Q = J[order[:keep]], Q[:, :keep]
        # step 4: take their span out of everything
        E -= Q @ (Q.conj().T @ E)
        E[:, J] = 0.0
        chosen.extend(J.tolist())
    return np.array(chosen, dtype=np.int64)


def choose(candidates: Candidates) -> Choice:
    k = candidates.k
    E = working(candidates.Y if candidates.exact else candidates.compressed(k + max(8, k // 4)))
    return Choice(pivots(E, k, candidates.rng, block=max(1, min(40, k // 5))), "rbrp")


RBRP = Selection(
    "rbrp",
    choose,
    "With blocks of one: E ||A - C C^+ A||_F^2 <= (1 + eps) ||A - A_r||_F^2 for k of the order of r / eps + r log(1 / "
    "(eps eta_r)), eta_r = ||A - A_r||_F^2 / ||A||_F^2; blocks keep this in practice, and the filter keeps it on "
    "inputs where plain blocks fail.",
    "Dong, Chen, Martinsson and Pearce (2023), Robust blockwise random pivoting, arXiv 2309.16002, section 3.",
)
