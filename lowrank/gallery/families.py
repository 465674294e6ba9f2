"""The registry: every family at any size, with its answer, for tests and benchmarks to run through."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import classical, coherent, points, spectra

__all__ = ["FAMILIES", "Family"]


@dataclass(frozen=True)
class Family:
    """A family of matrices and what is known about them.

    name : that of the function in `lowrank.gallery`;  answer : what is known, in words;
    draw(m, n, rng, dtype), spectrum(m, n, dtype), exact_rank(m, n) : what `make`, `singular_values` and `rank` call;
    square : whether ``make(m, n)`` returns a matrix of side min(m, n);  psd : positive semidefinite;
    coherent : a few rows or columns matter far more than others;  sparse : scipy.sparse.

    Examples
    --------
    >>> import numpy as np
    >>> from lowrank import gallery
    >>> family = gallery.FAMILIES["devils_stairs"]
    >>> A = family.make(60, 40, rng=7)
    >>> bool(np.allclose(np.linalg.svd(A)[1], family.singular_values(60, 40)))
    True
    """

    name: str
    answer: str
    draw: Callable[..., Any]
    spectrum: Callable[..., np.ndarray] | None = None
    exact_rank: Callable[[int, int], int] | None = None
    square: bool = False
    psd: bool = False
    coherent: bool = False
    sparse: bool = False

    def shape(self, m: int, n: int) -> tuple[int, int]:
        """The shape of ``make(m, n)``."""
        return (min(m, n), min(m, n)) if self.square else (m, n)

    def make(self, m: int, n: int, *, rng=None, dtype=np.float64) -> Any:
        """One member; its parameters are fixed, so that the answer depends on the size alone."""
        return self.draw(m, n, rng, dtype)

    def singular_values(self, m: int, n: int, dtype=np.float64) -> np.ndarray | None:
        """Those of ``make(m, n)`` that are not zero, falling; None where they are not known in closed form."""
        return None if self.spectrum is None else self.spectrum(m, n, dtype)

    def rank(self, m: int, n: int) -> int | None:
        """The exact rank of ``make(m, n)`` where it is less than min(m, n), else None."""
        return None if self.exact_rank is None else self.exact_rank(m, n)


def _between(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    return lambda m, n, rng, dtype: function(m, n, rng=rng, dtype=dtype, **options)


def _square(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda m, n, rng, dtype: function(min(m, n), dtype=dtype)


def _shorter(function: Callable[[int], np.ndarray]) -> Callable[..., np.ndarray]:
    return lambda m, n, dtype: function(min(m, n))


def _few(m: int, n: int) -> int:
    return max(1, min(m, n) // 4)


VALUES = "The singular values are prescribed."

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family("polynomial_decay", VALUES, _between(spectra.polynomial_decay), _shorter(spectra.polynomial_spectrum)),
        Family(
            "exponential_decay", VALUES,
            _between(spectra.exponential_decay), _shorter(spectra.exponential_spectrum),
        ),
        Family("devils_stairs", VALUES, _between(spectra.devils_stairs), _shorter(spectra.stairs_spectrum)),
        Family("flat", VALUES, _between(spectra.flat), _shorter(np.ones)),
        Family(
            "exact_rank", "The rank is min(m, n) // 4, with singular values 1.",
            lambda m, n, rng, dtype: spectra.exact_rank(m, n, _few(m, n), rng=rng, dtype=dtype),
            lambda m, n, dtype: np.ones(_few(m, n)), _few,
        ),
        Family(
            "exact_rank_and_noise", "min(m, n) // 4 singular values are 1, the others 1e-3.",
            lambda m, n, rng, dtype: spectra.exact_rank(m, n, _few(m, n), noise=1e-3, rng=rng, dtype=dtype),
            _shorter(lambda k: np.where(np.arange(k) < _few(k, k), 1.0, 1e-3)),
        ),
        Family(
            "graded", "Orthogonal columns with norms from 1e300 to 1e-300 (1e36 to 1e-36 in single precision).",
            _between(spectra.graded), lambda m, n, dtype: spectra.graded_spectrum(min(m, n), dtype=dtype),
            coherent=True,
        ),
        Family(
            "kahan", "The singular values multiply to s^(n (n-1) / 2); pivoted QR sees none of the gap.",
            _square(classical.kahan), square=True,
        ),
        Family(
            "hilbert", "sigma_{k+1} / sigma_1 <= cauchy_bound(k, 1/2, max(m, n) - 1/2).",
            lambda m, n, rng, dtype: classical.hilbert(m, n, dtype=dtype),
        ),
        Family("cauchy", "sigma_{k+1} / sigma_1 <= cauchy_bound(k, 0.1, 1.1).", _between(classical.cauchy)),
        Family(
            "lehmer", "The determinant is prod (2 i - 1) / i^2, the trace n.",
            _square(classical.lehmer), square=True, psd=True,
        ),
        Family(
            "brownian", "The eigenvalues are 1 / (4 sin^2((2 j - 1) pi / (4 n + 2))).",
            _square(classical.brownian), _shorter(classical.brownian_spectrum), square=True, psd=True,
        ),
        Family(
            "gaussian_mixture_rows", "The rank is min(m, n) // 4, the number of different rows.",
            lambda m, n, rng, dtype: coherent.gaussian_mixture_rows(m, n, count=_few(m, n), rng=rng, dtype=dtype),
            exact_rank=_few, coherent=True,
        ),
        Family(
            "duplicate_columns", "The squared singular values count the copies of min(m, n) // 4 orthonormal columns.",
            lambda m, n, rng, dtype: coherent.duplicate_columns(m, n, rank=_few(m, n), rng=rng, dtype=dtype),
            lambda m, n, dtype: coherent.duplicate_spectrum(n, _few(m, n)), _few, coherent=True,
        ),
        Family(
            "spike", "The singular values are 10 (one entry alone) and 1, 1/2, ..., 1/r with r = min(m, n) // 4.",
            lambda m, n, rng, dtype: coherent.spike(m, n, rank=_few(m, n), rng=rng, dtype=dtype),
            lambda m, n, dtype: coherent.spike_spectrum(_few(m, n)), lambda m, n: _few(m, n) + 1, coherent=True,
        ),
        Family(
            "snn", "The rank is min(m, n) // 4, the number of sparse non-negative terms.",
            lambda m, n, rng, dtype: coherent.snn(m, n, terms=_few(m, n), rng=rng, dtype=dtype),
            exact_rank=_few, coherent=True, sparse=True,
        ),
        Family(
            "sparse_power_law", "The singular values are 1/j for j up to min(m, n) // 2.",
            _between(coherent.sparse_power_law), _shorter(lambda k: spectra.polynomial_spectrum(max(1, k // 2), 1.0)),
            lambda m, n: max(1, min(m, n) // 2), coherent=True, sparse=True,
        ),
        Family(
            "cluster_kernel", "The trace is n; ten centres leave sum_i (1 - exp(-|x_i - c_i|^2 / bandwidth^2)).",
            lambda m, n, rng, dtype: points.cluster_kernel(min(m, n), rng=rng, dtype=dtype),
            square=True, psd=True, coherent=True,
        ),
        Family(
            "smile_kernel", "The trace is n; rank p (p + 1) / 2 leaves at most poisson_bound(smile(n), p, 10).",
            _square(points.smile_kernel), square=True, psd=True, coherent=True,
        ),
    )
}  # fmt: skip
