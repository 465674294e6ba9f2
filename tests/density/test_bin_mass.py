"""The rate of a bin: against 100 digits, its gradients against differences, and both paths against each other."""

import math

import numpy as np
import pytest
import torch

from density.bin_mass import autocorrelation, bin_bits, reference_bits
from tests.reference import fourier_bin_bits

TAIL = 1e-4


@pytest.fixture
def a(rng):
    return torch.tensor(rng.normal(size=(2, 9)) / (1 + np.arange(9)))


def logs(value, dtype, channels=2):
    return torch.full((channels, 1), math.log(value), dtype=dtype)


@pytest.mark.parametrize("dtype, bound", [(torch.float64, 1e-11), (torch.float32, 3e-7)])
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("scale", [1e-2, 0.3, 2.0, 1e4])
def test_bits_are_those_of_the_cdf(a, dtype, bound, fused, scale):
    x = torch.tensor([0, 0.1, -0.4, 0.5, 1, -2.3, 7, 40, -300, 1e5, 1e12], dtype=dtype).expand(1, 2, -1)
    a, log_scale = a.to(dtype), logs(scale, dtype)
    if fused:
        bits = bin_bits(x, log_scale, logs(1.0, dtype), a, TAIL)
    else:
        bits = reference_bits(x, log_scale, logs(1.0, dtype), autocorrelation(a), TAIL, a)
    assert bits.dtype == dtype
    for j in range(2):
        for value, ours in zip(x[0, j].tolist(), bits[0, j].tolist()):
            exact = fourier_bin_bits(value, math.exp(log_scale[0, 0].item()), 1.0, a[j].tolist(), TAIL)
            assert ours == pytest.approx(exact, rel=bound, abs=4 * bound if fused else 3e3 * bound)


def test_the_bins_of_a_line_hold_everything(a):
    x = torch.arange(-2000.0, 2001.0, dtype=torch.float64).expand(1, 2, -1)
    mass = torch.exp2(-bin_bits(x, logs(3.0, torch.float64), logs(1.0, torch.float64), a, TAIL)).sum(-1)
    outside = TAIL * 3 / 2003  # 2 (1 - T(2000.5 / 3))
    assert mass[0].tolist() == pytest.approx([1 - outside] * 2, abs=1e-7)


@pytest.mark.parametrize("scale", [0.05, 1.0, 50.0])
def test_the_kernel_has_the_gradient_of_the_formula(a, rng, scale):
    x = torch.tensor(rng.normal(size=(3, 2, 40)) * np.array([0.1, 5, 4000])[:, None, None]).requires_grad_()
    parts = [logs(scale, torch.float64), logs(0.8, torch.float64), a.clone()]
    inputs = (x, *(p.requires_grad_() for p in parts))
    upstream = torch.tensor(rng.normal(size=x.shape))
    log_scale, log_step, coefficients = parts
    ours = torch.autograd.grad((bin_bits(x, log_scale, log_step, coefficients, TAIL) * upstream).sum(), inputs)
    bits = reference_bits(x, log_scale, log_step, autocorrelation(coefficients), TAIL, coefficients)
    theirs = torch.autograd.grad((bits * upstream).sum(), inputs)
    for mine, yours in zip(ours, theirs):
        assert (mine - yours).abs().max() <= 1e-9 * yours.abs().max()


@pytest.mark.parametrize("shape", [(5, 3, 7), (33, 3, 1), (1, 3, 64), (3, 3, 0), (0, 3, 4)])
@pytest.mark.parametrize("order", [1, 6, 7, 128])
def test_any_order_and_any_run_of_values(shape, order, rng):
    """Odd orders, items that end inside a vector, one value an item, none at all."""
    dtype = torch.float64
    x = torch.tensor(rng.laplace(size=shape) * 30, dtype=dtype).requires_grad_()
    parts = [torch.tensor(rng.normal(size=(3, 1)), dtype=dtype).requires_grad_() for _ in range(2)]
    weights = torch.tensor(rng.normal(size=(3, order + 1)) / (1 + np.arange(order + 1))).requires_grad_()
    inputs, upstream = (x, *parts, weights), torch.tensor(rng.normal(size=shape))
    ours = bin_bits(x, *parts, weights, TAIL)
    theirs = reference_bits(x, *parts, autocorrelation(weights), TAIL, weights)
    assert torch.allclose(ours, theirs, rtol=1e-9, atol=1e-9)
    pulled = [torch.autograd.grad((bits * upstream).sum(), inputs, allow_unused=True) for bits in (ours, theirs)]
    for mine, yours in zip(*pulled):
        assert mine.shape == yours.shape
        assert torch.linalg.vector_norm(mine - yours) <= 1e-8 * (1 + torch.linalg.vector_norm(yours))


