"""scikit-learn faces: features that are real columns, coefficients and rows of the data, and a Nystrom feature map."""

import warnings
from typing import Any

import numpy as np
from scipy.linalg import solve_triangular

try:
    from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
    from sklearn.feature_selection import SelectorMixin
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as problem:
    raise ImportError("the estimators need scikit-learn; run: pip install 'triskele[sklearn]'") from problem

__all__ = ["CURTransformer", "ColumnSelector", "InterpolativeDecomposition", "NystromFeatures"]

FLOATS = (np.float64, np.float32)


class _Columns:
    """What the three estimators that keep columns share: validation, and how many columns to keep."""

    n_features_in_: int

    def _validated(self, X, *, reset: bool) -> Any:
        return validate_data(self, X, accept_sparse=("csr", "csc"), dtype=FLOATS, reset=reset)

    def _wanted(self, shape: tuple[int, int]) -> dict:
        """`rank` or `tol`; half of the columns that the data can need where neither is given."""
        rank, tol = self.n_components, self.tol  # pyright: ignore[reportAttributeAccessIssue]
        if tol is not None:
            return {"rank": rank, "tol": tol}
        limit = min(shape)
        if rank is None:
            return {"rank": -(-limit // 2)}
        if isinstance(rank, (int, np.integer)) and rank > limit:
            warnings.warn(
                f"n_components={rank} exceeds min(n_samples, n_features)={limit}, so {limit} columns are kept",
                stacklevel=3,
            )
            return {"rank": limit}
        return {"rank": rank}

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()  # pyright: ignore[reportAttributeAccessIssue]
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


class ColumnSelector(_Columns, SelectorMixin, BaseEstimator):
    """Keep the features that explain all others best; unsupervised.

    Parameters
    ----------
    n_components : features to keep; None for half of min(n_samples, n_features), unless `tol` is given.
    tol : relative Frobenius error ``||X - X[:, J] Z|| / ||X||`` to reach, in place of `n_components`.
    selection : a name in `lowrank.SELECTIONS`; "given" with `indices`.
    indices : the features themselves, for ``selection="given"``.
    random_state : int, RandomState or None.

    Attributes
    ----------
    indices_ : (k,) kept features in order of choice, the most telling first; fewer than asked for where X has no
        further rank. ``get_support()`` and the columns of ``transform`` are in the order of X.
    certificate_, status_ : the error of all features from the kept ones, and how the selection ended.

    Examples
    --------
    >>> import numpy as np, lowrank as lr
    >>> X = np.random.default_rng(7).standard_normal((100, 2)) @ [[1, 0, 2, 0, 0], [0, 3, 0, 1, 0]]
    >>> lr.ColumnSelector(n_components=2, random_state=7).fit(X).get_support(indices=True)
    array([1, 2])
    """

    def __init__(self, n_components=None, *, tol=None, selection="auto", indices=None, random_state=None):
        self.n_components = n_components
        self.tol = tol
        self.selection = selection
        self.indices = indices
        self.random_state = random_state

    def fit(self, X, y=None):
        """Choose the features of X, an (n_samples, n_features) array or sparse matrix; `y` is ignored."""
        from .interpolative import column_id

        X = self._validated(X, reset=True)
        found = column_id(
            X, selection=self.selection, indices=self.indices, rng=_seed(self.random_state), **self._wanted(X.shape)
        )
        self.indices_, self.certificate_, self.status_ = found.indices, found.certificate, found.status
        return self

    def _get_support_mask(self):
        check_is_fitted(self)
        mask = np.zeros(self.n_features_in_, dtype=bool)
        mask[self.indices_] = True
        return mask


class _Factored(_Columns, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """X ~ X[:, indices_] components_: a transform that reads columns, and an inverse that is one product."""

    indices_: np.ndarray
    components_: np.ndarray

    def transform(self, X):
        """The kept columns of X, in order of choice; sparse where X is."""
        check_is_fitted(self)
        return self._validated(X, reset=False)[:, self.indices_]

    def inverse_transform(self, X):
        """All features from the kept ones: ``X @ components_``."""
        check_is_fitted(self)
        if not hasattr(X, "tocsr"):
            X = np.asarray(X)
        if X.ndim != 2 or X.shape[1] != len(self.indices_):
            raise ValueError(f"X has shape {X.shape}; expected (n_samples, {len(self.indices_)}), as from transform")
        return X @ self.components_

    @property
    def _n_features_out(self) -> int:
        return len(self.indices_)


class InterpolativeDecomposition(_Factored):
    """Real columns of the data, and the coefficients that give all columns by them: ``X ~ X[:, indices_] components_``.

    Parameters
    ----------
    n_components : columns to keep; None for half of min(n_samples, n_features), unless `tol` is given.
    tol : relative Frobenius error to reach, in place of `n_components`.
    selection, quality : as in `lowrank.column_id`.
    random_state : int, RandomState or None.

    Attributes
    ----------
    indices_ : (k,) kept columns in order of choice;  components_ : (k, n_features), an identity at `indices_`;
    certificate_, status_ : as of `lowrank.column_id`.

    Examples
    --------
    >>> import numpy as np, lowrank as lr
    >>> X = np.random.default_rng(7).standard_normal((100, 2)) @ [[1, 0, 2, 0, 1], [0, 3, 0, 1, 1]]
    >>> model = lr.InterpolativeDecomposition(n_components=2, random_state=7)
    >>> T = model.fit_transform(X)
    >>> T.shape, bool(np.allclose(model.inverse_transform(T), X))
    ((100, 2), True)
    """

    def __init__(self, n_components=None, *, tol=None, selection="auto", quality="fast", random_state=None):
        self.n_components = n_components
        self.tol = tol
        self.selection = selection
        self.quality = quality
        self.random_state = random_state

    def fit(self, X, y=None):
        """Choose columns of X, an (n_samples, n_features) array or sparse matrix; `y` is ignored."""
        from .interpolative import column_id

        X = self._validated(X, reset=True)
        found = column_id(
            X, selection=self.selection, quality=self.quality, rng=_seed(self.random_state), **self._wanted(X.shape)
        )
        self.indices_, self.components_ = found.indices, found.coefficients
        self.certificate_, self.status_ = found.certificate, found.status
        return self


class CURTransformer(_Factored):
    """Real columns and real rows of the data: ``X ~ X[:, indices_] components_``, components_ = U X[rows_].

    Unlike those of `InterpolativeDecomposition`, the components are combinations of the samples `rows_`.

    Parameters
    ----------
    n_components : columns and rows to keep; None for half of min(n_samples, n_features), unless `tol` is given.
    tol : relative Frobenius error to reach, in place of `n_components`.
    selection, core : as in `lowrank.cur`.
    random_state : int, RandomState or None.

    Attributes
    ----------
    indices_ : (k,) kept columns;  rows_ : kept samples of the fit;  components_ : (k, n_features);
    certificate_, status_ : as of `lowrank.cur`.

    Examples
    --------
    >>> import numpy as np, lowrank as lr
    >>> X = np.random.default_rng(7).standard_normal((100, 2)) @ [[1, 0, 2, 0, 1], [0, 3, 0, 1, 1]]
    >>> model = lr.CURTransformer(n_components=2, random_state=7).fit(X)
    >>> len(model.rows_), bool(np.allclose(model.inverse_transform(model.transform(X)), X))
    (2, True)
    """

    def __init__(self, n_components=None, *, tol=None, selection="auto", core="auto", random_state=None):
        self.n_components = n_components
        self.tol = tol
        self.selection = selection
        self.core = core
        self.random_state = random_state

    def fit(self, X, y=None):
        """Choose columns and rows of X, an (n_samples, n_features) array or sparse matrix; `y` is ignored."""
        from .cur import cur

        X = self._validated(X, reset=True)
        found = cur(X, selection=self.selection, core=self.core, rng=_seed(self.random_state), **self._wanted(X.shape))
        self.indices_, self.rows_, self.components_ = found.columns, found.rows, found.factors()[1]
        self.certificate_, self.status_ = found.certificate, found.status
        return self


class NystromFeatures(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    r"""Features whose inner products are a kernel: ``transform(X) @ transform(Y).T ~ kernel(X, Y)``.

    .. math:: \phi(x) = L^{-1} k(P, x), \qquad k(P, P) = L L^T

    with landmarks P chosen by randomly pivoted Cholesky, or the user's own.

    Parameters
    ----------
    n_components : landmarks, and features; None for 100, or n_samples where these are fewer.
    kernel : "gaussian", "laplace" or "matern" (3/2); a callable ``kernel(P, Q)`` on blocks of points, as
        `lowrank.GaussianKernel`; or "precomputed", where X is the (n_samples, n_samples) kernel matrix in fit and
        (n_queries, n_samples) in transform.
    bandwidth : of a kernel by name; None for ``sqrt(n_features * X.var() / 2)``, for "gaussian" what scikit-learn calls
        gamma="scale".
    landmarks : None to choose; or (k,) indices into the samples of fit, or (k, n_features) points.
    selection : as in `lowrank.nystrom`, where `landmarks` is None.
    random_state : int, RandomState or None.

    Attributes
    ----------
    landmark_indices_ : (k,) samples of the fit, None where points were given;  landmarks_ : (k, n_features) points,
    None for "precomputed";  normalization_ : L, (k, k) lower triangular;  kernel_ : the callable, or "precomputed";
    trace_error_ : of the kernel matrix of the fit, None where points were given.

    References
    ----------
    Williams and Seeger (2001), Using the Nystrom method to speed up kernel machines; Chen, Epperly, Tropp and Webber
    (2025), Randomly pivoted Cholesky, doi 10.1002/cpa.22234.

    Examples
    --------
    >>> import numpy as np, lowrank as lr
    >>> X = lr.gallery.smile(500)
    >>> model = lr.NystromFeatures(80, bandwidth=4.0, random_state=7)
    >>> T = model.fit_transform(X)
    >>> T.shape, bool(np.abs(T @ T.T - lr.GaussianKernel(4.0)(X, X)).max() < 1e-6)
    ((500, 80), True)
    """

    def __init__(
        self, n_components=None, *, kernel="gaussian", bandwidth=None, landmarks=None, selection="rpcholesky",
        random_state=None,
    ):  # fmt: skip
        self.n_components = n_components
        self.kernel = kernel
        self.bandwidth = bandwidth
        self.landmarks = landmarks
        self.selection = selection
        self.random_state = random_state

    def fit(self, X, y=None):
        """Choose landmarks in X, an (n_samples, n_features) array, or its kernel matrix; `y` is ignored."""
        from .nystrom import nystrom

        X = self._validated(X, reset=True)
        precomputed = isinstance(self.kernel, str) and self.kernel == "precomputed"
        if precomputed and X.shape[0] != X.shape[1]:
            raise ValueError(f"kernel='precomputed' needs a square matrix in fit, but X has shape {X.shape}")
        self.kernel_ = kernel = "precomputed" if precomputed else self._kernel(X)
        given = None if self.landmarks is None else np.asarray(self.landmarks)
        if given is not None and given.ndim == 2:
            self._fit_points(given, X, precomputed)
            return self
        if given is None:
            options = {"rank": self._rank(len(X)), "selection": self.selection}
        else:
            options = {"rank": len(np.atleast_1d(given)), "selection": "given", "indices": given}
        rng = _seed(self.random_state)
        found = nystrom(X, rng=rng, **options) if precomputed else nystrom(kernel, X, rng=rng, **options)
        self.landmark_indices_, self.trace_error_ = found.landmarks, found.trace_error
        self.landmarks_ = None if precomputed else X[found.landmarks]
        self.normalization_ = np.tril(found.factor[found.landmarks])
        return self

    def _validated(self, X, *, reset: bool) -> Any:
        return validate_data(self, X, dtype=FLOATS, reset=reset)

    def _fit_points(self, points: np.ndarray, X: np.ndarray, precomputed: bool) -> None:
        """Landmarks that need not be samples; those that depend on the others to rounding are left out."""
        from .nystrom import nystrom

        if precomputed:
            raise ValueError("kernel='precomputed' knows no points; pass landmarks as indices into the samples")
        if points.shape[1] != X.shape[1]:
            raise ValueError(f"landmarks have dimension {points.shape[1]}, but X has {X.shape[1]} features")
        points = points.astype(X.dtype)
        every = np.arange(len(points))
        found = nystrom(self.kernel_, points, rank=len(points), selection="given", indices=every)
        self.landmark_indices_, self.trace_error_ = None, None
        self.landmarks_ = points[found.landmarks]
        self.normalization_ = np.tril(found.factor[found.landmarks])

    def _kernel(self, X: np.ndarray):
        from .operands import GaussianKernel, LaplaceKernel, MaternKernel

        if callable(self.kernel):
            return self.kernel
        known = {"gaussian": GaussianKernel, "laplace": LaplaceKernel, "matern": MaternKernel}
        if self.kernel not in known:
            names = ", ".join(map(repr, known))
            raise ValueError(f"kernel={self.kernel!r}; pass {names}, 'precomputed' or a callable kernel(P, Q)")
        scale = float(np.sqrt(X.shape[1] * X.var(dtype=np.float64) / 2))
        return known[self.kernel](self.bandwidth if self.bandwidth is not None else scale or 1.0)

    def _rank(self, n: int):
        if self.n_components is None:
            return min(100, n)
        if isinstance(self.n_components, (int, np.integer)) and self.n_components > n:
            warnings.warn(
                f"n_components={self.n_components} exceeds n_samples={n}, so {n} landmarks are used", stacklevel=3
            )
            return n
        return self.n_components

    def transform(self, X):
        """The features of X, (n_queries, k); for "precomputed", X is the kernel of queries with the fit's samples."""
        check_is_fitted(self)
        X = self._validated(X, reset=False)
        if isinstance(self.kernel_, str):
            block = X[:, self.landmark_indices_]
        else:
            from .operands import KernelMatrix

            operand = KernelMatrix(self.kernel_, X, self.landmarks_)
            block = operand.columns(np.arange(operand.shape[1]))
        dtype = np.result_type(block, self.normalization_)
        if not len(self.normalization_):
            return np.empty((len(X), 0), dtype=dtype)
        return np.ascontiguousarray(solve_triangular(self.normalization_, block.T, lower=True, check_finite=False).T)

    @property
    def _n_features_out(self) -> int:
        return len(self.normalization_)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.pairwise = isinstance(self.kernel, str) and self.kernel == "precomputed"
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _seed(random_state):
    """scikit-learn's `random_state` as a numpy Generator: an integer gives the same answer at every fit."""
    if isinstance(random_state, np.random.RandomState):
        return np.random.default_rng(random_state.randint(1 << 31))
    return np.random.default_rng(random_state)
