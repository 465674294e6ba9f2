"""The selections without a draw: deim, qdeim, maxvol, rect_maxvol, strong_rrqr, greedy_error, aca."""

import numpy as np
import pytest

from lowrank.selection import SELECTIONS, Candidates
from lowrank.selection.aca import cross
from lowrank.selection.deim import points
from lowrank.selection.greedy_error import pivots as greedy_pivots
from lowrank.selection.maxvol import GROWTH, coefficients, rectangular, square
from lowrank.selection.strong_rrqr import BOUND, exchanges
from lowrank.selection.strong_rrqr import pivots as strong_pivots
from tests.reference import (
    best_exchange,
    cross_approximation,
    deim_points,
    greedy_columns,
    leave_out,
    rectangular_volume,
)

KINDS = pytest.mark.parametrize("kind", [float, complex])


@pytest.fixture(autouse=True)
def one_blas_thread():
    from lowrank._threads import blas_threads

    with blas_threads(1):
        yield


def gaussian(rng, m, n, kind=float):
    return rng.standard_normal((m, n)) + (1j * rng.standard_normal((m, n)) if kind is complex else 0)


def orthonormal(rng, n, k, kind=float):
    return np.linalg.qr(gaussian(rng, n, k, kind))[0]


def choose(name, A, k):
    norms = np.sum(np.abs(A) ** 2, axis=0)
    return SELECTIONS[name](Candidates(Y=A, squared_norms=norms, k=k, rng=np.random.default_rng(5), exact=True)).indices


# --- DEIM ---


@KINDS
def test_deim_points(rng, kind):
    for n, k in ((1, 1), (9, 4), (40, 40), (80, 25)):
        V = orthonormal(rng, n, k, kind)
        assert points(V).tolist() == deim_points(V)


@KINDS
def test_deim_and_qdeim_bounds(rng, kind):
    n, k = 50, 8
    s = 1.0 / np.arange(1, 41)
    V = orthonormal(rng, n, 40, kind)
    A = orthonormal(rng, 60, 40, kind) * s @ V.conj().T
    for name, eta in (
        ("deim", np.sqrt(n * k / 3) * 2**k),
        ("qdeim", np.sqrt(n - k + 1) * np.sqrt(4**k + 6 * k - 1) / 3),
    ):
        J = choose(name, A, k)
        inverse = np.linalg.norm(np.linalg.inv(V[J, :k]), 2)
        assert inverse <= eta
        assert np.linalg.norm(leave_out(A, J), 2) <= inverse * s[k] * (1 + 1e-9)


def test_qdeim_does_not_depend_on_the_basis(rng):
    V = orthonormal(rng, 30, 6)
    s = np.r_[np.ones(6), np.zeros(4)]
    turned = V @ orthonormal(rng, 6, 6)
    tail = np.zeros((30, 4))
    one, two = (orthonormal(np.random.default_rng(3), 20, 10) * s @ np.hstack([W, tail]).T for W in (V, turned))
    assert sorted(choose("qdeim", one, 6)) == sorted(choose("qdeim", two, 6))


# --- maximum volume ---


@KINDS
def test_maxvol_no_exchange_left(rng, kind):
    for n, k in ((3, 1), (12, 4), (40, 7), (9, 9)):
        V = orthonormal(rng, n, k, kind)
        J, largest = square(V)
        assert len(set(J.tolist())) == k
        assert best_exchange(V.conj().T, J.tolist()) <= GROWTH * (1 + 1e-9)
        assert np.abs(coefficients(V, J)).max() == pytest.approx(max(1.0, largest))


def test_maxvol_exchanges_from_a_bad_start(rng):
    # LU starts at the first of equal pivots; the graded rows below make it exchange again and again
    n, k = 200, 30
    V = orthonormal(rng, n, k) * 1.0
    V[:100] *= np.geomspace(1, 1e-8, 100)[:, None]
    J, largest = square(V, growth=1.001)
    assert largest <= 1.001
    assert np.abs(np.linalg.solve(V[J].T, V.T)).max() <= 1.001 * (1 + 1e-9)


@KINDS
def test_rect_maxvol_adds_the_row_of_largest_volume(rng, kind):
    V = orthonormal(rng, 14, 3, kind)
    start = square(V)[0].tolist()
    assert rectangular(V, 7).tolist() == rectangular_volume(V, start, 7)
    assert sorted(rectangular(V, 14).tolist()) == list(range(14))


def test_rect_maxvol_coefficients_shrink_as_rows_are_added(rng):
    V = orthonormal(rng, 120, 12)
    longest = []
    for k in (12, 15, 24, 48):
        J = rectangular(V, k)
        C = np.linalg.lstsq(V[J].T, V.T, rcond=None)[0]
        longest.append(np.delete(np.linalg.norm(C, axis=0), J).max())
    assert longest == sorted(longest, reverse=True)
    assert longest[-1] < 1 < longest[0]


# --- strong rank-revealing QR ---


