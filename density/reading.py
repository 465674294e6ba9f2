"""Containers read from files chunk by chunk; of a damaged one, what is whole, and what is missing by name."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from .chunks import decode_chunk, read_model
from .coding import check_limit, shaped
from .container import (
    CODED,
    END,
    HEAD_SIZE,
    HEADER,
    MARK,
    MODEL,
    STORED,
    Header,
    Record,
    check_count,
    finish,
    header_size,
    name_of,
    read_header,
    seal_of,
)
from .errors import CorruptDataError, TruncatedDataError, UnknownVersionError
from .rans import FrequencyTables

_PIECE = 1 << 20  # bytes asked for at once, so that a forged length takes no memory that the file does not fill
_LIMIT = 1 << 30


@dataclass(frozen=True, eq=False)
class Salvage:
    """What was whole in a file, and what was not.

    chunks : (number, elements) in order of their place;  missing : a sentence for each thing that could not be read;
    complete : whether the array is all there;  header : dtype, step, elements a chunk.
    """

    chunks: list[tuple[int, np.ndarray]]
    missing: tuple[str, ...]
    complete: bool
    header: Header

    def array(self) -> np.ndarray:
        """The elements of the whole chunks, one after another, as a vector."""
        parts = [part for _, part in self.chunks]
        whole = np.concatenate(parts) if parts else np.zeros(0, self.header.dtype)
        return whole.astype(self.header.dtype, copy=False)


class CompressedReader:
    """Read a container from a file, chunk by chunk.

    Iterating gives vectors of elements and raises at the first thing that is wrong; `read` gives the array; `salvage`
    gives every whole chunk of a damaged or interrupted file.

    Parameters
    ----------
    file : open for binary reading, of version 1; it is not closed. It need not be seekable, and its reads may be short.
    max_bytes : the most that the decoded array may take; None for 1 GiB.

    Examples
    --------
    >>> import io, numpy as np, density as ds
    >>> file = io.BytesIO(ds.compress(np.arange(10), chunk=4))
    >>> [part.tolist() for part in ds.CompressedReader(file)]
    [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    """

    def __init__(self, file, *, max_bytes: int | None = None) -> None:
        self._file, self._at = file, 0
        self._limit = _LIMIT if max_bytes is None else int(max_bytes)
        start = self._take(HEADER.size)
        size = header_size(start)
        if len(start) > 4 and start[4] == 0:
            raise UnknownVersionError("container of version 0, which has no records; call density.decompress")
        head = start + self._take(size - len(start))
        self.header = read_header(head)
        self._seal = seal_of(head)
        check_limit(self.header, min(self.header.size, self.header.chunk), self._limit)
        self._models: dict[int, FrequencyTables] = {}
        self._used = False

    @property
    def dtype(self) -> np.dtype:
        """Of the elements."""
        return self.header.dtype

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self._models.clear()

    def __iter__(self) -> Iterator[np.ndarray]:
        self._begin()
        chunks = elements = 0
        while True:
            record = self._next(chunks)
            if record is None:
                break
            payload = self._payload(record)
            if record.kind == MODEL:
                self._learn(record, payload)
            elif record.kind == END and self.header.streamed:
                self.header = finish(self.header, record, payload)
                break
            elif record.kind in (CODED, STORED):
                if record.number != chunks:
                    raise CorruptDataError(f"chunk {chunks} is missing: chunk {record.number} stands in its place")
                part = self._decoded(record, payload)
                elements += part.size
                chunks += 1
                check_limit(self.header, elements, self._limit)
                yield part.astype(self.header.dtype, copy=False)
            else:
                raise CorruptDataError(f"a record of the unknown kind {record.kind}")
        if elements != self.header.size:
            raise TruncatedDataError(f"{self.header.size} elements belong to the array; {elements} are there")
        if self._take(1):
            raise TruncatedDataError("bytes follow the end of the array")

    def read(self) -> np.ndarray:
        """The array."""
        parts = list(self)
        flat = np.concatenate(parts) if parts else np.zeros(0, self.header.dtype)
        return shaped(flat, self.header, self.header.shape)

    def salvage(self) -> Salvage:
        """Every whole chunk, and a sentence for each thing that is missing. The file must fit into memory."""
        self._begin()
        data, missing = self._rest(), []
        found: dict[int, np.ndarray] = {}
        at, base, end, taken = 0, self._at - len(data), None, 0
        while at < len(data):
            record = Record.from_bytes(data[at : at + HEAD_SIZE], self._seal)
            if record is None:
                skipped = self._to_next_record(data, at) - at
                missing.append(f"{skipped} bytes from byte {base + at} on are no record")
                at += skipped
                continue
            at += HEAD_SIZE
            record = replace(record, at=base + at)
            payload = data[at : at + record.size]
            try:
                if end is not None:
                    raise CorruptDataError(f"{name_of(record)} follows the end of the stream")
                if len(payload) < record.size:
                    raise TruncatedDataError(f"{name_of(record)} is cut off")
                if record.kind == END and self.header.streamed:
                    self.header, end = finish(self.header, record, payload), record
                elif record.kind == MODEL:
                    self._learn(record, payload)
                elif record.kind in (CODED, STORED) and record.number > max(found, default=-1):
                    part = self._decoded(record, payload)
                    taken += part.size
                    check_limit(self.header, taken, self._limit)
                    found[record.number] = part
                else:
                    raise CorruptDataError(f"{name_of(record)} is out of its place")
                at += record.size
            except CorruptDataError as error:
                missing.append(str(error))
                at = self._past_damage(data, at, record.size)
        last = self.header.chunks
        if self.header.streamed and end is None:
            missing.append("the end of the stream is missing: its writer was interrupted")
            last = max(found, default=-1) + 1
        if not self.header.streamed and self.header.total != base + len(data):
            missing.append(f"the header promises {self.header.total} bytes; {base + len(data)} are there")
        missing += _gaps(found, last)
        chunks = [(number, found[number].astype(self.header.dtype, copy=False)) for number in sorted(found)]
        if not missing:
            try:
                shaped(
                    np.concatenate([np.zeros(0, self.dtype), *(part for _, part in chunks)]),
                    self.header,
                    self.header.shape,
                )
            except CorruptDataError as error:
                missing.append(str(error))
        return Salvage(chunks, tuple(missing), not missing, self.header)

    def _to_next_record(self, data: bytes, at: int) -> int:
        """Where the next whole head of a record begins, or the end."""
        at = data.find(MARK, at + 1)
        while at >= 0 and Record.from_bytes(data[at : at + HEAD_SIZE], self._seal) is None:
            at = data.find(MARK, at + 1)
        return at if at >= 0 else len(data)

    def _past_damage(self, data: bytes, at: int, size: int) -> int:
        """Where to go on after a damaged record: behind it if a record or the end is there, else where one begins."""
        end = at + size
        if end == len(data) or Record.from_bytes(data[end : end + HEAD_SIZE], self._seal) is not None:
            return end
        return self._to_next_record(data, at - 1)

    def _begin(self) -> None:
        if self._used:
            raise ValueError("the file has been read; open it again")
        self._used = True

    def _next(self, chunks: int) -> Record | None:
        head = self._take(HEAD_SIZE)
        if not head and not self.header.streamed:
            return None
        if len(head) < HEAD_SIZE:
            raise TruncatedDataError(
                f"the stream ends after {chunks} whole chunks, before its end: the writer was interrupted; "
                "salvage() reads what is there"
            )
        record = Record.from_bytes(head, self._seal)
        if record is None:
            raise CorruptDataError(f"the record after {chunks} whole chunks has a damaged head")
        return replace(record, at=self._at)

    def _payload(self, record: Record) -> bytes:
        payload = self._take(record.size)
        if len(payload) < record.size:
            raise TruncatedDataError(f"{name_of(record)} has {record.size} bytes, of which {len(payload)} are there")
        return payload

    def _learn(self, record: Record, payload: bytes) -> None:
        if record.number in self._models:
            raise CorruptDataError(f"model {record.number} occurs twice")
        self._models[record.number] = read_model(record, payload)

    def _decoded(self, record: Record, payload: bytes) -> np.ndarray:
        header = self.header
        if not header.streamed:
            if record.number >= header.chunks:
                raise CorruptDataError(f"{name_of(record)} lies behind the end of the array")
            check_count(header, record)
        elif not 1 <= record.count <= header.chunk:
            raise CorruptDataError(
                f"{name_of(record)} holds {record.count} elements; at most {header.chunk} belong there"
            )
        check_limit(header, record.count, self._limit)
        return decode_chunk(header, record, payload, self._models.get(record.model))

    def _take(self, size: int) -> bytes:
        """Up to `size` bytes: fewer only where the file ends."""
        pieces, left = [], size
        while left > 0:
            piece = self._file.read(min(left, _PIECE))
            if not piece:
                break
            pieces.append(piece)
            left -= len(piece)
        data = b"".join(pieces)
        self._at += len(data)
        return data

    def _rest(self) -> bytes:
        pieces = []
        while piece := self._take(_PIECE):
            pieces.append(piece)
        return b"".join(pieces)


def _gaps(found, last: int) -> list[str]:
    """A sentence for each run of chunks that are not there."""
    sentences, begin = [], 0
    for number in [*sorted(n for n in found if n < last), last]:
        if number == begin + 1:
            sentences.append(f"chunk {begin} is missing")
        elif number > begin:
            sentences.append(f"chunks {begin} to {number - 1} are missing")
        begin = number + 1
    return sentences
