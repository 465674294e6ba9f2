"""Compiled inner loops of lowrank: contiguous arrays and integers in, no validation, no options."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ._jit import kernel

AHEAD = 8  # rows between the one asked for from memory and the one worked on
STRIPE = 1536  # bytes of a row worked on at a time: 1024 rows of them, the sketch and the probes all stay in L2
FUSED: Any = {"contract", "nsz"}  # a product and its sum round once; sums keep their order


@kernel
def gather_signed(panel, h, w, starts, members, signs, out, first, norms):
    """Add a panel of rows to a sparse sketch of A, bucket by bucket, and their squares to the column norms.

    ``out[r, first:first+w] += sum of signs[p] * panel[members[p], :w]`` over the members p of bucket r.

    panel : rows of A, packed, of which the leading (h, w) count (longer rows keep powers of two out of the strides);
    starts : (d + 1,) bucket bounds;  members, signs : (4 h,) rows of the panel by bucket, ascending within each;
    out : (d, n);  norms : (n,) float64.

    Every sum runs over the rows of A one after another, so that no choice of panel size, memory order or thread count
    changes a bit of the answer. No fastmath for the same reason.

    Floor: 4 h w additions and 4 h w loads from L2, one load and store of `out` for up to six members, one read of A
    from memory. On 20000 x 2000 float64, of a 210-row GEMM with A: 0.14 for the sums, 0.03 for the norms, and 0.24
    for the packing before it (0.13 if rows were read whole, but a panel of whole rows leaves L2: 0.30 for the sums).
    """
    width = STRIPE // panel.itemsize
    for left in range(0, w, width):
        right = min(left + width, w)
        c = right - left
        for r in range(starts.size - 1):
            o = out[r, first + left : first + right]
            p = starts[r]
            end = starts[r + 1]
            while p + 6 <= end:
                a0 = panel[members[p], left:right]
                a1 = panel[members[p + 1], left:right]
                a2 = panel[members[p + 2], left:right]
                a3 = panel[members[p + 3], left:right]
                a4 = panel[members[p + 4], left:right]
                a5 = panel[members[p + 5], left:right]
                s0, s1, s2 = signs[p], signs[p + 1], signs[p + 2]
                s3, s4, s5 = signs[p + 3], signs[p + 4], signs[p + 5]
                for j in range(c):
                    near = ((o[j] + s0 * a0[j]) + s1 * a1[j]) + s2 * a2[j]
                    o[j] = ((near + s3 * a3[j]) + s4 * a4[j]) + s5 * a5[j]
                p += 6
            while p + 2 <= end:
                a0 = panel[members[p], left:right]
                a1 = panel[members[p + 1], left:right]
                s0, s1 = signs[p], signs[p + 1]
                for j in range(c):
                    o[j] = (o[j] + s0 * a0[j]) + s1 * a1[j]
                p += 2
            if p < end:
                a0 = panel[members[p], left:right]
                s0 = signs[p]
                for j in range(c):
                    o[j] += s0 * a0[j]
        q = norms[first + left : first + right]
        for i in range(0, h - 3, 4):
            a0 = panel[i, left:right]
            a1 = panel[i + 1, left:right]
            a2 = panel[i + 2, left:right]
            a3 = panel[i + 3, left:right]
            for j in range(c):
                x0, x1, x2, x3 = float(a0[j]), float(a1[j]), float(a2[j]), float(a3[j])
                q[j] = (((q[j] + x0 * x0) + x1 * x1) + x2 * x2) + x3 * x3
        for i in range(h - h % 4, h):
            a0 = panel[i, left:right]
            for j in range(c):
                x0 = float(a0[j])
                q[j] += x0 * x0


@kernel(fastmath=FUSED)
def add_products(panel, h, w, omega, out, first):
    """``out[:, first:first+w] += omega @ panel[:h, :w]`` for the few rows of `omega`.

    omega : (p, h);  out : (p, n). Every sum runs over the rows of A one after another, as in `gather_signed`.

    Floor: 2 p h w flops, one load of the panel for every row of omega. For p = 10 a GEMM spends most of its time on
    packing the panel: 0.16 of a 210-row GEMM with A, this 0.12, with 4 numbers a vector near what the units can do.
    """
    width = STRIPE // panel.itemsize
    for left in range(0, w, width):
        right = min(left + width, w)
        c = right - left
        for i in range(0, h - 7, 8):
            a0 = panel[i, left:right]
            a1 = panel[i + 1, left:right]
            a2 = panel[i + 2, left:right]
            a3 = panel[i + 3, left:right]
            a4 = panel[i + 4, left:right]
            a5 = panel[i + 5, left:right]
            a6 = panel[i + 6, left:right]
            a7 = panel[i + 7, left:right]
            for t in range(omega.shape[0]):
                o = out[t, first + left : first + right]
                s0, s1, s2, s3 = omega[t, i], omega[t, i + 1], omega[t, i + 2], omega[t, i + 3]
                s4, s5, s6, s7 = omega[t, i + 4], omega[t, i + 5], omega[t, i + 6], omega[t, i + 7]
                for j in range(c):
                    near = (((o[j] + s0 * a0[j]) + s1 * a1[j]) + s2 * a2[j]) + s3 * a3[j]
                    o[j] = (((near + s4 * a4[j]) + s5 * a5[j]) + s6 * a6[j]) + s7 * a7[j]
        for i in range(h - h % 8, h):
            a0 = panel[i, left:right]
            for t in range(omega.shape[0]):
                o = out[t, first + left : first + right]
                s0 = omega[t, i]
                for j in range(c):
                    o[j] += s0 * a0[j]


@intrinsic
def prefetch(typingctx, flat, at):  # pyright: ignore
    """Ask for the line of ``flat[at]`` without waiting: the hardware does not guess where strips go on."""

    def generate(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        shape = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        function = cgutils.get_or_insert_function(builder.module, shape, "llvm.prefetch.p0")
        address = builder.bitcast(builder.gep(array.data, [arguments[1]]), byte)
        builder.call(function, [address, word(0), word(2), word(1)])  # to read, into L2, data
        return context.get_dummy_value()

    return types.void(flat, types.intp), generate


@kernel
def sketch_strip(flat, first, stride, m, w, rows, signs, Y, norms):
    """Sketch and squared column norms of w columns of A, read where it stands, once.

    flat : A row after row, row i of the strip at ``first + i * stride``;  rows, signs : (m, z) of the stack;
    Y : (d, w);  norms : (w,) float64, both added to.

    Every sum runs over the rows of A one after another, so that the answer is that of `gather_signed` on packed panels,
    to the last bit.

    Floor: one read of A; z w m additions, whose loads and stores of Y come from L2, since a line of Y is rarely met
    twice before L1 drops it. On 20000 x 2000 float64 of a 210-row GEMM with A: 0.15 for reading strips of 768 bytes,
    which the sums hide, 0.25 in all for z = 4 (0.35 where
    others use the same caches); packing panels and gathering from them took 0.45.
    """
    line = 64 // flat.itemsize
    for i in range(m):
        at = first + i * stride
        if i + AHEAD < m:
            for j in range(at + AHEAD * stride, at + AHEAD * stride + w, line):
                prefetch(flat, j)  # pyright: ignore
        x = flat[at : at + w]
        for z in range(rows.shape[1]):
            y, s = Y[rows[i, z]], signs[i, z]
            for j in range(w):
                y[j] += s * x[j]
        for j in range(w):
            value = float(x[j])
            norms[j] += value * value
