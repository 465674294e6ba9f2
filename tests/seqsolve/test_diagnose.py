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
    assert found.predictions["newton"].sweeps <= 2  # linear: one update
    assert found.sample == 400
    assert "verdict: " in found.explain()


def test_chaos_is_said_beforehand():
    found = sq.diagnose(sq.gallery.logistic(3.99), torch.tensor([0.3]).double(), torch.zeros(600, 1).double())
    assert found.lyapunov == pytest.approx(0.64, abs=0.08)
    assert found.forgetting_length == math.inf
    assert found.method == "sequential"
    assert "chaotic" in found.reason


def test_auto_follows_the_diagnosis(rng):
    module = sq.gallery.torch_init("gru", 3, 8, rng=rng)
    u = tensor(rng, 300, 3).float()
    found, solution = sq.diagnose(module, torch.zeros(8), u), sq.solve(module, torch.zeros(8), u)
    assert (found.method, found.reason) == (solution.method, solution.reason)
    assert "fused loop" in found.reason
    assert found.lyapunov < 0
    short = sq.solve(lambda x, u: 0.5 * x + u, torch.zeros(1), torch.ones(9, 1))
    assert short.reason == "9 steps are too few to gain from anything else"
    long = sq.solve(lambda x, u: 0.5 * x + u, torch.zeros(1), torch.ones(600, 1))
    assert "fastest on a sample" in long.reason
    assert long.ok


def test_states_that_stop_being_finite(rng):
    u = tensor(rng, 200, 1)
    u[50] = np.nan
    found = sq.diagnose(lambda x, u: 0.5 * x + u, torch.zeros(1).double(), u)
    assert found.reason == "the states stop being finite at step 50"
    with pytest.raises(ValueError, match="nothing to diagnose: 0 steps"):
        sq.diagnose(lambda x, u: x, torch.zeros(1), torch.zeros(0, 1))
