"""The gradient of a known cell by the chain rule over time is that of autograd through a loop of torch operations."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

import seqsolve as sq
from seqsolve import implicit
from seqsolve.implicit import torch_step

from .test_implicit import loop, tensor

KINDS = ("rnn", "relu", "gru", "lstm")


def module_of(kind, rng, *, units=5, bias=True, dtype=torch.float64, scale=0.5):
    layer = {"rnn": nn.RNN, "relu": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}[kind]
    options = {"nonlinearity": "relu"} if kind == "relu" else {}
    module = layer(3, units, bias=bias, dtype=dtype, **options)
    for p in module.parameters():
        p.data = torch.from_numpy(rng.standard_normal(p.shape)).to(dtype) * scale / units**0.5
    return module


def size_of(module):
    return module.hidden_size * (2 if isinstance(module, nn.LSTM) else 1)


def gradients(states, weight, leaves):
    return torch.autograd.grad((states * weight).sum(), leaves, allow_unused=True)


def largest_error(ours, truth):
    """Over all gradients, relative to the largest entry of each."""
    return max(float((a - b).abs().max()) / max(float(b.abs().max()), 1e-300) for a, b in zip(ours, truth, strict=True))


@pytest.fixture
def never_dense(monkeypatch):
    """No Jacobian may be written out."""

    def refuse(*_):
        raise AssertionError("a Jacobian was formed")

    monkeypatch.setattr(implicit, "_jacobians", refuse)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("units", [1, 3, 8, 21])
@pytest.mark.parametrize("kind", KINDS)
def test_float64_to_rounding(kind, units, bias, rng, never_dense):
    module = module_of(kind, rng, units=units, bias=bias)
    n = size_of(module)
    for steps, batch in ((1, ()), (60, ()), (40, (3,)), (25, (2, 2))):
        x0, u = tensor(rng, *batch, n), tensor(rng, steps, *batch, 3)
        weight, leaves = tensor(rng, steps, *batch, n, grad=False), [x0, u, *module.parameters()]
        ours = gradients(sq.solve(module, x0, u, method="sequential").states, weight, leaves)
        assert largest_error(ours, gradients(loop(torch_step(module), x0, u), weight, leaves)) < 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_float32_against_float64(kind, rng, never_dense):
    module = module_of(kind, rng, units=20)
    x0, u = tensor(rng, 2, size_of(module)), tensor(rng, 100, 2, 3)
    weight = tensor(rng, 100, 2, size_of(module), grad=False)
    truth = gradients(loop(torch_step(module), x0, u), weight, [x0, u, *module.parameters()])
    leaves = [x0.detach().float().requires_grad_(), u.detach().float().requires_grad_(), *module.float().parameters()]
    states = sq.solve(module, *leaves[:2], method="sequential").states
    assert largest_error(gradients(states, weight.float(), leaves), truth) < 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_windows_and_threads_change_nothing(kind, rng, monkeypatch):
    module = module_of(kind, rng)
    u, x0 = tensor(rng, 90, 4, 3), tensor(rng, 4, size_of(module))
    leaves = [x0, u, *module.parameters()]
    weight = tensor(rng, 90, 4, size_of(module), grad=False)
    before = torch.get_num_threads()
    found = []
    try:
        for threads, worth in ((1, 1.0), (2, 1e-12), (3, 1e-12)):
            torch.set_num_threads(threads)
            monkeypatch.setattr("seqsolve.cell_gradient._WORTH_A_THREAD", worth)
            found.append(gradients(sq.solve(module, x0, u, method="sequential").states, weight, leaves))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))
    monkeypatch.setattr("seqsolve.cell_gradient._WINDOW", 1500)  # a few steps each
    assert largest_error(gradients(sq.solve(module, x0, u, method="sequential").states, weight, leaves), found[0]) < (
        1e-13
    )


@pytest.mark.parametrize("kind", KINDS)
def test_only_what_is_wanted(kind, rng):
    module = module_of(kind, rng)
    u, x0 = tensor(rng, 30, 3), tensor(rng, size_of(module))
    everything = [x0, u, *module.parameters()]
    weight = tensor(rng, 30, size_of(module), grad=False)
    whole = gradients(sq.solve(module, x0, u).states, weight, everything)
    for leaf, known in zip(everything, whole, strict=True):
        for other in everything:
            other.requires_grad_(other is leaf)
        (alone,) = gradients(sq.solve(module, x0, u).states, weight, [leaf])
        assert largest_error([alone], [known]) < 1e-14


@pytest.mark.parametrize("kind", KINDS)
def test_no_steps(kind, rng):
    module = module_of(kind, rng)
    x0 = tensor(rng, size_of(module))
    states = sq.solve(module, x0, torch.zeros(0, 3, dtype=torch.float64)).states
    assert states.shape == (0, size_of(module))


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_flows_from_behind_a_nan(kind, rng, never_dense):
    module = module_of(kind, rng)
    u, x0 = tensor(rng, 20, 3, grad=False), tensor(rng, size_of(module))
    u[12, 1] = float("nan")
    u.requires_grad_()
    leaves = [x0, u, *module.parameters()]
    states = sq.solve(module, x0, u, method="sequential").states
    ours = torch.autograd.grad(states[:12].square().sum(), leaves, retain_graph=True)
    truth = torch.autograd.grad(loop(torch_step(module), x0, u[:12]).square().sum(), leaves)
    assert largest_error(ours, truth) < 1e-12
    with pytest.raises(ValueError, match="NaN or inf, from step 12 on"):
        states.sum().backward()


@pytest.mark.parametrize("scale", [1e-200, 1e200])
@pytest.mark.parametrize("kind", KINDS)
def test_losses_of_any_scale(kind, scale, rng):
    module = module_of(kind, rng)
    u, x0 = tensor(rng, 20, 3), tensor(rng, size_of(module))
    leaves, weight = [x0, u, *module.parameters()], scale * tensor(rng, 20, size_of(module), grad=False)
    ours = gradients(sq.solve(module, x0, u, method="sequential").states, weight, leaves)
    truth = gradients(loop(torch_step(module), x0, u), weight, leaves)
    assert all(torch.isfinite(g).all() for g in ours)
    assert largest_error([g / scale for g in ours], [g / scale for g in truth]) < 1e-12


@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
def test_gates_that_are_closed(kind, rng):
    """Weights and inputs so large that gates are 0 or 1 to the last bit: the derivatives are those of torch."""
    module = module_of(kind, rng, scale=30.0)
    u, x0 = 30 * tensor(rng, 20, 3, grad=False), tensor(rng, size_of(module))
    leaves, weight = [x0, u.requires_grad_(), *module.parameters()], tensor(rng, 20, size_of(module), grad=False)
    ours = gradients(sq.solve(module, x0, u, method="sequential").states, weight, leaves)
    for mine, theirs in zip(ours, gradients(loop(torch_step(module), x0, u), weight, leaves), strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-9, atol=1e-12)


def test_weights_made_from_parameters(rng, never_dense):
    class Halved(nn.Module):
        def forward(self, x):
            return x / 2

    plain = module_of("gru", rng)
    u, x0 = tensor(rng, 30, 3, grad=False), torch.zeros(5).double()
    parametrize.register_parametrization(plain, "weight_hh_l0", Halved())
    leaves = list(plain.parameters())
    ours = torch.autograd.grad(sq.solve(plain, x0, u).states.square().sum(), leaves)
    truth = torch.autograd.grad(loop(torch_step(plain), x0, u).square().sum(), leaves)
    assert largest_error(ours, truth) < 1e-12


def test_second_derivatives_keep_the_route_of_torch(rng):
    module = module_of("gru", rng, units=3)
    u, x0 = tensor(rng, 6, 3), tensor(rng, 3)
    found = []
    for states in (sq.solve(module, x0, u).states, loop(torch_step(module), x0, u)):
        (first,) = torch.autograd.grad(states.square().sum(), u, create_graph=True)
        found.append(torch.autograd.grad(first.square().sum(), [u, x0, *module.parameters()]))
    assert largest_error(*found) < 1e-11


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("kind", ["rnn", "relu", "gru"])
def test_a_layer_is_trained_without_torchs_loop(kind, batch_first, rng, monkeypatch):
    module = module_of(kind, rng, bias=batch_first)
    module.batch_first = batch_first
    fast = sq.parallelize(module, method="sequential")
    x, h = tensor(rng, 6, 7, 3), tensor(rng, 1, 6 if batch_first else 7, 5)
    weight, last = tensor(rng, 6, 7, 5, grad=False), tensor(rng, *h.shape, grad=False)
    leaves = [x, *module.parameters()]

    def both(run, *state):
        output, final = run(x, *state)
        together = (output * weight).sum() + (final * last).sum()
        loss = (together, (final * last).sum(), (output * weight).sum())
        return [torch.autograd.grad(one, [*leaves, *state], retain_graph=True) for one in loss]

    truth = both(module), both(module, h)
    with monkeypatch.context() as patch:
        patch.setattr("seqsolve.calls.Call.replay", None)
        ours = both(fast), both(fast, h)
    for mine, theirs in zip(ours, truth, strict=True):
        assert max(largest_error(a, b) for a, b in zip(mine, theirs, strict=True)) < 1e-12


def test_a_layer_whose_output_was_written_into(rng):
    module = module_of("gru", rng)
    u = tensor(rng, 20, 2, 3)
    output = sq.parallelize(module, method="sequential")(u)[0]
    loss = output.sum()
    output.detach().mul_(2)  # the states are not in it any more
    ours, truth = torch.autograd.grad(loss, u), torch.autograd.grad(module(u)[0].sum(), u)
    assert largest_error(ours, truth) < 1e-12
