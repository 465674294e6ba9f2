"""Arrays to bytes and back, exactly, at the size of their entropy."""

import sys
from collections.abc import Callable
from dataclasses import replace
from operator import index as as_integer
from os import PathLike, fspath

import numpy as np

from ._threads import resolve_workers, thread_map
from .checksum import crc32c
from .chunks import MOST_SYMBOLS, Part, check_room, contexts_of, decode_chunk, encode_chunk, model_payload, read_model
from .container import MODEL, MOST_CHUNK, STORED, Header, Record, header_size, parse, seal_of
from .container_v0 import decompress_v0
from .counting import count_values
from .errors import CorruptDataError, LimitExceededError
from .fourier_table import FourierTable, fourier_tables
from .integers import INTEGERS, PATTERNS, SPECIAL, STEPS
from .progress import reporting
from .rans import FrequencyTables
from .tables import Table, choose, cost

CHUNK = 1 << 19
_DEFAULT_LIMIT = 1 << 30
_MOST_CHANNELS = 1 << 14


def compress(
    x,
    step=None,
    *,
    lossless: bool = False,
    model=None,
    axis: int | None = None,
    chunk: int = CHUNK,
    workers=None,
    progress: bool | Callable[[int, int], None] = False,
) -> bytes:
    """Compress an array to about its empirical entropy, ``n H = -sum_i c_i log2(c_i / n)`` bits.

    Parameters
    ----------
    x : array of any shape: integers or bool of any width, or float16, float32, float64; or a torch tensor of one of
        these on any device, which gives the same bytes.
    step : for floats, the distance of the levels ``step * k``; decoded values lie within step / 2. NaN, the infinities
        and -0.0 come back as they were; a value that no level represents that well is stored exactly.
    lossless : for floats, keep every bit instead.
    model : a FourierDensity of the values, from which the probabilities are taken instead of from their counts.
    axis : one table for each index of this axis (at most 16384) instead of one for all.
    chunk : elements coded together, at most 2^28; chunks have checksums of their own and are decoded alone.
    workers : threads over chunks, None for all cores; the bytes do not depend on it.
    progress : True for a bar on stderr, or a function of (elements done, all).

    Returns
    -------
    bytes : a container of version 1.

    Raises
    ------
    TypeError : complex numbers (compress x.real and x.imag), text, objects.
    ValueError : floats with neither step nor lossless=True, or step for integers.

    Notes
    -----
    Time O(n), and one sort where the integers span more than 2^22; memory about 30 bytes an element.

    References
    ----------
    Duda (2013), Asymmetric numeral systems, arXiv:1311.2540.

    Examples
    --------
    >>> import numpy as np, density as ds
    >>> x = np.random.default_rng(7).normal(size=10000)
    >>> blob = ds.compress(x, step=0.01)
    >>> bool(np.abs(ds.decompress(blob) - x).max() <= 0.005), x.nbytes // len(blob)
    (True, 7)
    """
    x = as_array(x)
    mode, step = mode_of(x.dtype, step, lossless)
    check_model(model, mode)
    chunk, workers = checked_chunk(chunk), resolve_workers(workers)
    if axis is not None:
        axis = _checked_axis(axis, x.shape, model)
    header = Header(mode, x.dtype, x.shape, step, chunk, axis)
    flat = np.ascontiguousarray(x).reshape(-1)
    starts = range(0, len(flat), chunk)
    parts = thread_map(lambda at: Part.of(flat[at : at + chunk], mode, step), starts, workers)
    if axis is None:
        models = [_table([p.values for p in parts], mode, step, model, workers)] if parts else []
    else:
        models = _channel_tables(parts, header, workers)
    tables = None
    if models:
        found = [m.tables for m in models]
        symbols = sum(len(t.frequencies) for t in found)
        if symbols > MOST_SYMBOLS:
            raise ValueError(f"the tables of axis {axis} have {symbols} symbols, above {MOST_SYMBOLS}; leave axis out")
        tables = found[0] if len(found) == 1 else FrequencyTables.stack(found)

    with reporting(progress, len(flat), "value") as advance:

        def code(i: int) -> tuple[Record, list[bytes]]:
            contexts = contexts_of(header, i * chunk, parts[i].values.size)
            found = encode_chunk(parts[i], tables, contexts, i, 0)
            advance(found[0].count)
            return found

        coded = thread_map(code, range(len(parts)), workers)
    payload = model_payload(models)
    if sum(record.size for record, _ in coded) + len(payload) >= flat.nbytes:  # noise, or too little for a table
        coded = [encode_chunk(part, None, None, i, 0) for i, part in enumerate(parts)]
    pieces = []
    if any(record.kind != STORED for record, _ in coded):
        pieces.append((Record(MODEL, 0, 0, 0, len(models), len(payload), crc32c(payload), 0), [payload]))
    return _joined(header, [*pieces, *coded])


