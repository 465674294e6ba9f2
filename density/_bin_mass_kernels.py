"""Fused kernels of `bin_mass` for tensors on the CPU: one channel at a time, in float64 whatever the tensors hold.

The mean of p over a bin is 1 + 2 sum_k c_k cos(k theta) sin(k phi) / (k phi), theta = pi m, phi = pi w / 2, and p at
its two edges has the sum 2 + 4 sum_k c_k cos(k theta) cos(k phi) and the difference
-4 sum_k c_k sin(k theta) sin(k phi); the four sequences follow from two Chebyshev recurrences. The recurrences of
`_LANES` values run side by side, which the compiler turns into vector instructions.
"""

import math

import numpy as np

from ._jit import kernel

_FAR = 40.0
_LANES = 16
_LN2 = math.log(2.0)
_MOST = 700.0  # exp stays finite


@kernel(fastmath={"contract"}, forceinline=True)
def _edges(centre, scale, h, shrink):
    """low, high, then the logistic function at both and at minus both, and the width of the bin in u."""
    low, high = centre / scale - h, centre / scale + h
    below, above = math.exp(min(-low, _MOST)), math.exp(min(-high, _MOST))
    u_low, u_high = 1.0 / (1.0 + below), 1.0 / (1.0 + above)
    return low, high, u_low, u_high, below * u_low, above * u_high, shrink * u_high * (below * u_low)


