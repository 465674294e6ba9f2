"""Fused recurrences of at most one register of units: the state never leaves it from step to step.

The arguments are those of the loops in `_kernels.py`, but for three. `lanes` is a pair, the register and the diagonals
of U: the least power of two that holds the units. `U` is packed (diagonal, gate, lane), see `pack_diagonals`. Where the
last number of `span`, the inputs K, is not zero, `gates` is the input itself, (rows, K) flat, with the step `base`
zero, and its product with `W`, packed (column, gate, lane), is done here: it waits for nothing, and fits into the time
in which the arithmetic units wait for the state. What is left of a step is the latency of its chain: product, tanh,
and for gates another tanh behind it. So every operation between them is written to be as short as possible from where
the state enters it, even where that costs others that do not wait: a gate 1/2 + t/2 times m is m/2 + t m/2.
"""

# pyright: reportCallIssue=false, reportArgumentType=false, reportGeneralTypeIssues=false

from ._kernels import aligned
from ._vectors import (
    below,
    drive,
    fill,
    fma,
    high_half,
    keep,
    kernel,
    load,
    low_half,
    product,
    prompt_tanh,
    relu,
    store,
    tanh,
    tanh_times,
    twice,
)  # fmt: skip


@kernel
def pack_diagonals(lanes, rows, halves, packed):
    """packed[k, g, i] = U_g[i, i XOR k], halved where `halves`; zero beyond the units."""
    L, count = len(lanes[0]), len(lanes[1])
    gates, H = len(halves), rows.shape[1]
    for k in range(count):
        for g in range(gates):
            factor = rows.dtype.type(0.5 if halves[g] else 1.0)
            for i in range(H):
                if i ^ k < H:
                    packed[(k * gates + g) * L + i] = factor * rows[g * H + i, i ^ k]


@kernel
def _emit(lanes, h, work, out, o, H):
    """The state into the output, without its padding."""
    if len(lanes) == H:
        store(out, o, h)
    else:
        store(work, 0, h)
        for k in range(H):
            out[o + k] = work[k]


@kernel
def rnn_tile(lanes, variant, gates, start, lengths, W, bias, U, inner, state, cell, W_hr, out, kept, span):
    """As `_kernels.rnn`. Floor a step: two or four multiply-adds and a tanh, one after another."""
    lanes, diagonals = lanes
    L = len(lanes)
    first, last, base, low, high, width, column, H, K = span
    backwards, rectify = variant
    work = aligned(state, L)
    for b in range(low, high):
        work[:] = state[b]
        h = load(work, 0, lanes)
        steps = min(last, lengths[b]) - first
        for k in range(steps):
            t = first + (steps - 1 - k if backwards else k)
            a = drive(lanes, gates, start[t] - base + b, 0, L, W, bias, K)
            a = product(h, U, 0, L, diagonals, a)
            before = h
            h = relu(a) if rectify else prompt_tanh(a)
            if kept is not None:
                row = (start[t] + b) * 2 * L
                store(kept, row, below(0.0 - h, 0.0, 1.0, 0.0) if rectify else 1.0 - h * h)
                store(kept, row + L, before)
            if len(diagonals) > 2:
                h = keep(h, H)
            _emit(lanes, h, work, out, (start[t] + b) * width + column, H)
        store(work, 0, h)
        state[b] = work


@kernel
def gru_tile(lanes, variant, gates, start, lengths, W, bias, U, inner, state, cell, W_hr, out, kept, span):
    """As `_kernels.gru`. Floor a step: the product and two tanh, one after another."""
    lanes, diagonals = lanes
    L = len(lanes)
    first, last, base, low, high, width, column, H, K = span
    backwards, _ = variant
    work = aligned(state, L)
    for b in range(low, high):
        work[:] = state[b]
        h = load(work, 0, lanes)
        half, hidden = fill(h, 0.5), load(inner, 0, lanes)
        steps = min(last, lengths[b]) - first
        for k in range(steps):
            t = first + (steps - 1 - k if backwards else k)
            g = start[t] - base + b
            r = product(h, U, 0, 3 * L, diagonals, drive(lanes, gates, g, 0, 3 * L, W, bias, K))
            n = product(h, U, 2 * L, 3 * L, diagonals, hidden)
            z = product(h, U, L, 3 * L, diagonals, drive(lanes, gates, g, L, 3 * L, W, bias, K))
            r, d = fma(prompt_tanh(r), half, half), n
            n = fma(r, n, drive(lanes, gates, g, 2 * L, 3 * L, W, bias, K))
            z = half * prompt_tanh(z)
            if kept is not None:
                row = (start[t] + b) * 5 * L
                for j, part in enumerate((r, half + z, tanh(n), d, h)):
                    store(kept, row + j * L, part)
            h = tanh_times(half - z, n) + fma(z, h, half * h)
            if len(diagonals) > 2:
                h = keep(h, H)
            _emit(lanes, h, work, out, (start[t] + b) * width + column, H)
        store(work, 0, h)
        state[b] = work


@kernel
def lstm_tile(lanes, variant, gates, start, lengths, W, bias, U, inner, state, cell, W_hr, out, kept, span):
    """As `_kernels.lstm` without projection; i beside f, and g beside o, in registers of twice the lanes.

    Floor a step: the product and two tanh, one after another.
    """
    lanes, diagonals = lanes
    pair = lanes + lanes
    L = len(lanes)
    first, last, base, low, high, width, column, H, K = span
    backwards, _ = variant
    work = aligned(state, L)
    for b in range(low, high):
        work[:] = cell[b]
        c = load(work, 0, lanes)
        work[:] = state[b]
        h = load(work, 0, lanes)
        half = fill(h, 0.5)
        steps = min(last, lengths[b]) - first
        for k in range(steps):
            t = first + (steps - 1 - k if backwards else k)
            row = start[t] - base + b
            both = twice(h)
            go = product(both, U, 2 * L, 4 * L, diagonals, drive(pair, gates, row, 2 * L, 4 * L, W, bias, K))
            si = product(both, U, 0, 4 * L, diagonals, drive(pair, gates, row, 0, 4 * L, W, bias, K))
            go, si = prompt_tanh(go), prompt_tanh(si)
            g, o = half * low_half(go), fma(high_half(go), half, half)
            d, old_c, old_h = half * c, c, h
            # each product on its own: a huge c must not leave its rounding behind in a closed gate
            c = fma(high_half(si), d, d) + fma(low_half(si), g, g)
            h = tanh_times(o, c)
            if kept is not None:
                at = (start[t] + b) * 7 * L
                i, f = fma(low_half(si), half, half), fma(high_half(si), half, half)
                for j, part in enumerate((i, f, o, g + g, tanh(c), old_c, old_h)):
                    store(kept, at + j * L, part)
            if len(diagonals) > 2:
                h = keep(h, H)
            _emit(lanes, h, work, out, (start[t] + b) * width + column, H)
        store(work, 0, h)
        state[b] = work
        store(work, 0, c)
        cell[b] = work
