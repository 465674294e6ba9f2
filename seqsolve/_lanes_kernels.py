"""Cells whose vector lanes are independent sequences, such as the time chunks of `shooting`.

The loop of `_kernels` spreads one step over a register and waits for each step before the next. Here lane l of every
register belongs to sequence l, so that a weight is loaded once for all of them and nothing waits: the arithmetic is
the floor. Rows of sigmoid gates are halved, as there.

Packing: units stand in tiles of 2 (GRU, LSTM) or of 8, 4 and 1 (RNN), the last one smaller; a tile that begins with
unit i has its weights at i * gates * columns in order (column, unit, gate), its bias at i * gates in order
(unit, gate). `state` and `cell` are (H, lanes) flat and hold h and c before and after. Lane l reads row
reads[l] + t * stride of x, (rows, K) flat, and writes row writes[l] + t * stride of out, (rows, width) flat, from
`column` on, c behind h where `cells`. A lane may occur twice, to fill a register. span = K, H, steps, stride, width,
column, cells.
"""

# numba gives an intrinsic its typing context itself
# pyright: reportCallIssue=false

import numpy as np
from numba import types
from numba.extending import intrinsic

from ._vectors import Vec, _address, _broadcast, fill, fma, kernel, load, relu, squash, store, tanh

_BLOCK = 16384  # numbers of x and h that are kept transposed at a time: they stay in the first-level caches


@intrinsic
def spread(tyctx, array, index, lanes):
    """``array[index]`` of a flat array in every lane, without the test for a negative index."""
    vector = Vec(array.dtype, lanes.count)

    def codegen(context, builder, sig, args):
        where = _address(context, builder, array, args[0], args[1], context.get_value_type(array.dtype))
        return _broadcast(builder, builder.load(where), lanes.count)

    return vector(array, types.intp, lanes), codegen


@intrinsic
def copy_one(tyctx, to, at, source, index):
    """``to[at] = source[index]`` of flat arrays, without the tests for negative indices."""

    def codegen(context, builder, sig, args):
        number = context.get_value_type(sig.args[0].dtype)
        value = builder.load(_address(context, builder, sig.args[2], args[2], args[3], number))
        builder.store(value, _address(context, builder, sig.args[0], args[0], args[1], number))
        return context.get_dummy_value()

    return types.void(to, types.intp, source, types.intp), codegen


