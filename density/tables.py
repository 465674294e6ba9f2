"""Integer probability tables: from counts to frequencies of sum 2^24, by integer operations alone.

A table lists explicit values, logarithmic buckets for what lies beyond them, and five special symbols. Its counts are
stored as rounded square roots: the root of a Poisson count has the same variance everywhere, so neighbours differ by
one or two, and the rounding costs about a quarter of a bit a symbol, once.
"""

import struct
import zlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .bits import bit_length
from .errors import CorruptDataError, ModelMismatchError

PRECISION = 24
TOTAL = 1 << PRECISION
SPECIALS = ("nan", "+inf", "-inf", "-0.0", "raw")
RAW = SPECIALS.index("raw")
MOST_SYMBOLS = 1 << 16
_FINE = 3  # bits of mantissa that a bucket resolves: eight buckets an octave


def frequencies(roots) -> np.ndarray:
    """Frequencies >= 1 of sum 2^24, proportional to the squares of the roots as far as integers go."""
    weights = [int(r) ** 2 for r in roots]
    if not weights:
        return np.zeros(0, np.int64)
    total = sum(weights)  # whole numbers without a width: a square times 2^24 need not fit 64 bits
    f = np.array([w * TOTAL // total for w in weights], np.int64)
    f = np.maximum(f, 1)
    spare = TOTAL - int(f.sum())
    if spare > 0:
        f[np.argmax(f)] += spare
    while spare < 0:  # take one from each of the most frequent, as often as needed
        rank = np.argsort(-f, kind="stable")
        rank = rank[: min(-spare, int(np.count_nonzero(f > 1)))]
        f[rank] -= 1
        spare += len(rank)
    return f


def bucket_of(distance):
    """Bucket number, raw bits and raw value of distances >= 1 from the explicit range."""
    octave = bit_length(distance) - 1
    fine = np.minimum(octave, _FINE)
    raw_bits = octave - fine
    lead = np.asarray(distance, np.uint64) >> raw_bits.astype(np.uint64)
    mantissa = (lead ^ (np.uint64(1) << fine.astype(np.uint64))).astype(np.int64)
    return (octave << _FINE) + mantissa, raw_bits, distance - (lead << raw_bits.astype(np.uint64))


def bucket_start(bucket):
    """Smallest distance of each bucket, and its raw bits."""
    bucket = np.asarray(bucket, np.int64)
    octave = bucket >> _FINE
    fine = np.minimum(octave, _FINE)
    lead = (np.uint64(1) << fine.astype(np.uint64)) | (bucket & ((1 << _FINE) - 1)).astype(np.uint64)
    return lead << (octave - fine).astype(np.uint64), octave - fine


@dataclass(frozen=True, eq=False)
class Table:
    """Symbols in the order: explicit values, buckets below, buckets above, specials.

    values : sorted uint64;  below, above : bucket numbers, sorted;  specials : indices into SPECIALS, sorted;
    roots : square roots of the counts of all symbols, in the order of the symbols, >= 1.
    """

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

    @property
    def first_special(self) -> int:
        """Number of the first symbol that stands for no integer."""
        return len(self.values) + len(self.below) + len(self.above)

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

    def __len__(self) -> int:
        return len(self.roots)

    def digest(self) -> int:
        """Checksum of the frequencies, so that a builder that differs is noticed before it decodes."""
        return zlib.crc32(self.frequencies.astype("<u4").tobytes())

    # --- symbols ---

    def symbols(self, values, special):
        """Symbol and raw value of each element; special[i] >= 0 is an index into SPECIALS, -1 a plain integer."""
        at = np.searchsorted(self.values, values)
        at = np.minimum(at, max(len(self.values) - 1, 0))
        plain = special < 0
        known = plain & (self.values[at] == values) if len(self.values) else np.zeros(len(values), bool)
        symbol, raw = at.astype(np.int64), np.zeros(len(values), np.uint64)
        if (~known & plain).any():
            lo, hi = self.values[0], self.values[-1]
            low, high = np.flatnonzero(plain & (values < lo)), np.flatnonzero(plain & (values > hi))
            for far, distance, buckets, first in (
                (low, lo - values[low], self.below, len(self.values)),
                (high, values[high] - hi, self.above, len(self.values) + len(self.below)),
            ):
                number, _, raw[far] = bucket_of(distance)
                symbol[far] = first + np.searchsorted(buckets, number)
        marked = np.flatnonzero(~plain)
        symbol[marked] = self.first_special + np.searchsorted(self.specials, special[marked])
        raw[marked] = np.where(special[marked] == RAW, values[marked], np.uint64(0))
        return symbol.astype(np.int32), raw

    def restore(self, symbol, raw):
        """Values and specials of symbols: the inverse of `symbols`."""
        down = (symbol >= len(self.values)) & (symbol < len(self.values) + len(self.below))
        with np.errstate(over="ignore"):
            base = self._bases[0][symbol]
            values = np.where(down, base - raw, base + raw)
        special = np.full(len(symbol), -1, np.int64)
        marked = symbol >= self.first_special
        special[marked] = self.specials[symbol[marked] - self.first_special]
        return values, special

    # --- storage ---

    def to_bytes(self, coder) -> bytes:
        """The table; `coder` turns a list of small integers into bytes."""
        gaps = np.diff(self.values)
        span = int(self.values[-1] - self.values[0]) + 1 if len(self.values) else 0
        dense = span <= 2 * len(self.values)
        explicit = self.roots[: len(self.values)]
        if dense:  # every value of the span, absent ones with root 0: no gaps to store
            full = np.zeros(span, np.int64)
            full[(self.values - self.values[:1]).astype(np.int64)] = explicit
            explicit, gaps = full, gaps[:0]
        head = struct.pack(
            "<QIHHBB?",
            int(self.values[0]) if len(self.values) else 0,
            len(explicit), len(self.below), len(self.above), len(self.specials), self.raw_width, dense,
        )  # fmt: skip
        numbers = bytes(self.below.astype("<u2").tobytes() + self.above.astype("<u2").tobytes())
        numbers += bytes(self.specials.astype("u1").tobytes())
        rest = self.roots[len(self.values) :]
        parts = [coder.pack_integers(p) for p in (gaps - np.uint64(1), _zigzag(explicit), _zigzag(rest))]
        return head + numbers + b"".join(struct.pack("<I", len(p)) + p for p in parts)

    @classmethod
    def from_bytes(cls, data: bytes, coder) -> "Table":
        """The table that `to_bytes` stored."""
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
        if at != len(data) or count > 2 * MOST_SYMBOLS or raw_width > 64:
            raise CorruptDataError("the table of the model has impossible sizes")
        gaps = coder.unpack_integers(parts[0], 0 if dense else max(count - 1, 0))
        explicit = _unzigzag(coder.unpack_integers(parts[1], count))
        rest = _unzigzag(coder.unpack_integers(parts[2], below + above + specials))
        with np.errstate(over="ignore"):
            if dense:
                present = np.flatnonzero(explicit)
                values, explicit = np.uint64(lo) + present.astype(np.uint64), explicit[present]
            else:
                values = np.uint64(lo) + np.concatenate([[np.uint64(0)], np.cumsum(gaps + np.uint64(1))])[:count]
        roots = np.concatenate([explicit, rest])
        sane = not len(roots) or (roots.min() >= 1 and roots.max() < 1 << 31)
        sane = sane and (values[1:] > values[:-1]).all() and (lists[2] < len(SPECIALS)).all()
        if not sane or any((b >> _FINE > 63).any() for b in lists[:2]):
            raise CorruptDataError("the table of the model holds impossible numbers")
        return cls(values, lists[0], lists[1], lists[2], roots, raw_width)


def check_digest(table: Table, digest: int) -> None:
    """Raise if the table rebuilt here is not the one that encoded."""
    if table.digest() != digest:
        raise ModelMismatchError("the probability table rebuilt from the header is not the one that encoded the data")


def _zigzag(numbers):
    """Differences of neighbours as unsigned numbers: 0, -1, 1, -2, ... -> 0, 1, 2, 3, ..."""
    d = np.diff(np.asarray(numbers, np.int64), prepend=0)
    return np.where(d < 0, -2 * d - 1, 2 * d).astype(np.uint64)


def _unzigzag(codes):
    codes = codes.astype(np.int64)
    return np.cumsum(np.where(codes & 1, -(codes + 1) // 2, codes // 2))


# --- choosing a table ---


def choose(values, counts, special_counts, raw_width: int) -> Table:
    """The table of lowest estimated size: which values stand alone and which share buckets.

    values : distinct uint64, sorted;  counts : how often each occurs (or how often a model expects it);
    special_counts : five counts.
    """
    special_counts = np.asarray(special_counts, np.float64)
    n = counts.sum() + special_counts.sum()
    ends = np.cumsum(counts)
    best, lowest = None, np.inf
    for tail in (0.0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0):
        if not len(values):
            break
        a = int(np.searchsorted(ends, ends[-1] * tail / 2, side="right"))
        b = max(a, int(np.searchsorted(ends, ends[-1] * (1 - tail / 2), side="left")))
        a, b = min(a, len(values) - 1), min(b, len(values) - 1)
        if b - a >= MOST_SYMBOLS:
            continue
        bits = _estimate(values, counts, n, a, b)
        if bits < lowest:
            best, lowest = (a, b), bits
    if best is None and len(values):
        middle = int(np.searchsorted(ends, ends[-1] / 2))
        best = (middle, middle)
    specials = np.flatnonzero(special_counts > 0)
    if best is None:
        empty = np.zeros(0, np.int64)
        return Table(np.zeros(0, np.uint64), empty, empty, specials, _roots(special_counts[specials]), raw_width)
    a, b = best
    below, below_counts, _ = _bucketed(values[a] - values[:a], counts[:a])
    above, above_counts, _ = _bucketed(values[b + 1 :] - values[b], counts[b + 1 :])
    all_counts = np.concatenate([counts[a : b + 1], below_counts, above_counts, special_counts[specials]])
    return Table(values[a : b + 1], below, above, specials, _roots(all_counts), raw_width)


def _roots(counts):
    return np.maximum(np.rint(np.sqrt(counts)), 1).astype(np.int64)


def _bucketed(distance, counts):
    if not len(distance):
        return np.zeros(0, np.int64), np.zeros(0), 0.0
    number, raw_bits, _ = bucket_of(distance)
    used, where = np.unique(number, return_inverse=True)
    return used, np.bincount(where, counts, len(used)), float(raw_bits @ counts)


def _estimate(values, counts, n, a: int, b: int) -> float:
    """Bits of data and table when values[a..b] stand alone."""
    inside = counts[a : b + 1]
    bits = float(inside @ np.log2(n / inside)) + 3.0 * len(inside)
    span = int(values[b] - values[a]) + 1
    if span > 2 * len(inside):  # gaps are stored too
        bits += float((np.log2(np.diff(values[a : b + 1]).astype(float)) + 2).sum())
    for distance, c in ((values[a] - values[:a], counts[:a]), (values[b + 1 :] - values[b], counts[b + 1 :])):
        used, total, raw = _bucketed(distance, c)
        bits += raw + 20.0 * len(used) + (float(total @ np.log2(n / total)) if len(used) else 0.0)
    return bits


def lengths(numbers):
    """Split unsigned numbers into the class (bits needed) and the bits below the leading one."""
    classes = bit_length(numbers)
    return classes, np.maximum(classes - 1, 0)


def join_classes(classes, raw):
    """The inverse of `lengths`, given the raw bits."""
    lead = np.where(classes > 0, np.uint64(1) << np.maximum(classes - 1, 0).astype(np.uint64), np.uint64(0))
    return lead | raw
