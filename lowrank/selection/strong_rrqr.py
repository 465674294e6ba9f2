"""Strong rank-revealing QR: pivoted QR, then exchanges until no coefficient exceeds its bound."""

import numpy as np
from scipy.linalg import solve_triangular

from .base import Candidates, Choice, Selection, numerical_rank
from .working import pivot_order, squared_norms, working

BOUND = 2.0  # f of the paper: exchanges go on while one of them raises the volume by more


def _afresh(Y: np.ndarray, J: np.ndarray):
    """Coefficients Z (n, k) of all columns in the chosen ones, dual vectors W = Y_J^+ (k, d), residuals and duals."""
    Q, R = np.linalg.qr(Y[:, J])
    W = solve_triangular(R, Q.conj().T, check_finite=False)
    inside = Q.conj().T @ Y
    Z = np.ascontiguousarray(solve_triangular(R, inside, check_finite=False).T)
    residual = squared_norms(Y - Q @ inside, 0)
    residual[J] = 0.0
    return Z, W, residual, squared_norms(W, 1)


def exchanges(Y: np.ndarray, J: np.ndarray, bound: float = BOUND) -> tuple[np.ndarray, float]:
    """Exchange independent columns J of Y until ``|Y_J^+ Y| <= bound``; the new J, and the largest growth left.

    Gu and Eisenstat (1996), algorithm 4: exchange the chosen column i for column j while

        rho_ij^2 = |Z_ij|^2 + ||residual of column j||^2 ||row i of Y_J^+||^2

    (lemma 3.1, the factor by which the squared volume grows) exceeds bound^2. Theorem 3.2: then
    ``sigma_i(Y_J) >= sigma_i(Y) / sqrt(1 + bound^2 k (n - k))`` and ``||Y - Y_J Y_J^+ Y||_2 <=
    sqrt(1 + bound^2 k (n - k)) sigma_(k+1)(Y)``. What the updates found is checked on coefficients computed afresh.

    Cost: 4 d n k flops to begin and to check, 6 n k + 2 d n for each exchange.
    """
    J = np.array(J, dtype=np.int64)
    n, k = Y.shape[1], J.size
    if k in (0, n):
        return J, 1.0
    budget = 100 + 20 * k  # the volume grows at each exchange, but rounding could go in circles
    while True:
        taken = np.zeros(n, dtype=bool)
        taken[J] = True
        Z, W, residual, dual = _afresh(Y, J)
        growth = np.where(taken[:, None], 0.0, np.abs(Z) ** 2 + np.multiply.outer(residual, dual))
        j, i = (int(x) for x in np.unravel_index(growth.argmax(), growth.shape))
        best = float(growth[j, i])
        if best <= bound**2 or budget <= 0:
            return J, float(np.sqrt(best))
        from lowrank._selection_kernels import exchange

        while best > bound**2 and budget > 0:
            # the dual vector of the new column: its part off the other chosen ones, over its squared length
            lever = W[i].conj() / dual[i]
            off = Y[:, j] - Y[:, J] @ Z[j] + Z[j, i] * lever
            length = np.vdot(off, off).real
            fresh = off.conj() / length
            # the other dual vectors lose what they have along the old one, then along the new one
            drop = W @ lever
            add = Z[j] - drop * Z[j, i]
            drop[i] = add[i] = 0.0
            new = fresh @ Y
            residual = np.maximum(residual + np.abs(Z[:, i]) ** 2 / dual[i] - np.abs(new) ** 2 * length, 0.0)
            residual[j] = 0.0
            W -= np.outer(drop, W[i])
            W -= np.outer(add, fresh)
            W[i] = fresh
            dual = squared_norms(W, 1)
            taken[J[i]], taken[j], J[i] = False, True, j
            best, j, i = exchange(Z, i, drop, add, new, residual, dual, taken)
            budget -= 1


def pivots(Y: np.ndarray, k: int, bound: float = BOUND) -> tuple[np.ndarray, float]:
    """At most k columns by pivoted QR and then `exchanges`; fewer where the rank is numerically less."""
    diagonal, order = pivot_order(Y)
    return exchanges(Y, order[: min(k, numerical_rank(diagonal, 4 * max(Y.shape)))], bound)


def choose(candidates: Candidates) -> Choice:
    k = candidates.k
    if min(k, *candidates.Y.shape) == 0:
        return Choice(np.empty(0, dtype=np.int64), "strong_rrqr")
    J, growth = pivots(working(candidates.Y if candidates.exact else candidates.compressed(k + 8)), k)
    return Choice(J, "strong_rrqr", f"no exchange would raise the volume more than {max(growth, 1.0):.3g}-fold")


STRONG_RRQR = Selection(
    "strong_rrqr",
    choose,
    f"||A - C C^+ A||_2 <= sqrt(1 + {BOUND:g}^2 k (n - k)) sigma_(k+1) and |C^+ A| <= {BOUND:g} on exact data.",
    "Gu and Eisenstat (1996), Efficient algorithms for computing a strong rank-revealing QR factorization, "
    "doi 10.1137/0917055, algorithm 4 and theorem 3.2.",
)
