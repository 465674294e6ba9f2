"""Files, iterators and dask arrays: the sketch of the same samples in memory, bit for bit."""

import numpy as np
import pytest

import density as ds
from density import sources


@pytest.fixture
def x(rng):
    return rng.standard_t(3, 300_000)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(sources, "_BLOCK", 20_000)


def stored(kind, x, folder):
    if kind == "zarr":
        zarr = pytest.importorskip("zarr")
        Z = zarr.create_array(zarr.storage.MemoryStore(), shape=x.shape, chunks=(700,) * x.ndim, dtype=x.dtype)
        Z[...] = x
        return Z
    if kind in ("h5py", "h5py, contiguous"):
        h5py = pytest.importorskip("h5py")
        file = h5py.File(folder / "x.h5", "w")
        return file.create_dataset("x", data=x, chunks=True if kind == "h5py" else None)
    np.save(folder / "x.npy", x)
    return np.load(folder / "x.npy", mmap_mode="r")


@pytest.mark.parametrize("kind", ["zarr", "h5py", "h5py, contiguous", "memory map"])
@pytest.mark.parametrize("shape", [(-1,), (300, 1000)])
@pytest.mark.parametrize("dtype", [np.float64, np.int16, np.float32])
def test_what_is_stored_gives_the_sketch_of_memory(x, small_blocks, tmp_path, kind, shape, dtype):
    x = (100 * x).astype(dtype).reshape(shape)
    source = stored(kind, x, tmp_path)
    whole = ds.HistogramSketch().update(x)
    assert ds.HistogramSketch().update(source, workers=2) == whole
    seen = []
    assert ds.HistogramSketch().update(source, progress=lambda *at: seen.append(at)) == whole
    assert seen[-1] == (300_000, 300_000)
    assert len(seen) >= 2


def test_blocks_follow_the_chunks_and_cover_everything_once(rng, small_blocks):
    class Slices:
        dtype = np.dtype(np.int64)

        def __init__(self, A, chunks):
            self.A, self.chunks, self.shape, self.read = A, chunks, A.shape, []

        def __getitem__(self, cut):
            part = self.A[cut]
            self.read.append(part.size)
            return part

    A = np.arange(60 * 70 * 50).reshape(60, 70, 50)
    for chunks in ((7, 9, 11), (60, 70, 50), (1, 1, 1), None):
        source = Slices(A, chunks)
        parts, total = sources.blocks(source)
        assert np.array_equal(np.sort(np.concatenate([p.reshape(-1) for p in parts])), A.reshape(-1))
        assert total == A.size
        if chunks != (60, 70, 50):
            assert max(source.read) <= 20_000
    assert sources.blocks(Slices(np.zeros((0, 3)), (1, 3)))[1] == 0
    assert [p.tolist() for p in sources.blocks(np.array(5.0))[0]] == [5.0]


def test_iterators_and_generators(x, capsys):
    whole = ds.HistogramSketch().update(x)
    assert ds.HistogramSketch().update(iter(np.array_split(x, 7))) == whole
    assert ds.HistogramSketch().update(part.tolist() for part in np.array_split(x[:3000], 5)).n == 3000
    seen = []
    ds.HistogramSketch().update(iter([x[:10], x[10:30]]), progress=lambda *at: seen.append(at))
    assert seen == [(10, None), (30, None)]
    ds.HistogramSketch().update(x, progress=True)
    assert "sample" in capsys.readouterr().err
    assert ds.HistogramSketch().update(iter([])).n == 0


def test_a_fit_takes_them_too(rng, tmp_path):
    x = rng.normal(size=5000)
    p = ds.fit(x, order=3, map="logistic")
    assert ds.fit(stored("zarr", x, tmp_path), order=3, map="logistic") == p
    assert ds.fit(iter(np.array_split(x, 3)), order=3, map="logistic") == p
    half = x.astype(np.float16)
    assert ds.fit(stored("h5py", half, tmp_path), order=3, map="logistic") == ds.fit(half, order=3, map="logistic")


