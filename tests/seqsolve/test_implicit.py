"""The implicit gradient is that of autograd through the loop, once and twice, whatever found the states."""

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck, gradgradcheck

import seqsolve as sq


def tensor(rng, *shape, grad=True):
    return torch.from_numpy(rng.standard_normal(shape)).requires_grad_(grad)


def step_of(B, c):
    """A step whose parameters are leaves of a closure, one of them through an operation made before."""
    scaled = 0.8 * B
    return lambda x, u: torch.tanh(x @ scaled.T + u * c)


def loop(step, x, inputs):
    out = []
    for u in inputs:
        x = step(x, u)
        out.append(x)
    return torch.stack(out)


@pytest.mark.parametrize("method", sq.METHODS)
def test_gradients_equal_autograd_through_the_loop(method, rng):
    B, c, x0, u = tensor(rng, 3, 3), tensor(rng, 3), tensor(rng, 2, 3), tensor(rng, 40, 2, 3)
    weight = tensor(rng, 40, 2, 3, grad=False)
    solution = sq.solve(step_of(B, c), x0, u, method=method, window=16, tol=1e-14)
    ours = torch.autograd.grad((solution.states * weight).sum(), (B, c, x0, u))
    truth = torch.autograd.grad((loop(step_of(B, c), x0, u) * weight).sum(), (B, c, x0, u))
    for mine, theirs in zip(ours, truth, strict=True):
        assert float((mine - theirs).abs().max()) < 1e-11 * float(theirs.abs().max())


def test_gradcheck_once_and_twice(rng):
    B, c, x0, u = tensor(rng, 2, 2), tensor(rng, 2), tensor(rng, 2), tensor(rng, 5, 2)

    def states(B, c, x0, u):
        return sq.solve(step_of(B, c), x0, u, method="newton", window=3, tol=1e-15).states

    assert gradcheck(states, (B, c, x0, u))
    assert gradgradcheck(states, (B, c, x0, u))
    # a state and inputs that depend on the parameters themselves: nothing may be counted twice

    def tangled(B, c):
        return states(B, c, B[0] * c, torch.stack([B[1], c, B[0] * c]))

    assert gradcheck(tangled, (B, c))
    assert gradgradcheck(tangled, (B, c))


@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
def test_cells_have_the_gradients_of_torch(kind, rng):
    module = sq.gallery.torch_init(kind, 3, 4, rng=rng, dtype=torch.float64)
    u = tensor(rng, 50, 2, 3)
    x0 = torch.zeros(2, 8 if kind == "lstm" else 4, dtype=torch.float64)
    weight = tensor(rng, 50, 2, 4, grad=False)
    leaves = [u, *module.parameters()]
    truth = torch.autograd.grad((module(u)[0] * weight).sum(), leaves)
    for method in ("sequential", "newton", "quasi"):
        states = sq.solve(module, x0, u, method=method, tol=1e-14).states
        ours = torch.autograd.grad((states[..., :4] * weight).sum(), leaves)
        for mine, theirs in zip(ours, truth, strict=True):
            assert float((mine - theirs).abs().max()) < 1e-12 * max(1.0, float(theirs.abs().max()))


def test_a_module_of_the_user_is_trained(rng):
    """Twenty steps of gradient descent through the solver and through the loop end at the same weights."""

    class Cell(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(5, 3, dtype=torch.float64)

        def forward(self, x, u):
            return torch.tanh(self.inner(torch.cat([x, u], -1)))

    u, goal, x0 = tensor(rng, 30, 2, grad=False), tensor(rng, 30, 3, grad=False), torch.zeros(3).double()
    first, second = Cell(), Cell()
    second.load_state_dict(first.state_dict())
    for module, run in (
        (first, lambda m: sq.solve(m, x0, u, method="newton").states),
        (second, lambda m: loop(m, x0, u)),
    ):
        optimiser = torch.optim.SGD(module.parameters(), lr=0.1)
        for _ in range(20):
            optimiser.zero_grad()
            (run(module) - goal).square().mean().backward()
            optimiser.step()
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-12)


