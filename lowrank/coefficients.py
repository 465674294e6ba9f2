"""Coefficients that express all columns of A by chosen ones: from a sketch, or exactly."""

import numpy as np
from scipy.linalg import get_blas_funcs, get_lapack_funcs

from ._threads import blas_threads, thread_map

BLOCK = 64  # workspace that LAPACK needs a column to run blocked; scipy's default makes QR five times slower
HIGH = 2048  # rows preconditioned at a time
LOST = 1e-3  # share of the error of C^+ A, at right angles to it, that rounding may add
SAFE = 1e-8  # reciprocal condition of a Gram matrix that may be solved with
STRIP = 512  # columns a thread solves at a time; fixed, so that the number of threads changes no bit


def orthogonal(C: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Q (Fortran-ordered) and upper triangular R of a tall C, without pivoting."""
    geqrf, orgqr = get_lapack_funcs(("geqrf", "orgqr" if C.dtype.kind == "f" else "ungqr"), (C,))
    work = np.array(C, order="F", copy=True)
    k = work.shape[1]
    factored, tau, _, _ = geqrf(work, lwork=BLOCK * max(k, 1), overwrite_a=True)
    R = np.triu(factored[:k])
    return orgqr(factored, tau, lwork=BLOCK * max(k, 1), overwrite_a=True)[0], R


def rounding(n: int, dtype) -> float:
    """What rounding leaves of a dependent column, relative: n eps, and in single precision ``4 sqrt(n) eps``.

    n eps is the worst case; 2000 eps would be 2e-4 in single precision, above columns that are still well resolved,
    while rounding errors add up like a random walk.
    """
    eps = float(np.finfo(dtype).eps)
    return eps * (n if eps < 1e-10 else 4 * n**0.5)


def cut(C: np.ndarray) -> float:
    """The pivot, relative to the largest, at or below which a column of C depends on others to rounding."""
    return (4 if C.dtype.char in "dD" else 1) * rounding(max(C.shape), C.dtype)


def independent(C: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions of columns of C that are linearly independent to rounding, in their order, and the QR of these."""
    m, k = C.shape
    least = cut(C)
    if k <= m:
        Q, R = orthogonal(C)
        size = np.abs(np.diagonal(R))
        if k == 0 or size.min() > least * np.linalg.norm(R, axis=0).max():  # the longest column, wherever it stands
            return np.arange(k), Q, R
    (geqp3,) = get_lapack_funcs(("geqp3",), (C,))
    factored, order, *_ = geqp3(np.array(C, order="F", copy=True), lwork=BLOCK * (k + 2))
    size = np.abs(np.diagonal(factored))
    kept = np.sort(order[: int((size > least * size[0]).sum())] - 1) if size[0] > 0 else np.arange(0)
    return kept, *orthogonal(C[:, kept])


def solve(Q: np.ndarray, R: np.ndarray, B: np.ndarray, *, workers: int) -> np.ndarray:
    """``(Q R)^+ B`` for a tall Q R of full column rank; strips of columns of B on `workers` threads.

    Floor: 2 d k + k^2 flops for each column of B, all in GEMM and TRSM.
    """
    k, n = R.shape[1], B.shape[1]
    Z = np.empty((k, n), dtype=np.result_type(Q, B))
    if k == 0 or n == 0:
        return Z
    Qh = Q.conj().T
    (trsm,) = get_blas_funcs(("trsm",), (R, Z))

    def strip(j: int) -> None:
        Z[:, j : j + STRIP] = trsm(1.0, R, Qh @ B[:, j : j + STRIP])

    with blas_threads(1):
        thread_map(strip, range(0, n, STRIP), workers)
    return Z


def exact(C: np.ndarray, SC: np.ndarray, operand, *, workers: int) -> np.ndarray:
    """``C^+ A`` with A itself: one more pass over it, 2 m n k flops.

    With ``SC = Q T`` from the sketch, ``X = C T^-1`` has singular values near 1 whatever the condition of C, so that
    its normal equations are harmless: ``C^+ A = T^-1 (X^* X)^-1 X^* A`` (Rokhlin and Tygert 2008, doi
    10.1073/pnas.0804869105). A QR of C would cost twice as much and run at half the speed.
    """
    with blas_threads(1):
        _, T = orthogonal(SC)
    m, k = C.shape
    X = np.empty((m, k), dtype=C.dtype)  # rows of C are columns of C^T: X^T = T^-T C^T
    trsm, potrf, potrs = (*get_blas_funcs(("trsm",), (C,)), *get_lapack_funcs(("potrf", "potrs"), (C,)))

    def precondition(i: int) -> np.ndarray:
        part = trsm(1.0, T, C[i : i + HIGH].T, trans_a=1)
        X[i : i + HIGH] = part.T
        return (part.conj() if part.dtype.kind == "c" else part) @ part.T  # syrk where real: half the flops

    with blas_threads(1):
        gram = np.sum(thread_map(precondition, range(0, m, HIGH), workers), axis=0)
    right = operand.rmatmat(X, workers=workers).conj().T
    with blas_threads(1):
        L, info = potrf(gram, lower=True)
        if info:
            raise np.linalg.LinAlgError("the sketch does not embed the chosen columns; take another rng")
        return np.ascontiguousarray(trsm(1.0, T, potrs(L, right, lower=True)[0]))


def direct(C: np.ndarray, J: np.ndarray, sketch, operand, rng, *, workers: int) -> np.ndarray | None:
    """``C^+ A`` for C = A[:, J] from the one product ``C^* A``, whose columns J are the Gram matrix of C; or None.

    Normal equations add ``eps cond(C) ||A||`` to the residual, at right angles to it (Higham 2002, Accuracy and
    stability of numerical algorithms, doi 10.1137/1.9780898718027, section 20.4). None is the answer where that is more
    than `LOST` of the residual, by what the sketch says of both: leave such columns to `exact`.

    Floor: 2 m n k flops of GEMM and 2 n k^2 of TRSM; C is not touched again.
    """
    Y, n = sketch.Y, operand.shape[1]
    (trcon,) = get_lapack_funcs(("trcon",), (Y,))
    with blas_threads(1):
        Q, T = orthogonal(Y[:, J])
        if not len(J) or not (1 / LOST) * np.finfo(Y.dtype).eps < (rcond := trcon(T)[0]) ** 2:
            return None
        some = Y @ rng.standard_normal((n, 4)).astype(np.real(Y).dtype)
        left = float(np.linalg.norm(some - Q @ (Q.conj().T @ some))) / 2
    if not np.finfo(Y.dtype).eps / rcond * np.sqrt(sketch.squared_norm) < LOST * left:
        return None
    B = operand.rmatmat(C, workers=workers).conj().T
    with blas_threads(1):
        G = B[:, J]
        (potrf,), (trsm,) = get_lapack_funcs(("potrf",), (G,)), get_blas_funcs(("trsm",), (G,))
        L, info = potrf((G + G.conj().T) / 2, lower=True)
        if info:
            return None
        X = trsm(1.0, L, B.T, side=1, lower=1, trans_a=1)
        return np.ascontiguousarray(trsm(1.0, L.conj(), X, side=1, lower=1, overwrite_b=1).T)


def normal(C, SC: np.ndarray, operand) -> np.ndarray:
    """``C^+ A`` for sparse C and A: by the Gram matrix of C, or by `exact` on the rows that C touches.

    With columns scaled to length 1, ``C^* C`` in double precision loses no more than half of the digits where its
    reciprocal condition is above `SAFE`; what is not so well conditioned goes to `exact`, whose dense part has a row
    for every row of C that is not zero and no more. 2 k^2 n flops beside the sparse products.
    """
    G, B = operand.gram(C)
    d = np.sqrt(np.real(np.diagonal(G)))
    Z = None
    if d.size and d.min() > 0:
        potrf, pocon = get_lapack_funcs(("potrf", "pocon"), (G,))
        unit = G / np.multiply.outer(d, d)
        L, info = potrf(unit, lower=True)
        if info == 0 and pocon(L, np.abs(unit).sum(axis=0).max(), uplo="L")[0] > SAFE:
            (trsm,) = get_blas_funcs(("trsm",), (L, B))
            L *= d[:, None]  # C^* C = L L^*
            X = trsm(1.0, L, B.T, side=1, lower=1, trans_a=1, overwrite_b=1)
            Z = trsm(1.0, L.conj(), X, side=1, lower=1, overwrite_b=1).T
    if Z is None:
        rows = np.unique(C.tocsc().indices)
        part = operand.restricted(rows)
        return exact(C.tocsr()[rows].toarray(), SC, part, workers=1)
    return np.ascontiguousarray(Z, dtype=operand.dtype)
