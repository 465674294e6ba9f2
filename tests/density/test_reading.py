"""Reading from files: short reads, damage in any place, chunks that are missing."""

import io

import numpy as np
import pytest

import density as ds
from density.container import RECORD, parse
from tests.density.test_streaming import streamed

HEAD = RECORD.size + 4


class ShortReads(io.RawIOBase):
    """Not seekable, and gives at most five bytes at a time."""

    def __init__(self, data):
        self.inner = io.BytesIO(data)

    def read(self, size=-1):
        return self.inner.read(min(size, 5))


@pytest.fixture
def case(rng):
    x = rng.poisson(3, (1000, 5)).astype(np.int16)
    return x, {"whole": ds.compress(x, chunk=1000), "stream": streamed(x, chunk=1000)}


@pytest.mark.parametrize("kind", ["whole", "stream"])
def test_reading_gives_what_decompress_gives(case, kind):
    x, data = case
    for file in (io.BytesIO(data[kind]), ShortReads(data[kind])):
        with ds.CompressedReader(file) as reader:
            assert reader.dtype == x.dtype
            assert np.array_equal(reader.read(), x)
    assert sum(map(len, ds.CompressedReader(io.BytesIO(data[kind])))) == x.size
    found = ds.CompressedReader(io.BytesIO(data[kind])).salvage()
    assert found.complete
    assert not found.missing
    assert np.array_equal(found.array(), x.reshape(-1))


@pytest.mark.parametrize("kind", ["whole", "stream"])
def test_a_damaged_chunk_is_named_and_the_others_are_read(case, kind):
    x, data = case
    record = parse(data[kind])[2][2]
    broken = bytearray(data[kind])
    broken[record.at + 9] ^= 4
    found = ds.CompressedReader(io.BytesIO(broken)).salvage()
    assert [number for number, _ in found.chunks] == [0, 1, 3, 4]
    assert any("chunk 2" in s and "is damaged: its checksum does not match" in s for s in found.missing)
    assert "chunk 2 is missing" in found.missing
    for number, part in found.chunks:
        assert np.array_equal(part, x.reshape(-1)[number * 1000 : number * 1000 + 1000])
    with pytest.raises(ds.ChecksumError, match="chunk 2"):
        ds.CompressedReader(io.BytesIO(broken)).read()


@pytest.mark.parametrize("kind", ["whole", "stream"])
def test_a_missing_chunk_is_named(case, kind):
    _, data = case
    record = parse(data[kind])[2][2]
    cut = data[kind][: record.at - HEAD] + data[kind][record.at + record.size :]
    found = ds.CompressedReader(io.BytesIO(cut)).salvage()
    assert "chunk 2 is missing" in found.missing
    assert [number for number, _ in found.chunks] == [0, 1, 3, 4]
    with pytest.raises(ds.CorruptDataError, match="chunk 2 is missing: chunk 3 stands in its place"):
        ds.CompressedReader(io.BytesIO(cut)).read()


def test_a_damaged_head_or_length_loses_one_chunk_alone(case):
    _, data = case
    for kind in data:
        record = parse(data[kind])[2][1]
        for at in range(record.at - HEAD, record.at):
            broken = bytearray(data[kind])
            broken[at] ^= 0x81
            found = ds.CompressedReader(io.BytesIO(broken)).salvage()
            assert [number for number, _ in found.chunks] == [0, 2, 3, 4]
            assert not found.complete


def test_a_damaged_model_takes_its_chunks_with_it(case):
    _, data = case
    record = parse(data["whole"])[1][0]
    broken = bytearray(data["whole"])
    broken[record.at] ^= 1
    found = ds.CompressedReader(io.BytesIO(broken)).salvage()
    assert not found.chunks
    assert "chunk 3 needs model 0, which is not there" in found.missing
    assert "chunks 0 to 4 are missing" in found.missing
    assert len(found.array()) == 0


def test_limits_and_misuse(case):
    _, data = case
    with pytest.raises(ds.LimitExceededError, match="more than the limit of 4000"):
        ds.CompressedReader(io.BytesIO(data["stream"]), max_bytes=4000).read()
    reader = ds.CompressedReader(io.BytesIO(data["stream"]))
    reader.read()
    with pytest.raises(ValueError, match="the file has been read; open it again"):
        reader.read()
    with pytest.raises(ds.NotOurDataError, match="the data begin with b'PK"):
        ds.CompressedReader(io.BytesIO(b"PK\3\4" + bytes(60)))
    with pytest.raises(ds.TruncatedDataError, match="bytes follow the end"):
        ds.CompressedReader(io.BytesIO(data["stream"] + b"x")).read()
