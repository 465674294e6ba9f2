"""Tolerance mode on what is unusual: shapes, scales, kinds, ranks that are exact, tolerances that cannot be reached."""

import re

import numpy as np
import pytest
import scipy.sparse
from scipy.sparse.linalg import aslinearoperator

import lowrank as lr
from benchmarks.bench_lowrank_tolerance import trials
from lowrank import gallery
from lowrank.operands import as_operand
from lowrank.passes import first_pass
from lowrank.projection import Projection
from lowrank.tolerance import ordered

MAKERS = [lr.column_id, lr.row_id, lr.cur]
NORMS = ["fro", "spectral"]
MET = (lr.Status.TOLERANCE_MET, lr.Status.TOLERANCE_EXACT)


@pytest.mark.parametrize("norm, count", [("fro", 30), ("spectral", 10)])
def test_a_slice_of_the_trials(norm, count):
    """Errors in the Frobenius norm are known exactly where numbers allow it, and 99.9 % otherwise: more than one miss
    of 30 is seen once in 2000 runs of other seeds; these are fixed."""
    found = list(trials(count, norm, seed=7000))
    assert sum(not trial.within for trial in found) <= 1
    assert np.median([trial.rank / max(trial.least, 1) for trial in found]) <= 1.2


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("make", MAKERS)
def test_rows_columns_and_exact_rank(rng, make, norm):
    for A in (rng.standard_normal((1, 30)), rng.standard_normal((30, 1))):
        f = make(A, tol=1e-3, rng=7, norm=norm)
        assert f.rank == 1
        assert f.relative_error(A) <= 1e-12
    A = gallery.exact_rank(300, 120, 5, rng=rng)
    f = make(A, tol=1e-6, rng=7, norm=norm)
    assert f.rank == 5
    assert f.status in MET
    assert f.relative_error(A) <= 1e-10


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("make", MAKERS)
def test_scales_dtypes_and_kinds(rng, make, norm, tmp_path):
    A = gallery.exponential_decay(260, 70, scale=6, rng=rng)
    np.save(tmp_path / "A.npy", A)
    kinds = [
        A * 1e-300, A * 1e300, A.astype(np.float32) * np.float32(1e-30), A.astype(np.complex128) * 1j,
        np.asfortranarray(A), scipy.sparse.csr_array(A * 1e-300), aslinearoperator(A),
        np.load(tmp_path / "A.npy", mmap_mode="r"),
    ]  # fmt: skip
    ranks = set()
    for kind in kinds:
        f = make(kind, tol=3e-2, rng=7, norm=norm)
        assert f.status in MET
        dense = A if not isinstance(kind, (np.ndarray, scipy.sparse.csr_array)) else kind
        assert f.relative_error(dense, norm=norm) <= 3e-2
        ranks.add(f.rank)
    assert max(ranks) <= 1.4 * min(ranks) + 2


@pytest.mark.parametrize("make", MAKERS)
def test_no_tolerance_at_all_and_one_below_rounding(rng, make):
    A = gallery.exact_rank(150, 60, 5, noise=1e-14, rng=rng)
    with pytest.raises(ValueError, match=re.escape("tol=0 is not a positive finite number; pass a relative error")):
        make(A, tol=0, rng=7)
    for norm in NORMS:
        f = make(A, tol=1e-30, rng=7, norm=norm)
        assert f.status is lr.Status.TOLERANCE_MISSED
        assert "too near to rounding" in f.explain()
        assert f.relative_error(A) <= 1e-12
        assert make(A, tol=7.0, rng=7, norm=norm).rank == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
def test_a_projection_that_grew_is_that_of_all_columns(rng, dtype):
    """Beside the QR of the columns themselves: the errors of every rank, and the coefficients of the last."""
    A = gallery.polynomial_decay(300, 80, rng=rng, dtype=dtype)
    eps = float(np.finfo(dtype).eps)
    for matrix in (A, scipy.sparse.csr_array(A)):
        start = first_pass(as_operand(matrix), 30, rng, probes=0, workers=2)
        J, R, _ = ordered(start.sketch.Y, np.arange(30), 1)
        P = Projection(start.operand, J, R, 2)
        for size in (7, 8, 20):
            P.extend(size)
        Q, _ = np.linalg.qr(A[:, J[:20]])
        for j in (1, 7, 8, 15, 20):
            truth = np.linalg.norm(A - Q[:, :j] @ (Q[:, :j].conj().T @ A)) ** 2 / np.linalg.norm(A) ** 2
            assert abs(P.tails(start.sketch.squared_norm)[j - 1] - truth) <= 64 * eps
        Z = P.coefficients(20)
        best = np.linalg.norm(A - Q @ (Q.conj().T @ A))
        assert np.linalg.norm(A - A[:, J[:20]] @ Z) <= best + 300 * eps * np.linalg.norm(A)


