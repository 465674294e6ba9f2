"""Registers in which every lane is a sequence: their way in and out of rows, and products with a matrix.

A row of numbers of one sequence has to become the same lane of as many registers, and back. Copied one by one that is
a load and a store a number; here q numbers of q sequences are loaded as q registers, turned inside the registers, and
stored: q log2(q) shuffles for q^2 numbers, about a quarter of a cycle each.
"""

# numba gives an intrinsic its typing context itself and knows more of a tuple than its annotation says
# pyright: reportCallIssue=false, reportArgumentType=false

from pathlib import Path

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from . import _vectors
from ._vectors import Vec, _address, _broadcast, _constant


def kernel(function):
    """`_vectors.kernel` whose disk cache notices a change of this file, too."""
    dispatcher = _vectors.kernel(function)
    index = getattr(getattr(dispatcher, "_cache", None), "_cache_file", None)
    if index is not None:
        here = Path(__file__).stat()
        index._source_stamp = (*index._source_stamp, here.st_mtime, here.st_size)
    return dispatcher


@intrinsic
def spread(tyctx, array, index, lanes):
    """``array[index]`` of a flat array in every lane, without the test for a negative index."""
    vector = Vec(array.dtype, lanes.count)

    def codegen(context, builder, sig, args):
        where = _address(context, builder, array, args[0], args[1], context.get_value_type(array.dtype))
        return _broadcast(builder, builder.load(where), lanes.count)

    return vector(array, types.intp, lanes), codegen


@intrinsic
def spreads(tyctx, array, index, lanes, count):
    """A tuple of `spread` of the numbers from ``array[index]`` on, as many as the tuple `count` has entries."""
    many = types.UniTuple(Vec(array.dtype, lanes.count), count.count)

    def codegen(context, builder, sig, args):
        number, found = context.get_value_type(array.dtype), []
        for k in range(count.count):
            where = _address(context, builder, array, args[0], builder.add(args[1], args[1].type(k)), number)
            found.append(_broadcast(builder, builder.load(where), lanes.count))
        return context.make_tuple(builder, many, found)

    return many(array, types.intp, lanes, count), codegen


@intrinsic
def rows(tyctx, M, m, v, at, count, sums):
    """sums[p] + sum over j < count of M[m + j P + p] times the register at v[at + j lanes]; P = len(sums)."""
    P, lanes, bits = len(sums), sums.dtype.lanes, sums.dtype.dtype.bitwidth
    # a multiply-add takes four cycles, and two start in one; as many sums for any number of lanes, or rounding would
    # depend on how the sequences are shared among threads
    unroll = 2 if P == 1 else 1

    def codegen(context, builder, sig, args):
        like, number = context.get_value_type(sums.dtype), context.get_value_type(M.dtype)
        matrix, first, vector, begin, length, given = args
        name = f"llvm.fmuladd.v{lanes}f{bits}"
        multiply = builder.module.declare_intrinsic(name, fnty=ir.FunctionType(like, [like, like, like]))
        zeros, left = [_constant(like, 0.0)] * P, cgutils.unpack_tuple(builder, given, P)
        totals = [[cgutils.alloca_once_value(builder, a) for a in (zeros if k else left)] for k in range(unroll)]
        row, step = first.type(P), first.type(lanes)

        def column(j, mine):
            here = _address(context, builder, v, vector, builder.add(begin, builder.mul(j, step)), like)
            y, place = builder.load(here, align=bits // 8), builder.add(first, builder.mul(j, row))
            for p in range(P):
                where = _address(context, builder, M, matrix, builder.add(place, first.type(p)), number)
                factor = _broadcast(builder, builder.load(where), lanes)
                builder.store(builder.call(multiply, [factor, y, builder.load(mine[p])]), mine[p])

        whole = builder.and_(length, length.type(-unroll))
        with cgutils.for_range_slice(builder, length.type(0), whole, length.type(unroll)) as (j, _):
            for k in range(unroll):
                column(builder.add(j, length.type(k)), totals[k])
        if unroll > 1:
            with cgutils.for_range_slice(builder, whole, length, length.type(1)) as (j, _):
                column(j, totals[0])
        total = [[builder.load(a) for a in mine] for mine in totals]
        while len(total) > 1:
            total = [[builder.fadd(a, b) for a, b in zip(*pair)] for pair in zip(total[::2], total[1::2])]
        return context.make_tuple(builder, sums, total[0])

    return sums(M, types.intp, v, types.intp, types.intp, sums), codegen


@intrinsic
def copy_one(tyctx, to, at, source, index):
    """``to[at] = source[index]`` of flat arrays, without the tests for negative indices."""

    def codegen(context, builder, sig, args):
        number = context.get_value_type(sig.args[0].dtype)
        value = builder.load(_address(context, builder, sig.args[2], args[2], args[3], number))
        builder.store(value, _address(context, builder, sig.args[0], args[0], args[1], number))
        return context.get_dummy_value()

    return types.void(to, types.intp, source, types.intp), codegen


@intrinsic
def fetch(tyctx, array, index, write):
    """Bring the line of ``array[index]`` near, to write to it if the tuple `write` is not empty; any index will do."""

    def codegen(context, builder, sig, args):
        byte = ir.IntType(8).as_pointer()
        place = _address(context, builder, array, args[0], args[1], ir.IntType(8))
        small = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, small, small, small])
        ahead = builder.module.declare_intrinsic("llvm.prefetch", (byte,), fnty=kind)
        builder.call(ahead, [place, small(int(write.count > 0)), small(3), small(1)])
        return context.get_dummy_value()

    return types.void(array, types.intp, write), codegen


