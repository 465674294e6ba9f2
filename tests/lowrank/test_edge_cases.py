"""Every edge case of the design, through every public factorisation, with the sentences that users read."""

import re

import numpy as np
import pytest
import scipy.sparse
from scipy.sparse.linalg import LinearOperator, aslinearoperator

import lowrank as lr
from lowrank.pseudoinverse import InverseStatus
from lowrank.results import Status

FACTORISATIONS = {"column_id": lr.column_id, "row_id": lr.row_id, "two_sided_id": lr.two_sided_id, "cur": lr.cur}
NOT_GIVEN = [name for name in lr.SELECTIONS if name != "given"]


def chosen(pick):
    return lambda A, *, rank=None, rng=7, **options: pick(A, rank, rng=rng, **options)


# each reads one matrix, with rank=; nystrom wants a square one and cr the two factors of a product
READERS = {
    **FACTORISATIONS,
    "select_columns": chosen(lr.select_columns),
    "select_rows": chosen(lr.select_rows),
    "nystrom": lr.nystrom,
    "cr": lambda A, *, rank=None, rng=7, **options: lr.cr(A, A, rank, rng=rng, **options),
    "pinv": lambda A, *, rank=None, rng=7: lr.pinv(A),
    "certify": lambda A, *, rank=None, rng=7: lr.certify(A, np.zeros((6, 6)), rng=rng),
}
every = pytest.mark.parametrize("make", FACTORISATIONS.values(), ids=FACTORISATIONS)
readers = pytest.mark.parametrize("reader", READERS)
tolerant = pytest.mark.parametrize("options", [{"rank": 3}, {"tol": 1e-3}], ids=["rank", "tol"])


def refused(error, sentence, call, *args, **options):
    with pytest.raises(error, match=re.escape(sentence)):
        call(*args, **options)


# --- shapes ---


@every
@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0)])
@pytest.mark.parametrize("options", [{"rank": 0}, {"tol": 1e-3}], ids=["rank", "tol"])
@pytest.mark.parametrize("kind", [np.array, scipy.sparse.csr_array, scipy.sparse.csc_array])
def test_no_rows_or_no_columns(make, shape, options, kind):
    f = make(kind(np.zeros(shape)), rng=7, **options)
    assert f.status is Status.EMPTY
    assert f.rank == 0
    assert f.to_dense().shape == shape
    assert (f @ np.ones(shape[1])).shape == shape[:1]
    assert "the factorisation is empty" in f.explain()


def test_no_rows_or_no_columns_elsewhere():
    for shape in ((0, 5), (5, 0), (0, 0)):
        A = np.zeros(shape)
        assert lr.select_columns(A, 0, rng=7).shape == lr.select_rows(A, 0, rng=7).shape == (0,)
        P = lr.pinv(A)
        assert P.matrix.shape == shape[::-1]
        assert P.status is InverseStatus.ZERO
        assert lr.certify(A, A, rng=7).estimate == 0.0
        product = lr.cr(A, A.T, 0)
        assert product.to_dense().shape == (shape[0], shape[0])
    assert lr.nystrom(np.zeros((0, 0)), rank=0, rng=7).status is Status.EMPTY


@every
@pytest.mark.parametrize("shape", [(1, 9), (9, 1), (1, 1)])
@pytest.mark.parametrize("options", [{"rank": 1}, {"tol": 1e-3}], ids=["rank", "tol"])
@pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "c16"])
def test_one_row_or_one_column(rng, make, shape, options, dtype):
    A = rng.standard_normal(shape).astype(dtype)
    before = A.copy()
    f = make(A, rng=7, **options)
    assert f.rank == 1
    assert np.allclose(f.to_dense(), A, rtol=20 * np.finfo(dtype).eps)
    assert np.array_equal(A, before)


@every
@pytest.mark.parametrize("shape", [(12, 9), (9, 12), (9, 9)])
def test_rank_zero_full_rank_and_beyond(rng, make, shape):
    A = rng.standard_normal(shape)
    assert make(A, rank=0, rng=7).status is Status.EMPTY
    full = make(A, rank=9, rng=7)
    assert full.rank == 9
    assert np.allclose(full.to_dense(), A, atol=1e-12)
    refused(ValueError, "rank=10 exceeds min(A.shape)=9; pass rank<=9", make, A, rank=10)


