"""Containers: golden files decode for ever, and damage of any kind ends in a clean error or in the exact data."""

import os
import re
import struct
import tracemalloc

import numpy as np
import pytest

import density as ds
from density.container import HEADER, RECORD, parse
from tests.conftest import ROOT
from tests.density.container_mutants import repaired
from tests.density.fuzz_container import check_reader, mutate_by_processes

GOLDEN = {path.stem: path for path in sorted((ROOT / "tests" / "golden").glob("v*.tdnz"))}
DAMAGED = ["v1_steps", "v1_stream_steps", "v0_heavy_tail"]


def same(x, y) -> bool:
    return x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes()


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_files_decode_for_ever(name):
    expected = np.load(GOLDEN[name].with_suffix(".npy"))
    blob = GOLDEN[name].read_bytes()
    for workers in (1, 2, 8):
        assert same(ds.decompress(blob, workers=workers), expected)
    if expected.ndim:
        assert same(ds.decompress(blob, slice(1, 7)), expected[1:7])


def test_there_are_golden_files_of_every_version():
    assert {name[:2] for name in GOLDEN} == {"v0", "v1"}
    assert len(GOLDEN) >= 20


@pytest.mark.parametrize("name", DAMAGED)
def test_every_truncation_and_every_flipped_bit_is_noticed(name):
    blob, expected = GOLDEN[name].read_bytes(), np.load(GOLDEN[name].with_suffix(".npy"))
    for size in range(len(blob)):
        with pytest.raises(ds.CorruptDataError):
            ds.decompress(blob[:size], workers=1)
    with pytest.raises(ds.TruncatedDataError):
        ds.decompress(blob + b"\0")
    for bit in range(8 * len(blob)):
        flipped = bytearray(blob)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            found = ds.decompress(bytes(flipped), workers=1)
        except ds.CorruptDataError:
            continue
        assert same(found, expected)


@pytest.mark.parametrize("name", ["v1_steps", "v1_stream_steps", "v1_channels", "v0_heavy_tail"])
def test_forged_headers_end_in_clean_errors_and_take_no_memory(name):
    blob = GOLDEN[name].read_bytes()
    tracemalloc.start()
    try:
        for at in range(5, 240):
            for value in (0, 129, 255):
                forged = repaired(blob[:at] + bytes([value]) + blob[at + 1 :])
                try:
                    ds.decompress(forged, max_bytes=1 << 20, workers=1)
                except ds.CorruptDataError:
                    pass
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_an_enormous_length_is_refused_before_memory_is_taken():
    blob = bytearray(ds.compress(np.arange(1000, dtype=np.int16) % 7, chunk=1 << 28))
    shape = HEADER.size + blob[9]
    struct.pack_into("<Q", blob, shape, 1 << 50)
    with pytest.raises(ds.CorruptDataError, match="4194304 chunks belong to the shape"):
        ds.decompress(repaired(bytes(blob)))
    struct.pack_into("<Q", blob, shape, 1 << 27)
    struct.pack_into("<I", blob, parse(ds.compress(np.arange(1000, dtype=np.int16) % 7))[2][0].at - 20, 1 << 27)
    tracemalloc.start()
    try:
        with pytest.raises(ds.CorruptDataError, match="bytes cannot hold 134217728 symbols"):
            ds.decompress(repaired(bytes(blob)))
        with pytest.raises(ds.LimitExceededError, match="asks for 268435456 bytes, more than the limit of 1000000"):
            ds.decompress(repaired(bytes(blob)), max_bytes=10**6)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_the_mutator_reaches_what_lies_behind_the_checksums():
    """Laws in `fuzz_container`; FUZZ_EXECUTIONS asks for more, 10,000 a second and core. `make fuzz`: fifty million."""
    executions = int(os.environ.get("FUZZ_EXECUTIONS", "100000"))
    found = mutate_by_processes(executions, 2)
    assert sum(found.values()) == executions
    assert {"decoded", "other data", "CorruptData", "Checksum", "TruncatedData", "LimitExceeded"} <= set(found)
    assert found["other data"] > executions // 50


REFUSED = sorted((ROOT / "tests" / "corpus" / "refused").iterdir())


@pytest.mark.parametrize("path", REFUSED, ids=[path.name for path in REFUSED])
def test_what_the_fuzzers_found_is_refused_in_so_many_words(path):
    """The smallest input for each sentence, found by both engines; its name is the sentence without its numbers."""
    data = path.read_bytes()
    with pytest.raises(ds.CorruptDataError) as caught:
        ds.decompress(data, max_bytes=1 << 18)
    words = re.sub("[^a-z]+", " ", re.sub("[0-9]+", "n", str(caught.value).lower())).split()
    named = [word for word in path.name.split("_") if word not in ("n", "")][:3]
    assert all(word in words for word in named)
    check_reader(data)


def test_a_record_of_another_file_does_not_pass(rng):
    x, y = rng.poisson(3, 3000), rng.poisson(3, 3000)
    a, b = bytearray(ds.compress(x, chunk=1000)), ds.compress(y + 0, chunk=1000, step=None)
    at = [record.at for record in parse(bytes(a))[2]]
    other = parse(b)[2][1]
    head = RECORD.size + 4
    piece = b[other.at - head : other.at + other.size]
    a[at[1] - head : at[2] - head] = piece
    with pytest.raises(ds.CorruptDataError):
        ds.decompress(bytes(a))
