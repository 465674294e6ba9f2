"""Fused recurrences and scans, compiled by numba, with vector registers as values.

A recurrence of width H is bound by latency: every step waits for the one before it. What helps is to keep the whole
step in registers (no temporary arrays, no alias checks), a short tanh, and several accumulators a gate. `Vec` makes
registers visible to numba: a value of `lanes` floats that loads, stores, adds, multiplies. LLVM splits a vector that
is wider than the machine's, so the kernels run everywhere. Arguments are checked by the callers; there is no
fastmath: NaN and inf follow IEEE rules.
"""

# numba gives an intrinsic its typing context itself and knows more of a tuple than its annotation says
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportOptionalCall=false, reportArgumentType=false

import operator

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.datamodel import models
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, overload, register_model
from numba.np.arrayobj import make_array

from ._jit import kernel

# --- vector registers as values ------------------------------------------------------------------------------------


class Vec(types.Type):
    """A vector register: `lanes` values of one float type."""

    def __init__(self, dtype, lanes):
        self.dtype, self.lanes = dtype, lanes
        super().__init__(name=f"Vec({dtype} x {lanes})")


@register_model(Vec)
class _VecModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        element = dmm.lookup(fe_type.dtype).get_value_type()
        super().__init__(dmm, fe_type, ir.VectorType(element, fe_type.lanes))


def _broadcast(builder, scalar, lanes):
    """The IR of a scalar repeated in every lane."""
    first = builder.insert_element(
        ir.Constant(ir.VectorType(scalar.type, lanes), ir.Undefined), scalar, ir.IntType(32)(0)
    )
    return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(ir.IntType(32), lanes), None))


def _constant(like, value):
    """The IR of one number in every lane of `like`, an IR vector type."""
    return ir.Constant(like, [value] * like.count)


def _address(context, builder, array_type, array, index, vector):
    data = make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), ir.PointerType(vector))


def _match(builder, value, like):
    """A Vec as it is; a Python float converted to the element type of `like` and repeated."""
    if isinstance(value.type, ir.VectorType):
        return value
    if value.type != like.element:
        value = builder.fptrunc(value, like.element)
    return _broadcast(builder, value, like.count)


def _define_operator(function, opcode):
    @infer_global(function)
    class _Typing(AbstractTemplate):
        def generic(self, args, kws):
            vectors = [a for a in args if isinstance(a, Vec)]
            if len(args) == 2 and vectors and all(isinstance(a, Vec | types.Float) for a in args):
                return signature(vectors[0], *args)
            return None

    def lower(context, builder, sig, args):
        like = context.get_value_type(sig.return_type)
        return getattr(builder, opcode)(*(_match(builder, a, like) for a in args))

    for left, right in ((Vec, Vec), (types.Float, Vec), (Vec, types.Float)):
        lower_builtin(function, left, right)(lower)


_define_operator(operator.add, "fadd")
_define_operator(operator.sub, "fsub")
_define_operator(operator.mul, "fmul")
_define_operator(operator.truediv, "fdiv")