def _turned(builder, registers, size):
    """The transpose of q registers of q numbers of `size` bytes.

    First squares inside the 16 bytes that a shuffle does not leave, then these as they are: no stage needs more than
    the two operands and the constant of one instruction.
    """
    q, e = len(registers), 16 // size
    groups = q // e

    def shuffled(a, b, pick):
        mask = ir.Constant(ir.VectorType(ir.IntType(32), q), pick)
        return builder.shuffle_vector(a, b, mask)

    def inner(a, b, which):
        """Of every 16 bytes of a and b the numbers `which`, those of b counted from e on."""
        return shuffled(a, b, [g * e + k if k < e else q + g * e + k - e for g in range(groups) for k in which])

    def outer(a, b, which):
        """Whole groups of 16 bytes."""
        return shuffled(a, b, [g * e + k if g < groups else q + (g - groups) * e + k for g in which for k in range(e)])

    blocks = []  # blocks[i][c], group g: rows e i.. of column e g + c
    for i in range(0, q, e):
        if e == 2:
            a, b = registers[i : i + 2]
            blocks.append([inner(a, b, (0, 2)), inner(a, b, (1, 3))])
            continue
        a, b, c, d = registers[i : i + 4]
        low, high = (inner(a, b, (0, 4, 1, 5)), inner(c, d, (0, 4, 1, 5))), (
            inner(a, b, (2, 6, 3, 7)), inner(c, d, (2, 6, 3, 7))
        )  # fmt: skip
        blocks.append([inner(*pair, which) for pair in (low, high) for which in ((0, 1, 4, 5), (2, 3, 6, 7))])
    columns: list = [None] * q
    for c in range(e):
        line = [block[c] for block in blocks]
        if groups == 2:
            line = [outer(*line, (0, 2)), outer(*line, (1, 3))]
        elif groups == 4:
            even, odd = (0, 2, 4, 6), (1, 3, 5, 7)
            a, b, c1, d = (outer(*pair, half) for half in (even, odd) for pair in (line[:2], line[2:]))
            line = [outer(a, b, even), outer(c1, d, even), outer(a, b, odd), outer(c1, d, odd)]
        columns[c::e] = line
    return columns


@intrinsic
def gather_tile(tyctx, u, to, pitch, x, starts, lane, at, tile):
    """q numbers of q sequences, x[starts[lane + i] + at + j], to u[to + j pitch + lane + i]; q = len(tile)."""

    def codegen(context, builder, sig, args):
        q, size = tile.count, x.dtype.bitwidth // 8
        like = ir.VectorType(context.get_value_type(x.dtype), q)
        target, first, step, source, begin, low, here, _ = args
        found = []
        for i in range(q):
            number = low.type(i)
            place = _address(context, builder, starts, begin, builder.add(low, number), low.type)
            index = builder.add(builder.load(place), here)
            found.append(builder.load(_address(context, builder, x, source, index, like), align=size))
        first = builder.add(first, low)
        for j, column in enumerate(_turned(builder, found, size)):
            index = builder.add(first, builder.mul(step, step.type(j)))
            builder.store(column, _address(context, builder, u, target, index, like), align=size)
        return context.get_dummy_value()

    return types.void(u, types.intp, types.intp, x, starts, types.intp, types.intp, tile), codegen


@intrinsic
def scatter_tile(tyctx, h, first, pitch, out, starts, lane, at, tile):
    """The way back: out[starts[lane + i] + at + j] from h[first + j pitch + lane + i]."""

    def codegen(context, builder, sig, args):
        q, size = tile.count, out.dtype.bitwidth // 8
        like = ir.VectorType(context.get_value_type(out.dtype), q)
        source, begin, step, target, places, low, here, _ = args
        begin, found = builder.add(begin, low), []
        for j in range(q):
            index = builder.add(begin, builder.mul(step, step.type(j)))
            found.append(builder.load(_address(context, builder, h, source, index, like), align=size))
        for i, row in enumerate(_turned(builder, found, size)):
            place = _address(context, builder, starts, places, builder.add(low, low.type(i)), low.type)
            index = builder.add(builder.load(place), here)
            builder.store(row, _address(context, builder, out, target, index, like), align=size)
        return context.get_dummy_value()

    return types.void(h, types.intp, types.intp, out, starts, types.intp, types.intp, tile), codegen
