"""Rules for landmarks: each beside its definition, on every kind of matrix, at every rank."""

import math

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse.linalg import aslinearoperator

import lowrank as lr
from lowrank import gallery
from lowrank.landmarks import LANDMARKS
from lowrank.landmarks.leverage import ridge_scores
from lowrank.operands import as_operand

RULES = [name for name in LANDMARKS if name != "given"]
NESTED = [name for name, rule in LANDMARKS.items() if rule.nested]


def kernel_matrix(rng, n=120, dim=2, h=0.4):
    X = rng.standard_normal((n, dim))
    return X, lr.GaussianKernel(h)(X, X)


@pytest.mark.parametrize("name", RULES)
def test_every_rule_says_what_it_promises(name):
    rule = LANDMARKS[name]
    assert rule.name == name
    assert rule.guarantee.endswith(".")
    assert rule.reference.endswith(".")


@pytest.mark.parametrize("name", RULES)
def test_every_rule_on_every_kind_of_matrix(rng, name):
    """The same matrix in five forms; the ones without points agree, and all are Nystrom approximations."""
    X, K = kernel_matrix(rng)
    forms = {
        "dense": K,
        "fortran": np.asfortranarray(K),
        "csr": scipy.sparse.csr_array(K),
        "csc": scipy.sparse.csc_array(K),
        "operator": aslinearoperator(K),
    }
    made = {form: lr.nystrom(A, rank=15, selection=name, rng=7) for form, A in forms.items()}
    for form, f in made.items():
        assert np.array_equal(f.landmarks, made["dense"].landmarks), form
        np.testing.assert_allclose(f.factor, made["dense"].factor, atol=1e-9)
    made["points"] = lr.nystrom(lr.GaussianKernel(0.4), X, rank=15, selection=name, rng=7)
    for f in made.values():
        S = f.landmarks
        assert len(np.unique(S)) == f.rank == 15
        expected = K[:, S] @ np.linalg.solve(K[np.ix_(S, S)], K[S])
        np.testing.assert_allclose(f.to_dense(), expected, atol=1e-9)
        assert f.trace_error == pytest.approx(1 - np.trace(expected) / 120, rel=1e-9)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("workers", [2, 3])
def test_workers_and_memory_order_change_no_landmark(rng, name, workers):
    X = gallery.clusters(2500, 3, rng=rng)
    one, more = (
        lr.nystrom(lr.GaussianKernel(0.3), P, rank=40, selection=name, rng=7, workers=w)
        for P, w in ((X, 1), (np.asfortranarray(X), workers))
    )
    assert np.array_equal(one.landmarks, more.landmarks)
    assert np.array_equal(one.factor, more.factor)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("n, k", [(0, 0), (1, 0), (1, 1), (6, 0), (6, 1), (6, 6)])
def test_the_smallest_and_the_largest_ranks(rng, name, n, k, strict_floats):
    B = rng.standard_normal((n, n + 2))
    f = lr.nystrom(B @ B.T, rank=k, selection=name, rng=7)
    assert f.rank == k
    assert f.shape == (n, n)
    if k == n:
        np.testing.assert_allclose(f.to_dense(), B @ B.T, atol=1e-12)
        assert sorted(f.landmarks) == list(range(n))


@pytest.mark.parametrize("name", RULES)
def test_duplicates_stop_at_the_exact_rank_and_say_so(rng, name):
    X = np.repeat(rng.standard_normal((6, 2)), 20, axis=0)
    for given_as in ((lr.GaussianKernel(1.0), X), (lr.GaussianKernel(1.0)(X, X), None)):
        f = lr.nystrom(*given_as, rank=50, selection=name, rng=7)
        if name == "uniform":  # 50 of 120: the chance that all 20 copies of a point are missed is below 1e-5
            assert f.status is lr.Status.DEPENDENT
        else:
            assert f.status is lr.Status.EXACT_RANK
        assert f.rank == 6
        assert f.trace_error < 1e-12


@pytest.mark.parametrize("name", NESTED)
def test_the_landmarks_of_a_rank_lead_those_of_any_higher_one(rng, name):
    """So the trace error falls with the rank for one seed, and a tolerance is the least rank that meets it."""
    X = gallery.clusters(400, 4, rng=rng)
    found = {k: lr.nystrom(lr.GaussianKernel(0.5), X, rank=k, selection=name, rng=7) for k in (1, 5, 17, 60, 150)}
    most = found[150]
    for k, f in found.items():
        assert np.array_equal(f.landmarks, most.landmarks[:k])
        np.testing.assert_allclose(f.factor, most.factor[:, :k], atol=1e-9)
    errors = [f.trace_error for f in found.values()]
    assert errors == sorted(errors, reverse=True)
    within = lr.nystrom(lr.GaussianKernel(0.5), X, tol=found[17].trace_error * (1 + 1e-9), selection=name, rng=7)
    assert np.array_equal(within.landmarks, found[17].landmarks)
    assert within.status is lr.Status.TOLERANCE_EXACT


