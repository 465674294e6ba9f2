"""Damaged files in bounded memory."""

import io
import tracemalloc

import numpy as np
import pytest

import density as ds
from density.container import HEAD_SIZE, parse
from density.window import Window
from tests.density.container_mutants import repaired
from tests.density.test_streaming import streamed


def test_a_long_file_is_salvaged_in_the_memory_of_a_chunk(rng, tmp_path):
    path, x = tmp_path / "long", rng.integers(-(2**63), 2**63 - 1, 1_000_000)
    path.write_bytes(streamed(x, chunk=20_000))  # stored: noise
    with path.open("r+b") as file:
        file.seek(parse(path.read_bytes())[2][30].at + 5)
        file.write(b"damage")
    whole = []
    ds.CompressedReader(io.BytesIO(path.read_bytes())).salvage(lambda number, part: None)  # compiled and imported
    tracemalloc.start()
    try:
        with path.open("rb") as file:
            found = ds.CompressedReader(file).salvage(
                lambda number, part: whole.append(np.array_equal(part, x[number * 20_000 : (number + 1) * 20_000]))
            )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20 < path.stat().st_size / 1.9
    assert whole == [True] * 49
    assert found.counts == {number: 20_000 for number in range(50) if number != 30}
    assert not found.chunks
    assert not found.complete
    assert "chunk 30 is missing" in found.missing


def test_each_needs_no_limit(rng):
    x = rng.poisson(3, 4000)
    data = ds.compress(x, chunk=1000)
    found = ds.CompressedReader(io.BytesIO(data), max_bytes=8000).salvage(lambda *_: None)
    assert found.complete
    assert found.counts == dict.fromkeys(range(4), 1000)
    kept = ds.CompressedReader(io.BytesIO(data), max_bytes=16_000).salvage()
    assert [number for number, _ in kept.chunks] == [0, 1]
    assert any("more than the limit of 16000" in sentence for sentence in kept.missing)


def test_a_stream_whose_chunks_are_short_is_refused_by_everyone(rng):
    """Found by fuzzing: the header's chunk was raised by one, and the reader called the file complete."""
    data = bytearray(streamed(rng.poisson(3, 306), chunk=100))
    data[28] = 101
    forged = repaired(bytes(data))
    sentence = "chunk 0 holds 100 elements; 101 belong there"
    with pytest.raises(ds.CorruptDataError, match=sentence):
        ds.decompress(forged)
    with pytest.raises(ds.CorruptDataError, match=sentence):
        ds.CompressedReader(io.BytesIO(forged)).read()
    found = ds.CompressedReader(io.BytesIO(forged)).salvage()
    assert sentence in found.missing
    assert not found.complete


def test_a_forged_length_is_not_read(rng):
    x = rng.poisson(3, 3000)
    data = bytearray(ds.compress(x, chunk=1000))
    record = parse(bytes(data))[2][0]
    data[record.at - HEAD_SIZE + 12 : record.at - HEAD_SIZE + 16] = (2).to_bytes(4, "little")
    found = ds.CompressedReader(io.BytesIO(repaired(bytes(data)))).salvage()
    assert any("chunk 0 claims" in sentence for sentence in found.missing)
    assert [number for number, _ in found.chunks] == [1, 2]


def test_sentences_end_somewhere(rng):
    data = ds.compress(rng.poisson(3, 40), chunk=40)
    record = parse(data)[1][0]
    model = data[record.at - HEAD_SIZE : record.at + record.size]
    found = ds.CompressedReader(io.BytesIO(repaired(data + 1500 * model))).salvage()
    assert len(found.missing) == 1001
    assert found.missing[0] == "model 0 occurs twice"
    assert found.missing[-1].startswith("and 5")


def test_a_window_holds_what_was_not_forgotten():
    data = bytes(range(200)) * 5
    file = io.BytesIO(data)
    window = Window(file.read, 0, 16)
    assert window.read(3, 10) == data[3:13]
    assert window.find(b"\x64\x65", 50) == 100
    assert window.held < 40
    assert window.read(150, 2000) == data[150:]
    assert window.find(b"\xff", 150) == len(data)
    assert window.held <= 16
    assert window.read(len(data), 4) == b""
