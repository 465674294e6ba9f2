"""Points, and the Gaussian kernel matrices over them."""

import math

import numpy as np

from .coherent import harmonic_counts

__all__ = ["cluster_kernel", "clusters", "poisson_bound", "smile", "smile_kernel"]


def clusters(n: int, dim: int, *, count=20, spread=0.1, rng=None, dtype=np.float64) -> np.ndarray:
    """n points around `count` centres in the unit cube, in clusters of very unequal size (sizes fall like 1/j).

    Uniform landmarks miss the small ones.

    Examples
    --------
    >>> import numpy as np
    >>> from lowrank import gallery
    >>> gallery.clusters(100, 3, rng=7).shape
    (100, 3)
    """
    generator = np.random.default_rng(rng)
    share = 1.0 / np.arange(1, count + 1)
    label = generator.choice(count, size=n, p=share / share.sum())
    centres = generator.random((count, dim))
    return (centres[label] + spread * generator.standard_normal((n, dim))).astype(dtype)


def smile(n: int, *, dtype=np.float64) -> np.ndarray:
    """n points in the plane on a face: a circle of radius 10, a mouth, and two eyes that hold one point in fifty.

    Sampling by norm or uniformly misses the eyes at small rank.

    References
    ----------
    Chen, Epperly, Tropp and Webber (2025), Randomly pivoted Cholesky, doi 10.1002/cpa.22234 (such a set).

    Examples
    --------
    >>> import numpy as np
    >>> from lowrank import gallery
    >>> X = gallery.smile(500)
    >>> X.shape, round(float(np.hypot(*X.T).max()), 9)
    ((500, 2), 10.0)
    """
    eye = n // 100
    mouth = (n - 2 * eye) // 3
    outline = n - 2 * eye - mouth
    turn = 2 * math.pi * np.arange(outline) / max(outline, 1)
    grin = math.pi * (1.15 + 0.7 * np.arange(mouth) / max(mouth, 1))
    small = 2 * math.pi * np.arange(eye) / max(eye, 1)
    ring = 0.5 * np.column_stack([np.cos(small), np.sin(small)])
    parts = [
        10 * np.column_stack([np.cos(turn), np.sin(turn)]),
        6 * np.column_stack([np.cos(grin), np.sin(grin)]),
        ring + np.array([-4, 4]),
        ring + np.array([4, 4]),
    ]
    return np.concatenate(parts).astype(dtype)


def gaussian(X: np.ndarray, bandwidth: float) -> np.ndarray:
    from lowrank.operands import GaussianKernel

    K = GaussianKernel(bandwidth)(X, X)
    return (K + K.T) / 2  # symmetric to the last bit, as a matrix that a user stores is


def cluster_kernel(n, *, dim=5, count=10, spread=0.01, bandwidth=0.5, rng=None, dtype=np.float64) -> np.ndarray:
    """Gaussian kernel matrix over clusters of unequal size in the unit cube: positive semidefinite, unit diagonal.

    Its trace is n; for ``spread=0`` its rank is `count`; else the optimal error of rank `count` in the trace norm is at
    most ``sum_i (1 - exp(-|x_i - c_i|^2 / bandwidth^2))`` with c_i the centre of x_i, because the columns of the
    centres leave no more.

    Examples
    --------
    >>> import numpy as np
    >>> from lowrank import gallery
    >>> K = gallery.cluster_kernel(200, count=4, spread=0.0, rng=7)
    >>> int(np.linalg.matrix_rank(K)), float(np.trace(K))
    (4, 200.0)
    """
    X, _ = cluster_points(n, dim, min(count, n), spread, rng)
    return gaussian(X, bandwidth).astype(dtype)


def cluster_points(n: int, dim: int, count: int, spread: float, rng) -> tuple[np.ndarray, np.ndarray]:
    """Points, and the centre of each; no cluster is empty."""
    generator = np.random.default_rng(rng)
    label = generator.permutation(np.repeat(np.arange(count), harmonic_counts(n, count)))
    centres = generator.random((count, dim))[label]
    return centres + spread * generator.standard_normal((n, dim)), centres


def smile_kernel(n, *, bandwidth=10.0, dtype=np.float64) -> np.ndarray:
    """Gaussian kernel matrix over `smile`: positive semidefinite, unit diagonal, superexponential decay.

    Its trace is n, and the optimal error of rank p (p + 1) / 2 in the trace norm is at most
    ``poisson_bound(smile(n), p, bandwidth)``.

    Examples
    --------
    >>> import numpy as np
    >>> from lowrank import gallery
    >>> values = np.linalg.eigvalsh(gallery.smile_kernel(300))[::-1]
    >>> bool(values[28:].sum() < gallery.poisson_bound(gallery.smile(300), 7, 10.0) < 0.03)
    True
    """
    return gaussian(smile(n), bandwidth).astype(dtype)


def poisson_bound(X: np.ndarray, p: int, bandwidth: float) -> float:
    """Trace of what the Taylor series of the Gaussian kernel leaves after the terms of degree below `p`.

    ``sum_i P(N_i >= p)`` for Poisson N_i with mean ``|x_i|^2 / bandwidth^2``; the terms kept have rank
    ``binomial(p - 1 + dim, dim)``, and the remainder is positive semidefinite.

    References
    ----------
    Cotter, Keshet and Srebro (2011), Explicit approximations of the Gaussian kernel, arXiv 1109.4603.
    """
    from scipy.special import pdtrc

    means = np.einsum("ij,ij->i", X, X) / bandwidth**2
    return float(len(X) if p == 0 else pdtrc(p - 1, means).sum())