@readers
@pytest.mark.parametrize("A", [np.array(3.0), np.ones(4), np.ones((2, 2, 2))], ids=["0-d", "1-d", "3-d"])
def test_not_two_dimensions(reader, A):
    if reader == "pinv" and A.ndim == 3:
        assert lr.pinv(A).matrix.shape == (2, 2, 2)  # a batch
        return
    name, what = {"cr": ("X", "cr needs two dimensions"), "pinv": ("A", "pinv needs a matrix")}.get(
        reader, ("A", "expected two dimensions")
    )
    refused(ValueError, f"{name} has shape {A.shape}; {what}", READERS[reader], A, rank=1)


# --- what the entries are ---


@every
def test_exact_rank_stops_early_and_says_so(rng, make):
    A = rng.standard_normal((60, 4)) @ rng.standard_normal((4, 50))
    f = make(A, rank=9, rng=7)
    assert f.rank == 4
    assert f.status is Status.EXACT_RANK
    assert "no further numerical rank, so the factorisation stopped early; it is exact to rounding" in f.explain()
    assert f.relative_error(A) < 1e-13


@every
@tolerant
def test_zero_matrix(make, options):
    f = make(np.zeros((12, 9)), rng=7, **options)
    assert f.status is Status.ZERO
    assert f.certificate.estimate == 0.0
    assert not f.to_dense().any()


@every
@pytest.mark.parametrize("name", NOT_GIVEN)
def test_constant_columns_and_duplicates(rng, make, name):
    f = make(np.full((40, 30), 3.0), rank=5, selection=name, rng=7)
    assert np.allclose(f.to_dense(), 3.0)
    assert f.rank == 1
    A = np.repeat(np.repeat(rng.standard_normal((8, 4)), 5, axis=0), 6, axis=1)
    g = make(A, rank=10, selection=name, rng=7)
    assert g.rank <= 4
    assert g.relative_error(A) < 1e-12 or g.status is Status.DEPENDENT


@readers
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_named_by_its_first_position(rng, reader, bad):
    B = rng.standard_normal((6, 6))
    A = B @ B.T
    A[1, 4] = A[4, 1] = bad
    place = {"cr": rf"X\[1, 4\] is {bad}", "select_rows": rf"A\[(1, 4|4, 1)\] is {bad}"}
    place |= {"row_id": place["select_rows"], "nystrom": "finite"}
    with pytest.raises(ValueError, match=place.get(reader, rf"A\[1, 4\] is {bad}; \w+ needs finite entries")):
        READERS[reader](A, rank=6 if reader == "nystrom" else 3)  # which reads the columns it chooses alone


@pytest.mark.parametrize("kind", [np.array, np.asfortranarray, scipy.sparse.csr_array, scipy.sparse.csc_array])
@pytest.mark.parametrize("reader", [*FACTORISATIONS, "select_columns", "select_rows"])
def test_the_position_is_the_user_s_own(rng, reader, kind):
    A = rng.standard_normal((40, 30))
    A[11, 5] = np.inf
    refused(ValueError, "A[11, 5] is inf; lowrank needs finite entries, so remove or impute them first",
            READERS[reader], kind(A), rank=3)  # fmt: skip


@every
@pytest.mark.parametrize("dtype", ["int8", "int64", "uint16", "bool"])
def test_integers_are_converted_and_it_is_said(rng, make, dtype):
    A = rng.integers(0, 2, (20, 12)).astype(dtype)
    for kind in (np.array, scipy.sparse.csr_array):
        f = make(kind(A), rank=3, rng=7)
        assert f.dtype == np.float64
        assert f"{A.dtype} entries were converted to float64." in f.notes
    assert make(A.tolist(), rank=3, rng=7).rank == 3


