"""What the certificates and the rules promise, at a declared false-alarm rate.

Elsewhere: arp, norm_sampling and column_sampling in test_selection_sampling, deim, qdeim and strong_rrqr in
test_selection_pivoting, rpcholesky in test_landmarks, `cr` in test_column_row, the sketches in test_sketches.
"""

import math

import numpy as np
import pytest
from scipy.stats import binom, norm

import lowrank as lr
from lowrank.selection import SELECTIONS, Candidates
from lowrank.selection.rbrp import pivots
from tests.reference import leave_out

FALSE_ALARM = 1e-6  # the probability with which each test below fails on correct code
TRIALS = 60
COVERAGE = 0.93  # promised for the 95 % interval


@pytest.mark.parametrize("make", [lr.column_id, lr.row_id, lr.two_sided_id, lr.cur])
def test_certificates_cover_the_truth(rng, make):
    A = lr.gallery.polynomial_decay(60, 40, rng=rng)
    missed = 0
    for seed in rng.integers(2, 2**32, TRIALS):
        f = make(A, rank=5, rng=int(seed))
        low, high = f.certificate.interval
        missed += not low <= f.relative_error(A) <= high
    assert missed <= binom.isf(FALSE_ALARM, TRIALS, 1 - COVERAGE)


@pytest.mark.parametrize("measure", ["fro", "spectral"])
def test_certificates_of_nystrom_cover_the_truth(rng, measure):
    B = lr.gallery.polynomial_decay(60, 60, rng=rng)
    K = B @ B.T
    missed = 0
    for seed in rng.integers(2, 2**32, TRIALS):
        f = lr.nystrom(K, rank=5, norm=measure, rng=int(seed))
        low, high = f.certificate.interval
        missed += not low <= f.relative_error(K, norm=measure) <= high
    assert missed <= binom.isf(FALSE_ALARM, TRIALS, 1 - COVERAGE)


@pytest.mark.parametrize("kind", [float, complex])
@pytest.mark.parametrize("decay", ["slow", "fast", "spike"])
def test_osinsky_is_within_k_plus_one_every_time(rng, decay, kind):
    """``||A - P A||_F^2 <= (k + 1) ||A - A_k||_F^2`` without a draw, so without an exception."""
    s = {"slow": 1.0 / np.arange(1, 31), "fast": np.exp(-np.arange(30.0) / 2), "spike": np.r_[np.ones(6), [1e-3] * 24]}
    for k in (1, 6, 15):
        parts = rng.standard_normal((2, 40, 30)) + (1j * rng.standard_normal((2, 40, 30)) if kind is complex else 0)
        U, V = np.linalg.qr(parts)[0]
        A = U * s[decay] @ V.conj().T
        J = SELECTIONS["osinsky"](Candidates(A, np.sum(np.abs(A) ** 2, axis=0), k, rng, exact=True)).indices
        assert len(J) == k
        assert np.linalg.norm(leave_out(A, J)) ** 2 <= (k + 1) * np.sum(s[decay][k:] ** 2) * (1 + 1e-9)


@pytest.mark.parametrize("decay, r, eps", [(0.5, 2, 0.5), (0.8, 3, 1.0)])
def test_random_pivoting_reaches_its_bound_in_expectation(rng, decay, r, eps):
    """rbrp with blocks of one is randomly pivoted Cholesky of A^T A, whose bound in the trace norm is one of A's error.

    Chen, Epperly, Tropp and Webber (2025), doi 10.1002/cpa.22234: E ||A - P A||_F^2 <= (1 + eps) ||A - A_r||_F^2.
    """
    draws = 200
    s = decay ** np.arange(30.0)
    U, V = np.linalg.qr(rng.standard_normal((2, 40, 30)))[0]
    A = U * s @ V.T
    tail = np.sum(s[r:] ** 2)
    k = math.ceil(r / eps + r * math.log(np.sum(s**2) / (eps * tail)))
    errors = np.array([np.linalg.norm(leave_out(A, pivots(A.copy(), k, rng, block=1))) ** 2 for _ in range(draws)])
    assert errors.mean() <= (1 + eps) * tail + norm.isf(FALSE_ALARM) * errors.std(ddof=1) / np.sqrt(draws)
    assert errors.min() >= np.sum(s[k:] ** 2) * (1 - 1e-9)
