"""dask arrays: one graph a pass, the same answer on every scheduler, and never the whole array at once."""

import threading

import numpy as np
import pytest

import lowrank as lr
from lowrank.operands import Dask, as_operand
from lowrank.testing import OperandConformance

da = pytest.importorskip("dask.array")
dask = pytest.importorskip("dask")


@pytest.fixture(autouse=True)
def _threads():
    with dask.config.set(scheduler="threads", num_workers=2):
        yield


def low_rank(rng, m=900, n=130, r=20):
    return rng.standard_normal((m, r)) @ rng.standard_normal((r, n)) + 1e-4 * rng.standard_normal((m, n))


class TestDaskConformance(OperandConformance):
    def make(self, rng):
        A = low_rank(rng, 400, 60)
        return da.from_array(A, chunks=(70, 25)), A


class TestComplexDaskConformance(OperandConformance):
    def make(self, rng):
        A = low_rank(rng, 90, 90) * (1 - 0.5j)
        return da.from_array(A, chunks=((30, 0, 60), (90,))), A


@pytest.mark.parametrize("make", [lr.column_id, lr.row_id, lr.cur, lr.two_sided_id])
def test_the_answer_of_the_array_in_memory(rng, make):
    A = low_rank(rng)
    f, g = make(da.from_array(A, chunks=(128, 50)), rank=15, rng=7), make(A, rank=15, rng=7)
    for field in ("indices", "columns", "rows"):
        if hasattr(f, field):
            np.testing.assert_array_equal(getattr(f, field), getattr(g, field))
    np.testing.assert_allclose(f.to_dense(), g.to_dense(), atol=1e-9 * np.abs(A).max())
    assert f.certificate.estimate == pytest.approx(g.certificate.estimate, rel=1e-6)
    assert f.entries_read == g.entries_read


def test_one_answer_whatever_the_scheduler_and_its_workers(rng):
    A = da.from_array(low_rank(rng), chunks=(64, 33))
    found = []
    for options in ({"scheduler": "synchronous"}, {"scheduler": "threads", "num_workers": 3}):
        with dask.config.set(**options):
            found.append(lr.column_id(A, rank=12, rng=7, quality="best"))
    np.testing.assert_array_equal(found[0].indices, found[1].indices)
    np.testing.assert_array_equal(found[0].coefficients, found[1].coefficients)


def test_blocks_are_made_once_a_pass_and_few_at_a_time():
    lock, alive, most, made = threading.Lock(), [0], [0], [0]

    class Block(np.ndarray):
        """Counts how many of its kind exist."""

        def __del__(self):
            with lock:
                alive[0] -= getattr(self, "counted", 0)

    def block(block_info=None):
        (i, _), (j, _) = block_info[None]["array-location"]
        with lock:
            made[0] += 1
            alive[0] += 1
            most[0] = max(most[0], alive[0])
        A = np.cos(np.outer(np.arange(i, i + 200), np.arange(1, 5))) @ np.sin(
            np.outer(np.arange(1, 5), j + np.arange(40))
        )
        A = A.view(Block)
        A.counted = 1
        return A

    A = da.map_blocks(block, chunks=((200,) * 40, (40,) * 5), dtype=np.float64, meta=np.empty((0, 0)))
    f = lr.column_id(A, rank=4, rng=7)
    assert f.certificate.estimate < 1e-10
    columns = len(set((f.indices // 40).tolist()))
    assert made[0] == 200 + 40 * columns
    assert most[0] <= 60, "the array was held as a whole"


def test_a_small_cluster_in_threads_and_one_in_processes(rng):
    distributed = pytest.importorskip("distributed")
    A = low_rank(rng, 300, 60)
    expected = lr.column_id(da.from_array(A, chunks=(64, 33)), rank=8, rng=7)
    X = da.from_array(A, chunks=(64, 33))
    with (
        dask.config.set({"scheduler": None}),
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None, memory_limit=None
        ) as cluster,
        distributed.Client(cluster),
    ):
        f = lr.column_id(X, rank=8, rng=7)
    np.testing.assert_array_equal(f.indices, expected.indices)
    np.testing.assert_array_equal(f.coefficients, expected.coefficients)


@pytest.mark.slow
def test_a_cluster_of_processes(rng):
    distributed = pytest.importorskip("distributed")
    A = da.from_array(low_rank(rng, 300, 60), chunks=(64, 33))
    expected = lr.cur(A, rank=8, rng=7)
    with (
        dask.config.set({"scheduler": None}),
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster),
    ):
        f = lr.cur(A, rank=8, rng=7)
    np.testing.assert_array_equal(f.columns, expected.columns)
    np.testing.assert_array_equal(f.rows, expected.rows)
    np.testing.assert_allclose(f.to_dense(), expected.to_dense(), rtol=0, atol=1e-10)


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_scales_at_the_ends_of_the_range(rng, scale):
    A = low_rank(rng) / 1e2
    f = lr.column_id(da.from_array(A * scale, chunks=100), rank=6, rng=7)
    g = lr.column_id(A * scale, rank=6, rng=7)
    np.testing.assert_array_equal(f.indices, g.indices)
    np.testing.assert_allclose(f.coefficients, g.coefficients, atol=1e-9)


def test_the_first_entry_that_is_not_finite_is_named(rng):
    A = low_rank(rng)
    A[700, 3], A[500, 101] = np.nan, np.inf
    with pytest.raises(ValueError, match=r"A\[500, 101\] is inf; lowrank needs finite"):
        lr.column_id(da.from_array(A, chunks=(100, 50)), rank=3, rng=7)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (1, 9), (9, 1)])
