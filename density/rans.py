"""Entropy coding with integer frequency tables: interleaved 64-bit rANS.

Within a part in 10^4 of the cross-entropy at 24 bits of precision, the same bytes for any number of threads, and a
decoder that answers any input with values or with a status. `_rans_kernels` describes the arithmetic and the layout.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import index
from typing import Any

import numpy as np

from . import _rans_kernels as kernels
from ._threads import resolve_workers, thread_map
from .errors import CorruptDataError

ESCAPE = kernels.ESCAPE
MAX_PRECISION = 24
CHUNK = 2**20
_ALONE = 2**15  # streams shorter than this have one lane: three states less to store
_LOOKUP = 2**20  # entries of the look-up of all tables together


class StreamStatus(enum.Enum):
    """How a decoded stream ended; the value is what the user reads."""

    OK = "The stream was decoded to its end."
    TRUNCATED = "The stream ends before its last value: bytes are missing at its end, or some were changed."
    TRAILING = "The stream goes on after its last value: it holds more values, or bytes were added or changed."
    FINAL_STATE = "The decoder did not end where the encoder began: bytes, their number or the table changed."
    CORRUPT = "The stream holds something that no encoder writes: bytes were changed."


_STATUS = (
    StreamStatus.OK,
    StreamStatus.TRUNCATED,
    StreamStatus.TRAILING,
    StreamStatus.FINAL_STATE,
    StreamStatus.CORRUPT,
)


class StreamError(CorruptDataError):
    """A stream that cannot be decoded; `status` says why."""

    def __init__(self, status: StreamStatus, where: str = "") -> None:
        super().__init__(f"{where}{status.value}")
        self.status = status

    def __reduce__(self):
        return type(self), (self.status, str(self).removesuffix(self.status.value))


@dataclass(frozen=True, eq=False, repr=False)
class FrequencyTables:
    """One or several tables of integer frequencies over 64-bit integers, ready for the coder.

    A symbol with first value b and k raw bits stands for the values b, ..., b + 2^k - 1; its place among
    them follows in the stream as it is. Its cost is precision - log2(frequency) + k bits. A table may end with an
    escape, which stands for every value that no other symbol covers; that value follows in Exp-Golomb form, about
    8 + log2 |value| bits.

    Parameters
    ----------
    frequencies : (S,) integers >= 1; those of a table add up to 2^precision.
    first_values : (S,) int64, ascending within a table; None: 0, 1, 2, ... in each table.
    raw_bits : (S,) integers 0..64, or `ESCAPE` for the last symbol of a table; None: no raw bits.
    offsets : (T + 1,) integers, table t holds the symbols offsets[t], ..., offsets[t + 1] - 1; None: one table.
    precision : 1..24, log2 of the sum of the frequencies of a table.

    Raises
    ------
    ValueError : frequencies that do not add up, values that overlap, names the symbol.

    Complexity
    ----------
    O(S + T 2^b) time and 24 S + 4 T 2^b bytes, with b <= 14 bits of look-up a table.

    Examples
    --------
    >>> import numpy as np
    >>> from density.rans import FrequencyTables, decode, encode
    >>> tables = FrequencyTables([9, 4, 2, 1], first_values=[-1, 0, 1, 2], precision=4)
    >>> data = encode(np.array([0, -1, -1, 2]), tables)
    >>> decode(data, 4, tables)
    array([ 0, -1, -1,  2])
    """

    frequencies: np.ndarray
    first_values: np.ndarray | None = None
    raw_bits: np.ndarray | None = None
    offsets: np.ndarray | None = None
    precision: int = MAX_PRECISION
    rows: np.ndarray = field(init=False)
    shape: np.ndarray = field(init=False)
    coarse: np.ndarray = field(init=False)
    bits: int = field(init=False)

    def __post_init__(self) -> None:
        precision = _integer(self.precision, "precision", 1, MAX_PRECISION)
        frequencies = _vector(self.frequencies, "frequencies", np.uint32)
        count = frequencies.size
        offsets = np.array([0, count]) if self.offsets is None else _vector(self.offsets, "offsets", np.int64)
        if offsets.size < 2 or offsets[0] != 0 or offsets[-1] != count or (np.diff(offsets) < 1).any():
            raise ValueError(f"offsets must rise from 0 to the {count} symbols, step by table; got {_short(offsets)}")
        lengths = np.diff(offsets)
        if self.first_values is None:
            first_values = np.arange(count) - np.repeat(offsets[:-1], lengths)
        else:
            first_values = _vector(self.first_values, "first_values", np.int64)
        raw_bits = np.zeros(count, np.uint8) if self.raw_bits is None else self.raw_bits
        raw_bits = _vector(raw_bits, "raw_bits", np.uint8)
        if not first_values.size == raw_bits.size == count:
            sizes = f"{count} frequencies, {first_values.size} first_values and {raw_bits.size} raw_bits"
            raise ValueError(f"{sizes}: they must be equally many, one for each symbol")

        tables = offsets.size - 1
        # 32 slots of the look-up a symbol: mostly one candidate, and few mispredictions
        bits = min(precision, 14, max(6, int(lengths.max()).bit_length() + 5))
        while bits > 0 and tables << bits > _LOOKUP:
            bits -= 1
        rows = np.empty((3, count + tables), np.uint64)
        shape = np.empty((tables, len(kernels.SHAPE)), np.int64)
        coarse = np.empty(tables << bits, np.uint32)
        fault, table, where = kernels.prepare(
            frequencies, first_values, raw_bits, offsets, precision, bits, rows, shape, coarse
        )
        if fault:
            raise ValueError(_fault(fault, table, where, frequencies, offsets, raw_bits, precision))
        made = {
            "precision": precision,
            "frequencies": frequencies,
            "first_values": first_values,
            "raw_bits": raw_bits,
            "offsets": offsets,
            "rows": rows,
            "shape": shape,
            "coarse": coarse,
            "bits": bits,
        }
        for name, value in made.items():
            if isinstance(value, np.ndarray):
                value.flags.writeable = False
            object.__setattr__(self, name, value)

    def __reduce__(self):
        return FrequencyTables, (self.frequencies, self.first_values, self.raw_bits, self.offsets, self.precision)

    def __len__(self) -> int:
        return len(self.shape)

    def __repr__(self) -> str:
        symbols = len(self.frequencies)
        return f"FrequencyTables({len(self)} tables, {symbols} symbols, precision={self.precision})"

    @classmethod
    def stack(cls, tables: Sequence["FrequencyTables"]) -> "FrequencyTables":
        """Tables of one precision after one another, to be chosen by `contexts`."""
        if not tables:
            raise ValueError("stack needs at least one FrequencyTables")
        precisions = {t.precision for t in tables}
        if len(precisions) > 1:
            raise ValueError(f"tables of precision {sorted(precisions)} cannot be stacked; build all with one")
        lengths: np.ndarray = np.concatenate([np.diff(_known(t.offsets)) for t in tables])
        return cls(
            np.concatenate([t.frequencies for t in tables]),
            np.concatenate([_known(t.first_values) for t in tables]),
            np.concatenate([_known(t.raw_bits) for t in tables]),
            np.concatenate([[0], np.cumsum(lengths)]),
            tables[0].precision,
        )


def encode(values, tables: FrequencyTables, *, contexts=None) -> bytes:
    """One stream of `values`, which the decoder can read only from its start.

    Parameters
    ----------
    values : integers, |value| < 2^63, any shape; read in C order.
    tables : the model.
    contexts : integers like `values`, the table of each; None: table 0.

    Returns
    -------
    bytes : at most the cross-entropy + 0.01 % + 8 bytes, from 2^15 values on + 32 bytes.

    Raises
    ------
    ValueError : a value that no symbol of its table covers; the message names it.

    Examples
    --------
    >>> from density.rans import FrequencyTables, encode
    >>> len(encode([0] * 1000, FrequencyTables([2**24 - 1, 1])))
    4
    """
    values = _values(values)
    return _encode(values, tables, _contexts(contexts, values.size, tables), 0)


def decode(data, count: int, tables: FrequencyTables, *, contexts=None, dtype: Any = np.int64) -> np.ndarray:
    """The `count` values of one stream, a 1-D array; `StreamError` if the stream is not what `encode` wrote.

    Parameters
    ----------
    data : bytes or any buffer of bytes.
    count : how many values it holds; the stream does not say.
    tables, contexts : as they were for `encode`.
    dtype : integer type of the result; values outside it wrap.

    Raises
    ------
    StreamError : truncated, trailing bytes, wrong final state, or a content that no encoder writes.
    """
    out = np.empty(_integer(count, "count", 0, None), _integer_type(dtype))
    decode_into(out, data, tables, contexts=contexts)
    return out


def decode_into(out: np.ndarray, data, tables: FrequencyTables, *, contexts=None) -> None:
    """Fill `out`, a contiguous vector of any integer type, with the values of one stream; see `decode`."""
    status = _decode(data, tables, _contexts(contexts, out.size, tables), out)
    if status is not StreamStatus.OK:
        raise StreamError(status)


def encode_chunks(
    values, tables: FrequencyTables, *, contexts=None, chunk: int = CHUNK, workers: int | None = None
) -> list[bytes]:
    """Independent streams of `chunk` values each (the last may be shorter), written by several threads.

    The bytes do not depend on `workers`. See `encode` for the parameters.
    """
    values = _values(values)
    chunk = _integer(chunk, "chunk", 1, None)
    contexts = _contexts(contexts, values.size, tables)

    def one(begin: int) -> bytes:
        part = slice(begin, begin + chunk)
        return _encode(values[part], tables, contexts[part], begin)

    return thread_map(one, range(0, values.size, chunk), resolve_workers(workers))


def decode_chunks(
    payloads: Sequence,
    counts: Sequence[int],
    tables: FrequencyTables,
    *,
    contexts=None,
    dtype: Any = np.int64,
    workers: int | None = None,
) -> tuple[np.ndarray, list[StreamStatus]]:
    """The values of independent streams after one another, and how each stream ended; never raises for their content.

    Where a status is not OK, the values of that stream mean nothing; the others are not touched by it.
    """
    counts = [_integer(count, "count", 0, None) for count in counts]
    if len(counts) != len(payloads):
        raise ValueError(f"{len(payloads)} payloads and {len(counts)} counts: each stream needs its number of values")
    begins = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    out = np.empty(int(begins[-1]), _integer_type(dtype))
    contexts = _contexts(contexts, out.size, tables)

    def one(j: int) -> StreamStatus:
        part = slice(int(begins[j]), int(begins[j + 1]))
        return _decode(payloads[j], tables, contexts[part], out[part])

    return out, thread_map(one, range(len(counts)), resolve_workers(workers))


def integer_frequencies(weights, precision: int = MAX_PRECISION) -> np.ndarray:
    """Frequencies >= 1 that add up to 2^precision and are proportional to integer weights, from integers alone.

    Symbols whose share is below one get one; the rest is shared in proportion, by largest remainder, ties to the first.
    The result is the same on every machine.

    Parameters
    ----------
    weights : (S,) integers >= 0, not all zero, S <= 2^precision; bits below 2^-38 of their sum are dropped.
    precision : 1..24.

    Returns
    -------
    uint32 array of shape (S,).

    Examples
    --------
    >>> from density.rans import integer_frequencies
    >>> integer_frequencies([1000, 500, 0], precision=4).tolist()
    [10, 5, 1]
    """
    precision = _integer(precision, "precision", 1, MAX_PRECISION)
    weights = _vector(weights, "weights", np.int64)
    total = 1 << precision
    if (weights < 0).any() or not weights.any():
        raise ValueError("weights must be >= 0 and not all zero")
    if weights.size > total:
        raise ValueError(f"{weights.size} symbols do not fit into precision={precision}; pass more bits")
    largest = int(weights.max()).bit_length() + weights.size.bit_length()
    weights = weights >> max(0, largest - 38)
    free = np.ones(weights.size, bool)
    while True:
        mass, room = int(weights[free].sum()), total - int((~free).sum())
        if mass == 0:  # only zeros are left to share
            weights, mass = np.ones_like(weights), int(free.sum())
        pinned = free & (weights * room < mass)
        if not pinned.any():
            break
        free &= ~pinned
    frequencies = np.ones(weights.size, np.int64)
    share = weights[free] * room
    frequencies[free] = share // mass
    rest = total - int(frequencies.sum())
    order = np.argsort(-(share % mass), kind="stable")[:rest]
    frequencies[np.flatnonzero(free)[order]] += 1
    return frequencies.astype(np.uint32)


def _encode(values: np.ndarray, tables: FrequencyTables, contexts: np.ndarray, begin: int) -> bytes:
    if values.size == 0:
        return b""
    values, contexts = _writeable(values), _writeable(contexts)
    words = np.empty((4 if _known(tables.raw_bits).any() else 1) * values.size + 9, np.uint32)
    alone = True if values.size < _ALONE else None
    first, missing = kernels.encode(values, contexts, tables.rows, tables.shape, tables.precision, alone, words)
    if missing >= 0:
        table = int(contexts[missing]) if contexts.size else 0
        raise ValueError(
            f"values[{begin + missing}]={values[missing]} is covered by no symbol of table {table}; "
            "widen the table, or end it with an escape symbol (raw_bits=ESCAPE)"
        )
    return words[first:].astype("<u4", copy=False).tobytes()


def _decode(data, tables: FrequencyTables, contexts: np.ndarray, out: np.ndarray) -> StreamStatus:
    contexts = _writeable(contexts)
    data = memoryview(data).cast("B")
    if out.size == 0:
        return StreamStatus.TRAILING if data.nbytes else StreamStatus.OK
    if data.nbytes % 4:
        return StreamStatus.TRUNCATED
    words = np.frombuffer(data, "<u4").astype(np.uint32)  # aligned, and of one type for the kernel
    alone = True if out.size < _ALONE else None
    found = out if alone is None else np.empty(out.size, np.int64)  # one kernel for all short streams
    status = kernels.decode(
        words, contexts, tables.rows, tables.shape, tables.coarse, tables.bits, tables.precision, alone, found
    )
    if alone is not None:
        out[:] = found
    return _STATUS[status]


def _fault(fault, table, where, frequencies, offsets, raw_bits, precision) -> str:
    name = f"symbol {where - offsets[table]} of table {table}"
    if fault == 2:
        total = int(frequencies[offsets[table] : offsets[table + 1]].sum(dtype=np.int64))
        return f"the frequencies of table {table} add up to {total}, not to 2^{precision}={1 << precision}"
    return {
        1: f"{name} has frequency 0; every symbol needs at least 1, so that it can be coded",
        3: f"{name} starts inside the one before it, or ends past 2^63 - 1; first_values must ascend by >= 2^raw_bits",
        4: f"{name} has raw_bits={raw_bits[where]}; expected 0..64, or ESCAPE={ESCAPE}",
        5: f"{name} is an escape but not the last of its table; put the escape last",
    }[fault]


def _known(array: np.ndarray | None) -> np.ndarray:
    return array  # type: ignore[return-value]  # None is replaced in __post_init__


def _integer(value, name: str, least: int, most: int | None) -> int:
    try:
        value = index(value)
    except TypeError:
        raise TypeError(f"{name}={value!r} is not an integer") from None
    if value < least or (most is not None and value > most):
        raise ValueError(f"{name}={value} is outside {least}..{'' if most is None else most}")
    return value


def _integer_type(dtype) -> np.dtype:
    dtype = np.dtype(dtype)
    if dtype.kind not in "iu":
        raise TypeError(f"dtype={dtype} is not an integer type; the coder gives integers")
    return dtype


def _vector(values, name: str, dtype) -> np.ndarray:
    """A private 1-D copy in `dtype`, refused if a value changes."""
    given = np.asarray(values)
    if given.ndim != 1 or given.size == 0:
        raise ValueError(f"{name} has shape {given.shape}; expected a vector with at least one entry")
    if given.dtype.kind not in "iuf" or (given.dtype.kind == "f" and not np.isfinite(given).all()):
        raise TypeError(f"{name} holds {given.dtype} or non-finite values; expected integers")
    info = np.iinfo(dtype)
    fractional = given.dtype.kind == "f" and bool((given != np.floor(given)).any())
    # int() first: as a float, 2^63 - 1 is 2^63
    if int(given.min()) < info.min or int(given.max()) > info.max or fractional:
        raise ValueError(f"{name} has values that are not integers in {info.min}..{info.max}")
    return np.array(given, dtype=dtype)


def _values(values) -> np.ndarray:
    values = np.asarray(values)
    if values.dtype.kind not in "iu":
        if values.size == 0:
            return np.empty(0, np.int64)
        raise TypeError(f"values are {values.dtype}; the coder takes integers: round them first, and say to which step")
    if values.dtype == np.uint64 and values.size and values.max() > np.iinfo(np.int64).max:
        raise ValueError("values reach past 2^63 - 1; subtract 2^63 and view them as int64")
    return np.ascontiguousarray(values, dtype=np.int64).reshape(-1)


def _contexts(contexts, count: int, tables: FrequencyTables) -> np.ndarray:
    if contexts is None:
        return np.empty(0, np.int32)
    contexts = np.asarray(contexts)
    if contexts.dtype.kind not in "iu":
        raise TypeError(f"contexts are {contexts.dtype}; expected integers, the table of each value")
    if contexts.size != count:
        raise ValueError(f"{contexts.size} contexts for {count} values; pass one for each value")
    if count and not (contexts.min() >= 0 and contexts.max() < len(tables)):
        raise ValueError(
            f"contexts go from {contexts.min()} to {contexts.max()}; there are tables 0..{len(tables) - 1}"
        )
    return np.ascontiguousarray(contexts, dtype=np.int32).reshape(-1)


def _writeable(array: np.ndarray) -> np.ndarray:
    """A copy of what is read-only: the kernels are compiled for one kind of array."""
    return array if array.flags.writeable else array.copy()


def _short(array: np.ndarray) -> str:
    return np.array2string(array, threshold=8)