@readers
@pytest.mark.parametrize("dtype", ["f2", "O", "U1", "M8[s]", "V4"])
def test_dtypes_that_are_not_read(reader, dtype):
    A = np.zeros((6, 6), dtype=dtype)
    name, text = ("X", "; cr reads float32") if reader == "cr" else ("A", "; pinv reads float32")
    text = text if reader in ("cr", "pinv") else "; expected float32, float64, complex64 or complex128"
    refused(TypeError, f"{name} has dtype {A.dtype}{text}", READERS[reader], A, rank=2)


@readers
def test_masked_arrays_and_ragged_lists(reader):
    name = "X" if reader == "cr" else "A"
    masked = np.ma.masked_array(np.eye(6), mask=np.eye(6) == 1)
    refused(TypeError, f"{name} is a masked array, and lowrank has no notion of a missing entry; fill it first",
            READERS[reader], masked, rank=2)  # fmt: skip
    refused(ValueError, f"{name} is a nested sequence whose rows differ in length", READERS[reader], [[1], [1, 2]])


@readers
@pytest.mark.parametrize("A", ["text", None, 3.5, {1, 2}, object()], ids=str)
def test_what_is_no_matrix(reader, A):
    name = "X" if reader == "cr" else "A"
    verb = "reads numpy arrays" if reader in ("cr", "pinv") else "which lowrank does not read yet; it reads numpy"
    with pytest.raises(TypeError, match=rf"{name} is a [\w.]+(;|,).*{verb}"):
        READERS[reader](A, rank=2)


@readers
def test_foreign_byte_order(rng, reader):
    B = rng.standard_normal((6, 6))
    READERS[reader]((B @ B.T).astype(">f8"), rank=2)


# --- scale ---


@every
@tolerant
@pytest.mark.parametrize("core", ["sketched", "optimal", "cross"])
@pytest.mark.parametrize("scale", [1e-300, 1e-150, 1e150, 1e300])
@pytest.mark.parametrize("shape", [(12, 9), (80, 30)])
def test_any_scale(rng, make, options, core, scale, shape, strict_floats):
    if make is lr.cur:
        options = {**options, "core": core}
    elif core != "sketched":
        return
    A = lr.gallery.exponential_decay(*shape, scale=2.0, rng=rng)
    with np.errstate(under="ignore"):
        one, other = make(A, rng=7, **options), make(A * scale, rng=7, **options)
        assert other.rank == one.rank
        assert other.relative_error(A * scale) == pytest.approx(one.relative_error(A), rel=1e-3, abs=1e-12)
        assert other.certificate.estimate == pytest.approx(one.certificate.estimate, rel=1e-3, abs=1e-12)


@every
@tolerant
@pytest.mark.parametrize("along", [0, 1])
def test_graded_over_six_hundred_orders_of_magnitude(rng, make, options, along):
    scales = np.geomspace(1e-300, 1e300, 30)
    A = rng.standard_normal((30, 30)) * (scales if along else scales[:, None])
    f = make(A, rng=7, **options)
    assert np.isfinite(f.to_dense()).all()
    assert f.relative_error(A) <= 1e-3


@pytest.mark.parametrize("scale", [1e-320, 1e-300, 1e300, 1.7e308])
def test_certify_at_the_ends_of_the_range(rng, scale):
    A = rng.uniform(-1, 1, (12, 9)) * scale
    assert lr.certify(A, A, rng=7).estimate < 1e-14
    assert lr.certify(A, np.zeros((12, 9)), rng=7).interval[1] > 0.7
    assert lr.certify(A, A.tolist(), rng=7).estimate < 1e-14
    assert lr.certify(A, aslinearoperator(A), rng=7).estimate < 1e-14


def test_certify_refuses_what_does_not_fit():
    A = np.eye(4)
    refused(ValueError, "A has shape (4, 4), but the approximation has (3, 3); they must agree",
            lr.certify, A, np.eye(3))  # fmt: skip
    refused(ValueError, "probes=0; pass at least 1, and 10 for an interval worth having", lr.certify, A, A, probes=0)
    refused(TypeError, "the approximation is a masked array", lr.certify, A, np.ma.masked_array(A))
    refused(ValueError, "the approximation gives NaN or inf when it is multiplied", lr.certify, A, np.nan * A)


# --- memory ---


