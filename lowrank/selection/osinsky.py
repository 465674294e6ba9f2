"""Columns by Osinsky's greedy rule: near-optimal for every spectrum, for one SVD and k cheap steps."""

import numpy as np

from lowrank.coefficients import orthogonal

from .base import Candidates, Choice, Selection, numerical_rank

BLOCKS = 4  # times that used directions are turned out of V
EXACT = 32  # of the witnesses, where directions of the residual are known
SHARP = 1e6  # least eigenvalue over eps times the largest, at which eigenvectors still tell columns apart
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
    Cost 2 n k^2 + 4 r n k flops. Directions in use are turned out of V four times on the way, because reading it at
    every step is what takes the time.
    """
    from lowrank._selection_kernels import advance

    k = V.shape[1]
    order = np.empty(k, dtype=np.int64)
    if k == 0:
        return order
    V, rest = np.ascontiguousarray(V), np.ascontiguousarray(E.T)
    weight, error = squared_norms(V, 1), squared_norms(rest, 1)  # of the rows of V off the directions in use
    tiny = 64 * float(np.finfo(weight.dtype).eps)  # what is left of a copy of a chosen column; the largest is >= 1/n
    usable = weight > tiny
    score = np.where(usable, (error + noise) / np.where(usable, weight, 1.0), np.inf)
    j = int(np.where(score <= score.min() * (1 + tiny), weight, -1.0).argmax())
    block = max(8, -(-k // BLOCKS))
    U = np.zeros((block, k), dtype=V.dtype)  # orthonormal directions already used, one a row
    for t in range(k):
        used = t % block
        if t and used == 0:
            turn = np.linalg.qr(U.T, mode="complete")[0][:, block:]
            V = V @ turn
            U = np.zeros((block, V.shape[1]), dtype=V.dtype)
        order[t] = j
        u = V[j].conj()  # step 4: its direction off the ones in use, twice for orthogonality
        for _ in range(2):
            u = u - (U[:used].conj() @ u) @ U[:used]
        u /= np.linalg.norm(u)
        U[used] = u
        # step 5: down-date weights and residual; step 3: the column with the least error per unit of what it explains
        j = advance(V, u, rest, j, weight, error, score, noise, tiny)
    return order


def precisely(Y: np.ndarray, k: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float] | None:
    """V and E for `greedy`, and the largest singular value, from eigenvectors of ``Y Y^*``, or None.

    None stands where the eigenvectors would be too rough, or an SVD is cheaper. E holds the `EXACT` leading directions
    of the residual, whose part is exact, and a few random combinations of all others. 64 random combinations alone
    know the columns of the residual to 18 %; with k + 50 rows for V, their projection error over the optimum was 2.4
    to 2.5 on e^(-j/20), and it is 2.17 to 2.27 here (2.19 from the SVD of A itself).

    Cost: d^2 n + 2 n d k + 5 d^3 flops; an SVD of all d rows would take thrice as long.
    """
    d, n = Y.shape
    if 2 * d > n or d < k + EXACT + WITNESSES:
        return None
    w, U = np.linalg.eigh(Y @ Y.conj().T)
    w, U = w[::-1], U[:, ::-1]
    if not w[k - 1] > SHARP * np.finfo(w.dtype).eps * w[0]:
        return None
    V = (Y.conj().T @ U[:, :k]) / np.sqrt(w[:k])
    others = U[:, k + EXACT :] @ rng.standard_normal((d - k - EXACT, WITNESSES - EXACT)) / np.sqrt(WITNESSES - EXACT)
    E = np.hstack([U[:, k : k + EXACT], others]).conj().T @ Y
    return V, E - (E @ V) @ V.conj().T, float(np.sqrt(w[0]))


def choose(candidates: Candidates) -> Choice:
    k = candidates.k
    precise = np.complex128 if candidates.Y.dtype.kind == "c" else np.float64  # indices come out: double costs little
    eps = float(np.finfo(candidates.Y.dtype).eps)
    if not candidates.exact and candidates.Y.size and k:
        Y = candidates.Y.astype(precise, copy=False)
        found = precisely(Y, k, candidates.rng)
        if found is not None:
            V, E, largest = found
            return Choice(greedy(V, E, (64 * eps * largest) ** 2), "osinsky")
    Y = candidates.Y if candidates.exact else candidates.compressed(k + max(10, k // 4))
    V, s = basis(Y.astype(precise, copy=False), k)
    if V.shape[1] == 0:
        return Choice(np.empty(0, dtype=np.int64), "osinsky")
    witness = candidates.compressed(WITNESSES).astype(precise, copy=False)
    witness -= (witness @ V) @ V.conj().T
    return Choice(greedy(V, witness, (64 * eps * s[0]) ** 2), "osinsky")


OSINSKY = Selection(
    "osinsky",
    choose,
    "||A - C C^+ A||_F^2 <= (k + 1) ||A - A_k||_F^2 on exact data; on a sketch the factor of the sketch comes on top.",
    "Osinsky (2023), Close to optimal column approximations with a single SVD, arXiv 2308.09068; "
    "Cortinovis and Kressner (2024), Adaptive randomized pivoting for column subset selection, arXiv 2412.13992.",
)
