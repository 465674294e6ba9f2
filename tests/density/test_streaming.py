"""Writing to files: what faults leave behind can be read, and is named."""

import errno
import io
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import density as ds
from tests.conftest import ROOT


def streamed(x, pieces=7, **options) -> bytes:
    file = io.BytesIO()
    with ds.CompressedWriter(file, x.dtype, row=x.shape[1:], **options) as writer:
        for rows in np.array_split(x, pieces):
            writer.write(rows)
    return file.getvalue()


@given(st.integers(0, 60), st.integers(1, 9), st.integers(1, 40))
def test_the_pieces_that_are_written_change_nothing(rows, pieces, chunk):
    x = (np.arange(rows * 3) ** 3 % 11).astype(np.int16).reshape(rows, 3)
    data = streamed(x, pieces, chunk=chunk)
    assert data == streamed(x, 1, chunk=chunk)
    found = ds.decompress(data)
    assert (found.dtype, found.shape) == (x.dtype, x.shape)
    assert np.array_equal(found, x)


def test_floats_and_changing_sources(rng):
    x = np.concatenate([rng.normal(0, s, 4000) for s in (1, 50, 1, 1)])
    x[[5, 9000]] = np.nan, -0.0
    data = streamed(x, chunk=1000, step=0.1)
    assert np.nanmax(np.abs(ds.decompress(data) - x)) <= 0.05
    assert streamed(x, chunk=1000, lossless=True) != data
    assert ds.decompress(streamed(x, chunk=1000, lossless=True)).tobytes() == x.tobytes()
    assert len(data) < 1.02 * len(ds.compress(x, step=0.1, chunk=1000))  # it adapts to the change


@pytest.mark.parametrize("workers", [2, 8, None])
def test_the_bytes_of_a_stream_do_not_depend_on_workers(rng, workers):
    parts = [
        rng.poisson(3, 3000),
        rng.integers(-(2**63), 2**63 - 1, 2000),
        rng.poisson(40, 4500),
        rng.poisson(41, 1700),
    ]
    x = np.concatenate(parts)
    first = streamed(x, pieces=2, chunk=500)
    assert streamed(x, pieces=2, chunk=500, workers=workers) == first
    assert streamed(x, pieces=11, chunk=500, workers=workers) == first
    assert np.array_equal(ds.decompress(first, workers=workers), x)


class ShortWrites(io.BytesIO):
    """Takes at most seven bytes at a time, as a pipe or a raw file may."""

    def write(self, data):
        return super().write(bytes(data[:7]))


class FullDisk(io.BytesIO):
    """A disk with room for so many bytes."""

    def __init__(self, room):
        super().__init__()
        self.room = room

    def write(self, data):
        if self.tell() + len(data) > self.room:
            super().write(bytes(data[: self.room - self.tell()]))
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


def test_short_writes_are_continued(rng):
    x = rng.poisson(3, 5000)
    file = ShortWrites()
    with ds.CompressedWriter(file, x.dtype, chunk=1000) as writer:
        writer.write(x)
    assert np.array_equal(ds.decompress(file.getvalue()), x)


@pytest.mark.parametrize("room", [100, 700, 1000, 2500])
def test_a_full_disk_raises_and_leaves_whole_chunks(rng, room):
    x = rng.poisson(3, 10_000)
    file = FullDisk(room)
    with pytest.raises(OSError, match="No space left"), ds.CompressedWriter(file, x.dtype, chunk=1000) as writer:
        writer.write(x)
    with pytest.raises(ValueError, match=r"the writer is .*; begin a new file"):
        writer.write(x)
    with pytest.raises(ds.TruncatedDataError):
        ds.decompress(file.getvalue())
    found = ds.CompressedReader(io.BytesIO(file.getvalue())).salvage()
    assert not found.complete
    assert any("its writer was interrupted" in sentence for sentence in found.missing)
    n = len(found.array())
    assert np.array_equal(found.array(), x[:n])
    assert n == 1000 * max(0, round((room - 130) / 330)) or n <= 1000 * (room // 300)


def test_a_file_that_takes_nothing():
    class Deaf(io.BytesIO):
        def write(self, _):
            return 0

    with pytest.raises(OSError, match="the file took none of 47 bytes, after 0 bytes"):
        ds.CompressedWriter(Deaf(), np.int8)


def test_an_exception_in_the_block_leaves_the_file_interrupted(rng):
    x, file = rng.poisson(3, 2500), io.BytesIO()
    writer = ds.CompressedWriter(file, x.dtype, chunk=1000)
    writer.write(x)
    with pytest.raises(ValueError, match="rows are int8"), writer:
        writer.write(x.astype(np.int8))
    with pytest.raises(ds.TruncatedDataError, match=r"no end after 2 whole chunks: its writer was interrupted"):
        ds.decompress(file.getvalue())
    found = ds.CompressedReader(io.BytesIO(file.getvalue())).salvage()
    assert np.array_equal(found.array(), x[:2000])


KILLED = """
import sys
import numpy as np
import density as ds
with open(sys.argv[1], "wb") as file, ds.CompressedWriter(file, np.int64, chunk=1000) as writer:
    for i in range(10**9):
        writer.write(np.arange(i * 250, (i + 1) * 250) % 97)
        if i == 40:
            print("going", flush=True)
"""


def test_a_killed_writer_leaves_every_whole_chunk(tmp_path):
    path = tmp_path / "killed.tdnz"
    command = [sys.executable, "-c", KILLED, str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, env=os.environ.copy()) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"going\n"
        time.sleep(0.02)
        writer.send_signal(signal.SIGKILL)
        assert writer.wait() == -signal.SIGKILL
    with pytest.raises(ds.TruncatedDataError):
        ds.decompress(path.read_bytes())
    with path.open("rb") as file:
        found = ds.CompressedReader(file).salvage()
    n = len(found.array())
    assert n >= 10_000
    assert n % 1000 == 0
    assert np.array_equal(found.array(), np.arange(n) % 97)


MISUSE = [
    (lambda w: w.write(np.zeros((2, 2), np.int16)), ValueError, r"of shape \(2, 2\); this stream takes int16 of shape"),
    (lambda w: w.write(np.zeros((2, 3), np.int8)), ValueError, "rows are int8"),
    (lambda w: w.write(np.int16(3)), ValueError, "rows are int16 of shape"),
]


@pytest.mark.parametrize("call, error, message", MISUSE, ids=range(len(MISUSE)))
def test_misuse_says_what_to_do(call, error, message):
    with pytest.raises(error, match=message):
        call(ds.CompressedWriter(io.BytesIO(), np.int16, row=(3,)))


def test_constructors_refuse_what_compress_refuses():
    with pytest.raises(ValueError, match="pass step= to quantise it"):
        ds.CompressedWriter(io.BytesIO(), np.float32)
    with pytest.raises(ValueError, match=r"row=\(0,\) holds no elements"):
        ds.CompressedWriter(io.BytesIO(), np.int8, row=(0,))
    writer = ds.CompressedWriter(io.BytesIO(), np.int8)
    writer.close()
    writer.close()
    with pytest.raises(ValueError, match="the writer is closed; begin a new file"):
        writer.write(np.zeros(3, np.int8))
