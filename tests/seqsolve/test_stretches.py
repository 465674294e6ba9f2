"""Errors through stretches side by side are those of one step after another, also where not all is forgotten."""

import math

import numpy as np
import pytest
import torch

import seqsolve as sq
from seqsolve import conditioning, stretches
from seqsolve.conditioning import Growth
from seqsolve.recurrence import as_recurrence


def recurrence(rng, n, gain, steps=3000, dtype=torch.float64, batch=()):
    """x <- tanh(A x + u) and its states."""
    A = torch.from_numpy(gain / n**0.5 * rng.standard_normal((n, n))).to(dtype)
    u = torch.from_numpy(0.5 * rng.standard_normal((steps, *batch, n))).to(dtype)
    return solved(lambda x, v: torch.tanh(x @ A.T + v), torch.zeros(*batch, n, dtype=dtype), u)


def logistic(first, last, steps=3000):
    """x <- r x (1 - x), which forgets but from `first` to `last`, where it is chaotic."""
    r = torch.full((steps, 1), 2.7).double()
    r[first:last] = 4.0
    return solved(lambda x, v: v * x * (1 - x), torch.full((1,), 0.3).double(), r)


def solved(step, x0, inputs):
    problem = as_recurrence(step, x0, inputs)
    with torch.no_grad():
        return problem, problem.advance(problem.x0, 0, len(inputs))


def shift(problem, states, k, by):
    """Go on from another state k: one gap, of which the steps after it carry what they do."""
    with torch.no_grad():
        states[k] += by
        states[k + 1 :] = problem.advance(states[k], k + 1, len(states))


def grown(problem, states):
    growth = Growth(problem, torch.finfo(states.dtype).eps)
    with torch.no_grad():
        growth.run(states, 0, len(states))
    return growth


def both(problem, states, monkeypatch):
    """In order, and side by side; how many stretches hung on what came before."""
    open_ones = []

    def counted(*args):
        found = stretches.carried(*args)
        open_ones.append(int((~found.met).sum()))
        return found

    monkeypatch.setattr(conditioning, "carried", counted)
    beside = grown(problem, states)
    monkeypatch.setattr(conditioning, "division", lambda *_: None)
    return grown(problem, states), beside, open_ones


@pytest.mark.parametrize("dtype,close", [(torch.float32, 2e-2), (torch.float64, 1e-5)])
@pytest.mark.parametrize("n,batch", [(2, ()), (12, ()), (40, ()), (3, (2,))])
def test_gaps_are_carried_as_in_order(rng, monkeypatch, dtype, close, n, batch):
    problem, states = recurrence(rng, n, 0.5, dtype=dtype, batch=batch)
    for k in (700, 1333, 2990):
        shift(problem, states, k, 1e-3 * torch.from_numpy(rng.standard_normal((*batch, n))).to(dtype))
    order, beside, open_ones = both(problem, states, monkeypatch)
    assert open_ones == [0]
    assert beside.gaps.largest == pytest.approx(order.gaps.largest, rel=close)
    assert beside.residual == pytest.approx(order.residual, rel=1e-3)
    assert beside.scale == order.scale
    assert torch.allclose(beside.gaps.error, order.gaps.error, rtol=close, atol=close * order.gaps.largest)
    assert beside.amplification == pytest.approx(order.amplification, rel=0.3)  # other signs
    assert beside.lyapunov == pytest.approx(order.lyapunov, rel=0.05)


def test_a_spell_that_amplifies_is_gone_through_in_order(monkeypatch):
    """Errors grow by many decades there, and what the stretch begins with counts."""
    problem, states = logistic(1500, 1520)
    shift(problem, states, 1490, 1e-9)
    order, beside, open_ones = both(problem, states, monkeypatch)
    assert len(open_ones) == 1
    assert 1 <= open_ones[0] <= 4
    assert order.gaps.largest > 1e-6
    assert beside.gaps.largest == pytest.approx(order.gaps.largest, rel=1e-2)
    assert math.log(beside.amplification) == pytest.approx(math.log(order.amplification), abs=2)
    assert beside.lyapunov == pytest.approx(order.lyapunov, rel=0.1)


@pytest.mark.parametrize("gain", [2.2, 3.0])
def test_chaos_is_not_divided(rng, monkeypatch, gain):
    problem, states = recurrence(rng, 24, gain)
    order, beside, open_ones = both(problem, states, monkeypatch)
    assert order.lyapunov > 0
    assert not open_ones
    assert beside.amplification == order.amplification


def test_chaos_that_begins_later_is_seen(monkeypatch):
    problem, states = logistic(1200, 3000)
    order, beside, open_ones = both(problem, states, monkeypatch)
    assert open_ones[0] > 3
    assert order.bound > 1
    assert beside.bound > 1
    found = sq.solve(problem.step, problem.x0, problem.inputs, method="sequential")
    assert not found.ok


def test_the_end_of_the_scale(monkeypatch):
    """A step that forgets all at once, and one that sees states of 1e-200."""
    u = torch.linspace(0, 900, 3000).double().reshape(1500, 2).sin()
    for step, x0 in ((lambda x, v: v + 0 * x, 1.0), (lambda x, v: 0.3 * x + 1e-200 * v, 1e-200)):
        problem = as_recurrence(step, torch.full((2,), x0).double(), u)
        states = problem.advance(problem.x0, 0, 1500)
        order, beside, open_ones = both(problem, states, monkeypatch)
        assert open_ones in ([], [0])
        assert beside.amplification == pytest.approx(order.amplification, rel=1e-6)
        monkeypatch.undo()


def test_a_division_asks_for_a_rate_and_for_steps():
    assert stretches.division(10_000, 32, -0.3)
    C, M = stretches.division(100_000, 4, -0.3) or (0, 0)
    assert C * M < 50_000
    assert M % 8 == 0
    for steps, rate in ((10_000, None), (10_000, 0.0), (10_000, math.nan), (10_000, 0.2), (400, -0.5), (10_000, -0.02)):
        assert stretches.division(steps, 32, rate) is None


def test_the_certificate_of_a_long_step_is_cheaper_than_the_steps(rng):
    """Calls of the step, whatever the number of states in one."""
    calls, A = 0, torch.from_numpy(0.5 / 48**0.5 * rng.standard_normal((48, 48)))

    def step(x, u):
        nonlocal calls
        calls += 1
        return torch.tanh(x @ A.T + u)

    u = torch.from_numpy(rng.standard_normal((4000, 48)))
    found = sq.solve(step, torch.zeros(48).double(), u)
    assert found.method == "shooting"
    assert found.ok
    assert found.certificate.lyapunov < -0.3
    assert calls < 1200
    assert np.isfinite(found.certificate.bound)
