"""Entropy coding of symbols by integer tables; the coder itself is the library constriction (extra "codec")."""

import struct
from typing import Any

import numpy as np

from .bits import pack, unpack
from .errors import CorruptDataError
from .tables import TOTAL, frequencies, join_classes, lengths


def _constriction() -> Any:
    try:
        import constriction
    except ImportError:
        raise ImportError(
            "compress and decompress need the entropy coder constriction; run: pip install 'triskele[codec]'"
        ) from None
    return constriction


def _categorical(f):
    """constriction's model with exactly these integer frequencies.

    Its quantiser starts symbol i at ``floor(sum_{j<i} p_j * scale) + i`` with ``scale = (2^24 - count) / sum p``. With
    p = f - 1 the scale is 1 and every sum is an integer below 2^53: nothing is ever rounded.
    """
    return _constriction().stream.model.Categorical((f - 1).astype(np.float64), perfect=False)


# The coder starts at state 2^32, not at 0: from 0 a run of the first symbol costs no bits at all, and neither the end
# of the data nor their least size could be checked.
_ANCHOR = np.array([0, 1], np.uint32)
_SLACK = (
    0.02  # bits a symbol by which the growth of a state >= 2^32 can fall short of log2(2^24 / f): two floors of 2^-8
)


def encode(symbols, f) -> bytes:
    """Symbols (int32) as bytes; a table of one symbol needs none."""
    if len(f) < 2 or not len(symbols):
        return b""
    coder = _constriction().stream.stack.AnsCoder(_ANCHOR)
    coder.encode_reverse(np.ascontiguousarray(symbols, np.int32), _categorical(f))
    return coder.get_compressed().astype("<u4").tobytes()


def decode(data: bytes, f, count: int):
    """The inverse of `encode`; raises CorruptDataError where the bytes cannot hold `count` symbols."""
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
    try:
        coder = _constriction().stream.stack.AnsCoder(words)
        symbols = coder.decode(_categorical(f), count)
    except ValueError as error:
        raise CorruptDataError(f"the entropy coder refuses the bytes: {error}") from None
    if not np.array_equal(coder.get_compressed(), _ANCHOR):
        raise CorruptDataError("the last symbol does not end where the first began: too many or too few bytes")
    return symbols


def pack_integers(numbers) -> bytes:
    """Unsigned integers, most of them small: their bit lengths entropy-coded, the other bits raw."""
    numbers = np.asarray(numbers, np.uint64)
    if not len(numbers):
        return b""
    classes, widths = lengths(numbers)
    used, which = np.unique(classes, return_inverse=True)
    roots = np.maximum(np.rint(np.sqrt(np.bincount(which))), 1).astype(np.uint16)
    words = encode(which, frequencies(roots))
    head = struct.pack("<BI", len(used), len(words)) + used.astype("u1").tobytes() + roots.astype("<u2").tobytes()
    return head + words + pack(numbers, widths)


def unpack_integers(data: bytes, count: int):
    """The inverse of `pack_integers`."""
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
    return join_classes(classes, unpack(data[at + size :], np.maximum(classes - 1, 0)))
