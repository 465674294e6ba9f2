"""Fused kernels of `bin_mass` for tensors on the CPU, in float64 whatever the tensors hold.

The mean of p over a bin is 1 + 2 sum_k c_k cos(k theta) sin(k phi) / (k phi), theta = pi m, phi = pi w / 2, and p at
its edges is 1 + 2 sum_k c_k cos(k (theta +- phi)): four Chebyshev recurrences. `_LANES` values run side by side in
loops without branches, which the compiler turns into vector instructions; exponentials, sines and logarithms are
polynomials for the same reason, since a call to the C library for each value would cost more than all recurrences.
"""

import math

import numpy as np

from ._jit import kernel

_FAR = 40.0
_LANES = 32
_LN2 = math.log(2.0)
_LOG2E = 1.0 / _LN2
_LN2_HIGH, _LN2_LOW = float.fromhex("0x1.62e42fee00000p-1"), float.fromhex("0x1.a39ef35793c76p-33")
_MOST = 350.0  # exp of it squared stays finite, and 1 / exp of it is nothing beside the tail
_ROUND = 1.5 * 2.0**52  # added to a number below 2^51, it leaves the nearest integer in the last bits
_MANTISSA, _BIAS = np.uint64(52), np.uint64(1023 << 52)
_ROOT_HALF, _ABOVE_ROOT_HALF = np.uint64(0x3FE6A09E667F3BCD), np.uint64((1023 << 52) - 0x3FE6A09E667F3BCD)
_FRACTION, _TWO_52 = np.uint64((1 << 52) - 1), np.uint64(0x4330000000000000)
_EXP = tuple(1.0 / math.factorial(n) for n in range(12, -1, -1))
_SIN = tuple((-1) ** n / math.factorial(2 * n + 1) for n in range(7, -1, -1))
_COS = tuple((-1) ** n / math.factorial(2 * n) for n in range(8, -1, -1))
_LOG2 = tuple(2.0 / ((2 * n + 1) * _LN2) for n in range(10, -1, -1))


@kernel(fastmath={"contract"}, forceinline=True)
def _horner(coefficients, x):
    total = coefficients[0]
    for n in range(1, len(coefficients)):
        total = total * x + coefficients[n]
    return total


@kernel(fastmath={"contract"}, forceinline=True)
def _exponentials(z, out, scratch, words):
    """out = exp(-z), |z| cut at `_MOST`; Taylor of degree 12 on |r| <= ln 2 / 2, where it is exact to 2e-16."""
    for j in range(_LANES):
        scratch[j] = min(max(-z[j], -_MOST), _MOST) * _LOG2E + _ROUND
    for j in range(_LANES):
        whole = scratch[j] - _ROUND
        t = min(max(-z[j], -_MOST), _MOST)
        out[j] = _horner(_EXP, (t - whole * _LN2_HIGH) - whole * _LN2_LOW)
    for j in range(_LANES):
        words[j] = (words[j] << _MANTISSA) + _BIAS
    for j in range(_LANES):
        out[j] *= scratch[j]


@kernel(fastmath={"contract"}, forceinline=True)
def _log2(x, out, scratch, words):
    """out = log2(x) for normal x > 0: x = 2^e m, m in [sqrt(1/2), sqrt(2)), by the series in (m - 1) / (m + 1)."""
    for j in range(_LANES):
        scratch[j] = x[j]
    for j in range(_LANES):
        moved = words[j] + _ABOVE_ROOT_HALF
        words[j] = (moved & _FRACTION) + _ROOT_HALF
        words[j + _LANES] = (moved >> _MANTISSA) + _TWO_52
    for j in range(_LANES):
        s = (scratch[j] - 1.0) / (scratch[j] + 1.0)
        out[j] = s * _horner(_LOG2, s * s) + (scratch[j + _LANES] - (2.0**52 + 1023.0))


@kernel(fastmath={"contract"}, forceinline=True)
def _sine_cosine(x):
    """For |x| <= pi / 4, to 1e-16."""
    square = x * x
    return x * _horner(_SIN, square), _horner(_COS, square)


@kernel(fastmath={"contract"}, forceinline=True)
def _place(centre, scale, h, shrink, low, high, low_slope, high_slope, width, turns, scratch, words):
    """Edges of the bins in z, the slopes of u there, the width in u, and cos, sin of theta and of phi in `turns`.

    `width` = (1 - exp(-2 h)) sigmoid(high) sigmoid(-low) has no difference of two nearly equal numbers.
    """
    for j in range(_LANES):
        low[j], high[j] = centre[j] / scale - h, centre[j] / scale + h
    _exponentials(low, low_slope, scratch, words)
    _exponentials(high, high_slope, scratch, words)
    for j in range(_LANES):
        below, above = low_slope[j], high_slope[j]
        both = 1.0 / ((1.0 + below) * (1.0 + above))
        u_low, u_high = both * (1.0 + above), both * (1.0 + below)
        low_slope[j], high_slope[j] = below * u_low * u_low, above * u_high * u_high
        width[j] = shrink * u_high * (below * u_low)
        sine, cosine = _sine_cosine((0.25 * math.pi) * (u_low + u_high - 1.0))  # (theta - pi / 2) / 2
        turns[0, j], turns[1, j] = -2.0 * sine * cosine, 1.0 - 2.0 * sine * sine
        sine, cosine = _sine_cosine((0.25 * math.pi) * width[j])  # phi / 2
        turns[2, j], turns[3, j] = 1.0 - 2.0 * sine * sine, 2.0 * sine * cosine


