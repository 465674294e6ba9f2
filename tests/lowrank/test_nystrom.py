"""Nystrom: beside its definition, the one-by-one method's distribution, and matrices that are not what it needs."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lowrank as lr
from lowrank import gallery
from tests.reference import randomly_pivoted_cholesky


def gaussian(X, h):
    return np.exp(-((X[:, None, :] - X[None, :, :]) ** 2).sum(axis=2) / (2 * h * h))


def _psd(rng, n, dtype):
    Q = gallery.haar(n, n, rng, np.complex128 if np.dtype(dtype).kind == "c" else np.float64)
    K = (Q * np.arange(1.0, n + 1) ** -2) @ Q.conj().T
    return ((K + K.conj().T) / 2).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
def test_is_the_nystrom_approximation_of_its_landmarks(rng, dtype):
    K = _psd(rng, 80, dtype)
    f = lr.nystrom(K, rank=10, rng=7)
    S = f.landmarks
    expected = K[:, S] @ np.linalg.pinv(K[np.ix_(S, S)].astype(np.complex128), hermitian=True) @ K[S]
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(f.to_dense(), expected, atol=3e3 * eps)
    assert f.factor.dtype == dtype
    assert f.factor.shape == (80, 10)
    assert f.trace_error == pytest.approx(np.trace(K - f.to_dense()).real / np.trace(K).real, rel=1e-3)
    assert f.certificate.interval == (f.trace_error, f.trace_error)
    assert (np.sum(np.abs(f.factor) ** 2, axis=1) <= np.diagonal(K).real * (1 + 100 * eps)).all()


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_fused_callable_and_dense_agree(rng, workers):
    X = gallery.clusters(300, 3, rng=rng)
    made = [
        lr.nystrom(lr.GaussianKernel(0.3), X, rank=30, rng=7, workers=workers),
        lr.nystrom(lambda P, Q: lr.GaussianKernel(0.3)(P, Q), X, rank=30, rng=7, workers=workers),
        lr.nystrom(gaussian(X, 0.3), rank=30, rng=7, workers=workers),
        lr.nystrom(lr.KernelMatrix(lr.GaussianKernel(0.3), X), rank=30, rng=7, workers=workers),
    ]
    for other in made[1:]:
        assert np.array_equal(made[0].landmarks, other.landmarks)
        np.testing.assert_allclose(made[0].to_dense(), other.to_dense(), atol=1e-9)
    blocks = 64 * made[0].record.choices[0].count("rounds")
    assert 31 * 300 <= made[0].entries_read <= 31 * 300 + blocks * 12
    assert made[0].dtype == np.float64
    assert lr.nystrom(lr.GaussianKernel(0.3), X.astype("f4"), rank=9, rng=7).dtype == np.float32


def test_points_far_from_the_origin_relative_to_the_bandwidth(rng):
    X = np.concatenate([rng.standard_normal((40, 2)), 1e9 + rng.standard_normal((40, 2))])
    f = lr.nystrom(lr.GaussianKernel(1.0), X, rank=60, rng=7)
    assert np.abs(f.to_dense() - gaussian(X, 1.0)).max() < 0.1


def test_first_landmarks_follow_the_one_by_one_distribution():
    """The pair (first, second) of landmarks over 6000 runs beside exact probabilities.

    Blocks of two proposals (rank 8) with rejection must give P(i, j) = d_i / tr d * r_j / tr r exactly. A chi-square
    over 20 pairs exceeds its 1 - 10^-6 quantile once in a million.
    """
    from scipy.stats import chi2

    rng = np.random.default_rng(20241003)
    B = rng.standard_normal((5, 3)) * np.array([[2.0], [1.0], [1.0], [0.5], [0.3]])
    K = B @ B.T + 0.05 * np.eye(5)
    expected = np.zeros((5, 5))
    d = np.diagonal(K)
    for i in range(5):
        r = d - K[:, i] ** 2 / K[i, i]
        r[i] = 0
        expected[i] = d[i] / d.sum() * r / r.sum()
    count = np.zeros((5, 5))
    runs = 6000
    for seed in range(runs):
        f = lr.nystrom(K, rank=5, rng=seed + 100, workers=1)
        count[f.landmarks[0], f.landmarks[1]] += 1
    off = ~np.eye(5, dtype=bool)
    statistic = ((count - runs * expected)[off] ** 2 / (runs * expected[off])).sum()
    assert count[~off].sum() == 0
    assert statistic < chi2.ppf(1 - 1e-6, 19)


def test_as_good_as_the_plain_method(rng):
    X = gallery.clusters(400, 4, rng=rng)
    K = gaussian(X, 0.5)
    plain = np.mean([randomly_pivoted_cholesky(K, 40, np.random.default_rng(s))[2] for s in range(60, 80)])
    ours = np.mean([lr.nystrom(K, rank=40, rng=s).trace_error for s in range(60, 80)])
    assert 0.8 < ours / plain < 1.25


def test_beats_uniform_on_clusters(rng):
    X = gallery.clusters(2000, 5, count=60, spread=0.01, rng=rng)
    ours, uniform = (
        lr.nystrom(lr.GaussianKernel(0.1), X, rank=80, rng=7, selection=name).trace_error
        for name in ("rpcholesky", "uniform")
    )
    assert ours < 0.7 * uniform


def test_given_landmarks(rng):
    K = _psd(rng, 30, np.float64)
    f = lr.nystrom(K, rank=4, selection="given", indices=[5, -1, 2, 9])
    assert f.landmarks.tolist() == [5, 29, 2, 9]
    K[:, 9] = K[:, 5]
    K[9] = K[5]
    f = lr.nystrom(K, rank=3, selection="given", indices=[5, 9, 2])
    assert f.landmarks.tolist() in ([5, 2], [9, 2])
    assert f.status is lr.Status.DEPENDENT


def test_exact_rank_and_duplicated_points(rng):
    X = np.repeat(rng.standard_normal((6, 2)), 20, axis=0)
    f = lr.nystrom(lr.GaussianKernel(1.0), X, rank=50, rng=7)
    assert f.status is lr.Status.EXACT_RANK
    assert f.rank == 6
    assert f.trace_error < 1e-12


def test_shift_solve_logdet_and_eigh(rng):
    K = _psd(rng, 60, np.complex128)
    f = lr.nystrom(K, rank=12, rng=7)
    M = f.to_dense() + 0.1 * np.eye(60)
    B = rng.standard_normal((60, 3))
    np.testing.assert_allclose(M @ f.solve(B, 0.1), B, atol=1e-12)
    np.testing.assert_allclose(M @ f.solve(B[:, 0], 0.1), B[:, 0], atol=1e-12)
    assert f.logdet(0.1) == pytest.approx(np.linalg.slogdet(M)[1])
    values, vectors = f.eigh()
    np.testing.assert_allclose((vectors * values) @ vectors.conj().T, f.to_dense(), atol=1e-13)
    assert (np.diff(values) <= 0).all()
    for call in (lambda: f.solve(B, 0.0), lambda: f.logdet(-1.0), lambda: f.solve(B, np.nan)):
        with pytest.raises(ValueError, match="is singular, so pass a positive finite shift"):
            call()


@pytest.mark.parametrize("n, k", [(0, 0), (5, 0), (1, 1), (4, 4)])
def test_small(n, k, strict_floats):
    f = lr.nystrom(np.eye(n), rank=k, rng=7)
    assert f.rank == k
    assert f.trace_error == pytest.approx(1 - k / n if n else 0)
    assert lr.nystrom(np.zeros((3, 3)), rank=2, rng=7).status is lr.Status.ZERO


@given(scale=st.integers(-200, 200), seed=st.integers(2, 2**32))
def test_scale_equivariance(scale, seed):
    B = np.random.default_rng(seed).standard_normal((12, 5))
    K = B @ B.T
    f, g = (lr.nystrom(M, rank=4, rng=7) for M in (K, np.ldexp(K, 2 * scale)))
    assert np.array_equal(f.landmarks, g.landmarks)
    np.testing.assert_array_equal(np.ldexp(f.factor, scale), g.factor)


def not_psd(rng):
    K = _psd(rng, 20, np.float64)
    K[3, 7] = K[7, 3] = 40.0
    return K


def not_hermitian(rng):
    return _psd(rng, 20, np.float64) + np.triu(np.ones((20, 20)), 1)


def triangular(rng):
    return np.triu(np.ones((6, 6)))


def negative_diagonal(rng):
    return np.diag([1.0, -0.5, 2.0])


def with_nan(rng):
    K = _psd(rng, 20, np.float64)
    K[0, 1:] = K[1:, 0] = np.nan
    return K


@pytest.mark.parametrize(
    "make, message",
    [
        (not_psd, r"K is not positive semidefinite: the residual at \(\d+, \d+\) fell to -.*; pass shift=\"auto\""),
        (not_hermitian, r"K is not Hermitian: K\[\d+, \d+\] = .* but K\[\d+, \d+\] = .*; symmetrise it, or use cur"),
        (triangular, r"K is not Hermitian: K\[\d, \d\] = [01] but K\[\d, \d\] = [01]; symmetrise it, or use cur"),
        (negative_diagonal, r"K\[1, 1\] is -0.5, so K is not positive semidefinite"),
        (with_nan, "not finite|NaN or inf"),
        (lambda rng: np.diag([1.0, np.nan]), r"K\[1, 1\] is nan; lowrank needs finite entries"),
        (lambda rng: np.diag([1 + 1j, 2]), r"K is not Hermitian: K\[0, 0\] = 1\+1j is not real; use cur"),
        (lambda rng: np.ones((3, 4)), r"K has shape \(3, 4\); a Nystrom approximation needs a square matrix"),
    ],
)
def test_matrices_that_are_not_what_it_needs(rng, make, message):
    K = make(rng)
    with pytest.raises(ValueError, match=message):
        lr.nystrom(K, rank=min(K.shape[0], 18) if make is not with_nan else 20, rng=7)


def test_bad_arguments(rng):
    X = rng.standard_normal((8, 2))
    with pytest.raises(TypeError, match=r"a kernel needs points: pass nystrom\(kernel, X, rank=...\)"):
        lr.nystrom(lr.GaussianKernel(1.0), rank=2)
    with pytest.raises(TypeError, match="X goes with a kernel"):
        lr.nystrom(np.eye(8), X, rank=2)
    with pytest.raises(ValueError, match="selection='best' is not available; pass one of 'rpcholesky', 'uniform'"):
        lr.nystrom(np.eye(8), rank=2, selection="best")
    with pytest.raises(ValueError, match="rank=9 exceeds"):
        lr.nystrom(lr.GaussianKernel(1.0), X, rank=9)
    with pytest.raises(TypeError, match=r"pass rank=, an integer from 0 to min\(A.shape\)=8, or tol="):
        lr.nystrom(np.eye(8))
    with pytest.raises(TypeError, match="pass rank= or tol=, not both"):
        lr.nystrom(np.eye(8), rank=2, tol=0.1)
    with pytest.raises(ValueError, match="tol=-1 is not a positive finite number"):
        lr.nystrom(np.eye(8), tol=-1)
    for name in ("kmeans", "leverage"):
        with pytest.raises(ValueError, match=f"selection='{name}' chooses all landmarks at once"):
            lr.nystrom(np.eye(8), tol=0.1, selection=name)
    with pytest.raises(ValueError, match="norm='nuclear' is not available; pass one of 'trace', 'fro', 'spectral'"):
        lr.nystrom(np.eye(8), rank=2, norm="nuclear")


@pytest.mark.parametrize("tol, message", [
    (0, "tol=0 is not a positive finite number; pass a relative error such as tol=1e-3"),
    (-0.5, "tol=-0.5 is not a positive finite number"),
    (np.nan, "tol=nan is not a positive finite number"),
    (np.inf, "tol=inf is not a positive finite number"),
    ("1e-3", "tol='1e-3' is not a real number; pass a relative error such as tol=1e-3"),
    (True, "tol=True is not a real number"),
])  # fmt: skip
def test_tolerances_that_are_none(tol, message):
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        lr.nystrom(np.eye(8), tol=tol)
    with pytest.raises(TypeError, match="pass rank= or tol=, not both"):
        lr.nystrom(np.eye(8), rank=2, tol=tol)


def test_the_loosest_and_the_tightest_tolerance(rng):
    K = _psd(rng, 20, np.float64) + np.eye(20)
    for tol in (1, 1.5):  # zero is as good as that
        f = lr.nystrom(K, tol=tol, rng=7)
        assert (f.rank, f.trace_error, f.status) == (0, 1.0, lr.Status.TOLERANCE_EXACT)
    f = lr.nystrom(K, tol=1e-300, rng=7)
    assert f.rank == 20
    assert f.trace_error <= 1e-14
    with pytest.raises(ValueError, match='selection="given" names the columns itself, so pass rank= with it'):
        lr.nystrom(K, tol=0.1, selection="given", indices=[1])


def test_a_data_frame_holds_points_and_as_a_matrix_is_refused(rng):
    pandas = pytest.importorskip("pandas")
    X = rng.standard_normal((30, 3))
    frame = pandas.DataFrame(X)
    f, g = (lr.nystrom(lr.GaussianKernel(1.0), P, rank=5, rng=7) for P in (X, frame))
    np.testing.assert_array_equal(f.factor, g.factor)
    with pytest.raises(TypeError, match="X has dtype object; expected float32 or float64 points"):
        lr.nystrom(lr.GaussianKernel(1.0), frame.assign(name="x"), rank=5)
    for make in (lr.nystrom, lr.column_id, lr.cur):
        with pytest.raises(TypeError, match=r"A is a pandas.DataFrame, which lowrank does not read.*numpy array"):
            make(pandas.DataFrame(X @ X.T), rank=2)
    with pytest.raises(TypeError, match=r"X is a pandas.DataFrame; cr reads numpy arrays, so convert it first"):
        lr.cr(frame, frame.T, 2)
