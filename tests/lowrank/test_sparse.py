"""Sparse matrices: the same answers as the array, formats kept, stored entries counted, and bad input."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

import lowrank as lr
from lowrank.operands import as_operand
from lowrank.sketching import SparseStack


def sparse(rng, m=300, n=120, density=0.1, decay=12.0, dtype=np.float64):
    """Columns of falling size, so that there is something to choose."""
    A = sp.random_array((m, n), density=density, rng=rng, data_sampler=lambda size: rng.standard_normal(size))
    return sp.csr_array(A @ sp.diags_array(np.exp(-np.arange(n) / decay))).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_csr_csc_and_dense_sketches_agree_to_the_last_bit(rng, dtype, workers):
    A = sparse(rng, 2500, 1100, 0.01, dtype=dtype)
    S, omega = SparseStack.draw(50, 2500, rng), rng.standard_normal((3, 2500))
    csr, csc, dense = (as_operand(B).sketch(S, omega, workers=workers) for B in (A, A.tocsc(), A.toarray()))
    assert csr.Y.dtype == csc.Y.dtype == dtype
    np.testing.assert_array_equal(csr.Y, dense.Y)
    np.testing.assert_array_equal(csc.Y, dense.Y)
    np.testing.assert_array_equal(csr.W, csc.W)
    np.testing.assert_array_equal(csr.squared_norms, csc.squared_norms)
    np.testing.assert_array_equal(csr.squared_norms, dense.squared_norms)


@pytest.mark.parametrize("make", [lr.column_id, lr.row_id, lr.cur])
@pytest.mark.parametrize("kind", [sp.csr_array, sp.csc_array, sp.csr_matrix, sp.csc_matrix])
def test_parts_keep_the_format_and_products_are_those_of_the_array(rng, make, kind):
    A = kind(sparse(rng))
    f, whole = make(A, rank=15, rng=7), A.toarray()
    chosen = {"C": lambda: whole[:, getattr(f, "indices", getattr(f, "columns", None))]}
    chosen["R"] = lambda: whole[f.indices if make is lr.row_id else f.rows]
    for name in {lr.column_id: "C", lr.row_id: "R", lr.cur: "CR"}[make]:
        part = getattr(f, name)
        assert type(part) is kind
        np.testing.assert_array_equal(part.toarray(), chosen[name]())
    assert f.notes == ()
    x, y = rng.standard_normal(120), rng.standard_normal((300, 2))
    np.testing.assert_allclose(f @ x, f.to_dense() @ x, atol=1e-10)
    np.testing.assert_allclose(f.H @ y, f.to_dense().T @ y, atol=1e-10)
    np.testing.assert_allclose(f.svd()[1], np.linalg.svd(f.to_dense(), compute_uv=False)[: f.rank], atol=1e-10)
    if make is lr.cur:
        np.testing.assert_allclose(f.to_dense(), lr.cur(whole, rank=15, rng=7).to_dense(), atol=1e-10)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
@pytest.mark.parametrize("kind", [sp.csr_array, sp.csc_array])
def test_coefficients_of_a_sparse_matrix_are_exact(rng, kind, dtype):
    A = kind(sparse(rng, 2000, 120, 0.02, dtype=dtype))
    if A.dtype.kind == "c":
        A = A * kind(A.astype(bool) * 1.0) + 1j * kind(sparse(rng, 2000, 120, 0.02))
    f = lr.column_id(A, rank=20, rng=7)
    Z = np.linalg.lstsq(f.C.toarray(), A.toarray(), rcond=None)[0]
    assert f.coefficients.dtype == dtype
    np.testing.assert_allclose(f.coefficients, Z, atol=300 * np.finfo(dtype).eps * abs(Z).max())
    assert "exact coefficients, by products of sparse matrices" in f.explain()


def test_coefficients_in_nearly_equal_sparse_columns(rng):
    A = sp.csc_array(sparse(rng, 2000, 120, 0.02))
    near = A[:, [0]] + 1e-9 * A[:, [1]]  # a Gram matrix cannot tell these apart: its condition is 1e18
    A = sp.csc_array(sp.hstack([A[:, [0]], near, A[:, 2:]]))
    f = lr.column_id(A, rank=3, selection="given", indices=[0, 1, 2], rng=7)
    Z = np.linalg.lstsq(f.C.toarray(), A.toarray(), rcond=None)[0]
    assert np.linalg.norm(f.C @ (f.coefficients - Z)) < 1e-5 * np.linalg.norm(A.toarray())
    assert f.certificate.interval[0] <= f.relative_error(A) <= f.certificate.interval[1]


@pytest.mark.parametrize("make", [lr.column_id, lr.row_id, lr.cur])
@pytest.mark.parametrize("kind", [sp.csr_array, sp.csc_matrix])
def test_saved_results_come_back_sparse(rng, make, kind, tmp_path):
    f = make(kind(sparse(rng)), rank=5, rng=7)
    g = lr.load(f.save(tmp_path / "f"))
    np.testing.assert_array_equal(g.to_dense(), f.to_dense())
    part = "R" if make is lr.row_id else "C"
    assert type(getattr(g, part)) is type(getattr(f, part)) is kind


@pytest.mark.parametrize("quality", ["fast", "best"])
def test_stored_entries_are_what_is_counted(rng, quality):
    A = sparse(rng, 900, 150)
    f = lr.column_id(A, rank=15, rng=7, quality=quality)
    assert f.entries_read == 2 * A.nnz + 2 * f.C.nnz  # the sketch and C^* A; C for this product and for the result
    operand = as_operand(A)
    operand.entries([0, 1], [2, 3])
    assert operand.entries_read == A[[0, 1]][:, [2, 3]].nnz


@pytest.mark.filterwarnings("ignore::scipy.sparse.SparseEfficiencyWarning")
@pytest.mark.parametrize("name", ["coo", "lil", "dok", "bsr", "dia"])
def test_other_formats_are_converted_and_said_so(rng, name):
    A = sparse(rng, 60, 40)
    f = lr.column_id(A.asformat(name), rank=5, rng=7)
    assert f.C.format == "csr"
    assert f"note: The {name.upper()} matrix was converted to CSR." in f.explain()
    np.testing.assert_array_equal(f.to_dense(), lr.column_id(A, rank=5, rng=7).to_dense())


@pytest.mark.parametrize("dtype", ["bool", "int8", "int64"])
def test_integers_are_converted_and_said_so(dtype):
    A = sp.eye_array(9, dtype=dtype, format="csr")
    operand = as_operand(A)
    assert operand.dtype == np.float64
    assert operand.notes == (f"{dtype} entries were converted to float64.",)


def test_explicit_zeros_duplicates_and_unsorted_indices(rng):
    data, indices, indptr = [1.0, 0.0, 2.0, 3.0, 4.0, -4.0], [2, 0, 2, 1, 1, 1], [0, 3, 3, 6]
    A = sp.csr_array((data, indices, indptr), shape=(3, 3))
    D = A.toarray()
    for B in (A, A.tocsc()):
        before = B.data.copy()
        S = SparseStack.draw(8, 3, rng)
        np.testing.assert_allclose(as_operand(B).sketch(S).Y, S.to_dense() @ D, atol=1e-14)
        np.testing.assert_allclose(as_operand(B).sketch(S).squared_norms, (D**2).sum(axis=0), atol=1e-14)
        assert np.array_equal(B.data, before), "the matrix of the user is left as it was"
    zeros = sp.csr_array((np.zeros(4), [0, 1, 2, 0], [0, 2, 3, 4]), shape=(3, 3))
    assert lr.column_id(zeros, rank=2, rng=7).status is lr.Status.ZERO


@pytest.mark.parametrize("kind", [sp.csr_array, sp.csc_array])
@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0), (1, 9), (200, 1)])
def test_nothing_there_and_thin(kind, shape):
    A = kind(np.ones(shape))
    f = lr.column_id(A, rank=min(shape), rng=7)
    assert f.to_dense().shape == shape
    np.testing.assert_allclose(f.to_dense(), A.toarray(), atol=1e-12)


@pytest.mark.parametrize("kind", [sp.csr_array, sp.csc_array])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_entries_that_are_not_finite_are_named(rng, kind, value):
    A = sparse(rng).tolil()
    A[200, 3] = A[17, 90] = A[17, 95] = value
    with pytest.raises(ValueError, match=rf"A\[17, 90\] is {value}; lowrank needs finite entries"):
        lr.column_id(kind(A), rank=3, rng=7)


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e160, 1e300])
@pytest.mark.parametrize("make", [lr.column_id, lr.row_id, lr.cur])
def test_any_scale(rng, make, scale, strict_floats):
    A = sparse(rng, decay=3.0)
    with np.errstate(under="ignore"):
        B = A * scale
    f, g = make(A, rank=9, rng=7), make(B, rank=9, rng=7)
    assert g.relative_error(B) == pytest.approx(f.relative_error(A), rel=1e-3)
    assert g.certificate.absolute == pytest.approx(f.certificate.absolute * scale, rel=1e-6)
    assert f.C.max() * scale == pytest.approx(g.C.max()) if make is lr.column_id else True


def test_a_large_matrix_is_never_dense(rng):
    """30000 x 20000: 4.8 GB as an array."""
    A = sp.random_array((30000, 20000), density=1e-4, rng=rng, format="csr")
    f = lr.column_id(A, rank=8, rng=7)
    assert f.C.nnz < 8 * 100
    assert f.entries_read <= 2 * A.nnz + 2 * f.C.nnz


def test_what_is_not_read():
    with pytest.raises(TypeError, match=r"A has dtype .*; expected float32"):
        as_operand(sp.csr_array(np.eye(3, dtype=np.longdouble)))
    with pytest.raises(ValueError, match=r"A has shape \(4,\); expected two dimensions"):
        as_operand(sp.coo_array(np.ones(4)))
    A = sp.csr_array(np.eye(3))
    A.indices = np.array([0, 7, 2], dtype=np.int32)
    with pytest.raises(ValueError, match=r"A is a damaged CSR matrix: its indices do not fit its shape \(3, 3\)"):
        as_operand(A)


@given(m=st.integers(0, 30), n=st.integers(0, 12), density=st.floats(0, 1), seed=st.integers(2, 2**32))
def test_any_pattern(m, n, density, seed):
    rng = np.random.default_rng(seed)
    A = np.where(rng.random((m, n)) < density, rng.standard_normal((m, n)), 0.0)
    S = SparseStack.draw(9, m, rng)
    for kind in (sp.csr_array, sp.csc_array):
        operand = as_operand(kind(A))
        np.testing.assert_allclose(operand.sketch(S).Y, S.to_dense() @ A, atol=1e-13)
        f = lr.column_id(kind(A), rank=min(m, n), rng=7)
        np.testing.assert_allclose(f.to_dense(), A, atol=1e-8)
