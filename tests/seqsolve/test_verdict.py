"""What auto takes is what the diagnosis says, and it says what was measured."""

import importlib.util
import math

import numpy as np
import pytest
import torch

import seqsolve as sq
from seqsolve import shooting
from seqsolve import verdict as rules
from seqsolve.pace import Pace
from seqsolve.recurrence import as_recurrence
from seqsolve.verdict import Prediction

OTHERS = [name for name in sq.METHODS if name != "sequential"]


def tensor(rng, *shape):
    return torch.from_numpy(rng.standard_normal(shape))


def look(step, x0, u):
    with torch.no_grad():
        return rules.verdict(as_recurrence(step, x0, u))


def test_auto_follows_the_diagnosis(rng):
    module = sq.gallery.torch_init("gru", 3, 8, rng=rng)
    u = tensor(rng, 300, 3).float()
    found, solution = sq.diagnose(module, torch.zeros(8), u), sq.solve(module, torch.zeros(8), u)
    assert (found.method, found.reason) == (solution.method, solution.reason)
    assert "fused loop" in found.reason
    assert found.lyapunov < 0
    short = sq.solve(lambda x, u: 0.5 * x + u, torch.zeros(1), torch.ones(9, 1))
    assert short.reason == "9 steps are too few to gain from anything else"
    long = sq.solve(lambda x, u: 0.5 * x + u, torch.zeros(1), torch.ones(3000, 1))
    assert "pairs of trajectories meet" in long.reason
    assert long.method == "shooting"
    assert long.ok


@pytest.mark.parametrize("fast", OTHERS)
def test_auto_is_exactly_the_verdict(fast, monkeypatch, rng):
    """With the stop watch replaced by a table, whoever the table says is fastest is who solves."""

    def table(problem, steps, best, end):
        return {name: Prediction(3.0, 1e-9 if name == fast else 1e9) for name in OTHERS}

    monkeypatch.setattr(rules, "race", table)
    monkeypatch.setattr(rules, "_TRIAL", 0.0)
    step, x0, u = (lambda x, u: torch.tanh(0.4 * x + u)), torch.zeros(2).double(), tensor(rng, 132, 2)
    found, solution = look(step, x0, u), sq.solve(step, x0, u)
    assert found.method == solution.method == fast
    assert "it was the fastest on a sample: about 1e-09 s" in found.reason
    assert "fastest on a sample" in solution.reason
    assert solution.ok
    slow = {name: Prediction(3.0, 1e9) for name in OTHERS}
    monkeypatch.setattr(rules, "race", lambda *_: slow)
    assert sq.solve(step, x0, u).method == "sequential"


def test_every_method_is_tried_where_time_is_no_matter(monkeypatch, rng):
    for name in ("_FLOOR", "_MOST", "_GROWING"):
        monkeypatch.setattr(rules, name, math.inf)
    monkeypatch.setattr(rules, "_PROMISE", ())
    step, x0, u = (lambda x, u: 0.7 * x + u), torch.ones(2).double(), tensor(rng, 130, 2)
    found = sq.diagnose(step, x0, u)
    assert all(p.sweeps >= 1 for name, p in found.predictions.items() if name != "shooting")  # too short to probe
    assert found.predictions["newton"].sweeps <= 2  # linear: one update
    assert found.predictions["jacobi"].sweeps > 2
    for name in ("_FLOOR", "_MOST", "_TRIAL", "SHARE"):
        monkeypatch.setattr(rules, name, 0.0)
    found = sq.diagnose(step, x0, u)
    assert math.isnan(found.predictions["newton"].sweeps)
    assert "newton: at least" in found.explain()
    assert "not tried" in found.explain()
    assert found.method == "sequential"
    monkeypatch.setattr(rules, "_TRIAL", 1e9)
    assert "too few for trials" in look(step, x0, u).reason


def lanes_are(monkeypatch, times):
    """This machine, as far as verdicts see it: the loop as the table has it, lanes so many times faster."""
    monkeypatch.setattr("seqsolve.lanes.pace", lambda flow, _: Pace(flow.seconds, flow.seconds / flow.batch / times))