def decompress(
    blob,
    index=None,
    *,
    max_bytes: int | None = None,
    workers=None,
    progress: bool | Callable[[int, int], None] = False,
) -> np.ndarray:
    """The array that `compress` took (floats with a step: within step / 2 of it), or a part of it.

    Parameters
    ----------
    blob : the bytes, or any buffer of them, such as an mmap of a file.
    index : what to return of the array, as in ``x[index]``: an integer or a slice along the first axis, alone or at the
        head of a tuple. Only the chunks that hold these rows are read. None: all of it.
    max_bytes : refuse headers that ask for more; None for 1 GiB or 1024 times len(blob), whichever is more.
    workers : threads over chunks, None for all cores; the array does not depend on it.
    progress : True for a bar on stderr, or a function of (elements done, all).

    Raises
    ------
    CorruptDataError : one of its children says what is wrong; nothing is returned from damaged bytes.

    Examples
    --------
    >>> import density as ds
    >>> blob = ds.compress([3, 1, 4, 1, 5])
    >>> ds.decompress(blob)
    array([3, 1, 4, 1, 5])
    >>> ds.decompress(blob, slice(1, 3))
    array([1, 4])
    """
    view = buffer_of(blob)
    workers = resolve_workers(workers)
    limit = max(_DEFAULT_LIMIT, 1024 * len(view)) if max_bytes is None else int(max_bytes)
    if len(view) < 5 or view[4] == 0:
        header_size(bytes(view[:5]))
        whole = decompress_v0(bytes(view), limit, workers)
        return whole if index is None else whole[index]
    header, models, chunks = parse(view)
    if index is None:
        check_limit(header, header.size, limit)
        flat = _read(view, header, models, chunks, 0, header.size, workers, progress)
        return shaped(flat, header, header.shape)
    first, rest = split_index(index, header.shape)
    rows = range(*first.indices(header.shape[0]))
    low, high = (min(rows), max(rows) + 1) if rows else (0, 0)
    inner = header.size // header.shape[0] if header.shape[0] else 0
    check_limit(header, (high - low) * inner, limit)
    flat = _read(view, header, models, chunks, low * inner, high * inner, workers, progress)
    near = shaped(flat, header, (high - low, *header.shape[1:]))
    picked = near[[row - low for row in rows]] if rows.step < 0 else near[:: rows.step]
    return picked[rest]


