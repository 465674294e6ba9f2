"""Landmarks with probability proportional to the residual diagonal: randomly pivoted Cholesky."""

import numpy as np

from .base import Landmarks, Search


def run(search: Search) -> str:
    """Rejection-sampled blocks (Epperly, Tropp and Webber 2024, algorithm 2.2).

    A block is proposed by the residual diagonal as it stands, and each proposal is accepted with the share of its
    residual that the ones accepted before it have left: exactly the distribution of the one-by-one method.
    """
    cholesky, rng = search.cholesky, search.rng
    while cholesky.wanted:
        weights = cholesky.weights()
        heap = np.cumsum(weights)
        if not heap[-1] > 0:
            break  # nothing is left but rounding
        # step 1: propose by the residual diagonal, with replacement
        size = cholesky.block()
        draws = np.searchsorted(heap, rng.random(size) * heap[-1], side="right")
        proposals = np.minimum(draws, np.flatnonzero(weights)[-1])
        # step 2: a proposal must still exceed a uniform share of the residual that it was proposed with
        cholesky.propose(proposals, rng.random(size) * weights[proposals])
        search.report(cholesky.size)
    return f"{cholesky.size} of {cholesky.proposed} proposals in {cholesky.rounds} rounds"


RPCHOLESKY = Landmarks(
    "rpcholesky",
    run,
    True,
    "E tr(K - F F*) <= (1 + eps) tr(K - K_r) for k >= r/eps + min(r log(1/(eps eta)), r + r log_+(2^r / eps)), with "
    "eta = tr(K - K_r) / tr K and K_r the best approximation of rank r.",
    "Chen, Epperly, Tropp and Webber (2025), doi 10.1002/cpa.22234 (the bound); Epperly, Tropp and Webber (2024), "
    "arXiv 2410.03969, algorithms 2.1 and 2.2.",
)