def test_what_was_counted_before_a_bad_block_stays(rng):
    sketch = ds.HistogramSketch()
    chunks = [np.arange(4.0), np.arange(6.0), np.array([1.0, np.nan]), np.arange(9.0)]
    message = (
        "block 2 of the samples was not counted, the 10 samples before it were: x holds 1 NaN and 0 infinite among 2"
    )
    with pytest.raises(ValueError, match=message):
        sketch.update(iter(chunks))
    assert sketch.n == 10

    def interrupted():
        yield np.arange(3.0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sketch.update(interrupted(), progress=lambda done, total: None)
    assert sketch.n == 13
    with pytest.raises(TypeError, match=r"block 0 .* dtype <U1; densities are fitted to real numbers"):
        sketch.update(iter(["a"]))
    with pytest.raises(TypeError, match="weights go with an array in memory"):
        sketch.update(iter(chunks), [1, 2])
    with pytest.raises(TypeError, match="weights go with an array in memory, which x is not"):
        ds.fit(iter(chunks), np.ones(5))
    with pytest.raises(TypeError, match=r"progress=3: pass False, True or a callable of \(done, total\)"):
        sketch.update(np.ones(3), progress=3)


# --- dask ---


@pytest.fixture
def da():
    return pytest.importorskip("dask.array")


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
@pytest.mark.parametrize("chunks", [300_000, 41_111, 7000])
def test_dask_arrays_give_the_sketch_of_memory(da, x, scheduler, chunks):
    dask = pytest.importorskip("dask")
    whole = ds.HistogramSketch(cells=4096).update(x)
    assert not whole.exact
    with dask.config.set(scheduler=scheduler):
        assert ds.HistogramSketch(cells=4096).update(da.from_array(x, chunks=chunks)) == whole
        merged = ds.HistogramSketch(cells=4096).update(x[:1000]).update(da.from_array(x[1000:], chunks=chunks))
        assert merged == whole


def test_dask_of_zarr_of_two_dimensions_and_of_unknown_shape(da, x, tmp_path):
    A = x.reshape(300, 1000)
    whole = ds.HistogramSketch().update(A)
    Z = stored("zarr", A, tmp_path)
    assert ds.HistogramSketch().update(da.from_zarr(Z)) == whole
    lazy = da.from_array(x, chunks=50_000)
    assert ds.HistogramSketch().update(lazy[lazy > 0]) == ds.HistogramSketch().update(x[x > 0])
    p = ds.fit(da.from_array(A, chunks=(100, 400)), order=4, map="cauchy")
    assert p == ds.fit(whole, order=4, map="cauchy")


def test_dask_blocks_that_are_bad_or_empty(da, x):
    assert ds.HistogramSketch().update(da.zeros((0,), chunks=10)).n == 0
    bad = x.copy()
    bad[70_000] = np.inf
    sketch = ds.HistogramSketch().update([1.0])
    with pytest.raises(ValueError, match="x holds 0 NaN and 1 infinite"):
        sketch.update(da.from_array(bad, chunks=50_000))
    assert sketch.n == 1
    with pytest.raises(TypeError, match="weights go with an array in memory"):
        sketch.update(da.ones(5), [1] * 5)


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_the_progress_of_a_dask_array_counts_its_samples(da, x, capsys, scheduler):
    dask = pytest.importorskip("dask")
    seen, whole = [], ds.HistogramSketch().update(x)
    lazy = da.from_array(x, chunks=41_111)
    with dask.config.set(scheduler=scheduler):
        assert ds.HistogramSketch().update(lazy, progress=lambda *state: seen.append(state)) == whole
        done, totals = zip(*seen)
        assert len(seen) == -(-len(x) // 41_111)
        assert list(done) == sorted(done)
        assert (done[-1], set(totals)) == (len(x), {len(x)})
        ds.HistogramSketch().update(lazy[lazy > 0], progress=lambda *state: seen.append(state))
        assert seen[-1] == ((x > 0).sum(), None)
        ds.HistogramSketch().update(lazy, progress=True)
    assert "sample" in capsys.readouterr().err
    with pytest.raises(TypeError, match="progress=3: pass False, True or a callable"):
        ds.HistogramSketch().update(lazy, progress=3)


def test_a_cluster_of_processes_reads_zarr(da, x, tmp_path):
    zarr, distributed, dask = (pytest.importorskip(name) for name in ("zarr", "distributed", "dask"))
    Z = zarr.create_array(tmp_path / "x.zarr", shape=x.shape, chunks=(50_000,), dtype=x.dtype)
    Z[:] = x
    with (
        dask.config.set({"scheduler": None}),
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster),
    ):
        seen = []
        lazy = da.from_zarr(str(tmp_path / "x.zarr"))
        sketch = ds.HistogramSketch().update(lazy, progress=lambda *state: seen.append(state))
        assert ds.HistogramSketch().update(lazy) == sketch
    assert seen[-1] == (len(x), len(x))
    assert sketch == ds.HistogramSketch().update(x)
