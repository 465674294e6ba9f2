"""cr: products from a few column-row pairs."""

import pickle
import warnings

import numpy as np
import pytest
from scipy.stats import norm

from lowrank.column_row import METHODS, WEIGHTS, PairStatus, cr
from tests.reference import best_diagonal, best_full, greedy_pairs

FALSE_ALARM = 1e-6  # the probability with which each statistical test below fails on correct code

every_method = pytest.mark.parametrize("method", METHODS)
every_weight = pytest.mark.parametrize("weights", WEIGHTS)
KINDS = pytest.mark.parametrize("kind", [float, complex])


@pytest.fixture(autouse=True)
def one_blas_thread():
    from lowrank._threads import blas_threads

    with blas_threads(1):
        yield


def gaussian(rng, m, n, kind=float):
    return rng.standard_normal((m, n)) + (1j * rng.standard_normal((m, n)) if kind is complex else 0)


def problem(rng, m=12, n=30, p=9, kind=float):
    return gaussian(rng, m, n, kind) * np.geomspace(1, 0.01, n), gaussian(rng, n, p, kind)


# --- each rule against its plain form ---


@KINDS
def test_norm_takes_the_largest_pairs(rng, kind):
    X, Y = problem(rng, kind=kind)
    size = np.linalg.norm(X, axis=0) * np.linalg.norm(Y, axis=1)
    c = cr(X, Y, 7)
    assert c.indices.tolist() == np.argsort(-size)[:7].tolist()
    assert np.allclose(c.to_dense(), X[:, c.indices] @ Y[c.indices])
    assert c.status is PairStatus.RANK_REACHED


@KINDS
@every_method
def test_diagonal_weights_are_optimal(rng, method, kind):
    X, Y = problem(rng, kind=kind)
    c = cr(X, Y, 8, method=method, weights="diagonal", rng=5)
    assert np.allclose(c.weights, best_diagonal(X, Y, c.indices))
    assert np.allclose(c.to_dense(), X[:, c.indices] * c.weights @ Y[c.indices])


@KINDS
@every_method
def test_full_weights_are_optimal(rng, method, kind):
    X, Y = problem(rng, kind=kind)
    for k in (3, 8):
        c = cr(X, Y, k, method=method, weights="full", rng=5)
        assert np.allclose(c.weights, best_full(X, Y, c.indices))
        assert np.allclose(c.to_dense(), X[:, c.indices] @ c.weights @ Y[c.indices])


@KINDS
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(12, 20, 9), (3, 20, 2), (40, 6, 30)])
def test_greedy_takes_the_best_pair_each_time(rng, kind, weighted, shape):
    X, Y = problem(rng, *shape, kind=kind)
    k = min(5, shape[1])
    c = cr(X, Y, k, method="greedy", weights="diagonal" if weighted else "none")
    assert c.indices.tolist() == greedy_pairs(X, Y, len(c.indices), weighted)


def test_greedy_stops_where_no_pair_helps():
    X, Y = np.array([[1.0, -1.0, 1.0]]), np.array([[1.0], [0.9], [1.0]])
    c = cr(X, Y, 3, method="greedy")
    assert sorted(c.indices.tolist()) == [0] or sorted(c.indices.tolist()) == [2]
    assert c.status is PairStatus.STOPPED
    assert "fewer were kept than were asked for" in c.explain()


def test_sampling_is_unbiased_with_the_stated_variance(rng):
    X, Y = problem(rng, 5, 12, 4)
    P = X @ Y
    k, draws = 3, 3000
    squared = np.empty(draws)
    mean = np.zeros_like(P)
    for i in range(draws):
        c = cr(X, Y, k, method="sampling", rng=rng)
        error = c.to_dense() - P
        squared[i] = np.linalg.norm(error) ** 2
        mean += error / draws
    # Drineas, Kannan and Mahoney (2006), lemma 4: the least variance of all such draws
    total = np.sum(np.linalg.norm(X, axis=0) * np.linalg.norm(Y, axis=1))
    variance = (total**2 - np.linalg.norm(P) ** 2) / k
    reach = norm.isf(FALSE_ALARM / 2)
    assert abs(squared.mean() - variance) <= reach * squared.std(ddof=1) / np.sqrt(draws)
    # the squared mean error has expectation variance / draws, and is below 30 times that but for 1e-6 (20 entries)
    assert np.linalg.norm(mean) ** 2 <= 30 * variance / draws


