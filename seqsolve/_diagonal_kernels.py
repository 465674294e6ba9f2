"""Diagonal scans h <- A_t * h + b_t of real numbers in vector registers; A, b and the states are flat, T M numbers.

With M >= 8 numbers a step a register may reach over the end of a step, since what it needs is always written already.
One number a step is bound by latency: a multiply-add must end before the next begins. There a register holds several
steps and scans them by doubling (Hillis and Steele 1986, doi:10.1145/7902.7903): after log2 stages each lane has its
product and its sum from the register's first step on, and only one multiply-add a register waits for the one before.
"""

# numba gives an intrinsic its typing context itself and knows more of a tuple than its annotation says
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportArgumentType=false, reportOptionalCall=false

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ._vectors import fill, fma, kernel, load, store

_LANES, _ONE = (0,) * 8, (0,)
_STEPS = 64  # numbers between two looks at whether all is finite


def _lanes(builder, x, other, places):
    """Lanes of x (0, 1, ..) and of `other` (count, count + 1, ..)."""
    mask = ir.Constant(ir.VectorType(ir.IntType(32), len(places)), places)
    return builder.shuffle_vector(x, other, mask)


@intrinsic
def delayed(tyctx, x, by, first):
    """x moved up by len(by) lanes; what becomes free is `first`, a number."""

    def codegen(context, builder, sig, args):
        count = x.lanes
        edge = ir.Constant(context.get_value_type(x), [first.literal_value] * count)
        places = [count if i < by.count else i - by.count for i in range(count)]
        return _lanes(builder, args[0], edge, places)

    return (x(x, by, first), codegen) if isinstance(first, types.IntegerLiteral) else None


@intrinsic
def latest(tyctx, x, width):
    """The last len(width) lanes of x, over and over."""

    def codegen(context, builder, sig, args):
        first = x.lanes - width.count
        return _lanes(builder, args[0], args[0], [first + i % width.count for i in range(x.lanes)])

    return x(x, width), codegen


@intrinsic
def turned(tyctx, x, width):
    """The steps of len(width) lanes in opposite order."""

    def codegen(context, builder, sig, args):
        steps = x.lanes // width.count
        places = [(steps - 1 - i // width.count) * width.count + i % width.count for i in range(x.lanes)]
        return _lanes(builder, args[0], args[0], places)

    return x(x, width), codegen


@intrinsic
def finite(tyctx, x):
    """Whether no lane of x is NaN."""

    def codegen(context, builder, sig, args):
        good = builder.fcmp_ordered("ord", args[0], args[0])
        bits = builder.bitcast(good, ir.IntType(x.lanes))
        return builder.icmp_unsigned("==", bits, ir.Constant(ir.IntType(x.lanes), -1))

    return types.boolean(x), codegen


@kernel
def wide_scan(A, b, h, out, first, last, backwards):
    """Steps first..last of h <- A_t * h + b_t for h of M >= 8 numbers. Floor: 2 T M flops, 3 T M numbers moved.

    The states of the step before are read back from `out`, M numbers away, where they still are in the store buffer.
    """
    M, L = h.size, len(_LANES)
    low, high = first * M, last * M
    if backwards:
        for i in range(high - M, high):
            store(out, i, fma(load(A, i, _ONE), load(h, i - high + M, _ONE), load(b, i, _ONE)))
        i = high - M - L
        while i >= low + L:
            x = fma(load(A, i, _LANES), load(out, i + M, _LANES), load(b, i, _LANES))
            store(out, i, x)
            y = fma(load(A, i - L, _LANES), load(out, i - L + M, _LANES), load(b, i - L, _LANES))
            store(out, i - L, y)
            i -= 2 * L
        for k in range(i + L - 1, low - 1, -1):
            store(out, k, fma(load(A, k, _ONE), load(out, k + M, _ONE), load(b, k, _ONE)))
        h[:] = out[low : low + M]
    else:
        for i in range(low, low + M):
            store(out, i, fma(load(A, i, _ONE), load(h, i - low, _ONE), load(b, i, _ONE)))
        i = low + M
        while i + 2 * L <= high:
            x = fma(load(A, i, _LANES), load(out, i - M, _LANES), load(b, i, _LANES))
            store(out, i, x)
            y = fma(load(A, i + L, _LANES), load(out, i + L - M, _LANES), load(b, i + L, _LANES))
            store(out, i + L, y)
            i += 2 * L
        for k in range(i, high):
            store(out, k, fma(load(A, k, _ONE), load(out, k - M, _ONE), load(b, k, _ONE)))
        h[:] = out[high - M : high]


@kernel
def series_scan(width, A, b, h, out, first, last, backwards):
    """h <- A_t * h + b_t for len(width) = 1, 2 or 4 numbers a step; A, b, out flat, steps first..last, h (width,).

    Floor: 3 numbers moved a number of state, or a register of 8 numbers in about 8 cycles, the latency of one
    multiply-add and one shuffle; the plain loop takes 4 cycles a step. Up to 9 flops and 7 shuffles more a register.
    A product over steps can overflow where no state does: what is not finite is computed again step by step.
    """
    M = len(width)
    low, count = first * M, (last - first) * M
    done = 0
    carry = np.empty(len(_LANES), b.dtype)
    for i in range(carry.size):
        carry[i] = h[i % M]
    x = load(carry, 0, _LANES)
    zero = fill(x, 0.0)
    while done + _STEPS <= count:
        before, bad, at = x, zero, low + done
        for k in range(0, _STEPS, len(_LANES)):
            if backwards:
                at = low + count - done - k - len(_LANES)
                p, s = turned(load(A, at, _LANES), width), turned(load(b, at, _LANES), width)
            else:
                at = low + done + k
                p, s = load(A, at, _LANES), load(b, at, _LANES)
            if M == 1:
                s = fma(p, delayed(s, (0,), 0), s)
                p = p * delayed(p, (0,), 1)
            if M <= 2:
                s = fma(p, delayed(s, (0, 0), 0), s)
                p = p * delayed(p, (0, 0), 1)
            s = fma(p, delayed(s, (0,) * 4, 0), s)
            p = p * delayed(p, (0,) * 4, 1)
            s = fma(p, x, s)
            bad = fma(s, zero, bad)
            x = latest(s, width)
            store(out, at, turned(s, width) if backwards else s)
        if not finite(bad):
            x = before
            store(carry, 0, x)
            for k in range(_STEPS):
                at = low + count - done - M - (k // M) * M + k % M if backwards else low + done + k
                carry[k % M] = A[at] * carry[k % M] + b[at]
                out[at] = carry[k % M]
            for i in range(M, carry.size):
                carry[i] = carry[i % M]
            x = load(carry, 0, _LANES)
        done += _STEPS
    store(carry, 0, x)
    for k in range(done, count):
        at = low + count - M - (k // M) * M + k % M if backwards else low + k
        carry[k % M] = A[at] * carry[k % M] + b[at]
        out[at] = carry[k % M]
    h[:] = carry[:M]
