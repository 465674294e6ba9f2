"""Fused loops of the cells in `published_cells.py`, compiled by numba.

Each `*_step` follows the protocol of `seqsolve.protocol.Cell`: (state, drive, params, new state), all flat, the drive
being its own to overwrite. The loop around each is written out, so that numba can keep it on disk.
"""

# pyright: reportCallIssue=false, reportArgumentType=false

import numpy as np

from ._vectors import fill, fma, kernel, load, squash, store, tanh

_WIDE, _ONE = (0,) * 8, (0,)


@kernel
def add_product(x, U, a, low, high):
    """a[low:high] += x @ U for U (x.size, high - low), flat. Floor: x.size * (high - low) multiply-adds."""
    L, n, R = len(_WIDE), x.size, high - low
    i = 0
    while i + 4 * L <= R:  # four registers hide the latency of a multiply-add
        at = low + i
        p, q, r, s = load(a, at, _WIDE), load(a, at + L, _WIDE), load(a, at + 2 * L, _WIDE), load(a, at + 3 * L, _WIDE)
        for j in range(n):
            u = j * R + i
            p = fma(x[j], load(U, u, _WIDE), p)
            q = fma(x[j], load(U, u + L, _WIDE), q)
            r = fma(x[j], load(U, u + 2 * L, _WIDE), r)
            s = fma(x[j], load(U, u + 3 * L, _WIDE), s)
        store(a, at, p)
        store(a, at + L, q)
        store(a, at + 2 * L, r)
        store(a, at + 3 * L, s)
        i += 4 * L
    while i + L <= R:
        p = load(a, low + i, _WIDE)
        q = fill(p, 0.0)
        j = 0
        while j + 2 <= n:
            p = fma(x[j], load(U, j * R + i, _WIDE), p)
            q = fma(x[j + 1], load(U, (j + 1) * R + i, _WIDE), q)
            j += 2
        if j < n:
            p = fma(x[j], load(U, j * R + i, _WIDE), p)
        store(a, low + i, p + q)
        i += L
    while i < R:
        p = load(a, low + i, _ONE)
        for j in range(n):
            p = fma(x[j], load(U, j * R + i, _ONE), p)
        store(a, low + i, p)
        i += 1


@kernel
def apply_tanh(a, low, high):
    """tanh of a[low:high] in place."""
    L = len(_WIDE)
    i = low
    while i + L <= high:
        store(a, i, tanh(load(a, i, _WIDE)))
        i += L
    while i < high:
        store(a, i, tanh(load(a, i, _ONE)))
        i += 1


@kernel
def apply_sigmoid(a, low, high):
    """1/2 + tanh(a / 2) / 2 of a[low:high] in place."""
    L = len(_WIDE)
    i = low
    while i + L <= high:
        x = load(a, i, _WIDE)
        half = fill(x, 0.5)
        store(a, i, fma(squash(half * x), half, half))
        i += L
    while i < high:
        y = load(a, i, _ONE)
        some = fill(y, 0.5)
        store(a, i, fma(squash(some * y), some, some))
        i += 1


@kernel
def lem_step(x, a, params, new):
    """Rusch et al. (2022), eq. 3; the state is y and z, the drive the four input parts. Floor: 4 H^2 multiply-adds."""
    U, V, dt = params
    H = V.shape[0]
    y = x[:H]
    add_product(y, U.reshape(-1), a, 0, 3 * H)
    apply_sigmoid(a, 0, 2 * H)
    apply_tanh(a, 2 * H, 3 * H)
    for i in range(H):
        new[H + i] = x[H + i] + dt[0] * a[i] * (a[2 * H + i] - x[H + i])
    add_product(new[H:], V.reshape(-1), a, 3 * H, 4 * H)
    apply_tanh(a, 3 * H, 4 * H)
    for i in range(H):
        new[i] = x[i] + dt[0] * a[H + i] * (a[3 * H + i] - x[i])


