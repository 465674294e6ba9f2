"""Fused kernels of `bin_mass` for tensors on the CPU: one channel at a time, in float64 whatever the tensors hold.

The mean of p over a bin is 1 + 2 sum_k c_k cos(k theta) sin(k phi) / (k phi), theta = pi m, phi = pi w / 2, and p at
its two edges has the sum 2 + 4 sum_k c_k cos(k theta) cos(k phi) and the difference
-4 sum_k c_k sin(k theta) sin(k phi); the four sequences follow from two Chebyshev recurrences.
"""

import math

from ._jit import kernel

_FAR = 40.0
_LOG2 = math.log(2.0)


@kernel
def bits(x, log_scale, log_step, c, tail, channel, out):
    """out[n, channel, l] = -log2 of the mass of the bin of x[n, channel, l]. Floor: four transcendentals, 8 K flops."""
    K = c.shape[1]
    scale, step = math.exp(log_scale[channel]), math.exp(log_step[channel])
    h = 0.5 * step / scale
    shrink = -math.expm1(-2.0 * h)
    constant = 1.0 - math.log2(tail) - (log_scale[channel] + log_step[channel]) / _LOG2
    for n in range(x.shape[0]):
        for i in range(x.shape[2]):
            centre = float(x[n, channel, i])
            distance = abs(centre)
            if distance > _FAR * scale + step:
                edges = math.log2(distance + (scale - 0.5 * step)) + math.log2(distance + (scale + 0.5 * step))
                out[n, channel, i] = edges + constant
                continue
            low, high = centre / scale - h, centre / scale + h
            width = shrink / ((1.0 + math.exp(-high)) * (1.0 + math.exp(low)))
            theta = 0.5 * math.pi * (1.0 / (1.0 + math.exp(-low)) + 1.0 / (1.0 + math.exp(-high)))
            phi = 0.5 * math.pi * width
            c1, s1 = math.cos(theta), math.sin(phi)
            twice, turn = 2.0 * c1, 2.0 * math.cos(phi)
            c0, s0 = 1.0, 0.0
            total = 0.0
            for k in range(K):
                total += c[channel, k] * c1 * s1 / (k + 1)
                c0, c1 = c1, twice * c1 - c0
                s0, s1 = s1, turn * s1 - s0
            mass = max(0.0, width + total * (4.0 / math.pi))
            below, above = abs(low), abs(high)
            if low * high > 0.0:
                rest = h / ((1.0 + below) * (1.0 + above))
            else:
                rest = 0.5 * (below / (1.0 + below) + above / (1.0 + above))
            out[n, channel, i] = -math.log2((1.0 - tail) * mass + tail * rest)


@kernel
def gradient(x, log_scale, log_step, c, tail, channel, upstream, grad_x, grad_scale, grad_step, grad_c):
    """Pull `upstream` back to every argument of `bits`; the sums of a channel run in the order of its values."""
    K = c.shape[1]
    scale, step = math.exp(log_scale[channel]), math.exp(log_step[channel])
    h = 0.5 * step / scale
    shrink = -math.expm1(-2.0 * h)
    for n in range(x.shape[0]):
        for i in range(x.shape[2]):
            centre, weight = float(x[n, channel, i]), float(upstream[n, channel, i]) / _LOG2
            distance = abs(centre)
            if distance > _FAR * scale + step:
                inner, outer = 1.0 / (distance + (scale - 0.5 * step)), 1.0 / (distance + (scale + 0.5 * step))
                grad_x[n, channel, i] = weight * (inner + outer) * math.copysign(1.0, centre)
                grad_scale[channel] += weight * (scale * (inner + outer) - 1.0)
                grad_step[channel] += weight * (0.5 * step * (outer - inner) - 1.0)
                continue
            low, high = centre / scale - h, centre / scale + h
            u_low, u_high = 1.0 / (1.0 + math.exp(-low)), 1.0 / (1.0 + math.exp(-high))
            v_low, v_high = 1.0 / (1.0 + math.exp(low)), 1.0 / (1.0 + math.exp(high))
            width = shrink * u_high * v_low
            theta, phi = 0.5 * math.pi * (u_low + u_high), 0.5 * math.pi * width
            c1, s1, d1, t1 = math.cos(theta), math.sin(phi), math.sin(theta), math.cos(phi)
            twice, turn = 2.0 * c1, 2.0 * t1
            c0, s0, d0, t0 = 1.0, 0.0, 0.0, 1.0
            total = both = apart = 0.0
            for k in range(K):
                total += c[channel, k] * c1 * s1 / (k + 1)
                both += c[channel, k] * c1 * t1
                apart += c[channel, k] * d1 * s1
                c0, c1 = c1, twice * c1 - c0
                d0, d1 = d1, twice * d1 - d0
                s0, s1 = s1, turn * s1 - s0
                t0, t1 = t1, turn * t1 - t0
            mass = max(0.0, width + total * (4.0 / math.pi))
            below, above = 1.0 / (1.0 + abs(low)), 1.0 / (1.0 + abs(high))
            rest = h * below * above if low * high > 0.0 else 0.5 * (2.0 - below - above)
            factor = -weight / ((1.0 - tail) * mass + tail * rest)

            # q at the upper edge and at the lower one, in z: p(u) u (1 - u) and the density of the tail
            upper = (1.0 - tail) * (1.0 + 2.0 * (both - apart)) * u_high * v_high + 0.5 * tail * above * above
            lower = (1.0 - tail) * (1.0 + 2.0 * (both + apart)) * u_low * v_low + 0.5 * tail * below * below
            grad_x[n, channel, i] = factor * (upper - lower) / scale
            grad_scale[channel] -= factor * (high * upper - low * lower)
            grad_step[channel] += factor * h * (upper + lower)
            factor *= (1.0 - tail) * (4.0 / math.pi)
            c0, c1, s0, s1 = 1.0, math.cos(theta), 0.0, math.sin(phi)
            for k in range(K):
                grad_c[channel, k] += factor * c1 * s1 / (k + 1)
                c0, c1 = c1, twice * c1 - c0
                s0, s1 = s1, turn * s1 - s0
