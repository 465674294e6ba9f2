"""The scikit-learn face: every check of scikit-learn's own, and what it promises beside."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

import density as ds
from density import gallery
from tests.conftest import ROOT

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from density import FourierDensityEstimator


@parametrize_with_checks([FourierDensityEstimator(), FourierDensityEstimator(order=2, map="logistic")])
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


def test_one_feature_is_the_density_itself(rng):
    x = gallery.claw().sample(4000, rng=7)
    model = FourierDensityEstimator().fit(x[:, None])
    p = ds.fit(x)
    assert model.densities_ == [p]
    new = rng.normal(size=(50, 1))
    assert np.array_equal(model.score_samples(new), p.logpdf(new[:, 0]))
    assert model.score(new) == pytest.approx(p.logpdf(new).mean(), rel=1e-14)


def test_several_features_are_the_product_of_their_densities(rng):
    X = np.column_stack([rng.normal(size=900), rng.exponential(size=900), rng.integers(0, 9, 900)])
    model = FourierDensityEstimator(map="logistic", order=3).fit(X)
    own = [ds.fit(x, map="logistic", order=3) for x in X.T]
    assert model.densities_ == own
    assert np.allclose(model.score_samples(X), sum(p.logpdf(x) for p, x in zip(own, X.T, strict=True)), rtol=1e-14)
    assert model.n_features_in_ == 3


def test_parts_in_any_order_give_the_fit_of_the_whole_bit_for_bit(rng):
    X = np.column_stack([rng.standard_t(3, 200_000), rng.normal(size=200_000).astype(np.float32)])
    whole = FourierDensityEstimator(order=8, map="logistic").fit(X)
    assert not whole.sketches_[0].exact
    parts = FourierDensityEstimator(order=8, map="logistic", workers=1)
    for chunk in np.split(X[rng.permutation(len(X))], [3, 1000, 150_000]):
        parts.partial_fit(chunk)
    assert parts.sketches_ == whole.sketches_
    assert parts.densities_ == whole.densities_
    begun = FourierDensityEstimator(order=8, map="logistic").fit(X[:1000]).partial_fit(X[1000:])
    assert begun.densities_ == whole.densities_


def test_whole_weights_are_repetitions_and_real_ones_those_of_fit(rng):
    x, w = rng.normal(size=300), rng.integers(0, 4, 300)
    model = FourierDensityEstimator(order=3, map="logistic")
    repeated = clone(model).fit(np.repeat(x, w)[:, None]).densities_
    assert clone(model).fit(x[:, None], sample_weight=w).densities_ == repeated
    assert clone(model).partial_fit(x[:, None], sample_weight=w.astype(float)).densities_ == repeated
    real = clone(model).fit(x[:, None], sample_weight=w / 7)
    assert real.densities_ == [ds.fit(x, w / 7, order=3, map="logistic")]
    assert real.sketches_ is None
    with pytest.raises(ValueError, match="fit was given real weights, to which partial_fit cannot add"):
        real.partial_fit(x[:, None])
    with pytest.raises(ValueError, match="sample_weight must be whole numbers; pass others to fit"):
        clone(model).partial_fit(x[:, None], sample_weight=w / 7)
    with pytest.raises(ValueError, match="weights has 3 values for 300 samples"):
        clone(model).fit(x[:, None], sample_weight=w[:3])


def test_samples_come_from_the_density_and_from_the_seed(rng):
    X = np.column_stack([rng.normal(3, 1, 2000), rng.normal(-3, 2, 2000)])
    model = FourierDensityEstimator(order=2, map="normal").fit(X)
    S = model.sample(4000, random_state=7)
    assert S.shape == (4000, 2)
    assert np.array_equal(S, model.sample(4000, random_state=7))
    assert not np.array_equal(S, model.sample(4000, random_state=8))
    assert np.abs(np.corrcoef(S.T)[0, 1]) < 0.08  # five standard errors
    for s, p in zip(S.T, model.densities_, strict=True):
        distance = np.abs(p.cdf(np.sort(s)) - (np.arange(4000) + 0.5) / 4000).max()
        assert distance < 2.6 / np.sqrt(4000)  # Kolmogorov: exceeded once in 370,000
    with pytest.raises(ValueError, match="n_samples=0 is not an integer >= 1"):
        model.sample(0)


def test_a_search_a_pipeline_a_pickle_and_a_frame(rng):
    x = gallery.gmm10().sample(1500, rng=7)[:, None]
    search = GridSearchCV(FourierDensityEstimator(map="affine"), {"order": [0, 20]}, cv=3).fit(x)
    assert search.best_params_ == {"order": 20}
    pipeline = make_pipeline(StandardScaler(), FourierDensityEstimator(order=5, map="affine")).fit(x)
    again = pickle.loads(pickle.dumps(pipeline))
    assert np.array_equal(again.score_samples(x), pipeline.score_samples(x))
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(x, columns=["height"])
    assert FourierDensityEstimator(order=2, map="normal").fit(frame).feature_names_in_.tolist() == ["height"]


def test_what_cannot_be_fitted_says_so(rng):
    X = np.column_stack([rng.normal(size=20), np.full(20, 3.0)])
    with pytest.raises(ValueError, match="feature 1: all 20 samples equal 3: a density does not exist"):
        FourierDensityEstimator().fit(X)
    with pytest.raises(ValueError, match=r"Found array with 4 sample\(s\) .* while a minimum of 5 is required"):
        FourierDensityEstimator().fit(X[:4])
    few = FourierDensityEstimator().partial_fit(X[:3, :1])
    with pytest.raises(ValueError, match="3 samples are too few; a density needs at least 5"):
        few.score_samples(X[:, :1])
    assert len(few.partial_fit(X[3:, :1]).densities_) == 1
    with pytest.raises(ValueError, match="order='many' is not known"):
        FourierDensityEstimator(order="many").fit(X[:, :1])
    with pytest.raises(AttributeError, match="not fitted yet"):
        _ = FourierDensityEstimator().densities_


def test_scikit_learn_is_imported_with_the_estimator_alone():
    code = (
        "import sys, density as ds; ds.fit; assert 'sklearn' not in sys.modules; "
        "ds.FourierDensityEstimator; assert 'sklearn' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    missing = (
        "import sys; sys.modules['sklearn.base'] = None; sys.modules['sklearn'] = None; import density\n"
        "try:\n    density.FourierDensityEstimator\nexcept ImportError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", missing], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout == "the estimator needs scikit-learn; run: pip install 'triskele[sklearn]'\n"
