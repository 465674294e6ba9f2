"""The gated averages S_t = a_t S_{t-1} + z_t v_t, a_t + z_t = 1, and their gradient, compiled from the gates' logits.

No gate is written to memory. Gates are made from e = exp(-|k|) as 1 / (1 + e) and e / (1 + e), each accurate to its
last digits however small it is: gates of tanh are off by 3e-8 in float32, 3 per cent of a z_t of 1e-6.
Arguments are checked by the callers. Arrays are contiguous: k, f, v, y (R, T, d), flat; states (R, d); f is empty
for the minimal GRU, whose a_t = sigmoid(-k), and for the minimal LSTM a_t = sigmoid(f) / (sigmoid(f) + sigmoid(k)).
One call does row `row` and the channels low..high-1, a block of steps at a time, whose gates stay in the fastest cache.
"""

# numba knows more of a tuple and of an intrinsic than their annotations say
# pyright: reportCallIssue=false, reportArgumentType=false, reportGeneralTypeIssues=false

import numpy as np
from numba import types
from numba.extending import overload

from ._vectors import Vec, below, clamp, fill, fma, kernel, load, power_of_two, store

_LANES, _ONE = (0,) * 8, (0,)
_BLOCK = 1024  # numbers of one kind: with four kinds of float64 what the fastest cache holds


def exp(x):
    """exp of a Vec of numbers <= 0 within 2 units in the last place; 0 below -87 (float64: -708), NaN stays NaN."""
    raise NotImplementedError("compiled code only")


@overload(exp)
def _exp(x):
    if not isinstance(x, Vec):
        return None
    return _exp_f32 if x.dtype == types.float32 else _exp_f64


def _exp_f32(x):
    # 2^n e^f with x = n ln 2 + f, ln 2 in two parts; e^f by the polynomial of Cephes' expf (Moshier 1992)
    z = clamp(x, 87.0)
    n = fma(z, fill(x, 1.4426950408889634), fill(x, 12582912.0)) - 12582912.0
    f = fma(n, fill(x, -0.693359375), z)
    f = fma(n, fill(x, 2.12194440e-4), f)
    p = fma(f, fill(x, 1.9875691500e-4), fill(x, 1.3981999507e-3))
    p = fma(f, p, fill(x, 8.3334519073e-3))
    p = fma(f, p, fill(x, 4.1665795894e-2))
    p = fma(f, p, fill(x, 1.6666665459e-1))
    p = fma(f, p, fill(x, 5.0000001201e-1))
    p = fma(f * f, p, f) + 1.0
    return below(x, -87.0, 0.0, p * power_of_two(n))


def _exp_f64(x):
    # the same with Taylor to f^13: what is left out is below 0.3466^14 / 14! = 4.2e-18
    z = clamp(x, 708.0)
    n = fma(z, fill(x, 1.4426950408889634), fill(x, 6755399441055744.0)) - 6755399441055744.0
    f = fma(n, fill(x, -6.93147180369123816490e-01), z)
    f = fma(n, fill(x, -1.90821492927058770002e-10), f)
    p = fma(f, fill(x, 1.6059043836821613e-10), fill(x, 2.08767569878681e-09))
    p = fma(f, p, fill(x, 2.505210838544172e-08))
    p = fma(f, p, fill(x, 2.755731922398589e-07))
    p = fma(f, p, fill(x, 2.7557319223985893e-06))
    p = fma(f, p, fill(x, 2.48015873015873e-05))
    p = fma(f, p, fill(x, 1.984126984126984e-04))
    p = fma(f, p, fill(x, 1.388888888888889e-03))
    p = fma(f, p, fill(x, 8.333333333333333e-03))
    p = fma(f, p, fill(x, 4.1666666666666664e-02))
    p = fma(f, p, fill(x, 1.6666666666666666e-01))
    p = fma(f, p, fill(x, 0.5))
    p = fma(f * f, p, f) + 1.0
    return below(x, -708.0, 0.0, p * power_of_two(n))


@kernel
def _sides(x):
    """(e, upper, lower): exp(-|x|), and the numerators of sigmoid(x) and sigmoid(-x) over 1 + e."""
    e = exp(below(x, 0.0, x, 0.0 - x))
    return e, below(x, 0.0, e, 1.0), below(x, 0.0, 1.0, e)


@kernel
def _pair(k, f):
    """(sigmoid(f), sigmoid(k)) over their sum, and sigmoid(-f), sigmoid(-k).

    Where both are tiny the larger one's exponential is taken out of both: only that of the difference is left.
    """
    ek, _, shut_k = _sides(k)
    ef, _, shut_f = _sides(f)
    gap = below(f, 0.0, f, 0.0) - below(k, 0.0, k, 0.0)
    _, kept, taken = _sides(gap)
    kept, taken = kept * (1.0 + ek), taken * (1.0 + ef)
    part = 1.0 / (kept + taken)
    return kept * part, taken * part, shut_f / (1.0 + ef), shut_k / (1.0 + ek)


@kernel
def _average(lanes, k, f, v, at, a, u, to):
    """a = a_t and u = z_t v_t of one register."""
    if f.size:
        keep, take, _, _ = _pair(load(k, at, lanes), load(f, at, lanes))
    else:
        e, upper, lower = _sides(load(k, at, lanes))
        part = 1.0 / (1.0 + e)
        keep, take = lower * part, upper * part
    store(a, to, keep)
    store(u, to, take * load(v, at, lanes))


@kernel
def _averages(k, f, v, at, count, a, u, to):
    L = len(_LANES)
    whole = count - count % L
    for i in range(0, whole, L):
        _average(_LANES, k, f, v, at + i, a, u, to + i)
    for i in range(whole, count):
        _average(_ONE, k, f, v, at + i, a, u, to + i)


