"""What holds for every selection: edges, equivariance, exact-rank input, Kahan's matrix, the registry's entries."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowrank.selection import SELECTIONS, Candidates
from lowrank.selection.strong_rrqr import exchanges
from tests.reference import leave_out

PIVOTING = ("deim", "qdeim", "maxvol", "rect_maxvol", "strong_rrqr", "greedy_error", "aca")
DRAWING = ("arp", "rbrp", "norm_sampling", "leverage", "ridge_leverage", "column_sampling", "kmeans")
NAMES = PIVOTING + DRAWING
SPANNING = (*PIVOTING, "arp", "rbrp", "column_sampling")  # these stop where nothing but rounding is left

every = pytest.mark.parametrize("name", NAMES)
spanning = pytest.mark.parametrize("name", SPANNING)


@pytest.fixture(autouse=True)
def one_blas_thread():
    from lowrank._threads import blas_threads

    with blas_threads(1):
        yield


def choose(name, Y, k, seed=2718, exact=True):
    size = np.abs(Y).max(initial=0.0) or 1.0
    with np.errstate(invalid="ignore"):
        norms = np.sum(np.abs(Y / size) ** 2, axis=0, dtype=np.float64)
    return SELECTIONS[name](
        Candidates(Y=Y, squared_norms=norms, k=k, rng=np.random.default_rng(seed), exact=exact)
    ).indices


def gaussian(rng, m, n, kind=float):
    return rng.standard_normal((m, n)) + (1j * rng.standard_normal((m, n)) if kind is complex else 0)


def decaying(rng, m, n, kind=float, rate=0.3):
    r = min(m, n)
    U, V = (np.linalg.qr(gaussian(rng, size, r, kind))[0] for size in (m, n))
    return U * np.exp(-rate * np.arange(r)) @ V.conj().T


def kahan(n, c=0.1):
    s = np.sqrt(1 - c * c)
    return s ** np.arange(n)[:, None] * (np.eye(n) - c * np.triu(np.ones((n, n)), 1))


def test_the_registry_names_each_rule_with_its_guarantee_and_paper():
    for name in NAMES:
        entry = SELECTIONS[name]
        assert entry.name == name
        assert len(entry.guarantee) > 20
        assert "(" in entry.reference
        assert "doi 10." in entry.reference or "arXiv " in entry.reference


# --- edges ---


@every
@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (1, 7), (7, 1), (6, 6)])
def test_no_columns_wanted_or_none_there(name, shape):
    Y = np.ones(shape)
    assert choose(name, Y, 0).shape == (0,)
    found = choose(name, Y, min(shape))
    assert found.dtype == np.int64
    assert len(found) == min(1, *shape) if name in SPANNING else len(found) <= min(shape)


@every
@pytest.mark.parametrize("shape", [(9, 9), (6, 15), (15, 6), (1, 4), (4, 1)])
@pytest.mark.parametrize("kind", [float, complex])
def test_as_many_as_there_are(rng, name, shape, kind):
    Y = gaussian(rng, *shape, kind)
    found = choose(name, Y, min(shape)).tolist()
    assert len(set(found)) == len(found)
    assert all(0 <= j < shape[1] for j in found)
    assert len(found) == min(shape) if name != "kmeans" else len(found) >= 1


@every
def test_zero_matrix_has_nothing_to_choose(name, strict_floats):
    assert choose(name, np.zeros((5, 8)), 3).shape == (0,)


@every
@pytest.mark.parametrize("kind", [float, complex])
def test_zero_columns_are_left_alone(rng, name, kind):
    Y = gaussian(rng, 8, 12, kind)
    Y[:, ::2] = 0
    found = choose(name, Y, 6)
    assert np.all(found % 2 == 1)
    assert len(found) == 6 or name == "kmeans"


@spanning
@pytest.mark.parametrize("kind", [float, complex])
def test_copies_are_taken_once(rng, name, kind):
    Y = np.repeat(gaussian(rng, 10, 5, kind), 4, axis=1)
    found = choose(name, Y, 9)
    assert sorted((found // 4).tolist()) == [0, 1, 2, 3, 4]


@spanning
@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("kind", [float, complex])
def test_exact_rank_is_found_and_recovered(rng, name, kind, exact):
    A = gaussian(rng, 40, 6, kind) @ gaussian(rng, 6, 30, kind)
    for k in (6, 11):
        J = choose(name, A, k, exact=exact)
        assert len(J) == 6
        error = np.linalg.norm(leave_out(A, J)) / np.linalg.norm(A)
        assert error <= 100 * np.finfo(float).eps * np.linalg.cond(A[:, J]) / np.sqrt(6)


@every
def test_graded_columns(rng, name):
    Y = gaussian(rng, 24, 30) * np.geomspace(1e150, 1e-150, 30)
    with np.errstate(under="ignore"):
        found = choose(name, Y, 20)
    assert 0 in found  # the rest lies below its rounding, or comes after it
    assert len(set(found.tolist())) == len(found)


@every
@pytest.mark.parametrize("scale", [1e-300, 1e-150, 1e150, 1e300])
def test_any_scale(rng, name, scale, strict_floats):
    Y = decaying(rng, 20, 30)
    with np.errstate(under="ignore"):
        assert choose(name, Y * scale, 8).tolist() == choose(name, Y, 8).tolist()


@every
@pytest.mark.parametrize("kind", [float, complex])
def test_single_precision_is_read_as_it_is(rng, name, kind):
    Y = decaying(rng, 20, 30, kind).astype(np.complex64 if kind is complex else np.float32)
    assert choose(name, Y, 8).tolist() == choose(name, Y.astype(kind), 8).tolist()


@every
@pytest.mark.parametrize("kind", [float, complex])
@pytest.mark.parametrize("exact", [True, False])
def test_memory_order_and_read_only(rng, name, kind, exact):
    Y = decaying(rng, 33, 30, kind)
    strided = np.repeat(np.repeat(Y, 2, axis=0), 3, axis=1)[::2, ::3]
    Y.flags.writeable = False
    before = Y.copy()
    wanted = choose(name, Y, 8, exact=exact).tolist()
    assert np.array_equal(Y, before)
    assert choose(name, np.asfortranarray(Y), 8, exact=exact).tolist() == wanted
    assert choose(name, strided, 8, exact=exact).tolist() == wanted


@pytest.mark.parametrize("name", [name for name in NAMES if name != "norm_sampling"])  # which never looks at Y
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(name, bad):
    Y = np.ones((4, 5))
    Y[2, 3] = bad
    with pytest.raises(ValueError, match="the sketch is not finite; a selection needs finite entries"):
        choose(name, Y, 2)


@pytest.mark.parametrize("name", DRAWING)
def test_one_seed_one_answer(rng, name):
    Y = decaying(rng, 20, 60, rate=0.05)
    assert choose(name, Y, 8, seed=11).tolist() == choose(name, Y, 8, seed=11).tolist()
    assert len({tuple(choose(name, Y, 8, seed=seed).tolist()) for seed in range(2, 12)}) > 1


# --- laws ---

shapes = st.tuples(st.integers(2, 25), st.integers(2, 25))
seeds = st.integers(2, 2**32 - 1)


@every
@given(shape=shapes, seed=seeds, exponent=st.integers(-300, 300), kind=st.sampled_from([float, complex]))
def test_scale_equivariance(name, shape, seed, exponent, kind):
    Y = gaussian(np.random.default_rng(seed), *shape, kind)
    k = 1 + seed % min(shape)
    assert choose(name, Y * 2.0**exponent, k).tolist() == choose(name, Y, k).tolist()


@pytest.mark.parametrize("name", PIVOTING)
@given(shape=shapes, seed=seeds, kind=st.sampled_from([float, complex]))
def test_permutation_equivariance(name, shape, seed, kind):
    rng = np.random.default_rng(seed)
    Y = gaussian(rng, *shape, kind)
    k = max(1, seed % min(shape))
    order = rng.permutation(shape[1])
    assert order[choose(name, Y[:, order], k)].tolist() == choose(name, Y, k).tolist()


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("aca", "column_sampling")])
@given(shape=shapes, seed=seeds, kind=st.sampled_from([float, complex]))
def test_a_rotation_of_the_rows_changes_nothing(name, shape, seed, kind):
    rng = np.random.default_rng(seed)
    Y = gaussian(rng, *shape, kind)
    Q = np.linalg.qr(gaussian(rng, shape[0], shape[0], kind))[0]
    k = max(1, seed % min(shape))
    assert choose(name, Q @ Y, k).tolist() == choose(name, Y, k).tolist()


@spanning
@given(shape=shapes, seed=seeds, kind=st.sampled_from([float, complex]))
def test_every_column_chosen_adds_a_direction(name, shape, seed, kind):
    rng = np.random.default_rng(seed)
    r = 1 + seed % min(shape)
    A = gaussian(rng, shape[0], r, kind) @ gaussian(rng, r, shape[1], kind)
    J = choose(name, A, min(shape))
    assert len(J) <= r
    assert np.linalg.norm(leave_out(A, J)) <= 1e-8 * np.linalg.norm(A)


# --- Kahan's matrix: graded so that plain pivoting leaves out the wrong column ---


@pytest.mark.parametrize("name", ["arp", "rbrp", "maxvol", "strong_rrqr", "qdeim", "column_sampling"])
@pytest.mark.parametrize("exact", [True, False])
def test_kahan(name, exact):
    A = kahan(200)
    smallest = np.linalg.svd(A, compute_uv=False)[-1]
    J = choose(name, A, 199, exact=exact)
    assert len(J) == 199
    assert np.linalg.norm(leave_out(A, J), 2) <= 5 * smallest


@every
def test_kahan_repaired_by_exchanges(name):
    A = kahan(200)
    smallest = np.linalg.svd(A, compute_uv=False)[-1]
    J, growth = exchanges(A, choose(name, A, 199))
    assert len(set(J.tolist())) == 199
    assert growth <= 2
    assert np.linalg.norm(leave_out(A, J), 2) <= 5 * smallest
