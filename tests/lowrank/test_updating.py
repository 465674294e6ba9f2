"""Columns that arrive later: the error of the whole stays within the tolerance, and the certificate knows it."""

import pickle

import numpy as np
import pytest
import scipy.sparse
from scipy.sparse.linalg import aslinearoperator

import lowrank as lr
from lowrank import gallery


def streamed(A, tol, rng, cuts=(30, 50, 80)):
    parts = np.split(np.arange(A.shape[1]), cuts)
    f = lr.column_id(A[:, parts[0]], tol=tol, rng=rng, workers=1)
    for part in parts[1:]:
        f = f.update(columns=A[:, part], tol=tol, rng=rng, workers=1)
    return f


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_batches_are_as_good_as_all_at_once(dtype):
    """20 streams of four batches; a look is wrong once in a thousand times, so that two failures are a broken bound."""
    wrong = misses = 0
    for seed in range(300, 320):
        rng = np.random.default_rng(seed)
        A = gallery.exponential_decay(200, 100, scale=6, rng=rng, dtype=dtype)
        tol = 10 ** rng.uniform(-3.5, -0.5)
        f = streamed(A, tol, rng)
        error = f.relative_error(A)
        wrong += error > tol
        low, high = f.certificate.interval
        misses += not low <= error <= high
        np.testing.assert_array_equal(f.C, A[:, f.indices])
        np.testing.assert_array_equal(f.coefficients[:, f.indices], np.eye(f.rank))
        assert f.status is lr.Status.TOLERANCE_MET
        assert f.rank <= 2 * lr.column_id(A, tol=tol, rng=7, workers=1).rank + 3
        assert f.dtype == dtype
    assert wrong <= 1
    assert misses <= 6  # 5 % of 20; 7 or more are seen once in 10^4 runs


def test_columns_of_the_same_space_need_no_further_column(rng):
    A = gallery.exact_rank(150, 60, 5, rng=rng)
    f = lr.column_id(A[:, :20], tol=1e-8, rng=7)
    g = f.update(columns=A[:, 20:], rng=8, tol=1e-8)
    np.testing.assert_array_equal(g.indices, f.indices)
    assert g.shape == (150, 60)
    assert g.relative_error(A) < 1e-8
    assert "40 columns that arrived later: 0 of them kept" in g.explain()


def test_a_new_direction_is_kept(rng):
    A = gallery.exact_rank(150, 40, 5, rng=rng)
    new = np.hstack([A[:, :3], rng.standard_normal((150, 100)) @ rng.standard_normal((100, 120))])
    f = lr.column_id(A, rank=5, rng=7)
    g = f.update(columns=new, rng=8, tol=1e-3)
    whole = np.hstack([A, new])
    assert g.relative_error(whole) <= 1e-3
    assert 100 <= g.rank <= 105
    assert g.indices.max() >= 43


def test_rows_sparse_files_and_scales(rng, tmp_path):
    A = gallery.exponential_decay(90, 70, scale=4, rng=rng)
    f = lr.row_id(A[:40], tol=1e-2, rng=7).update(rows=A[40:], tol=1e-2, rng=8)
    assert f.relative_error(A) <= 1e-2
    np.testing.assert_array_equal(f.R, A[f.indices])
    S = scipy.sparse.csc_array(A)
    g = lr.column_id(S[:, :40], tol=1e-2, rng=7).update(columns=S[:, 40:], tol=1e-2, rng=8)
    assert scipy.sparse.issparse(g.C)
    assert g.relative_error(S) <= 1e-2
    again = lr.load(lr.column_id(S[:, :40], tol=1e-2, rng=7).save(tmp_path / "f"))
    for h in (again, pickle.loads(pickle.dumps(again))):
        np.testing.assert_array_equal(h.update(columns=S[:, 40:], tol=1e-2, rng=8).to_dense(), g.to_dense())
    for scale in (1e-300, 1e300):
        h = streamed(A * scale, 1e-2, np.random.default_rng(7), (30, 50))
        assert h.relative_error(A * scale) <= 1e-2
    z = lr.column_id(A, tol=1e-2, rng=7).update(columns=np.zeros((90, 4)), rng=8)
    assert not z.coefficients[:, 70:].any()
    zero = lr.column_id(np.zeros((90, 4)), rank=2, rng=7).update(columns=A, tol=1e-2, rng=8)
    assert zero.relative_error(np.hstack([np.zeros((90, 4)), A])) <= 1e-2


def test_bad_updates(rng):
    A = gallery.polynomial_decay(60, 30, rng=rng)
    f = lr.column_id(A, rank=6, rng=7)
    with pytest.raises(
        ValueError, match=r"has 59 entries in each column \(or row\), but those of the column ID have 60"
    ):
        f.update(columns=A[1:])
    with pytest.raises(TypeError, match="what arrives has dtype float32, but the factorisation has float64"):
        f.update(columns=A.astype(np.float32))
    with pytest.raises(ValueError, match="tol=1e-09 cannot be met: the error so far is"):
        f.update(columns=A, tol=1e-9)
    with pytest.raises(ValueError, match="an update adds up Frobenius errors over exact column norms"):
        f.update(columns=aslinearoperator(A))
    with pytest.raises(ValueError, match="an update adds up Frobenius errors"):
        lr.column_id(A, rank=6, rng=7, norm="spectral").update(columns=A)
    with pytest.raises(ValueError, match=r"A\[2, 1\] is nan"):
        f.update(columns=np.where(np.arange(120).reshape(60, 2) == 5, np.nan, 1.0))
    with pytest.raises(NotImplementedError, match="a two-sided ID cannot be updated"):
        lr.two_sided_id(A, rank=6, rng=7).update(columns=A)
