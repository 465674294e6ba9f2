"""Compiled distances and inner products of points: contiguous arrays in, no validation, no options."""

from ._jit import kernel

WIDTH = 256  # points of Q worked on at a time: 256 x dim coordinates and a row of the result stay in L1


@kernel
def squared_distances(P, Qt, scale, out):
    """``out[i, j] = sum over t of ((P[i, t] - Qt[t, j]) scale)^2``, by differences: nothing cancels.

    P : (p, dim);  Qt : (dim, q), the other points transposed;  out : (p, q). Sums run over t in ascending order, four
    at a time, and are the same for (x, y) and (y, x) to the last bit; no fastmath for that reason.

    Floor: 4 dim flops an entry, vectorised over j; a load of Qt for each, and one load and store of `out` for four t.
    """
    q, dim = out.shape[1], P.shape[1]
    for left in range(0, q, WIDTH):
        right = min(left + WIDTH, q)
        for i in range(P.shape[0]):
            o = out[i, left:right]
            for j in range(right - left):
                o[j] = 0.0
            t = 0
            while t + 4 <= dim:
                x0, x1, x2, x3 = P[i, t], P[i, t + 1], P[i, t + 2], P[i, t + 3]
                q0, q1, q2, q3 = Qt[t, left:right], Qt[t + 1, left:right], Qt[t + 2, left:right], Qt[t + 3, left:right]
                for j in range(right - left):
                    d0 = (x0 - q0[j]) * scale
                    d1 = (x1 - q1[j]) * scale
                    d2 = (x2 - q2[j]) * scale
                    d3 = (x3 - q3[j]) * scale
                    o[j] = (((o[j] + d0 * d0) + d1 * d1) + d2 * d2) + d3 * d3
                t += 4
            while t < dim:
                x0 = P[i, t]
                q0 = Qt[t, left:right]
                for j in range(right - left):
                    d0 = (x0 - q0[j]) * scale
                    o[j] += d0 * d0
                t += 1


@kernel
def inner_products(P, Qt, out):
    """``out[i, j] = sum over t of P[i, t] Qt[t, j]``, symmetric in the two points to the last bit.

    Arguments and floor as `squared_distances`, with 2 dim flops an entry.
    """
    q, dim = out.shape[1], P.shape[1]
    for left in range(0, q, WIDTH):
        right = min(left + WIDTH, q)
        for i in range(P.shape[0]):
            o = out[i, left:right]
            for j in range(right - left):
                o[j] = 0.0
            t = 0
            while t + 4 <= dim:
                x0, x1, x2, x3 = P[i, t], P[i, t + 1], P[i, t + 2], P[i, t + 3]
                q0, q1, q2, q3 = Qt[t, left:right], Qt[t + 1, left:right], Qt[t + 2, left:right], Qt[t + 3, left:right]
                for j in range(right - left):
                    o[j] = (((o[j] + x0 * q0[j]) + x1 * q1[j]) + x2 * q2[j]) + x3 * q3[j]
                t += 4
            while t < dim:
                x0 = P[i, t]
                q0 = Qt[t, left:right]
                for j in range(right - left):
                    o[j] += x0 * q0[j]
                t += 1


@kernel
def refine(P, Q, scale, xx, yy, limit, out):
    """Distances in `out` below ``limit (xx[i] + yy[j])`` anew, by differences: those that lost digits in a GEMM.

    out : ``xx[i] + yy[j] - 2 <x, y>``;  P : (p, dim) and Q : (q, dim), the points that it was made of, unscaled. With
    limit = 2^-6 what is left has a relative error of about 64 eps; equal points come out as 0.

    Floor: one read of `out`, and 4 dim flops for each entry that is refined.
    """
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            if out[i, j] < limit * (xx[i] + yy[j]):
                total = (P[i, 0] - P[i, 0]) * scale
                for t in range(P.shape[1]):
                    d = (P[i, t] - Q[j, t]) * scale
                    total += d * d
                out[i, j] = total
