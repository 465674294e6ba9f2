"""Columns by Osinsky's greedy rule: near-optimal for every spectrum, for one SVD and k cheap steps."""

import numpy as np

from lowrank.coefficients import orthogonal

from .base import Candidates, Choice, Selection, numerical_rank

WITNESSES = 64  # rows that stand for the residual; norms of its columns are then known to about 18 %


def squared_norms(E: np.ndarray, axis: int) -> np.ndarray:
    """Squared Euclidean norms of the rows (axis 1) or columns (axis 0)."""
    return np.einsum("ij,ij->i" if axis == 1 else "ij,ij->j", E, E.conj()).real


def basis(Y: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Leading right singular vectors of Y as an (n, r) array, r <= k the numerical rank, and all singular values."""
    if Y.shape[1] <= Y.shape[0]:
        _, s, Vh = np.linalg.svd(Y, full_matrices=False)
        return np.ascontiguousarray(Vh[: min(k, numerical_rank(s, max(Y.shape)))].conj().T), s
    Q, R = orthogonal(Y.conj().T)
    U, s, _ = np.linalg.svd(R)
    return Q @ U[:, : min(k, numerical_rank(s, max(Y.shape)))], s


def greedy(V: np.ndarray, E: np.ndarray, noise: float = 0.0) -> np.ndarray:
    """Indices that keep ``||E_J V_J^-T||_F`` small, one for each column of V.

    V : (n, k), orthonormal columns spanning the leading row space;  E : (r, n), a sketch of the residual A - A V V^*,
    in any order;  noise : squared norm of a column of E that is only rounding, so that on data of exact rank the column
    with the largest weight is taken.  Osinsky (2023), algorithm 1, in the form of Cortinovis and Kressner (2024),
    algorithm 3.

    Each step multiplies the squared error by at most (1 + 1/(k - t)), and the product of these factors is k + 1.
    Cost 2 n k^2 + 4 r n k flops; for n = 2000, k = 200 half of the time goes into reading V once a step.
    """
    from lowrank._selection_kernels import downdate

    n, k = V.shape
    U = np.zeros((k, k), dtype=V.dtype)  # orthonormal directions already used, one a row
    weight = squared_norms(V, 1)  # squared norms of the rows of V off these directions
    alive = np.ones(n, dtype=bool)
    order = np.empty(k, dtype=np.int64)
    tiny = 64 * np.finfo(weight.dtype).eps  # what is left of a copy of a chosen column; the largest is at least 1/n
    rest = np.ascontiguousarray(E.T)
    error = squared_norms(rest, 1)
    for t in range(k):
        # step 3: the column with the least error per unit of what it explains
        usable = alive & (weight > tiny)
        score = np.where(usable, (error + noise) / np.where(usable, weight, 1.0), np.inf)
        best = score.min()
        ties = score <= best * (1 + tiny)
        j = int(np.where(ties, weight, -1.0).argmax())
        order[t], alive[j] = j, False
        u = V[j].conj().copy()  # step 4: its direction off the ones in use, twice for orthogonality
        for _ in range(2):
            u -= (U[:t].conj() @ u) @ U[:t]
        u /= np.linalg.norm(u)
        U[t] = u
        downdate(rest, j, V @ u, weight, error)  # step 5: down-date weights and residual
    return order


def choose(candidates: Candidates) -> Choice:
    k = candidates.k
    Y = candidates.Y if candidates.exact else candidates.compressed(k + max(10, k // 4))
    precise = np.complex128 if Y.dtype.kind == "c" else np.float64  # indices come out: double costs little
    V, s = basis(Y.astype(precise, copy=False), k)
    if V.shape[1] == 0:
        return Choice(np.empty(0, dtype=np.int64), "osinsky")
    witness = candidates.compressed(WITNESSES).astype(precise, copy=False)
    witness -= (witness @ V) @ V.conj().T
    return Choice(greedy(V, witness, (64 * float(np.finfo(Y.dtype).eps) * s[0]) ** 2), "osinsky")


OSINSKY = Selection(
    "osinsky",
    choose,
    "||A - C C^+ A||_F^2 <= (k + 1) ||A - A_k||_F^2 on exact data; on a sketch the factor of the sketch comes on top.",
    "Osinsky (2023), Close to optimal column approximations with a single SVD, arXiv 2308.09068; "
    "Cortinovis and Kressner (2024), Adaptive randomized pivoting for column subset selection, arXiv 2412.13992.",
)
