"""Matrices and point sets with known answers, shared by the tour, the tests and the benchmarks."""

import math

import numpy as np
from numpy.typing import DTypeLike

__all__ = [
    "SPECTRA",
    "clusters",
    "devils_stairs",
    "exact_rank",
    "exponential_decay",
    "flat",
    "kahan",
    "optimal_error",
    "photo_patches",
    "polynomial_decay",
    "with_spectrum",
]


def haar(n: int, k: int, rng: np.random.Generator, dtype=np.float64) -> np.ndarray:
    """An (n, k) matrix with orthonormal columns, uniform over all such matrices (Stewart 1980)."""
    G = rng.standard_normal((n, k))
    if np.dtype(dtype).kind == "c":
        G = G + 1j * rng.standard_normal((n, k))
    Q, R = np.linalg.qr(G)
    d = np.diagonal(R)
    return (Q * (d / np.abs(d))).astype(dtype, copy=False)


def reflected(n: int, k: int, rng: np.random.Generator, dtype=np.float64) -> np.ndarray:
    """An (n, k) matrix with orthonormal columns in O(n k): cosines, signed and permuted; as spread out as Haar."""
    from scipy.fft import dct

    chosen = rng.permutation(n)[:k]
    E = np.zeros((n, k))
    E[chosen, np.arange(k)] = 1.0
    Q = np.asarray(dct(E, axis=0, norm="ortho", overwrite_x=True))
    Q *= rng.choice([-1.0, 1.0], size=n)[:, None]
    return Q.astype(dtype, copy=False)


def with_spectrum(m: int, n: int, s, *, basis="haar", rng=None, dtype=np.float64) -> np.ndarray:
    """An m x n matrix with the singular values `s` (at most min(m, n) of them) between two random bases.

    basis : "haar", or "cheap" (cosines), which costs O(m r log m) instead of O(m r^2).

    Examples
    --------
    >>> import numpy as np
    >>> from lowrank import gallery
    >>> A = gallery.with_spectrum(30, 20, [4.0, 2.0], rng=7)
    >>> np.round(np.linalg.svd(A)[1][:3], 6)
    array([4., 2., 0.])
    """
    s = np.asarray(s, dtype=np.float64)
    if s.ndim != 1 or len(s) > min(m, n):
        raise ValueError(f"s has shape {s.shape}; expected at most min(m, n)={min(m, n)} singular values")
    if basis not in ("haar", "cheap"):
        raise ValueError(f"basis={basis!r}; pass 'haar' or 'cheap'")
    generator = np.random.default_rng(rng)
    draw = haar if basis == "haar" else reflected
    left, right = draw(m, len(s), generator, dtype), draw(n, len(s), generator, dtype)
    return (left * s.astype(np.real(left).dtype)) @ right.conj().T


def optimal_error(s, k: int, norm: str = "fro") -> float:
    """Error of the best approximation of rank k, from the singular values (Eckart and Young 1936)."""
    tail = np.sort(np.abs(np.asarray(s, dtype=np.float64)))[::-1][k:]
    if norm not in ("fro", "spectral"):
        raise ValueError(f"norm={norm!r}; pass 'fro' or 'spectral'")
    return float(np.linalg.norm(tail)) if norm == "fro" else float(tail.max(initial=0.0))


def polynomial_spectrum(n: int, power: float = 2.0) -> np.ndarray:
    """``j^-power`` for j = 1..n."""
    return np.arange(1.0, n + 1) ** -power


def exponential_spectrum(n: int, scale: float = 20.0) -> np.ndarray:
    """``e^(-j / scale)`` for j = 1..n."""
    with np.errstate(under="ignore"):
        return np.exp(-np.arange(1.0, n + 1) / scale)


