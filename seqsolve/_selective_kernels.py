"""The selective scan S_t = exp(dt_t A) * S_{t-1} + k_t (dt_t v_t)^T, o_t = q_t^T S_t and its gradient, compiled.

No (T, N, d) array is written: the state stays in cache, and the gradient takes it up again from one state a chunk.
Arguments are checked by the callers. Arrays are contiguous: q, k (R, T, N); v, dt, y (R, T, d); A (H, N, d); states
(R, N, d); one call does row `row` and the channels low..high-1.
"""

# numba knows more of a number than its annotation says
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false

import numpy as np

from ._jit import kernel


@kernel(fastmath={"contract"})
def _decays32(step, rate, out):
    """out[n, c] = exp(step[c] * rate[n, c]) in float32, 2 units in the last place, infinite from 88 on.

    exp z = 2^i e^f with z = i ln 2 + f, ln 2 in two parts, and e^f by the polynomial of Cephes' expf (Moshier 1992).
    Without reassociation, which would cancel the rounding to i.
    """
    N, w = rate.shape
    for n in range(N):
        for c in range(w):
            z = step[c] * rate[n, c]
            x = min(max(z, np.float32(-87.0)), np.float32(88.0))
            r = x * np.float32(1.4426950408889634) + np.float32(12582912.0)
            i = np.float32(r).view(np.int32)
            r -= np.float32(12582912.0)
            f = x - r * np.float32(0.693359375)
            f = f + r * np.float32(2.12194440e-4)
            p = np.float32(1.9875691500e-4) * f + np.float32(1.3981999507e-3)
            p = p * f + np.float32(8.3334519073e-3)
            p = p * f + np.float32(4.1665795894e-2)
            p = p * f + np.float32(1.6666665459e-1)
            p = p * f + np.float32(5.0000001201e-1)
            p = p * f * f + f + np.float32(1.0)
            a = np.int32(np.float32(p).view(np.int32) + np.int32(i << np.int32(23))).view(np.float32)
            a = np.float32(0.0) if z < np.float32(-87.0) else a
            out[n, c] = np.float32(np.inf) if z > np.float32(88.0) else a


@kernel(fastmath={"contract"})
def _decays64(step, rate, out):
    """The same in float64, infinite from 709 on; e^f by Taylor to f^13: what is left out is below 4.2e-18."""
    N, w = rate.shape
    for n in range(N):
        for c in range(w):
            z = step[c] * rate[n, c]
            x = min(max(z, -708.0), 709.0)
            r = x * 1.4426950408889634 + 6755399441055744.0
            i = np.float64(r).view(np.int64)
            r -= 6755399441055744.0
            f = x - r * 6.93147180369123816490e-01
            f = f - r * 1.90821492927058770002e-10
            p = 1.6059043836821613e-10 * f + 2.08767569878681e-09
            p = p * f + 2.505210838544172e-08
            p = p * f + 2.7557319223985893e-07
            p = p * f + 2.7557319223985893e-06
            p = p * f + 2.48015873015873e-05
            p = p * f + 1.984126984126984e-04
            p = p * f + 1.388888888888889e-03
            p = p * f + 8.333333333333333e-03
            p = p * f + 4.1666666666666664e-02
            p = p * f + 1.6666666666666666e-01
            p = p * f + 0.5
            p = p * f * f + f + 1.0
            a = np.int64(np.float64(p).view(np.int64) + np.int64(i << np.int64(52))).view(np.float64)
            a = 0.0 if z < -708.0 else a
            out[n, c] = np.inf if z > 709.0 else a


@kernel
def _decays(step, rate, out):
    if out.itemsize == 4:
        _decays32(step, rate, out)
    else:
        _decays64(step, rate, out)


