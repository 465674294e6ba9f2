"""The chain rule of the known cells from the last step to the first, compiled by numba.

One product with U^T a step: J_t^T is never formed. Rows are padded with zeros to P, a multiple of the lanes; step t of
sequence b is row t B + b of every array, all of them flat. `U` is packed (tile, row of U, lane). `carry` holds, for
every sequence, the derivative by the state before the earliest step so far. `delta` receives the derivatives by what
enters the gates, from which the gradients of weights and inputs are one product each over all steps. What a step costs
beyond the product is its latency: the deltas wait for the carry, and the carry for the deltas.
"""

# pyright: reportCallIssue=false, reportArgumentType=false

from ._vectors import fill, fma, kernel, load, store


@kernel
def _pull(lanes, U, delta, at, K, carry, to, P):
    """carry += U^T delta over the K rows of U, in four accumulators a tile; K is a multiple of four."""
    L = len(lanes)
    for i in range(0, P, L):
        u = i * K
        a = load(carry, to + i, lanes)
        b, c, d = fill(a, 0.0), fill(a, 0.0), fill(a, 0.0)
        for k in range(at, at + K, 4):
            a = fma(delta[k], load(U, u, lanes), a)
            b = fma(delta[k + 1], load(U, u + L, lanes), b)
            c = fma(delta[k + 2], load(U, u + 2 * L, lanes), c)
            d = fma(delta[k + 3], load(U, u + 3 * L, lanes), d)
            u += 4 * L
        store(carry, to + i, (a + b) + (c + d))


@kernel
def rnn_pull(lanes, U, slope, g, carry, delta, span):
    """delta_t = slope_t (g_t + carry), carry = U^T delta_t, for the sequences low..high of B.

    span = T, B, low, high, P. Floor a step: P^2 multiply-adds with U from cache, and 3 P numbers moved.
    """
    T, B, low, high, P = span
    for k in range(T):
        for b in range(low, high):
            row, to = ((T - 1 - k) * B + b) * P, b * P
            for i in range(0, P, len(lanes)):
                total = load(g, row + i, lanes) + load(carry, to + i, lanes)
                store(delta, row + i, total * load(slope, row + i, lanes))
                store(carry, to + i, fill(total, 0.0))
            _pull(lanes, U, delta, row, P, carry, to, P)


@kernel
def gru_pull(lanes, U, rz, n, inner, before, g, carry, delta, span):
    """The GRU h = n + z (before - n), n = tanh(a_n + r inner): carry = z * total + U^T delta, total = g_t + carry.

    A row of `delta` is (by a_n, by r, by z, by inner): the first three belong to W, the last three to U. Floor a step:
    3 P^2 multiply-adds with U from cache, and 10 P numbers moved.
    """
    T, B, low, high, P = span
    for k in range(T):
        for b in range(low, high):
            row, to = ((T - 1 - k) * B + b) * P, b * P
            for i in range(0, P, len(lanes)):
                total = load(g, row + i, lanes) + load(carry, to + i, lanes)
                r, z = load(rz, 2 * row + i, lanes), load(rz, 2 * row + P + i, lanes)
                x, d = load(n, row + i, lanes), load(inner, row + i, lanes)
                by_n = total * ((1.0 - z) * (1.0 - x * x))
                by_inner = by_n * r
                at = 4 * row + i
                store(delta, at, by_n)
                store(delta, at + P, by_inner * d * (1.0 - r))
                store(delta, at + 2 * P, total * ((load(before, row + i, lanes) - x) * (z * (1.0 - z))))
                store(delta, at + 3 * P, by_inner)
                store(carry, to + i, total * z)
            _pull(lanes, U, delta, 4 * row + P, 3 * P, carry, to, P)


@kernel
def lstm_pull(lanes, U, ifo, m, s, before, g, carry, delta, span):
    """The LSTM c = f c_before + i m, h = o s, s = tanh(c), on rows (h, c) of `before`, `g` and `carry`.

    A row of `delta` is (by i, by f, by o, by m). Floor a step: 4 P^2 multiply-adds with U from cache, and 12 P numbers
    moved.
    """
    T, B, low, high, P = span
    for k in range(T):
        for b in range(low, high):
            row, to = ((T - 1 - k) * B + b) * P, 2 * b * P
            for j in range(0, P, len(lanes)):
                i, f = load(ifo, 3 * row + j, lanes), load(ifo, 3 * row + P + j, lanes)
                o, e, y = load(ifo, 3 * row + 2 * P + j, lanes), load(m, row + j, lanes), load(s, row + j, lanes)
                by_h = load(g, 2 * row + j, lanes) + load(carry, to + j, lanes)
                by_c = load(g, 2 * row + P + j, lanes) + load(carry, to + P + j, lanes)
                by_c = by_c + by_h * (o * (1.0 - y * y))
                at = 4 * row + j
                store(delta, at, by_c * (e * (i * (1.0 - i))))
                store(delta, at + P, by_c * (load(before, 2 * row + P + j, lanes) * (f * (1.0 - f))))
                store(delta, at + 2 * P, by_h * (y * (o * (1.0 - o))))
                store(delta, at + 3 * P, by_c * (i * (1.0 - e * e)))
                store(carry, to + P + j, by_c * f)
                store(carry, to + j, fill(by_c, 0.0))
            _pull(lanes, U, delta, 4 * row, 4 * P, carry, to, P)
