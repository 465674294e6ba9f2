"""Fused recurrences, compiled by numba.

A recurrence of width H is bound by latency: every step waits for the one before it. What helps is to keep the whole
step in registers (no temporary arrays, no alias checks), a short tanh, and several accumulators a gate. Arguments are
checked by the callers; there is no fastmath: NaN and inf follow IEEE rules.
"""

# numba knows more of a tuple than its annotation says
# pyright: reportCallIssue=false, reportArgumentType=false

import numpy as np

from ._vectors import below, fill, fma, kernel, load, matvec, relu, squash, store, tanh


@kernel
def tanh_array(lanes, x, out):
    """tanh of a flat array whose length is a multiple of the lanes: the face by which tests reach `tanh`."""
    for i in range(0, x.size, len(lanes)):
        store(out, i, tanh(load(x, i, lanes)))


# --- cells ---------------------------------------------------------------------------------------------------------
# `gates` holds W x + b for every row, packed as the cells read it: (row, tile, gate, lane) with tiles of `lanes`
# units, the last one padded. `U` is packed (tile, column, gate, lane). Rows of sigmoid gates are halved in both, since
# sigmoid(x) = 1/2 + tanh(x/2) / 2. Step t of row b stands at start[t] + b of the output, and at start[t] - base + b of
# the gates, which cover the steps first..last only; the sequence of row b has lengths[b] steps. `inner` is b_hn of a
# GRU. `state` is (B, P) and carries over from one piece of time to the next. span = first, last, base, low, high,
# width, column, H and K; W, bias and K are for `_tile_kernels.py`. `kept`, or None, receives in row start[t] + b, flat,
# what the chain rule of `_gradient_kernels.py` asks for, in parts of P numbers (the last one of Q where an LSTM is
# projected): (slope, before) of an RNN, (r, z, n, U h + b_hn, before) of a GRU, and of an LSTM (i, f, o, g, tanh c,
# c before, h before).


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
def rnn(lanes, variant, gates, start, lengths, W, bias, U, inner, state, cell, W_hr, out, kept, span):
    """h = tanh or relu (W x + b + U h). Floor a step: H^2 multiply-adds, and H^2 elements of U from cache."""
    L, P = len(lanes), state.shape[1]
    first, last, base, low, high, width, column, H, _ = span
    backwards, rectify = variant
    work = aligned(state, 2 * P)
    for b in range(low, high):
        work[:P] = state[b]
        old, new = 0, P
        steps = min(last, lengths[b]) - first
        for k in range(steps):
            t = first + (steps - 1 - k if backwards else k)
            g, o = (start[t] - base + b) * P, (start[t] + b) * width + column
            for tile in range(0, P, L):
                i = P - L - tile if k & 1 else tile
                (a,) = matvec(U, i * H, work, old, H, (load(gates, g + i, lanes),))
                h = relu(a) if rectify else tanh(a)
                if kept is not None:
                    row = (start[t] + b) * 2 * P + i
                    store(kept, row, below(0.0 - h, 0.0, 1.0, 0.0) if rectify else 1.0 - h * h)
                    store(kept, row + P, load(work, old + i, lanes))
                _emit(lanes, h, work, new, out, o, i, H)
            old, new = new, old
        state[b] = work[old : old + P]


@kernel
def gru(lanes, variant, gates, start, lengths, W, bias, U, inner, state, cell, W_hr, out, kept, span):
    """r, z = sigmoid(..); n = tanh(W x + b + r (U h + b_hh)); h = n + z (h - n), torch's gate order r, z, n.

    Floor a step: 3 H^2 multiply-adds, and 3 H^2 elements of U from cache.
    """
    L, P = len(lanes), state.shape[1]
    first, last, base, low, high, width, column, H, _ = span
    backwards, _ = variant
    work = aligned(state, 2 * P)
    for b in range(low, high):
        work[:P] = state[b]
        old, new = 0, P
        steps = min(last, lengths[b]) - first
        for k in range(steps):
            t = first + (steps - 1 - k if backwards else k)
            g, o = (start[t] - base + b) * 3 * P, (start[t] + b) * width + column
            for tile in range(0, P, L):
                i = P - L - tile if k & 1 else tile
                e = g + 3 * i
                r, z, n = matvec(
                    U, 3 * i * H, work, old, H,
                    (load(gates, e, lanes), load(gates, e + L, lanes), load(inner, i, lanes)),
                )  # fmt: skip
                r, d = fma(squash(r), fill(r, 0.5), fill(r, 0.5)), n
                n = tanh(fma(r, n, load(gates, e + 2 * L, lanes)))
                z = fma(squash(z), fill(z, 0.5), fill(z, 0.5))
                if kept is not None:
                    row = (start[t] + b) * 5 * P + i
                    for j, part in enumerate((r, z, n, d, load(work, old + i, lanes))):
                        store(kept, row + j * P, part)
                _emit(lanes, fma(z, load(work, old + i, lanes) - n, n), work, new, out, o, i, H)
            old, new = new, old
        state[b] = work[old : old + P]


@kernel
def lstm(lanes, variant, gates, start, lengths, W, bias, U, inner, state, cell, W_hr, out, kept, span):
    """i, f, o = sigmoid(..), g = tanh(..); c = f c + i g; h = o tanh(c), then W_hr h where there is a projection.

    Gate order as torch: i, f, g, o. Floor a step: 4 H R (+ H R) multiply-adds, R the size of h.
    """
    L, P, Q = len(lanes), cell.shape[1], state.shape[1]
    first, last, base, low, high, width, column, R, _ = span
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
            for tile in range(0, P, L):
                i = P - L - tile if k & 1 else tile
                e = g + 4 * i
                a, f, m, s = matvec(
                    U, 4 * i * R, work, old, R,
                    (
                        load(gates, e, lanes), load(gates, e + L, lanes),
                        load(gates, e + 2 * L, lanes), load(gates, e + 3 * L, lanes),
                    ),
                )  # fmt: skip
                a = fma(squash(a), fill(a, 0.5), fill(a, 0.5))
                f = fma(squash(f), fill(a, 0.5), fill(a, 0.5))
                s = fma(squash(s), fill(a, 0.5), fill(a, 0.5))
                m, before = squash(m), load(c, i, lanes)
                d = fma(a, m, f * before)
                y = tanh(d)
                store(c, i, d)
                if kept is not None:
                    row = (start[t] + b) * (6 * P + Q) + i
                    for j, part in enumerate((a, f, s, m, y, before)):
                        store(kept, row + j * P, part)
                if projected:
                    store(full, i, s * y)
                else:
                    _emit(lanes, s * y, work, new, out, o, i, R)
            if kept is not None:
                for i in range(0, Q, L):
                    store(kept, (start[t] + b) * (6 * P + Q) + 6 * P + i, load(work, old + i, lanes))
            if projected:
                for i in range(0, Q, L):
                    (a,) = matvec(W_hr, i * H, full, 0, H, (fill(load(full, i % P, lanes), 0.0),))
                    _emit(lanes, a, work, new, out, o, i, R)
            old, new = new, old
        state[b] = work[old : old + Q]
        cell[b] = c
