"""Errors carried along a trajectory: by Jacobians written out, and by differences of the step where these are dear."""

import math

import pytest
import torch

import seqsolve as sq
from seqsolve import conditioning
from seqsolve.conditioning import Growth
from seqsolve.recurrence import as_recurrence


def recurrence(rng, n, gain, scale=1.0, steps=400, dtype=torch.float64):
    """x <- scale tanh(A x / scale + u) and its states."""
    A = torch.from_numpy(gain / n**0.5 * rng.standard_normal((n, n))).to(dtype)
    u = torch.from_numpy(0.3 * rng.standard_normal((steps, n))).to(dtype)
    problem = as_recurrence(lambda x, v: scale * torch.tanh(x / scale @ A.T + v), torch.zeros(n, dtype=dtype), u)
    return problem, problem.advance(problem.x0, 0, steps)


def grown(problem, states, monkeypatch, written):
    monkeypatch.setattr(conditioning, "_WRITTEN", written)
    growth = Growth(problem, torch.finfo(states.dtype).eps)
    with torch.no_grad():
        growth.run(states, 0, len(states))
    return growth


@pytest.mark.parametrize("dtype,close", [(torch.float32, 2e-2), (torch.float64, 1e-5)])
@pytest.mark.parametrize("gain", [0.3, 0.9, 1.2, 2.5])
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_differences_of_the_step_carry_errors_as_its_jacobians_do(rng, monkeypatch, dtype, close, gain, scale):
    problem, states = recurrence(rng, 6, gain, scale, dtype=dtype)
    exact, differences = (grown(problem, states, monkeypatch, written) for written in (1000, 0))
    assert differences.lyapunov == pytest.approx(exact.lyapunov, abs=close, rel=close)
    assert differences.residual == exact.residual
    if exact.lyapunov < -0.05:  # else a product of hundreds of Jacobians says how exactly each of them is known
        assert differences.amplification == pytest.approx(exact.amplification, rel=close)
        assert differences.bound == pytest.approx(exact.bound, rel=close)
    else:
        assert math.log(differences.amplification) == pytest.approx(math.log(exact.amplification), rel=0.05, abs=1)


def test_a_batch_and_a_window_that_ends_early_are_carried_alike(rng, monkeypatch):
    A = torch.from_numpy(0.3 * rng.standard_normal((4, 4)))
    u = torch.from_numpy(rng.standard_normal((300, 3, 4)))
    problem = as_recurrence(lambda x, v: torch.tanh(x @ A.T + v), torch.zeros(3, 4).double(), u)
    states = problem.advance(problem.x0, 0, 300)
    exact, differences = (grown(problem, states, monkeypatch, written) for written in (1000, 0))
    assert differences.lyapunov == pytest.approx(exact.lyapunov, rel=1e-4)
    assert differences.amplification == pytest.approx(exact.amplification, rel=1e-4)


def test_the_certificate_of_a_wide_step_costs_a_few_evaluations(rng):
    """Not n backward passes a step: rows of states that the step was given, over the number of steps."""
    n, T, rows = 96, 300, 0
    A = torch.from_numpy(0.5 / n**0.5 * rng.standard_normal((n, n)))

    def step(x, u):
        nonlocal rows
        rows += x.numel() // n
        return torch.tanh(x @ A.T + u)

    found = sq.solve(step, torch.zeros(n).double(), torch.from_numpy(rng.standard_normal((T, n))), method="sequential")
    assert found.ok
    assert found.certificate.lyapunov < -0.3
    assert rows < 10 * T  # a step, an evaluation, one state and five errors beside it, and not 96 passes


@pytest.mark.parametrize("gain,name", [(0.5, "SEQUENTIAL"), (3.0, "CHAOTIC")])
def test_a_wide_step_is_judged_as_a_narrow_one(rng, gain, name):
    problem, _ = recurrence(rng, 48, gain)
    found = sq.solve(problem.step, problem.x0, problem.inputs, method="sequential")
    assert found.status.name == name
    assert found.ok == (name == "SEQUENTIAL")


@pytest.mark.parametrize("step", [lambda x, v: v + 0 * x, lambda x, v: x + 0 * v], ids=["forgets all", "keeps all"])
def test_the_ends_of_the_scale(monkeypatch, step):
    u = torch.linspace(0, 9, 600).double().reshape(300, 2)
    problem = as_recurrence(step, torch.ones(2).double(), u)
    states = problem.advance(problem.x0, 0, 300)
    exact, differences = (grown(problem, states, monkeypatch, written) for written in (1000, 0))
    assert differences.lyapunov == pytest.approx(exact.lyapunov, rel=1e-6, abs=1e-7)
    assert differences.amplification == pytest.approx(exact.amplification, rel=1e-6)


def test_rounding_that_cancels_in_one_realisation_is_seen_in_another(rng):
    """Short recurrences in single precision against double: where the bound promises 1e-4, no error is larger."""
    worst = 0.0
    for _ in range(300):
        n, gain = int(rng.integers(1, 9)), rng.uniform(2, 6)
        A, u = gain / n**0.5 * rng.standard_normal((n, n)), 0.5 * rng.standard_normal((7, n))
        A, u, x0 = (torch.from_numpy(a).float() for a in (A, u, rng.standard_normal(n)))
        problem = as_recurrence(lambda x, v, A=A: torch.tanh(x @ A.T + v), x0, u)
        states, growth = problem.advance(x0, 0, 7), Growth(problem, torch.finfo(torch.float32).eps)
        with torch.no_grad():
            growth.run(states, 0, 7)
        A = A.double()
        exact = as_recurrence(lambda x, v, A=A: torch.tanh(x @ A.T + v), x0.double(), u.double())
        error = float((exact.advance(x0.double(), 0, 7) - states).abs().max() / states.abs().max())
        if growth.bound < 1e-3:
            worst = max(worst, error / growth.bound)
    assert 0.1 < worst < 1
