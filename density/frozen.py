"""A trained Fourier entropy model as integers: the tables follow from them alone, on any machine."""

import math
from dataclasses import dataclass

import numpy as np

from . import _frozen_kernels as kernels
from .rans import FrequencyTables

PRECISION = kernels.PRECISION
COEFFICIENT_ONE = 2**kernels.COEFFICIENT_BITS
RATIO_ONE = 2**kernels.RATIO_BITS
TAIL_ONE = 2**kernels.TAIL_BITS


@dataclass(frozen=True, eq=False)
class FrozenDensity:
    """Integers that stand for T densities on the line, each with its step.

    Parameters
    ----------
    coefficients : (T, K + 1) int32, a of `bin_mass` in units of 2^-15, norm 1.
    ratios : (T,) int32, log2(step / (2 scale)) in units of 2^-16.
    tail : share of the safety tail in units of 2^-24.
    """

    coefficients: np.ndarray
    ratios: np.ndarray
    tail: int

    def tables(self) -> FrequencyTables:
        """Integer frequencies of the bins n step + [-step/2, step/2], n in Z, with buckets far out and an escape.

        Fixed-point arithmetic alone. Within 1e-4 of the cross-entropy of the float model. O(K) a symbol; a table has
        about 28 scale / step + 27 symbols, at most 2100.

        Examples
        --------
        >>> from density.frozen import freeze_density
        >>> tables = freeze_density([[1.0, 0.2]], [1.0], [1.0], 1e-4).tables()
        >>> tables.frequencies.sum() == 2**24
        np.True_
        """
        return FrequencyTables(*self.symbols(), PRECISION)

    def symbols(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """frequencies, first_values, raw_bits and offsets of `tables`."""
        count = len(self.ratios)
        shifts, sides, offsets = np.empty(count, np.int64), np.empty(count, np.int64), np.empty(count + 1, np.int64)
        kernels.layout(self.ratios, shifts, sides, offsets)
        first_values, raw_bits, frequencies = np.empty((3, int(offsets[-1])), np.int64)
        kernels.build(
            np.ascontiguousarray(self.coefficients, np.int32),
            np.ascontiguousarray(self.ratios, np.int32),
            np.int64(self.tail),
            shifts,
            sides,
            offsets,
            first_values,
            raw_bits,
            frequencies,
        )
        return frequencies, first_values, raw_bits, offsets


def freeze_density(coefficients, scales, steps, tail: float) -> FrozenDensity:
    """Round a float model to the integers of `FrozenDensity`.

    Parameters
    ----------
    coefficients : (T, K + 1) floats of any norm > 0.
    scales, steps : (T,) floats > 0.
    tail : share of the safety tail.
    """
    a = np.asarray(coefficients, dtype=np.float64)
    ratios = np.log2(np.asarray(steps, dtype=np.float64) / (2 * np.asarray(scales, dtype=np.float64)))
    norm = np.linalg.norm(a, axis=-1, keepdims=True)
    if not (np.isfinite(a).all() and (norm > 0).all() and np.isfinite(ratios).all()):
        raise ValueError("coefficients, scales and steps must be finite, with norm, scale and step > 0")
    if ratios.min() < kernels.MIN_RATIO:
        raise ValueError(f"the scale is {0.5 * 2 ** -ratios.min():.3g} steps; pass a step of at least 2^-24 scales")
    ratios = np.minimum(ratios, kernels.MAX_RATIO)  # narrower than 1/128 of a step: all in one bin already
    return FrozenDensity(
        np.rint(a / norm * COEFFICIENT_ONE).astype(np.int32),
        np.rint(ratios * RATIO_ONE).astype(np.int32),
        max(1, math.floor(tail * TAIL_ONE + 0.5)),
    )