def test_leverage_is_unbiased_within_twice_the_least_variance(rng):
    X, Y = problem(rng, 5, 12, 4)
    P = X @ Y
    k, draws = 3, 2000
    errors = np.array([cr(X, Y, k, method="leverage", rng=rng).to_dense() - P for _ in range(draws)])
    total = np.sum(np.linalg.norm(X, axis=0) * np.linalg.norm(Y, axis=1))
    squared = np.sum(errors**2, axis=(1, 2))
    assert squared.mean() <= 2 * total**2 / k + norm.isf(FALSE_ALARM) * squared.std(ddof=1) / np.sqrt(draws)
    assert np.linalg.norm(errors.mean(axis=0)) ** 2 <= 30 * squared.mean() / draws


def test_repeated_draws_stand_once(rng):
    X, Y = np.diag([1.0, 1e-9]), np.eye(2)
    c = cr(X, Y, 2, method="sampling", rng=3)
    assert c.indices.tolist() == [0]
    assert c.weights == pytest.approx([1.0])
    assert c.status is PairStatus.REPEATED


# --- order of the errors ---


@every_method
def test_more_freedom_in_the_weights_never_costs_error(rng, method):
    X, Y = problem(rng)
    errors = []
    for weights in WEIGHTS:
        drawn = cr(X, Y, 9, method=method, weights=weights, rng=11)
        if method == "greedy":  # which chooses by the weights: compare on one choice
            drawn = cr(X[:, drawn.indices], Y[drawn.indices], drawn.rank, weights=weights)
        errors.append(np.linalg.norm(X @ Y - drawn.to_dense()) if method != "greedy" else drawn.certificate.estimate)
    assert errors[2] <= errors[1] * (1 + 1e-9) + 1e-12
    assert errors[1] <= errors[0] * (1 + 1e-9) + 1e-12


@every_weight
@pytest.mark.parametrize("method", ["norm", "greedy"])
@KINDS
def test_all_pairs_give_the_product(rng, method, weights, kind):
    X, Y = problem(rng, 12, 8, 9, kind)
    c = cr(X, Y, 8, method=method, weights=weights)
    assert np.allclose(c.to_dense(), X @ Y, rtol=1e-10, atol=1e-12)
    assert c.certificate.estimate < 1e-10


# --- the certificate ---


@every_method
@every_weight
def test_small_products_are_certified_exactly(rng, method, weights):
    X, Y = problem(rng)
    c = cr(X, Y, 6, method=method, weights=weights, rng=5)
    error = np.linalg.norm(X @ Y - c.to_dense())
    assert c.certificate.probes == 0
    assert c.certificate.absolute == pytest.approx(error)
    assert c.certificate.estimate == pytest.approx(error / np.linalg.norm(X @ Y))
    assert c.certificate.interval == (c.certificate.estimate,) * 2


def test_interval_covers_the_truth(rng, monkeypatch):
    monkeypatch.setattr("lowrank.column_row.SMALL", 0)
    X, Y = problem(rng, 60, 80, 50)
    wanted = cr(X, Y, 20).relative_error(X @ Y)
    trials = 300
    found = [cr(X, Y, 20, rng=rng).certificate for _ in range(trials)]
    covered = sum(c.interval[0] <= wanted <= c.interval[1] for c in found)
    # at a coverage of 95 % fewer than 264 of 300 has probability below 1e-6
    assert covered >= 264
    assert all(c.probes == 10 for c in found)
    assert np.median([c.estimate for c in found]) == pytest.approx(wanted, rel=0.05)


def test_an_error_above_the_product_is_said(rng):
    X, Y = np.ones((1, 40)), np.tile([[1.0], [-1.0]], (20, 1)) + 1e-3
    c = cr(X, Y, 5, method="norm")
    assert c.certificate.estimate > 1
    assert c.status is PairStatus.POOR
    assert "zero would be closer" in repr(c)
    assert cr(X, Y, 5, method="norm", weights="diagonal").certificate.estimate <= 1


# --- edges ---


