"""Coherent matrices: a few rows or columns matter far more than the others, and uniform choices miss them."""

import numpy as np

from .spectra import haar, polynomial_spectrum

__all__ = [
    "duplicate_columns",
    "duplicate_spectrum",
    "gaussian_mixture_rows",
    "snn",
    "sparse_power_law",
    "spike",
    "spike_spectrum",
]


def harmonic_counts(total: int, parts: int) -> np.ndarray:
    """`parts` positive integers that sum to `total` and fall like 1/j."""
    if not 1 <= parts <= total:
        raise ValueError(f"{parts} parts of {total}; pass from 1 to {total}")
    share = 1.0 / np.arange(1, parts + 1)
    ends = np.round(np.cumsum(share) / share.sum() * (total - parts)).astype(int)
    return np.diff(ends, prepend=0) + 1


def gaussian_mixture_rows(m, n, *, count=20, spread=0.0, rng=None, dtype=np.float64) -> np.ndarray:
    """Rows around `count` Gaussian centres in R^n, in clusters whose sizes fall like 1/j, plus ``spread N(0, 1)``.

    The rank is ``min(count, n)`` for ``spread=0``; else the optimal error of that rank is at most the Frobenius norm of
    the noise, whose square has mean ``spread^2 m n``. The same seed draws the same centres for any `spread`.

    Examples
    --------
    >>> import numpy as np
    >>> from lowrank import gallery
    >>> int(np.linalg.matrix_rank(gallery.gaussian_mixture_rows(90, 30, count=6, rng=7)))
    6
    """
    generator = np.random.default_rng(rng)
    centres = generator.standard_normal((count, n))
    label = generator.permutation(np.repeat(np.arange(count), harmonic_counts(m, count)))
    A = centres[label]
    if spread:
        A = A + spread * generator.standard_normal((m, n))
    return A.astype(dtype)


def duplicate_columns(m, n, *, rank=10, rng=None, dtype=np.float64) -> np.ndarray:
    """n columns of which only `rank` differ: copies of orthonormal columns, as often as 1/j says, in random order.

    The singular values are the square roots of the numbers of copies (`duplicate_spectrum`).

    Examples
    --------
    >>> import numpy as np
    >>> from lowrank import gallery
    >>> A = gallery.duplicate_columns(30, 12, rank=3, rng=7)
    >>> np.round(np.linalg.svd(A)[1][:4] ** 2, 6), gallery.duplicate_spectrum(12, 3) ** 2
    (array([6., 3., 3., 0.]), array([6., 3., 3.]))
    """
    if rank > m:
        raise ValueError(f"rank={rank} exceeds m={m}; orthonormal columns have at least as many rows")
    generator = np.random.default_rng(rng)
    Q = haar(m, rank, generator, dtype)
    return Q[:, generator.permutation(np.repeat(np.arange(rank), harmonic_counts(n, rank)))]


def duplicate_spectrum(n: int, rank: int = 10) -> np.ndarray:
    """Singular values of `duplicate_columns`."""
    return np.sort(np.sqrt(harmonic_counts(n, rank).astype(float)))[::-1]


def spike(m, n, *, rank=5, height=10.0, rng=None, dtype=np.float64) -> np.ndarray:
    """`rank` smooth terms with singular values 1/j, and one entry of size `height` alone in its row and column.

    The singular values are `height` and ``1, 1/2, ..., 1/rank`` (`spike_spectrum`). Uniform columns miss the spike with
    probability 1 - k/n.

    Examples
    --------
    >>> import numpy as np
    >>> from lowrank import gallery
    >>> np.round(np.linalg.svd(gallery.spike(40, 30, rank=2, height=3.0, rng=7))[1][:4], 6)
    array([3. , 1. , 0.5, 0. ])
    """
    if not 0 <= rank < min(m, n):
        raise ValueError(f"rank={rank}; pass an integer from 0 to min(m, n) - 1 = {min(m, n) - 1}")
    generator = np.random.default_rng(rng)
    i, j = int(generator.integers(m)), int(generator.integers(n))
    left, right = haar(m - 1, rank, generator, dtype), haar(n - 1, rank, generator, dtype)
    s = polynomial_spectrum(rank, 1.0).astype(np.real(left).dtype)
    A = np.zeros((m, n), dtype=dtype)
    A[np.ix_(np.delete(np.arange(m), i), np.delete(np.arange(n), j))] = (left * s) @ right.conj().T
    A[i, j] = height
    return A


