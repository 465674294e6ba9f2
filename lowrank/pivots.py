"""Pivots of columns that were chosen one after another: what each added to those before it."""

from typing import Any

import numpy as np

from ._threads import blas_threads
from .coefficients import orthogonal
from .results import dense


def pivots(C: Any) -> np.ndarray:
    """Distance of each column of C from the span of those before it: the moduli of R's diagonal in C = Q R.

    Each column is brought near 1 by a power of two of its own, so that squares stay in range; 2 m k^2 flops.
    """
    C = dense(C)
    sizes = np.maximum(np.abs(C.real).max(axis=0, initial=0.0), np.abs(C.imag).max(axis=0, initial=0.0))
    exponents = np.frexp(sizes)[1]
    with blas_threads(1), np.errstate(under="ignore"):
        unit = np.ldexp(C.real, -exponents)
        if C.dtype.kind == "c":
            unit = unit + 1j * np.ldexp(C.imag, -exponents)
        R = orthogonal(unit.astype(C.dtype, copy=False))[1] if C.size else np.zeros((C.shape[1],) * 2)
        return np.ldexp(np.abs(np.diagonal(R)).astype(np.float64), exponents)


def kept(result: Any) -> Any:
    """The columns of A that a result keeps in their order of choice, or the rows that a row ID keeps, as columns."""
    return result.C if hasattr(result, "C") else result.R.T
