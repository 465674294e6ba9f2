"""Coefficients that express all columns of A by chosen ones: from a sketch, or exactly."""

import numpy as np
from scipy.linalg import get_blas_funcs, get_lapack_funcs

from ._threads import blas_threads, thread_map

STRIP = 512  # columns a thread solves at a time; fixed, so that the number of threads changes no bit


def orthogonal(C: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Q (Fortran-ordered) and upper triangular R of a tall C, without pivoting."""
    geqrf, orgqr = get_lapack_funcs(("geqrf", "orgqr" if C.dtype.kind == "f" else "ungqr"), (C,))
    work = np.array(C, order="F", copy=True)
    k = work.shape[1]
    factored, tau, _, _ = geqrf(work, overwrite_a=True)
    R = np.triu(factored[:k])
    return orgqr(factored, tau, overwrite_a=True)[0], R


def independent(C: np.ndarray) -> np.ndarray:
    """Positions of columns of C that are linearly independent to rounding, in their order; all of them as a rule."""
    m, k = C.shape
    if k == 0:
        return np.arange(0)
    _, R = orthogonal(C)
    size = np.abs(np.diagonal(R))
    cut = 4 * max(m, k) * np.finfo(C.dtype).eps
    if size.min() > cut * size.max():
        return np.arange(k)
    (geqp3,) = get_lapack_funcs(("geqp3",), (C,))
    factored, order, *_ = geqp3(np.array(C, order="F", copy=True))
    size = np.abs(np.diagonal(factored))
    return np.sort(order[: int((size > cut * size[0]).sum())] - 1) if size[0] > 0 else np.arange(0)


def solve(C: np.ndarray, B: np.ndarray, *, workers: int) -> np.ndarray:
    """``C^+ B`` for a tall C of full column rank, by QR; strips of columns of B on `workers` threads.

    Floor: 2 d k^2 flops for the QR and 2 d k + k^2 for each column of B, all in GEMM and TRSM.
    """
    k, n = C.shape[1], B.shape[1]
    Z = np.empty((k, n), dtype=np.result_type(C, B))
    if k == 0 or n == 0:
        return Z
    with blas_threads(1):
        Q, R = orthogonal(C)
        Qh = Q.conj().T
        (trsm,) = get_blas_funcs(("trsm",), (R, Z))

        def strip(j: int) -> None:
            Z[:, j : j + STRIP] = trsm(1.0, R, Qh @ B[:, j : j + STRIP])

        thread_map(strip, range(0, n, STRIP), workers)
    return Z


def exact(C: np.ndarray, operand, *, workers: int) -> np.ndarray:
    """``C^+ A`` with A itself: one more pass over it, 2 m n k flops."""
    with blas_threads(workers):
        Q, R = orthogonal(C)
    (trsm,) = get_blas_funcs(("trsm",), (R,))
    right = operand.rmatmat(Q, workers=workers).conj().T
    with blas_threads(workers):
        return np.ascontiguousarray(trsm(1.0, R, right))
