"""Frobenius and spectral errors of a growing Nystrom approximation, from one product of K with probes."""

from collections.abc import Callable

import numpy as np

from .certificate import from_residuals
from .partial_cholesky import PartialCholesky

LEVEL = 0.002  # two-sided: an error above tol is called below it once in a thousand looks
SHARE = 0.5  # of the tolerance, in the spectral norm, that may go to what the landmarks so far leave


def within(
    cholesky: PartialCholesky, tol: float, norm: str, omega: np.ndarray, more: Callable[[], object]
) -> bool:  # fmt: skip
    """Landmarks until the probes put ``K - F F^*`` within `tol` of K in `norm`, cut back to as few as they allow.

    ``0 <= F F^* <= K`` makes ``||F^* F||`` a sure lower bound of ||K||, in both norms. One product ``K Omega`` is an
    unbiased look at ``||K - F_r F_r^*||_F`` for every r. In the spectral norm ``||K - F_r F_r^*||_2 <= ||F_{r:}||_2^2 +
    ||K - F F^*||_F``, where all landmarks so far are as many as make the last term small. `more` goes on until
    `cholesky.target` is met, which is halved between looks.
    """
    if tol >= 1:
        cholesky.cut(0)
        return True
    product = cholesky.operand.matmat(omega.astype(cholesky.Ft.dtype), workers=cholesky.workers)
    while True:
        r = _least(cholesky, tol, norm, omega, product)
        if r is not None:
            cholesky.cut(r)
            return True
        before, cholesky.target = cholesky.size, float(cholesky.residual.sum()) / 2
        more()
        if cholesky.size == before:
            return False


def _least(cholesky: PartialCholesky, tol: float, norm: str, omega: np.ndarray, product: np.ndarray) -> int | None:
    """The least number of landmarks that the probes put within the tolerance."""
    Ft = cholesky.Ft[: cholesky.size]
    H = Ft.conj() @ Ft.T
    T = Ft.conj() @ omega.astype(Ft.dtype)
    if norm == "spectral":
        size = float(np.linalg.norm(H, 2)) if len(H) else 0.0
        left = _bound(product - Ft.T @ T)
        if not left <= SHARE * tol * size:
            return None
        few, enough = 0, len(H)  # the largest eigenvalue of H[r:, r:] falls with r
        while few < enough:
            r = (few + enough) // 2
            if float(np.linalg.norm(H[r:, r:], 2)) + left <= tol * size:
                enough = r
            else:
                few = r + 1
        return enough
    size, E = float(np.linalg.norm(H)), product.copy()
    for r in range(len(Ft) + 1):
        if r:
            E -= Ft[r - 1][:, None] * T[r - 1]
        if np.linalg.norm(E) <= tol * size * E.shape[1] ** 0.5 and _bound(E) <= tol * size:
            return r
    return None


def _bound(E: np.ndarray) -> float:
    """The Frobenius norm that probes of a matrix rule out from above, with confidence 99.9 %."""
    return from_residuals(E.T, 1.0, level=LEVEL).interval[1]
