"""What goes in comes out, or a clean error does."""

import io
from pathlib import Path

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import density as ds
from density.chunks import _remembered, contexts_of
from density.container import Header
from density.integers import INTEGERS as INTEGERS_MODE

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


INDICES = [3, -1, slice(2, 9), slice(None, None, -3), slice(40, 3, -2), slice(9, 2), (slice(3, 5), 2), (7, slice(1, 3))]


@pytest.mark.parametrize("index", [*INDICES, (4, ..., slice(None, None, 2))], ids=str)
@pytest.mark.parametrize("axis", [None, 1])
def test_a_part_is_the_part_of_the_whole(rng, index, axis):
    x = rng.poisson(4, (50, 6, 7)).astype(np.int16)
    blob = ds.compress(x, chunk=77, axis=axis)
    assert identical(ds.decompress(blob, index), x[index])
    assert np.shares_memory(ds.decompress(blob, index), blob) is False


def test_only_the_chunks_that_hold_a_part_are_read(rng):
    x = rng.poisson(4, (1000, 10))
    blob = bytearray(ds.compress(x, chunk=1000))
    blob[-1] ^= 1
    assert identical(ds.decompress(blob, slice(0, 900)), x[:900])
    assert identical(ds.decompress(memoryview(blob), 5), x[5])
    with pytest.raises(ds.ChecksumError, match="chunk 9 of 10 is damaged"):
        ds.decompress(blob, slice(800, 901))
    with pytest.raises(ds.LimitExceededError, match="asks for 8000 bytes, more than the limit of 100"):
        ds.decompress(blob, slice(0, 100), max_bytes=100)


def test_a_table_for_each_channel_is_smaller_where_channels_differ(rng):
    x = np.rint(rng.normal(size=(40, 5, 30, 3)) * np.array([1, 10, 100, 1000, 3])[:, None, None]).astype(np.int32)
    one, five = ds.compress(x), ds.compress(x, axis=1)
    assert len(five) < 0.9 * len(one)
    assert identical(ds.decompress(five), x)
    assert five == ds.compress(x, axis=-3, workers=3)
    for axis in range(4):
        assert identical(ds.decompress(ds.compress(x, axis=axis, chunk=1001)), x)


def test_tables_that_no_reader_takes_are_not_written(rng, monkeypatch):
    monkeypatch.setattr("density.coding.MOST_SYMBOLS", 30)
    with pytest.raises(ValueError, match=r"the tables of axis 1 have .* symbols, above 30; leave axis out"):
        ds.compress(rng.integers(0, 20, (200, 4)), axis=1)


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
    assert len(ds.compress(np.full(10**5, 7))) < 180
    assert identical(ds.decompress(ds.compress(np.full(10**5, 7))), np.full(10**5, 7))


def test_scalars_and_empty_and_strided_arrays(rng):
    x = rng.integers(-9, 9, (20, 30))
    frozen = x.copy()
    frozen.setflags(write=False)
    for a in (np.int16(3), np.zeros((0, 4), np.int8), x[::2, ::-1], np.asfortranarray(x), frozen, [1, 2, 3], True):
        assert identical(ds.decompress(ds.compress(a)), a)


@pytest.mark.parametrize("kind", ["levels", "bits", "integers", "channels"])
def test_bytes_and_values_depend_neither_on_workers_nor_on_the_kind_of_array(rng, kind):
    torch = pytest.importorskip("torch")
    x = rng.normal(size=(5, 2000)).astype(np.float32)
    x[0, :4] = np.nan, -0.0, np.inf, 1e30
    options = {"levels": {"step": 0.1}, "bits": {"lossless": True}, "integers": {}, "channels": {"axis": 0}}[kind]
    if kind in ("integers", "channels"):
        x = rng.poisson(4, (5, 2000)).astype(np.int16)
    tensor = torch.from_numpy(x)
    if kind == "levels":
        tensor.requires_grad_()  # a parameter of a network
    first = ds.compress(x, chunk=999, workers=1, **options)
    values = ds.decompress(first, workers=1)
    for workers in (1, 2, 8, None):
        assert ds.compress(x, chunk=999, workers=workers, **options) == first
        assert ds.compress(tensor, chunk=999, workers=workers, **options) == first
        assert identical(ds.decompress(first, workers=workers), values)
    assert ds.compress(tensor.T, chunk=999, **options | ({"axis": 1} if "axis" in options else {})) == ds.compress(
        np.ascontiguousarray(x.T), chunk=999, **options | ({"axis": 1} if "axis" in options else {})
    )
    assert identical(ds.decompress(ds.compress(x, **options)), values)


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
    with pytest.raises(ds.UnknownVersionError, match="container of version 9; this release reads versions 0 to 1"):
        ds.decompress(bytes(future))
    assert all(issubclass(e, ValueError) for e in (ds.CorruptDataError, ds.ChecksumError, ds.ModelMismatchError))


