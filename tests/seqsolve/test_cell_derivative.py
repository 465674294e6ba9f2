"""The gradient through a cell of your own is that of its steps in torch, whichever way it is found."""

import copy
import pickle

import numpy as np
import pytest
import torch

import seqsolve as sq
from seqsolve import cell_derivative

from .test_cell_gradient import largest_error


class Oscillator(sq.Cell):
    """v <- v + dt (tanh(w x + a) - v);  x <- x + dt v."""

    state_size = 2

    def __init__(self, dtype=torch.float64):
        super().__init__()
        self.w = torch.nn.Parameter(torch.tensor([-1.5], dtype=dtype))

    def step_parameters(self):
        return (self.w,)

    def step(self, x, a, params):
        p, v = x[..., :1], x[..., 1:]
        new = v + 0.1 * (torch.tanh(params[0] * p + a) - v)
        return torch.cat([p + 0.1 * new, new], -1)

    @staticmethod
    def kernel(x, a, params, new):
        (w,) = params
        new[1] = x[1] + 0.1 * (np.tanh(w[0] * x[0] + a[0]) - x[1])
        new[0] = x[0] + 0.1 * new[1]
        a[0] = np.nan  # a kernel may write here


class Derived(Oscillator):
    @staticmethod
    def derivative(x, a, params, new, g, by_x, by_a, by_params):
        (w,) = params
        s = np.tanh(w[0] * x[0] + a[0])
        by_v = g[1] + 0.1 * g[0]
        inner = 0.1 * by_v * (1 - s * s)
        by_x[0] = g[0] + inner * w[0]
        by_x[1] = 0.9 * by_v
        by_a[0] = inner
        by_params[0][0] += inner * x[0]


class Wrong(Derived):
    @staticmethod
    def derivative(x, a, params, new, g, by_x, by_a, by_params):
        by_x[0] = g[0]
        by_x[1] = g[1]
        by_a[0] = 0.0


class Plain(Oscillator):
    kernel = None


def draw(rng, *shape, dtype=torch.float64):
    return torch.from_numpy(rng.standard_normal(shape)).to(dtype).requires_grad_()


def gradients(run, cell, u, x0):
    y = run(cell, u, x0)
    weight = torch.cos(torch.arange(y.numel(), dtype=torch.float64)).reshape(y.shape)
    return torch.autograd.grad((y * weight).sum(), [u, x0, *cell.parameters()])


def by_parallelize(cell, u, x0):
    return sq.parallelize(cell, method="sequential")(u, x0)[0]


def by_solve(cell, u, x0):
    return sq.solve(cell, x0, u, method="sequential").states


@pytest.fixture
def no_steps(monkeypatch):
    """After the comparison of one step, the steps in torch must not be run."""
    steps = cell_derivative.by_steps

    def once(cell, saved, g, wanted, graph=False):
        assert len(saved[0]) == 1, "the gradient came from the steps in torch"
        return steps(cell, saved, g, wanted, graph)

    monkeypatch.setattr(cell_derivative, "by_steps", once)


@pytest.mark.parametrize("run", [by_parallelize, by_solve])
@pytest.mark.parametrize("batch", [(), (1,), (3,), (2, 5)])
def test_a_compiled_derivative(batch, run, rng, no_steps):
    cell, u, x0 = Derived(), draw(rng, 60, *batch, 1), draw(rng, *batch, 2)
    truth = gradients(lambda cell, u, x0: cell(u, x0)[0], cell, u, x0)
    assert largest_error(gradients(run, cell, u, x0), truth) < 1e-12
    single = Derived(torch.float32)
    u32, x32 = (t.detach().float().requires_grad_() for t in (u, x0))
    assert largest_error(gradients(run, single, u32, x32), truth) < 1e-4


@pytest.mark.parametrize("scan", [True, False])
def test_without_one_the_faster_of_two_ways(scan, rng, monkeypatch):
    monkeypatch.setattr(cell_derivative, "_scan_is_faster", lambda *_: scan)
    cell, u, x0 = Oscillator(), draw(rng, 60, 3, 1), draw(rng, 3, 2)
    truth = gradients(lambda cell, u, x0: cell(u, x0)[0], cell, u, x0)
    assert largest_error(gradients(by_parallelize, cell, u, x0), truth) < 1e-12


def test_the_two_ways_are_compared_once(rng, monkeypatch):
    fast, u, x0 = sq.parallelize(Oscillator(), method="sequential"), draw(rng, 60, 3, 1), draw(rng, 3, 2)
    calls = []
    seconds = iter([8.0, 1.0] * 2)  # of 8 steps in torch, of 60 by the scan
    monkeypatch.setattr(cell_derivative, "_seconds", lambda run: calls.append(run) or next(seconds))
    for _ in range(3):
        fast(u, x0)[0].sum().backward()
    assert len(calls) == 2
    fast(u[:5], x0)[0].sum().backward()  # too few steps for anything else
    assert len(calls) == 2


def test_a_wrong_derivative_is_named(rng):
    u, x0 = draw(rng, 9, 2, 1), draw(rng, 2, 2)
    message = r"the derivative that Wrong gives differs from that of its step in torch: by_a by .* correct `derivative`"
    for run in (by_parallelize, by_solve):
        with pytest.raises(ValueError, match=message):
            gradients(run, Wrong(), u, x0)


def test_second_derivatives_nan_and_copies(rng):
    cell, u, x0 = Derived(), draw(rng, 12, 2, 1), draw(rng, 2, 2)
    found = []
    for run in (lambda c, u, x0: c(u, x0)[0], by_parallelize):
        (first,) = torch.autograd.grad(run(cell, u, x0).square().sum(), u, create_graph=True)
        found.append(torch.autograd.grad(first.square().sum(), [u, x0, cell.w]))
    assert largest_error(*found) < 1e-12
    bad = u.detach().clone()
    bad[5, 1] = float("nan")
    ours, theirs = (
        torch.autograd.grad(run(cell, bad, x0).sum(), [x0, cell.w])
        for run in (lambda c, u, x: c(u, x)[0], by_parallelize)
    )
    assert all(torch.equal(torch.isnan(a), torch.isnan(b)) for a, b in zip(ours, theirs, strict=True))
    fast = sq.parallelize(cell, method="sequential")
    fast(u, x0)[0].sum().backward()
    for other in (copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))):
        assert torch.equal(other(u, x0)[0], fast(u, x0)[0])


def test_threads_change_nothing(rng, monkeypatch):
    monkeypatch.setattr(cell_derivative, "_WORTH_A_THREAD", 1e-12)
    cell, u, x0 = Derived(), draw(rng, 40, 19, 1), draw(rng, 19, 2)
    found = [
        gradients(lambda c, u, x, n=n: sq.parallelize(c, method="sequential", workers=n)(u, x)[0], cell, u, x0)
        for n in (1, 2, 3)
    ]
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))


def test_a_cell_without_a_kernel_keeps_the_gradient_of_its_steps(rng):
    cell, u, x0 = Plain(), draw(rng, 20, 2, 1), draw(rng, 2, 2)
    truth = gradients(lambda cell, u, x0: cell(u, x0)[0], cell, u, x0)
    assert largest_error(gradients(lambda c, u, x: sq.parallelize(c)(u, x)[0], cell, u, x0), truth) == 0
    assert largest_error(gradients(by_solve, cell, u, x0), truth) < 1e-12
