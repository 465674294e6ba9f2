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
from numba.core.datamodel import models
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, overload, register_model
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
def product(tyctx, h, U, at, stride, start):
    """start + sum over lanes k of h[k] * U[at + k * stride : + lanes], h staying in its register throughout."""

    def codegen(context, builder, sig, args):
        like = context.get_value_type(h)
        name = f"llvm.fmuladd.v{like.count}f{h.dtype.bitwidth}"
        multiply = builder.module.declare_intrinsic(name, fnty=ir.FunctionType(like, [like, like, like]))
        vector, array, index, step, first = args
        sums: list = [first] + [_constant(like, 0.0)] * (1 if like.count <= 4 else 3)
        for k in range(like.count):
            mask = ir.Constant(ir.VectorType(ir.IntType(32), like.count), [k] * like.count)
            lane = builder.shuffle_vector(vector, vector, mask)
            column = builder.load(_address(context, builder, U, array, index, like), align=U.dtype.bitwidth // 8)
            sums[k % len(sums)] = builder.call(multiply, [lane, column, sums[k % len(sums)]])
            index = builder.add(index, step)
        while len(sums) > 1:
            sums = [builder.fadd(a, b) for a, b in zip(sums[::2], sums[1::2])]
        return sums[0]

    return start(h, U, types.intp, types.intp, start), codegen


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


BOUND = 8.010821  # where tanh of float32 becomes 1

# --- tanh ----------------------------------------------------------------------------------------------------------


def tanh(x):
    """tanh of a Vec, at most 1: float32 within 3e-7 and 5 units in the last place, float64 within 3e-16 and 3."""
    raise NotImplementedError("compiled code only")


squash = tanh  # of half the argument, for gates: sigmoid(x) = 1/2 + tanh(x / 2) / 2


@overload(tanh)
def _tanh(x):
    if not isinstance(x, Vec):
        return None
    return _tanh_f32 if x.dtype == types.float32 else _tanh_f64


def _tanh_f32(x):
    # x P(x^2) / Q(x^2), degree (4, 4), minimax in relative error on [0, 9.02] with float32 coefficients: 3.0e-8; the
    # rest of the error is rounding. One division and two short polynomials side by side: the latency of a step is what
    # counts. BOUND is the smallest x at which the quotient rounds to 1. Below it the quotient is below 1, from it on
    # exactly 1: no clamp behind the division, and gates close completely (a huge c must not leak through a forget gate
    # of 3e-8). 1 - tanh(BOUND) = 2.2e-7. tests/seqsolve/test_kernels.py runs through every float32.
    x = clamp(x, BOUND)
    y = x * x
    y2 = y * y
    p = fma(y, fill(x, 2.0635801774915308e-05), fill(x, 3.497456666082144e-03))
    p = fma(y2, fill(x, 1.3384264363480725e-08), p)
    p = fma(x * y2, p, x * fma(y, fill(x, 1.338268667459488e-01), fill(x, 1.0)))
    q = fma(y, fill(x, 3.2885154359973967e-04), fill(x, 2.58843582123518e-02))
    q = fma(y2, fma(y2, fill(x, 7.790237646077003e-07), q), fma(y, fill(x, 4.6716007590293884e-01), fill(x, 1.0)))
    return p / q


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
