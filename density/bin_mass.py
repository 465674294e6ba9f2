"""Code length of a bin under a Fourier density on the line, exact and with gradients at any distance.

In u = F(z) = 1 / (1 + exp(-z)), z = (x - location) / scale, the density is p(u) = |A(u)|^2 / |a|^2 with
A(u) = sum_k a_k exp(i k pi u) and real a: 1 + 2 sum_k c_k cos(k pi u), c the autocorrelation of a (De la Fuente, Singh
and Balle 2024, arXiv:2402.15345). A bin of width w in u round m then holds exactly

    P(m + w/2) - P(m - w/2) = w (p(m) - 2 sum_k c_k cos(k pi m) (1 - sinc(k w / 2))),

in which nothing cancels: w comes from a product of two sigmoids, p(m) is a sum of squares, and 1 - sinc has a series.
A share `tail` of the mass has the distribution T(z) = (1 + z / (1 + |z|)) / 2, which decays like Cauchy's but needs
neither an arctangent nor a difference. Far from the centre its logarithm is taken in closed form.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor

from ._threads import thread_map

_FAR = 40.0  # scales from where exp(-z) < 1e-17 is nothing beside the tail
_SERIAL = 2**14  # values below which a second thread costs more than it brings


def bin_bits(x: Tensor, log_scale: Tensor, log_step: Tensor, a: Tensor, tail: float) -> Tensor:
    """-log2 of the mass of [x - step/2, x + step/2], the density being centred at 0.

    Parameters
    ----------
    x : (N, C, L) float32 or float64.
    log_scale, log_step : natural logarithms, (C, 1) or (N, C, L).
    a : (C, K + 1) for one density a channel, or (N, C, L, K + 1) for one a value; any norm > 0.
    tail : share of the mass in the safety tail, > 0.

    Returns
    -------
    Tensor of the shape of x; every entry is finite, and so is its gradient, which is not zero far out.

    Complexity
    ----------
    O(K) a value. One density a channel on the CPU runs in a fused kernel that keeps nothing but its arguments for the
    gradient; elsewhere O(K) numbers a value are kept.

    Examples
    --------
    >>> import torch
    >>> from density.bin_mass import bin_bits
    >>> zero, flat = torch.zeros(1, 1), torch.tensor([[1.0, 0.0]])
    >>> bin_bits(torch.tensor([[[0.0, 1e30]]]), zero, zero, flat, 1e-4)  # a logistic density, and far out
    tensor([[[  2.0296, 213.6034]]])
    """
    if x.device.type == "cpu" and a.ndim == 2 and type(x) in (Tensor, torch.nn.Parameter):
        return _Fused.apply(x, log_scale.reshape(-1), log_step.reshape(-1), autocorrelation(a.double()), tail)
    return reference_bits(x, log_scale, log_step, autocorrelation(a), tail, a)


def autocorrelation(a: Tensor) -> Tensor:
    """c_1, ..., c_K of (..., K + 1) coefficients, scaled to c_0 = 1: one FFT forth and one back."""
    K = a.shape[-1] - 1
    spectrum = torch.fft.rfft(a, 1 << (2 * K + 1).bit_length())
    c = torch.fft.irfft(spectrum.real.square() + spectrum.imag.square(), dim=-1)
    return c[..., 1 : K + 1] / a.square().sum(-1, keepdim=True)


def reference_bits(
    x: Tensor, log_scale: Tensor, log_step: Tensor, c: Tensor, tail: float, a: Tensor | None = None
) -> Tensor:
    """`bin_bits` in plain tensor operations, for any device and any number of derivatives."""
    step, scale = torch.exp(log_step), torch.exp(log_scale)
    far = x.abs() > _FAR * scale + step
    z = torch.where(far, torch.zeros_like(x), x) / scale
    h = 0.5 * torch.exp(log_step - log_scale)
    low, high = z - h, z + h

    width = torch.sigmoid(high) * torch.sigmoid(-low) * -torch.expm1(-2 * h)
    middle = 0.5 * (torch.sigmoid(low) + torch.sigmoid(high))
    mass = width * _mean_density(middle, width, c, a)
    below, above = low.abs(), high.abs()
    outside = h / ((1 + below) * (1 + above))  # both edges on one side of the centre
    across = 0.5 * (below / (1 + below) + above / (1 + above))
    near = -torch.log2((1 - tail) * mass + tail * torch.where(low * high > 0, outside, across))

    distance = torch.where(far, x.abs(), _FAR * scale + 2 * step)
    edges = torch.log2(distance + (scale - 0.5 * step)) + torch.log2(distance + (scale + 0.5 * step))
    beyond = edges - (log_step + log_scale) / math.log(2) + (1 - math.log2(tail))
    return torch.where(far, beyond, near)


def _mean_density(middle: Tensor, width: Tensor, c: Tensor, a: Tensor | None) -> Tensor:
    """Mean of p over a bin in u."""
    k = torch.arange(1, c.shape[-1] + 1, dtype=middle.dtype, device=middle.device)
    angle = (math.pi * middle).unsqueeze(-1) * k
    cosine = torch.cos(angle)
    if a is None:
        peak = 1 + 2 * _dot(cosine, c)
    else:
        norm, first = a.square().sum(-1), a[..., 0]
        if a.ndim == 2:
            norm, first = norm.unsqueeze(-1), first.unsqueeze(-1)
        real, imaginary = first + _dot(cosine, a[..., 1:]), _dot(torch.sin(angle), a[..., 1:])
        peak = (real.square() + imaginary.square()) / norm
    shrink = _one_minus_sinc((0.5 * math.pi * width).unsqueeze(-1) * k)
    return (peak - 2 * _dot(cosine * shrink, c)).clamp_min(0)


def _dot(basis: Tensor, weights: Tensor) -> Tensor:
    """Sum over the last axis; one weight vector a channel is a matrix product."""
    if weights.ndim > 2:
        return (basis * weights).sum(-1)
    return torch.matmul(basis, weights.unsqueeze(-1)).squeeze(-1)


def _one_minus_sinc(x: Tensor) -> Tensor:
    """1 - sin(x) / x without cancellation, x >= 0."""
    small = x < 1
    t = torch.where(small, x, torch.zeros_like(x)).square()
    series = 1 - t / 210
    for denominator in (156, 110, 72, 42, 20):  # (2 m)(2 m + 1) of the Taylor terms, from the last to the second
        series = 1 - t / denominator * series
    safe = torch.where(small, torch.ones_like(x), x)
    return torch.where(small, t / 6 * series, 1 - torch.sin(safe) / safe)


class _Fused(torch.autograd.Function):
    """The kernels of `_bin_mass_kernels`: the same sums for any number of threads."""

    @staticmethod
    def forward(ctx, x, log_scale, log_step, c, tail):  # type: ignore[override]
        from . import _bin_mass_kernels as kernels

        ctx.save_for_backward(x, log_scale, log_step, c)
        ctx.tail = tail
        out = torch.empty(x.shape, dtype=x.dtype)
        s, d, w = _parameters(log_scale, log_step, c)
        values, result = x.detach().contiguous().numpy(), out.numpy()
        _each_part(x, lambda part: kernels.bits(values, s, d, w, tail, *part, result))
        return out

    @staticmethod
    def backward(ctx, upstream):  # type: ignore[override]
        from . import _bin_mass_kernels as kernels

        x, log_scale, log_step, c = ctx.saved_tensors
        if torch.is_grad_enabled():  # asked for derivatives of this derivative
            inputs = tuple(t for t, wanted in zip(ctx.saved_tensors, ctx.needs_input_grad) if wanted)
            bits = reference_bits(x, log_scale.unsqueeze(-1), log_step.unsqueeze(-1), c.to(x.dtype), ctx.tail)
            found = iter(torch.autograd.grad(bits, inputs, upstream, create_graph=True, allow_unused=True))
            return *(next(found) if wanted else None for wanted in ctx.needs_input_grad[:4]), None
        s, d, w = _parameters(log_scale, log_step, c)
        grads = [torch.empty_like(x, memory_format=torch.contiguous_format)]
        grads += [torch.zeros(shape, dtype=torch.float64) for shape in (s.shape, d.shape, w.shape)]
        gx, gs, gd, gw = (grad.numpy() for grad in grads)
        values, pulled = x.detach().contiguous().numpy(), upstream.to(x.dtype).contiguous().numpy()
        _each_part(x, lambda part: kernels.gradient(values, s, d, w, ctx.tail, *part, pulled, gx, gs, gd, gw))
        grads[3] = grads[3][:, : c.shape[1]]
        return grads[0], *(g.to(p.dtype) for g, p in zip(grads[1:], (log_scale, log_step, c))), None


def _parameters(log_scale: Tensor, log_step: Tensor, c: Tensor):
    """As float64 arrays; the kernels take two harmonics at a time, so an odd number of them gets a zero more."""
    if c.shape[1] % 2:
        c = torch.nn.functional.pad(c.detach(), (0, 1))
    return [t.detach().to(torch.float64).contiguous().numpy() for t in (log_scale, log_step, c)]


def _each_part(x: Tensor, job) -> None:
    """job((first, last)) for parts of the channels; each channel is summed by one thread."""
    channels = x.shape[1]
    workers = 1 if x.numel() < _SERIAL else torch.get_num_threads()
    parts = min(channels, 4 * workers) if workers > 1 else 1
    edges = [channels * part // parts for part in range(parts + 1)]
    thread_map(job, list(pairwise(edges)), workers)