@KINDS
def test_strong_rrqr_bounds(rng, kind):
    Y = gaussian(rng, 12, 30, kind) * np.geomspace(1, 1e-3, 30)
    for k in (1, 5, 11, 12):
        J, growth = strong_pivots(Y, k)
        Z = np.linalg.lstsq(Y[:, J], Y, rcond=None)[0]
        assert np.abs(Z).max() <= BOUND * (1 + 1e-9)
        assert best_exchange(Y, J.tolist()) <= BOUND * (1 + 1e-9)
        assert growth <= BOUND
        s = np.linalg.svd(Y, compute_uv=False)
        factor = np.sqrt(1 + BOUND**2 * k * (30 - k))
        assert np.all(np.linalg.svd(Y[:, J], compute_uv=False) >= s[:k] / factor * (1 - 1e-9))
        if k < 12:
            assert np.linalg.norm(leave_out(Y, J), 2) <= factor * s[k]


@KINDS
@pytest.mark.parametrize("bound", [1.001, 1.5, 4.0])
def test_exchanges_repair_any_start(rng, kind, bound):
    Y = gaussian(rng, 20, 60, kind) * np.geomspace(1, 1e-6, 60)
    worst = np.arange(59, 39, -1)[:12]
    J, growth = exchanges(Y, worst, bound)
    assert best_exchange(Y, J.tolist()) == pytest.approx(growth, rel=1e-6)
    assert growth <= bound
    Z = np.linalg.lstsq(Y[:, J], Y, rcond=None)[0]
    assert np.abs(Z).max() <= bound * (1 + 1e-9)


def test_exchanges_leave_a_good_choice_alone(rng):
    Y = np.eye(6, 9)
    J, growth = exchanges(Y, [4, 2])
    assert J.tolist() == [4, 2]
    assert growth <= 1.0 + 1e-12


# --- greedy ---


@KINDS
def test_greedy_error_is_the_best_column_each_time(rng, kind):
    for m, n, k in ((8, 12, 5), (30, 10, 10), (6, 20, 5)):
        A = gaussian(rng, m, n, kind) * np.geomspace(1, 0.1, n)
        assert greedy_pivots(A.T.copy(), k).tolist() == greedy_columns(A, k)


def test_greedy_error_keeps_its_digits_over_sixteen_orders_of_magnitude(rng):
    A = orthonormal(rng, 40, 24) * np.geomspace(1, 1e-10, 24) @ orthonormal(rng, 24, 24).T
    ours = choose("greedy_error", A, 20)
    for k in range(1, 21):
        found = np.linalg.norm(leave_out(A, ours[:k]))
        step = min(np.linalg.norm(leave_out(A, [*ours[: k - 1], j])) for j in range(24) if j not in ours[: k - 1])
        assert found <= step * (1 + 1e-3)


# --- crosses ---


@KINDS
def test_cross_is_gaussian_elimination_on_the_residual(rng, kind):
    A = gaussian(rng, 20, 15, kind)
    found = cross(lambda i: A[i], lambda j: A[:, j], A.shape, 9)
    rows, columns = cross_approximation(A, 9)
    assert found.rows.tolist() == rows
    assert found.columns.tolist() == columns
    assert found.entries_read == 9 * (20 + 15)
    assert np.allclose((found.U @ found.V)[rows], A[rows])
    assert np.allclose((found.U @ found.V)[:, columns], A[:, columns])


def test_cross_stops_on_a_smooth_kernel_and_says_what_it_read():
    x, y = np.linspace(0, 1, 300), np.linspace(2, 3, 250)
    A = 1 / np.subtract.outer(x, y)
    found = cross(lambda i: A[i], lambda j: A[:, j], A.shape, 100, tol=1e-8)
    r = len(found.rows)
    assert r < 15
    assert found.entries_read == r * 550
    assert found.estimate <= 1e-8
    assert np.linalg.norm(A - found.U @ found.V) <= 1e-7 * np.linalg.norm(A)


def test_cross_passes_over_rows_that_are_explained(rng):
    A = np.zeros((10, 8))
    A[4:, :5] = rng.standard_normal((6, 2)) @ rng.standard_normal((2, 5))
    found = cross(lambda i: A[i], lambda j: A[:, j], A.shape, 8)
    assert len(found.rows) == 2
    assert np.allclose(found.U @ found.V, A)
    empty = cross(lambda i: np.zeros(8), lambda j: np.zeros(10), (10, 8), 3)
    assert empty.U.shape == (10, 0)
    assert empty.estimate == 0.0
    assert empty.entries_read == 80


@pytest.mark.parametrize("scale", [1e-150, 1e150])
def test_cross_at_any_scale(rng, scale):
    A = rng.standard_normal((12, 6)) @ rng.standard_normal((6, 14))
    one = cross(lambda i: A[i], lambda j: A[:, j], A.shape, 14, tol=1e-6)
    two = cross(lambda i: scale * A[i], lambda j: scale * A[:, j], A.shape, 14, tol=1e-6)
    assert one.columns.tolist() == two.columns.tolist()
    assert np.isclose(one.estimate, two.estimate, rtol=1e-6)
    assert np.allclose(two.U @ two.V / scale, A)