def spike_spectrum(rank: int = 5, height: float = 10.0) -> np.ndarray:
    """Singular values of `spike`."""
    return np.sort(np.append(polynomial_spectrum(rank, 1.0), abs(height)))[::-1]


def snn(m, n, *, terms=None, head=10, jump=2.0, density=0.025, rng=None, dtype=np.float64):
    r"""Sparse non-negative terms with decay, as a CSR array.

    .. math:: A = \sum_{j \le head} \frac{jump}{j} x_j y_j^T + \sum_{j > head} \frac{1}{j} x_j y_j^T

    with x_j, y_j sparse and non-negative. The rank is `terms` (``min(m, n, 50)`` by default) exactly: each
    x_j (and y_j) has an entry in ``[1, 2)`` in a row of its own, in which no earlier term has one.

    References
    ----------
    Sorensen and Embree (2016), A DEIM induced CUR factorization, doi 10.1137/140978430, arXiv 1407.5516 (its
    first numerical example).

    Examples
    --------
    >>> import numpy as np
    >>> from lowrank import gallery
    >>> A = gallery.snn(300, 200, terms=12, rng=7)
    >>> A.format, int(np.linalg.matrix_rank(A.toarray()))
    ('csr', 12)
    """
    from scipy.sparse import csr_array, diags_array

    terms = min(m, n, 50) if terms is None else terms
    if not 0 <= terms <= min(m, n):
        raise ValueError(f"terms={terms}; pass an integer from 0 to min(m, n)={min(m, n)}")
    generator = np.random.default_rng(rng)
    weight = 1.0 / np.arange(1, terms + 1)
    weight[:head] *= jump

    def side(size: int) -> csr_array:
        X = generator.random((size, terms)) * (generator.random((size, terms)) < density)
        own = generator.permutation(size)[:terms]
        X[own] = np.triu(X[own], 1) + np.diag(1 + generator.random(terms))
        return csr_array(X)

    left, right = side(m), side(n)
    return csr_array(left @ diags_array(weight) @ right.T).astype(dtype)


def sparse_power_law(m, n, *, power=1.0, rank=None, rng=None, dtype=np.float64):
    """A sparse matrix with singular values ``j^-power``, j = 1..rank, as a CSR array.

    Behind a permutation of rows and columns stand `rank` (``min(m, n)`` // 2 by default) blocks of rank one, whose
    sides fall like 1/j: few rows and columns are long, most are short.

    Examples
    --------
    >>> import numpy as np
    >>> from lowrank import gallery
    >>> A = gallery.sparse_power_law(200, 100, rank=3, power=2.0, rng=7)
    >>> np.round(np.linalg.svd(A.toarray())[1][:4], 6)
    array([1.      , 0.25    , 0.111111, 0.      ])
    """
    from scipy.sparse import csr_array

    rank = max(1, min(m, n) // 2) if rank is None else rank
    generator = np.random.default_rng(rng)
    sides = []
    for size in (m, n):
        label = np.repeat(np.arange(rank), harmonic_counts(size, rank))
        values = generator.uniform(0.5, 1.0, size) * generator.choice([-1.0, 1.0], size)
        values /= np.sqrt(np.bincount(label, values**2))[label]
        sides.append(csr_array((values, (generator.permutation(size), label)), shape=(size, rank)))
    left, right = sides
    left = left * polynomial_spectrum(rank, power)
    return csr_array(left @ right.T).astype(dtype)