@pytest.mark.parametrize("name", NESTED)
@pytest.mark.parametrize("dtype, tol", [("f8", 1e-10), ("f8", 0.3), ("f4", 1e-3)])
def test_a_tolerance_is_met_by_the_least_rank(rng, name, dtype, tol):
    X = rng.standard_normal((300, 2)).astype(dtype)
    f = lr.nystrom(lr.GaussianKernel(1.0), X, tol=tol, selection=name, rng=7)
    K = lr.GaussianKernel(1.0)(X.astype("f8"), X.astype("f8"))
    slack = 1e3 * np.finfo(dtype).eps
    assert f.trace_error <= tol
    F = f.factor.astype("f8")
    assert abs(np.trace(K - F @ F.T) / 300 - f.trace_error) < slack
    assert 1 - (F[:, :-1] ** 2).sum() / 300 > tol - slack
    assert f.certificate.norm == "trace"


def test_a_tolerance_below_rounding_is_missed_or_met_but_never_wrong(rng):
    K = kernel_matrix(rng, h=2.0)[1]
    f = lr.nystrom(K, tol=1e-30, rng=7)
    assert f.status is lr.Status.TOLERANCE_MISSED
    assert 0 < f.trace_error < 1e-13
    assert lr.nystrom(K, tol=2.0, rng=7).rank == 0
    assert lr.nystrom(np.zeros((4, 4)), tol=0.1, rng=7).status is lr.Status.ZERO


def test_greedy_is_pivoted_cholesky(rng):
    K = kernel_matrix(rng)[1]
    residual, expected = K.copy(), []
    for _ in range(20):
        j = int(np.diagonal(residual).argmax())
        expected.append(j)
        residual -= np.outer(residual[:, j], residual[j]) / residual[j, j]
        residual[j] = residual[:, j] = 0.0
    f = lr.nystrom(K, rank=20, selection="greedy")
    assert f.landmarks.tolist() == expected
    assert (np.diff(f.pivots) <= 1e-14).all()


def test_ridge_scores_of_the_whole_matrix_are_its_ridge_leverage_scores(rng):
    """From all rows with weight 1 the estimate is exact; from a part of them it is an overestimate."""
    K = kernel_matrix(rng, n=90)[1]
    k, everything = 60, np.arange(90)
    found = ridge_scores(as_operand(K), np.diagonal(K), everything, everything, np.ones(90), k)
    r = math.floor(k / (4 * math.log(k)))
    ridge = np.sort(np.linalg.eigvalsh(K))[::-1][r:].sum() / r
    exact = np.diagonal(np.linalg.solve(K + ridge * np.eye(90), K))
    np.testing.assert_allclose(found, exact, rtol=1e-8)
    part = everything[::3]
    same_ridge = ridge / (np.sort(np.linalg.eigvalsh(K[::3, ::3]))[::-1][r:].sum() / r)
    assert same_ridge > 1  # a smaller ridge and a smaller sample: both can only raise a score
    assert (ridge_scores(as_operand(K), np.diagonal(K), everything, part, np.ones(30), k) >= exact * (1 - 1e-9)).all()


def test_leverage_prefers_what_stands_alone(rng):
    """One far point among 400 in a heap has the largest score; uniform landmarks find it in one case of 16."""
    X = np.concatenate([0.05 * rng.standard_normal((400, 2)), [[9.0, 9.0]]])
    found = [400 in lr.nystrom(lr.GaussianKernel(1.0), X, rank=25, selection="leverage", rng=s).landmarks
             for s in range(60, 80)]  # fmt: skip
    assert np.mean(found) == 1