def test_a_sketch_that_sees_little_is_noticed(rng):
    """Rows that the user's sketch misses: the Gram matrix says so, and a QR of the columns takes its place."""
    A = rng.standard_normal((200, 40)) * np.r_[np.full(40, 1e-3), np.ones(160)][:, None]
    S = np.zeros((40, 200))
    S[:, :40] = np.eye(40)
    f = lr.column_id(A, tol=0.3, sketch=S, rng=7)
    assert f.relative_error(A) <= 0.3
    assert f.certificate.interval[0] <= f.relative_error(A) <= f.certificate.interval[1]


@pytest.mark.parametrize("first", ["equal entries", "one large entry"])
def test_what_sums_of_many_rows_round_away_is_not_called_exact(rng, first):
    """100000 squares of 0.1 add up to 1e-13 too little, and squares of 1e-8 to nothing beside a one."""
    m, tol = 100_000, 1e-6
    A = rng.standard_normal((m, 6))
    A *= 1.02 * tol / np.linalg.norm(A)
    A[:, 0] = 0.1 / np.sqrt(0.01 * m)
    if first == "one large entry":
        A[:, 0] = 1.02 * tol / np.sqrt(m)
        A[0, 0], A[0, 1:] = 1.0, 0.0
    f = lr.column_id(A, tol=tol, rng=rng)
    error = np.linalg.norm(A - f.C @ f.coefficients) / np.linalg.norm(A)
    assert error <= tol
    assert f.status in MET
    low, high = f.certificate.interval
    assert low <= error <= high or f.certificate.probes == 10


@pytest.mark.parametrize("dtype", [np.float32, np.complex64])
def test_single_precision_reaches_what_it_can_resolve(dtype, rng):
    """The 96th pivot of this spectrum is 1e-4 of the first: 1000 eps, but no column of rounding alone."""
    s = 1.0 / np.arange(1, 401) ** 2
    A = gallery.with_spectrum(1200, 400, s, basis="cheap", rng=rng).astype(dtype)
    f = lr.column_id(A, tol=1e-4, rng=rng)
    assert f.status in MET
    assert f.relative_error(A) <= 1.02e-4


@pytest.mark.parametrize("make", [*MAKERS, lr.two_sided_id])
@pytest.mark.parametrize("tol", [1e-3, 1e-5])
def test_what_is_called_exact_on_kahan_is_what_the_factors_give(make, tol, rng):
    """Pivoted QR keeps the first columns in their order, with coefficients of 1e20 and a product that is noise."""
    A = gallery.kahan(200)
    f = make(A, tol=tol, rng=rng)
    error = np.linalg.norm(A - f.to_dense()) / np.linalg.norm(A)
    assert f.status in MET
    assert error <= tol
    if f.certificate.probes == 0:
        assert f.certificate.interval[0] <= error <= f.certificate.interval[1]


@pytest.mark.parametrize("tol", [1e-3, 1e-5])
def test_large_coefficients_without_exchanges_are_judged_by_probes(tol, rng, monkeypatch):
    """Of a matrix whose candidates leave no better choice; the rounding in C Z is what the probes see here."""
    monkeypatch.setattr("lowrank.tolerance._exchanged", lambda *options: None)
    A = gallery.kahan(200)
    f = lr.column_id(A, tol=tol, rng=rng)
    error = np.linalg.norm(A - f.to_dense()) / np.linalg.norm(A)
    assert f.certificate.probes == 10
    assert f.status is lr.Status.TOLERANCE_MISSED or error <= tol
    assert f.certificate.interval[0] / 3 <= error <= 3 * f.certificate.interval[1]


@pytest.mark.parametrize("make", [*MAKERS, lr.two_sided_id])
def test_rows_that_grow_and_single_precision(make, rng):
    """The transpose of Kahan's matrix, whose rows cancel; single precision runs out of digits sooner."""
    A = gallery.kahan(200).T.copy()
    f = make(A, tol=1e-5, rng=rng)
    assert np.linalg.norm(A - f.to_dense()) <= 1e-5 * np.linalg.norm(A)
    assert f.status in MET
    f = make(A.T.astype(np.float32), tol=1e-3, rng=rng)
    assert np.linalg.norm(A.T - f.to_dense()) <= np.linalg.norm(A)
