"""Cells whose vector lanes are independent sequences, such as the time chunks of `shooting`.

The loop of `_kernels` spreads one step over a register and waits for each step before the next. Here lane l of every
register belongs to sequence l, so that a weight is loaded once for all of them. `lanes` may be several registers long:
then one does not wait for the tanh of another. Rows of sigmoid gates are halved, as there.

Packing: units stand in tiles of 2 (GRU, LSTM) or of 8, 4 and 1 (RNN), the last one smaller; a tile that begins with
unit i has its weights at i * gates * columns in order (column, unit, gate), its bias at i * gates in order
(unit, gate). `state` and `cell` are (H, lanes) flat and hold h and c before and after. Lane l reads row
reads[l] + t * stride of x, (rows, K) flat, and writes row writes[l] + t * stride of out, (rows, width) flat, from
`column` on, c behind h where `cells`; nothing is written where `width` is 0. A lane may occur twice, to fill a
register. `shape` is the lanes and one register. span = K, H, steps, stride, width, column, cells.

Some steps at a time are kept in two scratch arrays: their inputs u in order (step, k, lane), and their states, with
the one before them, in order (step, unit, lane). Where rows run backwards (stride -1) so do both arrays: what lies
side by side in x and out does so there, and is moved as one long row.

What the floors below come to at 7.4e9 registers of multiply-adds and 3.3e8 of tanh a second, in ns a step and lane of
float32 with K = 4 and H = 1, 8, 32, 128, and what was measured beside other work: RNN 0.2, 2.3, 16, 166 and 1.4, 6, 27,
260; GRU 0.7, 6.9, 47, 498 and 1.9, 12, 65, 730; LSTM 1.1, 11, 69, 689 and 2.4, 16, 87, 950. Narrow cells spend the rest
on moving numbers and on waiting for a tanh, wide ones on writing out to memory, 32 sequences at once.
"""

# numba knows more of a tuple than its annotation says
# pyright: reportCallIssue=false, reportArgumentType=false

import numpy as np

from ._lane_vectors import copy_one, fetch, gather_tile, kernel, rows, scatter_tile, spread, spreads
from ._vectors import fill, fma, load, relu, squash, store, tanh

_BLOCK = 4096  # numbers of x and h that are kept at a time: with the weights they stay in the first-level cache
_LONGEST = 32  # steps of them
_FOUR, _EIGHT, _SIX, _THREE = (0,) * 4, (0,) * 8, (0,) * 6, (0,) * 3