MISUSE = [
    (lambda: ds.compress([1.5]), ValueError, "pass step= to quantise it .* or lossless=True"),
    (lambda: ds.compress([1], step=0.1), ValueError, "is for floats; int64 is coded exactly"),
    (lambda: ds.compress([1.5], step=0), ValueError, "is not a positive number"),
    (lambda: ds.compress([1.5], step=np.inf), ValueError, "is not a positive number"),
    (lambda: ds.compress([1.5], step=1, lossless=True), ValueError, "leave step and model out"),
    (lambda: ds.compress([1j]), TypeError, "compress x.real and x.imag, each with its own step"),
    (lambda: ds.compress(np.ones(3, np.longdouble), step=1), TypeError, "takes bool, integers and float16, float32"),
    (lambda: ds.compress([1], axis=1), ValueError, "axis=1 is no axis of an array of shape"),
    (lambda: ds.compress(np.zeros((2, 20000), np.int8), axis=1), ValueError, "too many for tables; at most 16384"),
    (
        lambda: ds.decompress(ds.compress([1, 2]), 2),
        IndexError,
        "index 2 is out of bounds for the first axis of extent 2",
    ),
    (lambda: ds.decompress(ds.compress([1, 2]), 0.5), TypeError, "pass an integer or a slice along the first axis"),
    (lambda: ds.decompress(ds.compress(3), 0), IndexError, "the array has no axes"),
    (lambda: ds.compress(["a"]), TypeError, "takes bool, integers"),
    (lambda: ds.compress([1], model="normal"), TypeError, "model must be a FourierDensity, not a str"),
    (lambda: ds.compress([1], chunk=0), ValueError, "pass 1 <= chunk <= 2"),
    (lambda: ds.compress([1], workers=0), ValueError, "asks for no thread"),
    (lambda: ds.decompress("a.tdnz"), TypeError, r"blob is a str 'a.tdnz'; pass the bytes of the file, pathlib"),
    (lambda: ds.decompress(Path("a.tdnz")), TypeError, r"'a.tdnz'; pass the bytes of the file, pathlib"),
    (lambda: ds.decompress(io.BytesIO()), TypeError, r"an open file \(BytesIO\); pass file.read\(\), or Compressed"),
    (lambda: ds.decompress(None), TypeError, "blob is a NoneType; expected bytes, or a buffer of them such as an mmap"),
    (lambda: ds.decompress(np.zeros((9, 9), np.uint8)[:, ::2]), TypeError, "a ndarray that is not contiguous; pass b"),
    (lambda: ds.decompress_tensors("a"), TypeError, "blob is a str 'a'; pass the bytes"),
]


@pytest.mark.parametrize("call, error, message", MISUSE, ids=range(len(MISUSE)))
def test_misuse_says_what_to_do(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("shape, axis", [((50, 3, 40), 1), ((7, 5), 0), ((40, 19), 1), ((2, 3, 400_000), 1)])
def test_the_table_of_an_element_follows_its_axis(shape, axis):
    header = Header(INTEGERS_MODE, np.dtype("i2"), shape, 0.0, 1000, axis)
    expected = np.indices(shape)[axis].reshape(-1)
    for start in (0, 1, 34, header.size // 2 + 1, header.size - 1):
        count = min(1000, header.size - start)
        assert np.array_equal(contexts_of(header, start, count), expected[start : start + count])


def test_a_model_that_was_read_is_remembered_but_not_without_end(rng):
    _remembered.clear()
    x = rng.poisson(4, 3000)
    blob = ds.compress(x, chunk=100)
    assert all(ds.decompress(blob, i) == x[i] for i in range(0, 3000, 500))
    assert len(_remembered) == 1
    for shift in range(70):
        ds.decompress(ds.compress(x + shift))
    assert len(_remembered) <= 64
