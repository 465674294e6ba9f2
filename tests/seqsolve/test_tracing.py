"""Drop-ins, cells and solve where torch writes down what happens: as fast in torch.compile, never a constant."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import seqsolve as sq

# torch's own: .grad of the tensors between two graphs, weights that export finds, all of torch.jit
pytestmark = [
    pytest.mark.filterwarnings(f"ignore::{kind}")
    for kind in ("UserWarning", "DeprecationWarning", "torch.jit.TracerWarning")
]
MODULES = {
    "gru": lambda: nn.GRU(3, 5, num_layers=2, bidirectional=True),
    "lstm": lambda: nn.LSTM(3, 5),
    "gru_cell": lambda: nn.GRUCell(3, 5),
    "lstm_cell": lambda: nn.LSTMCell(3, 5),
    "lem": lambda: sq.LEM(3, 5),
    "min_gru": lambda: sq.MinGRU(3, 5),
}


@pytest.fixture(autouse=True)
def _fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture
def inputs(rng):
    return torch.from_numpy(rng.standard_normal((40, 2, 3)).astype(np.float32))


@pytest.mark.parametrize("name", ["gru", "lstm_cell", "lem"])
def test_a_compiled_function_keeps_the_gain_and_the_report(name, inputs):
    fast = sq.parallelize(MODULES[name]())
    compiled = torch.compile(lambda u: fast(u.sin())[0].cos(), backend="aot_eager")
    with torch.no_grad():
        ours = compiled(inputs)
        method = fast.report.method
        expected = fast(inputs.sin())[0].cos()
        assert method == fast.report.method != "torch"
    torch.testing.assert_close(ours, expected)
    both = (compiled, lambda u: fast(u.sin())[0].cos())
    slopes = [torch.autograd.grad(f(inputs).sum(), list(fast.parameters())) for f in both]
    torch.testing.assert_close(*slopes, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["lstm", "gru_cell", "min_gru"])
def test_a_traced_module_computes_and_does_not_remember(name, inputs):
    fast = sq.parallelize(MODULES[name]())
    assert "report" not in dir(fast)  # torch.jit.trace asks for every attribute, and there is no report yet
    with torch.no_grad():
        traced = torch.jit.trace(fast, (inputs,))
        torch.testing.assert_close(traced(inputs / 2)[0], fast(inputs / 2)[0], rtol=1e-5, atol=1e-5)
        assert "report" in dir(fast)


@pytest.mark.parametrize("strict", [False, True])
def test_an_exported_module_is_torchs_own(strict, inputs):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru = sq.parallelize(nn.GRU(3, 5))

        def forward(self, u):
            return self.gru(u)[0].tanh()

    model = Model()
    program = torch.export.export(model, (inputs,), strict=strict)
    assert "gru" in str(program.graph)
    torch.testing.assert_close(program.module()(inputs - 1), model(inputs - 1))


def test_solve_runs_between_two_graphs(rng):
    A = torch.from_numpy(0.3 * rng.standard_normal((3, 3)))
    u = torch.from_numpy(rng.standard_normal((60, 3))).requires_grad_()

    def f(u):
        x0 = torch.zeros(3, dtype=torch.float64)
        return sq.solve(lambda x, u: torch.tanh(x @ A + u), x0, 2 * u, method="newton").states.square().sum()

    (ours,), (expected,) = (torch.autograd.grad(g(u), u) for g in (torch.compile(f, backend="aot_eager"), f))
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


def test_parametrizations_come_after_parallelize(inputs):
    fast = sq.parallelize(nn.GRU(3, 5))
    parametrizations.spectral_norm(fast, "weight_hh_l0")
    fast.eval()
    plain = nn.GRU(3, 5)
    plain.load_state_dict({name: getattr(fast, name).detach() for name in plain.state_dict()})
    torch.testing.assert_close(fast(inputs)[0], plain(inputs)[0])
    assert fast.report.method == "sequential"
    before = nn.GRU(3, 5)
    parametrizations.spectral_norm(before, "weight_hh_l0")
    with pytest.raises(TypeError, match=r"an nn.GRU is parametrized after parallelize, not before"):
        sq.parallelize(before)
