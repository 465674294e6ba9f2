"""The scikit-learn faces: every check of scikit-learn's own, and what they promise beside."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse

import lowrank as lr
from lowrank import gallery
from tests.conftest import ROOT

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from lowrank import ColumnSelector, CURTransformer, InterpolativeDecomposition, NystromFeatures


def shifted(P, Q):
    """A kernel of the user: exp(-|p - q|), as a function on blocks."""
    return np.exp(-np.abs(P[:, None] - Q[None]).sum(axis=2))


@parametrize_with_checks(
    [
        ColumnSelector(),
        ColumnSelector(selection="qr"),
        CURTransformer(),
        InterpolativeDecomposition(),
        InterpolativeDecomposition(quality="best"),
        NystromFeatures(),
        NystromFeatures(kernel=shifted, selection="uniform"),
    ]
)
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("kind", [np.asarray, np.asfortranarray, scipy.sparse.csr_array, scipy.sparse.csc_array])
def test_selector_keeps_real_columns(rng, kind):
    X = gallery.polynomial_decay(80, 30, rng=rng)
    model = ColumnSelector(6, random_state=7).fit(kind(X))
    expected = lr.column_id(kind(X), rank=6, rng=7)
    assert model.indices_.tolist() == expected.indices.tolist()
    assert model.status_ is lr.Status.RANK_REACHED
    mask = model.get_support()
    assert np.flatnonzero(mask).tolist() == sorted(model.indices_)
    T = model.transform(kind(X))
    assert scipy.sparse.issparse(T) == scipy.sparse.issparse(kind(X))
    T = T.toarray() if scipy.sparse.issparse(T) else T
    assert np.array_equal(T, X[:, mask])
    assert model.get_feature_names_out().tolist() == [f"x{j}" for j in sorted(model.indices_)]
    low, high = model.certificate_.interval
    assert low / 2 < expected.relative_error(X) < 2 * high


@pytest.mark.parametrize("method", [name for name in lr.SELECTIONS if name != "given"])
def test_selector_works_with_every_selection(rng, method):
    X = gallery.exponential_decay(50, 20, scale=3.0, rng=rng)
    model = ColumnSelector(5, selection=method, random_state=7).fit(X)
    assert model.transform(X).shape == (50, 5)
    given = ColumnSelector(3, selection="given", indices=[4, 0, 9]).fit(X)
    assert given.get_support(indices=True).tolist() == [0, 4, 9]


def test_tolerance_and_default_number_of_columns(rng):
    X = gallery.exponential_decay(90, 40, scale=2.0, rng=rng)
    for make in (ColumnSelector, InterpolativeDecomposition, CURTransformer):
        model = make(tol=0.01, random_state=7).fit(X)
        assert 5 < len(model.indices_) < 20
        assert model.status_ in (lr.Status.TOLERANCE_MET, lr.Status.TOLERANCE_EXACT)
        assert len(make(random_state=7).fit(X).indices_) == 20
        with pytest.warns(UserWarning, match=r"n_components=50 exceeds min\(n_samples, n_features\)=40, so 40"):
            make(50, random_state=7).fit(X)
        with pytest.raises(TypeError, match="pass rank= or tol=, not both"):
            make(3, tol=0.1).fit(X)
        with pytest.raises(ValueError, match="selection='none' is not available"):
            make(3, selection="none").fit(X)


@pytest.mark.parametrize("make", [InterpolativeDecomposition, CURTransformer])
def test_inverse_transform_reconstructs(rng, make):
    X = gallery.exponential_decay(90, 40, scale=2.0, rng=rng)
    fresh = gallery.exact_rank(30, 40, 4, rng=rng)
    model = make(16, random_state=7).fit(X)
    T = model.transform(X)
    assert np.array_equal(T, X[:, model.indices_])
    assert model.components_.shape == (16, 40)
    error = np.linalg.norm(model.inverse_transform(T) - X) / np.linalg.norm(X)
    optimum = gallery.optimal_error(gallery.exponential_spectrum(40, 2.0), 16) / np.linalg.norm(X)
    assert optimum <= error <= 10 * optimum
    assert model.inverse_transform(model.transform(fresh)).shape == fresh.shape
    sparse = model.inverse_transform(scipy.sparse.csr_array(T))
    np.testing.assert_allclose(sparse, T @ model.components_)
    prefix = make.__name__.lower()
    assert model.get_feature_names_out()[-1] == f"{prefix}15"
    with pytest.raises(ValueError, match=r"X has shape \(90, 40\); expected \(n_samples, 16\)"):
        model.inverse_transform(X)


def test_components_of_a_cur_are_combinations_of_its_rows(rng):
    X = gallery.polynomial_decay(60, 40, rng=rng)
    model = CURTransformer(5, random_state=7).fit(X)
    together = np.vstack([X[model.rows_], model.components_])
    assert np.linalg.matrix_rank(together, tol=1e-10) == 5


def test_data_without_further_rank_keep_fewer_columns(rng):
    X = gallery.exact_rank(60, 40, 3, rng=rng)
    model = ColumnSelector(8, random_state=7).fit(X)
    assert len(model.indices_) == 3
    assert model.status_ is lr.Status.EXACT_RANK


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_features_give_the_kernel(dtype):
    X = gallery.smile(400, dtype=dtype)
    queries = X[::7] + dtype(0.01)
    model = NystromFeatures(120, bandwidth=4.0, random_state=7).fit(X)
    exact = lr.GaussianKernel(4.0)(queries, X)
    T, Q = model.transform(X), model.transform(queries)
    assert T.dtype == Q.dtype == dtype
    k = len(model.landmark_indices_)
    assert T.shape == (400, k)
    tolerance = 1e-6 if dtype is np.float64 else 2e-2
    np.testing.assert_allclose(Q @ T.T, exact, atol=tolerance)
    assert np.array_equal(model.landmarks_, X[model.landmark_indices_])
    found = lr.nystrom(lr.GaussianKernel(4.0), X, rank=120, rng=7)
    assert model.trace_error_ == found.trace_error
    np.testing.assert_allclose(T, found.factor, atol=tolerance)
    assert model.get_feature_names_out().tolist() == [f"nystromfeatures{j}" for j in range(k)]


def test_precomputed_kernels_give_the_same_features(rng):
    X, queries = rng.standard_normal((80, 2)), rng.standard_normal((9, 2))
    kernel = lr.GaussianKernel(1.5)
    one = NystromFeatures(20, kernel=kernel, random_state=7).fit(X)
    other = NystromFeatures(20, kernel="precomputed", random_state=7).fit(kernel(X, X))
    assert other.landmark_indices_.tolist() == one.landmark_indices_.tolist()
    assert other.landmarks_ is None
    np.testing.assert_allclose(other.transform(kernel(queries, X)), one.transform(queries), atol=1e-8)
    assert other.__sklearn_tags__().input_tags.pairwise
    with pytest.raises(ValueError, match=r"needs a square matrix in fit, but X has shape \(9, 80\)"):
        NystromFeatures(kernel="precomputed").fit(kernel(queries, X))
    with pytest.raises(ValueError, match="K is not positive semidefinite"):
        NystromFeatures(2, kernel="precomputed", random_state=7).fit(np.array([[1.0, 2.0], [2.0, 1.0]]))
    with pytest.raises(ValueError, match="knows no points; pass landmarks as indices"):
        NystromFeatures(kernel="precomputed", landmarks=X[:3]).fit(kernel(X, X))


def test_landmarks_of_the_user(rng):
    X = rng.standard_normal((80, 2))
    by_index = NystromFeatures(landmarks=[5, 9, 30], bandwidth=2.0).fit(X)
    assert by_index.landmark_indices_.tolist() == [5, 9, 30]
    by_point = NystromFeatures(landmarks=X[[5, 9, 30]], bandwidth=2.0).fit(X)
    np.testing.assert_allclose(by_point.transform(X), by_index.transform(X), atol=1e-12)
    kernel = lr.GaussianKernel(2.0)
    P, T = X[[5, 9, 30]], by_point.transform(X)
    np.testing.assert_allclose(T @ T.T, kernel(X, P) @ np.linalg.solve(kernel(P, P), kernel(P, X)), atol=1e-10)
    twice = NystromFeatures(landmarks=np.vstack([P, P]), bandwidth=2.0).fit(X)
    assert twice.transform(X).shape == (80, 3)
    with pytest.raises(ValueError, match="landmarks have dimension 3, but X has 2 features"):
        NystromFeatures(landmarks=np.ones((4, 3))).fit(X)
    with pytest.raises(ValueError, match="indices repeats an index"):
        NystromFeatures(landmarks=[1, 1]).fit(X)


def test_bandwidth_follows_the_scale_of_the_data(rng):
    X = rng.standard_normal((80, 2))
    one, other = (NystromFeatures(10, random_state=7).fit(s * X) for s in (1.0, 1e6))
    np.testing.assert_allclose(other.transform(1e6 * X), one.transform(X), atol=1e-6)
    assert one.kernel_.bandwidth == pytest.approx(X.var() ** 0.5)
    assert NystromFeatures(random_state=7).fit(np.ones((5, 2))).transform(np.ones((3, 2))).shape == (3, 1)
    with pytest.raises(
        ValueError, match="kernel='rbf'; pass 'gaussian', 'laplace', 'matern', 'precomputed' or a callable"
    ):
        NystromFeatures(kernel="rbf").fit(X)
    with pytest.warns(UserWarning, match="n_components=90 exceeds n_samples=80, so 80 landmarks"):
        NystromFeatures(90).fit(X)


@pytest.mark.parametrize("name, kernel", [("laplace", lr.LaplaceKernel), ("matern", lr.MaternKernel)])
def test_kernels_by_name(rng, name, kernel):
    X = rng.standard_normal((60, 2))
    T = NystromFeatures(60, kernel=name, bandwidth=2.0, random_state=7).fit_transform(X)
    np.testing.assert_allclose(T @ T.T, kernel(2.0)(X, X), atol=1e-8)


def test_in_a_pipeline_a_clone_and_a_pickle(rng):
    from sklearn.linear_model import Ridge

    X = rng.standard_normal((200, 3))
    y = np.sin(2 * X[:, 0]) + X[:, 1] * X[:, 2]
    pipeline = make_pipeline(NystromFeatures(80, bandwidth=1.5, random_state=7), Ridge(1e-3))
    assert clone(pipeline).fit(X, y).score(X, y) > 0.98
    again = pickle.loads(pickle.dumps(pipeline.fit(X, y)))
    np.testing.assert_array_equal(again.predict(X), pipeline.predict(X))
    state = [ColumnSelector(2, random_state=np.random.RandomState(5)).fit(X).indices_.tolist() for _ in range(2)]
    assert state[0] == state[1]


def test_scikit_learn_is_imported_with_the_estimators_alone():
    code = (
        "import sys, lowrank as lr; lr.column_id; assert 'sklearn' not in sys.modules; "
        "lr.ColumnSelector; assert 'sklearn' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    missing = (
        "import sys; sys.modules['sklearn.base'] = None; sys.modules['sklearn'] = None; import lowrank\n"
        "try:\n    lowrank.ColumnSelector\nexcept ImportError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", missing], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout == "the estimators need scikit-learn; run: pip install 'triskele[sklearn]'\n"
