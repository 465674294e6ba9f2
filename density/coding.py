"""Arrays to bytes and back, exactly, at the size of their entropy."""

import struct
import zlib
from dataclasses import dataclass

import numpy as np

from . import entropy
from ._threads import resolve_workers, thread_map
from .bits import pack, unpack
from .errors import (
    ChecksumError,
    CorruptDataError,
    LimitExceededError,
    NotOurDataError,
    TruncatedDataError,
    UnknownVersionError,
)
from .tables import MOST_SYMBOLS, RAW, SPECIALS, Table, check_digest, choose

_MAGIC, VERSION = b"TDNZ", 0
_START = struct.Struct("<4sBIQ")  # magic, version, bytes of the header, bytes of all
_CHUNK = struct.Struct("<QQII")  # bytes of symbols, of raw bits; checksums of both together and of the decoded data
_STORED, _INTEGERS, _STEPS, _PATTERNS = range(4)  # what the symbols stand for
_SIGN = np.uint64(1 << 63)
_DEFAULT_LIMIT = 1 << 30
_SPECIAL_VALUES = (np.nan, np.inf, -np.inf, -0.0)  # in the order of SPECIALS; NaN is the quiet one without payload


@dataclass(frozen=True)
class Layout:
    """The header, read or to be written."""

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

    def to_bytes(self, payload: int) -> bytes:
        """The header of a container with `payload` bytes behind it, its checksum last."""
        name = self.dtype.str.encode()
        body = struct.pack("<BB", self.mode, len(name)) + name + struct.pack("<B", len(self.shape))
        body += struct.pack(f"<{len(self.shape)}Q", *self.shape)
        body += struct.pack("<dQIII", self.step, self.chunk, self.digest, len(self.table), len(self.chunks))
        body += self.table + b"".join(_CHUNK.pack(*c) for c in self.chunks)
        size = _START.size + len(body) + 4
        head = _START.pack(_MAGIC, VERSION, size, size + payload) + body
        return head + struct.pack("<I", zlib.crc32(head))


