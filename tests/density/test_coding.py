"""What goes in comes out, or a clean error does."""

import struct
import subprocess
import sys
import zlib

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import density as ds
from tests.conftest import ROOT

INTEGERS = [np.dtype(c) for c in ("?", "b", "B", "h", "H", "i", "I", "q", "Q", ">i2", ">u8")]
FLOATS = [np.dtype(c) for c in ("f2", "f4", "f8", ">f4", ">f8")]
shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=7)


def entropy_bytes(x):
    _, counts = np.unique(x, return_counts=True)
    return float(-(counts * np.log2(counts / counts.sum())).sum() / 8)


def identical(y, x):
    x = np.asarray(x)
    return y.dtype == x.dtype and y.shape == x.shape and y.tobytes() == x.tobytes()


@given(st.sampled_from(INTEGERS).flatmap(lambda d: hnp.arrays(d, shapes)))
def test_integers_of_every_width_are_exact(x):
    assert identical(ds.decompress(ds.compress(x)), x)


@given(st.sampled_from(FLOATS).flatmap(lambda d: hnp.arrays(d, shapes)))
def test_every_bit_of_a_float_is_kept_on_request(x):
    assert identical(ds.decompress(ds.compress(x, lossless=True)), x)


@given(
    st.sampled_from(FLOATS).flatmap(lambda d: hnp.arrays(d, shapes)),
    st.sampled_from([1e-300, 1e-8, 0.01, 0.1, 1.0, 3.0, 1e30]),
)
def test_quantised_floats_lie_within_half_a_step(x, step):
    y = ds.decompress(ds.compress(x, step=step))
    assert (y.dtype, y.shape) == (x.dtype, x.shape)
    odd = ~np.isfinite(x) | ((x == 0) & np.signbit(x))
    assert np.array_equal(np.isnan(y), np.isnan(x))
    assert np.array_equal(y[odd], x[odd], equal_nan=True)
    assert np.array_equal(np.signbit(y[odd]), np.signbit(x[odd]))
    with np.errstate(over="ignore"):
        assert (np.abs(y[~odd].astype(float) - x[~odd].astype(float)) <= step / 2).all()


@pytest.mark.parametrize("dtype", [d for d in INTEGERS if d.kind != "b"], ids=str)
def test_the_ends_of_the_range(rng, dtype):
    info = np.iinfo(dtype)
    ends = np.array([info.min, info.max, 0, 1, info.max - 1, info.min + 1], dtype)
    for x in (ends, np.tile(ends, 300), np.concatenate([np.zeros(5000, dtype), ends])):
        assert identical(ds.decompress(ds.compress(x)), x)


SOURCES = {
    "laplace": lambda rng, n: np.rint(rng.laplace(0, 20, n)),
    "mixture": lambda rng, n: np.rint(rng.normal(rng.choice(np.linspace(-500, 500, 25), n), 8)),
    "t3": lambda rng, n: np.rint(10 * rng.standard_t(3, n)),
    "zero-inflated": lambda rng, n: np.where(rng.random(n) < 0.99, 0, rng.exponential(100, n).round()),
    "four values": lambda rng, n: rng.choice([10**9, -(10**9), 3, 7 * 10**8], n),
}


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_the_size_is_that_of_the_entropy(rng, name):
    x = SOURCES[name](rng, 200_000).astype(np.int32)
    blob = ds.compress(x)
    assert identical(ds.decompress(blob), x)
    assert len(blob) <= 1.004 * entropy_bytes(x) + 320


@pytest.mark.parametrize("chunk", [7, 100, 1 << 20])
@given(st.lists(st.tuples(st.integers(-2, 3), st.integers(1, 900)), min_size=1, max_size=8))
def test_runs_of_any_value_come_back(chunk, runs):
    x = np.concatenate([np.full(length, value) for value, length in runs])
    assert identical(ds.decompress(ds.compress(x, chunk=chunk)), x)


