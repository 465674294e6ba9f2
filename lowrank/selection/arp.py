"""Adaptive randomized pivoting: the optimal factor of column subset selection, in expectation, for one SVD."""

import numpy as np

from .base import Candidates, Choice, Selection
from .working import leading, squared_norms


def sample(V: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One index for each column of V, drawn by the squared norms of the rows of V off the rows already drawn.

    V : (n, k), orthonormal columns.  Cortinovis and Kressner (2024), algorithm 2.1, with the Householder reflections
    of V replaced by its inner products with the directions in use: V is read and never rewritten.

    The remaining weights sum to k - t before draw t, so their down-date is exact to a few eps of what it is compared
    with, and needs no safeguard. Cost 2 n k^2 flops, k reads of V by BLAS: the down-date itself touches n numbers, of
    which a compiled version would save microseconds.
    """
    k = V.shape[1]
    U = np.zeros((k, k), dtype=V.dtype)  # orthonormal directions already used, one a row
    weight = squared_norms(V, 1)
    order = np.empty(k, dtype=np.int64)
    floor = 64 * np.finfo(weight.dtype).eps  # what is left of a copy of a drawn row is rounding
    for t in range(k):
        # step 1: draw by the remaining squared norms, which sum to k - t
        weight[weight < floor] = 0.0
        heap = np.cumsum(weight)
        j = int(np.searchsorted(heap, rng.random() * heap[-1], side="right"))
        j = min(j, int(np.flatnonzero(weight)[-1]))  # the draw may round up to the total
        order[t] = j
        # step 2: the direction of the drawn row off the ones in use, twice for orthogonality
        u = V[j].conj().copy()
        for _ in range(2):
            u -= (U[:t].conj() @ u) @ U[:t]
        u /= np.linalg.norm(u)
        U[t] = u
        # step 3: down-date the squared norms by the part along it
        weight -= np.abs(V @ u) ** 2
        weight[j] = 0.0
    return order


def choose(candidates: Candidates) -> Choice:
    return Choice(sample(leading(candidates), candidates.rng), "arp")


ARP = Selection(
    "arp",
    choose,
    "E ||A - C C^+ A||_F^2 <= (k + 1) ||A - A_k||_F^2 on exact data; on a sketch, with its singular space for A's.",
    "Cortinovis and Kressner (2024), Adaptive randomized pivoting for column subset selection, DEIM, and low-rank "
    "approximation, arXiv 2412.13992, algorithm 2.1.",
)
