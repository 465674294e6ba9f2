"""Compiled kernels of density; they see contiguous arrays and integers only. Imported on first need, not before."""

import math

import numpy as np

from ._jit import kernel

# The bits of a finite double, made monotone: -x maps to -(bits of x), so order and equality survive.
_MAGNITUDE = np.int64(0x7FFFFFFFFFFFFFFF)
_EXPONENT = np.int64(0x7FF0000000000000)
_HASH = np.uint64(0x9E3779B97F4A7C15)

_LANES = 128
_INVERSE_PI = 1.0 / math.pi
_PI_HIGH, _PI_LOW = float.fromhex("0x1.921fb5444p+1"), float.fromhex("0x1.68c234c4c6629p-38")  # 35 bits, and the rest
_SIN = tuple((-1) ** n / math.factorial(2 * n + 1) for n in range(10, -1, -1))  # to 3e-17 up to pi / 2
_COS = tuple((-1) ** n / math.factorial(2 * n) for n in range(11, -1, -1))
_0, _1, _2, _3, _4, _5, _6 = (np.uint64(k) for k in range(7))  # a signed index would ask whether it counts from behind


@kernel
def count_near_cells(bits, shift, page_bits, first, slots, counts, overflow):
    """`count_cells` where the pages lie in a narrow range: ``slots[page - first]`` is the row of each, or -1.

    Floor: 8 bytes read a sample and one increment in the second cache, 2 ns; hashing costs as much again.
    """
    inside = (np.int64(1) << page_bits) - np.int64(1)
    size = np.uint64(len(slots))
    spilled = 0
    for i in range(len(bits)):
        b = bits[i]
        if b & _EXPONENT == _EXPONENT:
            return -1 - i
        sign = b >> np.int64(63)
        cell = ((b ^ (sign & _MAGNITUDE)) - sign) >> shift
        page = np.uint64((cell >> page_bits) - first)
        row = np.int64(slots[page]) if page < size else np.int64(-1)
        if row >= 0:
            counts[np.uint64(row), np.uint64(cell & inside)] += 1
        else:
            overflow[spilled] = cell
            spilled += 1
    return spilled


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


@kernel(fastmath={"contract"}, forceinline=True)
def _polynomial(coefficients, x):
    total = coefficients[0]
    for n in range(1, len(coefficients)):
        total = total * x + coefficients[n]
    return total


@kernel(fastmath={"contract"})
def horner(theta, real, imag, out_real, out_imag):
    """``A = sum_k (real_k + i imag_k) exp(i k theta)`` by Horner's rule, `_LANES` angles side by side.

    The loops over the lanes have no branches and a length that is known, so they become vector instructions; cosine and
    sine are Taylor polynomials for the same reason. Two coefficients a turn halve the traffic with the cache.
    |error| <= 8 (K + 1) 2^-53 sum_k |a_k| for |theta| <= 2 pi: rounding of each step, and 2^-52 in cosine and sine
    carried K times.
    Floor: 8 flops a coefficient and angle, 0.2 ns with four lanes and two units of multiply-add at 2.6 GHz.
    """
    K = len(real) - 1
    c, s = np.empty(_LANES), np.empty(_LANES)
    x, y = np.empty(_LANES), np.empty(_LANES)
    for start in range(0, len(theta), _LANES):
        width = min(_LANES, len(theta) - start)
        for j in range(width):
            x[j] = theta[start + j]
        for j in range(width, _LANES):
            x[j] = 0.0
        for j in range(_LANES):
            turns = np.rint(x[j] * _INVERSE_PI)
            angle = (x[j] - turns * _PI_HIGH) - turns * _PI_LOW  # in [-pi / 2, pi / 2]
            square = angle * angle
            sign = 1.0 - 2.0 * (turns - 2.0 * np.floor(0.5 * turns))
            c[j] = sign * _polynomial(_COS, square)
            s[j] = sign * (angle * _polynomial(_SIN, square))
        for j in range(_LANES):
            x[j], y[j] = real[K], imag[K]
        for k in range(K - 1, 0, -2):
            a, b, above, beside = real[k - 1], imag[k - 1], real[k], imag[k]
            for j in range(_LANES):
                u = x[j] * c[j] - y[j] * s[j] + above
                v = x[j] * s[j] + y[j] * c[j] + beside
                x[j] = u * c[j] - v * s[j] + a
                y[j] = u * s[j] + v * c[j] + b
        if K % 2:
            a, b = real[0], imag[0]
            for j in range(_LANES):
                u = x[j] * c[j] - y[j] * s[j] + a
                y[j] = x[j] * s[j] + y[j] * c[j] + b
                x[j] = u
        for j in range(width):
            out_real[start + j] = x[j]
            out_imag[start + j] = y[j]


@kernel(fastmath={"contract"})
def look_up(x, lo, per_unit, finest, shift, base, rows, out):
    """Piecewise polynomials of degree 5 on columns of equal width, each cut into 2^k cells; the sum of all values.

    x - lo is measured in cells of the finest width, 2^finest to a column. Column c holds cells of 2^shift[c] of them,
    and base[c] leads from the number of a cell to its row: left end, six coefficients. What lies outside falls into the
    first column, which ends at lo, or the last; their rows are NaN, as are those of cells without an answer, and then
    the sum is NaN too. Clamping and rows that know their own left end leave one conversion and no branch to a point.
    Floor: 16 bytes moved and 14 flops a point; some 25 instructions, 4 cycles; the rows of the bulk stay in cache. A
    gather of vectors reads as many words and was no faster.
    """
    outside, top = np.float64(1 << finest), np.float64((len(shift) - 1) << finest)
    total = 0.0
    for i in range(len(x)):
        t = (np.float64(x[i]) - lo) * per_unit + outside
        t = t if t > 0.0 else 0.0
        t = t if t < top else top
        j = np.int64(t)
        c = np.uint64(j >> finest)
        r = np.uint64((j >> shift[c]) + base[c])
        s = t - rows[r, _0]
        upper = rows[r, _4] + s * (rows[r, _5] + s * rows[r, _6])
        value = rows[r, _1] + s * (rows[r, _2] + s * (rows[r, _3] + s * upper))
        out[i] = value
        total += value
    return total