@every
@tolerant
def test_views_of_every_kind(rng, make, options, tmp_path):
    A = rng.standard_normal((40, 24)) * np.geomspace(1, 1e-6, 24)
    wide = np.zeros((80, 72))
    wide[::2, ::3] = A
    backwards = np.ascontiguousarray(A[::-1, ::-1])[::-1, ::-1]
    frozen = A.copy()
    frozen.flags.writeable = False
    np.save(tmp_path / "A.npy", A)
    mapped = np.load(tmp_path / "A.npy", mmap_mode="r")
    expected = make(A, rng=7, **options).to_dense()
    for view in (np.asfortranarray(A), wide[::2, ::3], backwards, frozen, mapped, A.view(np.matrix)):
        f = make(view, rng=7, **options)
        assert np.allclose(f.to_dense(), expected, rtol=0, atol=1e-13)
        assert type(f.C if hasattr(f, "C") else f.to_dense()) is np.ndarray
    assert np.array_equal(frozen, A)
    assert make(np.broadcast_to(A[0], A.shape), rng=7, **options).rank == 1


# --- sparse ---

FORMATS = ("csr", "csc", "coo", "lil", "dok", "dia", "bsr")


def thinned(rng, m=40, n=30):
    return np.where(rng.random((m, n)) < 0.3, rng.standard_normal((m, n)), 0.0)


@every
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("style", ["array", "matrix"])
def test_sparse_formats(rng, make, form, style):
    A = thinned(rng)
    f = make(getattr(scipy.sparse, f"{form}_{style}")(A), rank=6, rng=7)
    said = f"The {form.upper()} matrix was converted to CSR."
    assert (said in f.notes) == (form not in ("csr", "csc"))
    if hasattr(f, "C"):
        assert scipy.sparse.issparse(f.C)
        assert np.array_equal(f.C.toarray(), A[:, f.columns if make is lr.cur else f.indices])
    if hasattr(f, "R"):
        assert scipy.sparse.issparse(f.R)
        assert np.array_equal(f.R.toarray(), A[f.rows if make is lr.cur else f.indices])
    assert f.relative_error(A) <= 1


@every
def test_sparse_oddities_change_nothing(rng, make):
    A = thinned(rng)
    S = scipy.sparse.csr_array(A)
    expected = make(S, rank=6, rng=7).to_dense()
    zeros = scipy.sparse.coo_array((np.r_[S.data, 0.0], (np.r_[S.tocoo().coords[0], 0], np.r_[S.indices, 29])), S.shape)
    halves = scipy.sparse.csr_array(
        (np.repeat(S.data / 2, 2), np.repeat(S.indices, 2), 2 * S.indptr), shape=S.shape
    )  # fmt: skip
    shuffled = S.copy()
    shuffled.indices[: shuffled.indptr[1]] = shuffled.indices[: shuffled.indptr[1]][::-1].copy()
    shuffled.data[: shuffled.indptr[1]] = shuffled.data[: shuffled.indptr[1]][::-1].copy()
    shuffled.has_sorted_indices = False
    long = scipy.sparse.csr_array((S.data, S.indices.astype(np.int64), S.indptr.astype(np.int64)), shape=S.shape)
    for odd in (zeros, halves, shuffled, long):
        count = odd.nnz
        assert np.allclose(make(odd, rank=6, rng=7).to_dense(), expected, atol=1e-13)
        assert odd.nnz == count


def test_what_reads_no_sparse_matrix():
    S = scipy.sparse.eye_array(5, format="csr")
    refused(TypeError, "cr reads numpy arrays, so convert it first (.toarray(), .numpy())", lr.cr, S, S, 2)
    refused(TypeError, "pinv reads numpy arrays and torch tensors, so convert it first", lr.pinv, S)


# --- operators and kernels ---


@pytest.mark.parametrize("reader", [*FACTORISATIONS, "select_columns"])
def test_an_operator_without_rmatmat(rng, reader):
    A = rng.standard_normal((40, 30))
    one_way = LinearOperator(A.shape, matvec=lambda x: A @ x, dtype=float)
    refused(NotImplementedError, "A is a LinearOperator without rmatmat, and this needs products with the adjoint of A",
            READERS[reader], one_way, rank=3)  # fmt: skip
    assert len(lr.select_rows(one_way, 3, rng=7)) == 3


