"""The selections that draw: arp, rbrp, norm_sampling, leverage, ridge_leverage, column_sampling, kmeans."""

from itertools import combinations, permutations

import numpy as np
import pytest
from scipy.stats import chi2, norm

from lowrank.selection import SELECTIONS, Candidates
from lowrank.selection.arp import sample
from lowrank.selection.column_sampling import probabilities
from lowrank.selection.kmeans import representatives
from lowrank.selection.leverage import ridge_scores
from lowrank.selection.working import draw_distinct
from tests.reference import adaptive_randomized_pivoting, leave_out, ridge_leverage_scores

FALSE_ALARM = 1e-6  # the probability with which each statistical test below fails on correct code


@pytest.fixture(autouse=True)
def one_blas_thread():
    from lowrank._threads import blas_threads

    with blas_threads(1):
        yield


def orthonormal(rng, n, k, kind=float):
    G = rng.standard_normal((n, k)) + (1j * rng.standard_normal((n, k)) if kind is complex else 0)
    return np.linalg.qr(G)[0]


def with_spectrum(rng, m, n, s, kind=float):
    return orthonormal(rng, m, len(s), kind) * s @ orthonormal(rng, n, len(s), kind).conj().T


def choose(name, A, k, rng):
    candidates = Candidates(Y=A, squared_norms=np.sum(np.abs(A) ** 2, axis=0), k=k, rng=rng, exact=True)
    return SELECTIONS[name](candidates).indices


def agrees(counts, probabilities, draws):
    """Pearson's chi-square against the stated probabilities, at the declared false-alarm rate."""
    order = np.argsort(-probabilities)
    expected, counts = draws * probabilities[order], np.asarray(counts)[order]
    whole = np.count_nonzero(expected >= 10)  # rarer outcomes are pooled with the last of these
    starts = np.arange(whole)
    expected, counts = np.add.reduceat(expected, starts), np.add.reduceat(counts, starts)
    return np.sum((counts - expected) ** 2 / expected) < chi2.isf(FALSE_ALARM, whole - 1)


# --- adaptive randomized pivoting ---


@pytest.mark.parametrize("kind", [float, complex])
def test_arp_is_the_householder_algorithm(rng, kind):
    for k in (1, 5, 30):
        V = orthonormal(rng, 60, k, kind)
        seed = int(rng.integers(10**9))
        ours = sample(V, np.random.default_rng(seed))
        assert ours.tolist() == adaptive_randomized_pivoting(V, np.random.default_rng(seed))


def test_arp_draws_sets_by_their_volume(rng):
    # Epperly (2025), arXiv 2510.02513, theorem 1.2: the set has probability |det V_J|^2
    V = orthonormal(rng, 6, 2)
    sets = list(combinations(range(6), 2))
    wanted = np.array([np.linalg.det(V[list(J)]) ** 2 for J in sets])
    drawn = [tuple(sorted(sample(V, rng).tolist())) for _ in range(6000)]
    counts = np.array([drawn.count(J) for J in sets])
    assert wanted.sum() == pytest.approx(1)
    assert agrees(counts, wanted, 6000)
    assert not agrees(counts, np.full(15, 1 / 15), 6000)


@pytest.mark.parametrize("decay", ["slow", "fast", "spike"])
def test_arp_expected_error_is_within_k_plus_one(rng, decay):
    k, draws = 6, 400
    s = {
        "slow": 1.0 / np.arange(1, 31),
        "fast": np.exp(-np.arange(30.0)),
        "spike": np.r_[np.ones(6), np.full(24, 1e-3)],
    }
    A = with_spectrum(rng, 40, 30, s[decay])
    optimum = np.sum(s[decay][k:] ** 2)
    ratios = np.array([np.linalg.norm(leave_out(A, choose("arp", A, k, rng))) ** 2 for _ in range(draws)]) / optimum
    # one-sided: fails with probability FALSE_ALARM if the mean were exactly k + 1
    assert ratios.mean() <= k + 1 + norm.isf(FALSE_ALARM) * ratios.std(ddof=1) / np.sqrt(draws)
    assert ratios.min() >= 1 - 1e-6


def test_arp_expectation_in_full_reaches_k_plus_one_on_the_worst_case():
    # n = k + 1 equal columns but for the sum: every set of k has the same error, (k + 1) times the optimum
    n, k, small = 5, 4, 1e-4
    A = np.linalg.cholesky(np.full((n, n), -1.0) + (n + small) * np.eye(n)).T
    errors = [np.linalg.norm(leave_out(A, J)) ** 2 for J in combinations(range(n), k)]
    optimum = np.linalg.svd(A, compute_uv=False)[-1] ** 2
    assert np.allclose(np.array(errors) / optimum, k + 1, rtol=1e-3)
    rng = np.random.default_rng(20240607)
    assert np.linalg.norm(leave_out(A, choose("arp", A, k, rng))) ** 2 <= 1.001 * (k + 1) * optimum


# --- draws without replacement ---


def test_draw_distinct_is_successive_sampling(rng):
    weights = np.array([4.0, 1.0, 0.0, 2.0, 3.0])
    wanted = {}
    for J in permutations([0, 1, 3, 4], 2):
        wanted[J] = weights[J[0]] / 10 * weights[J[1]] / (10 - weights[J[0]])
    drawn = [tuple(draw_distinct(weights, 2, rng).tolist()) for _ in range(6000)]
    counts = np.array([drawn.count(J) for J in wanted])
    assert counts.sum() == 6000
    assert agrees(counts, np.array(list(wanted.values())), 6000)


