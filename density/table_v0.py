"""Probability tables of container version 0: explicit values, logarithmic buckets beyond them, five special symbols."""

import struct
import zlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from . import _rans_kernels as kernels
from .bits import unpack
from .errors import CorruptDataError

TOTAL = 1 << 24
SPECIALS = 5  # NaN, +inf, -inf, -0.0, and a bit pattern stored as it is
RAW = 4
_MOST_SYMBOLS = 1 << 17
_FINE = 3  # bits of mantissa that a bucket resolves: eight buckets an octave
_SLACK = (
    0.02  # bits a symbol by which the growth of a state >= 2^32 can fall short of log2(2^24 / f): two floors of 2^-8
)


def frequencies(roots) -> np.ndarray:
    """Frequencies >= 1 of sum 2^24, proportional to the squares of the roots as far as integers go."""
    weights = [int(r) ** 2 for r in roots]
    if not weights:
        return np.zeros(0, np.int64)
    total = sum(weights)  # whole numbers without a width: a square times 2^24 need not fit 64 bits
    f = np.maximum(np.array([w * TOTAL // total for w in weights], np.int64), 1)
    spare = TOTAL - int(f.sum())
    if spare > 0:
        f[np.argmax(f)] += spare
    while spare < 0:  # take one from each of the most frequent, as often as needed
        rank = np.argsort(-f, kind="stable")
        rank = rank[: min(-spare, int(np.count_nonzero(f > 1)))]
        f[rank] -= 1
        spare += len(rank)
    return f


def bucket_start(bucket):
    """Smallest distance of each bucket, and its raw bits."""
    bucket = np.asarray(bucket, np.int64)
    octave = bucket >> _FINE
    fine = np.minimum(octave, _FINE)
    lead = (np.uint64(1) << fine.astype(np.uint64)) | (bucket & ((1 << _FINE) - 1)).astype(np.uint64)
    return lead << (octave - fine).astype(np.uint64), octave - fine


@dataclass(frozen=True, eq=False)
class Table:
    """Symbols in the order: explicit values, buckets below, buckets above, specials."""

    values: np.ndarray
    below: np.ndarray
    above: np.ndarray
    specials: np.ndarray
    roots: np.ndarray
    raw_width: int

    @cached_property
    def frequencies(self) -> np.ndarray:
        """Integer frequency of each symbol, sum 2^24."""
        return frequencies(self.roots)

    @cached_property
    def _bases(self) -> tuple[np.ndarray, np.ndarray]:
        """Value of each symbol at raw value 0, and its number of raw bits."""
        start_below, bits_below = bucket_start(self.below)
        start_above, bits_above = bucket_start(self.above)
        lo, hi = (self.values[0], self.values[-1]) if len(self.values) else (np.uint64(0), np.uint64(0))
        plain = np.zeros(len(self.values), np.int64)
        special_bits = np.where(self.specials == RAW, self.raw_width, 0)
        with np.errstate(over="ignore"):
            near = (lo - start_below, hi + start_above, np.zeros(len(self.specials), np.uint64))
        return np.concatenate([self.values, *near]), np.concatenate([plain, bits_below, bits_above, special_bits])

    @property
    def raw_bits(self) -> np.ndarray:
        """Raw bits that follow each symbol."""
        return self._bases[1]

    def digest(self) -> int:
        """Checksum of the frequencies, so that a builder that differs is noticed before it decodes."""
        return zlib.crc32(self.frequencies.astype("<u4").tobytes())

    def restore(self, symbol, raw):
        """Values of symbols as uint64, and -1 or the number of the special symbol."""
        first_special = len(self.values) + len(self.below) + len(self.above)
        down = (symbol >= len(self.values)) & (symbol < len(self.values) + len(self.below))
        with np.errstate(over="ignore"):
            base = self._bases[0][symbol]
            values = np.where(down, base - raw, base + raw)
        special = np.full(len(symbol), -1, np.int64)
        marked = symbol >= first_special
        special[marked] = self.specials[symbol[marked] - first_special]
        return values, special

    @classmethod
    def from_bytes(cls, data: bytes) -> "Table":
        """The table in a header."""
        try:
            lo, count, below, above, specials, raw_width, dense = struct.unpack_from("<QIHHBB?", data)
            at = struct.calcsize("<QIHHBB?")
            lists = []
            for size, dtype in ((below, "<u2"), (above, "<u2"), (specials, "u1")):
                lists.append(np.frombuffer(data, dtype, size, at).astype(np.int64))
                at += size * np.dtype(dtype).itemsize
            parts = []
            for _ in range(3):
                (size,) = struct.unpack_from("<I", data, at)
                parts.append(data[at + 4 : at + 4 + size])
                at += 4 + size
        except (struct.error, ValueError) as error:
            raise CorruptDataError(f"the table of the model ends too early: {error}") from None
        if at != len(data) or count > _MOST_SYMBOLS or raw_width > 64:
            raise CorruptDataError("the table of the model has impossible sizes")
        gaps = unpack_integers(parts[0], 0 if dense else max(count - 1, 0))
        explicit = _unzigzag(unpack_integers(parts[1], count))
        rest = _unzigzag(unpack_integers(parts[2], below + above + specials))
        with np.errstate(over="ignore"):
            if dense:
                present = np.flatnonzero(explicit)
                values, explicit = np.uint64(lo) + present.astype(np.uint64), explicit[present]
            else:
                values = np.uint64(lo) + np.concatenate([[np.uint64(0)], np.cumsum(gaps + np.uint64(1))])[:count]
        roots = np.concatenate([explicit, rest])
        sane = not len(roots) or (roots.min() >= 1 and roots.max() < 1 << 31)
        sane = sane and (values[1:] > values[:-1]).all() and (lists[2] < SPECIALS).all()
        if not sane or any((b >> _FINE > 63).any() for b in lists[:2]):
            raise CorruptDataError("the table of the model holds impossible numbers")
        return cls(values, lists[0], lists[1], lists[2], roots, raw_width)


def decode(data: bytes, f, count: int):
    """`count` symbols of the integer frequencies f; CorruptDataError where the bytes cannot hold them."""
    if len(f) == 0 and count:
        raise CorruptDataError("there are symbols but the table is empty")
    if len(f) < 2 or not count:
        if data:
            raise CorruptDataError("bytes of symbols where none are needed")
        return np.zeros(count, np.int32)
    if len(data) % 4:
        raise CorruptDataError("the coded symbols are not a whole number of words")
    words = np.frombuffer(data, "<u4").astype(np.uint32)
    least = count * (-np.log2(int(f.max()) / TOTAL) - _SLACK)  # before any memory is taken
    if least > 32.0 * len(words):
        raise CorruptDataError(f"{len(data)} bytes cannot hold {count} symbols")
    out = np.empty(count, np.int32)
    if kernels.decode_stack(words, np.cumsum(f), out) != kernels.OK:
        raise CorruptDataError("the last symbol does not end where the first began: too many or too few bytes")
    return out


def unpack_integers(data: bytes, count: int):
    """Unsigned integers: their bit lengths entropy-coded, the bits below the leading one raw."""
    if not count:
        if data:
            raise CorruptDataError("bytes of integers where none are needed")
        return np.zeros(0, np.uint64)
    try:
        kinds, size = struct.unpack_from("<BI", data)
        used = np.frombuffer(data, "u1", kinds, 5).astype(np.int64)
        roots = np.frombuffer(data, "<u2", kinds, 5 + kinds).astype(np.int64)
    except (struct.error, ValueError) as error:
        raise CorruptDataError(f"a list of integers ends too early: {error}") from None
    at = 5 + 3 * kinds
    if (used > 64).any() or not roots.all() or at + size > len(data):
        raise CorruptDataError("a list of integers has impossible sizes")
    classes = used[decode(data[at : at + size], frequencies(roots), count)]
    below = np.maximum(classes - 1, 0)
    raw = unpack(data[at + size :], below)
    return np.where(classes > 0, np.uint64(1) << below.astype(np.uint64), np.uint64(0)) | raw


def _unzigzag(codes):
    """0, 1, 2, 3, ... -> 0, -1, 1, -2, ..., then their running sum."""
    codes = codes.astype(np.int64)
    return np.cumsum(np.where(codes & 1, -(codes + 1) // 2, codes // 2))
