"""Each published cell beside its paper's formula, by every route: torch, fused loop or scan, solver."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

import seqsolve as sq
from tests import reference_cells as reference

CELLS = {
    "lem": (lambda H: sq.LEM(3, H, dt=0.7), lambda x, u, p: reference.lem(x, u, p, 0.7)),
    "min_gru": (lambda H: sq.MinGRU(3, H), reference.min_gru),
    "min_lstm": (lambda H: sq.MinLSTM(3, H), reference.min_lstm),
    "relu": (lambda H: sq.IndRNN(3, H), lambda x, u, p: reference.ind_rnn(x, u, p, "relu")),
    "tanh": (lambda H: sq.IndRNN(3, H, nonlinearity="tanh"), lambda x, u, p: reference.ind_rnn(x, u, p, "tanh")),
    "cfc": (lambda H: sq.CfC(3, H), lambda x, u, p: reference.cfc(x, u, p, 1.0)),
    "deep": (
        lambda H: sq.CfC(3, H, backbone=(11, 6)),
        lambda x, u, p: reference.cfc_backbone(x, u, p, 1.0, "lecun_tanh"),
    ),
    "deep timed": (
        lambda H: sq.CfC(2, H, timed=True, backbone=7, activation="silu"),
        lambda x, u, p: reference.cfc_backbone(x, u[:-1], p, u[-1], "silu"),
    ),
    "timed": (lambda H: sq.CfC(2, H, timed=True), lambda x, u, p: reference.cfc(x, u[:-1], p, u[-1])),
}


def make(name, H, rng, dtype=torch.float64):
    cell = CELLS[name][0](H).to(dtype)
    with torch.no_grad():
        for p in cell.parameters():
            p.copy_(torch.from_numpy(rng.uniform(-0.6, 0.6, tuple(p.shape))))
    return cell


def draw(rng, *shape, dtype=torch.float64):
    return torch.from_numpy(rng.uniform(0, 2, shape)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("H", [1, 8, 19, 40])
@pytest.mark.parametrize("name", CELLS)
def test_every_route_follows_the_formula(name, H, dtype, rng):
    cell = make(name, H, rng, dtype)
    u, x0 = draw(rng, 9, 2, 3, dtype=dtype), draw(rng, 2, cell.state_size, dtype=dtype) - 1
    p = {k: v.numpy().astype(float) for k, v in cell.state_dict().items()}
    expected = []
    for b in range(2):
        x, rows = x0[b].numpy().astype(float), []
        for step in u[:, b].numpy().astype(float):
            x = CELLS[name][1](x, step, p)
            rows.append(x)
        expected.append(rows)
    exact = np.stack(expected, 1)
    tolerance = 30 * torch.finfo(dtype).eps * max(1.0, np.abs(exact).max())
    with torch.no_grad():
        for run in (cell, sq.parallelize(cell, method="sequential"), sq.parallelize(cell, method="torch")):
            y, last = run(u, x0)
            assert y.dtype == dtype
            assert np.abs(y.numpy() - exact[..., : y.shape[-1]]).max() < tolerance
            assert np.abs(last.numpy() - exact[-1]).max() < tolerance
        for method in ("sequential", "newton", "quasi"):
            solution = sq.solve(cell, x0, u, method=method)
            assert np.abs(solution.states.numpy() - exact).max() < 10 * tolerance


@pytest.mark.parametrize("name", CELLS)
def test_gradients_of_every_route_are_those_of_the_loop(name, rng):
    cell = make(name, 5, rng)
    u, x0 = draw(rng, 12, 2, 3).requires_grad_(), draw(rng, 2, cell.state_size).requires_grad_()
    found = []
    for run in (
        lambda: cell(u, x0)[0],
        lambda: sq.parallelize(cell, method="sequential")(u, x0)[0],
        lambda: sq.solve(cell, x0, u, method="newton").states[..., : cell.output_size or 5],
    ):
        found.append(torch.autograd.grad(run().sin().sum(), [u, x0, *cell.parameters()]))
    for other in found[1:]:
        for ours, theirs in zip(other, found[0], strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", CELLS)
def test_copies_parameters_and_parts(name, rng):
    cell = make(name, 8, rng, torch.float32)
    fast = sq.parallelize(nn.Sequential(cell))
    assert list(fast.state_dict()) == [f"0.{key}" for key in cell.state_dict()]
    assert fast[0].weight_ih is cell.weight_ih
    u = draw(rng, 200, 2, 3, dtype=torch.float32)
    with torch.no_grad():
        y = fast(u)[0]
        assert fast.report.method == ("scan" if name.startswith("min") else "sequential")
        assert fast.report.certificate.ok
        assert not hasattr(cell, "_measured")
        for other in (copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))):
            torch.testing.assert_close(other(u)[0], y)
        torch.testing.assert_close(cell(u)[0], y, rtol=0, atol=2e-6)
    with pytest.raises(RuntimeError, match="no report before the first call"):
        cell.report


@pytest.mark.parametrize("name", CELLS)
def test_nan_appears_at_its_step_and_in_its_sequence(name, rng):
    cell = make(name, 8, rng, torch.float32)
    u = draw(rng, 20, 2, 3, dtype=torch.float32)
    u[7, 1, 0] = torch.nan
    with torch.no_grad():
        y, _ = sq.parallelize(cell, method="sequential")(u)
    assert torch.isfinite(y[:7]).all()
    assert torch.isfinite(y[:, 0]).all()
    assert torch.isnan(y[7:, 1]).all()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", ["lecun_tanh", "tanh", "relu", "silu"])
def test_every_backbone_beside_the_formula(activation, bias, rng):
    cell = sq.CfC(2, 5, backbone=[9, 4, 7], activation=activation, bias=bias, dtype=torch.float64)
    u, p = draw(rng, 20, 2) - 1, {k: v.numpy() for k, v in cell.state_dict().items()}
    x, rows = np.zeros(5), []
    for one in u.numpy():
        x = reference.cfc_backbone(x, one, p, 1.0, activation)
        rows.append(x)
    with torch.no_grad():
        for run in (cell, sq.parallelize(cell, method="sequential")):
            assert np.abs(run(u)[0].numpy() - np.array(rows)).max() < 1e-14


def test_min_lstm_with_gates_that_are_closed():
    cell = sq.MinLSTM(1, 2)
    with torch.no_grad():
        cell.weight_ih.zero_()
        cell.bias.copy_(torch.tensor([-200.0, -200, -200, -150, 0.5, 0.25]))
        y, _ = sq.parallelize(cell)(torch.zeros(30, 1), torch.ones(2))
    assert torch.isfinite(y).all()
    assert y[-1, 0] == pytest.approx(0.5)
    assert y[-1, 1] == pytest.approx(0.25)


def test_a_recurrence_that_overflows_says_so():
    cell = sq.IndRNN(1, 1)
    with torch.no_grad():
        for p in cell.parameters():
            p.fill_(3.0)
        fast = sq.parallelize(cell, method="sequential")
        fast(torch.ones(200, 1, 1))
    assert fast.report.status is sq.Status.NONFINITE
    assert not fast.report.certificate.ok


@pytest.mark.parametrize(
    "make_it, error, message",
    [
        (lambda: sq.LEM(0, 2), ValueError, "input_size=0 must be at least 1"),
        (lambda: sq.LEM(2, 2.5), TypeError, "hidden_size=2.5 is not an integer"),
        (lambda: sq.LEM(2, 2, dt=0.0), ValueError, "dt=0.0 must be a finite number above 0"),
        (lambda: sq.IndRNN(2, 2, nonlinearity="gelu"), ValueError, "nonlinearity='gelu' is unknown"),
        (lambda: sq.MinGRU(2, 2)(torch.zeros(4, 3)), ValueError, "3 numbers a step; MinGRU takes 2"),
        (lambda: sq.CfC(2, 2, backbone=(4, 0)), ValueError, "backbone=0 must be at least 1"),
        (lambda: sq.CfC(2, 2, backbone=4, activation="gelu"), ValueError, "activation='gelu' is unknown"),
        (lambda: sq.CfC(2, 2, timed=True)(torch.zeros(4, 2)), ValueError, "takes 2 and the time"),
    ],
)
def test_wrong_arguments(make_it, error, message):
    with pytest.raises(error, match=message):
        make_it()