@kernel(fastmath={"contract"}, forceinline=True)
def _tail_mass(low, high, h):
    """Share of the bin in the safety tail, both edges on one side of the centre or not, and 1 / (1 + |z|) at both."""
    below, above = abs(low), abs(high)
    both = 1.0 / ((1.0 + below) * (1.0 + above))
    at_low, at_high = both * (1.0 + above), both * (1.0 + below)
    rest = h * both if low * high > 0.0 else 0.5 * (below * at_low + above * at_high)
    return rest, at_low, at_high


@kernel(fastmath={"contract"})
def bits(x, log_scale, log_step, c, tail, first, last, out):
    """out[n, j, l] = -log2 of the mass of the bin of x[n, j, l], for channels first <= j < last.

    c : (C, K) with K even.  Floor a value: 4 K flops, two exponentials, four sines, a logarithm, five divisions.
    """
    K = c.shape[1]
    batch, length = x.shape[0], x.shape[2]
    count = batch * length
    rows = np.zeros((14, _LANES))
    centre, low, high, low_slope, high_slope, width, c0, c1, s0, s1, twice, turn, total, logs = rows
    scratch, turns = np.zeros(2 * _LANES), np.zeros((4, _LANES))
    words = scratch.view(np.uint64)
    weights = np.zeros(K)
    for channel in range(first, last):
        scale, step = math.exp(log_scale[channel]), math.exp(log_step[channel])
        h = 0.5 * step / scale
        shrink = -math.expm1(-2.0 * h)
        border = _FAR * scale + step
        constant = 1.0 - math.log2(tail) - (log_scale[channel] + log_step[channel]) / _LN2
        for k in range(K):
            weights[k] = c[channel, k] * (4.0 / math.pi) / (k + 1)
        n = i = 0
        for begin in range(0, count, _LANES):
            size = min(_LANES, count - begin)
            here, place = n, i
            for j in range(size):
                value = float(x[n, channel, i])
                centre[j] = value if abs(value) <= border else 0.0
                i += 1
                if i == length:
                    n, i = n + 1, 0
            _place(centre, scale, h, shrink, low, high, low_slope, high_slope, width, turns, scratch, words)
            for j in range(_LANES):
                c0[j], c1[j], s0[j], s1[j] = 1.0, turns[0, j], 0.0, turns[3, j]
                twice[j], turn[j], total[j] = 2.0 * turns[0, j], 2.0 * turns[2, j], width[j]
            for k in range(0, K, 2):
                for j in range(_LANES):
                    c2, s2 = twice[j] * c1[j] - c0[j], turn[j] * s1[j] - s0[j]
                    total[j] += weights[k] * (c1[j] * s1[j]) + weights[k + 1] * (c2 * s2)
                    c0[j], c1[j] = c2, twice[j] * c2 - c1[j]
                    s0[j], s1[j] = s2, turn[j] * s2 - s1[j]
            for j in range(_LANES):
                rest, _, _ = _tail_mass(low[j], high[j], h)
                total[j] = (1.0 - tail) * max(0.0, total[j]) + tail * rest
            _log2(total, logs, scratch, words)
            n, i = here, place
            for j in range(size):
                distance = abs(float(x[n, channel, i]))
                if distance <= border:
                    out[n, channel, i] = -logs[j]
                else:
                    inner, outer = distance + (scale - 0.5 * step), distance + (scale + 0.5 * step)
                    out[n, channel, i] = math.log2(inner) + math.log2(outer) + constant
                i += 1
                if i == length:
                    n, i = n + 1, 0