def test_kmeans_finds_the_clusters_with_and_without_points(rng):
    centres = 20 * rng.random((12, 3))
    X = (centres[:, None] + 0.01 * rng.standard_normal((12, 30, 3))).reshape(-1, 3)
    for given_as in ((lr.GaussianKernel(2.0), X), (lr.GaussianKernel(2.0)(X, X), None)):
        f = lr.nystrom(*given_as, rank=12, selection="kmeans", rng=7)
        assert sorted(f.landmarks // 30) == list(range(12))


@given(seed=st.integers(2, 2**32), scale=st.integers(-450, 450), name=st.sampled_from(RULES))
def test_diagonal_is_never_exceeded_at_any_scale(seed, scale, name):
    """diag(F F*) <= diag(K) (1 + eps), and powers of four change no landmark, from 1e-270 to 1e270."""
    B = np.random.default_rng(seed).standard_normal((24, 9))
    K = np.ldexp(B @ B.T, 2 * scale)
    with np.errstate(over="raise", invalid="raise"):
        f = lr.nystrom(K, rank=6, selection=name, rng=7)
    g = lr.nystrom(B @ B.T, rank=6, selection=name, rng=7)
    assert np.array_equal(f.landmarks, g.landmarks)
    np.testing.assert_allclose(np.ldexp(f.factor, -scale), g.factor, rtol=1e-10)
    F = np.ldexp(f.factor, -scale)
    assert ((F**2).sum(axis=1) <= np.diagonal(B @ B.T) * (1 + 1e-13)).all()


@pytest.mark.parametrize("scale", [1e-300, 1e-150, 1e150, 1e300])
def test_the_ends_of_the_range(rng, scale):
    K = kernel_matrix(rng)[1]
    f = lr.nystrom(scale * K, rank=30, rng=7)
    g = lr.nystrom(K, rank=30, rng=7)
    assert np.array_equal(f.landmarks, g.landmarks)
    assert f.trace_error == pytest.approx(g.trace_error, rel=1e-9)
    assert np.isfinite(f.factor).all()
    assert f.certificate.absolute == pytest.approx(scale * 120 * g.trace_error)
    small = lr.nystrom((1e-36 if scale < 1 else 1e36) * K.astype("f4"), rank=30, rng=7)
    assert small.factor.dtype == np.float32
    assert small.trace_error == pytest.approx(g.trace_error, rel=1e-2)


def test_a_graded_diagonal_keeps_what_is_large(rng):
    d = 10.0 ** np.linspace(150, -150, 40)
    B = rng.standard_normal((40, 60))
    K = (B @ B.T) * np.outer(d, d)
    f = lr.nystrom(K, rank=3, selection="greedy")
    assert f.landmarks.tolist() == [0]
    assert f.status is lr.Status.EXACT_RANK
    assert np.isfinite(f.factor).all()


def test_permuting_the_points_permutes_the_law_of_the_landmarks():
    """Counts of landmarks of K and of P K P^T over 1500 runs each; chi-square of 2 x 12 counts with 3 draws a run.

    Draws within a run exclude one another, which lowers the statistic's mean, so that its 1 - 10^-6 quantile is safe.
    """
    from scipy.stats import chi2

    rng = np.random.default_rng(20250417)
    B = rng.standard_normal((12, 4)) * np.linspace(0.5, 2, 12)[:, None]
    K, order = B @ B.T, rng.permutation(12)
    counts = np.zeros((2, 12))
    for seed in range(1500):
        counts[0, lr.nystrom(K, rank=3, rng=seed + 100, workers=1).landmarks] += 1
        moved = lr.nystrom(K[np.ix_(order, order)], rank=3, rng=seed + 9100, workers=1).landmarks
        counts[1, order[moved]] += 1
    statistic = ((counts[0] - counts[1]) ** 2 / counts.sum(axis=0)).sum()
    assert statistic < chi2.ppf(1 - 1e-6, 11)


@pytest.mark.parametrize("decay, r, eps", [(0.3, 2, 0.5), (0.7, 3, 1.0)])
def test_the_trace_error_keeps_its_bound_in_expectation(decay, r, eps):
    """E tr(K - F F*) <= (1 + eps) tr(K - K_r) at the rank of Chen, Epperly, Tropp and Webber (2025).

    The mean of 200 runs lies above the bound plus 5 standard errors less often than once in a million.
    """
    rng = np.random.default_rng(20250418)
    values = decay ** np.arange(60.0)
    Q = gallery.haar(60, 60, rng)
    K = (Q * values) @ Q.T
    K = (K + K.T) / 2
    tail, trace = values[r:].sum(), values.sum()
    eta = tail / trace
    k = math.ceil(r / eps + min(r * math.log(1 / (eps * eta)), r + r * max(math.log(2**r / eps), 0.0)))
    errors = np.array([lr.nystrom(K, rank=k, rng=s, workers=1).trace_error * trace for s in range(500, 700)])
    assert errors.mean() <= (1 + eps) * tail + 5 * errors.std() / math.sqrt(200)
    assert errors.mean() > values[k:].sum()


@pytest.mark.parametrize("name", RULES)
def test_points_far_out_in_bandwidths_stop_at_the_accuracy_of_their_entries(name):
    """A face 33 bandwidths wide: entries are good to 2e-13, and pivots below that must not be called indefinite."""
    X = gallery.smile(1500)
    f = lr.nystrom(lr.GaussianKernel(0.3), X, rank=600, selection=name, rng=7)
    assert f.trace_error < (1e-2 if name == "uniform" else 1e-5)
    assert f.status in (lr.Status.EXACT_RANK, lr.Status.DEPENDENT, lr.Status.RANK_REACHED)


class Lopsided:
    """A kernel whose diagonal is not kernel(x, x)."""

    def __call__(self, P, Q):
        return lr.GaussianKernel(1.0)(P, Q)

    def diagonal(self, P):
        return 2 * np.ones(len(P))


def test_a_diagonal_that_is_another_is_an_error(rng):
    with pytest.raises(
        ValueError, match=r"K\[\d, \d\] is 1 as an entry but 2 on the diagonal; the diagonal of a kernel"
    ):
        lr.nystrom(Lopsided(), rng.standard_normal((9, 2)), rank=3, rng=7)
