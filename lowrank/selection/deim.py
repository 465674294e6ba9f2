"""DEIM and Q-DEIM: interpolation points of the leading singular vectors, greedily or by pivoted QR."""

import numpy as np
from scipy.linalg import solve_triangular

from .base import Candidates, Choice, Selection
from .working import leading, pivot_order


def points(V: np.ndarray) -> np.ndarray:
    """One row for each column of V, where that column differs most from its interpolant at the earlier ones.

    V : (n, k), independent columns.  Sorensen and Embree (2016), algorithm 1, which is LU with partial pivoting; the
    multipliers L are kept, so that a step costs one matrix-vector product. n k^2 flops. Ties go to the first row.
    """
    n, k = V.shape
    L = np.zeros((n, k), dtype=V.dtype, order="F")
    p = np.empty(k, dtype=np.int64)
    for j in range(k):
        # step 4: coefficients of the interpolant of v_j at the points so far
        c = solve_triangular(L[p[:j], :j], V[p[:j], j], lower=True, unit_diagonal=True, check_finite=False)
        # step 5: what interpolation leaves;  step 6: where it is largest
        r = V[:, j] - L[:, :j] @ c
        r[p[:j]] = 0.0
        p[j] = np.abs(r).argmax()
        L[:, j] = r / r[p[j]]
    return p


def _choose_deim(candidates: Candidates) -> Choice:
    return Choice(points(leading(candidates)), "deim")


def _choose_qdeim(candidates: Candidates) -> Choice:
    V = leading(candidates)
    if V.shape[1] == 0:
        return Choice(np.empty(0, dtype=np.int64), "qdeim")
    return Choice(pivot_order(V.conj().T)[1][: V.shape[1]], "qdeim")


DEIM = Selection(
    "deim",
    _choose_deim,
    "||A - C C^+ A||_2 <= eta sigma_(k+1) with eta = ||V_J^-1||_2 <= sqrt(n k / 3) 2^k; eta is small in practice.",
    "Sorensen and Embree (2016), A DEIM induced CUR factorization, doi 10.1137/140978430, algorithm 1 and theorem 4.1.",
)
QDEIM = Selection(
    "qdeim",
    _choose_qdeim,
    "||A - C C^+ A||_2 <= eta sigma_(k+1) with eta = ||V_J^-1||_2 <= sqrt(n - k + 1) sqrt(4^k + 6 k - 1) / 3; "
    "independent of the basis of the leading singular space.",
    "Drmac and Gugercin (2016), A new selection operator for the discrete empirical interpolation method, "
    "doi 10.1137/15M1019271, theorem 2.1.",
)