@kernel(fastmath={"contract"})
def gradient(x, log_scale, log_step, c, tail, first, last, upstream, grad_x, grad_scale, grad_step, grad_c):
    """Pull `upstream` back to every argument of `bits`; the sums of a channel run in one order.

    With P the distribution function, the mass P(high) - P(low) has the derivatives p(high) and -p(low) in u, and
    (4 / (pi k)) cos(k theta) sin(k phi) in c_k.  Floor a value: 18 K flops and what
    `bits` needs but for the logarithm.
    """
    K = c.shape[1]
    batch, length = x.shape[0], x.shape[2]
    count = batch * length
    rows = np.zeros((22, _LANES))
    centre, low, high, low_slope, high_slope, width, c0, c1, s0, s1, twice = rows[:11]
    turn, total, a0, a1, b0, b1, p_high, p_low, factor, weight, slope = rows[11:]
    scratch, turns = np.zeros(2 * _LANES), np.zeros((4, _LANES))
    words = scratch.view(np.uint64)
    weights, shares = np.zeros(K), np.zeros(K)
    products, sums = np.zeros((K, _LANES)), np.zeros((K, _LANES))
    scale_sums, step_sums = np.zeros(_LANES), np.zeros(_LANES)
    for channel in range(first, last):
        scale, step = math.exp(log_scale[channel]), math.exp(log_step[channel])
        h = 0.5 * step / scale
        shrink = -math.expm1(-2.0 * h)
        border = _FAR * scale + step
        for k in range(K):
            weights[k] = c[channel, k]
            shares[k] = weights[k] * (4.0 / math.pi) / (k + 1)
        sums[:], scale_sums[:], step_sums[:] = 0.0, 0.0, 0.0
        scale_sum = step_sum = 0.0
        n = i = 0
        for begin in range(0, count, _LANES):
            size = min(_LANES, count - begin)
            here, place = n, i
            for j in range(_LANES):
                centre[j] = weight[j] = 0.0
            for j in range(size):
                value, pull = float(x[n, channel, i]), float(upstream[n, channel, i]) / _LN2
                if abs(value) <= border:
                    centre[j], weight[j] = value, pull
                else:
                    inner = 1.0 / (abs(value) + (scale - 0.5 * step))
                    outer = 1.0 / (abs(value) + (scale + 0.5 * step))
                    grad_x[n, channel, i] = pull * (inner + outer) * math.copysign(1.0, value)
                    scale_sum += pull * (scale * (inner + outer) - 1.0)
                    step_sum += pull * (0.5 * step * (outer - inner) - 1.0)
                i += 1
                if i == length:
                    n, i = n + 1, 0
            _place(centre, scale, h, shrink, low, high, low_slope, high_slope, width, turns, scratch, words)
            for j in range(_LANES):
                cosine, sine = turns[0, j] * turns[2, j], turns[1, j] * turns[3, j]
                a0[j], a1[j], b0[j], b1[j] = 1.0, cosine - sine, 1.0, cosine + sine  # theta + phi, theta - phi
                c0[j], c1[j], s0[j], s1[j] = 1.0, turns[0, j], 0.0, turns[3, j]
                twice[j], turn[j], total[j] = 2.0 * turns[0, j], 2.0 * turns[2, j], width[j]
                p_high[j] = p_low[j] = 0.5
            for k in range(0, K, 2):
                for j in range(_LANES):
                    c2, s2 = twice[j] * c1[j] - c0[j], turn[j] * s1[j] - s0[j]
                    now, then = c1[j] * s1[j], c2 * s2
                    products[k, j], products[k + 1, j] = now, then
                    total[j] += shares[k] * now + shares[k + 1] * then
                    c0[j], c1[j] = c2, twice[j] * c2 - c1[j]
                    s0[j], s1[j] = s2, turn[j] * s2 - s1[j]
            for j in range(_LANES):
                twice[j], turn[j] = 2.0 * a1[j], 2.0 * b1[j]
            for k in range(0, K, 2):
                for j in range(_LANES):
                    a2, b2 = twice[j] * a1[j] - a0[j], turn[j] * b1[j] - b0[j]
                    p_high[j] += weights[k] * a1[j] + weights[k + 1] * a2
                    p_low[j] += weights[k] * b1[j] + weights[k + 1] * b2
                    a0[j], a1[j] = a2, twice[j] * a2 - a1[j]
                    b0[j], b1[j] = b2, turn[j] * b2 - b1[j]
            for j in range(_LANES):
                rest, at_low, at_high = _tail_mass(low[j], high[j], h)
                pull = -weight[j] / ((1.0 - tail) * max(0.0, total[j]) + tail * rest)
                # q at both edges, in z: p(u) u (1 - u) and the density of the tail
                upper = (2.0 - 2.0 * tail) * p_high[j] * high_slope[j] + 0.5 * tail * at_high * at_high
                lower = (2.0 - 2.0 * tail) * p_low[j] * low_slope[j] + 0.5 * tail * at_low * at_low
                slope[j] = pull * (upper - lower) / scale
                scale_sums[j] -= pull * (high[j] * upper - low[j] * lower)
                step_sums[j] += pull * h * (upper + lower)
                factor[j] = pull
            for k in range(K):
                for j in range(_LANES):
                    sums[k, j] += factor[j] * products[k, j]
            n, i = here, place
            for j in range(size):
                if abs(float(x[n, channel, i])) <= border:
                    grad_x[n, channel, i] = slope[j]
                i += 1
                if i == length:
                    n, i = n + 1, 0
        grad_scale[channel], grad_step[channel] = scale_sum + scale_sums.sum(), step_sum + step_sums.sum()
        for k in range(K):
            grad_c[channel, k] = sums[k].sum() * (1.0 - tail) * (4.0 / math.pi) / (k + 1)
