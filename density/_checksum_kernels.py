"""Kernel of CRC-32C by slicing (Kounavis and Berry 2008, doi:10.1109/TC.2008.85), four chains at a time."""

import numpy as np

from ._jit import kernel

_POLYNOMIAL = np.uint32(0x82F63B78)  # reflected: bit 31 is the coefficient of x^0
_ONES = np.uint32(0xFFFFFFFF)
_BYTE = np.uint32(255)
_U1, _U8, _U16, _U24 = (np.uint32(i) for i in (1, 8, 16, 24))
_STRIPE = 4096  # bytes from which four chains pay for their joining


def _slices() -> np.ndarray:
    """Row k: what a byte k places before the end of eight contributes."""
    table = np.zeros((8, 256), np.uint32)
    row = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        row = np.where(row & 1, row >> 1 ^ _POLYNOMIAL, row >> 1)
    table[0] = row
    for k in range(1, 8):
        table[k] = table[k - 1] >> 8 ^ row[table[k - 1] & 255]
    return table


_TABLE = _slices()


@kernel
def _product(a, b):
    """a b modulo the polynomial, both reflected."""
    result = np.uint32(0)
    for i in range(32):
        if (a >> np.uint32(31 - i)) & _U1:
            result ^= b
        b = np.uint32(b >> _U1) ^ (_POLYNOMIAL if b & _U1 else np.uint32(0))
    return result


@kernel
def shifted(crc, length):
    """crc x^(8 length) modulo the polynomial, by repeated squaring."""
    power = np.uint32(1 << 23)  # x^8
    while length:
        if length & np.uint64(1):
            crc = _product(crc, power)
        power = _product(power, power)
        length >>= np.uint64(1)
    return crc


@kernel(forceinline=True)
def _eight(crc, data, i):
    """Checksum after eight bytes: eight look-ups that do not wait for one another."""
    return (
        _TABLE[7, (crc ^ data[i]) & _BYTE]
        ^ _TABLE[6, ((crc >> _U8) ^ data[i + 1]) & _BYTE]
        ^ _TABLE[5, ((crc >> _U16) ^ data[i + 2]) & _BYTE]
        ^ _TABLE[4, (crc >> _U24) ^ data[i + 3]]
        ^ _TABLE[3, data[i + 4]]
        ^ _TABLE[2, data[i + 5]]
        ^ _TABLE[1, data[i + 6]]
        ^ _TABLE[0, data[i + 7]]
    )


@kernel
def crc32c(data, value):
    """Checksum of `data` after `value`. Floor: one look-up a byte, two or three of them a cycle."""
    i, n = 0, data.size
    a = value ^ _ONES
    if n >= _STRIPE:
        stripe = (n // 32) * 8
        b = c = d = np.uint32(0)
        for j in range(0, stripe, 8):
            a = _eight(a, data, j)
            b = _eight(b, data, j + stripe)
            c = _eight(c, data, j + 2 * stripe)
            d = _eight(d, data, j + 3 * stripe)
        step = np.uint64(stripe)
        a = shifted(shifted(shifted(a, step) ^ b, step) ^ c, step) ^ d
        i = 4 * stripe
    while i + 8 <= n:
        a = _eight(a, data, i)
        i += 8
    while i < n:
        a = (a >> _U8) ^ _TABLE[0, (a ^ data[i]) & _BYTE]
        i += 1
    return a ^ _ONES
