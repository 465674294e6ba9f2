"""Affine scans h_t = A_t h_{t-1} + b_t on contiguous arrays, in one pass over memory.

Floor: each element of A and b is read once and each state written once. These kernels call none of `_kernels`, so the
two files can be compiled apart. `backwards` runs from the last step to the first. `h` holds the state before and after.
"""

import numpy as np

from ._jit import kernel

_NARROW = 128  # below this width the state stays in its own buffer, above it is read back from the row before


@kernel(fastmath={"contract"})
def diag_scan(A, b, h, out, first, last, backwards):
    """h <- A_t * h + b_t element by element; A, b, out are (T, M), h is (M,). 2 T M flops, 3 T M elements moved."""
    M = b.shape[1]
    if M == 1:  # the state stays in a register: bound by the latency of one multiply-add
        x = h[0]
        for k in range(last - first):
            t = last - 1 - k if backwards else first + k
            x = A[t, 0] * x + b[t, 0]
            out[t, 0] = x
        h[0] = x
    elif M < _NARROW:
        for k in range(last - first):
            t = last - 1 - k if backwards else first + k
            for m in range(M):
                h[m] = A[t, m] * h[m] + b[t, m]
                out[t, m] = h[m]
    else:
        old = h
        for k in range(last - first):
            t = last - 1 - k if backwards else first + k
            row, rhs, new = A[t], b[t], out[t]
            for m in range(M):
                new[m] = row[m] * old[m] + rhs[m]
            old = new
        h[:] = old


@kernel(fastmath={"contract"})
def scalar_scan(A, b, h, out, first, last, backwards):
    """h <- a_t h + b_t with one number a_t a step; A is (T,)."""
    M = b.shape[1]
    for k in range(last - first):
        t = last - 1 - k if backwards else first + k
        a, rhs, new = A[t], b[t], out[t]
        for m in range(M):
            h[m] = a * h[m] + rhs[m]
            new[m] = h[m]


@kernel(fastmath={"reassoc", "contract"})
def dense_scan(A, b, h, out, backwards):
    """h <- A_t h + b_t; A is (T, n, n), b and out (T, n), h (n,). 2 T n^2 flops, T n^2 elements of A moved."""
    T, n = b.shape
    for k in range(T):
        t = T - 1 - k if backwards else k
        A_t, new = A[t], out[t]
        for i in range(n):
            total = b[t, i]
            row = A_t[i]
            for j in range(n):
                total += row[j] * h[j]
            new[i] = total
        h[:] = new


@kernel(fastmath={"reassoc", "contract"})
def block_scan(A, b, h, out, first, last, backwards):
    """h_i <- A_ti h_i + b_ti for the blocks first..last; A is (T, N, k, k), b and out (T, N, k), h (N, k).

    2 T N k^2 flops, T N (k^2 + 2 k) elements moved. Written out for k = 2 and 3, where a loop costs more than its body.
    """
    T, k = b.shape[0], b.shape[2]
    for step in range(T):
        t = T - 1 - step if backwards else step
        for i in range(first, last):
            M, rhs, v, new = A[t, i], b[t, i], h[i], out[t, i]
            if k == 2:
                x, y = v[0], v[1]
                v[0] = M[0, 0] * x + M[0, 1] * y + rhs[0]
                v[1] = M[1, 0] * x + M[1, 1] * y + rhs[1]
                new[0], new[1] = v[0], v[1]
            elif k == 3:
                x, y, z = v[0], v[1], v[2]
                v[0] = M[0, 0] * x + M[0, 1] * y + M[0, 2] * z + rhs[0]
                v[1] = M[1, 0] * x + M[1, 1] * y + M[1, 2] * z + rhs[1]
                v[2] = M[2, 0] * x + M[2, 1] * y + M[2, 2] * z + rhs[2]
                new[0], new[1], new[2] = v[0], v[1], v[2]
            else:
                for p in range(k):
                    total = rhs[p]
                    row = M[p]
                    for q in range(k):
                        total += row[q] * v[q]
                    new[p] = total
                v[:] = new