@kernel(fastmath={"contract"})
def selective_scan(q, k, v, dt, A, S, y, starts, every, row, low, high):
    """Outputs y and the last state, in place of S; the state before every `every`-th step goes to starts (R, C, N, d).

    Floor: 18 operations a state entry and step, 13 of them the exponential; 2 reads and a write of d and 2 reads of N
    numbers a step, which is next to nothing.
    """
    T, N = q.shape[1], q.shape[2]
    w = high - low
    rate, h = A[row % A.shape[0], :, low:high].copy(), S[row, :, low:high].copy()
    a, step, u, out = np.empty_like(h), np.empty(w, h.dtype), np.empty(w, h.dtype), np.empty(w, h.dtype)
    for t in range(T):
        if starts.size and t % every == 0:
            starts[row, t // every, :, low:high] = h
        for c in range(w):
            step[c] = dt[row, t, low + c]
            u[c] = step[c] * v[row, t, low + c]
            out[c] = 0
        _decays(step, rate, a)
        for n in range(N):
            kn, qn = k[row, t, n], q[row, t, n]
            for c in range(w):
                s = a[n, c] * h[n, c] + kn * u[c]
                h[n, c] = s
                out[c] += qn * s
        for c in range(w):
            y[row, t, low + c] = out[c]
    S[row, :, low:high] = h


@kernel(fastmath={"contract"})
def _advance(a, before, k, u, after):
    for n in range(before.shape[0]):
        for c in range(before.shape[1]):
            after[n, c] = a[n, c] * before[n, c] + k[n] * u[c]


@kernel(fastmath={"reassoc", "contract", "nsz"})
def _turn(a, before, after, g, rate, by_rate, channels, q, k, dq, dk, row, tile, t):
    """One step of the gradient, all states of it; g is the gradient by the state after it, then by the one before."""
    step, u, out, by_u, by_step = channels
    N, w = g.shape
    for n in range(N):
        kn, qn = k[row, t, n], q[row, t, n]
        by_q, by_k = g.dtype.type(0), g.dtype.type(0)
        for c in range(w):
            here = g[n, c] + qn * out[c]
            by_q += after[n, c] * out[c]
            by_k += here * u[c]
            by_u[c] += here * kn
            back = here * a[n, c]
            g[n, c] = back
            by_exponent = back * before[n, c]
            by_rate[n, c] += by_exponent * step[c]
            by_step[c] += by_exponent * rate[n, c]
        dq[row, tile, t, n] = by_q
        dk[row, tile, t, n] = by_k


@kernel
def selective_gradient(q, k, v, dt, A, starts, every, dy, by_S, dq, dk, dv, ddt, by_A, row, tile, low, high):
    """Gradients by q, k (a part for each tile of channels, (R, tiles, T, N)), v, dt, A (one a row) and, in by_S, by S.

    With g_t the gradient by S_t: g_t = q_t dy_t^T + a_{t+1} g_{t+1}; dk_t = g_t u_t, du_t = g_t^T k_t for u = dt v;
    the exponent dt_t A has g_t a_t S_{t-1}. States and decays of a chunk are made again from its start.
    Floor: 16 operations a state entry and step beside those of the forward pass.
    """
    T, N = q.shape[1], q.shape[2]
    w = high - low
    rate, g = A[row % A.shape[0], :, low:high].copy(), by_S[row, :, low:high].copy()
    a, s = np.empty((every, N, w), g.dtype), np.empty((every + 1, N, w), g.dtype)
    by_rate = np.zeros_like(g)
    steps, u = np.empty((every, w), g.dtype), np.empty((every, w), g.dtype)
    out, by_u, by_step = np.empty(w, g.dtype), np.empty(w, g.dtype), np.empty(w, g.dtype)
    for chunk in range((T - 1) // every, -1, -1):
        first = chunk * every
        count = min(every, T - first)
        s[0] = starts[row, chunk, :, low:high]
        for i in range(count):
            t = first + i
            for c in range(w):
                steps[i, c] = dt[row, t, low + c]
                u[i, c] = steps[i, c] * v[row, t, low + c]
            _decays(steps[i], rate, a[i])
            _advance(a[i], s[i], k[row, t], u[i], s[i + 1])
        for i in range(count - 1, -1, -1):
            t = first + i
            for c in range(w):
                out[c] = dy[row, t, low + c]
                by_u[c] = 0
                by_step[c] = 0
            _turn(
                a[i], s[i], s[i + 1], g, rate, by_rate, (steps[i], u[i], out, by_u, by_step), q, k, dq, dk, row, tile, t
            )
            for c in range(w):
                dv[row, t, low + c] = by_u[c] * steps[i, c]
                ddt[row, t, low + c] = by_step[c] + by_u[c] * v[row, t, low + c]
    by_A[row, :, low:high] = by_rate
    by_S[row, :, low:high] = g
