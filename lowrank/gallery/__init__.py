"""Matrices and point sets with known answers, shared by the tour, the tests and the benchmarks.

`FAMILIES` runs through the matrices at any size; the functions have the parameters.
"""

from .classical import brownian, brownian_spectrum, cauchy, cauchy_bound, hilbert, kahan, lehmer
from .coherent import (
    duplicate_columns,
    duplicate_spectrum,
    gaussian_mixture_rows,
    snn,
    sparse_power_law,
    spike,
    spike_spectrum,
)
from .families import FAMILIES, Family
from .photo import photo_patches
from .points import cluster_kernel, clusters, poisson_bound, smile, smile_kernel
from .spectra import (
    SPECTRA,
    devils_stairs,
    exact_rank,
    exponential_decay,
    exponential_spectrum,
    flat,
    graded,
    graded_spectrum,
    haar,
    optimal_error,
    polynomial_decay,
    polynomial_spectrum,
    stairs_spectrum,
    with_spectrum,
)

__all__ = [
    "FAMILIES",
    "SPECTRA",
    "Family",
    "brownian",
    "brownian_spectrum",
    "cauchy",
    "cauchy_bound",
    "cluster_kernel",
    "clusters",
    "devils_stairs",
    "duplicate_columns",
    "duplicate_spectrum",
    "exact_rank",
    "exponential_decay",
    "exponential_spectrum",
    "flat",
    "gaussian_mixture_rows",
    "graded",
    "graded_spectrum",
    "haar",
    "hilbert",
    "kahan",
    "lehmer",
    "optimal_error",
    "photo_patches",
    "poisson_bound",
    "polynomial_decay",
    "polynomial_spectrum",
    "smile",
    "smile_kernel",
    "snn",
    "sparse_power_law",
    "spike",
    "spike_spectrum",
    "stairs_spectrum",
    "with_spectrum",
]
