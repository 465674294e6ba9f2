"""The table of F, S and projF measures what it says."""

import numpy as np
import pytest

from benchmarks import quality_table


def test_the_norms_are_those_of_the_singular_values(rng):
    E = rng.standard_normal((40, 25))
    s = np.linalg.svd(E, compute_uv=False)
    for matrix in (E, E.T):
        assert quality_table._norms(matrix, 2.0, 4.0) == pytest.approx((np.sqrt((s**2).sum()) / 2, s[0] / 4))


def test_every_row_is_within_its_bounds(monkeypatch):
    monkeypatch.setitem(quality_table.SIZES, True, (300, 120, 12))
    found = list(quality_table.rows(seeds=1, quick=True, scipy_too=True))
    assert len(found) == 8
    for _, name, _, F, S, projected in found:
        assert 1 <= projected <= F * (1 + 1e-12), name  # no coefficients are better than C^+ A, no columns than the SVD
        assert S >= 1