def as_array(x) -> np.ndarray:
    """What numpy makes of an array or of a torch tensor, whose gradient and device do not matter here."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(x, torch.Tensor):
        x = x.detach().cpu().resolve_conj().resolve_neg()
        if x.dtype == torch.bfloat16:
            raise TypeError("x is bfloat16, which numpy does not have; pass x.float() with a step")
        return x.numpy()
    return np.asarray(x)


def buffer_of(blob) -> memoryview:
    """The bytes of a container wherever they are, or the sentence that says what to pass."""
    try:
        return memoryview(blob).cast("B")
    except TypeError as error:
        what = type(blob).__name__
        if isinstance(blob, str | PathLike):
            advice = f"a {what} {str(fspath(blob))[:60]!r}; pass the bytes of the file, pathlib.Path(path).read_bytes()"
        elif hasattr(blob, "read"):
            advice = f"an open file ({what}); pass file.read(), or CompressedReader(file) to read it chunk by chunk"
        elif isinstance(blob, memoryview | np.ndarray):
            advice = f"a {what} that is not contiguous; pass bytes(blob)"
        else:
            advice = f"a {what}; expected bytes, or a buffer of them such as an mmap"
        raise TypeError(f"blob is {advice}") from error


def split_index(index, shape) -> tuple[slice, tuple]:
    """The rows that an index asks for, and the index into these rows."""
    first, *rest = index if isinstance(index, tuple) else (index,)
    if not shape:
        raise IndexError("the array has no axes; call decompress(blob) without an index")
    if isinstance(first, slice):
        return first, (slice(None), *rest)
    try:
        row = as_integer(first)
    except TypeError:
        raise TypeError(f"index begins with {first!r}; pass an integer or a slice along the first axis") from None
    if not -shape[0] <= row < shape[0]:
        raise IndexError(f"index {row} is out of bounds for the first axis of extent {shape[0]}")
    row %= shape[0]
    return slice(row, row + 1), (0, *rest)


def check_limit(header: Header, elements: int, limit: int) -> None:
    """Refuse what would take more memory than the caller allows."""
    size = elements * header.dtype.itemsize
    if size > limit:
        raise LimitExceededError(
            f"the header asks for {size} bytes, more than the limit of {limit}; pass max_bytes= if you trust the data"
        )


def shaped(flat: np.ndarray, header: Header, shape) -> np.ndarray:
    """The array of the dtype that was compressed."""
    try:
        return flat.reshape(shape).astype(header.dtype, copy=False)
    except ValueError as error:  # an empty array of extents that no address space holds
        raise CorruptDataError(f"the shape {shape} is impossible: {error}") from None


def mode_of(dtype, step, lossless: bool) -> tuple[int, float]:
    """What the integers will stand for, or the sentence that says why not."""
    if dtype.kind == "c":
        raise TypeError(f"x has dtype {dtype}; compress x.real and x.imag, each with its own step")
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise TypeError(f"x has dtype {dtype}; compress takes bool, integers and float16, float32, float64")
    if dtype.kind != "f":
        if step is not None:
            raise ValueError(f"step={step!r} is for floats; {dtype} is coded exactly, leave step out")
        return INTEGERS, 0.0
    if lossless:
        if step is not None:
            raise ValueError("lossless=True keeps every bit of the floats; leave step and model out")
        return PATTERNS, 0.0
    if step is None:
        raise ValueError(
            f"x is {dtype}: pass step= to quantise it (decoded values lie within step / 2), "
            "or lossless=True to keep every bit"
        )
    step = float(step)
    if not (np.isfinite(step) and step > 0):
        raise ValueError(f"step={step!r} is not a positive number")
    return STEPS, step


def check_model(model, mode: int) -> None:
    """A model is a density, and patterns of floats have none."""
    if model is None:
        return
    from .fourier import FourierDensity

    if not isinstance(model, FourierDensity):
        raise TypeError(f"model must be a FourierDensity, not a {type(model).__name__}")
    if mode == PATTERNS:
        raise ValueError("lossless=True keeps every bit of the floats; leave step and model out")


def checked_chunk(chunk) -> int:
    """A number of elements."""
    if chunk != int(chunk) or not 1 <= chunk <= MOST_CHUNK:
        raise ValueError(f"chunk={chunk} is not a number of elements; pass 1 <= chunk <= 2**28")
    return int(chunk)


def _checked_axis(axis, shape, model) -> int:
    axis = as_integer(axis)
    if model is not None:
        raise ValueError("axis= counts the values of each index; leave model out")
    if not -len(shape) <= axis < len(shape):
        raise ValueError(f"axis={axis} is no axis of an array of shape {shape}")
    axis %= len(shape)
    if shape[axis] > _MOST_CHANNELS:
        raise ValueError(f"axis {axis} has {shape[axis]} indices, too many for tables; at most {_MOST_CHANNELS}")
    return axis


def _table(values, mode: int, step: float, model, workers: int) -> Table | FourierTable:
    distinct, counts, special = count_values(values, mode, workers)
    if model is None or not len(distinct):
        return choose(distinct, counts, special)
    unit = step if mode == STEPS else 1.0
    best: Table | FourierTable = choose(*_expected(distinct, int(counts.sum()), model, unit), special)
    odd = np.flatnonzero(special)
    occurring, times = np.append(distinct, SPECIAL + odd), np.append(counts, special[odd])

    def size(table: Table | FourierTable) -> float:
        return cost(table.tables, occurring, times) + 8 * len(table.to_bytes())

    least = size(best)
    for table in fourier_tables(model, unit):
        try:
            bits = size(table)
        except ValueError:  # beyond 64 bits
            continue
        if bits < least:
            best, least = table, bits
    return best


def _channel_tables(parts: list[Part], header: Header, workers: int) -> list[Table | FourierTable]:
    axis = header.axis or 0
    inner = 1
    for extent in header.shape[axis + 1 :]:
        inner *= extent
    if not parts:
        return []
    whole = np.concatenate([part.values for part in parts]).reshape(-1, header.shape[axis], inner)

    def one(channel: int) -> Table | FourierTable:
        return _table([np.ascontiguousarray(whole[:, channel]).reshape(-1)], header.mode, header.step, None, 1)

    return thread_map(one, range(header.shape[axis]), workers)


def _expected(distinct, n: int, model, unit: float):
    """Counts that the model expects for the values that occur, filled up to a gapless range where that is short."""
    span = int(distinct[-1]) - int(distinct[0]) + 1
    if span <= 1 << 16:
        distinct = distinct[0] + np.arange(span)
    lower, upper = (distinct - 0.5) * unit, (distinct + 0.5) * unit
    mass = np.where(lower > model.ppf(0.5), model.sf(lower) - model.sf(upper), model.cdf(upper) - model.cdf(lower))
    return distinct, np.maximum(n * mass, 1.0)


def _joined(header: Header, records) -> bytes:
    """Header and records; the length of all is in the header."""
    size = len(header.to_bytes()) + sum(32 + record.size for record, _ in records)
    head = replace(header, total=size).to_bytes()
    seal = seal_of(head)
    return b"".join([head, *(piece for record, payload in records for piece in (record.to_bytes(seal), *payload))])


def _read(view: memoryview, header: Header, models, chunks, low: int, high: int, workers: int, progress) -> np.ndarray:
    """Elements low .. high - 1, of native byte order."""
    wanted = chunks[low // header.chunk : -(-high // header.chunk)] if high > low else []
    tables: dict[int, FrequencyTables] = {}
    for number in sorted({record.model for record in wanted if record.kind != STORED}):
        if number not in models:
            raise CorruptDataError(f"model {number} is missing")
        record = models[number]
        tables[number] = read_model(record, bytes(view[record.at : record.at + record.size]))

    for record in wanted:
        check_room(header, record, tables.get(record.model))
    start = wanted[0].number * header.chunk if wanted else 0
    flat = np.empty(sum(record.count for record in wanted), header.dtype.newbyteorder("="))
    with reporting(progress, flat.size, "value") as advance:

        def part(record: Record) -> None:
            payload = view[record.at : record.at + record.size]
            begin = record.number * header.chunk - start
            decode_chunk(header, record, payload, tables.get(record.model), flat[begin : begin + record.count])
            advance(record.count)

        thread_map(part, wanted, workers)
    near = flat[low - start : high - start]
    return near if 2 * near.size > flat.size else near.copy()  # a row must not keep its chunk in memory