@kernel(fastmath={"contract"})
def bits(x, log_scale, log_step, c, tail, channel, out):
    """out[n, channel, l] = -log2 of the mass of the bin of x[n, channel, l]. Floor: six transcendentals, 6 K flops."""
    K = c.shape[1]
    count, length = x.shape[0] * x.shape[2], x.shape[2]
    scale, step = math.exp(log_scale[channel]), math.exp(log_step[channel])
    h = 0.5 * step / scale
    shrink = -math.expm1(-2.0 * h)
    constant = 1.0 - math.log2(tail) - (log_scale[channel] + log_step[channel]) / _LN2
    weights = c[channel] / np.arange(1, K + 1) * (4.0 / math.pi)
    lanes = np.zeros((9, _LANES))
    c0, c1, s0, s1, twice, turn, total, rest, width = lanes
    far = np.zeros(_LANES, np.bool_)
    for begin in range(0, count, _LANES):
        size = min(_LANES, count - begin)
        for j in range(size):
            centre = float(x[(begin + j) // length, channel, (begin + j) % length])
            far[j] = abs(centre) > _FAR * scale + step
            if far[j]:
                continue
            low, high, u_low, u_high, _, _, width[j] = _edges(centre, scale, h, shrink)
            theta, phi = 0.5 * math.pi * (u_low + u_high), 0.5 * math.pi * width[j]
            c0[j], c1[j], s0[j], s1[j], total[j] = 1.0, math.cos(theta), 0.0, math.sin(phi), 0.0
            twice[j], turn[j] = 2.0 * c1[j], 2.0 * math.cos(phi)
            below, above = abs(low), abs(high)
            if low * high > 0.0:
                rest[j] = h / ((1.0 + below) * (1.0 + above))
            else:
                rest[j] = 0.5 * (below / (1.0 + below) + above / (1.0 + above))
        for k in range(K):
            for j in range(_LANES):
                total[j] += weights[k] * (c1[j] * s1[j])
                c0[j], c1[j] = c1[j], twice[j] * c1[j] - c0[j]
                s0[j], s1[j] = s1[j], turn[j] * s1[j] - s0[j]
        for j in range(size):
            n, i = (begin + j) // length, (begin + j) % length
            if far[j]:
                distance = abs(float(x[n, channel, i]))
                inner, outer = distance + (scale - 0.5 * step), distance + (scale + 0.5 * step)
                out[n, channel, i] = math.log2(inner) + math.log2(outer) + constant
            else:
                out[n, channel, i] = -math.log2((1.0 - tail) * max(0.0, width[j] + total[j]) + tail * rest[j])


@kernel(fastmath={"contract"})
def gradient(x, log_scale, log_step, c, tail, channel, upstream, grad_x, grad_scale, grad_step, grad_c):
    """Pull `upstream` back to every argument of `bits`; the sums of a channel run in one order."""
    K = c.shape[1]
    count, length = x.shape[0] * x.shape[2], x.shape[2]
    scale, step = math.exp(log_scale[channel]), math.exp(log_step[channel])
    h = 0.5 * step / scale
    shrink = -math.expm1(-2.0 * h)
    weights = c[channel].copy()
    lanes = np.zeros((19, _LANES))
    c0, c1, d0, d1, s0, s1, t0, t1, twice, turn = lanes[:10]
    total, both, apart, width, low, high, low_slope, high_slope, factor = lanes[10:]
    products, sums = np.zeros((K, _LANES)), np.zeros((K, _LANES))
    far = np.zeros(_LANES, np.bool_)
    scale_sum = step_sum = 0.0
    for begin in range(0, count, _LANES):
        size = min(_LANES, count - begin)
        for j in range(_LANES):
            factor[j] = 0.0
        for j in range(size):
            centre = float(x[(begin + j) // length, channel, (begin + j) % length])
            far[j] = abs(centre) > _FAR * scale + step
            if far[j]:
                continue
            low[j], high[j], u_low, u_high, v_low, v_high, width[j] = _edges(centre, scale, h, shrink)
            low_slope[j], high_slope[j] = u_low * v_low, u_high * v_high
            theta, phi = 0.5 * math.pi * (u_low + u_high), 0.5 * math.pi * width[j]
            c0[j], c1[j], d0[j], d1[j] = 1.0, math.cos(theta), 0.0, math.sin(theta)
            t0[j], t1[j], s0[j], s1[j] = 1.0, math.cos(phi), 0.0, math.sin(phi)
            twice[j], turn[j] = 2.0 * c1[j], 2.0 * t1[j]
            total[j] = both[j] = apart[j] = 0.0
        for k in range(K):
            share = weights[k] * (4.0 / math.pi) / (k + 1)
            for j in range(_LANES):
                product = c1[j] * s1[j]
                products[k, j] = product
                total[j] += share * product
                both[j] += weights[k] * (c1[j] * t1[j])
                apart[j] += weights[k] * (d1[j] * s1[j])
                c0[j], c1[j] = c1[j], twice[j] * c1[j] - c0[j]
                d0[j], d1[j] = d1[j], twice[j] * d1[j] - d0[j]
                s0[j], s1[j] = s1[j], turn[j] * s1[j] - s0[j]
                t0[j], t1[j] = t1[j], turn[j] * t1[j] - t0[j]
        for j in range(size):
            n, i = (begin + j) // length, (begin + j) % length
            weight = float(upstream[n, channel, i]) / _LN2
            if far[j]:
                centre = float(x[n, channel, i])
                inner = 1.0 / (abs(centre) + (scale - 0.5 * step))
                outer = 1.0 / (abs(centre) + (scale + 0.5 * step))
                grad_x[n, channel, i] = weight * (inner + outer) * math.copysign(1.0, centre)
                scale_sum += weight * (scale * (inner + outer) - 1.0)
                step_sum += weight * (0.5 * step * (outer - inner) - 1.0)
                continue
            below, above = 1.0 / (1.0 + abs(low[j])), 1.0 / (1.0 + abs(high[j]))
            rest = h * below * above if low[j] * high[j] > 0.0 else 0.5 * (2.0 - below - above)
            pull = -weight / ((1.0 - tail) * max(0.0, width[j] + total[j]) + tail * rest)
            # q at the upper edge and at the lower one, in z: p(u) u (1 - u) and the density of the tail
            upper = (1.0 - tail) * (1.0 + 2.0 * (both[j] - apart[j])) * high_slope[j] + 0.5 * tail * above * above
            lower = (1.0 - tail) * (1.0 + 2.0 * (both[j] + apart[j])) * low_slope[j] + 0.5 * tail * below * below
            grad_x[n, channel, i] = pull * (upper - lower) / scale
            scale_sum -= pull * (high[j] * upper - low[j] * lower)
            step_sum += pull * h * (upper + lower)
            factor[j] = pull
        for k in range(K):
            for j in range(_LANES):
                sums[k, j] += factor[j] * products[k, j]
    grad_scale[channel], grad_step[channel] = scale_sum, step_sum
    for k in range(K):
        grad_c[channel, k] = sums[k].sum() * (1.0 - tail) * (4.0 / math.pi) / (k + 1)