@every_method
@every_weight
@pytest.mark.parametrize("shape", [(0, 5, 3), (4, 0, 3), (4, 5, 0), (4, 5, 3)])
def test_empty(rng, method, weights, shape):
    X, Y = problem(rng, *shape)
    c = cr(X, Y, 0, method=method, weights=weights)
    assert c.status is PairStatus.EMPTY
    assert np.array_equal(c.to_dense(), np.zeros((shape[0], shape[2])))
    assert c.rank == 0
    if shape[1] and 0 in shape:
        assert cr(X, Y, 2, method=method, weights=weights).status is PairStatus.EMPTY


@every_method
@every_weight
def test_zero_pairs_are_left_out(rng, method, weights):
    X, Y = problem(rng, 6, 10, 5)
    X[:, ::2] = 0
    Y[1] = 0
    c = cr(X, Y, 10, method=method, weights=weights, rng=5)
    assert set(c.indices.tolist()) <= {3, 5, 7, 9}
    nothing = cr(X * 0, Y, 4, method=method, weights=weights, rng=5)
    assert nothing.status is PairStatus.ZERO
    assert not nothing.to_dense().any()


@every_method
@every_weight
@KINDS
def test_scale_taken_out_pair_by_pair(rng, method, weights, kind):
    X, Y = problem(rng, 8, 10, 6, kind)
    one = cr(X, Y, 4, method=method, weights=weights, rng=5)
    up = 2.0 ** np.linspace(-400, 400, 10).round()
    two = cr(X * up, Y / up[:, None], 4, method=method, weights=weights, rng=5)
    if method != "leverage":  # the leverages of X and of Y are another matter after that
        assert two.indices.tolist() == one.indices.tolist()
        with np.errstate(under="ignore"):
            assert np.allclose(two.to_dense(), one.to_dense(), rtol=1e-9)
    assert np.isfinite(two.weights).all()
    for scale in (1e-150, 1e150):
        three = cr(X * scale, Y, 4, method=method, weights=weights, rng=5)
        assert three.indices.tolist() == one.indices.tolist()
        assert np.allclose(three.weights, one.weights)
        assert three.certificate.estimate == pytest.approx(one.certificate.estimate)


def test_copies_share_their_weight(rng):
    X, Y = problem(rng, 6, 4, 5)
    X, Y = np.hstack([X, X]), np.vstack([Y, Y])
    c = cr(X, Y, 8, weights="diagonal")
    assert np.allclose(c.weights, 1)
    assert cr(X, Y, 8, method="greedy", weights="diagonal").rank == 4
    assert cr(X, Y, 8, weights="full").certificate.estimate < 1e-12


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
@every_method
@every_weight
def test_dtype_is_kept(rng, dtype, method, weights):
    X, Y = (A.astype(dtype) for A in problem(rng, kind=complex if np.dtype(dtype).kind == "c" else float))
    c = cr(X, Y, 6, method=method, weights=weights, rng=5)
    assert c.dtype == c.C.dtype == c.R.dtype == c.weights.dtype == dtype
    assert c.to_dense().dtype == dtype
    double = cr(X.astype(np.complex128), Y, 6, method=method, weights=weights, rng=5)
    assert double.indices.tolist() == c.indices.tolist()
    assert np.allclose(double.to_dense(), c.to_dense(), atol=1e-4)


def test_integers_are_converted_and_said():
    c = cr([[1, 2], [3, 4]], np.eye(2, dtype=bool), 2)
    assert c.dtype == np.float64
    assert c.notes == ("X converted from int64 to float64", "Y converted from bool to float64")
    assert np.array_equal(c.to_dense(), [[1, 2], [3, 4]])


@every_method
@every_weight
def test_memory_order_and_read_only(rng, method, weights):
    X, Y = problem(rng)
    wanted = cr(X, Y, 6, method=method, weights=weights, rng=5)
    before = X.copy(), Y.copy()
    X.flags.writeable = Y.flags.writeable = False
    other = cr(np.asfortranarray(X), np.repeat(Y, 2, axis=1)[:, ::2], 6, method=method, weights=weights, rng=5)
    assert other.indices.tolist() == wanted.indices.tolist()
    assert np.allclose(other.weights, wanted.weights)
    assert np.array_equal(X, before[0])
    assert np.array_equal(Y, before[1])