@kernel(fastmath={"reassoc", "contract"})
def constant_scan(A, b, h, out, first, last, backwards):
    """h_i <- A h_i + b_ti for i = first..last, one matrix A, (n, n), from cache; b and out are (T, N, n), h (N, n).

    2 T N n^2 flops, half of what products of matrices over chunks of time take.
    """
    T, n = b.shape[0], b.shape[2]
    for step in range(T):
        t = T - 1 - step if backwards else step
        for i in range(first, last):
            v, new = h[i], out[t, i]
            for p in range(n):
                total = b[t, i, p]
                row = A[p]
                for q in range(n):
                    total += row[q] * v[q]
                new[p] = total
            v[:] = new


@kernel(fastmath={"reassoc", "contract"})
def gate_scan(U, D, C, b, v, out):
    """v <- D_t * v + sum over gates g of C_tg * (U_g v) + b_t: the linearised RNN or GRU, its matrix never formed.

    U is (G H, H) as torch stores it, D (T, H), C (T, G, H). 2 T G H^2 flops, with U from cache.
    """
    T, G, H = C.shape
    for t in range(T):
        new = out[t]
        for i in range(H):
            total = b[t, i] + D[t, i] * v[i]
            for g in range(G):
                row = U[g * H + i]
                dot = v[0] * 0
                for j in range(H):
                    dot += row[j] * v[j]
                total += C[t, g, i] * dot
            new[i] = total
        v[:] = new


@kernel(fastmath={"reassoc", "contract"})
def lstm_scan(U, D, C, b, v, out):
    """The linearised LSTM on v = (h, c): c <- D_0 c + sum over i, f, g of C * (U h); h <- D_1 c + C_3 * (U_o h).

    U is (4 H, H), D (T, 2, H), C (T, 4, H), b and out (T, 2 H).
    """
    T, G, H = C.shape
    for t in range(T):
        new = out[t]
        for i in range(H):
            c = D[t, 0, i] * v[H + i]
            h = v[0] * 0
            for g in range(G):
                row = U[g * H + i]
                dot = v[0] * 0
                for j in range(H):
                    dot += row[j] * v[j]
                if g == 3:
                    h += C[t, g, i] * dot
                else:
                    c += C[t, g, i] * dot
            h += D[t, 1, i] * c + b[t, i]
            c += b[t, H + i]
            new[i], new[H + i] = h, c
        v[:] = new


@kernel
def diag_forgets(A, tiny, early, backwards):
    """Whether the product of the rows of A falls below `tiny` in every column: then a start is forgotten.

    Gives up after a 64th of the rows, unless there it is below `early`, tiny^(1/128), half as fast as it must fall.
    """
    T, M = A.shape
    product = np.ones(M, A.dtype)
    hurry = max(1, T // 64)
    for k in range(T):
        row = A[T - 1 - k] if backwards else A[k]
        for m in range(M):
            product[m] *= row[m]
        if k % 16 == 15 or k + 1 == hurry or k + 1 == T:  # the largest of a row costs as much as several products
            largest = 0.0
            for m in range(M):
                largest = max(largest, abs(product[m]))
            if largest < tiny:
                return True
            if k + 1 == hurry and not largest < early:
                return False
    return False


@kernel
def diag_correct(A, out, e, first, last, backwards):
    """Add to states that started from zero what a start from e adds; stop where no state changes any more.

    Once every h_t + e_t rounds to h_t, the states after t are what the recurrence makes of h_t, bit by bit.
    """
    M = out.shape[1]
    for k in range(last - first):
        t = last - 1 - k if backwards else first + k
        row, states = A[t], out[t]
        changed = False
        for m in range(M):
            e[m] = row[m] * e[m]
            corrected = states[m] + e[m]
            changed |= corrected != states[m]
            states[m] = corrected
        if not changed:
            return k + 1
    return last - first
