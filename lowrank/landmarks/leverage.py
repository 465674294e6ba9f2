"""Landmarks by ridge leverage scores, which are estimated on samples of doubling size."""

import math

import numpy as np
from scipy.linalg import cho_factor, cho_solve, eigvalsh

from lowrank.operands import Operand

from . import rpcholesky
from .base import Landmarks, Search


def run(search: Search) -> str:
    """Recursive sampling (Musco and Musco 2017, algorithms 2 and 3), with k landmarks drawn at every level.

    The paper draws each index independently with its score times an oversampling factor; here k indices are drawn
    with those proportions and without replacement, so that the rank is the one asked for.
    """
    cholesky, rng = search.cholesky, search.rng
    n, k = cholesky.operand.shape[0], cholesky.limit
    if k == 0 or not cholesky.wanted:
        return ""
    order = rng.permutation(n)
    diagonal = cholesky.residual
    sizes = [n]
    while sizes[-1] > 2 * k:
        sizes.append(-(-sizes[-1] // 2))
    sample, weight = order[: sizes[-1]], np.ones(sizes[-1])  # the smallest level is its own sample
    for level in reversed(range(len(sizes))):
        rows = order[: sizes[level]]
        scores = ridge_scores(cholesky.operand, diagonal, rows, sample, weight, k)
        chance = scores / scores.sum() if scores.sum() > 0 else np.full(len(rows), 1 / len(rows))
        take = min(k, int((chance > 0).sum()))
        at = rng.choice(len(rows), size=take, replace=False, p=chance)
        sample, weight = rows[at], 1 / np.sqrt(np.minimum(1.0, take * chance[at]))
    search.add(sample)
    found = cholesky.size
    if cholesky.wanted:
        rpcholesky.run(search)
    more = cholesky.size - found
    levels = f"scores estimated on {len(sizes)} levels of doubling size"
    return levels + (f", and {more} landmarks by rpcholesky" if more else "")


def ridge_scores(
    operand: Operand, diagonal: np.ndarray, rows: np.ndarray, sample: np.ndarray, weight: np.ndarray, k: int
) -> np.ndarray:
    """Upper estimates of ``(K (K + ridge I)^-1)_ii`` at `rows`, from a weighted sample S (Musco and Musco 2017).

    ``(1 / ridge) (K - K S (S^T K S + ridge I)^-1 S^T K)_ii``, with the ridge ``(1/r) sum of the eigenvalues of S^T K S
    after the r-th``, r = k / (4 log k) as the sample size k allows (their equations for fixed sample size).
    """
    r = max(1, math.floor(k / (4 * math.log(k)))) if k > 1 else 1
    H = operand.entries(sample, sample) * np.multiply.outer(weight, weight)
    values = np.maximum(eigvalsh(H, check_finite=False)[::-1], 0.0)
    ridge = max(float(values[r:].sum()) / r, 1e-12 * float(values.max(initial=0.0)), 1e-300)
    factor = cho_factor(H + ridge * np.eye(len(H), dtype=H.dtype), lower=True, check_finite=False)
    scores = np.empty(len(rows))
    for i in range(0, len(rows), 4096):
        part = rows[i : i + 4096]
        B = operand.entries(part, sample) * weight
        explained = np.einsum("ij,ij->i", B, cho_solve(factor, B.conj().T, check_finite=False).T.conj().conj())
        scores[i : i + 4096] = np.maximum(diagonal[part] - explained.real, 0.0) / ridge
    return np.minimum(scores, 1.0)


LEVERAGE = Landmarks(
    "leverage",
    run,
    False,
    "With k of order r log(r / delta) drawn independently: ||K - F F*||_2 <= (1/r) tr(K - K_r) with probability "
    "1 - delta, for every K; here k are drawn without replacement, which the proof does not cover.",
    "Musco and Musco (2017), Recursive sampling for the Nystrom method, arXiv 1605.07583.",
)
