"""Containers written to files as the data come, chunk by chunk; what was interrupted can be seen and read."""

import numpy as np

from ._threads import resolve_workers, thread_map
from .checksum import crc32c
from .chunks import Part, encode_chunk, model_payload
from .coding import CHUNK, checked_chunk, mode_of
from .container import HEAD_SIZE, MODEL, Header, Record, end_record, seal_of
from .counting import count_values
from .rans import FrequencyTables
from .tables import Table, choose, cost

_MOST_MODELS = 1 << 16


class CompressedWriter:
    """Write an array to a file as it comes, one whole chunk after another.

    A chunk takes the tables of the chunks before it, or brings its own where that saves bytes. The file is complete
    when `close` returns; leaving the ``with`` block by an exception leaves it visibly interrupted. What had been
    written by then can be read by `CompressedReader.salvage`.

    Parameters
    ----------
    file : open for binary writing; it is not closed. Writes that take only a part are continued.
    dtype : of the elements.
    step, lossless, chunk : as for `compress`.
    row : shape of what one index of the first axis holds; () for a vector.
    workers : threads over the chunks that one call of `write` completes, None for all cores; the bytes do not depend
        on it. No chunk waits for others.

    Raises
    ------
    OSError : the file does not take the bytes. The writer refuses every later call.

    Examples
    --------
    >>> import io, numpy as np, density as ds
    >>> file = io.BytesIO()
    >>> with ds.CompressedWriter(file, np.int16, row=(3,)) as writer:
    ...     for i in range(4):
    ...         writer.write(np.full((2, 3), i, np.int16))
    >>> ds.decompress(file.getvalue()).shape
    (8, 3)
    """

    def __init__(
        self,
        file,
        dtype,
        step=None,
        *,
        lossless: bool = False,
        row=(),
        chunk: int = CHUNK,
        workers: int | None = 1,
    ) -> None:
        dtype = np.dtype(dtype)
        mode, step = mode_of(dtype, step, lossless)
        row = tuple(int(extent) for extent in row)
        if any(extent < 1 for extent in row):
            raise ValueError(f"row={row} holds no elements; pass extents >= 1")
        self._header = Header(mode, dtype, (0, *row), step, checked_chunk(chunk), streamed=True)
        self._file, self._workers = file, resolve_workers(workers)
        self._waiting: list[np.ndarray] = []
        self._held = self._elements = self._chunks = self._models = self._written = 0
        self._tables: FrequencyTables | None = None
        self._state = "open"
        head = self._header.to_bytes()
        self._seal = seal_of(head)
        self._put(head)

    def write(self, rows) -> None:
        """Append rows: an array of shape (n, *row)."""
        self._check_open()
        rows = np.asarray(rows)
        if rows.dtype != self._header.dtype or rows.shape[1:] != self._header.shape[1:] or not rows.ndim:
            raise ValueError(
                f"rows are {rows.dtype} of shape {rows.shape}; this stream takes {self._header.dtype} of shape "
                f"(n, {', '.join(map(str, self._header.shape[1:]))})"
            )
        self._waiting.append(np.array(rows).reshape(-1))
        self._held += rows.size
        if self._held >= self._header.chunk:
            flat = np.concatenate(self._waiting)
            whole = len(flat) - len(flat) % self._header.chunk
            self._waiting, self._held = [flat[whole:].copy()], len(flat) - whole
            chunk = self._header.chunk
            self._put_chunks([flat[at : at + chunk] for at in range(0, whole, chunk)])

    def close(self) -> None:
        """Write what is left and the end of the stream."""
        if self._state == "closed":
            return
        self._check_open()
        if self._held:
            self._put_chunks([np.concatenate(self._waiting)])
        row = 1
        for extent in self._header.shape[1:]:
            row *= extent
        self._put(end_record(self._elements // row, self._elements, self._chunks, self._written, self._seal))
        self._state = "closed"

    def __enter__(self):
        return self

    def __exit__(self, kind, *_) -> None:
        if kind is None:
            self.close()
        else:
            self._state = "interrupted by an exception"

    def _check_open(self) -> None:
        if self._state != "open":
            raise ValueError(f"the writer is {self._state}; begin a new file")

    def _put_chunks(self, chunks: list[np.ndarray]) -> None:
        """Count and code by several threads, decide about tables and write in order, so many chunks at a time."""
        for at in range(0, len(chunks), self._workers):
            some = chunks[at : at + self._workers]
            counted = thread_map(self._counted, some, self._workers)
            jobs = [self._job(*found) for found in counted]
            coded = thread_map(lambda job: encode_chunk(*job), [job for job, _ in jobs], self._workers)
            for (record, pieces), (_, model) in zip(coded, jobs):
                if model:
                    self._put(model)
                self._put(record.to_bytes(self._seal) + b"".join(pieces))
                self._elements += record.count
                flush = getattr(self._file, "flush", None)
                if flush is not None:
                    self._guard(flush)

    def _counted(self, elements: np.ndarray):
        """A chunk as integers, its own table, and how often each value occurs."""
        part = Part.of(elements, self._header.mode, self._header.step)
        values, counts, special = count_values([part.values], self._header.mode, 1)
        table = choose(values, counts, special)
        return part, table, values, counts

    def _job(self, part: Part, table: Table, values, counts):
        """What `encode_chunk` needs, and the bytes of a model to be written before it."""
        fresh, payload = table.tables, model_payload([table])
        number, model = self._chunks, b""
        self._chunks += 1
        if self._models == 0 or (self._models < _MOST_MODELS and self._dearer(fresh, payload, part, values, counts)):
            if cost(fresh, values, counts) / 8 + part.beside.size >= part.elements.nbytes:  # noise, which is stored
                return (part, None, None, number, 0), b""
            head = Record(MODEL, 0, 0, self._models, 1, len(payload), crc32c(payload), 0)
            model = head.to_bytes(self._seal) + payload
            self._tables = fresh
            self._models += 1
        return (part, self._tables, None, number, self._models - 1), model

    def _dearer(self, fresh, payload: bytes, part: Part, values, counts) -> bool:
        """Whether the last table costs more than a new one with its own bytes."""
        if self._tables is None:
            return True
        odd = part.values.size - int(counts.sum())  # special values cost about the same in both
        mine = cost(fresh, values, counts) + 8 * (len(payload) + HEAD_SIZE)
        return cost(self._tables, values, counts) + 40.0 * odd > mine

    def _put(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            taken = self._guard(lambda view=view: self._file.write(view))
            if not taken:
                self._state = "broken: the file took no more bytes"
                raise OSError(f"the file took none of {len(view)} bytes, after {self._written} bytes")
            view = view[taken:]
            self._written += taken

    def _guard(self, call):
        try:
            return call()
        except BaseException:
            self._state = "broken: the file refused its bytes"
            raise