def test_heavy_tails_escape_into_buckets(rng):
    x = np.rint(np.clip(10 * rng.standard_cauchy(100_000), -1e15, 1e15)).astype(np.int64)
    blob = ds.compress(x)
    assert identical(ds.decompress(blob), x)
    assert len(blob) <= 1.02 * entropy_bytes(x) + 400


def test_noise_is_stored_and_constants_cost_nothing(rng):
    noise = rng.integers(0, 2**64, 4000, dtype=np.uint64)
    assert len(ds.compress(noise)) < noise.nbytes + 120
    assert len(ds.compress(np.full(10**5, 7))) < 140
    assert identical(ds.decompress(ds.compress(np.full(10**5, 7))), np.full(10**5, 7))


def test_scalars_and_empty_and_strided_arrays(rng):
    x = rng.integers(-9, 9, (20, 30))
    frozen = x.copy()
    frozen.setflags(write=False)
    for a in (np.int16(3), np.zeros((0, 4), np.int8), x[::2, ::-1], np.asfortranarray(x), frozen, [1, 2, 3], True):
        assert identical(ds.decompress(ds.compress(a)), a)


def test_workers_and_chunks_change_no_value(rng):
    x = rng.normal(size=10_000)
    first = ds.compress(x, step=0.1, chunk=999, workers=1)
    for workers in (2, 3, None):
        assert ds.compress(x, step=0.1, chunk=999, workers=workers) == first
        assert identical(ds.decompress(first, workers=workers), ds.decompress(first, workers=1))
    assert identical(ds.decompress(ds.compress(x, step=0.1)), ds.decompress(first))


def test_input_of_either_memory_order_gives_its_own_bytes_each_time(rng):
    x = rng.integers(-9, 9, (50, 40))
    assert ds.compress(x) == ds.compress(np.asfortranarray(x)) == ds.compress(x.copy())


@pytest.mark.parametrize("dtype", [np.float64, np.int32, np.uint8])
def test_a_density_can_supply_the_probabilities(rng, dtype):
    x = (100 + 12 * rng.standard_normal(50_000)).astype(dtype)
    model = ds.fit(x, order=8, map="logistic")
    step = {"step": 0.5} if dtype is np.float64 else {}
    by_counts, by_model = ds.compress(x, **step), ds.compress(x, model=model, **step)
    assert identical(ds.decompress(by_model), ds.decompress(by_counts))
    assert len(by_model) < 1.01 * len(by_counts)


def test_nan_payloads_survive_a_step():
    x = np.array([0x7FF0000000000001, 0xFFF8000000000123], np.uint64).view(np.float64)
    assert ds.decompress(ds.compress(np.tile(x, 3), step=0.5)).tobytes() == np.tile(x, 3).tobytes()


def blobs():
    rng = np.random.default_rng(20270)
    return {
        "integers": ds.compress(rng.normal(0, 3, 200).round().astype(np.int16)),
        "steps": ds.compress(np.r_[rng.standard_cauchy(150), np.nan, np.inf, -0.0], step=0.1),
        "dictionary": ds.compress(rng.choice([5, 10**12], 60)),
        "stored": ds.compress(rng.standard_normal(9), lossless=True),
        "chunks": ds.compress(rng.poisson(2, 400), chunk=100),
    }


@pytest.mark.parametrize("name", sorted(blobs()))
def test_every_truncation_and_every_flipped_bit_is_noticed(name):
    blob = blobs()[name]
    for size in range(len(blob)):
        with pytest.raises(ds.CorruptDataError):
            ds.decompress(blob[:size])
    with pytest.raises(ds.TruncatedDataError):
        ds.decompress(blob + b"\0")
    for bit in range(8 * len(blob)):
        flipped = bytearray(blob)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ds.CorruptDataError):
            ds.decompress(bytes(flipped))


