"""Named arrays, such as the weights of a network, in one piece: a container for each, and a checked list of them."""

import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .checksum import crc32c
from .coding import CHUNK, as_array, buffer_of, compress, decompress
from .container import STORED, parse
from .errors import ChecksumError, CorruptDataError, NotOurDataError, TruncatedDataError, UnknownVersionError
from .varint import read_varint, varint

MAGIC, VERSION = b"TDNT", 1
_HEAD = struct.Struct("<4sBIII")  # magic, version, tensors, bytes of the list, checksum of the list


@dataclass(frozen=True)
class TensorReport:
    """What one tensor became: `size` bytes of `nbytes`, `bits` a value, levels of `step` (0: every bit kept)."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    step: float
    nbytes: int
    size: int
    stored: bool

    @property
    def bits(self) -> float:
        """Bits a value; NaN for an empty tensor."""
        elements = self.nbytes // np.dtype(self.dtype).itemsize
        return 8 * self.size / elements if elements else float("nan")


def compress_tensors(
    tensors: Mapping[str, Any],
    step: float | Mapping[str, float] | Callable[[str, np.ndarray], float | None] | None = None,
    *,
    lossless: bool = False,
    chunk: int = CHUNK,
    workers: int | None = None,
) -> bytes:
    """Compress a dict of arrays or torch tensors, each with tables of its own.

    Parameters
    ----------
    tensors : names and arrays; torch tensors on any device, as in a state_dict. Integers are kept exactly.
    step : distance of the levels of the floats: one for all, or one by name, or a function of name and array; where it
        gives None, every bit of that tensor is kept.
    lossless : keep every bit of all floats.
    chunk, workers : as for `compress`.

    Returns
    -------
    bytes : for `decompress_tensors`; `tensor_reports` says what each tensor takes.

    Raises
    ------
    ValueError : floats with neither step nor lossless=True; the message names the tensor.
    TypeError : a tensor of a dtype that has no container, such as bfloat16 or complex.

    Examples
    --------
    >>> import numpy as np, density as ds
    >>> weights = {"a": np.random.default_rng(7).normal(size=(30, 40)), "n": np.array(3)}
    >>> blob = ds.compress_tensors(weights, step=lambda name, w: w.std() / 8)
    >>> back = ds.decompress_tensors(blob)
    >>> bool(abs(back["a"] - weights["a"]).max() <= weights["a"].std() / 16), int(back["n"])
    (True, 3)
    """
    names, blobs = [], []
    for name, tensor in tensors.items():
        if not isinstance(name, str):
            raise TypeError(f"the name {name!r} is not a string")
        x = _array(name, tensor)
        if step is None and not lossless and x.dtype.kind == "f":
            raise ValueError(f"tensor {name!r} is {x.dtype}: pass step=, or lossless=True to keep every bit")
        own = _step(name, x, step) if x.dtype.kind == "f" and not lossless else None
        try:
            blobs.append(compress(x, own, lossless=x.dtype.kind == "f" and own is None, chunk=chunk, workers=workers))
        except (TypeError, ValueError) as error:
            raise type(error)(f"tensor {name!r}: {error}") from None
        names.append(name.encode())
    listed = b"".join(varint(len(n)) + n + varint(len(b)) for n, b in zip(names, blobs))
    return b"".join([_HEAD.pack(MAGIC, VERSION, len(blobs), len(listed), crc32c(listed)), listed, *blobs])


def decompress_tensors(
    blob,
    names: Iterable[str] | None = None,
    *,
    kind: str = "numpy",
    max_bytes: int | None = None,
    workers: int | None = None,
) -> dict[str, Any]:
    """The tensors that `compress_tensors` took, or those of `names`; the others are not read.

    Parameters
    ----------
    blob : the bytes, or a buffer of them.
    names : which tensors; None for all.
    kind : "numpy", or "torch" for CPU tensors, as `load_state_dict` takes them.
    max_bytes, workers : as for `decompress`; the limit holds for each tensor.

    Raises
    ------
    CorruptDataError : one of its children says what is wrong, and with which tensor.
    KeyError : a name that is not there.

    Examples
    --------
    >>> import density as ds
    >>> ds.decompress_tensors(ds.compress_tensors({"a": [1, 2], "b": [3]}), ["b"])
    {'b': array([3])}
    """
    if kind not in ("numpy", "torch"):
        raise ValueError(f"kind={kind!r} is not known; pass 'numpy' or 'torch'")
    view = buffer_of(blob)
    places = _places(view)
    found: dict[str, Any] = {}
    for name in places if names is None else names:
        if name not in places:
            raise KeyError(f"there is no tensor {name!r}; there are {', '.join(map(repr, list(places)[:8]))}, ...")
        try:
            found[name] = decompress(view[slice(*places[name])], max_bytes=max_bytes, workers=workers)
        except CorruptDataError as error:
            raise _named(error, name) from None
    if kind == "torch":
        import torch

        return {name: torch.from_numpy(np.array(x, dtype=x.dtype.newbyteorder("="))) for name, x in found.items()}
    return found


def tensor_reports(blob) -> tuple[TensorReport, ...]:
    """What each tensor of `compress_tensors` takes, read from the heads alone.

    Parameters
    ----------
    blob : the bytes, or a buffer of them.

    Returns
    -------
    tuple of TensorReport : in the order of the tensors.

    Raises
    ------
    CorruptDataError : one of its children says what is wrong, and with which tensor.

    Examples
    --------
    >>> import numpy as np, density as ds
    >>> for r in ds.tensor_reports(ds.compress_tensors({"ones": np.ones((99, 99), np.int8)})):
    ...     print(r.name, r.dtype, r.shape, r.nbytes, r.size < 200, r.stored)
    ones |i1 (99, 99) 9801 True False
    """
    view = buffer_of(blob)
    reports = []
    for name, (begin, end) in _places(view).items():
        try:
            header, _, chunks = parse(view[begin:end])
        except CorruptDataError as error:
            raise _named(error, name) from None
        nbytes, stored = header.size * header.dtype.itemsize, all(record.kind == STORED for record in chunks)
        reports.append(TensorReport(name, header.dtype.str, header.shape, header.step, nbytes, end - begin, stored))
    return tuple(reports)


def _places(view: memoryview) -> dict[str, tuple[int, int]]:
    """Where each tensor begins and ends."""
    start = bytes(view[: _HEAD.size])
    if not start or start[:4] != MAGIC[: len(start[:4])]:
        raise NotOurDataError(f"not compressed tensors: the data begin with {start[:4]!r}, not {MAGIC!r}")
    if len(start) < _HEAD.size:
        raise TruncatedDataError(f"{len(start)} bytes are too few even for a list of tensors")
    _, version, count, size, check = _HEAD.unpack(start)
    if version != VERSION:
        raise UnknownVersionError(f"tensors of version {version}; this release reads version {VERSION}")
    listed = bytes(view[_HEAD.size : _HEAD.size + size])
    if len(listed) != size:
        raise TruncatedDataError(f"the list of the tensors has {size} bytes, of which {len(listed)} are there")
    if crc32c(listed) != check:
        raise ChecksumError("the checksum of the list of the tensors does not match: some byte was changed")
    places: dict[str, tuple[int, int]] = {}
    at, begin = 0, _HEAD.size + size
    while at < size:
        length, at = read_varint(listed, at)
        name = listed[at : at + length].decode(errors="replace")
        length, at = read_varint(listed, at + length)
        places[name] = (begin, begin + length)
        begin += length
    if len(places) != count:
        raise CorruptDataError(f"{len(places)} tensors are listed; {count} belong there")
    if begin != len(view):
        raise TruncatedDataError(f"the tensors end at byte {begin}, the data at byte {len(view)}")
    return places


def _array(name: str, tensor) -> np.ndarray:
    try:
        return as_array(tensor)
    except TypeError as error:
        raise TypeError(f"tensor {name!r} {str(error).removeprefix('x ')}") from None


def _step(name: str, x: np.ndarray, step: Any) -> float | None:
    if callable(step):
        step = step(name, x)
    elif isinstance(step, Mapping):
        if name not in step:
            raise ValueError(f"tensor {name!r} is {x.dtype} and step has no entry for it; pass one, or lossless=True")
        step = step[name]
    return None if step is None else float(step)


def _named(error: CorruptDataError, name: str) -> CorruptDataError:
    """The same kind of error, which names the tensor."""
    try:
        return type(error)(f"tensor {name!r}: {error}")
    except (TypeError, AttributeError):
        return CorruptDataError(f"tensor {name!r}: {error}")
