"""Memory maps, zarr, h5py and whatever is read by slices: the answers of memory, each chunk read once a pass."""

import subprocess
import sys
import threading

import numpy as np
import pytest

import lowrank as lr
from lowrank import gallery
from lowrank.operands import Blocked, Dense, Mapped, as_operand
from lowrank.operands import blocked as module
from lowrank.testing import OperandConformance


class Slices:
    """An array that shows slices alone, notes which, and knows its chunks."""

    def __init__(self, A, chunks=None):
        self._A, self.shape, self.dtype, self.ndim, self.seen = A, A.shape, A.dtype, A.ndim, []
        if chunks is not None:
            self.chunks = chunks

    def __getitem__(self, at):
        assert isinstance(at, tuple)
        assert all(isinstance(part, slice) and part.step is None for part in at)
        self.seen.append(at)
        return self._A[at].copy()

    @property
    def entries(self):
        """How often each entry was read."""
        count = np.zeros(self.shape, int)
        for at in self.seen:
            count[at] += 1
        return count


def on_disk(A, folder, order="C", mode="r"):
    path = folder / f"{order}.npy"
    out = np.lib.format.open_memmap(path, mode="w+", dtype=A.dtype, shape=A.shape, fortran_order=order == "F")
    out[:] = A
    out.flush()
    return np.load(path, mmap_mode=mode)


def low_rank(rng, m=2100, n=310, r=26):
    return rng.standard_normal((m, r)) @ rng.standard_normal((r, n)) + 1e-4 * rng.standard_normal((m, n))


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of 64 kB, so that small matrices have many."""
    monkeypatch.setattr(module, "BLOCK", 1 << 16)


class Conformance(OperandConformance):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path, small_blocks):
        self.folder = tmp_path


class TestMapConformance(Conformance):
    def make(self, rng):
        A = low_rank(rng, 1200, 90)
        return on_disk(A, self.folder), A


class TestFortranMapConformance(Conformance):
    def make(self, rng):
        A = low_rank(rng, 1200, 90).astype(np.complex128) * (1 + 0.5j)
        return on_disk(A, self.folder, "F"), A


class TestSlicesConformance(Conformance):
    def make(self, rng):
        A = low_rank(rng, 1300, 70)
        return Slices(A, (170, 16)), A


class TestSinglePrecisionSlicesConformance(Conformance):
    tolerance = 1e-5

    def make(self, rng):
        A = low_rank(rng, 90, 90).astype(np.float32)
        return Slices(A), A


class TestZarrConformance(Conformance):
    def make(self, rng):
        zarr = pytest.importorskip("zarr")
        A = low_rank(rng, 400, 60)
        Z = zarr.create_array(zarr.storage.MemoryStore(), shape=A.shape, chunks=(90, 25), dtype=A.dtype)
        Z[:] = A
        return Z, A


class TestHDF5Conformance(Conformance):
    def make(self, rng):
        h5py = pytest.importorskip("h5py")
        A = low_rank(rng, 400, 60)
        file = h5py.File.in_memory() if hasattr(h5py.File, "in_memory") else h5py.File(self.folder / "A.h5", "a")
        return (file["A"] if "A" in file else file.create_dataset("A", data=A, chunks=(70, 11))), A


def sources(A, folder):
    yield "C", on_disk(A, folder, "C")
    yield "F", on_disk(A, folder, "F")
    yield "strided", on_disk(np.repeat(A, 2, axis=1), folder, "C")[:, ::2]
    yield "slices", Slices(A)
    yield "chunks", Slices(A, (700, 150))
    yield "thin chunks", Slices(A, (len(A), 3))
    yield "flat chunks", Slices(A, (5, A.shape[1]))


@pytest.mark.parametrize("make", [lr.column_id, lr.row_id, lr.cur, lr.two_sided_id])
def test_files_and_arrays_agree_to_the_last_bit(rng, tmp_path, small_blocks, make):
    A = low_rank(rng).astype(np.complex64 if make is lr.row_id else np.float64)
    expected = make(A, rank=25, rng=7)
    for name, X in sources(A, tmp_path):
        assert isinstance(as_operand(X), Blocked), name
        for workers in (1, 3) if name == "chunks" else (2,):
            f = make(X, rank=25, rng=7, workers=workers)
            for field in ("indices", "columns", "rows"):
                if hasattr(f, field):
                    np.testing.assert_array_equal(getattr(f, field), getattr(expected, field), err_msg=name)
            np.testing.assert_array_equal(f.to_dense(), expected.to_dense(), err_msg=name)
            assert f.certificate.estimate == pytest.approx(expected.certificate.estimate, rel=1e-6)
            assert f.entries_read == expected.entries_read


def test_exact_coefficients_and_tolerances_agree_to_rounding(rng, tmp_path, small_blocks):
    A = low_rank(rng)
    for options in ({"rank": 20, "quality": "best"}, {"tol": 1e-2}):
        f, g = lr.column_id(on_disk(A, tmp_path), rng=7, **options), lr.column_id(A, rng=7, **options)
        np.testing.assert_array_equal(f.indices, g.indices)
        np.testing.assert_allclose(f.coefficients, g.coefficients, atol=1e-9)


@pytest.mark.parametrize("chunks", [(700, 150), (100, 310), (2100, 7), (64, 64), None])
@pytest.mark.parametrize("transposed", [False, True])
def test_one_pass_to_sketch_and_one_to_gather(rng, small_blocks, chunks, transposed):
    A = low_rank(rng, r=8)
    X = Slices(A, chunks)
    (lr.row_id if transposed else lr.column_id)(X, rank=10, rng=7)
    count = X.entries
    assert count.min() >= 1
    assert count.max() <= 2
    if chunks is not None:
        grid = -(-len(A) // chunks[0]), -(-A.shape[1] // chunks[1])
        reads = np.zeros(grid, int)
        for rows, columns in X.seen:
            inside = slice(rows.start // chunks[0], -(-rows.stop // chunks[0]))
            reads[inside, columns.start // chunks[1] : -(-columns.stop // chunks[1])] += 1
        assert reads.max() <= 2, "a chunk was read in parts"


def test_chosen_columns_come_chunk_by_chunk(rng, small_blocks):
    A = low_rank(rng)
    X = Slices(A, (700, 150))
    J = rng.permutation(310)[:200]
    np.testing.assert_array_equal(as_operand(X).columns(J), A[:, J])
    assert len(X.seen) == 9
    X.seen.clear()
    rows = rng.permutation(2100)[:500]
    np.testing.assert_array_equal(as_operand(X).entries(rows, J), A[np.ix_(rows, J)])
    assert len(X.seen) == 9


def test_the_layout_follows_the_order_of_storage(tmp_path, rng):
    A = rng.standard_normal((3000, 100))
    assert Mapped(on_disk(A, tmp_path, "C")).block[1] == 100
    assert Mapped(on_disk(A, tmp_path, "F")).block[0] == 3000
    assert Mapped(on_disk(A, tmp_path, "F")).T.block[1] == 3000
    wide = Slices(np.empty((10, 1 << 20), np.float32), (5, 3000))
    assert Blocked(wide).block[1] == 3000
    assert Blocked(wide).block[0] * 3000 * 4 <= module.BLOCK + 5 * 3000 * 4
    assert Blocked(Slices(np.empty((4000, 4000)), (10, 10))).block[1] == 1020


SCRIPT = """
import sys
import numpy as np, lowrank as lr
def peak():
    return 1024 * int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
