"""Reader of container version 0, which releases before version 1 wrote; kept so that those files decode for ever.

Its symbols were coded by one-lane ANS (Duda 2013, arXiv:1311.2540) with the bits below a bucket beside them, its tables
stored as rounded square roots of counts, its checksums are CRC-32.
"""

import struct
import zlib
from dataclasses import dataclass

import numpy as np

from ._threads import thread_map
from .container import DTYPES
from .errors import (
    ChecksumError,
    CorruptDataError,
    LimitExceededError,
    ModelMismatchError,
    TruncatedDataError,
    UnknownVersionError,
)
from .integers import INTEGERS, PATTERNS, STEPS, from_patterns, wire
from .table_v0 import RAW, Table, decode, unpack

START = struct.Struct("<4sBIQ")  # magic, version, bytes of the header, bytes of all
_CHUNK = struct.Struct("<QQII")  # bytes of symbols, of raw bits; checksums of both together and of the decoded data
_STORED = 0
_FITS = {_STORED: "biuf", INTEGERS: "biu", STEPS: "f", PATTERNS: "f"}
_SIGN = np.uint64(1 << 63)
_SPECIAL_VALUES = (np.nan, np.inf, -np.inf, -0.0)


@dataclass(frozen=True)
class Layout:
    """The header, read."""

    mode: int
    dtype: np.dtype
    shape: tuple[int, ...]
    step: float
    chunk: int
    table: bytes
    digest: int
    chunks: tuple[tuple[int, int, int, int], ...]

    @property
    def size(self) -> int:
        """Elements of the array."""
        n = 1
        for extent in self.shape:
            n *= extent
        return n


def decompress_v0(blob: bytes, max_bytes: int, workers: int) -> np.ndarray:
    """The array in a container of version 0, or the error that says what is wrong with it."""
    layout, at = read_header(blob)
    if layout.size * layout.dtype.itemsize > max_bytes:
        raise LimitExceededError(
            f"the header asks for {layout.size * layout.dtype.itemsize} bytes, more than the limit of {max_bytes}; "
            "pass max_bytes= if you trust the data"
        )
    starts = []
    for size, extra, _, _ in layout.chunks:
        starts.append(at)
        at += size + extra
    if at != len(blob):
        raise TruncatedDataError(f"the chunks end at byte {at}, the data at byte {len(blob)}")
    for i, (begin, (size, extra, check, _)) in enumerate(zip(starts, layout.chunks)):
        if zlib.crc32(blob[begin : begin + size + extra]) != check:
            raise ChecksumError(f"chunk {i} of {len(layout.chunks)} is damaged: its checksum does not match")
    table = None
    if layout.mode != _STORED:
        table = Table.from_bytes(layout.table)
        if table.digest() != layout.digest:
            raise ModelMismatchError(
                "the probability table rebuilt from the header is not the one that encoded the data"
            )
    dtype = layout.dtype.newbyteorder("=")

    def read(i: int) -> np.ndarray:
        size, extra, _, check = layout.chunks[i]
        begin = starts[i]
        if table is None:
            if size != layout.size * dtype.itemsize or extra:
                raise CorruptDataError(f"{size} stored bytes for an array of {layout.size * dtype.itemsize}")
            part = np.frombuffer(blob[begin : begin + size], dtype.newbyteorder("<")).astype(dtype)
        else:
            count = min(layout.chunk, layout.size - i * layout.chunk)
            symbols = decode(blob[begin : begin + size], table.frequencies, count)
            raw = unpack(blob[begin + size : begin + size + extra], table.raw_bits[symbols])
            part = _from_integers(*table.restore(symbols, raw), dtype, layout.mode, layout.step)
        if zlib.crc32(wire(part).tobytes()) != check:
            raise ChecksumError(f"chunk {i} of {len(layout.chunks)} decodes to other data than were encoded")
        return part

    parts = thread_map(read, range(len(layout.chunks)), workers)
    flat = np.concatenate(parts) if parts else np.zeros(0, dtype)
    if len(flat) != layout.size:
        raise CorruptDataError(f"{len(flat)} values for an array of {layout.size}")
    try:
        return flat.reshape(layout.shape).astype(layout.dtype, copy=False)
    except ValueError as error:  # an empty array of extents that no address space holds
        raise CorruptDataError(f"the shape {layout.shape} is impossible: {error}") from None


def read_header(blob: bytes) -> tuple[Layout, int]:
    """The header and where it ends, checked before anything in it is believed."""
    if len(blob) < START.size:
        raise TruncatedDataError(f"{len(blob)} bytes are too few even for a header")
    _, version, size, total = START.unpack_from(blob)
    if version != 0:
        raise UnknownVersionError(f"container of version {version}; expected version 0 here")
    if len(blob) != total or not START.size + 4 <= size <= total:
        raise TruncatedDataError(f"the header promises {total} bytes, of which {size} are header; got {len(blob)}")
    if zlib.crc32(blob[: size - 4]) != struct.unpack_from("<I", blob, size - 4)[0]:
        raise ChecksumError("the checksum of the header does not match: some byte was changed")
    try:
        mode, length = struct.unpack_from("<BB", blob, at := START.size)
        name = blob[at + 2 : (at := at + 2 + length)].decode("ascii")
        (ndim,) = struct.unpack_from("<B", blob, at)
        shape = struct.unpack_from(f"<{ndim}Q", blob, at := at + 1)
        step, chunk, digest, table, count = struct.unpack_from("<dQIII", blob, at := at + 8 * ndim)
        at += struct.calcsize("<dQIII")
        if at + table + count * _CHUNK.size + 4 != size:
            raise CorruptDataError("the parts of the header do not add up to its length")
        chunks = tuple(_CHUNK.unpack_from(blob, at + table + i * _CHUNK.size) for i in range(count))
        dtype = DTYPES[name]
    except (struct.error, UnicodeDecodeError, KeyError) as error:
        raise CorruptDataError(f"the header cannot be read: {error}") from None
    layout = Layout(mode, dtype, tuple(shape), step, chunk, blob[at : at + table], digest, chunks)
    wanted = int(layout.size > 0) if mode == _STORED else -(-layout.size // max(chunk, 1))
    if dtype.kind not in _FITS.get(mode, "") or dtype.itemsize > 8 or ndim > 64 or wanted != count or not chunk:
        raise CorruptDataError("the header describes no array that compress could have made")
    return layout, size


def _from_integers(values, special, dtype, mode: int, step: float):
    """Symbols' values as elements: one multiplication for quantised floats, none for anything else."""
    if mode == INTEGERS:
        return (values ^ _SIGN).view(np.int64).astype(dtype) if dtype.kind == "i" else values.astype(dtype)
    if mode == PATTERNS:
        return from_patterns(values, dtype)
    with np.errstate(all="ignore"):
        out = ((values ^ _SIGN).view(np.int64).astype(np.float64) * step).astype(dtype)
    for i, value in enumerate(_SPECIAL_VALUES):
        out[special == i] = value
    raw = special == RAW
    out[raw] = values[raw].astype(f"u{dtype.itemsize}").view(dtype)
    return out
