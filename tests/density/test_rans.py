"""The entropy coder: exact, within 0.01 % of the cross-entropy, the same bytes everywhere, and safe on any input."""

import hashlib
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from density.rans import (
    ESCAPE,
    FrequencyTables,
    StreamError,
    StreamStatus,
    decode,
    decode_chunks,
    encode,
    encode_chunks,
    integer_frequencies,
)
from tests.conftest import ROOT
from tests.density.fuzz_rans import mutate
from tests.reference import rans_decode, rans_encode

INT64 = np.iinfo(np.int64)
LONG = 2**15  # from here on a stream has four lanes


def laplace_table(rng, n, scale, precision=24):
    values = np.rint(rng.laplace(size=n) * scale).astype(np.int64)
    low = values.min()
    weights = np.bincount(values - low)
    frequencies = integer_frequencies(weights, precision)
    return values, FrequencyTables(frequencies, low + np.arange(weights.size), precision=precision), weights


def rich_table(precision=16):
    """Plain run, buckets on both sides with 3, 40 and 63 raw bits, a gap, and an escape."""
    first = np.array([-(2**63), -(2**41), -8, 0, 1, 2, 3, 10, 2**34, 0])
    raw = np.array([61, 40, 3, 0, 0, 0, 0, 33, 40, ESCAPE])
    return FrequencyTables(
        integer_frequencies([1, 1, 2, 9, 8, 7, 5, 2, 1, 1], precision), first, raw, precision=precision
    )


def symbols_of(tables, contexts, count):
    """What the reference takes: the table of each value as a list of triples."""
    triples = list(zip(tables.frequencies.tolist(), tables.first_values.tolist(), tables.raw_bits.tolist()))
    parts = [triples[a:b] for a, b in zip(tables.offsets[:-1], tables.offsets[1:])]
    return [parts[0 if contexts is None else c] for c in (range(count) if contexts is None else contexts)]


any_value = st.integers(INT64.min, INT64.max) | st.integers(-20, 20) | st.integers(-(2**34), 2**42)


@given(st.lists(any_value, max_size=60), st.sampled_from([5, 12, 16, 24]))
def test_every_integer_comes_back_and_the_reference_writes_the_same_bytes(values, precision):
    tables = rich_table(precision)
    data = encode(np.array(values, dtype=np.int64), tables)
    assert decode(data, len(values), tables).tolist() == values
    symbols = symbols_of(tables, None, len(values))
    assert rans_encode(values, symbols, precision) == data
    assert rans_decode(data, symbols, precision) == values


@pytest.mark.parametrize("count", [LONG - 1, LONG, LONG + 1, LONG + 2, LONG + 3])
def test_four_lanes_write_the_bytes_of_the_reference(rng, count):
    tables = FrequencyTables.stack([rich_table(20), laplace_table(rng, 500, 3.0, 20)[1]])
    contexts = rng.integers(0, 2, count)
    values = np.where(contexts, rng.integers(-2, 3, count), rng.integers(-8, 1000, count))
    values[rng.integers(0, count, 40)] = -1
    values[contexts == 0][:5] = INT64.min
    data = encode(values, tables, contexts=contexts)
    symbols = symbols_of(tables, contexts.tolist(), count)
    assert rans_encode(values.tolist(), symbols, 20) == data
    assert rans_decode(data, symbols, 20) == values.tolist()
    np.testing.assert_array_equal(decode(data, count, tables, contexts=contexts), values)


@pytest.mark.parametrize("scale", [0.2, 3, 300])
@pytest.mark.parametrize("count", [2000, 200_000])
def test_size_is_within_a_part_in_ten_thousand_of_the_cross_entropy(rng, scale, count):
    values, tables, weights = laplace_table(rng, count, scale)
    cross_entropy = float(weights @ (24 - np.log2(tables.frequencies))) / 8
    entropy = float(-weights[weights > 0] @ np.log2(weights[weights > 0] / count)) / 8
    size = len(encode(values, tables))
    assert size <= cross_entropy * (1 + 1e-5) + (8 if count < LONG else 32)
    assert size <= entropy * (1 + 1e-4) + (8 if count < LONG else 32)