@kernel
def _scratch(like, size):
    """`size` numbers that start on a cache line."""
    raw = np.empty(size + 64 // like.itemsize, like.dtype)
    skip = (-raw.ctypes.data) % 64 // like.itemsize
    return raw[skip : skip + size]


@kernel
def _copy(lanes, to, at, source, index, count):
    for i in range(0, count * len(lanes), len(lanes)):
        store(to, at + i, load(source, index + i, lanes))


@kernel
def _gather(shape, x, starts, at, n, u, to):
    """n numbers of every lane, x[starts[lane] + at] and the next ones, into (number, lane) from u[to] on.

    Floor: 1 / 4 of a cycle a number in tiles of 16, 1 / 2 in tiles of 4; one by one a cycle at least.
    """
    lanes, tile = shape
    L, j = len(lanes), 0
    while j + len(tile) <= n:
        for lane in range(0, L, len(tile)):
            gather_tile(u, to + j * L, L, x, starts, lane, at + j, tile)
        j += len(tile)
    while j + 4 <= n:
        for lane in range(0, L, 4):
            gather_tile(u, to + j * L, L, x, starts, lane, at + j, _FOUR)
        j += 4
    for k in range(j, n):
        for lane in range(L):
            copy_one(u, to + k * L + lane, x, starts[lane] + at + k)


@kernel
def _scatter(shape, h, first, n, out, starts, at):
    """The way back: (number, lane) from h[first] on to out[starts[lane] + at] and the next n."""
    lanes, tile = shape
    L, j = len(lanes), 0
    while j + len(tile) <= n:
        for lane in range(0, L, len(tile)):
            scatter_tile(h, first + j * L, L, out, starts, lane, at + j, tile)
        j += len(tile)
    while j + 4 <= n:
        for lane in range(0, L, 4):
            scatter_tile(h, first + j * L, L, out, starts, lane, at + j, _FOUR)
        j += 4
    for k in range(j, n):
        for lane in range(L):
            copy_one(out, starts[lane] + at + k, h, first + k * L + lane)


@kernel
def _read(shape, x, starts, t, count, stride, K, u):
    """The inputs of the steps t.. into u."""
    if stride * stride == 1:
        _gather(shape, x, starts, min(stride * t, stride * (t + count - 1)) * K, count * K, u, 0)
    else:
        for s in range(count):
            _gather(shape, x, starts, (t + s) * stride * K, K, u, s * K * len(shape[0]))


@kernel
def _write(shape, h, n, out, starts, t, count, stride, width):
    """The states of the steps t.. out of h, n numbers each."""
    step = n * len(shape[0])
    first = 0 if stride == -1 else step
    if stride * stride == 1 and width == n:
        _scatter(shape, h, first, count * n, out, starts, min(stride * t, stride * (t + count - 1)) * n)
    else:
        for s in range(count):
            row = t + (count - 1 - s if stride == -1 else s)
            _scatter(shape, h, first + s * step, n, out, starts, row * stride * width)


@kernel
def _near(out, width, n):
    """Whether `_ahead` pays: less than 16 bytes a step wait for nothing, and more than a line is followed by itself."""
    return width > 0 and 16 <= n * out.itemsize <= 64


@kernel
def _ahead(shape, out, write, t, stride, width, n):
    """Bring near what will be written of step t: there is time for that before its states are ready.

    Every sequence is a page of its own, and 32 of them are more than the machine follows by itself.
    """
    line = 64 // out.itemsize
    if t % max(1, line // n) == 0:
        for lane in range(len(shape[0])):
            for k in range(0, n, line):
                fetch(out, write[lane] + t * stride * width + k, (0,))


@kernel
def _steps(per_step, L):
    """Steps at a time."""
    return max(1, min(_LONGEST, _BLOCK // (per_step * L)))


@kernel
def _bend(rectify, a):
    return relu(a) if rectify else tanh(a)


@kernel
def _sigmoid(a):
    """Of twice the argument."""
    return fma(squash(a), fill(a, 0.5), fill(a, 0.5))


@kernel
def rnn(shape, rectify, x, W, U, bias, inner, state, cell, out, reads, writes, span):
    """h = tanh or relu (W x + b + U h).

    Floor a step of all lanes: (K + H) H fused multiply-adds and H tanh.
    """
    K, H, steps, stride, width, column, _ = span
    lanes, _ = shape
    L = len(lanes)
    S = _steps(K + H, L)
    u, h = _scratch(x, S * K * L), _scratch(x, (S + 1) * H * L)
    read, write, back, near = reads * K, writes * width + column, stride == -1, _near(out, width, H)
    for t in range(0, steps, S):
        count = min(S, steps - t)
        _read(shape, x, read, t, count, stride, K, u)
        new = count * H * L if back else 0
        _copy(lanes, h, new, state, 0, H)
        for s in range(count):
            if near:
                _ahead(shape, out, write, t + s, stride, width, H)
            old, v = new, (count - 1 - s if back else s) * K * L
            new = old - H * L if back else old + H * L
            i = 0
            while i + 8 <= H:
                z = rows(U, i * H, h, old, H, rows(W, i * K, u, v, K, spreads(bias, i, lanes, _EIGHT)))
                for p in range(8):
                    store(h, new + (i + p) * L, z[p])
                i += 8
            if i + 4 <= H:
                w = rows(U, i * H, h, old, H, rows(W, i * K, u, v, K, spreads(bias, i, lanes, _FOUR)))
                for p in range(4):
                    store(h, new + (i + p) * L, w[p])
                i += 4
            while i < H:
                (a,) = rows(U, i * H, h, old, H, rows(W, i * K, u, v, K, (spread(bias, i, lanes),)))
                store(h, new + i * L, a)
                i += 1
            for i in range(new, new + H * L, L):
                store(h, i, _bend(rectify, load(h, i, lanes)))
        if width:
            _write(shape, h, H, out, write, t, count, stride, width)
        _copy(lanes, state, 0, h, new, H)


@kernel
def _gru(r, z, m, n, h):
    """The new state from r, z before their sigmoids, U h + b_hh and W x + b of the third gate."""
    n = tanh(fma(_sigmoid(r), m, n))
    return fma(_sigmoid(z), h - n, n)


@kernel
def gru(shape, rectify, x, W, U, bias, inner, state, cell, out, reads, writes, span):
    """r, z = sigmoid(..); n = tanh(W x + b + r (U h + b_hh)); h = n + z (h - n), torch's gate order r, z, n.

    Floor a step of all lanes: 3 (K + H) H fused multiply-adds and 3 H tanh.
    """
    K, H, steps, stride, width, column, _ = span
    lanes, _ = shape
    L = len(lanes)
    S = _steps(K + H, L)
    u, h = _scratch(x, S * K * L), _scratch(x, (S + 1) * H * L)
    read, write, back, near = reads * K, writes * width + column, stride == -1, _near(out, width, H)
    for t in range(0, steps, S):
        count = min(S, steps - t)
        _read(shape, x, read, t, count, stride, K, u)
        new = count * H * L if back else 0
        _copy(lanes, h, new, state, 0, H)
        for s in range(count):
            if near:
                _ahead(shape, out, write, t + s, stride, width, H)
            old, v = new, (count - 1 - s if back else s) * K * L
            new = old - H * L if back else old + H * L
            i = 0
            while i + 2 <= H:
                r, z, n, p, q, m = rows(W, 3 * i * K, u, v, K, spreads(bias, 3 * i, lanes, _SIX))
                w = r, z, spread(inner, i, lanes), p, q, spread(inner, i + 1, lanes)
                r, z, f, p, q, g = rows(U, 3 * i * H, h, old, H, w)
                store(h, new + i * L, _gru(r, z, f, n, load(h, old + i * L, lanes)))
                store(h, new + (i + 1) * L, _gru(p, q, g, m, load(h, old + (i + 1) * L, lanes)))
                i += 2
            if i < H:
                r, z, n = rows(W, 3 * i * K, u, v, K, spreads(bias, 3 * i, lanes, _THREE))
                r, z, f = rows(U, 3 * i * H, h, old, H, (r, z, spread(inner, i, lanes)))
                store(h, new + i * L, _gru(r, z, f, n, load(h, old + i * L, lanes)))
        if width:
            _write(shape, h, H, out, write, t, count, stride, width)
        _copy(lanes, state, 0, h, new, H)


@kernel
def _lstm(i, f, g, o, h, at, c, before, after):
    """h and c of one unit from its gates before their sigmoids, stored at their places."""
    d = fma(_sigmoid(i), squash(g), _sigmoid(f) * before)
    store(c, after, d)
    store(h, at, _sigmoid(o) * tanh(d))


@kernel
def lstm(shape, rectify, x, W, U, bias, inner, state, cell, out, reads, writes, span):
    """i, f, o = sigmoid(..), g = tanh(..); c = f c + i g; h = o tanh(c); gate order as torch: i, f, g, o.

    Floor a step of all lanes: 4 (K + H) H fused multiply-adds and 5 H tanh.
    """
    K, H, steps, stride, width, column, cells = span
    lanes, _ = shape
    L = len(lanes)
    n = 2 * H if cells else H  # c of every step behind h, or of the last one in place
    S = _steps(K + n, L)
    u, h = _scratch(x, S * K * L), _scratch(x, (S + 1) * n * L)
    read, write, back, near = reads * K, writes * width + column, stride == -1, _near(out, width, n)
    for t in range(0, steps, S):
        count = min(S, steps - t)
        _read(shape, x, read, t, count, stride, K, u)
        new = count * n * L if back else 0
        _copy(lanes, h, new, state, 0, H)
        if cells:
            _copy(lanes, h, new + H * L, cell, 0, H)
        for s in range(count):
            if near:
                _ahead(shape, out, write, t + s, stride, width, n)
            old, v = new, (count - 1 - s if back else s) * K * L
            new = old - n * L if back else old + n * L
            c, before, after = (h, old + H * L, new + H * L) if cells else (cell, 0, 0)
            k = 0
            while k + 2 <= H:
                sums = rows(W, 4 * k * K, u, v, K, spreads(bias, 4 * k, lanes, _EIGHT))
                i, f, g, o, p, q, r, w = rows(U, 4 * k * H, h, old, H, sums)
                a, b = load(c, before + k * L, lanes), load(c, before + (k + 1) * L, lanes)
                _lstm(i, f, g, o, h, new + k * L, c, a, after + k * L)
                _lstm(p, q, r, w, h, new + (k + 1) * L, c, b, after + (k + 1) * L)
                k += 2
            if k < H:
                sums = rows(W, 4 * k * K, u, v, K, spreads(bias, 4 * k, lanes, _FOUR))
                i, f, g, o = rows(U, 4 * k * H, h, old, H, sums)
                _lstm(i, f, g, o, h, new + k * L, c, load(c, before + k * L, lanes), after + k * L)
        if width:
            _write(shape, h, n, out, write, t, count, stride, width)
        _copy(lanes, state, 0, h, new, H)
        if cells:
            _copy(lanes, cell, 0, h, new + H * L, H)
