"""Compiled inner loops of lowrank: contiguous arrays and integers in, no validation, no options."""

from ._jit import kernel

WIDTH = 64  # columns worked on at a time: a panel of 1024 rows and a sketch of 1024 rows then both stay in L2


@kernel
def gather_signed(panel, h, w, starts, members, signs, out, first, norms):
    """Add a panel of rows to a sparse sketch of A, bucket by bucket, and their squares to the column norms.

    ``out[r, first:first+w] += sum of signs[p] * panel[members[p], :w]`` over the members p of bucket r.

    panel : rows of A, packed, of which the leading (h, w) count (longer rows keep powers of two out of the strides);
    starts : (d + 1,) bucket bounds;  members, signs : (4 h,) rows of the panel by bucket, ascending within each;
    out : (d, n);  norms : (n,) float64.

    Every sum runs over the rows of A one after another, so that no choice of panel size, memory order or thread count
    changes a bit of the answer. No fastmath for the same reason.

    Floor: 4 h w additions and 4 h w loads from L2, one load and store of `out` for up to four members, one read of A
    from memory. On 20000 x 2000 float64 the packing is half of the time, and the whole 0.45 of a 210-row GEMM with A.
    """
    for left in range(0, w, WIDTH):
        right = min(left + WIDTH, w)
        for r in range(starts.size - 1):
            o = out[r, first + left : first + right]
            p = starts[r]
            end = starts[r + 1]
            while p + 4 <= end:
                a0 = panel[members[p], left:right]
                a1 = panel[members[p + 1], left:right]
                a2 = panel[members[p + 2], left:right]
                a3 = panel[members[p + 3], left:right]
                s0 = signs[p]
                s1 = signs[p + 1]
                s2 = signs[p + 2]
                s3 = signs[p + 3]
                for j in range(right - left):
                    o[j] = (((o[j] + s0 * a0[j]) + s1 * a1[j]) + s2 * a2[j]) + s3 * a3[j]
                p += 4
            if p + 2 <= end:
                a0 = panel[members[p], left:right]
                a1 = panel[members[p + 1], left:right]
                s0 = signs[p]
                s1 = signs[p + 1]
                for j in range(right - left):
                    o[j] = (o[j] + s0 * a0[j]) + s1 * a1[j]
                p += 2
            if p < end:
                a0 = panel[members[p], left:right]
                s0 = signs[p]
                for j in range(right - left):
                    o[j] += s0 * a0[j]
        q = norms[first + left : first + right]
        for i in range(h):
            a = panel[i, left:right]
            for j in range(right - left):
                x = float(a[j])
                q[j] += x * x