@pytest.mark.parametrize("scale", [0.5, 30])
def test_size_is_that_of_constriction(rng, scale):
    """An independent coder with the same model; one lane, so that only the arithmetic is compared."""
    stream = pytest.importorskip("constriction", reason="constriction is not installed").stream
    values, tables, _ = laplace_table(rng, LONG - 1, scale)
    model = stream.model.Categorical(tables.frequencies / 2.0**24, perfect=False)
    peer = stream.stack.AnsCoder()
    peer.encode_reverse((values - values.min()).astype(np.int32), model)
    ours, theirs = len(encode(values, tables)), 4 * len(peer.get_compressed())
    assert abs(ours - theirs) <= 1e-4 * theirs + 8


def test_bytes_do_not_depend_on_workers_nor_on_the_layout_of_the_input(rng):
    values, tables, _ = laplace_table(rng, 3 * LONG, 9.0)
    expected = encode_chunks(values, tables, chunk=40_000, workers=1)
    square = values.reshape(3, LONG)
    read_only = values.copy()
    read_only.flags.writeable = False
    for given_, workers in [(values, 2), (values, 3), (np.asfortranarray(square), 2), (read_only, None)]:
        assert encode_chunks(given_, tables, chunk=40_000, workers=workers) == expected
    assert encode_chunks(values.astype(">i4"), tables, chunk=40_000) == expected
    assert [encode(values[i : i + 40_000], tables) for i in range(0, values.size, 40_000)] == expected
    counts = [40_000, 40_000, values.size - 80_000]
    for workers in (1, 2, 8):
        out, statuses = decode_chunks(expected, counts, tables, workers=workers, dtype=np.int16)
        assert out.dtype == np.int16
        assert set(statuses) == {StreamStatus.OK}
        np.testing.assert_array_equal(out, values)


def test_the_bytes_are_pinned():
    """A change of any bit makes earlier streams unreadable."""
    values = np.arange(-40_000, 60_000, dtype=np.int64) ** 3 // 77_777
    for count, digest in [(3, "4c6ff35d98a875e7"), (1000, "0fb7d583b2706267"), (100_000, "34d85dadcd60d668")]:
        data = encode(values[:count], rich_table(20))
        assert hashlib.sha256(data).hexdigest()[:16] == digest


def test_a_broken_chunk_is_named_and_leaves_the_others_alone(rng):
    values, tables, _ = laplace_table(rng, 30_000, 5.0)
    payloads = encode_chunks(values, tables, chunk=10_000)
    payloads[1] = payloads[1][:-4]
    out, statuses = decode_chunks(payloads, [10_000] * 3, tables)
    assert [s is StreamStatus.OK for s in statuses] == [True, False, True]
    np.testing.assert_array_equal(out[:10_000], values[:10_000])
    np.testing.assert_array_equal(out[20_000:], values[20_000:])


