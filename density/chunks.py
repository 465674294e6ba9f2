"""One chunk of a container: elements to a record's payload and back, every check included."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from . import rans
from .checksum import crc32c
from .container import CODED, STORED, Header, Record, name_of
from .errors import ChecksumError, CorruptDataError, TruncatedDataError
from .fourier_table import FIRST_BYTE, FourierTable
from .integers import from_integers, integers_of, to_integers, wire
from .rans import FrequencyTables
from .tables import Table
from .varint import read_varint, varint

MOST_SYMBOLS = 1 << 23  # of all tables of a model together; what a reader takes memory for
_LONGEST_PATTERN = 1 << 20
_SMALL, _MOST_REMEMBERED = 1 << 17, 64  # bytes of tables that are kept: 8 MiB in all, whatever the data say
_SLACK = 0.02  # bits a symbol by which the growth of a state >= 2^32 can fall short of log2(2^24 / f): two floors
_remembered: dict[tuple[int, bytes], FrequencyTables] = {}  # who reads a file row by row meets the same model each time


@dataclass(frozen=True)
class Part:
    """A chunk as integers: what the coder sees, what goes beside it, and the elements that will be decoded."""

    values: np.ndarray
    beside: np.ndarray
    elements: np.ndarray

    @classmethod
    def of(cls, elements: np.ndarray, mode: int, step: float) -> "Part":
        """The chunk that holds these elements."""
        values, beside, decoded = to_integers(elements, mode, step)
        return cls(values, beside, wire(decoded))


def contexts_of(header: Header, start: int, count: int) -> np.ndarray | None:
    """The table of each element: its place along the axis of the models."""
    if header.axis is None:
        return None
    inner = 1
    for extent in header.shape[header.axis + 1 :]:
        inner *= extent
    channels = header.shape[header.axis]
    period = channels * inner
    if period > _LONGEST_PATTERN:
        return np.arange(start, start + count) // inner % channels
    pattern, begin = np.repeat(np.arange(channels, dtype=np.int32), inner), start % period  # no division an element
    return np.tile(pattern, -(-(begin + count) // period))[begin : begin + count]


def model_payload(models: Sequence[Table | FourierTable]) -> bytes:
    """The tables of a model, each with its length before it."""
    stored = [model.to_bytes() for model in models]
    return b"".join(varint(len(s)) + s for s in stored)


def read_model(record: Record, payload: bytes) -> FrequencyTables:
    """The tables that a model's payload stands for."""
    if crc32c(payload) != record.payload:
        raise ChecksumError(f"{name_of(record)} is damaged: its checksum does not match")
    tables = _remembered.get((record.count, payload))
    if tables is None:
        tables = _read_model(payload, record.count, name_of(record))
        if len(payload) + tables.rows.nbytes + tables.coarse.nbytes <= _SMALL:
            if len(_remembered) >= _MOST_REMEMBERED:
                _remembered.clear()
            _remembered[record.count, payload] = tables
    return tables


def _read_model(payload: bytes, count: int, name: str) -> FrequencyTables:
    found, at, symbols = [], 0, 0
    if not 1 <= count <= len(payload):
        raise CorruptDataError(f"{name} has {count} tables in {len(payload)} bytes")
    while at < len(payload):
        size, at = read_varint(payload, at)
        if at + size > len(payload):
            raise TruncatedDataError(f"{name} ends inside a table")
        stored = payload[at : at + size]
        kind = FourierTable if stored[:1] == bytes([FIRST_BYTE]) else Table
        found.append(kind.from_bytes(stored).tables)
        at += size
        symbols += len(found[-1].frequencies)
        if symbols > MOST_SYMBOLS or len(found) > count:
            raise CorruptDataError(f"{name} has more tables or symbols than a writer makes")
    if len(found) != count:
        raise CorruptDataError(f"{name} has {len(found)} tables; {count} belong there")
    return found[0] if len(found) == 1 else FrequencyTables.stack(found)


def encode_chunk(
    part: Part, tables: FrequencyTables | None, contexts, number: int, model: int
) -> tuple[Record, list[bytes]]:
    """Head and payload of a chunk: coded if that is shorter, else stored; None for tables: stored."""
    data = crc32c(part.elements)
    count = part.values.size
    if tables is not None:
        stream = rans.encode(part.values, tables, contexts=contexts)
        if len(stream) + part.beside.size < part.elements.nbytes:
            beside = part.beside.tobytes()
            payload = crc32c(beside, crc32c(stream))
            patterns = len(beside) // part.elements.itemsize
            if patterns < 1 << 16:
                size = len(stream) + len(beside)
                return Record(CODED, model, patterns, number, count, size, payload, data), [stream, beside]
    return Record(STORED, 0, 0, number, count, part.elements.nbytes, data, data), [part.elements.tobytes()]


def decode_chunk(
    header: Header, record: Record, payload, tables: FrequencyTables | None, out: np.ndarray | None = None
) -> np.ndarray:
    """The elements of a chunk in native order, or the error that names it; `out` is where they may be written."""
    if crc32c(payload) != record.payload:
        raise ChecksumError(f"{_place(header, record)} is damaged: its checksum does not match")
    check_room(header, record, tables)
    dtype = header.dtype.newbyteorder("=")
    part = np.empty(record.count, dtype) if out is None else out
    if record.kind == STORED or tables is None:
        part[:] = np.frombuffer(payload, dtype.newbyteorder("<"))
    else:
        contexts = contexts_of(header, record.number * header.chunk, record.count)
        if contexts is not None and len(tables) != header.shape[header.axis or 0]:
            raise CorruptDataError(f"{len(tables)} tables for {header.shape[header.axis or 0]} channels")
        cut = len(payload) - record.beside * dtype.itemsize
        integers = integers_of(part, header.mode)
        try:
            rans.decode_into(integers, payload[:cut], tables, contexts=contexts)
            from_integers(integers, payload[cut:], part, header.mode, header.step)
        except CorruptDataError as error:
            raise CorruptDataError(f"{name_of(record)}: {error}") from None
    if crc32c(wire(part)) != record.data:
        raise ChecksumError(f"{_place(header, record)} decodes to other data than were encoded")
    return part


def _place(header: Header, record: Record) -> str:
    """chunk 3 of 9; the number of chunks of a stream is not known before its end."""
    return f"{name_of(record)} of {header.chunks}" if header.chunks else name_of(record)


def check_room(header: Header, record: Record, tables: FrequencyTables | None) -> None:
    """Too few bytes for so many elements are noticed before memory is taken for them."""
    if record.kind == STORED:
        if record.size != record.count * header.dtype.itemsize:
            raise CorruptDataError(f"{name_of(record)} stores {record.count} elements in {record.size} bytes")
        return
    if tables is None:
        raise CorruptDataError(f"{name_of(record)} needs model {record.model}, which is not there")
    size = record.size - record.beside * header.dtype.itemsize
    if size < 0:
        raise CorruptDataError(f"{name_of(record)} has fewer bytes than patterns need")
    cheapest = tables.precision - np.log2(int(tables.frequencies.max())) - _SLACK
    if record.count * cheapest > 8 * size + 64:
        raise CorruptDataError(f"{name_of(record)}: {size} bytes cannot hold {record.count} symbols")
