"""Elements of an array as 64-bit integers in their order, and back to the last bit.

Integers stand for themselves (uint64 less 2^63). Floats with a step are k with the level ``step k``; NaN, the
infinities, -0.0 and what no level represents within step / 2 stand above 2^62. Floats to be kept bit by bit are their
patterns, in the order of the floats.
"""

import numpy as np

from .errors import CorruptDataError

INTEGERS, STEPS, PATTERNS = 1, 2, 3  # what the integers stand for; 0 is the array stored as it is, in version 0
SPECIAL = 1 << 62
KINDS = 5  # SPECIAL + 0 .. 4: quiet NaN without payload, +inf, -inf, -0.0, and a pattern that follows beside the stream
_RAW = 4
_SPECIAL_VALUES = (np.nan, np.inf, -np.inf, -0.0)
_SIGN = np.uint64(1 << 63)


def wire(part: np.ndarray) -> np.ndarray:
    """The elements in little-endian order, as they are stored and summed."""
    return np.ascontiguousarray(part.astype(part.dtype.newbyteorder("<"), copy=False))


def to_integers(part: np.ndarray, mode: int, step: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """int64 of each element, the patterns that go beside them, and the elements that the decoder will return."""
    part = part.astype(part.dtype.newbyteorder("="), copy=False)
    none = np.zeros(0, np.uint8)
    if mode == INTEGERS:
        if part.dtype == np.uint64:
            return (part ^ _SIGN).view(np.int64), none, part
        return part.astype(np.int64), none, part
    if mode == PATTERNS:
        return _to_patterns(part), none, part
    with np.errstate(all="ignore"):
        wide = part.astype(np.float64)
        k = np.rint(wide / step) + 0.0  # the decoder's integer 0 has no sign: -0.0 must become +0.0 here too
        decoded = (k * step).astype(part.dtype)
        wrong = _too_far(decoded, wide, k, step) | (np.signbit(wide) & (wide == 0))
        if not wrong.any():
            return k.astype(np.int64), none, decoded
        at = np.flatnonzero(wrong)
        # A tie may round to the level that is an ulp too far; then the other one is not.
        other = np.where(np.isfinite(wide[at]), k[at] + np.sign(wide[at] - k[at] * step), np.nan) + 0.0
        other_decoded = (other * step).astype(part.dtype)
        mended = ~_too_far(other_decoded, wide[at], other, step) & ~((wide[at] == 0) & np.signbit(wide[at]))
        k[at[mended]], decoded[at[mended]] = other[mended], other_decoded[mended]
    at = at[~mended]
    k[at] = 0
    values = k.astype(np.int64)
    patterns = part[at].view(f"u{part.itemsize}")
    kinds = np.full(at.size, _RAW)
    for kind, value in enumerate(_SPECIAL_VALUES):
        kinds[patterns == np.array(value, part.dtype).view(patterns.dtype)] = kind
    values[at], decoded[at] = SPECIAL + kinds, part[at]
    return values, wire(patterns[kinds == _RAW]).view(np.uint8), decoded


def integers_of(part: np.ndarray, mode: int) -> np.ndarray:
    """Where the decoder may put the integers of `part`: in its own memory where they are as wide as its elements.

    Integers are decoded modulo 2^bits, so that unsigned ones and patterns need no wider room; levels need 64 bits.
    """
    if mode == STEPS or part.dtype.kind == "b":
        return np.empty(part.size, np.int64)
    return part.view(f"i{part.itemsize}")


def from_integers(values: np.ndarray, beside, part: np.ndarray, mode: int, step: float) -> None:
    """Fill `part`, of a native dtype, from `values` in `integers_of` it; `beside`: patterns that went beside them."""
    if mode != STEPS and len(beside):
        raise CorruptDataError("patterns beside integers that need none")
    if mode == INTEGERS:
        if part.dtype == np.uint64:
            np.bitwise_xor(part, _SIGN, out=part)
        elif part.dtype.kind == "b":
            part[:] = values
        return
    if mode == PATTERNS:
        _patterns_in_place(values)
        return
    with np.errstate(all="ignore"):
        np.multiply(values, np.float64(step), out=part, casting="unsafe")
    if not len(beside) and (not values.size or int(values.max()) < SPECIAL):
        return
    at = np.flatnonzero(values >= SPECIAL)
    kinds = values[at] - SPECIAL
    raw = at[kinds == _RAW]
    if (kinds >= KINDS).any() or raw.size * part.itemsize != len(beside):
        raise CorruptDataError(f"{len(beside)} bytes of patterns beside {raw.size} values that need one")
    for kind, value in enumerate(_SPECIAL_VALUES):
        part[at[kinds == kind]] = value
    if raw.size:
        part[raw] = np.frombuffer(beside, f"<u{part.itemsize}").astype(f"u{part.itemsize}").view(part.dtype)


def from_patterns(ordered: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Floats whose patterns, ordered as unsigned integers, these are: version 0 counted from 0."""
    half = np.uint64(1 << (8 * dtype.itemsize - 1))
    with np.errstate(over="ignore"):
        bits = (ordered - half).view(np.int64).astype(f"i{dtype.itemsize}")
    _patterns_in_place(bits)
    return bits.view(dtype)


def _too_far(decoded, wide, k, step: float):
    return ~(np.abs(decoded.astype(np.float64, copy=False) - wide) <= step / 2) | ~(np.abs(k) < 2.0**53)


def _to_patterns(part):
    """Two's complement of sign and magnitude: ascending with the float, one to one, its own inverse."""
    bits = part.view(f"i{part.itemsize}")
    sign = bits.dtype.type(np.iinfo(bits.dtype).max)
    return (bits ^ ((bits >> (8 * part.itemsize - 1)) & sign)).astype(np.int64)


def _patterns_in_place(bits: np.ndarray) -> None:
    """The inverse of `_to_patterns`, which is the map itself."""
    sign = bits.dtype.type(np.iinfo(bits.dtype).max)
    bits ^= (bits >> (8 * bits.itemsize - 1)) & sign