@pytest.mark.parametrize("count", [50, LONG + 7])
def test_cut_and_extended_streams_are_refused(rng, count):
    values, tables, _ = laplace_table(rng, count, 4.0)
    data = encode(values, tables)
    for cut in [0, 1, 3, 4, 8, 12, 31, 32, len(data) // 2, len(data) - 4, len(data) - 1]:
        if cut < len(data):
            with pytest.raises(StreamError) as caught:
                decode(data[:cut], count, tables)
            assert caught.value.status in (StreamStatus.TRUNCATED, StreamStatus.FINAL_STATE)
            if count > LONG:
                assert caught.value.status is StreamStatus.TRUNCATED
    with pytest.raises(StreamError, match="goes on after its last value" if count > LONG else "did not end where"):
        decode(data + b"1234", count, tables)
    with pytest.raises(StreamError, match="ends before its last value"):
        decode(data + b"1", count, tables)
    with pytest.raises(StreamError):
        decode(data, count + 4, tables)
    with pytest.raises(StreamError):
        decode(data, count - 4, tables)


@pytest.mark.parametrize("count", [50, LONG + 7])
def test_flipped_bits_are_refused_or_at_least_harmless(rng, count):
    """The final state is a check of its own, 32 bits wide or wider; a container adds a checksum."""
    values, tables, _ = laplace_table(rng, count, 4.0)
    data = encode(values, tables)
    for bit in rng.integers(0, 8 * len(data), 60):
        broken = bytearray(data)
        broken[bit // 8] ^= 1 << (bit % 8)
        _, (status,) = decode_chunks([bytes(broken)], [count], tables)
        assert status is not StreamStatus.OK


def test_mutated_streams_keep_the_laws_of_the_format():
    """`fuzz_rans` says which; every status must occur, or the mutations would not reach the decoder."""
    found = mutate(20_000)
    assert set(found) == {status.name for status in StreamStatus}
    assert min(found.values()) > 100


def test_no_index_leaves_its_array(tmp_path):
    """The same with every index checked, compiled anew."""
    environment = {**os.environ, "NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [
        sys.executable,
        str(ROOT / "tests" / "density" / "fuzz_rans.py"),
        "--executions",
        "5000",
        "--seed",
        "777",
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("5,000 executions in")


@pytest.mark.parametrize("count", [40, LONG])
@pytest.mark.parametrize("precision", [5, 24])
def test_noise_gets_an_answer(rng, count, precision):
    tables = rich_table(precision)
    for length in [*range(48), 200, 8 * count]:
        _, (status,) = decode_chunks([rng.bytes(length)], [count], tables)
        assert isinstance(status, StreamStatus)
    _, (status,) = decode_chunks([bytes(400)], [count], tables)
    assert status is not StreamStatus.OK


def test_an_impossible_escape_length_is_called_corrupt():
    tables = FrequencyTables([16], [0], [ESCAPE], precision=4)
    data = rans_encode([5], [[(16, 0, 255)]], 4)
    assert decode(data, 1, tables).tolist() == [5]
    state = (1 << 7 | 65).to_bytes(4, "little")  # a bit length of 65
    with pytest.raises(StreamError, match="no encoder writes"):
        decode(state, 1, tables)


def test_nothing_to_code():
    tables = rich_table()
    assert encode([], tables) == b""
    assert decode(b"", 0, tables).tolist() == []
    assert encode_chunks([], tables) == []
    with pytest.raises(StreamError, match="goes on after"):
        decode(b"1234", 0, tables)


def test_a_certain_symbol_costs_nothing():
    tables = FrequencyTables([2**24], [7])
    data = encode(np.full(10 * LONG, 7), tables)
    assert len(data) == 32
    assert (decode(data, 10 * LONG, tables) == 7).all()


def test_full_range_of_int64(rng):
    tables = FrequencyTables([2**24], [INT64.min], [64])
    values = np.concatenate([[INT64.min, INT64.max, 0, -1], rng.integers(INT64.min, INT64.max, 1000)])
    np.testing.assert_array_equal(decode(encode(values, tables), values.size, tables), values)


def test_many_small_tables(rng):
    """More tables than the look-up has room for: every one is searched from its first symbol."""
    count = 70_000
    weights = rng.integers(1, 50, (count, 5))
    frequencies = np.concatenate([integer_frequencies(w, 12) for w in weights[:500]] * (count // 500))
    tables = FrequencyTables(frequencies, offsets=np.arange(0, 5 * count + 1, 5), precision=12)
    values, contexts = rng.integers(0, 5, count), rng.permutation(count)
    data = encode(values, tables, contexts=contexts)
    np.testing.assert_array_equal(decode(data, count, tables, contexts=contexts), values)


@given(st.lists(st.integers(0, 2**62), min_size=1, max_size=40).filter(any), st.integers(6, 24))
def test_integer_frequencies_add_up_and_follow_the_weights(weights, precision):
    frequencies = integer_frequencies(weights, precision).astype(object)
    assert sum(frequencies) == 2**precision
    assert min(frequencies) >= 1
    share = [2**precision * w / sum(weights) for w in weights]
    room = 1 - len(weights) / 2**precision  # what is left when each symbol has its one
    assert all(room * s - 1.01 <= f <= s + 1.01 or f == 1 for f, s in zip(frequencies, share))


def test_integer_frequencies_at_their_edges():
    assert integer_frequencies([0, 5, 0], 2).tolist() == [1, 2, 1]
    assert integer_frequencies([9], 24).tolist() == [2**24]
    assert integer_frequencies([0, 0, 2**62], 24).tolist() == [1, 1, 2**24 - 2]
    assert integer_frequencies(np.arange(16), 4).tolist() == [1] * 16
    with pytest.raises(ValueError, match="17 symbols do not fit into precision=4"):
        integer_frequencies(np.ones(17, int), 4)
    with pytest.raises(ValueError, match="not all zero"):
        integer_frequencies([0, 0], 4)
    with pytest.raises(ValueError, match=">= 0"):
        integer_frequencies([-1, 2], 4)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"frequencies": [8, 9]}, "the frequencies of table 0 add up to 17, not to 2\\^4=16"),
        ({"frequencies": [8, 7]}, "add up to 15"),
        ({"frequencies": [16, 0]}, "symbol 1 of table 0 has frequency 0"),
        ({"frequencies": [8, 8, 8, 7], "offsets": [0, 2, 4]}, "table 1 add up to 15"),
        ({"frequencies": [8, 8], "first_values": [3, 3]}, "symbol 1 of table 0 starts inside the one before"),
        ({"frequencies": [8, 8], "first_values": [0, 7], "raw_bits": [3, 0]}, "starts inside the one before"),
        ({"frequencies": [16], "first_values": [1], "raw_bits": [63]}, "ends past 2\\^63 - 1"),
        ({"frequencies": [16], "first_values": [1], "raw_bits": [64]}, "ends past 2\\^63 - 1"),
        ({"frequencies": [8, 8], "raw_bits": [65, 0]}, "raw_bits=65; expected 0..64"),
        ({"frequencies": [8, 8], "raw_bits": [ESCAPE, 0]}, "put the escape last"),
        ({"frequencies": [8, 8], "raw_bits": [0]}, "2 frequencies, 2 first_values and 1 raw_bits"),
        ({"frequencies": [8, 8], "offsets": [0, 1]}, "offsets must rise from 0 to the 2 symbols"),
        ({"frequencies": [8, 8], "offsets": [0, 0, 2]}, "offsets must rise"),
        ({"frequencies": []}, "at least one entry"),
        ({"frequencies": [8.5, 7.5]}, "not integers"),
        ({"frequencies": [-1, 17]}, "not integers in 0"),
        ({"frequencies": [16], "precision": 25}, "precision=25 is outside 1..24"),
    ],
)
def test_tables_that_cannot_work_are_refused_by_name(arguments, message):
    with pytest.raises(ValueError, match=message):
        FrequencyTables(**{"precision": 4, **arguments})


def test_bad_arguments_are_named():
    tables = FrequencyTables([8, 8], [-1, 0], precision=4)
    with pytest.raises(ValueError, match=r"values\[2\]=5 is covered by no symbol of table 0; widen"):
        encode([0, -1, 5], tables)
    with pytest.raises(ValueError, match=r"values\[3\]=5 is covered"):
        encode_chunks([0, -1, 0, 5], tables, chunk=2, workers=2)
    with pytest.raises(TypeError, match="takes integers: round them first"):
        encode([0.5], tables)
    with pytest.raises(ValueError, match="reach past 2\\^63 - 1"):
        encode(np.array([2**63], np.uint64), tables)
    with pytest.raises(ValueError, match=r"contexts go from 0 to 1; there are tables 0..0"):
        encode([0, 0], tables, contexts=[0, 1])
    with pytest.raises(ValueError, match="1 contexts for 2 values"):
        encode([0, 0], tables, contexts=[0])
    with pytest.raises(TypeError, match="dtype=float64 is not an integer type"):
        decode(b"", 0, tables, dtype=float)
    with pytest.raises(ValueError, match="count=-1 is outside 0"):
        decode(b"", -1, tables)
    with pytest.raises(ValueError, match="2 payloads and 1 counts"):
        decode_chunks([b"", b""], [0], tables)
    with pytest.raises(TypeError, match=r"count=1.5 is not an integer"):
        decode(b"", 1.5, tables)
    with pytest.raises(ValueError, match="cannot be stacked"):
        FrequencyTables.stack([tables, FrequencyTables([2], precision=1)])
    with pytest.raises(ValueError, match="at least one"):
        FrequencyTables.stack([])


def test_tables_and_errors_pickle(rng):
    values, tables, _ = laplace_table(rng, 100, 2.0)
    again = pickle.loads(pickle.dumps(tables))
    assert repr(again) == repr(tables) == f"FrequencyTables(1 tables, {len(tables.frequencies)} symbols, precision=24)"
    assert encode(values, again) == encode(values, tables)
    error = StreamError(StreamStatus.TRUNCATED, "chunk 3: ")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) == "chunk 3: " + StreamStatus.TRUNCATED.value
    assert again.status is StreamStatus.TRUNCATED
