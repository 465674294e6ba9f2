"""Matrices with a prescribed spectrum between two random bases: the answer is what was put in."""

import numpy as np


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


def graded(m, n, *, low=None, high=None, rng=None, dtype=np.float64) -> np.ndarray:
    """Orthonormal columns (rows, if n > m) scaled by a geometric sequence from `high` down to `low`.

    The singular values are that sequence, each to high relative accuracy, because nothing mixes the columns. Squares of
    the entries overflow and vanish. `low` and `high` are 1e-300 and 1e300 in double precision, 1e-36 and 1e36
    in single.

    References
    ----------
    Demmel and Veselic (1992), Jacobi's method is more accurate than QR, doi 10.1137/0613074 (scaled columns).

    Examples
    --------
    >>> import numpy as np
    >>> from lowrank import gallery
    >>> A = gallery.graded(50, 3, rng=7)
    >>> np.round(np.log10(np.linalg.norm(A / np.abs(A).max(axis=0), axis=0) * np.abs(A).max(axis=0)), 6)
    array([ 300.,    0., -300.])
    """
    s = graded_spectrum(min(m, n), low, high, dtype)
    Q = haar(max(m, n), len(s), np.random.default_rng(rng), dtype)
    A = Q * s.astype(np.real(Q).dtype)
    return A if m >= n else np.ascontiguousarray(A.T)


def graded_spectrum(n: int, low=None, high=None, dtype=np.float64) -> np.ndarray:
    """Geometric sequence of n numbers from `high` down to `low`."""
    decades = 300 if np.finfo(dtype).maxexp > 1000 else 36
    low, high = 10.0**-decades if low is None else low, 10.0**decades if high is None else high
    if not 0 < low <= high < np.inf:
        raise ValueError(f"low={low!r}, high={high!r}; pass 0 < low <= high < inf")
    return 10.0 ** np.linspace(np.log10(high), np.log10(low), n)