def test_draw_distinct_never_takes_what_weighs_nothing(rng):
    assert sorted(draw_distinct(np.array([0.0, 5.0, 0.0, 1e-300]), 4, rng).tolist()) == [1, 3]
    assert draw_distinct(np.zeros(3), 2, rng).size == 0
    assert draw_distinct(np.zeros(0), 2, rng).size == 0
    assert draw_distinct(np.array([1e-320, 1e300, 1e-320]), 3, rng).size == 3


def test_norm_sampling_additive_error(rng):
    r, k, draws = 2, 10, 300
    A = with_spectrum(rng, 30, 40, 1.0 / np.arange(1, 31))
    s = np.linalg.svd(A, compute_uv=False) ** 2
    bound = s[r:].sum() + r / k * s.sum()
    errors = np.array([np.linalg.norm(leave_out(A, choose("norm_sampling", A, k, rng))) ** 2 for _ in range(draws)])
    assert errors.mean() <= bound + norm.isf(FALSE_ALARM) * errors.std(ddof=1) / np.sqrt(draws)


# --- scores ---


@pytest.mark.parametrize("kind", [float, complex])
def test_ridge_scores(rng, kind):
    A = with_spectrum(rng, 12, 30, 1.0 / np.arange(1, 13) ** 2, kind)
    for k in (1, 4, 11):
        found = ridge_scores(A, k)
        assert np.allclose(found, ridge_leverage_scores(A, k), rtol=1e-9, atol=1e-12)
        assert found.sum() <= 2 * k  # Cohen, Musco and Musco (2017), section 3
    assert ridge_scores(A, 12).sum() == pytest.approx(12)  # no tail, no ridge: plain leverage


def test_leverage_draws_by_the_rows_of_the_singular_vectors(rng):
    A = with_spectrum(rng, 8, 6, np.array([5.0, 4, 3, 2, 1e-3, 1e-3]))
    V = np.linalg.svd(A)[2][:1].T
    wanted = np.sum(V**2, axis=1)
    first = np.array([choose("leverage", A, 1, rng)[0] for _ in range(3000)])
    counts = np.bincount(first, minlength=6)
    assert agrees(counts, wanted, 3000)


def test_column_sampling_probabilities(rng):
    A = with_spectrum(rng, 10, 20, 1.0 / np.arange(1, 11))
    U, s, Vh = np.linalg.svd(A, full_matrices=False)
    k = 3
    rest = A - U[:, :k] * s[:k] @ Vh[:k]
    wanted = 0.5 * np.sum(Vh[:k] ** 2, axis=0) / k + 0.5 * np.sum(rest**2, axis=0) / np.sum(rest**2)
    assert np.allclose(probabilities(A, Vh[:k].T), wanted)
    exact = A - rest
    assert probabilities(exact, Vh[:k].T).sum() == pytest.approx(1)


def test_column_sampling_bound_holds_most_of_the_time(rng):
    k, draws = 5, 120
    A = with_spectrum(rng, 30, 60, 1.0 / np.arange(1, 31) ** 2)
    optimum = np.sqrt(np.sum((1.0 / np.arange(k + 1, 31) ** 2) ** 2))
    errors = np.array([np.linalg.norm(leave_out(A, choose("column_sampling", A, k, rng))) for _ in range(draws)])
    within = np.count_nonzero(errors <= k * np.sqrt(np.log(k)) * optimum)
    # probability at least 0.7 each: fewer than 55 of 120 has probability below 1e-7
    assert within >= 55


# --- clusters ---


def test_kmeans_finds_separated_clusters(rng):
    centres = 100.0 * np.eye(4)
    label = np.repeat(np.arange(4), 15)
    P = centres[label] + rng.standard_normal((60, 4))
    heads, _ = representatives(P, 4, rng)
    assert sorted(label[heads].tolist()) == [0, 1, 2, 3]
    for j in heads:
        mine = P[label == label[j]]
        assert np.linalg.norm(P[j] - mine.mean(axis=0)) == pytest.approx(
            np.linalg.norm(mine - mine.mean(axis=0), axis=1).min()
        )


@pytest.mark.parametrize("k", [1, 3, 12, 40])
def test_kmeans_error_within_twice_the_radius(rng, k):
    A = rng.standard_normal((5, 40)) + 1e3
    heads, radius = representatives(A.T, k, rng)
    assert len(set(heads.tolist())) == len(heads) <= k
    assert np.linalg.norm(leave_out(A, heads)) ** 2 <= 2 * radius * (1 + 1e-9) + 1e-12


def test_kmeans_counts_copies_once(rng):
    P = np.repeat(rng.standard_normal((3, 4)), 10, axis=0)
    heads, radius = representatives(P, 8, rng)
    assert len(heads) == 3
    assert radius < 1e-20


# --- robust blocks ---


def test_rbrp_filter_drops_copies_in_a_block(rng):
    # two large directions, each in 40 copies, and eight small ones: a plain block of four would be two directions
    big = np.repeat(10 * np.eye(10)[:, :2], 40, axis=1)
    A = np.hstack([big, np.eye(10)[:, 2:]])
    J = choose("rbrp", A, 10, rng)
    assert np.linalg.matrix_rank(A[:, J]) == len(J) == 10


@pytest.mark.parametrize("kind", [float, complex])
def test_rbrp_is_near_optimal_on_coherent_columns(rng, kind):
    A = with_spectrum(rng, 60, 80, np.exp(-np.arange(60) / 4), kind)
    A[:, :5] *= 30
    for k in (1, 10, 40):
        s = np.linalg.svd(A, compute_uv=False)
        J = choose("rbrp", A, k, rng)
        assert len(J) == k
        assert np.linalg.norm(leave_out(A, J)) <= np.sqrt(k + 1) * 3 * np.sqrt(np.sum(s[k:] ** 2))