@every_weight
@KINDS
def test_acts_as_a_linear_operator(rng, weights, kind):
    X, Y = problem(rng, kind=kind)
    c = cr(X, Y, 5, weights=weights)
    D = c.to_dense()
    v, w = gaussian(rng, 9, 2, kind), gaussian(rng, 12, 2, kind)
    assert c.shape == D.shape == (12, 9)
    assert np.allclose(c @ v, D @ v)
    assert np.allclose(w.T @ c, w.T @ D)
    assert np.allclose(c.T @ w, D.T @ w)
    assert np.allclose(c.H @ w, D.conj().T @ w)
    assert np.allclose(c.aslinearoperator() @ v, D @ v)
    U, s, Vh = c.svd()
    assert np.allclose(U * s @ Vh, D)
    again = pickle.loads(pickle.dumps(c))
    assert np.array_equal(again.to_dense(), D)
    assert again.status is c.status


# --- what is refused ---


@pytest.mark.parametrize(
    "X, Y, options, error, message",
    [
        (np.ones((3, 4)), np.ones((5, 2)), {}, ValueError, r"X has 4 columns, but Y has 5 rows \(shapes \(3, 4\) and"),
        (np.ones(4), np.ones((4, 2)), {}, ValueError, r"X has shape \(4,\); cr needs two dimensions"),
        (np.ones((3, 4)), np.float64(3), {}, TypeError, "Y is a numpy.float64; cr reads numpy arrays"),
        (np.ones((3, 4), np.float16), np.ones((4, 2)), {}, TypeError, "X has dtype float16; cr reads float32"),
        (np.ones((3, 4)), np.array([["a"] * 2] * 4), {}, TypeError, "Y has dtype <U1; cr reads float32"),
        (np.ones((3, 4)), np.ones((4, 2)), {"rank": 5}, ValueError, "rank=5 is out of range: X Y has n=4 column-row"),
        (np.ones((3, 4)), np.ones((4, 2)), {"rank": -1}, ValueError, "rank=-1 is out of range"),
        (
            np.ones((3, 4)),
            np.ones((4, 2)),
            {"rank": 1.5},
            TypeError,
            "rank=1.5 is not an integer; pass an integer from",
        ),
        (np.ones((3, 4)), np.ones((4, 2)), {"rank": True}, TypeError, "rank=True is not an integer"),
        (
            np.ones((3, 4)),
            np.ones((4, 2)),
            {"method": "best"},
            ValueError,
            "method='best' is not available; pass one of",
        ),
        (np.ones((3, 4)), np.ones((4, 2)), {"weights": 3}, ValueError, "weights=3 is not available; pass one of"),
        (1e200 * np.ones((3, 4)), 1e200 * np.ones((4, 2)), {}, ValueError, "X @ Y leaves the range of float64"),
    ],
)
def test_bad_input(X, Y, options, error, message):
    options = {"rank": 2, **options}
    with pytest.raises(error, match=message):
        cr(X, Y, **options)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, complex(0, np.nan)])
def test_the_first_entry_that_is_not_finite_is_named(bad):
    Y = np.ones((4, 5), dtype=complex if isinstance(bad, complex) else float)
    Y[2, 3] = bad
    with pytest.raises(ValueError, match=r"Y\[2, 3\] is .*; cr needs finite entries"):
        cr(np.ones((3, 4)), Y, 2)


def test_other_kinds_are_named():
    from scipy.sparse import eye_array

    with pytest.raises(TypeError, match=r"X is a scipy.sparse.*; cr reads numpy arrays, so convert it first"):
        cr(eye_array(4), np.ones((4, 2)), 2)


def test_nothing_is_warned_about(rng, strict_floats):
    X, Y = problem(rng)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for method in METHODS:
            for weights in WEIGHTS:
                cr(X, Y, 10, method=method, weights=weights, rng=5)


def test_a_product_is_saved_and_loaded(rng, tmp_path):
    import lowrank as lr

    X, Y = rng.standard_normal((30, 50)), rng.standard_normal((50, 20))
    c = lr.cr(X, Y, rank=12, weights="diagonal", rng=7)
    c.save(tmp_path / "product.npz")
    back = lr.load(tmp_path / "product.npz")
    assert isinstance(back, lr.ColumnRow)
    assert back.status is c.status
    assert np.array_equal(back.to_dense(), c.to_dense())