def forge(blob: bytes, at: int, value: int) -> bytes:
    """Set one byte, then repair every checksum and length, as somebody who means harm would."""
    b = bytearray(blob)
    b[at] = value
    size = struct.unpack_from("<I", b, 5)[0]
    struct.pack_into("<Q", b, 9, len(b))
    if 21 <= size <= len(b):
        try:
            spot = 17 + 2 + b[18]
            spot += 1 + 8 * b[spot]
            table, count = struct.unpack_from("<II", b, spot + 20)
            first, begin = spot + 28 + table, size
            for i in range(min(count, 99)):
                coded, raw, _, check = struct.unpack_from("<QQII", b, first + 24 * i)
                crc = zlib.crc32(bytes(b[begin : begin + coded + raw]))
                struct.pack_into("<QQII", b, first + 24 * i, coded, raw, crc, check)
                begin += coded + raw
        except (struct.error, IndexError):
            pass
        struct.pack_into("<I", b, size - 4, zlib.crc32(bytes(b[: size - 4])))
    return bytes(b)


@pytest.mark.parametrize("name", sorted(blobs()))
def test_forged_headers_end_in_clean_errors_and_take_no_memory(name):
    import tracemalloc

    blob = blobs()[name]
    tracemalloc.start()
    try:
        for at in range(5, len(blob)):
            for value in (0, 1, 127, 128, 255):
                try:
                    ds.decompress(forge(blob, at, value), max_bytes=1 << 20, workers=1)
                except ds.CorruptDataError:
                    pass
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_errors_name_the_chunk_and_the_limit(rng):
    x = rng.poisson(3, 4000)
    blob = bytearray(ds.compress(x, chunk=1000))
    blob[-1] ^= 1
    with pytest.raises(ds.ChecksumError, match="chunk 3 of 4 is damaged"):
        ds.decompress(bytes(blob))
    with pytest.raises(ds.LimitExceededError, match="more than the limit of 100; pass max_bytes="):
        ds.decompress(ds.compress(x), max_bytes=100)
    with pytest.raises(ds.NotOurDataError, match="not compressed by density: the data begin with"):
        ds.decompress(b"PNG....")
    with pytest.raises(ds.TruncatedDataError, match="the header promises"):
        ds.decompress(ds.compress(x)[:-7])
    future = bytearray(ds.compress(x))
    future[4] = 9
    with pytest.raises(ds.UnknownVersionError, match="container of version 9; this release reads version 0"):
        ds.decompress(bytes(future))
    assert all(issubclass(e, ValueError) for e in (ds.CorruptDataError, ds.ChecksumError, ds.ModelMismatchError))


MISUSE = [
    (lambda: ds.compress([1.5]), ValueError, "pass step= to quantise it .* or lossless=True"),
    (lambda: ds.compress([1], step=0.1), ValueError, "is for floats; int64 is coded exactly"),
    (lambda: ds.compress([1.5], step=0), ValueError, "is not a positive number"),
    (lambda: ds.compress([1.5], step=np.inf), ValueError, "is not a positive number"),
    (lambda: ds.compress([1.5], step=1, lossless=True), ValueError, "leave step and model out"),
    (lambda: ds.compress([1j]), TypeError, "takes bool, integers and float16, float32, float64"),
    (lambda: ds.compress(["a"]), TypeError, "takes bool, integers"),
    (lambda: ds.compress([1], model="normal"), TypeError, "model must be a FourierDensity, not a str"),
    (lambda: ds.compress([1], chunk=0), ValueError, "pass 1 <= chunk"),
    (lambda: ds.compress([1], workers=0), ValueError, "asks for no thread"),
]


@pytest.mark.parametrize("call, error, message", MISUSE, ids=range(len(MISUSE)))
def test_misuse_says_what_to_do(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_missing_coder_is_named_with_its_remedy():
    code = """
import sys
sys.modules["constriction"] = None
import density as ds
try:
    ds.compress([1, 2, 3] * 100)
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "pip install 'triskele[codec]'" in done.stdout
