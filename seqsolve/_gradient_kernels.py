"""The chain rule of the known cells from the last step to the first, compiled by numba.

One product with U^T a step: J_t^T is never formed. Step t of sequence b is row start[t] + b of every array, all of them
flat; start[t + 1] - start[t] sequences are still running at step t. Rows are padded with zeros to P numbers for the
units and Q for the state h (Q = P but for a projected LSTM), multiples of the lanes. `kept` holds what is known of a
step, see the kernels of the forward pass; its row of index `base` comes first. `g` holds the derivatives by the output,
`width` numbers a row, from `column` on and from row `from_g` on. `U` is packed (tile, row of U, lane). `carry` holds,
for every sequence, the derivative by the state before the earliest step so far; before the first call, that by the
last state. `delta` receives the derivatives by what enters the gates, from row start[first] on, from which the
gradients of weights and inputs are one product each over all steps. What a step costs beyond the product is its
latency: the deltas wait for the carry, and the carry for the deltas.

span = first, last, backwards, low, high, P, Q, base, from_g, width, column: the steps first..last, taken from the last
one on (from the first one on where the layer itself runs `backwards`), for the sequences low..high.
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
def _pull_four(lanes, U, delta, at, row, K, carry, to, stride, P):
    """`_pull` of four sequences, which share each load of U, two tiles at a time; the last of an odd number alone."""
    L = len(lanes)
    i = 0
    while i + 2 * L <= P:
        u, v = i * K, (i + L) * K
        a, p = load(carry, to + i, lanes), load(carry, to + i + L, lanes)
        b, q = load(carry, to + stride + i, lanes), load(carry, to + stride + i + L, lanes)
        c, r = load(carry, to + 2 * stride + i, lanes), load(carry, to + 2 * stride + i + L, lanes)
        d, s = load(carry, to + 3 * stride + i, lanes), load(carry, to + 3 * stride + i + L, lanes)
        for k in range(at, at + K):
            x, y = load(U, u, lanes), load(U, v, lanes)
            e, f, g, h = delta[k], delta[k + row], delta[k + 2 * row], delta[k + 3 * row]
            a, b, c, d = fma(e, x, a), fma(f, x, b), fma(g, x, c), fma(h, x, d)
            p, q, r, s = fma(e, y, p), fma(f, y, q), fma(g, y, r), fma(h, y, s)
            u += L
            v += L
        for j, z in enumerate((a, b, c, d)):
            store(carry, to + j * stride + i, z)
        for j, z in enumerate((p, q, r, s)):
            store(carry, to + j * stride + i + L, z)
        i += 2 * L
    if i < P:
        u = i * K
        a, b = load(carry, to + i, lanes), load(carry, to + stride + i, lanes)
        c, d = load(carry, to + 2 * stride + i, lanes), load(carry, to + 3 * stride + i, lanes)
        p, q, r, s = fill(a, 0.0), fill(a, 0.0), fill(a, 0.0), fill(a, 0.0)
        for k in range(at, at + K, 2):
            x, y = load(U, u, lanes), load(U, u + L, lanes)
            a, p = fma(delta[k], x, a), fma(delta[k + 1], y, p)
            b, q = fma(delta[k + row], x, b), fma(delta[k + row + 1], y, q)
            c, r = fma(delta[k + 2 * row], x, c), fma(delta[k + 2 * row + 1], y, r)
            d, s = fma(delta[k + 3 * row], x, d), fma(delta[k + 3 * row + 1], y, s)
            u += 2 * L
        for j, z in enumerate((a + p, b + q, c + r, d + s)):
            store(carry, to + j * stride + i, z)


@kernel
def _pull_all(lanes, U, delta, at, row, K, carry, to, stride, P, count):
    """`_pull` of `count` sequences, whose deltas are `row` and whose carries are `stride` numbers apart."""
    b = 0
    while b + 4 <= count:
        _pull_four(lanes, U, delta, at + b * row, row, K, carry, to + b * stride, stride, P)
        b += 4
    while b < count:
        _pull(lanes, U, delta, at + b * row, K, carry, to + b * stride, P)
        b += 1


@kernel
def rnn_pull(lanes, U, V, kept, g, carry, full, delta, start, span):
    """delta_t = slope_t (g_t + carry), carry = U^T delta_t.

    A row of `kept` is (slope, before). Floor a step: P^2 multiply-adds with U from cache, and 4 P numbers moved.
    """
    first, last, backwards, low, high, P, _, base, from_g, width, column = span
    for k in range(last - first):
        t = first + k if backwards else last - 1 - k
        stop = min(high, start[t + 1] - start[t])
        for b in range(low, stop):
            row, by = start[t] + b, (start[t] + b - from_g) * width + column
            at, known, to = (row - start[first]) * P, (row - base) * 2 * P, b * P
            for i in range(0, P, len(lanes)):
                total = load(g, by + i, lanes) + load(carry, to + i, lanes)
                store(delta, at + i, total * load(kept, known + i, lanes))
                store(carry, to + i, fill(total, 0.0))
        at = (start[t] + low - start[first]) * P
        _pull_all(lanes, U, delta, at, P, P, carry, low * P, P, P, stop - low)


@kernel
def gru_pull(lanes, U, V, kept, g, carry, full, delta, start, span):
    """The GRU h = n + z (before - n), n = tanh(a_n + r inner): carry = z * total + U^T delta, total = g_t + carry.

    A row of `kept` is (r, z, n, inner, before), a row of `delta` (by a_n, by r, by z, by inner): its first three belong
    to W, its last three to U. Floor a step: 3 P^2 multiply-adds with U from cache, and 11 P numbers moved.
    """
    first, last, backwards, low, high, P, _, base, from_g, width, column = span
    for k in range(last - first):
        t = first + k if backwards else last - 1 - k
        stop = min(high, start[t + 1] - start[t])
        for b in range(low, stop):
            row, by = start[t] + b, (start[t] + b - from_g) * width + column
            for i in range(0, P, len(lanes)):
                at, known, to = (row - start[first]) * 4 * P + i, (row - base) * 5 * P + i, b * P + i
                total = load(g, by + i, lanes) + load(carry, to, lanes)
                r, z = load(kept, known, lanes), load(kept, known + P, lanes)
                x, d = load(kept, known + 2 * P, lanes), load(kept, known + 3 * P, lanes)
                by_n = total * ((1.0 - z) * (1.0 - x * x))
                by_inner = by_n * r
                store(delta, at, by_n)
                store(delta, at + P, by_inner * d * (1.0 - r))
                store(delta, at + 2 * P, total * ((load(kept, known + 4 * P, lanes) - x) * (z * (1.0 - z))))
                store(delta, at + 3 * P, by_inner)
                store(carry, to, total * z)
        at = (start[t] + low - start[first]) * 4 * P + P
        _pull_all(lanes, U, delta, at, 4 * P, 3 * P, carry, low * P, P, P, stop - low)


@kernel
def lstm_pull(lanes, U, V, kept, g, carry, full, delta, start, span):
    """The LSTM c = f before + i m, h = o s, s = tanh(c), and W_hr h where there is a projection (`V` packed as U).

    A row of `kept` is (i, f, o, m, s, c before, h before), of `carry` (h, c), of `delta` (by i, by f, by o, by m), and
    by W_hr h behind them. A `column` of -1: a row of `g` has 2 P numbers, those by h and by c. Floor a step: 4 P^2
    (+ P Q) multiply-adds with U from cache, and 12 P numbers moved.
    """
    first, last, backwards, low, high, P, Q, base, from_g, width, column = span
    projected, both = V.size > 0, column < 0
    column, wide, line = max(column, 0), 6 * P + Q, 4 * P + (Q if projected else 0)
    for k in range(last - first):
        t = first + k if backwards else last - 1 - k
        stop = min(high, start[t + 1] - start[t])
        if projected:
            for b in range(low, stop):
                by, to = (start[t] + b - from_g) * width + column, b * (P + Q)
                at = (start[t] + b - start[first]) * line + 4 * P
                for i in range(0, Q, len(lanes)):
                    store(delta, at + i, load(g, by + i, lanes) + load(carry, to + i, lanes))
            full[low * P : stop * P] = 0
            at = (start[t] + low - start[first]) * line + 4 * P
            _pull_all(lanes, V, delta, at, line, Q, full, low * P, P, P, stop - low)
        for b in range(low, stop):
            row, by = start[t] + b, (start[t] + b - from_g) * width + column
            for j in range(0, P, len(lanes)):
                at, known, to = (row - start[first]) * line + j, (row - base) * wide + j, b * (P + Q) + j
                i, f = load(kept, known, lanes), load(kept, known + P, lanes)
                o, e = load(kept, known + 2 * P, lanes), load(kept, known + 3 * P, lanes)
                y, before = load(kept, known + 4 * P, lanes), load(kept, known + 5 * P, lanes)
                by_c = load(carry, to + Q, lanes)
                if projected:
                    by_h = load(full, b * P + j, lanes)
                else:
                    by_h = load(g, by + j, lanes) + load(carry, to, lanes)
                if both:
                    by_c = by_c + load(g, by + P + j, lanes)
                by_c = by_c + by_h * (o * (1.0 - y * y))
                store(delta, at, by_c * (e * (i * (1.0 - i))))
                store(delta, at + P, by_c * (before * (f * (1.0 - f))))
                store(delta, at + 2 * P, by_h * (y * (o * (1.0 - o))))
                store(delta, at + 3 * P, by_c * (i * (1.0 - e * e)))
                store(carry, to + Q, by_c * f)
            for j in range(0, Q, len(lanes)):
                to = b * (P + Q) + j
                store(carry, to, fill(load(carry, to, lanes), 0.0))
        at = (start[t] + low - start[first]) * line
        _pull_all(lanes, U, delta, at, line, 4 * P, carry, low * (P + Q), P + Q, Q, stop - low)