def test_nystrom_of_an_operator(rng):
    B = rng.standard_normal((30, 30))
    K = B @ np.diag(np.geomspace(1, 1e-8, 30)) @ B.T
    f, g = lr.nystrom(aslinearoperator(K), rank=8, rng=7), lr.nystrom(K, rank=8, rng=7)
    assert np.array_equal(f.landmarks, g.landmarks)
    assert np.allclose(f.factor, g.factor, atol=1e-9)
    refused(TypeError, "a kernel needs points: pass nystrom(kernel, X, rank=...)", lr.nystrom, lambda P, Q: P @ Q.T)


def test_a_matrix_that_is_not_psd(rng):
    refused(ValueError, "K[2, 2] is -1, so K is not positive semidefinite", lr.nystrom, np.diag([1.0, 1, -1]), rank=2)
    hidden = np.eye(6)
    hidden[0, 1] = hidden[1, 0] = 2.0
    with pytest.raises(ValueError, match=r"K is not positive semidefinite: .* or use cur"):
        lr.nystrom(hidden, rank=6, rng=7)
    skew = rng.standard_normal((6, 6)) + 10 * np.eye(6)
    refused(ValueError, "K is not Hermitian", lr.nystrom, skew, rank=6, rng=7)
    refused(
        ValueError, "a Nystrom approximation needs a square matrix, so try cur", lr.nystrom, np.ones((3, 4)), rank=1
    )


# --- arguments ---


@readers
@pytest.mark.parametrize("rank", [3.0, True, "3", None, -1, 10], ids=repr)
def test_ranks_that_are_none(rng, reader, rank):
    if reader in ("pinv", "certify"):
        return
    B = rng.standard_normal((9, 9))
    name = "k" if reader.startswith("select") else "rank"
    said = {-1: f"{name}=-1 is (negative|out of range)", 10: f"{name}=10 (exceeds|is out of range)",
            None: f"pass {name}=|rank=None is not an integer"}  # fmt: skip
    with pytest.raises((TypeError, ValueError), match=said.get(rank, f"{name}={rank!r} is not an integer")):
        READERS[reader](B @ B.T, rank=rank)
    for fine in (np.int64(3), np.uint8(3), np.array(3)):
        READERS[reader](B @ B.T, rank=fine, rng=7)


@every
@pytest.mark.parametrize("tol", [0, 0.0, -1e-3, np.nan, np.inf, "1e-3", True, 1j], ids=repr)
def test_tolerances_that_are_none(make, tol):
    with pytest.raises((TypeError, ValueError), match=re.escape(f"tol={tol!r} is not a ")):
        make(np.eye(9), tol=tol)


@every
def test_rank_and_tolerance(rng, make):
    A = rng.standard_normal((12, 9))
    refused(TypeError, "pass rank= or tol=, not both", make, A, rank=3, tol=0.1)
    refused(TypeError, "pass rank=, an integer from 0 to min(A.shape)=9, or tol=", make, A)
    for tol in (1, 2.5, np.float32(1)):
        f = make(A, tol=tol, rng=7)
        assert f.rank == 0
        assert f.status in (Status.TOLERANCE_MET, Status.TOLERANCE_EXACT)
    assert make(A, tol=1e-300, rng=7).rank == 9