def stairs_spectrum(n: int, steps: int = 20, drop: float = 10**0.5) -> np.ndarray:
    """Plateaus of n / steps equal values, each `drop` below the one before (Stewart 1999)."""
    return drop ** -np.floor(np.arange(n) / max(1, n // steps)).astype(float)


SPECTRA = {"polynomial": polynomial_spectrum, "exponential": exponential_spectrum, "stairs": stairs_spectrum}


def polynomial_decay(m, n, *, power=2.0, basis="haar", rng=None, dtype=np.float64) -> np.ndarray:
    """Singular values ``j^-power``: slow decay, the headline case."""
    return with_spectrum(m, n, polynomial_spectrum(min(m, n), power), basis=basis, rng=rng, dtype=dtype)


def exponential_decay(m, n, *, scale=20.0, basis="haar", rng=None, dtype=np.float64) -> np.ndarray:
    """Singular values ``e^(-j / scale)``: fast decay, where the rule of selection matters."""
    return with_spectrum(m, n, exponential_spectrum(min(m, n), scale), basis=basis, rng=rng, dtype=dtype)


def devils_stairs(m, n, *, steps=20, drop=10**0.5, basis="haar", rng=None, dtype=np.float64) -> np.ndarray:
    """Plateaus of equal singular values: a test of whether a method finds gaps."""
    return with_spectrum(m, n, stairs_spectrum(min(m, n), steps, drop), basis=basis, rng=rng, dtype=dtype)


def flat(m, n, *, basis="haar", rng=None, dtype=np.float64) -> np.ndarray:
    """All singular values 1: nothing to gain, and a method must not return something worse than zero."""
    return with_spectrum(m, n, np.ones(min(m, n)), basis=basis, rng=rng, dtype=dtype)


def exact_rank(m, n, rank, *, noise=0.0, basis="haar", rng=None, dtype=np.float64) -> np.ndarray:
    """`rank` singular values 1, and `noise` for the others."""
    s = np.full(min(m, n) if noise else rank, float(noise))
    s[:rank] = 1.0
    return with_spectrum(m, n, s, basis=basis, rng=rng, dtype=dtype)


def kahan(n: int, angle: float = 1.2) -> np.ndarray:
    """Kahan's matrix ``diag(1, s, s^2, ...) (I - c N)``, on which column-pivoted QR pivots badly.

    s, c = sine and cosine of `angle`; N is strictly upper triangular of ones. Kahan (1966), doi 10.4153/CMB-1966-083-2.
    """
    if not 0 < angle < math.pi / 2:
        raise ValueError(f"angle={angle!r}; pass an angle between 0 and pi/2")
    s, c = math.sin(angle), math.cos(angle)
    return s ** np.arange(n)[:, None] * (np.eye(n) - c * np.triu(np.ones((n, n)), 1))


def clusters(n: int, dim: int, *, count=20, spread=0.1, rng=None, dtype=np.float64) -> np.ndarray:
    """n points around `count` centres in the unit cube, in clusters of very unequal size (sizes fall like 1/j).

    Uniform landmarks miss the small ones.
    """
    generator = np.random.default_rng(rng)
    share = 1.0 / np.arange(1, count + 1)
    label = generator.choice(count, size=n, p=share / share.sum())
    centres = generator.random((count, dim))
    return (centres[label] + spread * generator.standard_normal((n, dim))).astype(dtype)


def photo_patches(name: str = "china.jpg", *, size: int = 8, dtype: DTypeLike = np.float64) -> np.ndarray:
    """All `size` x `size` colour patches of a photograph that scikit-learn ships, one a row, with values in [0, 1].

    ``china.jpg`` and ``flower.jpg`` measure 427 x 640, so that there are 420 x 633 = 265,860 patches of 192 numbers.
    Row ``y * 633 + x`` is the patch whose upper left pixel is (y, x); its entries run over rows, columns and colours.

    Raises
    ------
    ImportError
        If scikit-learn or pillow is missing.
    """
    try:
        from sklearn.datasets import load_sample_image
    except ImportError as problem:
        raise ImportError(
            "photo_patches needs scikit-learn and pillow: pip install triskele[sklearn] pillow"
        ) from problem
    image = load_sample_image(name).astype(dtype) / np.dtype(dtype).type(255)
    windows = np.lib.stride_tricks.sliding_window_view(image, (size, size), axis=(0, 1))  # (y, x, colour, row, column)
    rows, columns = windows.shape[:2]
    return np.ascontiguousarray(windows.transpose(0, 1, 3, 4, 2)).reshape(rows * columns, -1)
