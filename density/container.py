"""Container version 1: a header, then records that each say what they are and carry checksums of their own.

Records: a model (tables as integers), a chunk coded by it, a chunk stored as it is, and at the end of a stream the
record that says how much there was. A record's head is summed together with the header's checksum, so that one of
another file does not pass. The byte layout stands in the manual, page Compress.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from .checksum import crc32c
from .errors import ChecksumError, CorruptDataError, NotOurDataError, TruncatedDataError, UnknownVersionError
from .integers import INTEGERS, PATTERNS, STEPS

MAGIC, VERSION = b"TDNZ", 1
MODEL, CODED, STORED, END = range(1, 5)
MARK = b"\xd5\x1cR"  # begins a record; a reader of a damaged file searches for it
MOST_CHUNK = 1 << 28
NO_AXIS = 255
_NAMES = [np.dtype(order + code).str for code in "?bBhHiIqQefd" for order in "<>"]
DTYPES = {name: np.dtype(name) for name in _NAMES}  # from the name: int64 has two codes, of which one prints its dtype
FITS = {INTEGERS: "biu", STEPS: "f", PATTERNS: "f"}
HEADER = struct.Struct("<4sBBBBBBHQdI")  # see Header.to_bytes
RECORD = struct.Struct("<3sBHHIIIII")  # see Record.to_bytes
HEAD_SIZE = RECORD.size + 4
_END = struct.Struct("<QQQ")  # rows, elements, bytes before the record
_STREAMED = 1


@dataclass(frozen=True)
class Header:
    """What was compressed and how; of a stream, the first extent and the total are not known before its end."""

    mode: int
    dtype: np.dtype
    shape: tuple[int, ...]
    step: float
    chunk: int
    axis: int | None = None
    total: int = 0
    streamed: bool = False

    @property
    def size(self) -> int:
        """Elements of the array."""
        n = 1
        for extent in self.shape:
            n *= extent
        return n

    @property
    def chunks(self) -> int:
        """Chunks that hold the elements."""
        return -(-self.size // self.chunk)

    def count(self, chunk: int) -> int:
        """Elements of a chunk."""
        return min(self.chunk, self.size - chunk * self.chunk)

    def to_bytes(self) -> bytes:
        """The header, its checksum last."""
        name = self.dtype.str.encode()
        size = HEADER.size + len(name) + 8 * len(self.shape) + 4
        head = HEADER.pack(
            MAGIC, VERSION, _STREAMED * self.streamed, self.mode, len(self.shape),
            NO_AXIS if self.axis is None else self.axis, len(name), size, self.total, self.step, self.chunk,
        )  # fmt: skip
        head += name + struct.pack(f"<{len(self.shape)}Q", *self.shape)
        return head + struct.pack("<I", crc32c(head))


@dataclass(frozen=True)
class Record:
    """The head of a record.

    kind : MODEL, CODED, STORED or END;  model : number of the model;  number : of the chunk or model, or how many;
    beside : patterns at the end of the payload;  count : elements, or tables of a model;  size : bytes of the payload;
    payload, data : checksums of the payload and of the decoded elements;  at : where the payload begins.
    """

    kind: int
    model: int
    beside: int
    number: int
    count: int
    size: int
    payload: int
    data: int
    at: int = 0

    def to_bytes(self, seal: int) -> bytes:
        """The head, with the checksum that the header's (`seal`) begins."""
        head = RECORD.pack(
            MARK, self.kind, self.model, self.beside, self.number, self.count, self.size, self.payload, self.data
        )
        return head + struct.pack("<I", crc32c(head, seal))

    @classmethod
    def from_bytes(cls, head: bytes, seal: int, at: int = 0) -> "Record | None":
        """The head of the record whose payload begins at a place, or None where the bytes are none."""
        if len(head) != HEAD_SIZE or head[:3] != MARK:
            return None
        if crc32c(head[: RECORD.size], seal) != struct.unpack_from("<I", head, RECORD.size)[0]:
            return None
        _, kind, model, beside, number, count, size, payload, data = RECORD.unpack_from(head)
        return cls(kind, model, beside, number, count, size, payload, data, at)


def seal_of(header: bytes) -> int:
    """The checksum of a header, which its records continue."""
    return struct.unpack("<I", header[-4:])[0]


def end_record(rows: int, elements: int, chunks: int, before: int, seal: int) -> bytes:
    """The record that ends a stream."""
    payload = _END.pack(rows, elements, before)
    return Record(END, 0, 0, chunks, 0, len(payload), crc32c(payload), 0).to_bytes(seal) + payload


def finish(header: Header, record: Record, payload: bytes) -> Header:
    """The header of a stream, completed by its last record."""
    if crc32c(payload) != record.payload:
        raise ChecksumError("the end record is damaged: its checksum does not match")
    if len(payload) != _END.size:
        raise CorruptDataError("the end of the stream cannot be read")
    rows, elements, before = _END.unpack(payload)
    if before != record.at - HEAD_SIZE:
        raise TruncatedDataError(f"the stream had {before} bytes before its end; {record.at - HEAD_SIZE} are there")
    whole = replace(header, shape=(rows, *header.shape[1:]), total=before + HEAD_SIZE + len(payload))
    if whole.size != elements or record.number != whole.chunks:
        raise CorruptDataError(f"the stream ends after {elements} elements; its shape {whole.shape} holds others")
    return whole


