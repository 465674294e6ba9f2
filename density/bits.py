"""Fields of 0 to 64 bits in a row of bytes, packed and read all at once; least significant bit first."""

import numpy as np

from .errors import TruncatedDataError


def pack(values, widths) -> bytes:
    """The lowest widths[i] bits of values[i], one after another."""
    widths = np.asarray(widths, np.int64)
    kept = widths > 0
    values, widths = np.asarray(values, np.uint64)[kept], widths[kept]
    if not len(widths):
        return b""
    values = values & _mask(widths)
    ends = np.cumsum(widths)
    total = int(ends[-1])
    start = ends - widths
    word, offset = start >> 6, (start & 63).astype(np.uint64)
    out = np.zeros((total + 63) // 64 + 1, np.uint64)
    # Fields are in order, so those that begin in one word are neighbours; what runs over goes to the next word.
    first = np.flatnonzero(np.diff(word, prepend=-1))
    out[word[first]] = np.bitwise_or.reduceat(values << offset, first)
    over = np.flatnonzero((start & 63) + widths > 64)
    out[word[over] + 1] |= values[over] >> (np.uint64(64) - offset[over])
    return out.astype("<u8").tobytes()[: (total + 7) // 8]


def unpack(data: bytes, widths):
    """The inverse of `pack`, for as many bytes as the widths ask for, no more and no fewer."""
    widths = np.asarray(widths, np.int64)
    ends = np.cumsum(widths)
    total = int(ends[-1]) if len(widths) else 0
    if len(data) != (total + 7) // 8:
        raise TruncatedDataError(f"{(total + 7) // 8} bytes of raw bits are needed, {len(data)} are there")
    words = np.frombuffer(data + b"\0" * (-len(data) % 8 + 16), "<u8").astype(np.uint64)
    start = ends - widths
    word, offset = start >> 6, (start & 63).astype(np.uint64)
    low = words[word] >> offset
    high = np.where(offset > 0, words[word + 1] << ((np.uint64(64) - offset) & np.uint64(63)), np.uint64(0))
    return (low | high) & _mask(widths)


def _mask(widths):
    full = np.uint64(0xFFFFFFFFFFFFFFFF)
    return np.where(widths > 0, full >> (np.uint64(64) - np.maximum(widths, 1).astype(np.uint64)), np.uint64(0))


def bit_length(values):
    """Bits that each unsigned value needs; 0 for 0."""
    values = np.asarray(values, np.uint64)
    out = np.zeros(values.shape, np.int64)
    rest = values.copy()
    for step in (32, 16, 8, 4, 2, 1):
        large = rest >= np.uint64(1) << np.uint64(step)
        out[large] += step
        rest[large] >>= np.uint64(step)
    return out + (values > 0)
