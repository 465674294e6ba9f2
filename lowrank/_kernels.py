"""Compiled inner loops of lowrank: contiguous arrays and integers in, no validation, no options."""

from ._jit import kernel


@kernel
def gather_signed(panel, starts, members, signs, out, first, norms):
    """Add a panel of rows to a sparse sketch of A, bucket by bucket, and their squares to the column norms.

    ``out[r, first:first+w] += sum of signs[p] * panel[members[p]]`` over the members p of bucket r.

    panel : (h, w) rows of A, packed;  starts : (d + 1,) bucket bounds;  members, signs : (4 h,) rows of the panel by
    bucket, in ascending order within each;  out : (d, n);  norms : (n,) float64.

    A sum runs over the rows of A one after another, so that no choice of panel size, memory order or thread count
    changes a bit of the answer. No fastmath for the same reason.

    Floor: 4 h w additions and 4 h w loads from cache (the panel is sized to stay in L2), one load and store of `out`
    per four members, one read of A from memory. Bound by L2 bandwidth: about half the time of a 210-row GEMM with A.
    """
    h, w = panel.shape
    for r in range(starts.size - 1):
        o = out[r, first : first + w]
        p = starts[r]
        end = starts[r + 1]
        while p + 4 <= end:
            a0 = panel[members[p]]
            a1 = panel[members[p + 1]]
            a2 = panel[members[p + 2]]
            a3 = panel[members[p + 3]]
            s0 = signs[p]
            s1 = signs[p + 1]
            s2 = signs[p + 2]
            s3 = signs[p + 3]
            for j in range(w):
                o[j] = (((o[j] + s0 * a0[j]) + s1 * a1[j]) + s2 * a2[j]) + s3 * a3[j]
            p += 4
        while p < end:
            a0 = panel[members[p]]
            s0 = signs[p]
            for j in range(w):
                o[j] += s0 * a0[j]
            p += 1
    q = norms[first : first + w]
    for i in range(h):
        a = panel[i]
        for j in range(w):
            x = float(a[j])
            q[j] += x * x
