"""CRC-32C against the vectors of RFC 3720 and against one bit at a time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from density.checksum import combine_crc32c, crc32c
from tests import reference

READ_10 = bytes.fromhex(
    "01c00000 00000000 00000000 00000000 14000000 00000400 00000014 00000018 28000000 00000000 02000000 00000000"
)


@pytest.mark.parametrize(
    "data, expected",
    [
        (bytes(32), 0x8A9136AA),  # RFC 3720, appendix B.4
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (READ_10, 0xD9963A56),
        (b"123456789", 0xE3069283),
        (b"", 0),
        (b"a", 0xC1D04330),
    ],
)
def test_known_answers(data, expected):
    assert crc32c(data) == expected
    assert reference.crc32c(data) == expected


@given(st.binary(max_size=100), st.binary(max_size=100))
def test_pieces_give_the_checksum_of_the_whole(a, b):
    whole = reference.crc32c(a + b)
    assert crc32c(a + b) == whole
    assert crc32c(b, crc32c(a)) == whole
    assert combine_crc32c(crc32c(a), crc32c(b), len(b)) == whole


@pytest.mark.parametrize("size", [4095, 4096, 4097, 4128, 5000, 12_345])
def test_four_chains_give_the_checksum_of_one(rng, size):
    data = rng.bytes(size)
    assert crc32c(data, 77) == reference.crc32c(data, 77)


def test_any_number_of_threads_and_any_buffer_give_one_checksum(rng):
    data = rng.integers(0, 256, 2**22 + 77, dtype=np.uint8)
    whole = crc32c(data)
    assert [crc32c(data, workers=w) for w in (2, 3, 8)] == [whole] * 3
    assert crc32c(memoryview(bytearray(data))) == crc32c(data.tobytes()) == whole
    numbers = np.arange(6.0).reshape(2, 3)
    assert crc32c(numbers) == reference.crc32c(numbers.tobytes())
    assert crc32c(memoryview(numbers)) == reference.crc32c(numbers.tobytes())
    assert crc32c(np.empty((0, 3))) == crc32c(bytearray()) == 0
    assert crc32c(np.array(5, np.int16)) == reference.crc32c(b"\5\0")


def test_every_single_flipped_bit_changes_it(rng):
    data = bytearray(rng.bytes(300))
    before = crc32c(data)
    for bit in range(8 * len(data)):
        data[bit // 8] ^= 1 << bit % 8
        assert crc32c(data) != before
        data[bit // 8] ^= 1 << bit % 8


def test_bad_arguments_are_named():
    with pytest.raises(TypeError, match=r"data is text; pass bytes, for example data\.encode\(\)"):
        crc32c("text")
    with pytest.raises(TypeError, match=r"not C-contiguous; pass np\.ascontiguousarray"):
        crc32c(np.zeros((4, 4))[:, 1])
    with pytest.raises(ValueError, match="value=-1 is not a checksum; expected 0"):
        crc32c(b"", -1)
    with pytest.raises(ValueError, match="second=4294967296 is not a checksum"):
        combine_crc32c(0, 2**32, 1)
    with pytest.raises(ValueError, match="length=-1 is negative"):
        combine_crc32c(0, 0, -1)
    with pytest.raises(TypeError, match="bytes-like"):
        crc32c(5)
