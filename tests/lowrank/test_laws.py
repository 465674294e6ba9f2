"""Laws of the factorisations on random matrices of every shape, dtype and kind, with every selection and core."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
from hypothesis import assume, given
from hypothesis import strategies as st

import lowrank as lr
from lowrank.results import Status
from lowrank.selection import RANK_REVEALING
from tests.reference import leave_out

DRAWN = [name for name in lr.SELECTIONS if name != "given"]
CORES = ("auto", "sketched", "optimal", "cross")
DTYPES = ("f4", "f8", "c8", "c16")
KINDS = ("gaussian", "decay", "low rank", "copies", "zeros", "sparse", "columns", "rows", "constant", "spike", "ends")
MAKERS = (lr.column_id, lr.row_id, lr.two_sided_id, lr.cur)

seeds = st.integers(2, 2**32 - 1)
sizes = st.one_of(st.integers(0, 60), st.sampled_from([1, 2, 150]))
makers = pytest.mark.parametrize("make", MAKERS)


def matrix(m: int, n: int, dtype: str, kind: str, rng: np.random.Generator) -> np.ndarray:
    A = rng.standard_normal((m, n)) + (1j * rng.standard_normal((m, n)) if dtype[0] == "c" else 0)
    if min(m, n) == 0:
        return A.astype(dtype)
    if kind == "decay":
        U, s, V = np.linalg.svd(A, full_matrices=False)
        A = U * np.exp(-rng.uniform(0.01, 3) * np.arange(len(s))) @ V
    elif kind == "low rank":
        r = 1 + int(rng.integers(min(m, n)))
        A = A[:, :r] @ A[:r]
    elif kind == "copies":
        A = A[:, rng.integers(0, n, n)][rng.integers(0, m, m)]
    elif kind == "zeros":
        A = A * (rng.random(n) < 0.4) * (rng.random(m) < 0.6)[:, None]
    elif kind == "sparse":
        A = A * (rng.random((m, n)) < 0.08)
    elif kind == "columns":
        A = A * np.geomspace(1, 10.0 ** -rng.uniform(1, 18), n)
    elif kind == "rows":
        A = A * np.geomspace(1, 10.0 ** -rng.uniform(1, 18), m)[:, None]
    elif kind == "constant":
        A = np.full_like(A, 3)
    elif kind == "spike":
        A = 1e-9 * A
        A[rng.integers(m), rng.integers(n)] = 1
    elif kind == "ends":  # of the range of the dtype
        A = A * 2.0 ** (rng.choice([-0.96, 0.96]) * np.finfo(dtype).maxexp)
    return A.astype(dtype)


@st.composite
def problems(draw):
    """(A, options, seed) of a factorisation."""
    seed = draw(seeds)
    A = matrix(draw(sizes), draw(sizes), draw(st.sampled_from(DTYPES)), draw(st.sampled_from(KINDS)),
               np.random.default_rng(seed))  # fmt: skip
    options = {"rank": draw(st.integers(0, min(A.shape))), "selection": draw(st.sampled_from(DRAWN)), "rng": seed}
    return A, options, draw(st.sampled_from(CORES)), draw(st.sampled_from(["fast", "best"])), draw(st.integers(0, 4))


def special(make, A, rank, core, quality, oversample) -> dict:
    """The options that only some of the factorisations have."""
    if make is lr.cur:
        return {"core": core, "oversample": min(oversample, A.shape[0] - rank)}
    return {"quality": quality}


def distance(A: np.ndarray, B: np.ndarray) -> float:
    """``||A - B||_F / ||A||_F`` in double precision at any scale; 0 for equal zeros."""
    unit = float(max(np.abs(A.real).max(initial=0.0), np.abs(A.imag).max(initial=0.0))) or 1.0
    wide = np.complex128 if A.dtype.kind == "c" else np.float64
    A, B = A.astype(wide) / unit, B.astype(wide) / unit
    size = float(np.linalg.norm(A))
    return float(np.linalg.norm(A - B)) / (size or 1.0)


@makers
@given(problem=problems())
def test_a_factorisation_keeps_what_it_promises(make, problem):
    A, options, core, quality, oversample = problem
    f = make(A, **options, **special(make, A, options["rank"], core, quality, oversample))
    B, eps = f.to_dense(), np.finfo(A.dtype).eps
    assert B.dtype == f.dtype == A.dtype
    assert B.shape == f.shape == A.shape
    assert f.rank <= options["rank"]
    error = distance(A, B)
    assert error <= 1 + 1e3 * eps, f"zero would be nearer: {f.explain()}"
    low, high = f.certificate.interval
    assert low / 4 - 1e4 * eps <= error <= 4 * high + 1e4 * eps, f.explain()
    if f.status is Status.EXACT_RANK:
        assert error <= 1e4 * eps * max(A.shape)
    if hasattr(f, "C"):
        assert np.array_equal(f.C, A[:, f.columns if make is lr.cur else f.indices])
    if hasattr(f, "R"):
        assert np.array_equal(f.R, A[f.rows if make is lr.cur else f.indices])
    if make is lr.two_sided_id:
        assert np.array_equal(f.block, A[np.ix_(f.rows, f.columns)])
        assert np.array_equal(f.left[f.rows], np.eye(len(f.rows)))
        assert np.array_equal(f.right[:, f.columns], np.eye(f.rank))


@makers
@given(problem=problems())
def test_one_seed_one_answer(make, problem):
    A, options, core, quality, oversample = problem
    options |= special(make, A, options["rank"], core, quality, oversample)
    B = make(A, workers=1, **options).to_dense()
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "A.npy", A)
        mapped = np.load(Path(folder) / "A.npy", mmap_mode="r") if A.size else A  # an empty file cannot be mapped
        for other, workers in ((A, 3), (np.asfortranarray(A), 2)):
            assert np.array_equal(make(other, workers=workers, **options).to_dense(), B)
        # a pass in blocks may group its sums otherwise
        assert distance(B, make(mapped, workers=2, **options).to_dense()) <= 1e4 * np.finfo(A.dtype).eps
        del mapped


@pytest.mark.parametrize("make", [lr.column_id, lr.row_id])
@given(problem=problems())
def test_an_id_reproduces_the_chosen_columns_to_the_last_bit(make, problem):
    A, options, _, quality, _ = problem
    f = make(A, quality=quality, **options)
    if make is lr.column_id:
        assert np.array_equal(f.coefficients[:, f.indices], np.eye(f.rank))
        assert np.array_equal(f.to_dense()[:, f.indices], A[:, f.indices])
    else:
        assert np.array_equal(f.coefficients[f.indices], np.eye(f.rank))
        assert np.array_equal(f.to_dense()[f.indices], A[f.indices])


@given(problem=problems())
def test_transpose_duality(problem):
    A, options, _, quality, _ = problem
    f, g = lr.row_id(A, quality=quality, **options), lr.column_id(A.T, quality=quality, **options)
    assert np.array_equal(f.indices, g.indices)
    assert np.array_equal(f.coefficients, g.coefficients.T)
    assert np.array_equal(f.R, g.C.T)
    assert f.certificate == g.certificate
    rank, name, seed = options["rank"], options["selection"], options["rng"]
    rows = lr.select_rows(A, rank, method=name, rng=seed)
    assert np.array_equal(rows, lr.select_columns(A.T, rank, method=name, rng=seed))


@given(problem=problems())
def test_a_sparse_matrix_is_factorised_like_its_transpose(problem):
    A, options, _, _, _ = problem
    S = scipy.sparse.csr_array(A)
    f, g = lr.row_id(S, **options), lr.column_id(S.T, **options)
    assert np.array_equal(f.indices, g.indices)
    assert np.array_equal(f.coefficients, g.coefficients.T)
    assert scipy.sparse.issparse(f.R)
    assert np.array_equal(f.R.toarray(), A[f.indices])


@makers
@given(problem=problems(), exponent=st.integers(-30, 30))
def test_powers_of_two_pass_through(make, problem, exponent):
    A, options, core, quality, oversample = problem
    options |= special(make, A, options["rank"], core, quality, oversample)
    power = A.real.dtype.type(2.0**exponent)
    with np.errstate(over="ignore", under="ignore"):
        scaled = A * power
        # nothing may be rounded: neither overflow, nor digits lost below the normal numbers
        assume(np.isfinite(scaled).all() and np.array_equal(scaled / power, A))
    f, g = make(A, **options), make(scaled, **options)
    if make is lr.column_id or make is lr.row_id:
        assert np.array_equal(f.indices, g.indices)
        assert np.allclose(f.coefficients, g.coefficients, rtol=0, atol=0)
    else:
        assert np.array_equal(f.columns, g.columns)
        assert np.array_equal(f.rows, g.rows)
        assert distance(f.to_dense(), (g.to_dense() / power).astype(A.dtype)) <= 1e3 * np.finfo(A.dtype).eps
    assert f.certificate.estimate == pytest.approx(
        g.certificate.estimate, rel=1e-3, abs=1e3 * float(np.finfo(A.dtype).eps)
    )


@pytest.mark.parametrize("name", sorted(RANK_REVEALING - {"arp", "rbrp", "column_sampling"} | {"auto", "norm"}))
@given(m=st.integers(1, 120), n=st.integers(1, 40), seed=seeds, factor=st.floats(1e-3, 1e3))
def test_order_and_scale_of_the_columns(name, m, n, seed, factor):
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((m, n))
    k = max(1, seed % min(m, n))
    order = rng.permutation(n)
    f = lr.column_id(A, rank=k, selection=name, rng=seed)
    g = lr.column_id(np.ascontiguousarray(A[:, order]), rank=k, selection=name, rng=seed)
    assert order[g.indices].tolist() == f.indices.tolist()
    tall = np.abs(f.coefficients).max()
    assert np.allclose(g.coefficients, f.coefficients[:, order], atol=1e-9 * tall)
    h = lr.column_id(factor * A, rank=k, selection=name, rng=seed)
    assert h.indices.tolist() == f.indices.tolist()
    assert np.allclose(h.coefficients, f.coefficients, atol=1e-9 * tall)


@pytest.mark.parametrize("name", ["qr", "greedy_error"])
@given(m=st.integers(2, 12), n=st.integers(2, 40), seed=seeds)
def test_nested_rules_only_get_better(name, m, n, seed):
    """Where the sketch is the matrix itself these rules add a column to those of the rank before."""
    A = np.random.default_rng(seed).standard_normal((m, n))
    before, error = [], np.linalg.norm(A)
    for k in range(1, min(m, n) + 1):
        J = lr.select_columns(A, k, method=name, rng=7).tolist()
        assert J[: k - 1] == before
        now = np.linalg.norm(leave_out(A, J))
        assert now <= error * (1 + 1e-12) + 1e-13 * np.linalg.norm(A)
        before, error = J, now


@makers
def test_more_rank_is_less_error(rng, make):
    """Not a law for one seed and neighbouring ranks; a fourfold rank leaves an eighth of the optimum on j^-2."""
    A = lr.gallery.polynomial_decay(300, 80, rng=rng)
    for seed in range(30, 36):
        errors = [make(A, rank=k, rng=seed).relative_error(A) for k in (2, 8, 32)]
        assert errors == sorted(errors, reverse=True)


@makers
@pytest.mark.parametrize("dtype", DTYPES)
@given(m=st.integers(1, 90), n=st.integers(1, 60), seed=seeds)
def test_exact_rank_is_recovered_to_100_eps(make, dtype, m, n, seed):
    rng = np.random.default_rng(seed)
    r = 1 + seed % max(1, min(m, n) // 2)
    L, R = (np.linalg.qr(matrix(size, r, dtype, "gaussian", rng))[0] for size in (m, n))
    A = L @ R.conj().T
    eps = np.finfo(dtype).eps
    assume(r <= min(m, n))
    f = make(A, rank=min(r + 3, m, n), rng=seed)
    assert f.rank == r
    assert f.status in (Status.EXACT_RANK, Status.RANK_REACHED)
    assert distance(A, f.to_dense()) <= 100 * eps


@given(m=st.integers(1, 40), n=st.integers(1, 60), seed=seeds, kind=st.sampled_from(KINDS[:-1]))
def test_strong_rrqr_bounds_its_coefficients(m, n, seed, kind):
    A = matrix(m, n, "f8", kind, np.random.default_rng(seed))
    k = max(1, min(m, n, (m - 16) // 3 + 1 + seed % 5)) if m > 16 else 1 + seed % min(m, n)
    assume(m <= k + 11)  # the rule then sees A itself
    f = lr.column_id(A, rank=k, selection="strong_rrqr", rng=seed)
    assert np.abs(f.coefficients).max(initial=0.0) <= 2 * (1 + 1e-6)
    s = np.linalg.svd(A, compute_uv=False)
    left = np.linalg.norm(leave_out(A, f.indices), 2) if f.rank else np.linalg.norm(A, 2)
    assert left <= np.sqrt(1 + 4 * k * (n - k)) * (s[k] if k < len(s) else 0.0) + 1e-12 * s[0]
