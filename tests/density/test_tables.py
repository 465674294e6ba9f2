"""Integer tables: exact sums, every integer codable, and tables that come back from their bytes."""

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from density.errors import CorruptDataError
from density.integer_list import pack_integers, unpack_integers
from density.integers import KINDS, SPECIAL
from density.rans import decode, encode
from density.tables import Table, buckets, choose, cost
from density.varint import read_varint, varint

words = st.integers(-(2**63), 2**63 - 1)
near = st.integers(10**6, 10**6 + 50)


def chosen(values, specials=(0,) * KINDS):
    return choose(*np.unique(np.array(values, np.int64), return_counts=True), specials)


@given(st.lists(st.one_of(words, near), min_size=1, max_size=200), st.lists(words, max_size=20))
def test_tables_come_back_from_bytes_and_code_any_integer(values, others):
    table = chosen(values)
    again = Table.from_bytes(table.to_bytes())
    assert np.array_equal(again.tables.rows, table.tables.rows)
    for x in (values, others):
        assert decode(encode(x, table.tables), len(x), again.tables).tolist() == x


@given(hnp.arrays(np.int64, st.integers(1, 300), elements=st.integers(-40, 40)), st.sampled_from([1, 7, 10**6, 10**12]))
def test_the_estimated_cost_is_what_is_spent(values, scale):
    values = values * scale + values**3
    table = chosen(values)
    distinct, counts = np.unique(values, return_counts=True)
    bits = cost(table.tables, distinct, counts)
    assert abs(8 * len(encode(values, table.tables)) - bits) < 72 + 0.02 * len(values) + 0.01 * bits


def test_specials_are_symbols_of_their_own():
    table = chosen([3, 4], [5, 0, 0, 2, 1])
    assert table.specials == (0, 3, 4)
    assert table.tables.first_values[-4:-1].tolist() == [SPECIAL, SPECIAL + 3, SPECIAL + 4]
    alone = choose(np.zeros(0, np.int64), np.zeros(0), [5, 0, 0, 0, 0])
    assert np.array_equal(Table.from_bytes(alone.to_bytes()).tables.rows, alone.tables.rows)
    assert len(encode([SPECIAL] * 1000, alone.tables)) == 4


@pytest.mark.parametrize("fine", [0, 1, 2, 3])
def test_buckets_are_gapless_and_grow(fine):
    found = buckets(fine, 60)
    ends = [start + (1 << bits) for start, bits in found]
    assert found[0][0] == 1
    assert ends[:-1] == [start for start, _ in found[1:]]
    assert all(1 << bits <= max(1, start >> fine) for start, bits in found)
    assert len({bits for _, bits in found}) > 5


SOURCES = {
    "laplace": lambda rng, n: rng.laplace(0, 20, n),
    "mixture": lambda rng, n: rng.normal(rng.choice(np.linspace(-500, 500, 25), n), 8),
    "t3": lambda rng, n: 10 * rng.standard_t(3, n),
    "four values": lambda rng, n: rng.choice([1e9, -1e9, 3, 7e8], n),
}


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_frequencies_of_24_bits_lose_less_than_a_part_in_10_000(rng, name):
    """Beside the shares that the roots stand for, of which the frequencies are roundings."""
    x = np.rint(SOURCES[name](rng, 10**6)).astype(np.int64)
    table = chosen(x)
    weights = np.square(table.roots.astype(float))
    exact = float(
        -(weights / weights.sum() * np.log2(weights / weights.sum(), where=weights > 0, out=0 * weights)).sum()
    )
    order = table.tables.frequencies
    spent = np.sort(order)[::-1][: np.count_nonzero(weights)] / 2**24
    share = np.sort(weights / weights.sum())[::-1][: len(spent)]
    assert -(share * np.log2(spent)).sum() < 1.0001 * exact


@given(st.lists(st.one_of(st.integers(0, 3), st.integers(0, 2**63 - 1)), max_size=80))
def test_packed_integers_come_back(numbers):
    data = pack_integers(numbers)
    assert unpack_integers(data, len(numbers)).tolist() == numbers


@pytest.mark.parametrize("mean", [0.1, 1, 30, 1000, 10**6])
def test_packed_integers_cost_their_entropy(rng, mean):
    x = rng.geometric(1 / (mean + 1), 3000) - 1
    p = 1 / (mean + 1)
    entropy = (-(1 - p) * np.log2(1 - p) - p * np.log2(p)) / p
    assert 8 * len(pack_integers(x)) < 1.05 * 3000 * entropy + 130


@given(st.integers(0, 2**69))
def test_varints_come_back(number):
    assert read_varint(varint(number) + b"x", 0) == (number, len(varint(number)))


def test_what_no_writer_makes_is_refused():
    with pytest.raises(CorruptDataError, match="ends too early"):
        read_varint(b"\x80\x80", 0)
    with pytest.raises(CorruptDataError, match="where none are needed"):
        unpack_integers(b"\0", 0)
    with pytest.raises(CorruptDataError, match="begins with no parameter"):
        unpack_integers(b"\xff", 3)
    good = chosen([3, 4, 4, 9]).to_bytes()
    with pytest.raises(CorruptDataError, match="ends too early"):
        Table.from_bytes(b"ab")
    with pytest.raises(CorruptDataError, match="impossible sizes"):
        Table.from_bytes(b"\xff" + good[1:])
    for at in range(len(good)):
        for value in (0, 1, 127, 128, 255):
            try:
                table = Table.from_bytes(good[:at] + bytes([value]) + good[at + 1 :]).tables
            except CorruptDataError:
                continue
            assert table.frequencies.sum() == 2**24
