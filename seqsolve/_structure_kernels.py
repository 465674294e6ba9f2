"""Scans with structured Jacobians, and the Kalman smoother that solves a damped one.

These kernels call one another only within this file.
"""

import numpy as np

from ._jit import kernel


@kernel(fastmath={"reassoc", "contract"})
def low_rank_scan(B, Q, b, v, out):
    """v <- B_t (Q_t^T v) + b_t; B and Q are (T, n, r). 4 T n r flops, 2 T n r elements moved."""
    T, n, r = B.shape
    small = np.empty(r, B.dtype)
    for t in range(T):
        for k in range(r):
            small[k] = 0
        for j in range(n):
            for k in range(r):
                small[k] += Q[t, j, k] * v[j]
        for i in range(n):
            total = b[t, i]
            for k in range(r):
                total += B[t, i, k] * small[k]
            out[t, i] = total
        v[:] = out[t]


@kernel
def _factor(M):
    """Cholesky of a positive definite matrix, lower triangle in place; n^3 / 3 flops."""
    n = M.shape[0]
    for j in range(n):
        for k in range(j):
            for i in range(j, n):
                M[i, j] -= M[i, k] * M[j, k]
        M[j, j] = np.sqrt(M[j, j])
        for i in range(j + 1, n):
            M[i, j] /= M[j, j]


@kernel
def _solve(L, x):
    """x <- (L L^T)^-1 x for each column of x; 2 n^2 flops a column."""
    n, m = x.shape
    for i in range(n):
        for k in range(i):
            for c in range(m):
                x[i, c] -= L[i, k] * x[k, c]
        for c in range(m):
            x[i, c] /= L[i, i]
    for i in range(n - 1, -1, -1):
        for k in range(i + 1, n):
            for c in range(m):
                x[i, c] -= L[k, i] * x[k, c]
        for c in range(m):
            x[i, c] /= L[i, i]


@kernel
def kalman_smoother(J, r, weight, out):
    """argmin over d of sum_t |d_t - J_t d_{t-1} - r_t|^2 + weight |d_t|^2, d_{-1} = 0.

    The filter of a state with unit noise that is observed to be zero with variance 1 / weight, then Rauch, Tung and
    Striebel's smoother. J is (T, n, n). About 9 T n^3 flops; 2 T n^2 elements kept for the way back.
    """
    T, n = r.shape
    gain = np.empty((T, n, n), r.dtype)  # G_t = P_t J_{t+1}^T (P_{t+1}^-)^-1, transposed
    mean = np.empty((T, n), r.dtype)
    prior = np.empty((T, n), r.dtype)
    P, PJ = np.zeros((n, n), r.dtype), np.empty((n, n), r.dtype)
    S, M, column = np.empty((n, n), r.dtype), np.empty((n, n), r.dtype), np.empty((n, 1), r.dtype)
    for t in range(T):
        for i in range(n):  # PJ = J P, S = J P J^T + I
            for j in range(n):
                total = P[0, 0] * 0
                for k in range(n):
                    total += J[t, i, k] * P[k, j]
                PJ[i, j] = total
            total = r[t, i]
            if t > 0:
                for k in range(n):
                    total += J[t, i, k] * mean[t - 1, k]
            prior[t, i] = total
        for i in range(n):
            for j in range(i + 1):
                total = P[0, 0] * 0
                for k in range(n):
                    total += PJ[i, k] * J[t, j, k]
                if i == j:
                    total += 1
                S[i, j] = total
                S[j, i] = total
        if t > 0:
            M[:] = S
            _factor(M)
            gain[t - 1] = PJ
            _solve(M, gain[t - 1])
        # P = (I + weight S)^-1 S = (I - (I + weight S)^-1) / weight, symmetric; mean = (I + weight S)^-1 prior
        for i in range(n):
            for j in range(n):
                M[i, j] = weight * S[i, j]
            M[i, i] += 1
            column[i, 0] = prior[t, i]
        _factor(M)
        _solve(M, column)
        P[:] = S
        _solve(M, P)
        for i in range(n):
            mean[t, i] = column[i, 0]
            for j in range(i):
                P[i, j] = (P[i, j] + P[j, i]) / 2
                P[j, i] = P[i, j]
    out[T - 1] = mean[T - 1]
    for t in range(T - 2, -1, -1):
        for i in range(n):
            total = mean[t, i]
            for k in range(n):
                total += gain[t, k, i] * (out[t + 1, k] - prior[t + 1, k])
            out[t, i] = total


@kernel
def kalman_smoother_diag(a, r, weight, out):
    """`kalman_smoother` for J_t = diag(a_t), element by element; a and r are (T, M). About 12 T M flops."""
    T, M = r.shape
    gain, mean, prior = np.empty(T, r.dtype), np.empty(T, r.dtype), np.empty(T, r.dtype)
    one = r.dtype.type(1)
    for m in range(M):
        P = one * 0
        for t in range(T):
            S = a[t, m] * a[t, m] * P + one
            prior[t] = r[t, m]
            if t > 0:
                prior[t] += a[t, m] * mean[t - 1]
                gain[t - 1] = P * a[t, m] / S
            mean[t] = prior[t] / (one + weight * S)
            P = S / (one + weight * S)
        out[T - 1, m] = mean[T - 1]
        for t in range(T - 2, -1, -1):
            out[t, m] = mean[t] + gain[t] * (out[t + 1, m] - prior[t + 1])
