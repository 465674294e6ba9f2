"""The pace of a cell on this machine: a time, measured once, that leaves nothing behind in the states."""

import numpy as np
import pytest
import torch

import seqsolve as sq
from seqsolve import pace as paces
from seqsolve.pace import Pace, pace
from seqsolve.recurrence import as_recurrence
from seqsolve.shooting import flow_of


@pytest.fixture(autouse=True)
def unmeasured(monkeypatch):
    monkeypatch.setattr(paces, "_measured", {})


def flow(rng, kind, n=8, steps=4000, batch=()):
    module = sq.gallery.torch_init(kind, 3, n, rng=rng).requires_grad_(False)
    x0 = torch.zeros(*batch, n * (1 + (kind == "lstm")))
    problem = as_recurrence(module, x0, torch.from_numpy(rng.standard_normal((steps, *batch, 3))).float())
    return flow_of(problem, torch.empty(steps, *x0.shape), 1), x0


@pytest.mark.parametrize(
    "kind,batch,steps", [("rnn", (), 4000), ("gru", (3,), 4000), ("lstm", (), 300), ("gru", (), 9)]
)
def test_a_pace_is_positive_and_measured_once(rng, monkeypatch, kind, batch, steps):
    one, x0 = flow(rng, kind, steps=steps, batch=batch)
    found = pace(one, x0.reshape(one.shape))
    assert found.order > 0
    assert found.lane > 0
    monkeypatch.setattr(paces, "_a_step", lambda *_: pytest.fail("this size was measured"))
    assert pace(one, x0.reshape(one.shape)) is found


def test_the_pace_of_steps_that_take_longer_is_longer(rng):
    """By far: 16 times the units are 100 times the arithmetic."""
    small, large = (pace(f, x0.reshape(f.shape)) for f, x0 in (flow(rng, "gru", n) for n in (8, 128)))
    assert large.order > 2 * small.order
    assert large.lane > 5 * small.lane


def test_the_price_follows_the_pace_and_the_number_of_chunks_does_not(rng):
    one, _ = flow(rng, "gru", steps=60_000)
    chunks = []
    for lane in (1e-10, 1e-9, 1e-3):
        one.pace = Pace(1e-6, lane)
        chunks.append((one.count(40), one.cost(64, 40)))
    assert chunks[0][0] == chunks[1][0] > 1
    assert chunks[2][0] == 1
    assert chunks[0][1] < chunks[1][1] < chunks[2][1]


@pytest.mark.parametrize("options", [{}, {"bidirectional": True}])
def test_a_drop_in_that_was_measured_says_what_the_loop_says(rng, monkeypatch, options):
    """Steps that were timed are written over, and the state is the one that was given."""
    monkeypatch.setattr("seqsolve.chunked_layers._WORTH", 0.0)
    module = sq.gallery.torch_init("lstm", 3, 8, rng=rng, **options).requires_grad_(False)
    x = torch.from_numpy(rng.standard_normal((12_000, 3))).float()
    state = tuple(torch.from_numpy(rng.standard_normal((1 + len(options), 8))).float() for _ in range(2))
    found, wanted = (sq.parallelize(module, method=name)(x, state) for name in ("auto", "sequential"))
    assert np.allclose(found[0], wanted[0], rtol=0, atol=2e-6)
    assert all(torch.allclose(a, b, rtol=0, atol=4e-6) for a, b in zip(found[1], wanted[1]))
    assert paces._measured
