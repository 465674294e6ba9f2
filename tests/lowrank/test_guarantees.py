"""What the certificates of the factorisations promise, at a declared false-alarm rate."""

import pytest
from scipy.stats import binom

import lowrank as lr

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
