"""CRC-32C, the checksum of iSCSI, ext4 and SCTP: finds every burst of up to 32 flipped bits."""

from itertools import pairwise
from operator import index

import numpy as np

from . import _checksum_kernels as kernels
from ._threads import resolve_workers, thread_map
from .errors import TruncatedDataError

_PARALLEL = 2**22  # bytes from which a second thread pays


def crc32c(data, value: int = 0, *, workers: int | None = 1) -> int:
    """CRC-32C of `data`, continued from the checksum `value` of what came before.

    The remainder of the message modulo the Castagnoli polynomial 0x11EDC6F41, reflected, started and ended with ones.

    Parameters
    ----------
    data : bytes, or any C-contiguous buffer or array.
    value : checksum of the bytes before `data`; 0 at the start. ``crc32c(a + b) == crc32c(b, crc32c(a))``.
    workers : threads, used from 4 MiB on; the result does not depend on them.

    Returns
    -------
    int in 0..2^32 - 1.

    Raises
    ------
    TypeError : text, or a buffer that is not contiguous.

    Complexity
    ----------
    O(n) time, 8 KiB of tables; 64 bytes a step in four chains that are joined by `combine_crc32c`.

    References
    ----------
    Castagnoli, Brauer and Herrmann (1993), doi:10.1109/26.231911; Kounavis and Berry (2008), doi:10.1109/TC.2008.85;
    test vectors: RFC 3720, appendix B.4.

    Examples
    --------
    >>> from density.checksum import crc32c
    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    value = _checked(value, "value")
    data = _bytes(data)
    if workers == 1 or (workers := resolve_workers(workers)) == 1 or data.size < _PARALLEL:
        return int(kernels.crc32c(data, np.uint32(value)))
    edges = np.linspace(0, data.size, workers + 1).astype(np.int64)
    parts = [data[a:b] for a, b in pairwise(edges)]
    for part, crc in zip(parts, thread_map(lambda part: kernels.crc32c(part, np.uint32(0)), parts, workers)):
        value = combine_crc32c(value, int(crc), part.size)
    return value


def combine_crc32c(first: int, second: int, length: int) -> int:
    """CRC-32C of two pieces after one another, from their own checksums and the length of the second in bytes.

    first x^(8 length) + second modulo the polynomial: 32 steps for each bit of `length`.

    Examples
    --------
    >>> from density.checksum import combine_crc32c, crc32c
    >>> combine_crc32c(crc32c(b"1234"), crc32c(b"56789"), 5) == crc32c(b"123456789")
    True
    """
    length = index(length)
    if length < 0:
        raise ValueError(f"length={length} is negative; expected the number of bytes of the second piece")
    first, second = _checked(first, "first"), _checked(second, "second")
    return int(kernels.shifted(np.uint32(first), np.uint64(length))) ^ second


def checksum_of(values: np.ndarray) -> int:
    """CRC-32C of integers as 64 bits each, little-endian."""
    return crc32c(np.ascontiguousarray(values, dtype="<i8"))


def seal(stream: bytes, values: np.ndarray) -> bytes:
    """A stream, and behind it the checksum of the integers that it stands for."""
    return stream + checksum_of(values).to_bytes(4, "little")


def unsealed(data) -> tuple[bytes, int]:
    """Stream and checksum of what `seal` gave; what is too short has lost its end."""
    data = bytes(data)
    if len(data) < 4:
        raise TruncatedDataError(f"{len(data)} bytes are too few even for the checksum of a string")
    return data[:-4], int.from_bytes(data[-4:], "little")


def _checked(value, name: str) -> int:
    value = index(value)
    if not 0 <= value < 1 << 32:
        raise ValueError(f"{name}={value} is not a checksum; expected 0..2^32 - 1")
    return value


def _bytes(data) -> np.ndarray:
    """A read-only vector of bytes on the same memory: one kind of array for the kernel."""
    if type(data) is bytes and data:  # the short way for heads of records: their arrays are read-only already
        return np.frombuffer(data, np.uint8)
    if isinstance(data, str):
        raise TypeError("data is text; pass bytes, for example data.encode()")
    if isinstance(data, np.ndarray):
        if not data.flags.c_contiguous:
            raise TypeError("data is an array that is not C-contiguous; pass np.ascontiguousarray(data)")
        view = data.reshape(-1).view(np.uint8) if data.size else np.empty(0, np.uint8)
    else:
        view = np.frombuffer(memoryview(data).cast("B"), np.uint8) if len(memoryview(data)) else np.empty(0, np.uint8)
    view = view.view()
    view.flags.writeable = False
    return view
