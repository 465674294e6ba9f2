"""Integer-only frequencies of a Fourier density: the same on every machine, because no float is ever rounded.

Fixed-point numbers are int64; Qn has n bits behind the point. An angle is a uint32 of which 2^32 is a full turn.
"""

import numpy as np

from ._jit import kernel

PRECISION = 24
COEFFICIENT_BITS = 15  # |a| = 2^15: an error of 2^-16 in each coefficient costs 1e-9 nats
RATIO_BITS = 16  # of log2(step / (2 scale))
TAIL_BITS = 24
MIN_RATIO, MAX_RATIO = -25, 6  # log2 of half a step in scales: from 2^24 steps a scale to 1/128 of a step
_CENTRE = 14  # scales within which each bin, or group of equal width, has a symbol of its own
_HALF = 1024  # groups on each side at most
_OCTAVES = 12  # of buckets on each side, then the escape

_HALF_PI_Q30 = 1686629713
_LN2_Q31 = 1488522236
_LOG2E_Q28 = 387270501
_TWO_OVER_PI_Q31 = 1367130551


@kernel
def _exp2(t):
    """2^-t in Q31 for t >= 0 in Q32: Taylor in exp(-x), x < ln 2; error below 2^-28."""
    whole = t >> 32
    if whole >= 31:
        return np.int64(0)
    x = (((t & 0xFFFFFFFF) >> 1) * _LN2_Q31) >> 31
    e = np.int64(1) << 31
    for k in range(12, 0, -1):
        e = (np.int64(1) << 31) - ((x * e) >> 31) // k
    return e >> whole


@kernel
def _sine(angle):
    """sin in Q30: folded into a quarter turn, then Taylor to x^15."""
    fold = angle & 0x7FFFFFFF
    if fold > 1 << 30:
        fold = (np.int64(1) << 31) - fold
    x = (fold * _HALF_PI_Q30) >> 30
    y = (x * x) >> 30
    one = np.int64(1) << 30
    s = one - y // 210
    s = one - ((y * s) >> 30) // 156
    s = one - ((y * s) >> 30) // 110
    s = one - ((y * s) >> 30) // 72
    s = one - ((y * s) >> 30) // 42
    s = one - ((y * s) >> 30) // 20
    s = one - ((y * s) >> 30) // 6
    s = (x * s) >> 30
    return -s if angle & 0x80000000 else s


@kernel
def _half_step(ratio):
    """Half a step in scales, Q56, from its log2 in Q16."""
    whole = (-ratio) >> RATIO_BITS  # floor
    part = (-ratio) - (whole << RATIO_BITS)
    half = _exp2(part << (32 - RATIO_BITS)) << 25
    return half >> whole if whole >= 0 else half << -whole


@kernel
def _distance(edge, half):
    """z >= 0 in Q20 and, below 64, in Q28 (-1 above) of an edge counted in half steps."""
    cut = 0
    while edge > (np.int64(1) << 62) // (half >> cut):
        cut += 1
    z = edge * (half >> cut)
    if cut > 36:
        return np.int64(1) << 62, np.int64(-1)
    return z >> (36 - cut), z >> 28 if cut == 0 else np.int64(-1)


@kernel
def _below(edge, half, d):
    """Mass below an edge in Q31, the tail left out: u + sum_k d_k sin(k pi u)."""
    _, z = _distance(abs(edge), half)
    u = np.int64(1) << 31
    if z >= 0:
        u = (np.int64(1) << 62) // ((np.int64(1) << 31) + _exp2((z * _LOG2E_Q28) >> 24))
    if edge < 0:
        u = (np.int64(1) << 31) - u
    mass = u
    for k in range(d.size):
        mass += (d[k] * _sine((u * (k + 1)) & 0xFFFFFFFF)) >> 30
    return min(max(mass, np.int64(0)), np.int64(1) << 31)


@kernel
def _tail_beyond(edge, half):
    """Mass of the tail beyond a distance, Q42: 1 / (2 (1 + z))."""
    z, _ = _distance(abs(edge), half)
    return (np.int64(1) << 61) // ((np.int64(1) << 20) + z)


