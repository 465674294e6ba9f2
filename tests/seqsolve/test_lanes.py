"""Cells whose lanes are sequences, beside torch's own modules and the loop of one sequence."""

import numpy as np
import pytest
import torch
from torch import nn

from seqsolve.cells import GATES, Weights
from seqsolve.lanes import Lanes, lane_count

CLASSES = {"rnn_tanh": nn.RNN, "rnn_relu": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


def module(kind, inputs, hidden, rng, bias=True, dtype=torch.float64):
    options = {"nonlinearity": "relu"} if kind == "rnn_relu" else {}
    made = CLASSES[kind](inputs, hidden, bias=bias, dtype=dtype, **options).requires_grad_(False)
    for p in made.parameters():
        p.copy_(torch.from_numpy(min(0.7, hidden**-0.5) * rng.uniform(-1, 1, tuple(p.shape))))
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    return made, Weights(kind, *(getattr(made, n).numpy() if hasattr(made, n) else None for n in names))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("hidden", [1, 2, 5, 8, 13, 32])
@pytest.mark.parametrize("kind", GATES)
def test_every_lane_is_a_sequence_of_its_own(kind, hidden, bias, rng):
    """Any number of lanes, registers partly filled, any place of rows, forwards and backwards."""
    dtype = [torch.float32, torch.float64][hidden % 2]
    made, weights = module(kind, 3, hidden, rng, bias, dtype)
    lanes = Lanes(weights)
    count, steps = int(rng.integers(1, 2 * lane_count(lanes.dtype) + 2)), 21
    stride = [1, -1, 2][hidden % 3]
    x = rng.standard_normal((count * steps * 2 + 50, 3)).astype(lanes.dtype)
    span = (steps - 1) * abs(stride)
    starts = rng.permutation(count) * 2 * steps + (span if stride < 0 else 0)
    out = np.full((len(x), 2 * hidden + 3), 7.0, lanes.dtype)
    states = rng.standard_normal((count, lanes.size)).astype(lanes.dtype)
    given = states.copy()
    ends = lanes.advance(x, states, out, starts, starts, steps, stride=stride, column=2, cells=kind == "lstm")
    np.testing.assert_array_equal(states, given)
    rows = starts[:, None] + stride * np.arange(steps)
    h, c = torch.from_numpy(given).split(hidden, 1) if kind == "lstm" else (torch.from_numpy(given), None)
    first = h[None].contiguous() if c is None else (h[None].contiguous(), c[None].contiguous())
    wanted, last = made(torch.from_numpy(x[rows]).transpose(0, 1), first)
    last = torch.cat([last[0][0], last[1][0]], 1) if isinstance(last, tuple) else last[0]
    tolerance = {"rtol": 0, "atol": 300 * np.finfo(lanes.dtype).eps * max(1.0, float(last.abs().max()))}
    np.testing.assert_allclose(out[rows][..., 2 : 2 + hidden], wanted.transpose(0, 1).numpy(), **tolerance)
    np.testing.assert_allclose(ends, last.numpy(), **tolerance)
    if kind == "lstm":
        np.testing.assert_allclose(out[rows[:, -1], 2 + hidden : 2 + 2 * hidden], last[:, hidden:].numpy(), **tolerance)
    touched = np.zeros(len(out), bool)
    touched[rows.reshape(-1)] = True
    assert (out[~touched] == 7.0).all()
    assert (out[:, :2] == 7.0).all()
    assert (out[:, -1] == 7.0).all()
    silent = lanes.advance(x, states, None, starts, starts, steps, stride=stride, workers=2)
    np.testing.assert_array_equal(silent, ends)


def test_bad_numbers_stay_in_their_lane(rng):
    for kind in GATES:
        _, weights = module(kind, 2, 3, rng)
        lanes, N = Lanes(weights), 9
        x = rng.standard_normal((12 * N, 2))
        out, starts = np.empty((12 * N, 3)), np.arange(12) * N
        lanes.advance(x, np.zeros((12, lanes.size)), out, starts, starts, N)
        clean = out.copy()
        x[5 * N + 4, 1] = np.nan
        lanes.advance(x, np.zeros((12, lanes.size)), out, starts, starts, N)
        hit = np.isnan(out).any(1)
        assert hit[5 * N + 4 : 6 * N].all()
        assert hit.sum() == N - 4
        np.testing.assert_array_equal(out[~hit], clean[~hit])


@pytest.mark.parametrize("stride", [1, -1, 3])
@pytest.mark.parametrize(("inputs", "hidden"), [(1, 1), (4, 3), (16, 7), (21, 17)])
def test_bits_do_not_depend_on_threads(inputs, hidden, stride, rng, monkeypatch):
    """Registers are taken by twos or one by one, as the threads share them: the arithmetic of a lane is the same."""
    monkeypatch.setattr("seqsolve.lanes._WORTH_A_THREAD", 1e-12)
    for kind in GATES:
        _, weights = module(kind, inputs, hidden, rng, dtype=torch.float32)
        lanes, steps = Lanes(weights), 37
        count = 5 * lane_count(lanes.dtype) + 3
        x = rng.standard_normal((count * steps * abs(stride), inputs)).astype(np.float32)
        starts = np.arange(count) * steps * abs(stride) + ((steps - 1) * abs(stride) if stride < 0 else 0)
        states, found = rng.standard_normal((count, lanes.size)).astype(np.float32), []
        for workers in (1, 2, 3, 6):
            out = np.zeros((len(x), hidden), np.float32)
            ends = lanes.advance(x, states, out, starts, starts, steps, stride=stride, workers=workers)
            found.append(np.concatenate([ends.reshape(-1), out.reshape(-1)]))
        for other in found[1:]:
            np.testing.assert_array_equal(other, found[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("inputs", "hidden"), [(1, 1), (4, 16), (5, 20), (16, 4), (64, 33)])
def test_nothing_is_touched_beyond_the_rows(inputs, hidden, dtype, rng):
    """Rows at the very ends of x and out: whole tiles of numbers must not reach past them."""
    for kind in GATES:
        made, weights = module(kind, inputs, hidden, rng, dtype=dtype)
        lanes, steps, count = Lanes(weights), 19, 3
        whole = rng.standard_normal((count * steps + 2, inputs)).astype(lanes.dtype)
        whole[0] = whole[-1] = np.nan  # a number from outside would spoil its lane
        out = np.full((count * steps + 2, hidden), 7.0, lanes.dtype)
        starts = np.arange(count) * steps
        lanes.advance(whole[1:-1], np.zeros((count, lanes.size), lanes.dtype), out[1:-1], starts, starts, steps)
        assert (out[[0, -1]] == 7.0).all()
        wanted = made(torch.from_numpy(whole[1:-1].reshape(count, steps, inputs)).transpose(0, 1))[0]
        tolerance = 300 * np.finfo(lanes.dtype).eps * max(1.0, float(wanted.abs().max()))
        np.testing.assert_allclose(
            out[1:-1].reshape(count, steps, hidden), wanted.transpose(0, 1).numpy(), rtol=0, atol=tolerance
        )
