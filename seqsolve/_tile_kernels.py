"""Fused recurrences of at most one register of units: the state never leaves it from step to step.

The arguments are those of the loops in `_kernels.py`, the columns of `U` padded with zeros up to the lanes. What is
left of a step is the latency of its chain: product, tanh, and for gates another tanh behind it.
"""

# pyright: reportCallIssue=false, reportArgumentType=false

from ._kernels import aligned
from ._vectors import fill, fma, keep, kernel, load, product, relu, squash, store, tanh


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
def rnn_tile(lanes, variant, gates, start, lengths, U, bias, state, cell, W_hr, out, span):
    """As `_kernels.rnn`. Floor a step: two or four multiply-adds and a tanh, one after another."""
    L = len(lanes)
    first, last, base, low, high, width, column, H = span
    backwards, rectify = variant
    work = aligned(state, L)
    for b in range(low, high):
        work[:] = state[b]
        h = load(work, 0, lanes)
        steps = min(last, lengths[b]) - first
        for k in range(steps):
            t = first + (steps - 1 - k if backwards else k)
            a = product(h, U, 0, L, load(gates, (start[t] - base + b) * L, lanes))
            h = keep(relu(a) if rectify else tanh(a), H)
            _emit(lanes, h, work, out, (start[t] + b) * width + column, H)
        store(work, 0, h)
        state[b] = work


@kernel
def gru_tile(lanes, variant, gates, start, lengths, U, bias, state, cell, W_hr, out, span):
    """As `_kernels.gru`. Floor a step: the product and two tanh, one after another."""
    L = len(lanes)
    first, last, base, low, high, width, column, H = span
    backwards, _ = variant
    work = aligned(state, L)
    for b in range(low, high):
        work[:] = state[b]
        h = load(work, 0, lanes)
        half, inner = fill(h, 0.5), load(bias, 0, lanes)
        steps = min(last, lengths[b]) - first
        for k in range(steps):
            t = first + (steps - 1 - k if backwards else k)
            g = (start[t] - base + b) * 3 * L
            r = product(h, U, 0, 3 * L, load(gates, g, lanes))
            n = product(h, U, 2 * L, 3 * L, inner)
            z = product(h, U, L, 3 * L, load(gates, g + L, lanes))
            r = fma(squash(r), half, half)
            n = tanh(fma(r, n, load(gates, g + 2 * L, lanes)))
            z = fma(squash(z), half, half)
            h = keep(fma(z, h - n, n), H)
            _emit(lanes, h, work, out, (start[t] + b) * width + column, H)
        store(work, 0, h)
        state[b] = work


@kernel
def lstm_tile(lanes, variant, gates, start, lengths, U, bias, state, cell, W_hr, out, span):
    """As `_kernels.lstm` without projection. Floor a step: the product and two tanh, one after another."""
    L = len(lanes)
    first, last, base, low, high, width, column, H = span
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
            g = (start[t] - base + b) * 4 * L
            i = product(h, U, 0, 4 * L, load(gates, g, lanes))
            m = product(h, U, 2 * L, 4 * L, load(gates, g + 2 * L, lanes))
            f = product(h, U, L, 4 * L, load(gates, g + L, lanes))
            o = product(h, U, 3 * L, 4 * L, load(gates, g + 3 * L, lanes))
            i, f = fma(squash(i), half, half), fma(squash(f), half, half)
            c = fma(i, squash(m), f * c)
            o = fma(squash(o), half, half)
            h = keep(o * tanh(c), H)
            _emit(lanes, h, work, out, (start[t] + b) * width + column, H)
        store(work, 0, h)
        state[b] = work
        store(work, 0, c)
        cell[b] = work
