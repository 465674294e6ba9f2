"""The columns nearest to the centres of k clusters of columns."""

import numpy as np

from .base import Candidates, Choice, Selection
from .working import reduced, squared_norms

SWEEPS = 30


def representatives(P: np.ndarray, k: int, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Indices of the points nearest to the centres of at most k clusters, and the clusters' total squared radius.

    P : (n, p) real points.  Seeds by k-means++ (Arthur and Vassilvitskii 2007), then Lloyd's sweeps until no label
    changes or `SWEEPS` of them. Cost 2 n k p flops a sweep, all GEMM.

    Within a cluster the point nearest to the mean is no farther than the root mean square radius, so the total squared
    distance to the representatives is at most twice the radius returned.
    """
    P = P - P.mean(axis=0)  # distances are differences of squares: far from the origin these would cancel
    size = squared_norms(P, 1)
    eps = 64 * np.finfo(np.float64).eps * size.max()
    first = int(rng.integers(len(P)))
    centres, distance = [first], _distance(P, size, first)
    while len(centres) < k:
        distance[distance <= eps] = 0.0  # copies of a seed
        heap = np.cumsum(distance)
        if not heap[-1] > 0:
            break
        j = int(np.searchsorted(heap, rng.random() * heap[-1], side="right"))
        centres.append(min(j, int(np.flatnonzero(distance)[-1])))
        distance = np.minimum(distance, _distance(P, size, centres[-1]))
    M = P[centres]
    label = np.full(len(P), -1)
    for _ in range(SWEEPS):
        nearest = (squared_norms(M, 1) - 2 * P @ M.T).argmin(axis=1)
        if np.array_equal(nearest, label):
            break
        label = nearest
        order = np.argsort(label, kind="stable")
        alive, starts, count = np.unique(label[order], return_index=True, return_counts=True)
        M[alive] = np.add.reduceat(P[order], starts) / count[:, None]  # a centre that lost all its points stays
    radius = squared_norms(P - M[label], 1)
    least = np.full(len(M), np.inf)
    np.minimum.at(least, label, radius)
    near = np.flatnonzero(radius <= least[label] * (1 + 1e-9) + eps)  # two points lie equally near to their mean
    heads = near[np.unique(label[near], return_index=True)[1]]
    return heads, float(radius.sum())


def _distance(P: np.ndarray, size: np.ndarray, j: int) -> np.ndarray:
    """Squared distances of all points to point j, as one matrix-vector product."""
    distance = np.maximum(size + size[j] - 2 * (P @ P[j]), 0.0)
    distance[j] = 0.0
    return distance


def choose(candidates: Candidates) -> Choice:
    Y = reduced(candidates)
    alive = np.flatnonzero(squared_norms(Y, 0) > 0)  # a zero column explains nothing
    if candidates.k == 0 or alive.size == 0:
        return Choice(np.empty(0, dtype=np.int64), "kmeans")
    points = np.ascontiguousarray(Y[:, alive].T).view(np.float64)
    return Choice(alive[representatives(points, candidates.k, candidates.rng)[0]], "kmeans")


KMEANS = Selection(
    "kmeans",
    choose,
    "||A - C C^+ A||_F^2 <= 2 x the clusters' total squared radius; no bound against the optimal rank-k error, since "
    "parallel columns of different length count as different.",
    "Zhang, Tsang and Kwok (2008), Improved Nystrom low-rank approximation and error analysis, "
    "doi 10.1145/1390156.1390311.",
)
