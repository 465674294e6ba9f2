"""Unsigned integers in as few bytes as they need, seven bits each, the lowest first."""

from .errors import CorruptDataError


def varint(number: int) -> bytes:
    """The bytes of `number` >= 0; each but the last has its highest bit set."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at a place, below 2^70, and where it ends."""
    number = shift = 0
    while at < len(data) and shift < 70:
        number |= (data[at] & 127) << shift
        if data[at] < 128:
            return number, at + 1
        at, shift = at + 1, shift + 7
    raise CorruptDataError("a number of the model ends too early")
