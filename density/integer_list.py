"""Lists of integers, most of them small, as bytes: one parameter, then rANS with a geometric table made from it."""

from functools import lru_cache

import numpy as np

from .errors import CorruptDataError
from .rans import ESCAPE, FrequencyTables, decode, encode, integer_frequencies

_CELLS = 40
_MOST = 200  # parameters: the mean goes up to 2^25, beyond which the escape does the work


@lru_cache(maxsize=64)
def _table(parameter: int) -> FrequencyTables:
    """Geometric frequencies of mean about 2^(parameter / 8), by integer operations alone; the escape takes the rest."""
    mean = (8 + (parameter & 7)) << (parameter >> 3)  # in 64ths
    shift = max(0, mean.bit_length() - 9)  # cells of 2^shift values: about ten to a mean
    ratio = (mean << 30) // (mean + (64 << shift))  # weight of a cell over that of the one before it, in 2^-30
    weights = [1 << 30]
    while len(weights) < _CELLS:
        weights.append(weights[-1] * ratio >> 30)
    rest = weights[-1] * ratio // ((1 << 30) - ratio)
    cells = np.arange(_CELLS, dtype=np.int64) << shift
    frequencies = integer_frequencies([*weights, max(1, rest)])
    return FrequencyTables(frequencies, np.append(cells, cells[-1] + 1), np.array([shift] * _CELLS + [ESCAPE]))


def pack_integers(numbers) -> bytes:
    """int64, most of them >= 0 and small: a parameter and about the entropy of a geometric source of their mean."""
    numbers = np.asarray(numbers, np.int64)
    if not numbers.size:
        return b""
    mean = float(np.clip(numbers, 0, 1 << 40).mean())
    centre = min(_MOST, round(8 * np.log2(max(8 * mean, 1.0))))
    coded = {p: encode(numbers, _table(p)) for p in range(centre % 4, _MOST + 1, 4) if abs(p - centre) <= 12}
    best = min(coded, key=lambda p: (len(coded[p]), p))
    return bytes([best]) + coded[best]


def unpack_integers(data: bytes, count: int) -> np.ndarray:
    """The inverse of `pack_integers`, for a known count."""
    if not count:
        if data:
            raise CorruptDataError("bytes of integers where none are needed")
        return np.zeros(0, np.int64)
    if not data or data[0] > _MOST:
        raise CorruptDataError("a list of integers begins with no parameter")
    return decode(data[1:], count, _table(data[0]))