def test_nothing_there_and_thin(shape):
    f = lr.column_id(da.ones(shape, chunks=3), rank=min(shape), rng=7)
    np.testing.assert_allclose(f.to_dense(), np.ones(shape), atol=1e-12)


def test_what_is_not_read(rng):
    A = da.from_array(low_rank(rng), chunks=100)
    assert isinstance(as_operand(A), Dask)
    with pytest.raises(ValueError, match=r"unknown shape.*compute_chunk_sizes"):
        lr.column_id(A[A[:, 0] > 0], rank=3, rng=7)
    with pytest.raises(ValueError, match=r"A has shape \(900,\); expected two dimensions"):
        as_operand(A[:, 0])
    with pytest.raises(TypeError, match="A has dtype float16"):
        as_operand(A.astype(np.float16))
    scipy_blocks = A.map_blocks(lambda block: __import__("scipy.sparse").sparse.csr_array(block), dtype=float)
    with pytest.raises(TypeError, match=r"the blocks of A are scipy.sparse.*map them first"):
        lr.column_id(scipy_blocks, rank=3, rng=7)
    integers = lr.column_id(da.ones((50, 9), chunks=10, dtype=int), rank=1, rng=7)
    assert "int64 entries were converted to float64." in integers.notes


def test_the_lazy_part_is_the_kept_part(rng):
    A = da.from_array(low_rank(rng), chunks=(128, 50))
    f = lr.column_id(A, rank=15, rng=7)
    assert isinstance(f.C, np.ndarray)
    np.testing.assert_array_equal(A[:, f.indices].compute(), f.C)
    assert f.relative_error(A) == pytest.approx(f.certificate.estimate, rel=0.5)
    assert lr.certify(A, f, rng=8).estimate == pytest.approx(f.certificate.estimate, rel=0.5)


@pytest.mark.parametrize("sketch", ["gaussian", "trigonometric"])
def test_other_sketches_take_one_pass_too(rng, sketch):
    A = low_rank(rng)
    f, g = (
        lr.column_id(da.from_array(A, chunks=(128, 50)), rank=20, rng=7, sketch=sketch),
        lr.column_id(A, rank=20, rng=7, sketch=sketch),
    )
    np.testing.assert_array_equal(f.indices, g.indices)
    np.testing.assert_allclose(f.coefficients, g.coefficients, atol=1e-8)
    assert f.entries_read == g.entries_read
