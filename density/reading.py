"""Containers read from files chunk by chunk; of a damaged one, what is whole, and what is missing by name."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from .chunks import decode_chunk, read_model
from .coding import check_limit, shaped
from .container import (
    CODED,
    END,
    HEAD_SIZE,
    HEADER,
    MODEL,
    STORED,
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
from .salvage import Salvage, Sentences, gaps, walk_damaged
from .window import Window

_PIECE = 1 << 20  # bytes asked for at once, so that a forged length takes no memory that the file does not fill
_LIMIT = 1 << 30


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
        self._seal, self._header_end = seal_of(head), len(head)
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
        short = ""
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
                if short:
                    raise CorruptDataError(short)
                part = self._decoded(record, payload)
                if part.size < self.header.chunk:  # only the last one may be
                    short = f"chunk {chunks} holds {part.size} elements; {self.header.chunk} belong there"
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

    def salvage(self, each: Callable[[int, np.ndarray], object] | None = None) -> Salvage:
        """Every whole chunk, and a sentence for each thing that is missing.

        Parameters
        ----------
        each : is called with number and elements of every whole chunk, which are then forgotten: a file of any length
            is salvaged in the memory of one chunk. Without it they are kept, up to `max_bytes`.
        """
        self._begin()
        missing, window = Sentences(), Window(self._take, self._at, _PIECE)
        kept: list[tuple[int, np.ndarray]] = []
        counts: dict[int, int] = {}
        latest, taken, ended = -1, 0, False

        def use(record: Record, payload: bytes) -> None:
            nonlocal latest, taken, ended
            if ended:
                raise CorruptDataError(f"{name_of(record)} follows the end of the stream")
            if record.kind == END and self.header.streamed:
                self.header, ended = finish(self.header, record, payload), True
            elif record.kind == MODEL:
                self._learn(record, payload)
            elif record.kind in (CODED, STORED) and record.number > latest:
                part = self._decoded(record, payload).astype(self.header.dtype, copy=False)
                latest = record.number
                if each is None:
                    check_limit(self.header, taken + part.size, self._limit)
                    taken += part.size
                    kept.append((record.number, part))
                else:
                    each(record.number, part)
                counts[record.number] = part.size
            else:
                raise CorruptDataError(f"{name_of(record)} is out of its place")

        end = walk_damaged(window, self._header_end, self.header, self._seal, use, missing)
        last = self.header.chunks
        if self.header.streamed and not ended:
            missing.add("the end of the stream is missing: its writer was interrupted")
            last = latest + 1
        if not self.header.streamed and self.header.total != end:
            missing.add(f"the header promises {self.header.total} bytes; {end} are there")
        for sentence in gaps(counts, last):
            missing.add(sentence)
        for number, count in counts.items():
            belong = self.header.count(number) if number < self.header.chunks else self.header.chunk
            if count != belong and (ended or number < latest):
                missing.add(f"chunk {number} holds {count} elements; {belong} belong there")
        if not missing and self.header.size == 0:
            try:
                shaped(np.zeros(0, self.dtype), self.header, self.header.shape)
            except CorruptDataError as error:
                missing.add(str(error))
        return Salvage(kept, missing.all(), not missing, self.header, counts)

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
