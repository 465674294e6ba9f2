"""A cell over whole sequences is the loop over the cell."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence

import seqsolve as sq

CELLS = {
    "rnn": lambda: nn.RNNCell(3, 6),
    "relu": lambda: nn.RNNCell(3, 6, nonlinearity="relu", bias=False),
    "gru": lambda: nn.GRUCell(3, 6),
    "lstm": lambda: nn.LSTMCell(3, 6, bias=False),
}


def make(name, rng, dtype=torch.float64):
    cell = CELLS[name]().to(dtype)
    with torch.no_grad():
        for p in cell.parameters():
            p.copy_(torch.from_numpy(rng.uniform(-0.5, 0.5, tuple(p.shape))))
    return cell


def loop(cell, x, state=None):
    outputs = []
    for u in x:
        state = cell(u, state)
        outputs.append(state[0] if isinstance(state, tuple) else state)
    return torch.stack(outputs), state


def flat(result):
    output, state = result
    return [output, *(state if isinstance(state, tuple) else (state,))]


@pytest.mark.parametrize("method", ["auto", "sequential", "torch"])
@pytest.mark.parametrize("name", CELLS)
def test_the_module_is_the_loop(name, method, rng):
    cell = make(name, rng)
    fast = sq.parallelize(cell, method=method)
    assert list(fast.state_dict()) == list(cell.state_dict())
    assert all(a is b for a, b in zip(fast.parameters(), cell.parameters(), strict=True))
    for shape in ((40, 2, 3), (40, 3), (1, 1, 3)):
        x = torch.from_numpy(rng.standard_normal(shape))
        state = loop(cell, x)[1]
        with torch.no_grad():
            for hx in (None, state):
                for ours, theirs in zip(flat(fast(x, hx)), flat(loop(cell, x, hx)), strict=True):
                    torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=1e-13)
    assert fast.report.method == {"auto": fast.report.method}.get(method, method)


@pytest.mark.parametrize("name", CELLS)
def test_gradients_are_those_of_the_loop(name, rng):
    cell = make(name, rng)
    x = torch.from_numpy(rng.standard_normal((7, 2, 3))).requires_grad_()
    found = []
    for run in (sq.parallelize(cell, method="sequential"), lambda x: loop(cell, x)):
        loss = sum((k + 1) * t.sin().sum() for k, t in enumerate(flat(run(x))))
        found.append(torch.autograd.grad(loss, [x, *cell.parameters()]))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("method", ["sequential", "torch"])
@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_sequences_of_several_lengths(name, method, rng):
    cell = make(name, rng)
    apart = [torch.from_numpy(rng.standard_normal((n, 3))) for n in (2, 5, 1)]
    start = [torch.from_numpy(rng.standard_normal((3, 6))) for _ in range(2)]
    hx = tuple(start) if name == "lstm" else start[0]
    with torch.no_grad():
        output, state = sq.parallelize(cell, method=method)(pack_sequence(apart, enforce_sorted=False), hx)
        rows, lengths = torch.nn.utils.rnn.pad_packed_sequence(output)
        assert lengths.tolist() == [2, 5, 1]
        for k, x in enumerate(apart):
            mine = tuple(s[k] for s in start) if name == "lstm" else start[0][k]
            expected = flat(loop(cell, x, mine))
            torch.testing.assert_close(rows[: len(x), k], expected[0], rtol=1e-12, atol=1e-12)
            final = state if name == "lstm" else (state,)
            for ours, theirs in zip(final, expected[1:], strict=True):
                torch.testing.assert_close(ours[k], theirs, rtol=1e-12, atol=1e-12)


def test_copies_pickles_dtypes_and_autocast(rng):
    fast = sq.parallelize(make("lstm", rng, torch.float32), method="sequential")
    x = torch.from_numpy(rng.standard_normal((60, 2, 3))).float()
    with torch.no_grad():
        expected = flat(fast(x))
        for other in (copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))):
            for ours, theirs in zip(flat(other(x)), expected, strict=True):
                assert torch.equal(ours, theirs)
        assert flat(copy.deepcopy(fast).double()(x.double()))[0].dtype == torch.float64
        easy = sq.parallelize(fast, method="auto")
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert easy(x)[0].shape == (60, 2, 6)
        assert easy.report.method == "torch"
        assert torch.compile(easy, backend="eager")(x)[0].shape == (60, 2, 6)
    assert fast.report.certificate.ok


@pytest.mark.parametrize(
    "name, arguments, message",
    [
        ("gru", (torch.zeros(4, 2, 5),), "the input has 5 numbers a step, and the cell takes 3"),
        ("gru", (torch.zeros(3),), r"the input is \(3,\); pass a tensor \(T, B, 3\) or \(T, 3\)"),
        ("gru", (None,), "the input is NoneType"),
        ("gru", (torch.zeros(4, 3), torch.zeros(4, 6)), "call the cell itself for a single step"),
        ("lstm", (torch.zeros(4, 2, 3), torch.zeros(2, 6)), r"the state of an LSTM cell is a pair \(h, c\)"),
    ],
)
def test_wrong_arguments(name, arguments, message, rng):
    with pytest.raises(ValueError, match=message):
        sq.parallelize(make(name, rng, torch.float32))(*arguments)


def test_a_cell_that_is_overridden_is_not_replaced():
    class Mine(nn.GRUCell):
        def forward(self, input, hx=None):
            return -super().forward(input, hx)

    with pytest.raises(TypeError, match="a cell is called once a step"):
        sq.parallelize(Mine(2, 2))