@pytest.mark.parametrize("reader", ["column_id", "row_id", "select_columns", "select_rows", "nystrom"])
@pytest.mark.parametrize(
    ("indices", "error", "sentence"),
    [
        ([0, 9], IndexError, "reaches from 0 to 9, but there are 9 columns (or rows) to choose from"),
        ([-10, 0], IndexError, "reaches from -10 to 0, but there are 9"),
        ([0, 0], ValueError, "repeats an index; each column (or row) can be kept once"),
        ([0, -9], ValueError, "repeats an index"),
        ([0], ValueError, "has 1 entries, but the rank is 2; make them agree"),
        ([0.0, 1.0], TypeError, "must be one-dimensional integers, got shape (2,) and dtype float64"),
        ([True, False], TypeError, "must be one-dimensional integers, got shape (2,) and dtype bool"),
        ([[0, 1]], TypeError, "must be one-dimensional integers, got shape (1, 2) and dtype int64"),
        ([0, 2**70], TypeError, "must be one-dimensional integers, got shape (2,) and dtype object"),
        (None, ValueError, 'the selection "given" needs indices=, the 2 columns (or rows) to keep'),
    ],
)
def test_indices_that_do_not_fit(rng, reader, indices, error, sentence):
    B = rng.standard_normal((9, 9))
    given = {"method" if reader.startswith("select") else "selection": "given"}
    refused(error, sentence, READERS[reader], B @ B.T, rank=2, indices=indices, **given)
    fine = READERS[reader](B @ B.T, rank=2, indices=[0, -1], **given)
    assert sorted(getattr(fine, "indices", getattr(fine, "landmarks", fine))) == [0, 8]
    refused(
        ValueError, 'indices= goes with the selection "given", not with', READERS[reader], B, rank=2, indices=[0, 1]
    )


def test_indices_of_a_cur(rng):
    A = rng.standard_normal((12, 9))
    g = lr.cur(A, rank=2, selection="given", indices=([0, -1], [3, -2]), rng=7)
    assert (g.columns.tolist(), g.rows.tolist()) == ([0, 8], [3, 10])
    refused(TypeError, "indices must be a pair (columns, rows)", lr.cur, A, rank=1, selection="given", indices=[0])
    refused(ValueError, 'the selection "given" needs indices=, the 2', lr.cur, A, rank=2, selection="given")
    refused(IndexError, "indices[1] reaches from 3 to 12", lr.cur, A, rank=2, selection="given",
            indices=([0, 1], [3, 12]))  # fmt: skip
    refused(ValueError, "oversample=8 exceeds the rows left=7; pass oversample<=7", lr.cur, A, rank=5, oversample=8)
    refused(ValueError, "oversample=-1 is negative", lr.cur, A, rank=5, oversample=-1)
    refused(ValueError, "two_sided_id takes no indices", lr.two_sided_id, A, rank=2, selection="given")


@every
@pytest.mark.parametrize("name", ["worst", None, ["lu"]], ids=repr)
def test_unknown_names_list_what_works(make, name):
    A = np.eye(6)
    for option in ("selection", "core" if make is lr.cur else "quality"):
        with pytest.raises(ValueError, match=re.escape(f"{option}={name!r} is not available; pass one of '")):
            make(A, rank=2, **{option: name})
    refused(
        ValueError, "norm='nuclear' is not available; pass one of 'fro', 'spectral'", make, A, rank=2, norm="nuclear"
    )


@pytest.mark.parametrize("reader", [name for name in READERS if name != "pinv"])
@pytest.mark.parametrize("rng", ["seed", 1.5, -1], ids=repr)
def test_seeds_that_are_none(reader, rng):
    with pytest.raises((TypeError, ValueError), match=r"SeedSequence expects int|expected non-negative integer"):
        READERS[reader](np.eye(6), rank=2, rng=rng)
    for fine in (None, 3, np.int64(3), [3, 4], np.random.SeedSequence(3), np.random.default_rng(3)):
        READERS[reader](np.eye(6), rank=2, rng=fine)


@pytest.mark.parametrize("reader", [*FACTORISATIONS, "select_columns", "nystrom"])
@pytest.mark.parametrize(
    ("workers", "sentence"),
    [(0, "workers=0 asks for no thread"), (-100, "workers=-100 asks for no thread"), (1.5, "workers=1.5 is not an"),
     ("2", "workers='2' is not an integer; pass a number of threads, or None for all")],
)  # fmt: skip
def test_workers_that_are_none(reader, workers, sentence):
    with pytest.raises((TypeError, ValueError), match=sentence):
        READERS[reader](np.eye(6), rank=2, workers=workers)
    READERS[reader](np.eye(6), rank=2, workers=-1)


@every
def test_progress(make):
    seen = []
    make(np.eye(6), rank=2, rng=7, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1]
    refused(TypeError, "progress='yes'; pass False, True or a callable progress(done, total)",
            make, np.eye(6), rank=2, progress="yes")  # fmt: skip
