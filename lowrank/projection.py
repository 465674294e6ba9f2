"""A matrix on an orthonormal basis of chosen columns of it: their best coefficients, and the error of every rank."""

import numpy as np
from scipy.linalg import get_blas_funcs, get_lapack_funcs, solve_triangular

from . import coefficients as coef
from ._threads import blas_threads, thread_map
from .operands import Operand
from .operands.sparse import Sparse

SKEW = 1e-2  # least over largest pivot of the Gram matrix below which the sketch did not precondition


class Expansion:
    """``C = A[:, J] = Q R`` and ``G = Q^* A`` for the first `size` of the columns J, of a sketch or of A itself.

    `exact` says which: the coefficients ``R_j^-1 G_j`` of the first j columns are the best ones then.
    """

    def __init__(self, J: np.ndarray, R: np.ndarray, G: np.ndarray, exact: bool):
        self.J, self.R, self.G, self.exact = J, R, G, exact

    @property
    def size(self) -> int:
        return len(self.G)

    def extend(self, size: int) -> None:
        """Nothing to do: all columns are there."""

    def tails(self, squared_norm: float) -> np.ndarray:
        """``1 - |G_j|_F^2 / squared_norm`` for j = 1 to `size`."""
        parts = [np.real(self.G), np.imag(self.G)] if self.G.dtype.kind == "c" else [self.G]
        rows = sum(np.einsum("ij,ij->i", part, part, dtype=np.float64) for part in parts)
        return np.maximum(1.0 - np.cumsum(rows) / squared_norm, 0.0)

    def coefficients(self, j: int) -> np.ndarray:
        """``R_j^-1 G_j`` with an identity at the first j of the columns J."""
        Z = solve_triangular(self.R[:j, :j], self.G[:j], check_finite=False) if j else self.G[:0].copy()
        Z[:, self.J[:j]] = np.eye(j, dtype=Z.dtype)
        return np.ascontiguousarray(Z)


class Projection(Expansion):
    """The expansion of A itself, which grows by further columns; Q is never formed.

    Then ``C_j^+ A = R_j^-1 G_j`` and ``||A - C_j C_j^+ A||_F^2 = ||A||_F^2 - ||G_j||_F^2`` for the first j columns, for
    every j: the coefficients of all ranks and their exact errors for the one pass over A that those of the last take.

    With T from the QR of the sketched columns, ``X = C T^-1`` has singular values near 1 whatever the condition of C
    (Rokhlin and Tygert 2008, doi 10.1073/pnas.0804869105), so that the Cholesky factor of its Gram matrix ``X^* X = L
    L^*`` may be trusted: ``Q = X L^-*``, ``R = L^* T``, ``G = L^-1 X^* A``. A sparse A is seen through the rows that
    candidates touch alone, so that X is no larger than they are.

    operand, workers : A;  J : all columns that may come, in order;  T : (k, k) triangle of their sketch.
    """

    def __init__(self, operand: Operand, J: np.ndarray, T: np.ndarray, workers: int):
        self.operand, self.J, self.T, self.workers, self.exact = operand, J, T, workers, True
        if isinstance(operand, Sparse):
            rows = np.unique(operand.keep_columns(J).tocsc().indices)
            if 2 * len(rows) < operand.shape[0]:
                self.operand = operand.restricted(rows)
        dtype = operand.dtype
        self.blocks: list[np.ndarray] = []  # of columns of X
        self.L = self.R = np.zeros((0, 0), dtype)
        self.G = np.zeros((0, operand.shape[1]), dtype)

    def extend(self, size: int) -> None:
        """The first `size` of the columns J: 2 m n flops and about 2 m k for each new one."""
        a, b = self.size, min(size, len(self.J))
        if b <= a:
            return
        with blas_threads(1):
            X, gram = self._preconditioned(a, b)
            L = self._factor(gram, a)
        if L is None:
            self._by_qr()
            return
        B = self.operand.rmatmat(X, workers=self.workers).conj().T
        with blas_threads(1):
            (trsm,) = get_blas_funcs(("trsm",), (L, B))
            G = trsm(1.0, L[a:, a:], B - L[a:, :a] @ self.G if a else B, lower=True)
            self.R = L.conj().T @ self.T[:b, :b]
        self.L, self.G = L, np.concatenate([self.G, G])
        self.blocks.append(X)

    def _preconditioned(self, a: int, b: int) -> tuple[np.ndarray, np.ndarray]:
        """Columns a to b of X, and the rows of X^* X from a to b, summed over panels of rows in their order."""
        C = self.operand.columns(self.J[a:b], workers=self.workers)
        X = np.empty_like(C)
        (trsm,) = get_blas_funcs(("trsm",), (C, self.T))
        across, T = self.T[:a, a:b], self.T[a:b, a:b]
        ends = np.cumsum([0, *(block.shape[1] for block in self.blocks)])

        def panel(i: int) -> np.ndarray:
            rows = slice(i, i + coef.HIGH)
            part = C[rows].T
            for start, stop, block in zip(ends[:-1], ends[1:], self.blocks, strict=True):
                part = part - across[start:stop].T @ block[rows].T
            part = trsm(1.0, T, part, trans_a=1)
            X[rows] = part.T
            left = part.conj() if part.dtype.kind == "c" else part
            return np.hstack([*(left @ block[rows] for block in self.blocks), left @ part.T])

        return X, np.sum(thread_map(panel, range(0, len(C), coef.HIGH), self.workers), axis=0)

    def _factor(self, gram: np.ndarray, a: int) -> np.ndarray | None:
        """The Cholesky factor with these rows of the Gram matrix below it; None where it would not be precise."""
        b = gram.shape[1]
        L = np.zeros((b, b), gram.dtype)
        L[:a, :a] = self.L
        if a:
            L[a:, :a] = solve_triangular(self.L, gram[:, :a].conj().T, lower=True, check_finite=False).conj().T
        (potrf,) = get_lapack_funcs(("potrf",), (gram,))
        L[a:, a:], info = potrf(gram[:, a:] - L[a:, :a] @ L[a:, :a].conj().T, lower=True, clean=True)
        pivots = np.real(np.diagonal(L)) ** 2
        if info or not (np.isfinite(pivots).all() and pivots.min() > SKEW * pivots.max()):
            return None
        return L

    def _by_qr(self) -> None:
        """All columns that depend on no others, by Householder's QR: for a sketch that does not embed them."""
        C = self.operand.columns(self.J, workers=self.workers)
        with blas_threads(1):
            kept, Q, R = coef.independent(C)
        self.J, self.R, self.T, self.blocks = self.J[kept], R, R, [Q]
        self.L = np.eye(len(kept), dtype=C.dtype)
        self.G = np.ascontiguousarray(self.operand.rmatmat(Q, workers=self.workers).conj().T)
