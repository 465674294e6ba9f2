"""Nystrom to a tolerance in the Frobenius and spectral norm: true errors, few landmarks, nested as for the trace."""

import numpy as np
import pytest

import lowrank as lr

ORDER = {"fro": None, "spectral": 2}


@pytest.mark.parametrize("norm", ["fro", "spectral"])
def test_the_true_error_is_within_and_the_rank_near_the_least(norm):
    """10 trials of one look in a thousand each: a miss is seen once in 100 runs of other seeds; these are fixed."""
    ranks = []
    for seed in range(500, 510):
        rng = np.random.default_rng(seed)
        X, tol = rng.standard_normal((int(rng.integers(60, 200)), 3)), 10 ** rng.uniform(-4, -0.5)
        kernel = [lr.GaussianKernel(bandwidth=2.0), lr.LaplaceKernel(bandwidth=2.0)][seed % 2]
        f, K = lr.nystrom(kernel, X, tol=tol, norm=norm, rng=seed, workers=1), kernel(X, X)
        size = np.linalg.norm(K, ORDER[norm])
        errors = [
            np.linalg.norm(K - f.factor[:, :r] @ f.factor[:, :r].T, ORDER[norm]) / size for r in range(f.rank + 1)
        ]
        assert errors[-1] <= tol
        assert f.status is lr.Status.TOLERANCE_MET
        assert f.certificate.norm == norm
        ranks.append(f.rank / max(int(np.argmax(np.array(errors) <= tol)), 1))
    assert np.median(ranks) <= 1.3


@pytest.mark.parametrize("norm", ["fro", "spectral"])
@pytest.mark.parametrize("selection", ["rpcholesky", "greedy"])
def test_landmarks_are_nested_and_any_scale_and_dtype(rng, norm, selection):
    X = rng.standard_normal((120, 2))
    K = lr.GaussianKernel(bandwidth=2.0)(X, X)
    f = lr.nystrom(K, tol=1e-2, norm=norm, selection=selection, rng=7)
    more = lr.nystrom(K, rank=f.rank + 5, selection=selection, rng=7)
    np.testing.assert_array_equal(f.landmarks, more.landmarks[: f.rank])
    for other in (K * 1e-300, K * 1e300, K.astype(np.float32), K.astype(np.complex64) * np.complex64(1e-25)):
        g = lr.nystrom(other, tol=1e-2, norm=norm, selection=selection, rng=7)
        assert g.relative_error(other, norm=norm) <= 1e-2
        assert abs(g.rank - f.rank) <= 2


@pytest.mark.parametrize("norm", ["fro", "spectral"])
def test_loose_tight_and_nothing(rng, norm):
    K = np.diag([3.0, 2.0, 1.0, 0.0])
    assert lr.nystrom(K, tol=1.0, norm=norm, rng=7).rank == 0
    assert lr.nystrom(0 * K, tol=0.1, norm=norm, rng=7).status is lr.Status.ZERO
    assert lr.nystrom(K, tol=1e-9, norm=norm, rng=7).rank == 3
    X = rng.standard_normal((80, 3))
    f = lr.nystrom(lr.LaplaceKernel(bandwidth=2.0)(X, X), tol=1e-30, norm=norm, rng=7)
    assert f.status is lr.Status.TOLERANCE_MISSED or f.rank == 80
    with pytest.raises(ValueError, match="chooses all landmarks at once, so pass rank= with it"):
        lr.nystrom(K, tol=0.1, norm=norm, selection="uniform")