def compress(x, step=None, *, lossless: bool = False, model=None, chunk: int = 1 << 20, workers=None) -> bytes:
    """Compress an array to about its empirical entropy, ``n H = -sum_i c_i log2(c_i / n)`` bits.

    Parameters
    ----------
    x : array of any shape: integers or bool of any width, or float16, float32, float64.
    step : for floats, the distance of the levels ``step * k``; decoded values lie within step / 2. NaN, the infinities
        and -0.0 come back as they were; a value that no level represents that well is stored exactly.
    lossless : for floats, keep every bit instead.
    model : a FourierDensity of the values, from which the probabilities are taken instead of from their counts.
    chunk : elements coded together; chunks have checksums of their own.
    workers : threads over chunks, None for all cores; the bytes do not depend on it.

    Returns
    -------
    bytes : a container of version 0.

    Raises
    ------
    ValueError : floats with neither step nor lossless=True, or step for integers.
    ImportError : the extra "codec" (constriction) is not installed.

    Notes
    -----
    Time O(n) and one sort of the distinct values; memory about 30 bytes an element.

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
    x = np.asarray(x)
    mode, step = _mode(x, step, lossless, model)
    if chunk != int(chunk) or not 1 <= chunk <= 1 << 32:
        raise ValueError(f"chunk={chunk} is not a number of elements; pass 1 <= chunk <= 2**32")
    workers, chunk = resolve_workers(workers), int(chunk)
    flat = np.ascontiguousarray(x).reshape(-1)
    values, special, output = _to_integers(flat, mode, step)
    width = 8 * flat.dtype.itemsize
    signed = mode == _STEPS or flat.dtype.kind == "i"
    table = _table(values, special, width, model, signed, step if mode == _STEPS else 1.0)
    packed = table.to_bytes(entropy)
    spans = [slice(at, min(at + chunk, len(flat))) for at in range(0, len(flat), chunk)]

    def code(span: slice) -> tuple[bytes, bytes, int]:
        symbols, raw = table.symbols(values[span], special[span])
        data = entropy.encode(symbols, table.frequencies)
        return data, pack(raw, table.raw_bits[symbols]), zlib.crc32(_wire(output[span]))

    coded = thread_map(code, spans, workers)
    payload = b"".join(a + b for a, b, _ in coded)
    if len(payload) + len(packed) >= flat.nbytes:  # noise, or too little data to be worth a table
        payload = _wire(flat)
        check = zlib.crc32(payload)
        chunks = ((len(payload), 0, check, check),) if payload else ()
        layout = Layout(_STORED, x.dtype, x.shape, step, chunk, b"", 0, chunks)
    else:
        chunks = tuple((len(a), len(b), zlib.crc32(a + b), check) for a, b, check in coded)
        layout = Layout(mode, x.dtype, x.shape, step, chunk, packed, table.digest(), chunks)
    return layout.to_bytes(len(payload)) + payload


def decompress(blob, *, max_bytes: int | None = None, workers=None) -> np.ndarray:
    """The array that `compress` took (floats with a step: within step / 2 of it).

    Parameters
    ----------
    blob : the bytes.
    max_bytes : refuse headers that ask for more; None for 1 GiB or 1024 times len(blob), whichever is more.
    workers : threads over chunks, None for all cores; the array does not depend on it.

    Raises
    ------
    CorruptDataError : one of its children says what is wrong; nothing is returned from damaged bytes.

    Examples
    --------
    >>> import density as ds
    >>> ds.decompress(ds.compress([3, 1, 4, 1, 5]))
    array([3, 1, 4, 1, 5])
    """
    blob, workers = bytes(blob), resolve_workers(workers)
    layout, at = _read_header(blob)
    limit = max(_DEFAULT_LIMIT, 1024 * len(blob)) if max_bytes is None else int(max_bytes)
    if layout.size * layout.dtype.itemsize > limit:
        raise LimitExceededError(
            f"the header asks for {layout.size * layout.dtype.itemsize} bytes, more than the limit of {limit}; "
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
        table = Table.from_bytes(layout.table, entropy)
        check_digest(table, layout.digest)
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
            symbols = entropy.decode(blob[begin : begin + size], table.frequencies, count)
            raw = unpack(blob[begin + size : begin + size + extra], table.raw_bits[symbols])
            part = _from_integers(*table.restore(symbols, raw), dtype, layout.mode, layout.step)
        if zlib.crc32(_wire(part)) != check:
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


def _read_header(blob: bytes) -> tuple[Layout, int]:
    """The header and where it ends, checked before anything in it is believed."""
    if not blob or blob[:4] != _MAGIC[: len(blob[:4])]:
        raise NotOurDataError(f"not compressed by density: the data begin with {blob[:4]!r}, not {_MAGIC!r}")
    if len(blob) < _START.size:
        raise TruncatedDataError(f"{len(blob)} bytes are too few even for a header")
    _, version, size, total = _START.unpack_from(blob)
    if version != VERSION:
        raise UnknownVersionError(f"container of version {version}; this release reads version {VERSION}")
    if len(blob) != total or not _START.size + 4 <= size <= total:
        raise TruncatedDataError(f"the header promises {total} bytes, of which {size} are header; got {len(blob)}")
    if zlib.crc32(blob[: size - 4]) != struct.unpack_from("<I", blob, size - 4)[0]:
        raise ChecksumError("the checksum of the header does not match: some byte was changed")
    try:
        mode, length = struct.unpack_from("<BB", blob, at := _START.size)
        name = blob[at + 2 : (at := at + 2 + length)].decode("ascii")
        (ndim,) = struct.unpack_from("<B", blob, at)
        shape = struct.unpack_from(f"<{ndim}Q", blob, at := at + 1)
        step, chunk, digest, table, count = struct.unpack_from("<dQIII", blob, at := at + 8 * ndim)
        at += struct.calcsize("<dQIII")
        if at + table + count * _CHUNK.size + 4 != size:
            raise CorruptDataError("the parts of the header do not add up to its length")
        chunks = tuple(_CHUNK.unpack_from(blob, at + table + i * _CHUNK.size) for i in range(count))
        dtype = np.dtype(name)
    except (struct.error, UnicodeDecodeError, TypeError, ValueError, SyntaxError) as error:
        if isinstance(error, CorruptDataError):
            raise
        raise CorruptDataError(f"the header cannot be read: {error}") from None
    layout = Layout(mode, dtype, tuple(shape), step, chunk, blob[at : at + table], digest, chunks)
    fits = {_STORED: "biuf", _INTEGERS: "biu", _STEPS: "f", _PATTERNS: "f"}
    wanted = int(layout.size > 0) if mode == _STORED else -(-layout.size // max(chunk, 1))
    if (
        mode not in fits
        or dtype.kind not in fits[mode]
        or dtype.itemsize > 8
        or ndim > 64
        or wanted != count
        or not chunk
    ):
        raise CorruptDataError("the header describes no array that compress could have made")
    return layout, size


def _mode(x, step, lossless: bool, model) -> tuple[int, float]:
    """What the symbols will stand for, or the sentence that says why not."""
    if x.dtype.kind not in "biuf" or x.dtype.itemsize > 8:
        raise TypeError(f"x has dtype {x.dtype}; compress takes bool, integers and float16, float32, float64")
    if model is not None:
        from .fourier import FourierDensity

        if not isinstance(model, FourierDensity):
            raise TypeError(f"model must be a FourierDensity, not a {type(model).__name__}")
    if x.dtype.kind != "f":
        if step is not None:
            raise ValueError(f"step={step!r} is for floats; {x.dtype} is coded exactly, leave step out")
        return _INTEGERS, 0.0
    if lossless:
        if step is not None or model is not None:
            raise ValueError("lossless=True keeps every bit of the floats; leave step and model out")
        return _PATTERNS, 0.0
    if step is None:
        raise ValueError(
            f"x is {x.dtype}: pass step= to quantise it (decoded values lie within step / 2), "
            "or lossless=True to keep every bit"
        )
    step = float(step)
    if not (np.isfinite(step) and step > 0):
        raise ValueError(f"step={step!r} is not a positive number")
    return _STEPS, step


def _wire(part) -> bytes:
    return part.astype(part.dtype.newbyteorder("<"), copy=False).tobytes()


def _to_integers(x, mode: int, step: float):
    """Each element as uint64 in its order, its index into SPECIALS or -1, and what the decoder will return."""
    special = np.full(len(x), -1, np.int64)
    if mode == _INTEGERS:
        if x.dtype.kind == "i":
            return x.astype(np.int64).view(np.uint64) ^ _SIGN, special, x
        return x.astype(np.uint64), special, x
    native = x.astype(x.dtype.newbyteorder("="), copy=False)
    bits = native.view(f"u{native.itemsize}").astype(np.uint64)
    if mode == _PATTERNS:
        return _ordered(bits, 8 * native.itemsize), special, x
    with np.errstate(all="ignore"):
        wide = native.astype(np.float64)
        k = np.rint(wide / step)
        for attempt in range(2):  # a tie may round to the level that is an ulp too far; then the other one is not
            k = k + 0.0  # the decoder's integer 0 has no sign: -0.0 must become +0.0 here too
            decoded = (k * step).astype(native.dtype)
            wrong = ~(np.abs(decoded.astype(np.float64) - wide) <= step / 2) | ~(np.abs(k) < 2.0**53)
            if attempt == 0:
                k = np.where(wrong & np.isfinite(wide), k + np.sign(wide - k * step), k)
    special[wrong] = RAW
    for i, value in enumerate(_SPECIAL_VALUES):
        special[bits == np.uint64(np.array(value, native.dtype).view(f"u{native.itemsize}"))] = i
    values = np.where(special == -1, np.where(special == -1, k, 0).astype(np.int64).view(np.uint64) ^ _SIGN, bits)
    return values, special, np.where(special == -1, decoded, native)


def _from_integers(values, special, dtype, mode: int, step: float):
    """The inverse of `_to_integers`: one multiplication for quantised floats, none for anything else."""
    unsigned = np.dtype(f"u{dtype.itemsize}")
    if mode == _INTEGERS:
        if dtype.kind == "i":
            return (values ^ _SIGN).view(np.int64).astype(dtype)
        return values.astype(dtype)
    if mode == _PATTERNS:
        return _unordered(values, 8 * dtype.itemsize).astype(unsigned).view(dtype)
    with np.errstate(all="ignore"):
        out = ((values ^ _SIGN).view(np.int64).astype(np.float64) * step).astype(dtype)
    for i, value in enumerate(_SPECIAL_VALUES):
        out[special == i] = value
    raw = special == RAW
    out[raw] = values[raw].astype(unsigned).view(dtype)
    return out


def _ordered(bits, width: int):
    """Float patterns as unsigned integers in the order of the floats; a bijection, NaN payloads and -0.0 included."""
    sign = np.uint64(1 << (width - 1))
    full = np.uint64((1 << width) - 1)
    return np.where(bits & sign, ~bits & full, bits | sign)


def _unordered(values, width: int):
    sign = np.uint64(1 << (width - 1))
    full = np.uint64((1 << width) - 1)
    return np.where(values & sign, values ^ sign, ~values & full)


def _table(values, special, width: int, model, signed: bool, unit: float) -> Table:
    """Count (or let the model say) how often each value is to be expected, and choose the table."""
    plain = values if (special == -1).all() else values[special == -1]
    special_counts = np.bincount(special[special >= 0], minlength=len(SPECIALS))
    lo, hi = (plain.min(), plain.max()) if len(plain) else (np.uint64(0), np.uint64(0))
    if len(plain) and int(hi) - int(lo) < 1 << 22:
        seen = np.bincount((plain - lo).astype(np.int64))
        distinct, counts = lo + np.flatnonzero(seen).astype(np.uint64), seen[seen > 0]
    else:
        distinct, counts = np.unique(plain, return_counts=True)
    counts = counts.astype(np.float64)
    if model is not None and len(plain):
        distinct, counts = _expected(distinct, len(plain), model, signed, unit)
    return choose(distinct, counts, special_counts, width)


def _expected(distinct, n: int, model, signed: bool, unit: float):
    """Counts that the model expects for the values that occur, filled up to a gapless range where that is short."""
    span = int(distinct[-1]) - int(distinct[0]) + 1
    if span <= MOST_SYMBOLS:
        distinct = distinct[0] + np.arange(span, dtype=np.uint64)
    centres = ((distinct ^ _SIGN).view(np.int64) if signed else distinct).astype(np.float64)
    lower, upper = (centres - 0.5) * unit, (centres + 0.5) * unit
    mass = np.where(lower > model.ppf(0.5), model.sf(lower) - model.sf(upper), model.cdf(upper) - model.cdf(lower))
    return distinct, np.maximum(n * mass, 1.0)
