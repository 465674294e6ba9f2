"""What is whole in a damaged or interrupted file, in memory of one chunk, and the name of what is not."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .container import CODED, END, HEAD_SIZE, MARK, MODEL, STORED, Header, Record, name_of
from .errors import CorruptDataError, TruncatedDataError
from .window import Window

_MOST_SENTENCES = 1000
_MOST_MODEL = 1 << 26  # bytes of a model, far above what a writer makes


@dataclass(frozen=True, eq=False)
class Salvage:
    """What was whole in a file, and what was not.

    chunks : (number, elements) in order of their place, none where they went to ``each``;  counts : elements by number
    of the chunk;  missing : a sentence for each thing that could not be read;  complete : whether the array is all
    there;  header : dtype, step, elements a chunk.
    """

    chunks: list[tuple[int, np.ndarray]]
    missing: tuple[str, ...]
    complete: bool
    header: Header
    counts: dict[int, int]

    def array(self) -> np.ndarray:
        """The elements of the whole chunks, one after another, as a vector."""
        parts = [part for _, part in self.chunks]
        whole = np.concatenate(parts) if parts else np.zeros(0, self.header.dtype)
        return whole.astype(self.header.dtype, copy=False)


class Sentences:
    """What is missing, as far as a person would read it: a forged file could have a fault every 36 bytes."""

    def __init__(self) -> None:
        self._kept: list[str] = []
        self._more = 0

    def __len__(self) -> int:
        return len(self._kept) + self._more

    def add(self, sentence: str) -> None:
        if len(self._kept) < _MOST_SENTENCES:
            self._kept.append(sentence)
        else:
            self._more += 1

    def all(self) -> tuple[str, ...]:
        return (*self._kept, *([f"and {self._more} things more"] if self._more else []))


def walk_damaged(
    window: Window, at: int, header: Header, seal: int, use: Callable[[Record, bytes], None], missing: Sentences
) -> int:
    """Call `use` with every record whose head is whole; after damage, go on at the next one. Returns the end.

    What `use` raises of a CorruptDataError becomes a sentence. The window holds one record and a piece of the file.
    """
    while True:
        window.forget(at)
        head = window.read(at, HEAD_SIZE)
        if not head:
            return at
        record = Record.from_bytes(head, seal, at + HEAD_SIZE)
        if record is None:
            begin, at = at, _next_record(window, at + 1, seal)
            missing.add(f"{at - begin} bytes from byte {begin} on are no record")
            continue
        end = record.at + record.size
        try:
            if not _plausible(record, header):
                end = record.at  # whatever follows is no payload of this length, and is not read to find that out
                raise CorruptDataError(f"{name_of(record)} claims {record.size} bytes for {record.count} elements")
            payload = window.read(record.at, record.size)
            if len(payload) < record.size:
                raise TruncatedDataError(f"{name_of(record)} is cut off")
            use(record, payload)
            at = end
        except CorruptDataError as error:
            missing.add(str(error))
            follows = window.read(end, HEAD_SIZE)
            whole = (not follows and window.end == end) or Record.from_bytes(follows, seal) is not None
            at = end if whole else _next_record(window, record.at, seal)


def gaps(found, last: int) -> list[str]:
    """A sentence for each run of chunks that are not there."""
    sentences, begin = [], 0
    for number in [*sorted(n for n in found if n < last), last]:
        if number == begin + 1:
            sentences.append(f"chunk {begin} is missing")
        elif number > begin:
            sentences.append(f"chunks {begin} to {number - 1} are missing")
        begin = number + 1
    return sentences


def _next_record(window: Window, at: int, seal: int) -> int:
    """Where the next whole head of a record begins, or the end of the file."""
    while True:
        at = window.find(MARK, at)
        head = window.read(at, HEAD_SIZE)
        if not head or Record.from_bytes(head, seal) is not None:
            return at
        at += 1


def _plausible(record: Record, header: Header) -> bool:
    """Whether a writer makes payloads of this length: a chunk is stored rather than coded at more than its elements."""
    if record.kind in (CODED, STORED):
        return record.count <= header.chunk and record.size <= record.count * header.dtype.itemsize
    return record.size <= (_MOST_MODEL if record.kind == MODEL else HEAD_SIZE if record.kind == END else 0)