@kernel
def lem(start, drive, params, states, low, high):
    """All steps of `lem_step`."""
    for b in range(low, high):
        x = start[b]
        for t in range(len(drive)):
            lem_step(x, drive[t, b], params, states[t, b])
            x = states[t, b]


@kernel
def indrnn_step(x, a, params, new):
    """Li et al. (2018), eq. 2. Floor: H multiply-adds and tanh or relu."""
    u, rectify = params
    for i in range(x.size):
        new[i] = a[i] + u[i] * x[i]
    if rectify[0] > 0:
        for i in range(x.size):
            new[i] = 0 if new[i] < 0 else new[i]  # NaN stays NaN
    else:
        apply_tanh(new, 0, x.size)


@kernel
def indrnn(start, drive, params, states, low, high):
    """All steps of `indrnn_step`."""
    for b in range(low, high):
        x = start[b]
        for t in range(len(drive)):
            indrnn_step(x, drive[t, b], params, states[t, b])
            x = states[t, b]


@kernel
def cfc_step(x, a, params, new):
    """Hasani et al. (2022), eq. 4 with one layer for f, g, h; the drive ends with the time. Floor: 3 H^2."""
    (U,) = params
    H = x.size
    add_product(x, U.reshape(-1), a, 0, 3 * H)
    for i in range(H):
        a[i] = -a[3 * H] * a[i]
    apply_sigmoid(a, 0, H)
    apply_tanh(a, H, 3 * H)
    for i in range(H):
        new[i] = a[2 * H + i] + a[i] * (a[H + i] - a[2 * H + i])


@kernel
def _activate(a, size, code):
    """An activation of `published_cells.ACTIVATIONS` in place: lecun_tanh, tanh, relu, silu by their numbers."""
    if code == 0:
        for i in range(size):
            a[i] *= 0.666
    if code <= 1:
        apply_tanh(a, 0, size)
    if code == 0:
        for i in range(size):
            a[i] *= 1.7159
    if code == 2:
        for i in range(size):
            a[i] = 0 if a[i] < 0 else a[i]  # NaN stays NaN
    if code == 3:
        gate = a[:size].copy()
        apply_sigmoid(gate, 0, size)
        for i in range(size):
            a[i] *= gate[i]


@kernel
def cfc_backbone(start, drive, params, states, low, high):
    """All steps of a CfC whose f, g, h share the layers before them; sizes = widths of the layers, 3 H, activation.

    `theta` has weights (inputs, outputs) and biases of all layers but the first, one after another. Floor a step: as
    many multiply-adds as there are weights.
    """
    U, theta, sizes = params
    H, last, code = start.shape[1], len(sizes) - 2, int(sizes[-1])
    z, y = np.empty(int(sizes.max()), theta.dtype), np.empty(int(sizes.max()), theta.dtype)
    flat = U.reshape(-1)
    for b in range(low, high):
        x = start[b]
        for t in range(len(drive)):
            a, n, at = drive[t, b], int(sizes[0]), 0
            add_product(x, flat, a, 0, n)
            _activate(a, n, code)
            z[:n] = a[:n]
            for k in range(1, last + 1):
                m = int(sizes[k])
                y[:m] = theta[at + n * m : at + n * m + m]
                add_product(z[:n], theta[at : at + n * m], y, 0, m)
                if k < last:
                    _activate(y, m, code)
                z[:m] = y[:m]
                at, n = at + n * m + m, m
            tau = a[int(sizes[0])]
            for i in range(H):
                z[i] = -tau * z[i]
            apply_sigmoid(z, 0, H)
            apply_tanh(z, H, 3 * H)
            x = states[t, b]
            for i in range(H):
                x[i] = z[2 * H + i] + z[i] * (z[H + i] - z[2 * H + i])


@kernel
def cfc(start, drive, params, states, low, high):
    """All steps of `cfc_step`."""
    for b in range(low, high):
        x = start[b]
        for t in range(len(drive)):
            cfc_step(x, drive[t, b], params, states[t, b])
            x = states[t, b]
