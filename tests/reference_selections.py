"""The rules of `lowrank.SELECTIONS` from their definitions: residuals from scratch at each step, loops over columns."""

import math

import numpy as np

from tests.reference import leave_out


def draws(weights, k: int, rng: np.random.Generator) -> list[int]:
    """The k first of n exponential clocks that run at the rates `weights`; a rate of zero never rings."""
    clock = rng.standard_exponential(len(weights))
    return sorted(np.flatnonzero(weights).tolist(), key=lambda j: clock[j] / weights[j])[:k]


def leading_space(A: np.ndarray, k: int) -> np.ndarray:
    """The k leading right singular vectors, as columns."""
    return np.linalg.svd(A, full_matrices=False)[2][:k].conj().T


def norms(A: np.ndarray) -> np.ndarray:
    return np.sum(np.abs(A) ** 2, axis=0)


def largest_columns(A: np.ndarray, k: int) -> list[int]:
    return sorted(range(A.shape[1]), key=lambda j: -np.linalg.norm(A[:, j]))[:k]


def eliminated_columns(A: np.ndarray, k: int) -> list[int]:
    """Gaussian elimination, row of A by row of A, each time with the column of largest remaining entry as pivot.

    Of complex entries LAPACK (IZAMAX) compares ``|re| + |im|``.
    """
    E, J = A.copy(), []
    for i in range(k):
        J.append(int((np.abs(E[i].real) + np.abs(E[i].imag)).argmax()))
        E = E - np.outer(E[:, J[-1]], E[i] / E[i, J[-1]])
    return J


def pivoted_columns(A: np.ndarray, k: int) -> list[int]:
    """At each step the column that is farthest from the span of those chosen: column-pivoted QR."""
    J: list[int] = []
    for _ in range(k):
        rest = norms(leave_out(A, J) if J else A)
        rest[J] = -1.0
        J.append(int(rest.argmax()))
    return J


def osinsky_columns(A: np.ndarray, k: int) -> list[int]:
    """Osinsky (2023), algorithm 1: the least error interpolated at the chosen rows of V, per unit of new direction."""
    V = leading_space(A, k)
    E = A - A @ V @ V.conj().T
    J: list[int] = []
    for _ in range(k):
        C = V @ np.linalg.pinv(V[J]) if J else np.zeros((len(V), 0))
        error, new = norms(E - E[:, J] @ C.T), np.sum(np.abs(V - C @ V[J]) ** 2, axis=1)
        J.append(min((j for j in range(len(V)) if j not in J), key=lambda j: error[j] / new[j]))
    return J


def uniform_columns(A: np.ndarray, k: int, rng: np.random.Generator) -> list[int]:
    return rng.choice(A.shape[1], size=k, replace=False).tolist()


def leverage_scores(A: np.ndarray, k: int) -> np.ndarray:
    """Diagonal of the projector on the k leading right singular vectors."""
    V = leading_space(A, k)
    return np.diag(V @ V.conj().T).real


def robust_blocks(A: np.ndarray, k: int, rng: np.random.Generator) -> list[int]:
    """Dong, Chen, Martinsson and Pearce (2023), section 3: of each drawn block, what carries all but 1/b of it."""
    b = max(1, k // 5)
    J: list[int] = []
    while len(J) < k:
        E = leave_out(A, J) if J else A
        weights = norms(E)
        weights[J] = 0.0
        drawn = draws(weights, min(b, k - len(J)), rng)
        drawn = [drawn[i] for i in pivoted_columns(E[:, drawn], len(drawn))]
        left = [np.linalg.norm(leave_out(E[:, drawn], range(i)) if i else E[:, drawn]) ** 2 for i in range(len(drawn))]
        J += [j for j, energy in zip(drawn, left, strict=True) if energy >= left[0] / b]
    return J


def two_stages(A: np.ndarray, k: int, rng: np.random.Generator) -> list[int]:
    """Boutsidis, Mahoney and Drineas (2009), algorithm 1: draw about k log k columns, keep k by pivoted QR."""
    V = leading_space(A, k)
    rest = norms(A - A @ V @ V.conj().T)
    p = leverage_scores(A, k) / (2 * k) + rest / (2 * rest.sum())
    count = min(A.shape[1], math.ceil(k * (2 + math.log(k))))
    drawn = sorted(draws(p, count, rng))
    return [drawn[i] for i in pivoted_columns(V[drawn].conj().T / np.sqrt(np.minimum(1, count * p[drawn])), k)]


def nearest_to_centres(A: np.ndarray, k: int, rng: np.random.Generator) -> list[int]:
    """k-means++ (Arthur and Vassilvitskii 2007) and Lloyd's sweeps; of each cluster the column nearest to its mean."""
    points = list(A.T)

    def distance(p, q):
        return float(np.sum(np.abs(p - q) ** 2))

    seeds = [int(rng.integers(len(points)))]
    while len(seeds) < k:
        heap = np.cumsum([min(distance(p, points[c]) for c in seeds) for p in points])
        seeds.append(int(np.searchsorted(heap, rng.random() * heap[-1], side="right")))
    means, label = [points[c] for c in seeds], []
    while True:
        nearest = [min(range(k), key=lambda c: distance(p, means[c])) for p in points]
        if nearest == label:
            break
        label = nearest
        members = [[p for p, c in zip(points, label, strict=True) if c == own] for own in range(k)]
        means = [np.mean(own, axis=0) if own else old for own, old in zip(members, means, strict=True)]
    heads = []
    for own in sorted(set(label)):
        mine = [j for j in range(len(points)) if label[j] == own]
        least = min(distance(points[j], means[own]) for j in mine)
        heads.append(next(j for j in mine if distance(points[j], means[own]) <= least * (1 + 1e-9) + 1e-13))
    return heads