@kernel
def _scratch(like, size):
    """`size` numbers that start on a cache line."""
    raw = np.empty(size + 64 // like.itemsize, like.dtype)
    skip = (-raw.ctypes.data) % 64 // like.itemsize
    return raw[skip : skip + size]


@kernel
def _gather(L, x, starts, t, count, stride, K, u):
    """Rows of `count` steps into (step, k, lane), so that one load takes one number of every lane."""
    for s in range(count):
        for k in range(K):
            to, at = (s * K + k) * L, (t + s) * stride * K + k
            for lane in range(L):
                copy_one(u, to + lane, x, starts[lane] + at)


@kernel
def _scatter(L, h, first, out, starts, t, count, stride, width, H):
    """The way back: (step, unit, lane) from h[first] on into rows of out."""
    for lane in range(L):
        for s in range(count):
            to, at = starts[lane] + (t + s) * stride * width, first + s * H * L + lane
            for i in range(H):
                copy_one(out, to + i, h, at + i * L)


@kernel
def _rows1(lanes, M, m, v, at, n, a):
    """a + M v for one row: four columns at a time."""
    L = len(lanes)
    b, c, d = fill(a, 0.0), fill(a, 0.0), fill(a, 0.0)
    j = 0
    while j + 4 <= n:
        a = fma(spread(M, m + j, lanes), load(v, at, lanes), a)
        b = fma(spread(M, m + j + 1, lanes), load(v, at + L, lanes), b)
        c = fma(spread(M, m + j + 2, lanes), load(v, at + 2 * L, lanes), c)
        d = fma(spread(M, m + j + 3, lanes), load(v, at + 3 * L, lanes), d)
        at += 4 * L
        j += 4
    while j < n:
        a = fma(spread(M, m + j, lanes), load(v, at, lanes), a)
        at += L
        j += 1
    return (a + b) + (c + d)


@kernel
def _rows3(lanes, M, m, v, at, n, sums):
    a, b, c = sums
    for _ in range(n):
        y = load(v, at, lanes)
        a, b, c = fma(spread(M, m, lanes), y, a), fma(spread(M, m + 1, lanes), y, b), fma(spread(M, m + 2, lanes), y, c)
        at += len(lanes)
        m += 3
    return a, b, c


@kernel
def _rows4(lanes, M, m, v, at, n, sums):
    a, b, c, d = sums
    for _ in range(n):
        y = load(v, at, lanes)
        a, b, c, d = (
            fma(spread(M, m, lanes), y, a),
            fma(spread(M, m + 1, lanes), y, b),
            fma(spread(M, m + 2, lanes), y, c),
            fma(spread(M, m + 3, lanes), y, d),
        )
        at += len(lanes)
        m += 4
    return a, b, c, d


@kernel
def _rows6(lanes, M, m, v, at, n, sums):
    a, b, c, d, e, f = sums
    for _ in range(n):
        y = load(v, at, lanes)
        a, b, c = fma(spread(M, m, lanes), y, a), fma(spread(M, m + 1, lanes), y, b), fma(spread(M, m + 2, lanes), y, c)
        d, e, f = (
            fma(spread(M, m + 3, lanes), y, d),
            fma(spread(M, m + 4, lanes), y, e),
            fma(spread(M, m + 5, lanes), y, f),
        )
        at += len(lanes)
        m += 6
    return a, b, c, d, e, f


@kernel
def _rows8(lanes, M, m, v, at, n, sums):
    a, b, c, d, e, f, g, h = sums
    for _ in range(n):
        y = load(v, at, lanes)
        a, b, c, d = (
            fma(spread(M, m, lanes), y, a),
            fma(spread(M, m + 1, lanes), y, b),
            fma(spread(M, m + 2, lanes), y, c),
            fma(spread(M, m + 3, lanes), y, d),
        )
        e, f, g, h = (
            fma(spread(M, m + 4, lanes), y, e),
            fma(spread(M, m + 5, lanes), y, f),
            fma(spread(M, m + 6, lanes), y, g),
            fma(spread(M, m + 7, lanes), y, h),
        )
        at += len(lanes)
        m += 8
    return a, b, c, d, e, f, g, h


@kernel
def _bias3(lanes, b, i):
    return spread(b, i, lanes), spread(b, i + 1, lanes), spread(b, i + 2, lanes)


@kernel
def _bias4(lanes, b, i):
    return spread(b, i, lanes), spread(b, i + 1, lanes), spread(b, i + 2, lanes), spread(b, i + 3, lanes)


@kernel
def _bend(rectify, a):
    return relu(a) if rectify else tanh(a)


@kernel
def _sigmoid(a):
    """Of twice the argument."""
    return fma(squash(a), fill(a, 0.5), fill(a, 0.5))


@kernel
def rnn(lanes, rectify, x, W, U, bias, inner, state, cell, out, reads, writes, span):
    """h = tanh or relu (W x + b + U h). Floor a step of all lanes: (K + H) H fused multiply-adds."""
    K, H, steps, stride, width, column, _ = span
    L, S = len(lanes), max(1, min(16, _BLOCK // ((K + H) * len(lanes))))
    u, h = _scratch(x, S * K * L), _scratch(x, (S + 1) * H * L)
    read, write = reads * K, writes * width + column
    h[: H * L] = state
    for t in range(0, steps, S):
        count = min(S, steps - t)
        _gather(L, x, read, t, count, stride, K, u)
        for s in range(count):
            old, new, v = s * H * L, (s + 1) * H * L, s * K * L
            i = 0
            while i + 8 <= H:
                z = _rows8(lanes, W, i * K, u, v, K, _bias4(lanes, bias, i) + _bias4(lanes, bias, i + 4))
                z = _rows8(lanes, U, i * H, h, old, H, z)
                for p in range(8):
                    store(h, new + (i + p) * L, _bend(rectify, z[p]))
                i += 8
            if i + 4 <= H:
                w = _rows4(lanes, W, i * K, u, v, K, _bias4(lanes, bias, i))
                w = _rows4(lanes, U, i * H, h, old, H, w)
                for p in range(4):
                    store(h, new + (i + p) * L, _bend(rectify, w[p]))
                i += 4
            while i < H:
                a = _rows1(lanes, W, i * K, u, v, K, spread(bias, i, lanes))
                a = _rows1(lanes, U, i * H, h, old, H, a)
                store(h, new + i * L, _bend(rectify, a))
                i += 1
        _scatter(L, h, H * L, out, write, t, count, stride, width, H)
        h[: H * L] = h[count * H * L : (count + 1) * H * L]
    state[:] = h[: H * L]


@kernel
def _gru(r, z, m, n, h):
    """The new state from r, z before their sigmoids, U h + b_hh and W x + b of the third gate."""
    n = tanh(fma(_sigmoid(r), m, n))
    return fma(_sigmoid(z), h - n, n)


@kernel
def gru(lanes, rectify, x, W, U, bias, inner, state, cell, out, reads, writes, span):
    """r, z = sigmoid(..); n = tanh(W x + b + r (U h + b_hh)); h = n + z (h - n), torch's gate order r, z, n.

    Floor a step of all lanes: 3 (K + H) H fused multiply-adds.
    """
    K, H, steps, stride, width, column, _ = span
    L, S = len(lanes), max(1, min(16, _BLOCK // ((K + H) * len(lanes))))
    u, h = _scratch(x, S * K * L), _scratch(x, (S + 1) * H * L)
    read, write = reads * K, writes * width + column
    h[: H * L] = state
    for t in range(0, steps, S):
        count = min(S, steps - t)
        _gather(L, x, read, t, count, stride, K, u)
        for s in range(count):
            old, new, v = s * H * L, (s + 1) * H * L, s * K * L
            i = 0
            while i + 2 <= H:
                b = 3 * i
                r, z, n, p, q, m = _rows6(lanes, W, b * K, u, v, K, _bias3(lanes, bias, b) + _bias3(lanes, bias, b + 3))
                w = r, z, spread(inner, i, lanes), p, q, spread(inner, i + 1, lanes)
                r, z, f, p, q, g = _rows6(lanes, U, b * H, h, old, H, w)
                store(h, new + i * L, _gru(r, z, f, n, load(h, old + i * L, lanes)))
                store(h, new + (i + 1) * L, _gru(p, q, g, m, load(h, old + (i + 1) * L, lanes)))
                i += 2
            if i < H:
                b = 3 * i
                r, z, n = _rows3(lanes, W, b * K, u, v, K, _bias3(lanes, bias, b))
                r, z, f = _rows3(lanes, U, b * H, h, old, H, (r, z, spread(inner, i, lanes)))
                store(h, new + i * L, _gru(r, z, f, n, load(h, old + i * L, lanes)))
        _scatter(L, h, H * L, out, write, t, count, stride, width, H)
        h[: H * L] = h[count * H * L : (count + 1) * H * L]
    state[:] = h[: H * L]


@kernel
def lstm(lanes, rectify, x, W, U, bias, inner, state, cell, out, reads, writes, span):
    """i, f, o = sigmoid(..), g = tanh(..); c = f c + i g; h = o tanh(c); gate order as torch: i, f, g, o.

    Floor a step of all lanes: 4 (K + H) H fused multiply-adds.
    """
    K, H, steps, stride, width, column, cells = span
    L, S = len(lanes), max(1, min(16, _BLOCK // ((K + 2 * H) * len(lanes))))
    u, h, c = _scratch(x, S * K * L), _scratch(x, (S + 1) * H * L), _scratch(x, (S + 1) * H * L)
    read, write = reads * K, writes * width + column
    h[: H * L], c[: H * L] = state, cell
    for t in range(0, steps, S):
        count = min(S, steps - t)
        _gather(L, x, read, t, count, stride, K, u)
        for s in range(count):
            old, new, v = s * H * L, (s + 1) * H * L, s * K * L
            k = 0
            while k + 2 <= H:
                b = 4 * k
                sums = _rows8(lanes, W, b * K, u, v, K, _bias4(lanes, bias, b) + _bias4(lanes, bias, b + 4))
                i, f, g, o, p, q, r, w = _rows8(lanes, U, b * H, h, old, H, sums)
                d = fma(_sigmoid(i), squash(g), _sigmoid(f) * load(c, old + k * L, lanes))
                e = fma(_sigmoid(p), squash(r), _sigmoid(q) * load(c, old + (k + 1) * L, lanes))
                store(c, new + k * L, d)
                store(c, new + (k + 1) * L, e)
                store(h, new + k * L, _sigmoid(o) * tanh(d))
                store(h, new + (k + 1) * L, _sigmoid(w) * tanh(e))
                k += 2
            if k < H:
                b = 4 * k
                parts = _rows4(lanes, W, b * K, u, v, K, _bias4(lanes, bias, b))
                i, f, g, o = _rows4(lanes, U, b * H, h, old, H, parts)
                d = fma(_sigmoid(i), squash(g), _sigmoid(f) * load(c, old + k * L, lanes))
                store(c, new + k * L, d)
                store(h, new + k * L, _sigmoid(o) * tanh(d))
        _scatter(L, h, H * L, out, write, t, count, stride, width, H)
        if cells:
            _scatter(L, c, H * L, out, write + H, t, count, stride, width, H)
        h[: H * L] = h[count * H * L : (count + 1) * H * L]
        c[: H * L] = c[count * H * L : (count + 1) * H * L]
    state[:], cell[:] = h[: H * L], c[: H * L]
