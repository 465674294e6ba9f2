"""Features of points that were not there at the fit; more rank for what is there; files and pickles of both."""

import pickle

import numpy as np
import pytest

import lowrank as lr
from lowrank import gallery
from lowrank.feature_map import FeatureMap


def double(P, Q):
    return 2 * lr.GaussianKernel(0.7)(P, Q)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kernel", [lr.GaussianKernel(0.7), double])
def test_features_give_the_kernel_of_old_and_new_points(rng, dtype, kernel):
    X, Y = rng.random((300, 2)).astype(dtype), rng.random((50, 2)).astype(dtype)
    f = lr.nystrom(kernel, X, rank=60, rng=7)
    old, new = f.transform(X), f.transform(Y, workers=1)
    slack = 1e4 * np.finfo(dtype).eps
    assert new.shape == (50, f.rank)
    assert new.dtype == dtype
    np.testing.assert_allclose(old @ old.T, f.to_dense(), atol=slack)
    np.testing.assert_allclose(new @ old.T, kernel(Y, X), atol=1e-4 + slack)
    np.testing.assert_allclose(new @ new.T, kernel(Y, Y), atol=1e-4 + slack)
    assert f.transform(Y[:0]).shape == (0, f.rank)
    assert lr.nystrom(kernel, X, rank=0).transform(Y).shape == (50, 0)
    assert isinstance(f.feature_map, FeatureMap)


def test_features_agree_with_scikit_learn(rng):
    """The same landmarks in scikit-learn's Nystroem give the same inner products."""
    kernel_approximation = pytest.importorskip("sklearn.kernel_approximation")
    X, Y = rng.standard_normal((80, 3)), rng.standard_normal((9, 3))
    peer = kernel_approximation.Nystroem(gamma=0.5, n_components=25, random_state=7).fit(X)
    f = lr.nystrom(lr.GaussianKernel(1.0), X, rank=25, selection="given", indices=peer.component_indices_)
    np.testing.assert_allclose(f.transform(Y) @ f.transform(X).T, peer.transform(Y) @ peer.transform(X).T, atol=1e-9)


def test_what_cannot_be_transformed(rng):
    with pytest.raises(ValueError, match=r"a matrix has no points to transform; .* nystrom\(kernel, X, ...\)"):
        lr.nystrom(np.eye(4), rank=2, rng=7).transform(np.ones((2, 2)))
    f = lr.nystrom(lr.GaussianKernel(1.0), rng.standard_normal((20, 3)), rank=4, rng=7)
    with pytest.raises(ValueError, match="Y has points of dimension 2, but the landmarks of 3"):
        f.transform(np.ones((5, 2)))
    with pytest.raises(ValueError, match=r"X\[0, 1\] is nan; points must be finite"):
        f.transform(np.array([[0.0, np.nan, 0.0]]))


def test_files_and_pickles_keep_a_kernel_of_ours_and_say_where_they_cannot(rng, tmp_path):
    X = rng.standard_normal((40, 2))
    f = lr.nystrom(lr.GaussianKernel(1.0), X, rank=6, rng=7)
    f.eigh()
    for g in (lr.load(f.save(tmp_path / "f")), pickle.loads(pickle.dumps(f))):
        np.testing.assert_array_equal(g.transform(X), f.transform(X))
        assert "_eigen" not in g.__dict__
    named = pickle.loads(pickle.dumps(lr.nystrom(double, X, rank=6, rng=7)))
    assert named.transform(X).shape == (40, 6)
    h = lr.nystrom(lambda P, Q: double(P, Q), X, rank=6, rng=7)
    for g in (lr.load(h.save(tmp_path / "h")), pickle.loads(pickle.dumps(h))):
        np.testing.assert_array_equal(g.factor, h.factor)
        with pytest.raises(ValueError, match="the kernel was a Python function, which files do not keep"):
            g.transform(X)


@pytest.mark.parametrize("scale", [1.0, 1e280])
def test_refine_adds_landmarks_and_reads_only_what_is_new(rng, scale):
    X = gallery.clusters(400, 3, rng=rng)
    K = scale * lr.GaussianKernel(0.4)(X, X)
    f = lr.nystrom(K, rank=20, rng=7)
    g = f.refine(K, rank=50, rng=8)
    assert np.array_equal(g.landmarks[:20], f.landmarks)
    np.testing.assert_array_equal(g.factor[:, :20], f.factor)
    S = g.landmarks
    assert len(set(S.tolist())) == g.rank == 50
    expected = K[:, S] @ np.linalg.solve(K[np.ix_(S, S)] / scale, K[S] / scale)
    np.testing.assert_allclose(g.to_dense() / scale, expected / scale, atol=1e-9)
    assert g.trace_error == pytest.approx(1 - np.trace(expected / scale) / 400, rel=1e-9)
    assert g.trace_error < f.trace_error
    assert g.entries_read < 36 * 400
    same = f.refine(K, rank=20)
    assert same.trace_error == pytest.approx(f.trace_error, rel=1e-9)
    points = lr.nystrom(lr.GaussianKernel(0.4), X, rank=20, rng=7, shift=0.1)
    more = points.refine(lr.GaussianKernel(0.4), X, rank=30, rng=8)
    assert more.shift == 0.1
    assert more.transform(X).shape == (400, 30)


def test_refine_wants_the_same_matrix_and_a_larger_rank(rng):
    B = rng.standard_normal((30, 30))
    f = lr.nystrom(B @ B.T, rank=10, rng=7)
    with pytest.raises(ValueError, match="rank=5 is below the rank 10 that is there already; pass a larger one"):
        f.refine(B @ B.T, rank=5)
    with pytest.raises(ValueError, match=r"K has shape \(4, 4\), but the approximation has \(30, 30\)"):
        f.refine(np.eye(4), rank=12)
    with pytest.raises(ValueError, match=r"the factor has more at \(\d+, \d+\) than K has, so K is not the matrix"):
        f.refine(0.1 * B @ B.T, rank=12)
