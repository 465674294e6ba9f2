"""Matrices with names: Kahan, Hilbert, Cauchy, Lehmer, and the covariance of Brownian motion."""

import math

import numpy as np

__all__ = ["brownian", "brownian_spectrum", "cauchy", "cauchy_bound", "hilbert", "kahan", "lehmer"]


def kahan(n: int, angle: float = 1.2, *, dtype=np.float64) -> np.ndarray:
    """Kahan's matrix ``diag(1, s, s^2, ...) (I - c N)``, on which column-pivoted QR pivots badly.

    s, c = sine and cosine of `angle`; N is strictly upper triangular of ones. The product of the singular values is
    ``s^(n (n-1) / 2)``, and the smallest is at most ``s^(n-1) / (c (1 + c)^(n-2))``, far below the last pivot
    ``s^(n-1)`` of QR.

    References
    ----------
    Kahan (1966), Numerical linear algebra, doi 10.4153/CMB-1966-083-2.

    Examples
    --------
    >>> import numpy as np
    >>> from lowrank import gallery
    >>> np.round(gallery.kahan(3, angle=np.pi / 6), 4)
    array([[ 1.   , -0.866, -0.866],
           [ 0.   ,  0.5  , -0.433],
           [ 0.   ,  0.   ,  0.25 ]])
    """
    if not 0 < angle < math.pi / 2:
        raise ValueError(f"angle={angle!r}; pass an angle between 0 and pi/2")
    s, c = math.sin(angle), math.cos(angle)
    scaled = s ** np.arange(n)[:, None] * (np.eye(n) - c * np.triu(np.ones((n, n)), 1))
    return (scaled + 0.0).astype(dtype)  # no negative zeros


def cauchy(m: int, n: int, *, gap: float = 0.1, rng=None, dtype=np.float64) -> np.ndarray:
    """``1 / (x_i + y_j)`` with x and y uniform in ``[gap, 1 + gap]``, sorted: the smaller `gap`, the slower the decay.

    The singular values obey ``sigma_{k+1} <= 4 exp(-k pi^2 / log(4 (1 + gap) / gap)) sigma_1`` (`cauchy_bound`), and
    for m = n the determinant is ``prod_{i<j} (x_j - x_i)(y_j - y_i) / prod_{i,j} (x_i + y_j)``.

    References
    ----------
    Beckermann and Townsend (2019), Bounds on the singular values of matrices with displacement structure, doi
    10.1137/19M1244433.

    Examples
    --------
    >>> import numpy as np
    >>> from lowrank import gallery
    >>> A = gallery.cauchy(200, 100, rng=7)
    >>> bool(gallery.optimal_error(np.linalg.svd(A)[1], 12) < 1e-9 * np.linalg.norm(A))
    True
    """
    if not 0 < gap < math.inf:
        raise ValueError(f"gap={gap!r}; pass a positive finite number")
    generator = np.random.default_rng(rng)
    x, y = (np.sort(gap + generator.random(size)) for size in (m, n))
    return (1 / (x[:, None] + y)).astype(dtype)


def cauchy_bound(k, low: float, high: float):
    """Upper bound of ``sigma_{k+1} / sigma_1`` for ``1 / (x_i + y_j)`` with all x and y in ``[low, high]``.

    ``4 exp(-k pi^2 / log(4 high / low))``: the Zolotarev number of the intervals [-high, -low] and [low, high].
    """
    return np.minimum(1.0, 4 * np.exp(-np.asarray(k) * math.pi**2 / math.log(4 * high / low)))


def hilbert(m: int, n: int | None = None, *, dtype=np.float64) -> np.ndarray:
    """``1 / (i + j + 1)`` for i, j from 0: positive definite for m = n, and of numerical rank O(log n).

    ``||H||_2 < pi``; ``det H = c_n^4 / c_2n`` with ``c_n = 1! 2! ... (n-1)!``; and ``sigma_{k+1} / sigma_1`` is below
    ``cauchy_bound(k, 1/2, max(m, n) - 1/2)``.

    References
    ----------
    Choi (1983), Tricks or treats with the Hilbert matrix, doi 10.2307/2975779; Beckermann and Townsend (2019), doi
    10.1137/19M1244433.

    Examples
    --------
    >>> import numpy as np
    >>> from lowrank import gallery
    >>> round(1 / np.linalg.det(gallery.hilbert(3)))
    2160
    """
    i, j = np.arange(m), np.arange(m if n is None else n)
    return (1.0 / (i[:, None] + j + 1)).astype(dtype)


def lehmer(n: int, *, dtype=np.float64) -> np.ndarray:
    """``min(i, j) / max(i, j)`` for i, j from 1: positive definite with unit diagonal and slow decay.

    The determinant is ``prod_{i=2..n} (2 i - 1) / i^2``, the trace n, and the inverse is tridiagonal.

    References
    ----------
    Lehmer, Smiley, Smiley and Williamson (1946), Problem E710, American Mathematical Monthly 53.

    Examples
    --------
    >>> import numpy as np
    >>> from lowrank import gallery
    >>> np.linalg.det(gallery.lehmer(3)).round(6), 3 / 4 * 5 / 9
    (np.float64(0.416667), 0.4166666666666667)
    """
    i = np.arange(1.0, n + 1)
    return (np.minimum.outer(i, i) / np.maximum.outer(i, i)).astype(dtype)


def brownian(n: int, *, dtype=np.float64) -> np.ndarray:
    """``min(i, j)`` for i, j from 1: the covariance of a random walk, positive definite.

    Its eigenvalues are ``1 / (4 sin^2((2 j - 1) pi / (4 n + 2)))``, j = 1..n (`brownian_spectrum`).

    References
    ----------
    Fortiana and Cuadras (1997), A family of matrices, the discretized Brownian bridge, Linear Algebra
    and its Applications 264.

    Examples
    --------
    >>> import numpy as np
    >>> from lowrank import gallery
    >>> bool(np.allclose(np.linalg.svd(gallery.brownian(40))[1], gallery.brownian_spectrum(40)))
    True
    """
    i = np.arange(1.0, n + 1)
    return np.minimum.outer(i, i).astype(dtype)


def brownian_spectrum(n: int) -> np.ndarray:
    """Eigenvalues of ``min(i, j)``, falling."""
    return 0.25 / np.sin((2 * np.arange(1, n + 1) - 1) * math.pi / (4 * n + 2)) ** 2
