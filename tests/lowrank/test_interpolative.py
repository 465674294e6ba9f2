"""Column and row ID: accuracy beside the optimum, laws, the safeguard, edge cases and the sentences for users."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lowrank as lr
from lowrank import gallery
from lowrank.selection import RANK_REVEALING

DTYPES = [np.float32, np.float64, np.complex64, np.complex128]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("quality", ["fast", "best"])
def test_near_the_optimum_and_the_chosen_columns_are_real(rng, dtype, quality):
    s = gallery.polynomial_spectrum(150)
    A = gallery.with_spectrum(900, 150, s, rng=rng, dtype=dtype)
    f = lr.column_id(A, rank=20, rng=7, quality=quality)
    error = np.linalg.norm(A - f.to_dense())
    assert error < (2.2 if quality == "best" else 3.0) * gallery.optimal_error(s, 20)
    assert f.rank == 20
    assert f.dtype == f.coefficients.dtype == dtype
    assert f.status is lr.Status.RANK_REACHED
    assert np.array_equal(f.C, A[:, f.indices])
    assert np.array_equal(f.coefficients[:, f.indices], np.eye(20))
    assert f.relative_error(A) == pytest.approx(error / np.linalg.norm(A), rel=1e-3)
    assert f.entries_read == A.size * (2 if quality == "best" else 1) + 20 * 900


def test_best_coefficients_are_the_least_squares_ones(rng):
    A = gallery.exponential_decay(400, 90, scale=6.0, rng=rng)
    f = lr.column_id(A, rank=30, rng=7, quality="best")
    Z = np.linalg.lstsq(f.C, A, rcond=None)[0]
    np.testing.assert_allclose(f.to_dense(), f.C @ Z, atol=1e-12)


def test_row_id_is_the_column_id_of_the_transpose(rng):
    A = gallery.polynomial_decay(60, 300, rng=rng, dtype=np.complex128)
    f, g = lr.column_id(A.T, rank=9, rng=7), lr.row_id(A, rank=9, rng=7)
    assert np.array_equal(f.indices, g.indices)
    np.testing.assert_array_equal(g.to_dense(), f.to_dense().T)
    assert np.array_equal(g.R, A[g.indices])
    assert g.certificate == f.certificate


@pytest.mark.parametrize("dtype", DTYPES)
def test_exact_rank_stops_early_and_is_exact(rng, dtype):
    A = gallery.exact_rank(500, 80, 12, rng=rng, dtype=dtype)
    f = lr.column_id(A, rank=30, rng=7)
    assert f.status is lr.Status.EXACT_RANK
    assert f.rank == 12
    assert f.relative_error(A) < 100 * np.finfo(dtype).eps
    assert "stopped early" in f.explain()


@pytest.mark.parametrize("rank", [0, 1, 5, 6])
@pytest.mark.parametrize("shape", [(6, 200), (200, 6), (6, 6), (1, 9), (9, 1)])
def test_small_and_thin(rng, shape, rank, strict_floats):
    rank = min(rank, *shape)
    A = rng.standard_normal(shape)
    f = lr.column_id(A, rank=rank, rng=7)
    assert f.rank == rank
    if rank == min(shape):
        np.testing.assert_allclose(f.to_dense(), A, atol=1e-12)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0)])
def test_nothing_there(shape):
    f = lr.column_id(np.empty(shape), rank=0, rng=7)
    assert f.status is lr.Status.EMPTY
    assert f.to_dense().shape == shape
    assert (f @ np.ones(shape[1])).shape == (shape[0],)
    assert lr.cur(np.empty(shape), rank=0, rng=7).to_dense().shape == shape


def test_zero_matrix(strict_floats):
    f = lr.column_id(np.zeros((30, 8)), rank=3, rng=7)
    assert f.status is lr.Status.ZERO
    assert f.rank == 0
    assert f.certificate.estimate == 0.0
    assert np.array_equal(f.to_dense(), np.zeros((30, 8)))


def test_constant_and_duplicate_columns(strict_floats):
    f = lr.column_id(np.full((90, 40), 3.0), rank=4, rng=7)
    assert (f.rank, f.status) == (1, lr.Status.EXACT_RANK)
    np.testing.assert_allclose(f.to_dense(), 3.0, rtol=1e-14)
    A = np.repeat(np.random.default_rng(5).standard_normal((300, 4)), 30, axis=1)
    f = lr.column_id(A, rank=20, rng=7)
    assert sorted(f.indices // 30) == [0, 1, 2, 3]


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e160, 1e300])
@pytest.mark.parametrize("make", [lr.column_id, lr.row_id, lr.cur])
def test_any_scale(rng, make, scale, strict_floats):
    A = gallery.polynomial_decay(400, 90, rng=rng)
    with np.errstate(under="ignore"):
        B = A * scale
    f, g = make(A, rank=9, rng=7), make(B, rank=9, rng=7)
    assert g.relative_error(B) == pytest.approx(f.relative_error(A), rel=1e-3)
    assert g.certificate.estimate == pytest.approx(f.certificate.estimate, rel=1e-3)
    assert g.certificate.absolute == pytest.approx(g.certificate.estimate * np.linalg.norm(A) * scale, rel=1e-6)


def test_graded_columns_keep_their_own_scale(rng):
    A = rng.standard_normal((200, 30)) * np.logspace(-300, 300, 30)
    f = lr.column_id(A, rank=4, rng=7)
    assert set(f.indices) <= {26, 27, 28, 29}
    assert np.isfinite(f.coefficients).all()


@pytest.mark.parametrize("make", [lr.column_id, lr.row_id, lr.cur])
def test_flat_spectrum_is_never_worse_than_zero(rng, make):
    """Sketched coefficients lose here; the probes notice, and the exact ones are at most as long as A."""
    A = gallery.flat(700, 500, rng=rng)
    f = make(A, rank=60, rng=7)
    assert f.status is lr.Status.REPAIRED
    assert f.relative_error(A) < 1.0
    assert "computed exactly" in f.explain()


def test_default_notices_kahan(rng):
    A = gallery.kahan(500)
    best = gallery.optimal_error(np.linalg.svd(A, compute_uv=False), 40)
    plain, default = (lr.column_id(A, rank=40, rng=7, selection=name, quality="best") for name in ("qr", "auto"))
    assert default.selection == "osinsky"
    error = default.relative_error(A) * np.linalg.norm(A)
    assert error < 1.5 * best
    assert error < plain.relative_error(A) * np.linalg.norm(A)


def test_default_notices_fast_decay_on_large_problems(rng):
    slow = gallery.polynomial_decay(500, 450, basis="cheap", rng=rng)
    fast = gallery.exponential_decay(500, 450, basis="cheap", rng=rng)
    assert lr.column_id(slow, rank=120, rng=7).selection == "lu"
    f = lr.column_id(fast, rank=120, rng=7)
    assert f.selection == "osinsky"
    assert "on fast decay the rule matters" in f.explain()


@pytest.mark.parametrize("make", [lr.column_id, lr.row_id, lr.cur])
def test_one_seed_one_answer(rng, make):
    A = gallery.polynomial_decay(1300, 300, basis="cheap", rng=rng)
    frozen = A.copy()
    frozen.setflags(write=False)
    first = make(A, rank=25, rng=7, workers=1)
    for other in (make(A, rank=25, rng=7, workers=w) for w in (2, 3)):
        assert np.array_equal(first.to_dense(), other.to_dense())
    for other in (make(B, rank=25, rng=7) for B in (np.asfortranarray(A), frozen, np.repeat(A, 2, axis=0)[::2])):
        chosen = "indices" if make is not lr.cur else "columns"
        assert np.array_equal(getattr(first, chosen), getattr(other, chosen))
        np.testing.assert_allclose(first.to_dense(), other.to_dense(), atol=1e-14)
    assert not np.array_equal(first.to_dense(), make(A, rank=25, rng=8).to_dense())


def test_given_columns_are_kept_in_their_order(rng):
    A = gallery.polynomial_decay(120, 30, rng=rng)
    f = lr.column_id(A, rank=3, selection="given", indices=[-1, 4, 9], rng=7)
    assert f.indices.tolist() == [29, 4, 9]
    A[:, 9] = A[:, 4]
    f = lr.column_id(A, rank=3, selection="given", indices=[29, 4, 9], rng=7)
    assert f.rank == 2
    assert f.status is lr.Status.DEPENDENT


def test_kernel_matrix(rng):
    X = rng.random((700, 2))
    K = lr.KernelMatrix(lr.GaussianKernel(0.4), X)
    f = lr.column_id(K, rank=40, rng=7)
    dense = lr.GaussianKernel(0.4)(X, X)
    assert np.linalg.norm(dense - f.to_dense()) < 5 * gallery.optimal_error(np.linalg.eigvalsh(dense), 40)
    assert f.entries_read == 700 * 740


def test_progress_reaches_the_end(rng):
    seen = []
    lr.column_id(rng.standard_normal((50, 9)), rank=2, rng=7, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    with pytest.raises(TypeError, match="progress='yes'; pass False, True or a callable"):
        lr.column_id(np.eye(3), rank=1, progress="yes")


@given(
    m=st.integers(20, 60),
    n=st.integers(3, 25),
    k=st.integers(1, 3),
    seed=st.integers(2, 2**32),
    power=st.integers(-40, 40),
)
def test_scale_and_permutation_equivariance(m, n, k, seed, power):
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((m, n)) * rng.random(n) ** 3
    f = lr.column_id(A, rank=k, rng=7)
    g = lr.column_id(np.ldexp(A, power), rank=k, rng=7)
    assert np.array_equal(f.indices, g.indices)
    assert np.array_equal(f.coefficients, g.coefficients)
    order = rng.permutation(n)
    h = lr.column_id(A[:, order], rank=k, rng=7)
    assert set(order[h.indices]) == set(f.indices)


@given(k=st.integers(1, 11), seed=st.integers(2, 2**32))
def test_error_falls_with_the_rank_for_nested_choices(k, seed):
    A = gallery.polynomial_decay(80, 30, rng=seed)
    J = lr.column_id(A, rank=k + 4, rng=7, quality="best").indices
    errors = [
        lr.column_id(A, rank=r, selection="given", indices=J[:r], quality="best", rng=7).relative_error(A)
        for r in (k, k + 4)
    ]
    assert errors[1] <= errors[0] * (1 + 1e-12)


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"rank": 7}, ValueError, r"rank=7 exceeds min\(A.shape\)=6; pass rank<=6"),
        ({"rank": -1}, ValueError, r"rank=-1 is negative; pass an integer from 0 to min\(A.shape\)=6"),
        ({"rank": 2.5}, TypeError, "rank=2.5 is not an integer; pass an integer from 0 to 6"),
        ({"rank": True}, TypeError, "rank=True is not an integer"),
        ({}, TypeError, r"pass rank=, an integer from 0 to min\(A.shape\)=6"),
        ({"tol": 0}, ValueError, "tol=0 is not a positive finite number; pass a relative error such as tol=1e-3"),
        ({"tol": np.nan}, ValueError, "tol=nan is not a positive finite number"),
        ({"tol": "small"}, TypeError, "tol='small' is not a real number"),
        ({"tol": 0.1, "selection": "given", "indices": [1]}, ValueError, 'selection="given" names the columns itself'),
        ({"rank": 2, "tol": 1e-3}, TypeError, "pass rank= or tol=, not both"),
        ({"rank": 2, "norm": "max"}, ValueError, "norm='max' is not available; pass one of 'fro', 'spectral'"),
        ({"rank": 2, "norm": "trace"}, ValueError, 'norm="trace" is for positive semidefinite matrices'),
        ({"rank": 2, "quality": "good"}, ValueError, "quality='good' is not available; pass one of 'fast', 'best'"),
        ({"rank": 2, "selection": "svd"}, ValueError, "selection='svd' is not available; pass one of 'auto', 'lu'"),
        ({"rank": 2, "selection": "given"}, ValueError, 'the selection "given" needs indices=, the 2 columns'),
        ({"rank": 2, "indices": [0, 1]}, ValueError, "indices= goes with the selection \"given\", not with 'auto'"),
        ({"rank": 2, "selection": "given", "indices": [0]}, ValueError, "indices has 1 entries, but the rank is 2"),
        ({"rank": 2, "selection": "given", "indices": [0, 0]}, ValueError, "indices repeats an index"),
        ({"rank": 2, "selection": "given", "indices": [0, 8]}, IndexError, "reaches from 0 to 8, but there are 8"),
        ({"rank": 2, "selection": "given", "indices": [0.5, 1]}, TypeError, "indices must be one-dimensional integers"),
        ({"rank": 2, "workers": 0}, ValueError, "workers=0 asks for no thread"),
    ],
)
def test_bad_arguments(rng, arguments, error, message):
    with pytest.raises(error, match=message):
        lr.column_id(rng.standard_normal((6, 8)), rng=7, **arguments)


def selected(A, rank, rng):
    return lr.select_columns(A, rank, rng=rng)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("make", [lr.column_id, lr.row_id, lr.cur, selected])
@pytest.mark.parametrize("shape", [(400, 30), (12, 9)])
def test_what_is_not_finite_is_named_by_its_position(rng, make, bad, shape):
    A = rng.standard_normal(shape)
    A[11, 5] = bad
    with pytest.raises(ValueError, match=rf"A\[11, 5\] is {bad}; lowrank needs finite entries"):
        make(A, rank=2, rng=7)


@pytest.mark.parametrize("factor", [1e-310, 5e-324])
def test_subnormal_matrices_keep_their_relative_accuracy(rng, factor):
    A = rng.standard_normal((50, 30)) * 8
    f = lr.column_id(A * factor, rank=3, rng=rng)
    assert f.rank == 3
    assert 0 < f.relative_error(A * factor) < 1.5


@pytest.mark.parametrize("workers", [1, 2])
def test_an_infinite_matrix_is_refused_in_words_on_any_thread(rng, workers):
    A = np.full((400, 3000), np.inf)
    with pytest.raises(ValueError, match=r"A\[0, 0\] is inf"):
        lr.column_id(A, rank=3, rng=rng, workers=workers)


@pytest.mark.parametrize("selection", ["auto", *sorted(RANK_REVEALING)])
def test_kahan_with_every_rule_that_looks_at_directions(selection):
    """Its last columns nearly depend on the others, which pivots do not show; without exchanges S = 1e8."""
    A = lr.gallery.kahan(200, np.arccos(0.1))
    s = np.linalg.svd(A, compute_uv=False)
    f = lr.column_id(A, rank=199, selection=selection, rng=7)
    assert f.rank == 199
    assert np.linalg.norm(A - f.to_dense(), 2) <= 5 * s[199]
    A = lr.gallery.kahan(200)  # sigma_200 = 4e-25 of the largest: only rounding can be asked for
    f = lr.column_id(A, rank=199, selection=selection, rng=7)
    assert np.linalg.norm(A - f.to_dense(), 2) <= 5 * np.finfo(float).eps * s[0]


def test_no_error_above_that_of_zero_in_the_spectral_norm():
    """A few heavy rows among many empty ones: coefficients of a sketch are within 1 by their squares alone."""
    A = np.zeros((3000, 120))
    A[:40] = np.random.default_rng(5).standard_normal((40, 120))
    size = np.linalg.norm(A, 2)
    f = lr.column_id(A, rank=10, norm="spectral", rng=1025)  # a sketch that is unlucky: 1.23 before the repair
    assert np.linalg.norm(A - f.to_dense(), 2) <= 1.0001 * size
    assert f.status is lr.Status.REPAIRED