@kernel
def gated_scan(k, f, v, S, y, row, low, high):
    """States y (R, T, d) and the last of them, in place of S.

    Floor: 2 reads and a write of T d numbers; 21 operations and a division a number for the gates (three times that
    with f), 2 for the state. In float32 both take about as long.
    """
    T, d = k.size // max(1, S.size), S.shape[1]
    w, L = high - low, len(_LANES)
    whole = w - w % L
    block = max(1, _BLOCK // w)
    a, u = np.empty(block * w, y.dtype), np.empty(block * w, y.dtype)
    h = S[row, low:high].copy()
    for first in range(0, T, block):
        count = min(block, T - first)
        start = (row * T + first) * d + low
        if w == d:
            _averages(k, f, v, start, count * w, a, u, 0)
        else:
            for i in range(count):
                _averages(k, f, v, start + i * d, w, a, u, i * w)
        for i in range(count):
            at, to = i * w, start + i * d
            for c in range(0, whole, L):
                x = fma(load(a, at + c, _LANES), load(h, c, _LANES), load(u, at + c, _LANES))
                store(h, c, x)
                store(y, to + c, x)
            for c in range(whole, w):
                x = fma(load(a, at + c, _ONE), load(h, c, _ONE), load(u, at + c, _ONE))
                store(h, c, x)
                store(y, to + c, x)
    S[row, low:high] = h


@kernel
def _slope(lanes, k, f, at, slopes, to):
    """The gates and the slopes of z_t by k and by f (the latter with the sign turned) of one register."""
    if f.size:
        keep, take, shut_f, shut_k = _pair(load(k, at, lanes), load(f, at, lanes))
        both = keep * take
        store(slopes[2], to, both * shut_k)
        store(slopes[3], to, both * shut_f)
    else:
        e, upper, lower = _sides(load(k, at, lanes))
        part = 1.0 / (1.0 + e)
        keep, take = lower * part, upper * part
        store(slopes[2], to, keep * take)
    store(slopes[0], to, keep)
    store(slopes[1], to, take)


@kernel
def _slopes(k, f, at, count, slopes, to):
    L = len(_LANES)
    whole = count - count % L
    for i in range(0, whole, L):
        _slope(_LANES, k, f, at + i, slopes, to + i)
    for i in range(whole, count):
        _slope(_ONE, k, f, at + i, slopes, to + i)


@kernel
def _product(lanes, v, before, at_before, slopes, g, i, dk, df, dv, at):
    here = load(g, i, lanes)
    by_z = here * (load(v, at, lanes) - load(before, at_before, lanes))
    store(dv, at, here * load(slopes[1], i, lanes))
    store(dk, at, by_z * load(slopes[2], i, lanes))
    if df.size:
        store(df, at, 0.0 - by_z * load(slopes[3], i, lanes))


@kernel
def _products(v, before, at_before, slopes, g, to, count, dk, df, dv, at):
    L = len(_LANES)
    whole = count - count % L
    for i in range(0, whole, L):
        _product(_LANES, v, before, at_before + i, slopes, g, to + i, dk, df, dv, at + i)
    for i in range(whole, count):
        _product(_ONE, v, before, at_before + i, slopes, g, to + i, dk, df, dv, at + i)


@kernel
def gated_gradient(k, f, v, S, y, dy, dk, df, dv, by_S, row, low, high):
    """Gradients by k, f, v and, in place of that by the last state in by_S, by the first one S.

    With g_t the gradient by S_t: g_t = dy_t + a_{t+1} g_{t+1}; dv_t = g_t z_t; z_t has g_t (v_t - S_{t-1}), with slopes
    a_t z_t by k of the minimal GRU, a_t z_t sigmoid(-k) by k and -a_t z_t sigmoid(-f) by f of the minimal LSTM.
    Floor: 4 reads and 2 writes of T d numbers, one more of each with f; the gates again and 7 operations a number.
    """
    T, d = k.size // max(1, S.size), S.shape[1]
    w, L = high - low, len(_LANES)
    whole = w - w % L
    block = max(1, _BLOCK // w)
    start_state = S.ravel()
    none = np.empty(block * w if f.size else 0, y.dtype)
    slopes = (np.empty(block * w, y.dtype), np.empty(block * w, y.dtype), np.empty(block * w, y.dtype), none)
    a, g = slopes[0], np.empty(block * w, y.dtype)
    back = by_S[row, low:high].copy()
    for chunk in range((T - 1) // block, -1, -1):
        first = chunk * block
        count = min(block, T - first)
        start = (row * T + first) * d + low
        if w == d:
            _slopes(k, f, start, count * w, slopes, 0)
        else:
            for i in range(count):
                _slopes(k, f, start + i * d, w, slopes, i * w)
        for i in range(count - 1, -1, -1):
            at, to = start + i * d, i * w
            for c in range(0, whole, L):
                here = load(dy, at + c, _LANES) + load(back, c, _LANES)
                store(g, to + c, here)
                store(back, c, here * load(a, to + c, _LANES))
            for c in range(whole, w):
                here = load(dy, at + c, _ONE) + load(back, c, _ONE)
                store(g, to + c, here)
                store(back, c, here * load(a, to + c, _ONE))
        i = 0
        if first == 0:
            _products(v, start_state, row * d + low, slopes, g, 0, w, dk, df, dv, start)
            i = 1
        if w == d:
            at = start + i * d
            _products(v, y, at - d, slopes, g, i * w, (count - i) * w, dk, df, dv, at)
        else:
            for j in range(i, count):
                at = start + j * d
                _products(v, y, at - d, slopes, g, j * w, w, dk, df, dv, at)
    by_S[row, low:high] = back
