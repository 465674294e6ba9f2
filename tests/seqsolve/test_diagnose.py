"""A diagnosis tells contraction from chaos before the solve, and says what it would cost."""

import math

import numpy as np
import pytest
import torch

import seqsolve as sq


def tensor(rng, *shape):
    return torch.from_numpy(rng.standard_normal(shape))


def test_a_linear_recurrence_has_a_known_exponent(rng):
    u = 0.1 * tensor(rng, 400, 2)
    found = sq.diagnose(lambda x, u: 0.7 * x + u, torch.ones(2).double(), u)
    assert isinstance(found, sq.Diagnosis)
    assert found.lyapunov == pytest.approx(math.log(0.7), abs=1e-9)
    # 0.7^k < 1e-4 of the scale, which is about the size of the states
    assert 10 <= found.forgetting_length <= 40
    assert set(found.predictions) == set(sq.METHODS)
    assert found.predictions["newton"].sweeps <= 2 or math.isnan(found.predictions["newton"].sweeps)  # one update
    assert found.sample == 128
    assert "verdict: " in found.explain()


def test_chaos_is_said_beforehand():
    found = sq.diagnose(sq.gallery.logistic(3.99), torch.tensor([0.3]).double(), torch.zeros(30_000, 1).double())
    assert found.lyapunov == pytest.approx(0.64, abs=0.08)
    assert found.forgetting_length == math.inf
    assert found.method == "sequential"
    assert "chaotic" in found.reason


def test_norms_of_the_jacobians(rng):
    A = torch.diag(torch.tensor([0.9, 0.1])).double()
    found = sq.diagnose(lambda x, u: x @ A.T + u, torch.zeros(2).double(), tensor(rng, 150, 2))
    assert found.jacobian_norms == pytest.approx((0.9, 0.9))
    assert "spectral norm 0.9 at the median, 0.9 at most" in found.explain()


def test_states_that_stop_being_finite(rng):
    u = tensor(rng, 200, 1)
    u[50] = np.nan
    found = sq.diagnose(lambda x, u: 0.5 * x + u, torch.zeros(1).double(), u)
    assert found.reason == "the states stop being finite at step 50"
    with pytest.raises(ValueError, match="nothing to diagnose: 0 steps"):
        sq.diagnose(lambda x, u: x, torch.zeros(1), torch.zeros(0, 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_exponent_of_what_forgets_at_once_is_not_cut_at_underflow(dtype):
    d = sq.diagnose(lambda x, u: 0.1 * x + u, torch.zeros(2, dtype=dtype), torch.ones(600, 1, dtype=dtype))
    assert d.lyapunov == pytest.approx(math.log(0.1), rel=0.02)