def header_size(start: bytes) -> int:
    """Bytes of the header that begins with these (`HEADER.size` of them, or fewer where there are no more)."""
    if not start or start[:4] != MAGIC[: len(start[:4])]:
        raise NotOurDataError(f"not compressed by density: the data begin with {bytes(start[:4])!r}, not {MAGIC!r}")
    if len(start) > 4 and start[4] > VERSION:
        raise UnknownVersionError(f"container of version {start[4]}; this release reads versions 0 to {VERSION}")
    if len(start) < 5 or (start[4] and len(start) < HEADER.size):
        raise TruncatedDataError(f"{len(start)} bytes are too few even for a header")
    return HEADER.unpack_from(start)[7] if start[4] else 0


def read_header(data: bytes) -> Header:
    """The header that is these bytes, checked before anything in it is believed."""
    size = header_size(data[: HEADER.size])
    if size != len(data) or size < HEADER.size + 4:
        raise TruncatedDataError(f"the header has {size} bytes, of which {len(data)} are there")
    if crc32c(data[:-4]) != seal_of(data):
        raise ChecksumError("the checksum of the header does not match: some byte was changed")
    _, _, flags, mode, ndim, axis, length, _, total, step, chunk = HEADER.unpack_from(data)
    dtype = DTYPES.get(data[HEADER.size : HEADER.size + length].decode("latin-1"))
    if (
        size != HEADER.size + length + 8 * ndim + 4 or dtype is None or dtype.kind not in FITS.get(mode, "")
        or ndim > 64 or not 1 <= chunk <= MOST_CHUNK or flags > 1 or (axis != NO_AXIS and (axis >= ndim or flags))
        or (flags and not ndim) or not (mode != STEPS or 0 < step < np.inf)
    ):  # fmt: skip
        raise CorruptDataError("the header describes no array that compress could have made")
    shape = struct.unpack_from(f"<{ndim}Q", data, HEADER.size + length)
    header = Header(mode, dtype, shape, step, chunk, None if axis == NO_AXIS else axis, total, bool(flags))
    if header.size >= 1 << 63:
        raise CorruptDataError(f"the header asks for an array of shape {shape}, which no machine addresses")
    return header


def walk(blob, at: int, seal: int) -> Iterator[Record]:
    """The records from a place to the end of the data; TruncatedDataError or ChecksumError where one is not whole."""
    number = 0
    while at < len(blob):
        if at + HEAD_SIZE > len(blob):
            raise TruncatedDataError(f"the data end inside the head of a record, after {number} chunks")
        record = Record.from_bytes(bytes(blob[at : at + HEAD_SIZE]), seal, at + HEAD_SIZE)
        if record is None:
            raise ChecksumError(f"the record at byte {at}, after {number} chunks, has a damaged head")
        at += HEAD_SIZE
        if at + record.size > len(blob):
            raise TruncatedDataError(
                f"{name_of(record)} has {record.size} bytes, of which {max(0, len(blob) - at)} are there"
            )
        yield record
        at += record.size
        number += record.kind in (CODED, STORED)


def name_of(record: Record) -> str:
    """What an error calls a record."""
    if record.kind in (CODED, STORED):
        return f"chunk {record.number}"
    return f"model {record.number}" if record.kind == MODEL else "the end record"


def parse(blob) -> tuple[Header, dict[int, Record], list[Record]]:
    """Header, models by their number, and chunks in order, of a whole container."""
    start = bytes(blob[: HEADER.size])
    size = header_size(start)
    if len(blob) < size:
        raise TruncatedDataError(f"the header has {size} bytes, of which {len(blob)} are there")
    head = bytes(blob[:size])
    header = read_header(head)
    if not header.streamed and header.total != len(blob):
        raise TruncatedDataError(f"the header promises {header.total} bytes; got {len(blob)}")
    models, chunks, end = {}, [], None
    for record in walk(blob, size, seal_of(head)):
        if end is not None:
            raise TruncatedDataError(f"{len(blob) - end.at - end.size} bytes follow the end of the stream")
        if record.kind == MODEL:
            if record.number in models:
                raise CorruptDataError(f"model {record.number} occurs twice")
            models[record.number] = record
        elif record.kind in (CODED, STORED):
            if record.number != len(chunks):
                raise CorruptDataError(f"chunk {len(chunks)} is missing: chunk {record.number} stands in its place")
            chunks.append(record)
        elif record.kind == END and header.streamed:
            end = record
        else:
            raise CorruptDataError(f"a record of the unknown kind {record.kind}")
    if header.streamed:
        if end is None:
            raise TruncatedDataError(
                f"the stream has no end after {len(chunks)} whole chunks: its writer was interrupted; "
                "CompressedReader.salvage() reads what is there"
            )
        header = finish(header, end, bytes(blob[end.at : end.at + end.size]))
    if len(chunks) != header.chunks:
        raise CorruptDataError(f"{header.chunks} chunks belong to the shape {header.shape}; {len(chunks)} are there")
    for record in chunks:
        check_count(header, record)
    return header, models, chunks


def check_count(header: Header, record: Record) -> None:
    """A chunk must hold as many elements as its place in the array says."""
    if record.count != header.count(record.number):
        raise CorruptDataError(
            f"{name_of(record)} holds {record.count} elements; {header.count(record.number)} belong there"
        )
