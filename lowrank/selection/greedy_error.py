"""Greedy column subset selection: at each step the column whose addition leaves the least total error."""

import numpy as np

from .base import Candidates, Choice, Selection
from .working import squared_norms, working


def scores(E: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``f_j = ||E^* e_j||^2`` and ``g_j = ||e_j||^2``, from scratch; e_j are the rows of E. 4 n d^2 flops."""
    M = E.T @ E.conj()  # sum_j e_j e_j^*
    return np.einsum("ij,ij->i", E.conj(), E @ M.T).real, squared_norms(E, 1)


def pivots(E: np.ndarray, k: int) -> np.ndarray:
    """At most k rows of E (columns of the sketch; overwritten), fewer where nothing but rounding is left.

    Farahat, Elgohary, Ghodsi and Kamel (2013), algorithm 1: adding column j lowers the squared error by f_j / g_j.
    Their recursions for f and g are kept, on an explicit residual, and the two are computed afresh
    whenever the down-dates have cost half of the digits. Cost 10 n d k flops, two passes over E a step.
    """
    from lowrank._selection_kernels import deflate

    n, d = E.shape
    eps = np.finfo(np.float64).eps
    Q = np.zeros((k, d), dtype=E.dtype)
    order = np.empty(k, dtype=np.int64)
    along, gathered = np.empty(n, dtype=E.dtype), np.empty(d, dtype=E.dtype)
    taken = np.zeros(n, dtype=bool)
    f, g = scores(E)
    floor = (10 * max(n, d) * eps) ** 2 * g.max(initial=0.0)
    fresh, spread = float(g.sum()), 1.0
    for t in range(k):
        if g.sum() < 1e-4 * fresh:  # f falls as the square of g: half of its digits are gone
            f, g = scores(E)
            fresh = float(g.sum())
        # step 1: the column that lowers the error most
        usable = ~taken & (g > floor * spread) & (g > 1e-12 * fresh)
        if not usable.any() and fresh > 0:
            f, g = scores(E)
            fresh = float(g.sum())
            usable = ~taken & (g > floor * spread)
        if not usable.any():
            return order[:t]
        gain = np.where(usable, f / np.where(usable, g, 1.0), -1.0)
        j = int((gain >= gain.max() * (1 - 64 * eps)).argmax())  # ties, exact or by rounding, go to the first
        order[t], taken[j] = j, True
        # step 2: its direction off the ones in use
        q = E[j] - (Q[:t].conj() @ E[j]) @ Q[:t]
        q /= np.linalg.norm(q)
        Q[t] = q
        # step 3: take it out, and step 4: down-date f and g
        deflate(E, q, along, gathered)
        E[j] = 0.0
        part = np.abs(along) ** 2
        spread = max(spread, float(part.max() / part[j]))  # by which the rounding of column j is multiplied elsewhere
        f -= 2 * np.real(along.conj() * (E @ gathered.conj())) + part * part.sum()
        g = np.maximum(g - part, 0.0)
    return order


def choose(candidates: Candidates) -> Choice:
    k = candidates.k
    Y = working(candidates.Y if candidates.exact else candidates.compressed(k + max(8, k // 4)))
    if min(k, *Y.shape) == 0:
        return Choice(np.empty(0, dtype=np.int64), "greedy_error")
    if Y.shape[0] > Y.shape[1]:
        Y = np.linalg.qr(Y)[1]
    return Choice(pivots(np.ascontiguousarray(Y.T), k), "greedy_error")


GREEDY_ERROR = Selection(
    "greedy_error",
    choose,
    "||P A||_F^2 >= (1 - eps) ||P_r A||_F^2 against the best r columns once k >= 16 r / (eps sigma_min), sigma_min the "
    "least squared singular value of those columns, normalised.",
    "Farahat, Elgohary, Ghodsi and Kamel (2013), Greedy column subset selection for large-scale data sets, "
    "arXiv 1312.6838, algorithm 1; bound of Altschuler et al. (2016), arXiv 1605.08795, theorem 1.",
)
