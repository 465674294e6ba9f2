"""Maximum-volume columns of the leading row space, square and rectangular."""

import numpy as np
from scipy.linalg import solve

from .base import Candidates, Choice, Selection, numerical_rank
from .deim import points
from .osinsky import basis
from .working import leading, reduced

GROWTH = 1.05  # an exchange must raise the volume by this factor; Goreinov et al. call 1.01 to 1.1 useful


def coefficients(V: np.ndarray, J: np.ndarray) -> np.ndarray:
    """``V V_J^-1`` as a new C-ordered array: every row of V in terms of the rows J."""
    return np.ascontiguousarray(solve(V[J].T, V.T, check_finite=False).T)


def square(V: np.ndarray, growth: float = GROWTH) -> tuple[np.ndarray, float]:
    """k rows of the (n, k) array V in which all its rows have coefficients of at most `growth`; and their largest.

    Goreinov, Oseledets, Savostyanov, Tyrtyshnikov and Zamarashkin (2010), section 3: a start by LU, then exchanges at
    the largest coefficient. Every exchange multiplies |det V_J| by more than `growth`, so there are finitely many. What
    the updates found is checked on coefficients computed afresh. Cost 2 n k^2 flops, and 2 n k for each exchange.
    """
    n, k = V.shape
    J = points(V)  # step 1: independent rows to start from
    if k in (0, n):
        return J, 1.0
    zeros, nothing = np.zeros(k), np.zeros(n)
    budget = 100 + 20 * k  # the volume grows at each exchange, but rounding could go in circles
    while True:
        taken = np.zeros(n, dtype=bool)
        taken[J] = True
        B = coefficients(V, J)
        size = np.where(taken[:, None], 0.0, np.abs(B))
        j, i = (int(x) for x in np.unravel_index(size.argmax(), size.shape))
        best = float(size[j, i]) ** 2
        if best <= growth**2 or budget <= 0:
            return J, float(np.sqrt(best))
        from lowrank._selection_kernels import exchange

        while best > growth**2 and budget > 0:
            # step 2: row j takes the place of the i-th chosen row;  step 3: B -= B[:, i] (B[j] - e_i) / B[j, i]
            add = B[j].copy()
            new = B[:, i] / add[i]
            add[i] = 0.0
            taken[J[i]], taken[j], J[i] = False, True, j
            best, j, i = exchange(B, i, np.zeros_like(add), add, new, nothing, zeros, taken)
            budget -= 1


def rectangular(V: np.ndarray, k: int) -> np.ndarray:
    """k >= r rows of the (n, r) array V: the square ones, then one by one the row with the longest coefficients.

    Mikhalev and Oseledets (2018), algorithm 2: adding row j multiplies the squared volume by ``1 + ||c_j||^2``, c_j the
    least-norm coefficients of row j in the chosen rows. Only the Gram matrix of these is kept: 2 n r flops a row.
    """
    n, r = V.shape
    J = square(V)[0].tolist()
    G = V[J].conj().T @ V[J]
    inverse = solve(G, np.eye(r), assume_a="her", check_finite=False)
    length = np.einsum("ij,ij->i", V @ inverse, V.conj()).real  # ||c_j||^2 = v_j G^-1 v_j^*
    length[J] = -np.inf
    while len(J) < min(k, n):
        j = int(length.argmax())
        y = inverse @ V[j].conj()
        grown = 1.0 + max(float(length[j]), 0.0)
        length = length - np.abs(V @ y) ** 2 / grown  # length of the coefficients over one more row
        inverse = inverse - np.outer(y, y.conj()) / grown  # Sherman and Morrison
        J.append(j)
        length[j] = -np.inf
    return np.array(J, dtype=np.int64)


def _choose_maxvol(candidates: Candidates) -> Choice:
    J, largest = square(leading(candidates))
    return Choice(J, "maxvol", f"no coefficient in the leading row space exceeds {max(largest, 1.0):.3g}")


def _choose_rect_maxvol(candidates: Candidates) -> Choice:
    k = candidates.k
    if min(k, *candidates.Y.shape) == 0:
        return Choice(np.empty(0, dtype=np.int64), "rect_maxvol")
    Y = reduced(candidates)
    V, s = basis(Y, k)
    rank = V.shape[1]
    if rank < k or numerical_rank(s, max(Y.shape)) == rank:  # no further rank: the whole row space is to be spanned
        return Choice(square(V)[0], "rect_maxvol", f"the sketch has rank {rank}, so the square case answers")
    r = max(1, 4 * k // 5)
    return Choice(rectangular(V[:, :r], k), "rect_maxvol", f"{k} columns for the leading {r} directions")


MAXVOL = Selection(
    "maxvol",
    _choose_maxvol,
    f"||A - C C^+ A||_F <= sqrt(1 + {GROWTH}^2 k (n - k)) ||A - A_k||_F, and all coefficients V_J^-1 V are at most "
    f"{GROWTH} in modulus.",
    "Goreinov, Oseledets, Savostyanov, Tyrtyshnikov and Zamarashkin (2010), How to find a good submatrix, "
    "doi 10.1142/9789812836021_0015, section 3.",
)
RECT_MAXVOL = Selection(
    "rect_maxvol",
    _choose_rect_maxvol,
    "||A - C C^+ A||_2 <= sqrt(1 + max_j ||c_j||^2 (n - k)) sigma_(r+1) for r = 4 k / 5: against a smaller rank, with "
    "far smaller coefficients than k = r allows.",
    "Mikhalev and Oseledets (2018), Rectangular maximum-volume submatrices and their applications, "
    "doi 10.1016/j.laa.2017.10.014, algorithm 2.",
)