@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
def test_a_long_cell_is_cut_where_it_forgets_and_not_where_it_remembers(kind, monkeypatch, rng):
    lanes_are(monkeypatch, 8)
    module = sq.gallery.torch_init(kind, 3, 16, rng=rng).requires_grad_(False)
    x0, u = torch.zeros(32 if kind == "lstm" else 16), tensor(rng, 9000 if kind == "lstm" else 200_000, 3).float()
    found = look(module, x0, u)
    assert found.method == "shooting"
    assert found.predictions["shooting"].seconds < found.predictions["sequential"].seconds
    assert f"within {found.burn} steps" in found.reason
    if kind == "lstm":
        with monkeypatch.context() as known:
            known.setattr(shooting, "burn_in", lambda *_: pytest.fail("the burn-in was known"))
            solution = sq.solve(module, x0, u)
        assert (solution.method, solution.certificate.kind) == ("shooting", "seam")
        assert solution.reason.startswith("pairs of trajectories meet")
    with torch.no_grad():
        for name, p in module.named_parameters():
            if "weight_hh" in name:
                p *= 40.0
    keeper = look(module, x0, 0.1 * u)
    assert keeper.method == "sequential"
    assert "did not promise to meet" in keeper.reason
    assert "fused loop" in keeper.reason
    assert not keeper.predictions["shooting"].complete


@pytest.mark.parametrize("kind", ["rnn", "lstm"])
def test_nothing_is_tried_where_lanes_are_no_faster(kind, monkeypatch, rng):
    lanes_are(monkeypatch, 1.2)
    monkeypatch.setattr(rules, "burn_in", lambda *_: pytest.fail("there is nothing to gain"))
    module = sq.gallery.torch_init(kind, 3, 16, rng=rng).requires_grad_(False)
    found = look(module, torch.zeros(32 if kind == "lstm" else 16), tensor(rng, 200_000, 3).float())
    assert found.method == "sequential"
    assert "chunks would not be faster" in found.reason
    assert not found.predictions["shooting"].complete


@pytest.mark.skipif(importlib.util.find_spec("g2p_en") is None, reason="the trained GRU is not installed")
def test_a_trained_network_that_remembers_is_not_promised_chunks(monkeypatch):
    lanes_are(monkeypatch, 8)
    gru = sq.gallery.g2p_gru().requires_grad_(False)
    u = sq.gallery.g2p_inputs("a network that was trained remembers what it has read for very long " * 250)
    found = look(gru, torch.zeros(256), u)
    assert found.method == "sequential"
    assert "did not promise to meet" in found.reason


def test_bad_inputs_go_in_order(rng, monkeypatch):
    lanes_are(monkeypatch, 8)
    cell, u = sq.gallery.torch_init("gru", 3, 16, rng=rng).requires_grad_(False), tensor(rng, 150_000, 3)
    u[-1, 0] = np.inf
    assert "NaN or inf stands among the inputs" in look(cell, torch.zeros(16), u.float()).reason
    far = look(lambda x, u: 0.5 * x + u, torch.zeros(3).double(), u[-3000:])
    assert (far.method, far.reason) == ("sequential", "NaN or inf stands among the inputs")
    u[20] = np.nan
    near = look(lambda x, u: 0.5 * x + u, torch.zeros(3).double(), u[:3000])
    assert (near.method, near.reason) == ("sequential", "the states stop being finite at step 20")
    assert look(cell, torch.zeros(0, 16), torch.zeros(9, 0, 3)).reason == "there is nothing to compute"


def test_the_verdict_looks_at_a_hundredth_of_the_steps(rng):
    """A step that forgets: pairs alone decide. One that is chaotic: pairs, a sample, and no trial."""
    calls = [0]

    def counted(step):
        def run(x, u):
            calls[0] += 1
            return step(x, u)

        return run

    u = tensor(rng, 40_000, 2)
    for step, method in (
        (lambda x, u: torch.tanh(0.5 * x + u), "shooting"),
        (lambda x, u: 4 * x * (1 - x), "sequential"),
    ):
        calls[0] = 0
        assert look(counted(step), torch.full((2,), 0.3).double(), u).method == method
        assert calls[0] <= 400


@pytest.mark.skipif(importlib.util.find_spec("g2p_en") is None, reason="the trained GRU is not installed")
def test_few_steps_say_that_they_are_few(monkeypatch):
    lanes_are(monkeypatch, 8)
    gru = sq.gallery.g2p_gru().requires_grad_(False)
    found = look(gru, torch.zeros(256), sq.gallery.g2p_inputs("a network reads a sentence " * 30))
    assert found.method == "sequential"
    assert "810 steps are too few to find out how soon pairs of trajectories meet" in found.reason
