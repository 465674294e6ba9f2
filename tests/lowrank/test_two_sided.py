"""Two-sided ID: a real block of A, the error of the column ID, every scale, kind and target, files, bad input."""

import pickle

import numpy as np
import pytest
import scipy.sparse

import lowrank as lr
from lowrank import gallery


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
@pytest.mark.parametrize("shape", [(900, 150), (120, 400)])
def test_a_real_block_and_the_error_of_the_column_id(rng, dtype, shape):
    A = gallery.polynomial_decay(*shape, rng=rng, dtype=dtype)
    f, g = lr.two_sided_id(A, rank=15, rng=7), lr.column_id(A, rank=15, rng=7)
    assert isinstance(f, lr.TwoSidedID)
    assert f.dtype == f.left.dtype == f.right.dtype == dtype
    assert np.array_equal(f.block, A[np.ix_(f.rows, f.columns)])
    assert np.array_equal(f.columns, g.indices)
    assert np.array_equal(f.left[f.rows], np.eye(15))
    assert np.array_equal(f.right[:, f.columns], np.eye(15))
    np.testing.assert_allclose(f.to_dense(), g.to_dense(), atol=100 * np.finfo(dtype).eps)
    low, high = f.certificate.interval
    assert 0.5 * low < f.relative_error(A) < 2 * high
    assert high >= g.certificate.interval[1]


def test_products(rng):
    A = gallery.exponential_decay(90, 60, scale=4, rng=rng, dtype=np.complex128)
    f = lr.two_sided_id(A, rank=9, rng=7)
    B, x, y = f.to_dense(), rng.standard_normal(60), rng.standard_normal((90, 3))
    np.testing.assert_allclose(f @ x, B @ x, atol=1e-12)
    np.testing.assert_allclose(f.H @ y, B.conj().T @ y, atol=1e-12)
    np.testing.assert_allclose(f.T @ y, B.T @ y, atol=1e-12)
    np.testing.assert_allclose(f.svd()[1], np.linalg.svd(B, compute_uv=False)[:9], atol=1e-12)


@pytest.mark.parametrize("scale", [1e-310, 1e-300, 1e300])
def test_any_scale(rng, scale):
    A = gallery.polynomial_decay(400, 90, rng=rng)
    f = lr.two_sided_id(A * scale, rank=9, rng=7)
    assert f.relative_error(A * scale) == pytest.approx(lr.two_sided_id(A, rank=9, rng=7).relative_error(A), rel=1e-3)


def test_kahan_and_coefficients_stay_small():
    A = gallery.kahan(200)
    f = lr.two_sided_id(A, rank=60, rng=7)
    assert np.abs(f.left).max() < 50
    assert f.relative_error(A) < 1e-6 or f.relative_error(A) <= f.certificate.interval[1] * 1.5


@pytest.mark.parametrize("quality", ["fast", "best"])
def test_tolerance_quality_and_sparse(rng, quality):
    A = gallery.exponential_decay(500, 100, scale=6, rng=rng)
    f = lr.two_sided_id(A, tol=1e-3, quality=quality, rng=7)
    assert f.status is lr.Status.TOLERANCE_EXACT
    assert f.relative_error(A) <= 1e-3
    g = lr.two_sided_id(scipy.sparse.csc_array(A), tol=1e-3, quality=quality, rng=7)
    assert g.relative_error(A) <= 1e-3


def test_edges(rng, tmp_path):
    assert lr.two_sided_id(np.zeros((9, 7)), rank=2, rng=7).status is lr.Status.ZERO
    for shape in ((0, 5), (5, 0), (1, 9), (9, 1)):
        f = lr.two_sided_id(np.ones(shape), rank=min(shape), rng=7)
        np.testing.assert_allclose(f.to_dense(), np.ones(shape), atol=1e-13)
    A = gallery.exact_rank(200, 80, 6, rng=rng)
    f = lr.two_sided_id(A, rank=20, rng=7)
    assert (f.rank, f.status) == (6, lr.Status.EXACT_RANK)
    assert f.relative_error(A) < 1e-13
    for again in (pickle.loads(pickle.dumps(f)), lr.load(f.save(tmp_path / "f"))):
        assert np.array_equal(again.to_dense(), f.to_dense())
        assert again.explain() == f.explain()
    assert "6 rows and 6 columns" in repr(f)


def test_one_seed_one_answer(rng):
    A = gallery.polynomial_decay(1300, 300, basis="cheap", rng=rng)
    first = lr.two_sided_id(A, rank=25, rng=7, workers=1)
    for workers in (2, 3):
        assert np.array_equal(first.to_dense(), lr.two_sided_id(A, rank=25, rng=7, workers=workers).to_dense())
    assert np.array_equal(first.rows, lr.two_sided_id(np.asfortranarray(A), rank=25, rng=7).rows)


def test_bad_arguments(rng):
    A = rng.standard_normal((40, 30))
    with pytest.raises(ValueError, match="two_sided_id takes no indices; pass another selection, or column_id"):
        lr.two_sided_id(A, rank=3, selection="given")
    with pytest.raises(ValueError, match=r"rank=31 exceeds min\(A.shape\)=30; pass rank<=30"):
        lr.two_sided_id(A, rank=31)
    with pytest.raises(ValueError, match="norm='max' is not available"):
        lr.two_sided_id(A, rank=3, norm="max")
    A[3, 4] = np.nan
    with pytest.raises(ValueError, match=r"A\[3, 4\] is nan; lowrank needs finite entries"):
        lr.two_sided_id(A, rank=3, rng=7)


@pytest.mark.parametrize("norm", ["fro", "spectral"])
def test_what_the_rows_add_is_in_the_certificate(rng, monkeypatch, norm):
    """Rows that do not span the chosen columns, as a blind rule may take them: the error is theirs, and is measured."""
    A = gallery.exponential_decay(80, 30, scale=4, rng=rng)
    monkeypatch.setattr("lowrank.two_sided.choose_rows", lambda C, k, *_: (np.arange(k - 2), "blind"))
    f = lr.two_sided_id(A, rank=10, norm=norm, rng=7)
    error = f.relative_error(A, norm=norm)
    low, high = f.certificate.interval
    assert f.status is lr.Status.DEPENDENT
    assert low <= error <= high
    assert f.certificate.estimate == pytest.approx(error, rel=0.5)
    size = np.linalg.norm(A, 2 if norm == "spectral" else "fro")
    assert f.certificate.absolute == pytest.approx(f.certificate.estimate * size, rel=0.1)
    assert error > 1.5 * lr.column_id(A, rank=10, norm=norm, rng=7).certificate.interval[1]


def test_rounding_in_the_rows_may_miss_a_tolerance(rng, monkeypatch):
    A = gallery.exponential_decay(80, 30, scale=1, rng=rng)
    assert lr.two_sided_id(A, tol=1e-6, rng=7).status in (lr.Status.TOLERANCE_MET, lr.Status.TOLERANCE_EXACT)
    monkeypatch.setattr("lowrank.two_sided._left", lambda C, rows, *_: (np.zeros((len(C), len(rows))), 1e-8))
    f = lr.two_sided_id(A, tol=1e-6, rng=7)
    assert f.status is lr.Status.TOLERANCE_MISSED
    assert f.certificate.interval[0] < f.certificate.estimate < f.certificate.interval[1]
    assert "exact" not in str(f.certificate)
