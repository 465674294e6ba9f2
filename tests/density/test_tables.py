"""Integer tables: exact sums, every symbol codable, and values that come back."""

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from density import entropy
from density.bits import bit_length, pack, unpack
from density.errors import CorruptDataError, ModelMismatchError, TruncatedDataError
from density.tables import RAW, SPECIALS, TOTAL, Table, bucket_of, bucket_start, check_digest, choose, frequencies
from tests.reference import ans_decode

words = st.integers(0, 2**64 - 1)


@given(st.lists(st.tuples(words, st.integers(0, 64)), max_size=60))
def test_bits_come_back(fields):
    values = np.array([v & ((1 << w) - 1) for v, w in fields], np.uint64)
    widths = np.array([w for _, w in fields], np.int64)
    data = pack(values, widths)
    assert len(data) == (sum(w for _, w in fields) + 7) // 8
    assert np.array_equal(unpack(data, widths), values)
    with pytest.raises(TruncatedDataError, match="bytes of raw bits are needed"):
        unpack(data + b"x", widths)


@given(hnp.arrays(np.uint64, st.integers(0, 30), elements=words))
def test_bit_length_is_that_of_python(values):
    assert bit_length(values).tolist() == [int(v).bit_length() for v in values]


@given(st.lists(st.integers(1, 2**31 - 1), min_size=1, max_size=300))
def test_frequencies_sum_to_2_24_and_none_is_zero(roots):
    f = frequencies(roots)
    assert f.sum() == TOTAL
    assert f.min() >= 1
    share = np.array(roots, float) ** 2 / np.sum(np.array(roots, float) ** 2)
    likely = share > 1e-3
    assert np.allclose(f[likely] / TOTAL, share[likely], rtol=0.01)


def test_many_rare_symbols_are_paid_for_by_the_frequent():
    roots = np.ones(100_000, np.int64)
    roots[7] = 2**20
    f = frequencies(roots)
    assert f.sum() == TOTAL
    assert f.min() == 1
    assert np.argmax(f) == 7
    assert len(frequencies([])) == 0


@given(hnp.arrays(np.uint64, st.integers(1, 40), elements=st.integers(1, 2**64 - 1)))
def test_buckets_hold_their_distances(distance):
    number, raw_bits, raw = bucket_of(distance)
    start, width = bucket_start(number)
    assert np.array_equal(start + raw, distance)
    assert np.array_equal(width, raw_bits)
    assert all(int(r) < 1 << int(b) for r, b in zip(raw, raw_bits))


@given(st.lists(st.one_of(words, st.integers(10**6, 10**6 + 50)), min_size=1, max_size=200))
def test_tables_restore_values_and_come_back_from_bytes(values):
    values = np.array(values, np.uint64)
    distinct, counts = np.unique(values, return_counts=True)
    table = choose(distinct, counts.astype(float), np.zeros(len(SPECIALS)), 64)
    symbols, raw = table.symbols(values, np.full(len(values), -1))
    found, special = table.restore(symbols, raw)
    assert np.array_equal(found, values)
    assert (special == -1).all()
    again = Table.from_bytes(table.to_bytes(entropy), entropy)
    assert again.digest() == table.digest()
    found, _ = again.restore(symbols, unpack(pack(raw, table.raw_bits[symbols]), again.raw_bits[symbols]))
    assert np.array_equal(found, values)


def test_special_symbols_and_raw_patterns():
    special = np.array([0, 1, 2, 3, RAW, -1])
    values = np.array([0, 0, 0, 0, 2**64 - 1, 5], np.uint64)
    table = choose(np.array([5], np.uint64), np.array([1.0]), np.ones(5), 64)
    symbols, raw = table.symbols(values, special)
    found, kinds = table.restore(symbols, raw)
    assert np.array_equal(kinds, special)
    assert found[4] == 2**64 - 1
    assert found[5] == 5


def test_a_table_that_was_rebuilt_differently_is_refused():
    table = choose(np.array([1, 2], np.uint64), np.array([3.0, 4.0]), np.zeros(5), 8)
    check_digest(table, table.digest())
    with pytest.raises(ModelMismatchError, match="is not the one that encoded"):
        check_digest(table, table.digest() ^ 1)


@pytest.mark.parametrize("alphabet", [2, 3, 17, 1000, 65_536])
@pytest.mark.parametrize("shape", ["even", "steep", "one dominates"])
def test_the_coder_uses_our_integers_exactly(rng, alphabet, shape):
    """Decoded by a textbook ANS with the integer frequencies alone: constriction rounded nothing."""
    roots = {
        "even": lambda: np.full(alphabet, 3),
        "steep": lambda: 1 + (2000 * rng.random(alphabet) ** 6).astype(int),
        "one dominates": lambda: np.r_[2**15, np.ones(alphabet - 1, int)],
    }[shape]()
    f = frequencies(roots)
    symbols = rng.integers(0, alphabet, 400).astype(np.int32)
    data = entropy.encode(symbols, f)
    assert ans_decode(np.frombuffer(data, "<u4"), f, 400) == symbols.tolist()
    assert np.array_equal(entropy.decode(data, f, 400), symbols)
    assert abs(8 * len(data) + np.log2(f[symbols] / TOTAL).sum()) < 72 + 32


@given(st.lists(words, max_size=80))
def test_packed_integers_come_back(numbers):
    numbers = np.array(numbers, np.uint64)
    data = entropy.pack_integers(numbers)
    assert np.array_equal(entropy.unpack_integers(data, len(numbers)), numbers)


@given(
    st.lists(st.integers(1, 2000), min_size=2, max_size=6), st.integers(0, 5), st.integers(0, 3000), st.integers(0, 9)
)
def test_runs_of_one_symbol_are_never_refused(roots, symbol, run, rest):
    """From state 0 a run of the first symbol would cost nothing and look like missing bytes."""
    f = frequencies(roots)
    symbols = np.r_[np.arange(rest) % len(f), np.full(run, symbol % len(f))].astype(np.int32)
    assert np.array_equal(entropy.decode(entropy.encode(symbols, f), f, len(symbols)), symbols)


def test_bytes_that_cannot_hold_their_symbols_are_refused_before_memory_is_taken():
    f = frequencies([5, 5, 5])
    with pytest.raises(CorruptDataError, match="cannot hold 1000000000000 symbols"):
        entropy.decode(b"\1\0\0\0", f, 10**12)
    with pytest.raises(CorruptDataError, match="whole number of words"):
        entropy.decode(b"\1", f, 1)
    with pytest.raises(CorruptDataError, match="the table is empty"):
        entropy.decode(b"", frequencies([]), 1)
    with pytest.raises(CorruptDataError, match="does not end where the first began"):
        entropy.decode(entropy.encode(np.zeros(50, np.int32), f), f, 30)
    with pytest.raises(CorruptDataError, match="where none are needed"):
        entropy.decode(b"\1\0\0\0", frequencies([5]), 3)
    with pytest.raises(CorruptDataError, match="refuses"):
        entropy.decode(b"\0\0\0\0", f, 1)
