"""Vector registers as values in compiled code, and tanh of them.

`Vec` makes registers visible to numba: a value of `lanes` floats that loads, stores, adds, multiplies. LLVM splits a
vector that is wider than the machine's, so the kernels run everywhere. There is no fastmath: NaN and inf follow IEEE
rules.
"""

# numba gives an intrinsic its typing context itself and knows more of a tuple than its annotation says
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportOptionalCall=false, reportArgumentType=false

import operator
from pathlib import Path

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, overload, register_jitable, register_model
from numba.np.arrayobj import make_array

from . import _jit


def kernel(function):
    """`_jit.kernel` for code that uses registers: its disk cache notices a change of this file, too."""
    dispatcher = _jit.kernel(function)
    index = getattr(getattr(dispatcher, "_cache", None), "_cache_file", None)
    if index is not None:
        here = Path(__file__).stat()
        index._source_stamp = (index._source_stamp, here.st_mtime, here.st_size)
    return dispatcher


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
def keep(tyctx, x, count):
    """The first `count` lanes of x, zero in the others: whatever has got into them."""

    def codegen(context, builder, sig, args):
        like = context.get_value_type(x)
        whole = ir.VectorType(args[1].type, like.count)
        lane = ir.Constant(whole, list(range(like.count)))
        inside = builder.icmp_signed("<", lane, _broadcast(builder, args[1], like.count))
        return builder.select(inside, args[0], _constant(like, 0.0))

    return x(x, count), codegen