def test_when_there_is_no_graph(rng):
    gru, u = sq.gallery.torch_init("gru", 3, 4, rng=rng), tensor(rng, 9, 3, grad=False).float()
    assert sq.solve(gru, torch.zeros(4), u).states.requires_grad
    with torch.no_grad():
        assert not sq.solve(gru, torch.zeros(4), u).states.requires_grad
    assert not sq.solve(gru.requires_grad_(False), torch.zeros(4), u).states.requires_grad
    assert not hasattr(sq.solve(gru.requires_grad_(), torch.zeros(4), u.numpy()).states, "requires_grad")


def test_inputs_made_in_inference_mode(rng):
    with torch.inference_mode():
        x0, u = torch.zeros(4), tensor(rng, 9, 3, grad=False).float()
    gru = sq.gallery.torch_init("gru", 3, 4, rng=rng)
    for options in ({}, {"model_sweeps": 2}):
        sq.solve(gru, x0, u, **options).states.sum().backward()
        assert gru.weight_hh_l0.grad.any()
    with torch.inference_mode():
        other = sq.gallery.torch_init("gru", 3, 4, rng=rng)  # weights that autograd may not record
    assert not sq.solve(other, x0, u).states.requires_grad


def test_nan_has_no_gradient_but_what_comes_before_does(rng):
    u = tensor(rng, 20, 1, grad=False)
    u[12] = float("nan")
    u.requires_grad_()
    states = sq.solve(lambda x, u: torch.tanh(0.5 * x + u), torch.zeros(1).double(), u, method="newton").states
    (g,) = torch.autograd.grad(states[:12].sum(), u, retain_graph=True)
    assert torch.isfinite(g).all()
    assert (g[:12] != 0).all()
    assert not g[12:].any()
    with pytest.raises(ValueError, match="the loss depends on states that are NaN or inf, from step 12 on"):
        states.sum().backward()


@pytest.mark.parametrize("method", ["jacobi", "picard", "constant", "frozen", "chord", "newton", "quasi"])
def test_a_truncated_iteration_is_a_model_with_its_own_gradient(method, rng):
    B, c, x0, u = tensor(rng, 2, 2), tensor(rng, 2), tensor(rng, 2), tensor(rng, 6, 2)

    def states(B, c, x0, u):
        return sq.solve(step_of(B, c), x0, u, method=method, model_sweeps=2, window=4).states

    solution = sq.solve(step_of(B, c), x0, u, method=method, model_sweeps=2, window=4)
    assert not solution.ok
    assert solution.status is sq.Status.MODEL
    assert solution.sweeps == 2
    assert len(solution.history) == 4
    assert gradcheck(states, (B, c, x0, u))
    with torch.no_grad():
        assert torch.allclose(states(B, c, x0, u), solution.states, rtol=0, atol=1e-15)


def test_more_sweeps_of_the_model_come_to_the_solution(rng):
    gru = sq.gallery.torch_init("gru", 3, 4, rng=rng, dtype=torch.float64)
    u, x0 = tensor(rng, 20, 3), torch.zeros(4).double()
    truth = gru(u)[0]
    for method in ("newton", "elk"):
        with torch.no_grad():
            gaps = [
                float((sq.solve(gru, x0, u, method=method, model_sweeps=k).states - truth).abs().max())
                for k in (1, 2, 20)
            ]
        assert gaps[0] > gaps[1] > gaps[2]
        assert gaps[2] < (1e-12 if method == "newton" else 1e-3)
    ours = torch.autograd.grad(sq.solve(gru, x0, u, model_sweeps=20).states.sum(), gru.weight_hh_l0)[0]
    theirs = torch.autograd.grad(truth.sum(), gru.weight_hh_l0)[0]
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-11)
    with pytest.raises(ValueError, match="has no gradient through the smoother of elk"):
        sq.solve(gru, x0, u, method="elk", model_sweeps=2)
