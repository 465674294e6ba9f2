"""Compiled kernels of density; they see contiguous arrays and integers only. Imported on first need, not before."""

import numpy as np

from ._jit import kernel

# The bits of a finite double, made monotone: -x maps to -(bits of x), so order and equality survive.
_MAGNITUDE = np.int64(0x7FFFFFFFFFFFFFFF)
_EXPONENT = np.int64(0x7FF0000000000000)
_HASH = np.uint64(0x9E3779B97F4A7C15)


@kernel
def count_cells(bits, shift, page_bits, keys, slots, counts, overflow):
    """Count doubles (given as their bits) into dyadic cells.

    The cell of x is its ordered bits >> shift; pages of 2^page_bits neighbouring cells are found by hashing. Cells on
    no page go to `overflow`. Returns how many went there, or -1 - i when element i is NaN or infinite.
    Floor: 8 bytes read a sample and one increment in cache, 2-3 ns.
    """
    mask = np.uint64(len(keys) - 1)
    down = np.uint64(64 - int(np.log2(len(keys)) + 0.5))
    inside = (np.int64(1) << page_bits) - np.int64(1)
    spilled = 0
    for i in range(len(bits)):
        b = bits[i]
        if b & _EXPONENT == _EXPONENT:
            return -1 - i
        sign = b >> np.int64(63)
        cell = ((b ^ (sign & _MAGNITUDE)) - sign) >> shift
        page = cell >> page_bits
        h = (np.uint64(page) * _HASH) >> down
        while slots[h] >= 0 and keys[h] != page:
            h = (h + np.uint64(1)) & mask
        if slots[h] >= 0:
            counts[slots[h], cell & inside] += 1
        else:
            overflow[spilled] = cell
            spilled += 1
    return spilled


@kernel
def horner(theta, real, imag, out_real, out_imag):
    """``sum_k (real_k + i imag_k) exp(i k theta)`` by Horner's rule, eight angles at a time to fill the pipeline.

    Floor: 8 flops a coefficient and angle.
    """
    K = len(real) - 1
    n = len(theta)
    c, s = np.empty(8), np.empty(8)
    x, y = np.empty(8), np.empty(8)
    for start in range(0, n, 8):
        width = min(8, n - start)
        for j in range(8):
            angle = theta[start + min(j, width - 1)]
            c[j], s[j] = np.cos(angle), np.sin(angle)
            x[j], y[j] = real[K], imag[K]
        for k in range(K - 1, -1, -1):
            for j in range(8):
                t = x[j] * c[j] - y[j] * s[j] + real[k]
                y[j] = x[j] * s[j] + y[j] * c[j] + imag[k]
                x[j] = t
        for j in range(width):
            out_real[start + j] = x[j]
            out_imag[start + j] = y[j]


@kernel
def look_up(x, lo, per_unit, first, scale, coefficients, exponentiate, out):
    """Piecewise polynomials of degree 5 on columns of equal width, each cut into scale[c] cells; returns how many x
    have no cell (NaN, outside, or a cell whose coefficients are NaN): there `out` is NaN.

    Floor: 16 bytes moved and 12 flops a point, 1 ns; the rows of the bulk stay in cache.
    """
    columns = len(first)
    missed = 0
    for i in range(len(x)):
        t = (np.float64(x[i]) - lo) * per_unit
        value = np.nan
        if t >= 0.0 and t < columns:
            c = int(t)
            s = (t - c) * scale[c]
            j = int(s)
            s -= j
            r = coefficients[first[c] + j]
            value = r[0] + s * (r[1] + s * (r[2] + s * (r[3] + s * (r[4] + s * r[5]))))
        out[i] = np.exp(value) if exponentiate else value
        missed += value != value
    return missed
