"""Pseudo-inverses by factorisation: SVD, complete orthogonal QR, and Tikhonov's regularised form."""

from typing import Any

import numpy as np


def by_svd(A: Any, xp: Any, rcond: float) -> Any:
    """``V S^+ U^*``, singular values up to rcond times the largest counted as zero."""
    U, s, Vh = xp.linalg.svd(A, full_matrices=False)
    keep = s > rcond * s[..., :1]
    inverse = xp.where(keep, 1 / xp.where(keep, s, xp.ones_like(s)), xp.zeros_like(s))
    return (_adjoint(Vh) * inverse[..., None, :]) @ _adjoint(U)


def by_qr(A: np.ndarray, rcond: float) -> np.ndarray:
    """Complete orthogonal factorisation ``A P = Q T^* Z^*`` by two QRs, so ``A^+ = P Z T^-* Q^*``.

    Golub and Van Loan (2013), Matrix Computations, section 5.4.7. Rank by the diagonal of the pivoted R.
    """
    from scipy.linalg import solve_triangular

    from .selection.working import pivoted_qr

    m, n = A.shape[-2:]
    out = np.zeros((*A.shape[:-2], n, m), dtype=A.dtype)
    for where in np.ndindex(*A.shape[:-2]):
        Q, R, order = pivoted_qr(A[where])
        size = np.abs(R.diagonal())
        rank = int(np.count_nonzero(size > rcond * size.max(initial=0.0)))
        if rank:
            Z, T = np.linalg.qr(R[:rank].conj().T)
            inner = solve_triangular(T, Q[:, :rank].conj().T, trans=2, check_finite=False)
            out[where][order] = Z @ inner
    return out


def by_plain_qr(A: Any, xp: Any) -> Any:
    """``R^-1 Q^*`` of a tall A of full rank, for arrays whose library has no pivoting; the adjoint of a wide one."""
    if A.shape[-2] < A.shape[-1]:
        return _adjoint(by_plain_qr(_adjoint(A), xp))
    Q, R = xp.linalg.qr(A)
    return xp.linalg.solve(R, _adjoint(Q))


def by_tikhonov(A: Any, xp: Any, ridge: Any) -> Any:
    """``(A^* A + ridge I)^-1 A^*`` without its Gram matrix: QR of A over sqrt(ridge) I gives ``R^-1 Q_1^*``.

    ridge : (...) one for each matrix of the batch.
    """
    if A.shape[-2] < A.shape[-1]:
        return _adjoint(by_tikhonov(_adjoint(A), xp, ridge))
    m, n = A.shape[-2:]
    unit = xp.eye(n, dtype=A.dtype, **({} if isinstance(A.device, str) else {"device": A.device}))
    Q, R = xp.linalg.qr(xp.concat([A, xp.sqrt(ridge)[..., None, None] * unit], axis=-2))
    return xp.linalg.solve(R, _adjoint(Q[..., :m, :]))


def _adjoint(A: Any) -> Any:
    return A.swapaxes(-1, -2).conj()