@intrinsic
def product(tyctx, h, U, at, stride, diagonals, start):
    """start + sum over k of shuffled h * U[at + k * stride : + lanes], h staying in its register throughout.

    Lane i of the k-th shuffle is lane i XOR k of h, so that U must hold its diagonals, U[i, i XOR k]; k runs through
    the `diagonals`, a power of two. The first shuffles stay inside quarters of the register and take one cycle, where
    a broadcast of a lane takes three.
    """

    def codegen(context, builder, sig, args):
        like = context.get_value_type(start)
        name = f"llvm.fmuladd.v{like.count}f{h.dtype.bitwidth}"
        multiply = builder.module.declare_intrinsic(name, fnty=ir.FunctionType(like, [like, like, like]))
        vector, array, index, step, _, first = args
        count = sig.args[4].count
        sums: list = [first] + [_constant(like, 0.0)] * (3 if count > 4 else 1 if count > 2 else 0)
        for k in range(count):
            mask = ir.Constant(ir.VectorType(ir.IntType(32), like.count), [i ^ k for i in range(like.count)])
            lane = builder.shuffle_vector(vector, vector, mask) if k else vector
            column = builder.load(_address(context, builder, U, array, index, like), align=U.dtype.bitwidth // 8)
            sums[k % len(sums)] = builder.call(multiply, [lane, column, sums[k % len(sums)]])
            index = builder.add(index, step)
        while len(sums) > 1:
            sums = [builder.fadd(a, b) for a, b in zip(sums[::2], sums[1::2])]
        return sums[0]

    return start(h, U, types.intp, types.intp, diagonals, start), codegen


@intrinsic
def drive(tyctx, lanes, gates, row, at, N, W, bias, K):
    """W x + b at the entries at.. of a row of N: read from `gates` if K is 0, else for its row of K inputs.

    W is packed (column, entry). A loop of its own: a function that takes arrays would count references in every step.
    """
    vector = Vec(gates.dtype, lanes.count)

    def codegen(context, builder, sig, args):
        like, number = context.get_value_type(vector), context.get_value_type(gates.dtype)
        _, source, line, first, size, weights, start, count = args
        small = gates.dtype.bitwidth // 8
        ready = builder.icmp_signed("==", count, count.type(0))
        known = _address(context, builder, gates, source, builder.add(builder.mul(line, size), first), like)
        place = builder.select(ready, known, _address(context, builder, bias, start, first, like))
        total = cgutils.alloca_once_value(builder, builder.load(place, align=small))
        name = f"llvm.fmuladd.v{like.count}f{gates.dtype.bitwidth}"
        multiply = builder.module.declare_intrinsic(name, fnty=ir.FunctionType(like, [like, like, like]))
        begin = builder.mul(line, count)
        with cgutils.for_range(builder, count) as loop:
            one = _address(context, builder, gates, source, builder.add(begin, loop.index), number)
            at = builder.add(builder.mul(loop.index, size), first)
            column = builder.load(_address(context, builder, W, weights, at, like), align=small)
            factor = _broadcast(builder, builder.load(one), like.count)
            builder.store(builder.call(multiply, [factor, column, builder.load(total)]), total)
        return builder.load(total)

    return vector(lanes, gates, types.intp, types.intp, types.intp, W, bias, types.intp), codegen


@intrinsic
def matvec(tyctx, U, u, h, at, count, starts):
    """starts[g] + sum over j < count of h[at + j] * U[u + (j * gates + g) * lanes : + lanes], one register a gate.

    Several columns at a time in accumulators of their own: four where there is one gate, two of three or four.
    """
    gates, lanes = len(starts), starts.dtype.lanes
    unroll = 4 if gates == 1 else 2

    def codegen(context, builder, sig, args):
        like, number = context.get_value_type(starts.dtype), context.get_value_type(h.dtype)
        weights, first, vector, begin, length, given = args
        name = f"llvm.fmuladd.v{lanes}f{h.dtype.bitwidth}"
        multiply = builder.module.declare_intrinsic(name, fnty=ir.FunctionType(like, [like, like, like]))
        left = cgutils.unpack_tuple(builder, given, gates)
        zeros = [_constant(like, 0.0)] * gates
        sums = [[cgutils.alloca_once_value(builder, a) for a in (zeros if k else left)] for k in range(unroll)]
        row = first.type(gates * lanes)

        def column(j, k):
            one = builder.load(_address(context, builder, h, vector, builder.add(begin, j), number))
            factor, place = _broadcast(builder, one, lanes), builder.add(first, builder.mul(j, row))
            for g in range(gates):
                where = _address(context, builder, U, weights, builder.add(place, first.type(g * lanes)), like)
                value = builder.load(where, align=U.dtype.bitwidth // 8)
                builder.store(builder.call(multiply, [factor, value, builder.load(sums[k][g])]), sums[k][g])

        whole = builder.and_(length, length.type(-unroll))
        with cgutils.for_range_slice(builder, length.type(0), whole, length.type(unroll)) as (j, _):
            for k in range(unroll):
                column(builder.add(j, length.type(k)), k)
        with cgutils.for_range_slice(builder, whole, length, length.type(1)) as (j, _):
            column(j, 0)
        total = [[builder.load(a) for a in row] for row in sums]
        while len(total) > 1:
            total = [[builder.fadd(a, b) for a, b in zip(*pair)] for pair in zip(total[::2], total[1::2])]
        return context.make_tuple(builder, starts, total[0])

    return starts(U, types.intp, h, types.intp, types.intp, starts), codegen


def _part(first):
    """An intrinsic for one half of a register."""

    @intrinsic
    def half(tyctx, x):
        count = x.lanes // 2

        def codegen(context, builder, sig, args):
            lanes = range(count) if first else range(count, 2 * count)
            return builder.shuffle_vector(args[0], args[0], ir.Constant(ir.VectorType(ir.IntType(32), count), [*lanes]))

        return Vec(x.dtype, count)(x), codegen

    return half


low_half, high_half = _part(True), _part(False)


@intrinsic
def twice(tyctx, x):
    """x in both halves of a register of twice as many lanes."""

    def codegen(context, builder, sig, args):
        mask = ir.Constant(ir.VectorType(ir.IntType(32), 2 * x.lanes), [*range(x.lanes)] * 2)
        return builder.shuffle_vector(args[0], args[0], mask)

    return Vec(x.dtype, 2 * x.lanes)(x), codegen


@intrinsic
def saturate(tyctx, x, bound, value, end):
    """`value` where abs(x) < bound, or x is NaN; else `end` with the sign of x."""

    def codegen(context, builder, sig, args):
        like = context.get_value_type(x)
        number, limit, inner, outer = (_match(builder, a, like) for a in args)
        suffix = f"v{like.count}f{x.dtype.bitwidth}"
        fabs = builder.module.declare_intrinsic(f"llvm.fabs.{suffix}", fnty=ir.FunctionType(like, [like]))
        sign = builder.module.declare_intrinsic(f"llvm.copysign.{suffix}", fnty=ir.FunctionType(like, [like, like]))
        outside = builder.fcmp_ordered(">=", builder.call(fabs, [number]), limit)
        return builder.select(outside, builder.call(sign, [outer, number]), inner)

    return x(x, bound, value, end), codegen


@intrinsic
def below(tyctx, x, bound, yes, no):
    """`yes` in the lanes where x < bound, `no` in the others and where x is NaN; both may be numbers."""

    def codegen(context, builder, sig, args):
        like = context.get_value_type(x)
        vector, limit, one, other = (_match(builder, a, like) for a in args)
        return builder.select(builder.fcmp_ordered("<", vector, limit), one, other)

    return x(x, bound, yes, no), codegen


@intrinsic
def power_of_two(tyctx, n):
    """2^n of whole numbers |n| <= 126 held as float32, |n| <= 1021 as float64: shifted into the exponent field."""
    shift, bias, wide = (23, 127, 32) if n.dtype == types.float32 else (52, 1023, 64)

    def codegen(context, builder, sig, args):
        like = context.get_value_type(n)
        bits = ir.VectorType(ir.IntType(wide), like.count)
        # adding 1.5 * 2^shift leaves n, in two's complement, in the lowest bits of the mantissa
        whole = builder.bitcast(builder.fadd(args[0], _constant(like, 1.5 * 2**shift)), bits)
        exponent = builder.shl(builder.add(whole, _constant(bits, bias)), _constant(bits, shift))
        return builder.bitcast(exponent, like)

    return n(n), codegen


BOUND = 8.010821  # where tanh of float32 becomes 1

# --- tanh ----------------------------------------------------------------------------------------------------------


def tanh(x):
    """tanh of a Vec, at most 1: float32 within 3e-7 and 5 units in the last place, float64 within 3e-16 and 3."""
    raise NotImplementedError("compiled code only")


squash = tanh  # of half the argument, for gates: sigmoid(x) = 1/2 + tanh(x / 2) / 2


def prompt_tanh(x):
    """`tanh` to the last bit, by a few instructions more in a shorter chain: for loops that wait for each step."""
    raise NotImplementedError("compiled code only")


def tanh_times(scale, x):
    """scale * tanh(x) for a scale of at least 0, which joins the chain before the division."""
    raise NotImplementedError("compiled code only")


@overload(tanh)
def _tanh(x):
    if not isinstance(x, Vec):
        return None
    return _tanh_f32 if x.dtype == types.float32 else _tanh_f64


@overload(prompt_tanh)
def _prompt_tanh(x):
    if not isinstance(x, Vec):
        return None
    return _prompt_tanh_f32 if x.dtype == types.float32 else _tanh_f64


@overload(tanh_times)
def _tanh_times(scale, x):
    if not isinstance(x, Vec):
        return None
    return _tanh_times_f32 if x.dtype == types.float32 else _tanh_times_f64


# x P(x^2) / Q(x^2), degree (4, 4), minimax in relative error on [0, 9.02] with float32 coefficients: 3.0e-8; the
# rest of the error is rounding. One division and two short polynomials side by side: the latency of a step is what
# counts. BOUND is the smallest x at which the quotient rounds to 1. Below it the quotient is below 1, from it on
# it is exactly 1: gates close completely (a huge c must not leak through a forget gate of 3e-8).
# 1 - tanh(BOUND) = 2.2e-7. tests/seqsolve/test_kernels.py runs through every float32.


def _tanh_f32(x):
    # cut before: two instructions, both in the chain
    x = clamp(x, BOUND)
    y = x * x
    y2 = y * y
    return numerator(x, x, y, y2) / denominator(x, y, y2)


def _prompt_tanh_f32(x):
    # cut after: what a large x makes of the quotient is thrown away. The chain: x^2, three multiply-adds, the
    # division, a selection; about 28 cycles, 7 of them saved
    y = x * x
    y2 = y * y
    return saturate(x, BOUND, numerator(x, x, y, y2) / denominator(x, y, y2), 1.0)


def _tanh_times_f32(scale, x):
    y = x * x
    y2 = y * y
    return saturate(x, BOUND, numerator(scale * x, x, y, y2) / denominator(x, y, y2), scale)


def _tanh_f64(x):
    m = expm1_of_twice(x)
    return m / (m + 2.0)


def _tanh_times_f64(scale, x):
    m = expm1_of_twice(x)
    return scale * m / (m + 2.0)


@register_jitable
def numerator(factor, x, y, y2):
    """`factor` P(y)."""
    p = fma(y, fill(x, 2.0635801774915308e-05), fill(x, 3.497456666082144e-03))
    p = fma(y2, fill(x, 1.3384264363480725e-08), p)
    return fma(factor * y2, p, factor * fma(y, fill(x, 1.338268667459488e-01), fill(x, 1.0)))


@register_jitable
def denominator(x, y, y2):
    """Q(y)."""
    q = fma(y, fill(x, 3.2885154359973967e-04), fill(x, 2.58843582123518e-02))
    return fma(y2, fma(y2, fill(x, 7.790237646077003e-07), q), fma(y, fill(x, 4.6716007590293884e-01), fill(x, 1.0)))


@register_jitable
def expm1_of_twice(x):
    """m = expm1(2x), of which tanh x is m / (m + 2); abs(x) cut to 20."""
    # m = 2^n expm1(r) + (2^n - 1), 2x = n ln 2 + r, |r| <= ln(2) / 2.
    # Taylor to r^13, in pairs of terms: what is left out is below 0.3466^14 / 14! = 4.2e-18.
    x = clamp(x, 20.0)
    x = x + x
    n = fma(x, fill(x, 1.4426950408889634), fill(x, 6755399441055744.0)) - 6755399441055744.0
    r = fma(n, fill(x, -6.93147180369123816490e-01), x)
    r = fma(n, fill(x, -1.90821492927058770002e-10), r)
    s = r * r
    s2 = s * s
    e = fma(s, fill(x, 2.08767569878681e-09), fill(x, 2.755731922398589e-07))  # r^12, r^10
    e = fma(s2, fill(x, 1.1470745597729725e-11), e)  # r^14
    d = fma(s, fill(x, 2.48015873015873e-05), fill(x, 1.388888888888889e-03))  # r^8, r^6
    even = fma(s2, fma(s2, e, d), fma(s, fill(x, 4.1666666666666664e-02), fill(x, 0.5)))
    o = fma(s, fill(x, 1.6059043836821613e-10), fill(x, 2.505210838544172e-08))  # r^13, r^11
    d = fma(s, fill(x, 2.7557319223985893e-06), fill(x, 1.984126984126984e-04))  # r^9, r^7
    odd = fma(s2, fma(s2, o, d), fma(s, fill(x, 8.333333333333333e-03), fill(x, 1.6666666666666666e-01)))
    small = fma(s, fma(r, odd, even), r)
    scale = power_of_two(n)
    return fma(scale, small, scale - 1.0)