A = np.load(sys.argv[1], mmap_mode="r")
lr.column_id(np.ones((400, 40)), rank=2, rng=7)
open("/proc/self/clear_refs", "w").write("5")
before = peak()
f = lr.column_id(A, rank=8, rng=7)
print(peak() - before, f.certificate.estimate)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak from /proc")
@pytest.mark.parametrize("order", ["C", "F"])
def test_peak_memory_is_far_below_the_file(tmp_path, order):
    m, n, k = 60_000, 600, 8
    path = tmp_path / "A.npy"
    A = np.lib.format.open_memmap(path, mode="w+", dtype=np.float64, shape=(m, n), fortran_order=order == "F")
    left, right = np.cos(np.outer(np.arange(m), np.arange(1, 5))), np.sin(np.outer(np.arange(1, 5), np.arange(n)))
    for i in range(0, m, 10_000):
        A[i : i + 10_000] = left[i : i + 10_000] @ right
    A.flush()
    size = A.nbytes
    del A
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(path)], capture_output=True, text=True, check=True)
    peak, estimate = map(float, done.stdout.split())
    assert estimate < 1e-10
    assert size == 288_000_000
    assert 8 * m * k < peak < 8 * 3 * (3 * k + 16 + k) * (m + n) + module.BLOCK
    assert peak < size / 2


def test_changes_that_exist_in_memory_alone_survive(rng, tmp_path, small_blocks):
    A = low_rank(rng)
    private = on_disk(A, tmp_path, mode="c")
    private[:] *= 2.0  # mode "c": written to memory and not to the file
    lr.column_id(private, rank=4, rng=7)
    np.testing.assert_array_equal(private, 2 * A)
    shared = on_disk(A, tmp_path, "F", mode="r+")
    shared[:] *= 3.0
    lr.column_id(shared, rank=4, rng=7)
    np.testing.assert_array_equal(shared, 3 * A)
    np.testing.assert_array_equal(np.load(tmp_path / "F.npy"), 3 * A)


def test_progress_moves_within_the_pass_and_never_back(rng, small_blocks):
    seen = []
    X = Slices(low_rank(rng), (100, 310))
    for make, stages in ((lr.column_id, 4), (lr.cur, 5)):
        seen.clear()
        make(X, rank=5, rng=7, progress=lambda done, total: seen.append((done, total)))
        steps = [done for done, _ in seen]
        assert steps == sorted(steps)
        assert {total for _, total in seen} == {100 * stages}
        assert steps[-1] == 100 * stages
        assert sum(done < 100 for done in steps) >= 10