def test_a_step_far_wider_than_the_density_is_one_bin(a):
    x = torch.tensor([0.0, 400.0, -499.0, 501.0, 1400.0], dtype=torch.float64).expand(1, 2, -1)
    bits = bin_bits(x, logs(1.0, torch.float64), logs(1000.0, torch.float64), a, TAIL)
    plain = reference_bits(x, logs(1.0, torch.float64), logs(1000.0, torch.float64), autocorrelation(a), TAIL, a)
    assert bits[0, 0, :2].tolist() == pytest.approx([0, 0], abs=1e-3)
    assert torch.allclose(bits, plain, rtol=1e-9, atol=1e-12)


def test_gradcheck_and_second_derivatives(a):
    x = torch.tensor([[[0.3, -2.0, 7.0], [0.0, 400.0, -3.3]]], dtype=torch.float64, requires_grad=True)
    log_scale, log_step = logs(1.3, torch.float64).requires_grad_(), logs(0.7, torch.float64).requires_grad_()
    inputs = (x, log_scale, log_step, a.requires_grad_())
    assert torch.autograd.gradcheck(lambda *t: bin_bits(*t, TAIL), inputs)
    assert torch.autograd.gradgradcheck(lambda *t: bin_bits(*t, TAIL), inputs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e3])
def test_an_outlier_has_a_gradient_at_any_distance(a, dtype, fused, scale):
    x = torch.tensor([[[1e3, 1e8, 1e20, 1e30], [-1e3, -1e8, -1e20, -1e30]]], dtype=dtype, requires_grad=True)
    a = a.to(dtype)
    c = autocorrelation(a)
    parts = logs(scale, dtype), logs(1.0, dtype)
    bits = bin_bits(x, *parts, a, TAIL) if fused else reference_bits(x, *parts, c, TAIL, a)
    bits.sum().backward()
    assert torch.isfinite(bits).all()
    far = x.detach().abs() > 2 * scale
    slope = x.grad * x.detach()  # bits grow by 2 / ln 2 each time the distance grows by e
    assert (slope[far] > 0).all()
    assert slope[0, :, 2:].flatten().tolist() == pytest.approx([2 / math.log(2)] * 4, rel=1e-5)


def test_the_border_of_the_far_formula_is_smooth(a):
    edge = 41.0  # 40 scales + a step
    x = torch.tensor([edge * (1 - 1e-9), edge * (1 + 1e-9)], dtype=torch.float64).expand(1, 2, -1).requires_grad_()
    for bits in (
        bin_bits(x, logs(1.0, torch.float64), logs(1.0, torch.float64), a, TAIL),
        reference_bits(x, logs(1.0, torch.float64), logs(1.0, torch.float64), autocorrelation(a), TAIL, a),
    ):
        (grad,) = torch.autograd.grad(bits.sum(), x)
        assert torch.allclose(bits[..., 0], bits[..., 1], atol=1e-8)
        assert torch.allclose(grad[..., 0], grad[..., 1], rtol=1e-8)


def test_a_zero_of_the_density_is_still_coded():
    """p(u) = |1 - exp(i pi u)|^2 / 2 vanishes at u = 0, and 1 + exp(i pi u) at u = 1: the tail holds the bin."""
    a = torch.tensor([[1.0, -1.0], [1.0, 1.0]])
    x = torch.tensor([[[-9.0, -5.0, 0, 5, 9], [-9, -5, 0, 5, 9]]])
    bits = bin_bits(x, logs(0.5, torch.float32), logs(1e-3, torch.float32), a, TAIL)
    for j in range(2):
        exact = [fourier_bin_bits(v, 0.5, 1e-3, a[j].tolist(), TAIL) for v in x[0, j].tolist()]
        assert bits[0, j].tolist() == pytest.approx(exact, rel=1e-6)


def test_threads_and_layout_do_not_change_a_bit(a, rng):
    x = torch.tensor(rng.normal(size=(4, 2, 3000)) * 5, dtype=torch.float32)
    parts = logs(1.5, torch.float32), logs(1.0, torch.float32)

    def run(x):
        x, weights = x.requires_grad_(), a.float().requires_grad_()
        bits = bin_bits(x, *parts, weights, TAIL)
        bits.sum().backward()
        return bits.detach(), x.grad, weights.grad

    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(run(x.clone()))
        strided = torch.empty(4, 3000, 2).transpose(1, 2).copy_(x).detach()
        results.append(run(strided))
    finally:
        torch.set_num_threads(before)
    for result in results[1:]:
        assert all(torch.equal(mine, first) for mine, first in zip(result, results[0]))