@kernel
def layout(ratios, shifts, sides, offsets):
    """Bits of a group, groups on each side of zero, and the first symbol of each table."""
    offsets[0] = 0
    for t in range(ratios.size):
        half = _half_step(np.int64(ratios[t]))
        bins = ((np.int64(_CENTRE) << 56) // half + 1) // 2 if half < np.int64(_CENTRE) << 55 else np.int64(1)
        shift = 0
        while (bins >> shift) + 1 > _HALF:
            shift += 1
        shifts[t], sides[t] = shift, max(np.int64(1), (bins >> shift) + 1)
        offsets[t + 1] = offsets[t] + 2 * sides[t] + 1 + 2 * _OCTAVES + 1


@kernel
def build(coefficients, ratios, tail, shifts, sides, offsets, first_values, raw_bits, frequencies):
    """Symbols and frequencies of each table, from left to right, the escape last.

    Each symbol has frequency 1 + its share of what is left: no symbol is impossible, and the sum is exact.
    O(K) a symbol.
    """
    K = coefficients.shape[1] - 1
    d = np.empty(K, np.int64)
    for t in range(ratios.size):
        half = _half_step(np.int64(ratios[t]))
        norm = np.int64(0)
        for j in range(K + 1):
            norm += np.int64(coefficients[t, j]) * np.int64(coefficients[t, j])
        for k in range(1, K + 1):
            lag = np.int64(0)
            for j in range(K + 1 - k):
                lag += np.int64(coefficients[t, j]) * np.int64(coefficients[t, j + k])
            d[k - 1] = (lag * _TWO_OVER_PI_Q31) // (norm * k)  # 2 c_k / (k pi)

        begin, end = offsets[t], offsets[t + 1] - 1
        group = np.int64(1) << shifts[t]
        outer = (sides[t] + 1) * group  # first value of the buckets on the right
        smallest = np.int64(shifts[t])
        while (np.int64(2) << smallest) <= outer // 2:
            smallest += 1
        s = begin + _OCTAVES
        for j in range(-sides[t], sides[t] + 1):
            first_values[s], raw_bits[s] = j * group, shifts[t]
            s += 1
        right, left = outer, -sides[t] * group
        for j in range(_OCTAVES):
            width = np.int64(1) << (smallest + j)
            left -= width
            first_values[begin + _OCTAVES - 1 - j], raw_bits[begin + _OCTAVES - 1 - j] = left, smallest + j
            first_values[s], raw_bits[s] = right, smallest + j
            right += width
            s += 1
        first_values[end], raw_bits[end] = 0, 255

        # cumulative mass in Q38, then frequencies
        total = np.int64(0)
        edge = 2 * first_values[begin] - 1
        mass, beyond = _below(edge, half, d), _tail_beyond(edge, half)
        for s in range(begin, end):
            edge += np.int64(2) << raw_bits[s]
            next_mass, next_beyond = _below(edge, half, d), _tail_beyond(edge, half)
            if edge < 0:
                tails = next_beyond - beyond
            elif edge - (np.int64(2) << raw_bits[s]) > 0:
                tails = beyond - next_beyond
            else:
                tails = (np.int64(1) << 42) - beyond - next_beyond
            plain = max(next_mass - mass, np.int64(0))
            mass = max(mass, next_mass)
            total += (plain * ((np.int64(1) << TAIL_BITS) - tail)) >> 17
            total += (tails * tail) >> 28
            frequencies[s] = total  # the running sum stands here until the total is known
            beyond = next_beyond
        room = (np.int64(1) << PRECISION) - (end - begin + 1)
        before = np.int64(0)
        for s in range(begin, end):
            after = (frequencies[s] * room) // total
            frequencies[s] = 1 + after - before
            before = after
        frequencies[end] = 1


@kernel
def predict(weight, bias, units, shifts, ratios, coefficients):
    """Integer outputs of a linear head: shift in Q28, ratio in Q16 within its bounds, coefficients of norm 2^15.

    O(L C K F) multiplications.
    """
    channels, outputs, features = weight.shape
    out = np.empty(outputs, np.int64)
    for j in range(channels):
        for i in range(units.shape[0]):
            for o in range(outputs):
                value = bias[j, o]
                for f in range(features):
                    value += weight[j, o, f] * units[i, f]
                out[o] = value
            shifts[j, i] = out[0]
            ratio = out[1] >> (28 - RATIO_BITS)
            ratios[j, i] = min(max(ratio, np.int64(MIN_RATIO) << RATIO_BITS), np.int64(MAX_RATIO) << RATIO_BITS)
            largest = np.int64(0)
            for o in range(2, outputs):
                largest = max(largest, abs(out[o]))
            cut = up = 0
            while largest >> cut >= 1 << 24:
                cut += 1
            while 0 < largest << up < 1 << 23:
                up += 1
            square = np.int64(0)
            for o in range(2, outputs):
                out[o] = (out[o] >> cut) << up  # the largest has 24 bits
                square += out[o] * out[o]
            norm = np.int64(0)
            step = np.int64(1) << 30
            while step > 0:  # the whole square root, bit by bit
                if (norm + step) * (norm + step) <= square:
                    norm += step
                step >>= 1
            for o in range(2, outputs):
                coefficients[j, i, o - 2] = (out[o] << COEFFICIENT_BITS) // norm if norm > 0 else np.int64(0)
            if norm == 0:
                coefficients[j, i, 0] = 1 << COEFFICIENT_BITS