def test_interruption_leaves_no_thread_and_nothing_broken(rng, small_blocks):
    X = Slices(low_rank(rng), (100, 310))
    before = threading.active_count()

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lr.column_id(X, rank=5, rng=7, progress=stop)
    assert threading.active_count() == before
    assert len(X.seen) <= 3
    assert lr.column_id(X, rank=5, rng=7).rank == 5


def test_reading_fails(rng, small_blocks):
    class Broken(Slices):
        def __getitem__(self, at):
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone") as caught:
        lr.column_id(Broken(low_rank(rng)), rank=5, rng=7)
    assert caught.value.__notes__[0].startswith("while lowrank read A[0:")

    class Odd(Slices):
        def __getitem__(self, at):
            return self._A[at].ravel()

    with pytest.raises(TypeError, match=r"a slice of the .*Odd A came as shape \(\d+,\), not \(\d+, \d+\)"):
        lr.column_id(Odd(low_rank(rng)), rank=5, rng=7)


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_the_first_entry_that_is_not_finite_is_named(rng, tmp_path, small_blocks, value):
    A = low_rank(rng)
    A[1900, 3], A[900, 301] = value, value
    for name, X in sources(A, tmp_path):
        with pytest.raises(ValueError, match=rf"A\[900, 301\] is {value}; lowrank needs finite"):
            lr.column_id(X, rank=3, rng=7)
        assert name


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e160, 1e300])
def test_scales_at_the_ends_of_the_range(rng, tmp_path, small_blocks, scale):
    A = gallery.polynomial_decay(300, 40, rng=rng)
    f, g = lr.column_id(on_disk(A * scale, tmp_path), rank=6, rng=7), lr.column_id(A * scale, rank=6, rng=7)
    np.testing.assert_array_equal(f.indices, g.indices)
    np.testing.assert_array_equal(f.coefficients, g.coefficients)


@pytest.mark.parametrize("dtype", ["bool", "int16", ">f8"])
def test_other_dtypes_are_converted_block_by_block(rng, dtype):
    A = (rng.integers(0, 50, (400, 30)) % 7).astype(dtype)
    f, g = lr.column_id(Slices(A, (50, 30)), rank=6, rng=7), lr.column_id(A.astype(np.float64), rank=6, rng=7)
    np.testing.assert_array_equal(f.indices, g.indices)
    assert f.C.dtype == np.float64
    assert (f.notes == ()) == (dtype == ">f8")


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (1, 9), (9, 1), (1, 1)])
def test_nothing_there_and_thin(shape):
    f = lr.column_id(Slices(np.ones(shape)), rank=min(shape), rng=7)
    np.testing.assert_allclose(f.to_dense(), np.ones(shape), atol=1e-12)


def test_what_is_not_read():
    with pytest.raises(ValueError, match=r"A has shape \(3, 4, 5\); expected two dimensions"):
        as_operand(Slices(np.ones((3, 4, 5))))
    with pytest.raises(TypeError, match="A has dtype float16"):
        as_operand(Slices(np.ones((3, 4), np.float16)))
    odd = Slices(np.ones((3, 4)))
    odd.dtype = "no such dtype"
    with pytest.raises(TypeError, match=r"which lowrank does not read yet; it reads .*memory maps.*zarr"):
        as_operand(odd)


def test_results_can_be_judged_against_the_file(rng, tmp_path, small_blocks):
    A = low_rank(rng)
    f = lr.column_id(A, rank=20, rng=7)
    for _, X in sources(A, tmp_path):
        assert f.relative_error(X) == pytest.approx(f.relative_error(A), rel=1e-9)
        assert lr.certify(X, f, rng=8).estimate == pytest.approx(lr.certify(A, f, rng=8).estimate, rel=1e-9)


def test_a_view_without_the_map_is_an_array(tmp_path, rng):
    A = on_disk(rng.standard_normal((30, 20)), tmp_path)
    assert isinstance(as_operand(np.asarray(A)), Dense)
    assert isinstance(as_operand(A[3:, ::2]), Mapped)
    assert isinstance(as_operand(A + 0.0), (Dense, Mapped))


@pytest.mark.parametrize("sketch", ["gaussian", "trigonometric"])
def test_other_sketches_take_one_pass_too(rng, sketch):
    A = low_rank(rng)
    f, g = (
        lr.column_id(Slices(A, (700, 150)), rank=20, rng=7, sketch=sketch),
        lr.column_id(A, rank=20, rng=7, sketch=sketch),
    )
    np.testing.assert_array_equal(f.indices, g.indices)
    np.testing.assert_allclose(f.coefficients, g.coefficients, atol=1e-8)
    assert f.entries_read == g.entries_read
