"""A first guess of a Fourier density from samples, in closed form: moments, smoothing, spectral factor."""

import math

import torch
from torch import Tensor

from .bin_mass import bin_bits

_FLOOR = 1e-3  # share of the uniform density that keeps the logarithm finite


def spectral_start(samples: Tensor, log_step: Tensor, order: int, tail: float) -> tuple[Tensor, Tensor, Tensor]:
    """Location (C, 1), log_scale (C, 1) and coefficients (C, K + 1) for (C, n) samples in float64.

    The logistic map is centred at the median and scaled to the quartiles, or two, four or eight times wider for heavier
    tails. For each width the coefficients are the factor of the Fejer mean of order K of the mapped samples, which is
    exact, or the first K + 1 terms of the factor of the mean of order 4 K, which is sharper. A channel keeps what costs
    it the fewest bits; the quartile map with flat coefficients is among the choices.
    """
    levels = torch.tensor([0.25, 0.5, 0.75], dtype=samples.dtype, device=samples.device)
    quartiles = torch.quantile(_thinned(samples), levels, dim=1).unsqueeze(-1)
    location, spread = quartiles[1], (quartiles[2] - quartiles[0]) / (2 * math.log(3))
    deviation = samples.std(dim=1, keepdim=True, correction=0) * (math.sqrt(3) / math.pi)
    step = torch.exp(log_step)
    log_scale = torch.log(torch.where(spread > 0.05 * step, spread, torch.maximum(0.25 * deviation, 0.05 * step)))

    flat = torch.zeros(len(samples), order + 1, dtype=samples.dtype, device=samples.device)
    flat[:, 0] = 1
    centre, rows = (samples - location).unsqueeze(0), torch.arange(len(samples), device=samples.device)
    choices = [(log_scale, flat)]
    for width in (1, 2, 4, 8):
        wide = log_scale + math.log(width)
        moments = _moments(torch.sigmoid((samples - location) * torch.exp(-wide)), 4 * order)
        choices += [(wide, _factor(moments[:, :order], order)), (wide, _factor(moments, order))]
    costs = torch.stack([bin_bits(centre, scale, log_step, a, tail).mean(-1)[0] for scale, a in choices])
    best = costs.argmin(0)
    scales, coefficients = (torch.stack(kind) for kind in zip(*choices))
    return location, scales[best, rows], coefficients[best, rows]


def _thinned(samples: Tensor, most: int = 10**6) -> Tensor:
    """Every so many-th value where quantiles of all would be refused or slow."""
    return samples[:, :: max(1, -(-samples.shape[1] // most))]


def _moments(u: Tensor, count: int) -> Tensor:
    """(C, count) means of cos(k pi u), k = 1 .. count, by Chebyshev's recurrence."""
    now = torch.cos(math.pi * u)
    twice, before, means = 2 * now, torch.ones_like(now), []
    for _ in range(count):
        means.append(now.mean(dim=1))
        now, before = twice * now - before, now
    return torch.stack(means, 1)


def _factor(moments: Tensor, order: int) -> Tensor:
    """First `order` + 1 coefficients of the minimum-phase A with |A|^2 = the Fejer mean of the series with `moments`.

    Kolmogorov: log A is the causal half of log p. Exact where `order` is that of the series.
    """
    count = moments.shape[1]
    nodes = 1 << (32 * (count + 1) - 1).bit_length()
    fejer = 1 - torch.arange(count + 1, dtype=moments.dtype, device=moments.device) / (count + 1)
    series = torch.cat([torch.ones_like(moments[:, :1]), moments], 1) * fejer
    density = torch.fft.hfft(series, nodes)  # p at 2 pi j / nodes
    density = (1 - _FLOOR) * density.clamp_min(0) + _FLOOR
    cepstrum = torch.fft.ihfft(torch.log(density)).real  # log p = r_0 + 2 sum r_k cos(k theta)
    half = cepstrum.clone()
    half[:, 0] *= 0.5
    half[:, -1] *= 0.5
    response = torch.exp(torch.fft.fft(half, nodes))
    return torch.fft.ifft(response).real[:, : order + 1].contiguous()
