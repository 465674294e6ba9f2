"""The scikit-learn face: a Fourier density of each feature, as an estimator."""

from typing import Any

import numpy as np

try:
    from sklearn.base import BaseEstimator, DensityMixin
    from sklearn.utils.validation import check_is_fitted, check_random_state, validate_data
except ImportError as problem:
    raise ImportError("the estimator needs scikit-learn; run: pip install 'triskele[sklearn]'") from problem

from ._checks import as_weights
from .cells import MINIMUM
from .fitting import fit
from .fourier import FourierDensity
from .histogram import HistogramSketch

__all__ = ["FourierDensityEstimator"]


class FourierDensityEstimator(DensityMixin, BaseEstimator):
    """A Fourier density as a scikit-learn estimator; of several features the product of their own densities.

    ``p(x) = prod_j p_j(x_j)``, each p_j a `FourierDensity` of feature j alone: more than one feature are taken as
    independent, and nothing here sees how they go together.

    Parameters
    ----------
    order, map, support, basis, roughness : as in `density.fit`, the same for every feature.
    workers : threads that count samples; None for all cores. No bit of the result depends on it.

    Attributes
    ----------
    densities_ : list of the `FourierDensity` of each feature.
    sketches_ : list of the `HistogramSketch` of each feature, to which `partial_fit` adds; None where real weights
        were given, which cannot be counted.
    n_features_in_, feature_names_in_ : as everywhere in scikit-learn.

    Raises
    ------
    ValueError : NaN or infinite data, fewer than five samples, a feature with one value only.

    Notes
    -----
    The definition is ``density.fit(sketch)``: `fit` of everything and `partial_fit` of its parts, in any order, give
    the same densities, bit for bit. Time is that of `density.fit` a feature; memory 16 bytes for each distinct value
    of each feature, up to 2 MiB a feature.

    Examples
    --------
    >>> import numpy as np, density as ds
    >>> X = np.random.default_rng(7).normal(5, 2, size=(3000, 1))
    >>> model = ds.FourierDensityEstimator(map="logistic").fit(X[:2000])
    >>> round(model.score(X[2000:]), 1)  # the entropy of this normal density is 2.11 nats
    -2.1
    >>> model.sample(4, random_state=7).shape
    (4, 1)
    """

    n_features_in_: int
    sketches_: Any

    def __init__(self, *, order="auto", map="auto", support=None, basis="cosine", roughness=0, workers=None):
        self.order = order
        self.map = map
        self.support = support
        self.basis = basis
        self.roughness = roughness
        self.workers = workers

    def fit(self, X, y=None, sample_weight=None):
        """Fit the density of each feature of X, (n_samples, n_features), at least five samples; `y` is ignored.

        `sample_weight` that are whole numbers count as repetitions; others as the weights of `density.fit`, where n is
        the effective number ``(sum w)^2 / sum w^2``.
        """
        columns = self._columns(X, reset=True, least=MINIMUM)
        w = None if sample_weight is None else as_weights(sample_weight, len(columns[0]))
        if w is None or _whole(w):
            counts = None if w is None else w.astype(np.int64)
            sketches = [HistogramSketch().update(x, counts, workers=self.workers) for x in columns]
            densities = [self._fitted(j, sketch, None) for j, sketch in enumerate(sketches)]
        else:
            sketches = None
            densities = [self._fitted(j, x, w) for j, x in enumerate(columns)]
        self.sketches_, self._densities = sketches, densities
        return self

    def partial_fit(self, X, y=None, sample_weight=None):
        """Count more samples; the densities are fitted when they are next asked for. `y` is ignored.

        `sample_weight` must be whole numbers >= 0, repetitions: real ones cannot be counted.
        """
        first = not hasattr(self, "sketches_")
        if not first and self.sketches_ is None:
            raise ValueError("fit was given real weights, to which partial_fit cannot add; call fit with everything")
        columns = self._columns(X, reset=first, least=1)
        counts = None
        if sample_weight is not None:
            w = as_weights(sample_weight, len(columns[0]))
            if not _whole(w):
                raise ValueError("partial_fit counts samples: sample_weight must be whole numbers; pass others to fit")
            counts = w.astype(np.int64)
        if first:
            self.sketches_ = [HistogramSketch() for _ in columns]
        for sketch, x in zip(self.sketches_, columns, strict=True):
            sketch.update(x, counts, workers=self.workers)
        self._densities = None
        return self

    @property
    def densities_(self) -> list[FourierDensity]:
        """The density of each feature, fitted now where `partial_fit` has counted since."""
        check_is_fitted(self, "sketches_")
        if self._densities is None:
            self._densities = [self._fitted(j, sketch, None) for j, sketch in enumerate(self.sketches_)]
        return self._densities

    def score_samples(self, X):
        """Log-density of each sample, in nats: the sum over the features, shape (n_samples,)."""
        check_is_fitted(self, "sketches_")
        columns = self._columns(X, reset=False, least=1)
        parts = [p.logpdf(x, workers=self.workers) for p, x in zip(self.densities_, columns, strict=True)]
        return np.sum(parts, axis=0)

    def score(self, X, y=None):
        """Mean log-density of the samples, in nats; `y` is ignored.

        A mean as of `sklearn.mixture.GaussianMixture`, not the sum of `sklearn.neighbors.KernelDensity`, so that folds
        of different length compare.
        """
        return float(np.mean(self.score_samples(X)))

    def sample(self, n_samples=1, random_state=None):
        """`n_samples` independent samples, (n_samples, n_features)."""
        check_is_fitted(self, "sketches_")
        if not isinstance(n_samples, (int, np.integer)) or n_samples < 1:
            raise ValueError(f"n_samples={n_samples!r} is not an integer >= 1")
        seed = check_random_state(random_state).randint(1 << 31, size=4)
        generators = np.random.default_rng(seed).spawn(self.n_features_in_)
        return np.column_stack([p.sample(n_samples, rng=g) for p, g in zip(self.densities_, generators, strict=True)])

    def _columns(self, X, *, reset: bool, least: int) -> Any:
        X = validate_data(self, X, dtype=(np.float64, np.float32), reset=reset, ensure_min_samples=least)
        return [np.ascontiguousarray(x, dtype=np.float64) for x in np.asarray(X).T]

    def _fitted(self, j: int, x, weights) -> FourierDensity:
        options = {"order": self.order, "map": self.map, "support": self.support, "basis": self.basis}
        try:
            return fit(x, weights, roughness=self.roughness, workers=self.workers, **options)
        except ValueError as error:
            if self.n_features_in_ == 1:
                raise
            raise ValueError(f"feature {j}: {error}") from error


def _whole(w) -> bool:
    return bool((w == np.round(w)).all() and w.sum() < 2**53)