@intrinsic
def load(tyctx, array, index, lanes):
    """``array[index : index + len(lanes)]`` of a flat array."""
    vector = Vec(array.dtype, lanes.count)

    def codegen(context, builder, sig, args):
        where = _address(context, builder, array, args[0], args[1], context.get_value_type(vector))
        return builder.load(where, align=array.dtype.bitwidth // 8)

    return vector(array, types.intp, lanes), codegen


@intrinsic
def store(tyctx, array, index, value):
    """``array[index : index + lanes] = value`` of a flat array."""

    def codegen(context, builder, sig, args):
        where = _address(context, builder, array, args[0], args[1], context.get_value_type(value))
        builder.store(args[2], where, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), codegen


@intrinsic
def fma(tyctx, scalar, b, c):
    """``scalar * b + c`` with one rounding where the machine has the instruction; `scalar` may be a number or a Vec."""

    def codegen(context, builder, sig, args):
        like = context.get_value_type(b)
        name = f"llvm.fmuladd.v{like.count}f{b.dtype.bitwidth}"
        function = builder.module.declare_intrinsic(name, fnty=ir.FunctionType(like, [like, like, like]))
        return builder.call(function, [_match(builder, a, like) for a in args])

    return b(scalar, b, c), codegen


@intrinsic
def fill(tyctx, like, value):
    """`value` in every lane of a register of the type of `like`."""

    def codegen(context, builder, sig, args):
        return _match(builder, args[1], context.get_value_type(like))

    return like(like, value), codegen


@intrinsic
def clamp(tyctx, x, bound):
    """`x` cut to [-bound, bound]; NaN stays NaN."""

    def codegen(context, builder, sig, args):
        like = context.get_value_type(x)
        high = _match(builder, args[1], like)
        low = builder.fsub(_constant(like, -0.0), high)
        cut = builder.select(builder.fcmp_ordered(">", args[0], high), high, args[0])
        return builder.select(builder.fcmp_ordered("<", cut, low), low, cut)

    return x(x, bound), codegen


@intrinsic
def relu(tyctx, x):
    """max(x, 0); NaN stays NaN."""

    def codegen(context, builder, sig, args):
        zero = _constant(context.get_value_type(x), 0.0)
        return builder.select(builder.fcmp_ordered("<", args[0], zero), zero, args[0])

    return x(x), codegen


@intrinsic
def power_of_two(tyctx, n):
    """2^n of whole numbers |n| < 1000 held as float64: shifted into the exponent field."""

    def codegen(context, builder, sig, args):
        like = context.get_value_type(n)
        bits = ir.VectorType(ir.IntType(64), like.count)
        # adding 1.5 * 2^52 leaves n, in two's complement, in the lowest bits of the mantissa
        whole = builder.bitcast(builder.fadd(args[0], _constant(like, 6755399441055744.0)), bits)
        exponent = builder.shl(builder.add(whole, _constant(bits, 1023)), _constant(bits, 52))
        return builder.bitcast(exponent, like)

    return n(n), codegen


# --- tanh ----------------------------------------------------------------------------------------------------------


def squash(x):
    """tanh of a Vec, in float32 perhaps one unit in the last place above 1: for gates, which round it away."""
    raise NotImplementedError("compiled code only")


@overload(squash)
def _squash(x):
    if not isinstance(x, Vec):
        return None
    return _squash_f32 if x.dtype == types.float32 else _tanh_f64


def tanh(x):
    """tanh of a Vec, at most 1: float32 within 3e-7 and 5 units in the last place, float64 within 3e-16 and 3."""
    raise NotImplementedError("compiled code only")


@overload(tanh)
def _tanh(x):
    if not isinstance(x, Vec):
        return None
    return (lambda x: clamp(squash(x), 1.0)) if x.dtype == types.float32 else _tanh_f64


def _squash_f32(x):
    # x P(x^2) / Q(x^2), degree (4, 4), minimax in relative error on [0, 9.02] with float32 coefficients: 3.0e-8. The
    # rest of the error is rounding; tests/seqsolve/test_kernels.py measures it. One division and two short polynomials
    # side by side: the latency of a step is what counts. At the bound the quotient is exactly 1, so that gates close
    # completely (a huge c must not leak through a forget gate of 3e-8).
    x = clamp(x, 8.977398)
    y = x * x
    y2 = y * y
    p = fma(y, fill(x, 2.0635801774915308e-05), fill(x, 3.497456666082144e-03))
    p = fma(y2, fma(y2, fill(x, 1.3384264363480725e-08), p), fma(y, fill(x, 1.338268667459488e-01), fill(x, 1.0)))
    q = fma(y, fill(x, 3.2885154359973967e-04), fill(x, 2.58843582123518e-02))
    q = fma(y2, fma(y2, fill(x, 7.790237646077003e-07), q), fma(y, fill(x, 4.6716007590293884e-01), fill(x, 1.0)))
    return x * p / q


def _tanh_f64(x):
    # tanh x = m / (m + 2) with m = expm1(2x) = 2^n expm1(r) + (2^n - 1), 2x = n ln 2 + r, |r| <= ln(2) / 2.
    # Taylor to r^13: what is left out is below 0.3466^14 / 14! = 4.2e-18.
    x = clamp(x, 20.0)
    x = x + x
    n = fma(x, fill(x, 1.4426950408889634), fill(x, 6755399441055744.0)) - 6755399441055744.0
    r = fma(n, fill(x, -6.93147180369123816490e-01), x)
    r = fma(n, fill(x, -1.90821492927058770002e-10), r)
    s = r * r
    even = fma(s, fill(x, 1.1470745597729725e-11), fill(x, 2.08767569878681e-09))  # r^14, r^12
    even = fma(s, even, fill(x, 2.755731922398589e-07))
    even = fma(s, even, fill(x, 2.48015873015873e-05))
    even = fma(s, even, fill(x, 1.388888888888889e-03))
    even = fma(s, even, fill(x, 4.1666666666666664e-02))
    even = fma(s, even, fill(x, 0.5))
    odd = fma(s, fill(x, 1.6059043836821613e-10), fill(x, 2.505210838544172e-08))  # r^13, r^11
    odd = fma(s, odd, fill(x, 2.7557319223985893e-06))
    odd = fma(s, odd, fill(x, 1.984126984126984e-04))
    odd = fma(s, odd, fill(x, 8.333333333333333e-03))
    odd = fma(s, odd, fill(x, 1.6666666666666666e-01))
    small = fma(s, fma(r, odd, even), r)
    scale = power_of_two(n)
    m = fma(scale, small, scale - 1.0)
    return m / (m + 2.0)


@kernel
def tanh_array(lanes, x, out):
    """tanh of a flat array whose length is a multiple of the lanes: the face by which tests reach `tanh`."""
    for i in range(0, x.size, len(lanes)):
        store(out, i, tanh(load(x, i, lanes)))


# --- cells ---------------------------------------------------------------------------------------------------------
# `gates` holds W x + b for every row, packed as the cells read it: (row, tile, gate, lane) with tiles of `lanes`
# units, the last one padded. `U` is packed (tile, column, gate, lane). Rows of sigmoid gates are halved in both, since
# sigmoid(x) = 1/2 + tanh(x/2) / 2. Step t of row b stands at start[t] + b of the output, and at start[t] - base + b of
# the gates, which cover the steps first..last only; the sequence of row b has lengths[b] steps. `state` is (B, P) and
# carries over from one piece of time to the next. span = first, last, base, low, high, width, column, H.


@kernel
def pack(lanes, rows, halves, tile_stride, gate_stride, column_stride, packed):
    """Weights of shape (gates * H, columns) in tiles of lanes, halved where `halves`; padding lanes are left alone."""
    L, gates, columns = len(lanes), len(halves), rows.shape[1]
    H = rows.shape[0] // gates
    for i in range(0, H, L):
        for j in range(columns):
            at = i // L * tile_stride + j * column_stride
            for g in range(gates):
                factor = rows.dtype.type(0.5 if halves[g] else 1.0)
                for k in range(min(L, H - i)):
                    packed[at + g * gate_stride + k] = factor * rows[g * H + i + k, j]


@kernel
def project(lanes, x, K, W, bias, out, low, high):
    """Gates W x + b for rows low..high of x, (rows, K) flat; W is packed (tile, gate, column, lane).

    On the calling thread alone: waking the threads of a BLAS can take milliseconds. Floor: K * bias.size
    multiply-adds a row; six rows share each load of W.
    """
    L, N = len(lanes), bias.size
    r = low
    while r + 6 <= high:
        u, o = r * K, (r - low) * N
        for i in range(0, N, 2 * L):
            m = min(i + L, N - L)  # the last of an odd number of registers is done twice
            a, b = load(bias, i, lanes), load(bias, m, lanes)
            c, d, e, f, g, h, p, q, s, t = a, b, a, b, a, b, a, b, a, b
            for k in range(K):
                v, w = load(W, i * K + k * L, lanes), load(W, m * K + k * L, lanes)
                a, b = fma(x[u + k], v, a), fma(x[u + k], w, b)
                c, d = fma(x[u + K + k], v, c), fma(x[u + K + k], w, d)
                e, f = fma(x[u + 2 * K + k], v, e), fma(x[u + 2 * K + k], w, f)
                g, h = fma(x[u + 3 * K + k], v, g), fma(x[u + 3 * K + k], w, h)
                p, q = fma(x[u + 4 * K + k], v, p), fma(x[u + 4 * K + k], w, q)
                s, t = fma(x[u + 5 * K + k], v, s), fma(x[u + 5 * K + k], w, t)
            for j, y in enumerate((a, c, e, g, p, s)):
                store(out, o + j * N + i, y)
            for j, y in enumerate((b, d, f, h, q, t)):
                store(out, o + j * N + m, y)
        r += 6
    for n in range(r, high):
        for i in range(0, N, L):
            a = load(bias, i, lanes)
            for k in range(K):
                a = fma(x[n * K + k], load(W, i * K + k * L, lanes), a)
            store(out, (n - low) * N + i, a)


@kernel
def _matvec1(lanes, U, u, h, at, H, a):
    """One gate: a + U h, four columns at a time in four accumulators."""
    L = len(lanes)
    b, c, d = fill(a, 0.0), fill(a, 0.0), fill(a, 0.0)
    j = 0
    while j + 4 <= H:
        a = fma(h[at + j], load(U, u, lanes), a)
        b = fma(h[at + j + 1], load(U, u + L, lanes), b)
        c = fma(h[at + j + 2], load(U, u + 2 * L, lanes), c)
        d = fma(h[at + j + 3], load(U, u + 3 * L, lanes), d)
        u += 4 * L
        j += 4
    while j < H:
        a = fma(h[at + j], load(U, u, lanes), a)
        u += L
        j += 1
    return (a + b) + (c + d)


@kernel
def _matvec3(lanes, U, u, h, at, H, a0, a1, a2):
    """Three gates of one tile: two columns at a time, six accumulators."""
    L = len(lanes)
    b0, b1, b2 = fill(a0, 0.0), fill(a0, 0.0), fill(a0, 0.0)
    j = 0
    while j + 2 <= H:
        p, q = h[at + j], h[at + j + 1]
        a0 = fma(p, load(U, u, lanes), a0)
        a1 = fma(p, load(U, u + L, lanes), a1)
        a2 = fma(p, load(U, u + 2 * L, lanes), a2)
        b0 = fma(q, load(U, u + 3 * L, lanes), b0)
        b1 = fma(q, load(U, u + 4 * L, lanes), b1)
        b2 = fma(q, load(U, u + 5 * L, lanes), b2)
        u += 6 * L
        j += 2
    if j < H:
        p = h[at + j]
        a0 = fma(p, load(U, u, lanes), a0)
        a1 = fma(p, load(U, u + L, lanes), a1)
        a2 = fma(p, load(U, u + 2 * L, lanes), a2)
    return a0 + b0, a1 + b1, a2 + b2


@kernel
def _matvec4(lanes, U, u, h, at, H, a0, a1, a2, a3):
    """Four gates of one tile: two columns at a time, eight accumulators."""
    L = len(lanes)
    b0, b1, b2, b3 = fill(a0, 0.0), fill(a0, 0.0), fill(a0, 0.0), fill(a0, 0.0)
    j = 0
    while j + 2 <= H:
        p, q = h[at + j], h[at + j + 1]
        a0 = fma(p, load(U, u, lanes), a0)
        a1 = fma(p, load(U, u + L, lanes), a1)
        a2 = fma(p, load(U, u + 2 * L, lanes), a2)
        a3 = fma(p, load(U, u + 3 * L, lanes), a3)
        b0 = fma(q, load(U, u + 4 * L, lanes), b0)
        b1 = fma(q, load(U, u + 5 * L, lanes), b1)
        b2 = fma(q, load(U, u + 6 * L, lanes), b2)
        b3 = fma(q, load(U, u + 7 * L, lanes), b3)
        u += 8 * L
        j += 2
    if j < H:
        p = h[at + j]
        a0 = fma(p, load(U, u, lanes), a0)
        a1 = fma(p, load(U, u + L, lanes), a1)
        a2 = fma(p, load(U, u + 2 * L, lanes), a2)
        a3 = fma(p, load(U, u + 3 * L, lanes), a3)
    return a0 + b0, a1 + b1, a2 + b2, a3 + b3


@kernel
def _emit(lanes, value, work, at, out, o, i, H):
    """Lanes i.. of the new state: into the work buffer, and into the output without its padding."""
    L = len(lanes)
    store(work, at + i, value)
    if i + L <= H:
        store(out, o + i, value)
    else:
        for k in range(i, H):
            out[o + k] = work[at + k]


@kernel
def aligned(like, size):
    """Scratch of `size` elements that starts on a cache line, so that no vector straddles two."""
    raw = np.zeros(size + 64 // like.itemsize, like.dtype)
    skip = (-raw.ctypes.data) % 64 // like.itemsize
    return raw[skip : skip + size]


@kernel
def rnn(lanes, variant, gates, start, lengths, U, bias, state, cell, W_hr, out, span):
    """h = tanh or relu (W x + b + U h). Floor a step: H^2 multiply-adds, and H^2 elements of U from cache."""
    L, P = len(lanes), state.shape[1]
    first, last, base, low, high, width, column, H = span
    backwards, rectify = variant
    work = aligned(state, 2 * P)
    for b in range(low, high):
        work[:P] = state[b]
        old, new = 0, P
        steps = min(last, lengths[b]) - first
        for k in range(steps):
            t = first + (steps - 1 - k if backwards else k)
            g, o = (start[t] - base + b) * P, (start[t] + b) * width + column
            for i in range(0, P, L):
                a = _matvec1(lanes, U, i * H, work, old, H, load(gates, g + i, lanes))
                _emit(lanes, relu(a) if rectify else tanh(a), work, new, out, o, i, H)
            old, new = new, old
        state[b] = work[old : old + P]


@kernel
def gru(lanes, variant, gates, start, lengths, U, bias, state, cell, W_hr, out, span):
    """r, z = sigmoid(..); n = tanh(W x + b + r (U h + b_hh)); h = n + z (h - n), torch's gate order r, z, n.

    Floor a step: 3 H^2 multiply-adds, and 3 H^2 elements of U from cache.
    """
    L, P = len(lanes), state.shape[1]
    first, last, base, low, high, width, column, H = span
    backwards, _ = variant
    work = aligned(state, 2 * P)
    for b in range(low, high):
        work[:P] = state[b]
        old, new = 0, P
        steps = min(last, lengths[b]) - first
        for k in range(steps):
            t = first + (steps - 1 - k if backwards else k)
            g, o = (start[t] - base + b) * 3 * P, (start[t] + b) * width + column
            for i in range(0, P, L):
                e = g + 3 * i
                r, z, n = _matvec3(
                    lanes, U, 3 * i * H, work, old, H,
                    load(gates, e, lanes), load(gates, e + L, lanes), load(bias, i, lanes),
                )  # fmt: skip
                r = fma(squash(r), fill(r, 0.5), fill(r, 0.5))
                n = tanh(fma(r, n, load(gates, e + 2 * L, lanes)))
                z = fma(squash(z), fill(z, 0.5), fill(z, 0.5))
                _emit(lanes, fma(z, load(work, old + i, lanes) - n, n), work, new, out, o, i, H)
            old, new = new, old
        state[b] = work[old : old + P]


@kernel
def lstm(lanes, variant, gates, start, lengths, U, bias, state, cell, W_hr, out, span):
    """i, f, o = sigmoid(..), g = tanh(..); c = f c + i g; h = o tanh(c), then W_hr h where there is a projection.

    Gate order as torch: i, f, g, o. Floor a step: 4 H R (+ H R) multiply-adds, R the size of h.
    """
    L, P, Q = len(lanes), cell.shape[1], state.shape[1]
    first, last, base, low, high, width, column, R = span
    backwards, _ = variant
    projected = W_hr.size > 0
    H = W_hr.size // Q if projected else R
    work, full, c = aligned(state, 2 * Q), aligned(state, P), aligned(state, P)
    for b in range(low, high):
        work[:Q] = state[b]
        c[:] = cell[b]
        old, new = 0, Q
        steps = min(last, lengths[b]) - first
        for k in range(steps):
            t = first + (steps - 1 - k if backwards else k)
            g, o = (start[t] - base + b) * 4 * P, (start[t] + b) * width + column
            for i in range(0, P, L):
                e = g + 4 * i
                a, f, m, s = _matvec4(
                    lanes, U, 4 * i * R, work, old, R,
                    load(gates, e, lanes), load(gates, e + L, lanes),
                    load(gates, e + 2 * L, lanes), load(gates, e + 3 * L, lanes),
                )  # fmt: skip
                a = fma(squash(a), fill(a, 0.5), fill(a, 0.5))
                f = fma(squash(f), fill(a, 0.5), fill(a, 0.5))
                s = fma(squash(s), fill(a, 0.5), fill(a, 0.5))
                d = fma(a, squash(m), f * load(c, i, lanes))
                store(c, i, d)
                if projected:
                    store(full, i, s * tanh(d))
                else:
                    _emit(lanes, s * tanh(d), work, new, out, o, i, R)
            if projected:
                for i in range(0, Q, L):
                    a = _matvec1(lanes, W_hr, i * H, full, 0, H, fill(load(full, i % P, lanes), 0.0))
                    _emit(lanes, a, work, new, out, o, i, R)
            old, new = new, old
        state[b] = work[old : old + Q]
        cell[b] = c
