"""Slow, obvious implementations; each fast kernel is compared with its namesake here."""

import numpy as np

# --- lowrank ---


def scaled_residual(error: float, scale: float, n: int, dtype) -> float:
    """LAPACK's measure, ``error / (n * eps * scale)``; below 30 is backward stable."""
    return float(error) / (max(n, 1) * float(np.finfo(dtype).eps) * max(float(scale), np.finfo(dtype).tiny))


def leave_out(A: np.ndarray, J) -> np.ndarray:
    """What the columns J leave of A: ``A - P_J A``, by least squares."""
    C = A[:, list(J)]
    return A - C @ np.linalg.lstsq(C, A, rcond=None)[0]


def adaptive_randomized_pivoting(V: np.ndarray, rng: np.random.Generator) -> list[int]:
    """Cortinovis and Kressner (2024), algorithm 2.1, with its Householder reflections of the rows of V written out."""
    V = V.copy()
    chosen = []
    for t in range(V.shape[1]):
        weights = np.sum(np.abs(V[:, t:]) ** 2, axis=1)
        weights[chosen] = 0.0
        heap = np.cumsum(weights)
        j = int(np.searchsorted(heap, rng.random() * heap[-1], side="right"))
        chosen.append(j)
        x = V[j, t:].conj()
        phase = x[0] / abs(x[0]) if x[0] != 0 else 1.0
        w = x.copy()
        w[0] += phase * np.linalg.norm(x)
        H = np.eye(x.size) - 2 * np.outer(w, w.conj()) / np.vdot(w, w)
        V[:, t:] = V[:, t:] @ H  # row j becomes a multiple of e_t
    return chosen


def deim_points(V: np.ndarray) -> list[int]:
    """Sorensen and Embree (2016), algorithm 1, each interpolant solved for from scratch."""
    p = [int(np.abs(V[:, 0]).argmax())]
    for j in range(1, V.shape[1]):
        c = np.linalg.solve(V[p, :j], V[p, j])
        p.append(int(np.abs(V[:, j] - V[:, :j] @ c).argmax()))
    return p


def volume(C: np.ndarray) -> float:
    """``sqrt(det C^* C)``, or of C C^* where C is wide: the product of the singular values."""
    return float(np.prod(np.linalg.svd(C, compute_uv=False)))


def best_exchange(Y: np.ndarray, J) -> float:
    """The largest factor by which exchanging one chosen column of Y for another raises the volume."""
    now = volume(Y[:, J])
    others = [j for j in range(Y.shape[1]) if j not in set(J)]
    best = 0.0
    for i in range(len(J)):
        for j in others:
            best = max(best, volume(Y[:, [*J[:i], j, *J[i + 1 :]]]) / now)
    return best


def rectangular_volume(V: np.ndarray, J, k: int) -> list[int]:
    """Add rows of V to J one by one, each the one of largest volume; Mikhalev and Oseledets (2018)."""
    J = list(J)
    while len(J) < k:
        J.append(max((j for j in range(len(V)) if j not in J), key=lambda j: volume(V[[*J, j]])))
    return J


def greedy_columns(A: np.ndarray, k: int) -> list[int]:
    """At each step the column whose addition leaves the least Frobenius error, by trying all of them."""
    J: list[int] = []
    for _ in range(k):
        rest = (j for j in range(A.shape[1]) if j not in J)
        J.append(min(rest, key=lambda j: np.linalg.norm(leave_out(A, [*J, j]))))
    return J


def ridge_leverage_scores(A: np.ndarray, k: int) -> np.ndarray:
    """Cohen, Musco and Musco (2017), definition 1, by an inverse."""
    ridge = np.sum(np.linalg.svd(A, compute_uv=False)[k:] ** 2) / k
    return np.einsum("ij,ij->j", A.conj(), np.linalg.inv(A @ A.conj().T + ridge * np.eye(len(A))) @ A).real


def cross_approximation(A: np.ndarray, k: int) -> tuple[list[int], list[int]]:
    """Adaptive cross approximation with partial pivoting on a residual matrix that is held in full."""
    E = A.copy()
    rows, columns, i = [], [], 0
    for _ in range(k):
        j = int(np.abs(E[i]).argmax())
        rows.append(i)
        columns.append(j)
        column = np.abs(E[:, j])
        E = E - np.outer(E[:, j], E[i]) / E[i, j]
        column[rows] = -1.0
        i = int(column.argmax())
    return rows, columns


def best_diagonal(X: np.ndarray, Y: np.ndarray, J) -> np.ndarray:
    """Weights of least error for the pairs J, by least squares in the space of all matrices."""
    atoms = np.stack([np.outer(X[:, j], Y[j]).ravel() for j in J], axis=1)
    return np.linalg.lstsq(atoms, (X @ Y).ravel(), rcond=None)[0]


def best_full(X: np.ndarray, Y: np.ndarray, J) -> np.ndarray:
    """The core L of least error ``||X Y - X_J L Y_J||_F``."""
    return np.linalg.pinv(X[:, J]) @ X @ Y @ np.linalg.pinv(Y[J])


def greedy_pairs(X: np.ndarray, Y: np.ndarray, k: int, weighted: bool) -> list[int]:
    """At each step the column-row pair whose addition leaves the least error, by trying all of them."""
    J: list[int] = []

    def error(S):
        w = best_diagonal(X, Y, S) if weighted else np.ones(len(S))
        return np.linalg.norm(X @ Y - X[:, S] * w @ Y[S])

    for _ in range(k):
        J.append(min((j for j in range(len(Y)) if j not in J), key=lambda j: error([*J, j])))
    return J


def randomly_pivoted_cholesky(K: np.ndarray, k: int, rng: np.random.Generator) -> tuple[np.ndarray, list[int], float]:
    """One pivot at a time (Chen, Epperly, Tropp and Webber 2025, algorithm 1): F, pivots, relative trace error."""
    n = len(K)
    F = np.zeros((n, k), dtype=K.dtype)
    d = np.diagonal(K).real.copy()
    chosen = []
    for i in range(k):
        s = int(rng.choice(n, p=d / d.sum()))
        g = K[:, s] - F[:, :i] @ F[s, :i].conj()
        F[:, i] = g / np.sqrt(g[s].real)
        d = np.maximum(d - np.abs(F[:, i]) ** 2, 0)
        d[s] = 0
        chosen.append(s)
    return F, chosen, float(d.sum() / np.trace(K).real)


# --- seqsolve ---


def causal_attention(q, k, v, *, offset=None, window=None, slopes=None, mask=None, lengths=None, scale=None):
    """Softmax attention in float64, one query at a time: (outputs, log sums); 0 and -inf where nothing is seen."""
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    (B, H, Tq, d), (_, heads, Tk, _) = q.shape, k.shape
    offset = Tk - Tq if offset is None else offset
    offsets = np.broadcast_to(offset, (B,))
    mask = None if mask is None else np.broadcast_to(mask, (B, H, Tq, Tk))
    out, lse = np.zeros((B, H, Tq, v.shape[3])), np.full((B, H, Tq), -np.inf)
    for b, h, i in np.ndindex(B, H, Tq):
        p, group = offsets[b] + i, h // (H // heads)
        if lengths is not None and p >= lengths[b]:
            continue
        scores, values = [], []
        for j in range(Tk):
            hidden = j > p or (window is not None and p - j >= window) or (lengths is not None and j >= lengths[b])
            if hidden or (mask is not None and (mask[b, h, i, j] == -np.inf or mask[b, h, i, j] is np.False_)):
                continue
            s = (d**-0.5 if scale is None else scale) * q[b, h, i] @ k[b, group, j]
            s -= 0 if slopes is None else slopes[h] * (p - j)
            s += 0 if mask is None or mask.dtype == bool else mask[b, h, i, j]
            scores.append(s)
            values.append(v[b, group, j])
        if scores:
            top = max(scores)
            w = np.exp(np.array(scores) - top)
            out[b, h, i], lse[b, h, i] = w @ np.array(values) / w.sum(), top + np.log(w.sum())
    return out, lse


def affine_scan(A, b, h0, structure="diag", reverse=False):
    """h_t = A_t h_{t-1} + b_t, one step after the other; reverse runs from the last step to the first."""
    h, out = np.array(h0), np.empty_like(b)
    for t in reversed(range(len(b))) if reverse else range(len(b)):
        if structure in ("dense", "constant"):
            h = np.einsum("...ij,...j->...i", A if structure == "constant" else A[t], h) + b[t]
        elif structure == "block":
            k = A.shape[-1]
            h = np.einsum("...ij,...j->...i", A[t], h.reshape(*h.shape[:-1], -1, k)).reshape(h.shape) + b[t]
        else:
            h = A[t] * h + b[t]
        out[t] = h
    return out


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def cell_step(kind, state, x, w_ih, w_hh, b_ih, b_hh):
    """One step of torch's cells as its documentation writes them; the state of an LSTM is (h, c)."""
    h = state[0] if kind == "lstm" else state
    a, d = w_ih @ x + b_ih, w_hh @ h + b_hh
    if kind == "rnn_tanh":
        return np.tanh(a + d)
    if kind == "rnn_relu":
        return np.maximum(a + d, 0)
    if kind == "gru":
        (a_r, a_z, a_n), (d_r, d_z, d_n) = np.split(a, 3), np.split(d, 3)
        r, z = _sigmoid(a_r + d_r), _sigmoid(a_z + d_z)
        n = np.tanh(a_n + r * d_n)
        return (1 - z) * n + z * h
    i, f, g, o = np.split(a + d, 4)
    c = _sigmoid(f) * state[1] + _sigmoid(i) * np.tanh(g)
    return _sigmoid(o) * np.tanh(c), c


def numerical_jacobian(step, x, eps=1e-6):
    """Central differences of step at x, one column after the other."""
    columns = [(step(x + eps * e) - step(x - eps * e)) / (2 * eps) for e in np.eye(len(x))]
    return np.stack(columns, axis=1)


# --- density ---


def rans_encode(values, symbols, precision: int) -> bytes:
    """One stream of `density.rans`, in whole numbers of Python.

    `symbols` is a list of (frequency, first value, raw bits) for each value: the table of that value. Raw bits of 255
    mark an escape. Written from the description of the format, with none of the tricks of the kernels.
    """
    lanes, low = (1, 2**precision) if len(values) < 2**15 else (4, 2**32)
    states, words = [low] * lanes, []

    def push(lane, frequency, start, bits):
        while states[lane] >= frequency << (64 - bits):
            words.append(states[lane] & 0xFFFFFFFF)
            states[lane] >>= 32
        x = states[lane]
        states[lane] = (x // frequency << bits) + start + x % frequency

    def push_raw(lane, value, bits):
        for lower, size in [(0, min(bits, 32)), (32, bits - 32)]:
            if size > 0:
                push(lane, 1, value >> lower & (1 << size) - 1, size)

    for i in reversed(range(len(values))):
        value, table, start = int(values[i]), symbols[i], 0
        for frequency, first, raw in table:
            if raw == 255 or first <= value < first + (1 << raw):
                break
            start += frequency
        if raw == 255:
            whole = 2 * value if value >= 0 else -2 * value - 1
            length = whole.bit_length()
            push_raw(i % lanes, whole - (1 << length - 1) if length else 0, max(length - 1, 0))
            push_raw(i % lanes, length, 7)
        else:
            push_raw(i % lanes, value - first, raw)
        push(i % lanes, frequency, start, precision)
    for x in reversed(states):
        words += [x >> 32, x & 0xFFFFFFFF] if lanes == 4 or x >> 32 else [x]
    return b"".join(word.to_bytes(4, "little") for word in reversed(words)) if len(values) else b""


def rans_decode(data: bytes, symbols, precision: int):
    """The values of one stream, None if it is not whole; see `rans_encode`."""
    words = [int.from_bytes(data[i : i + 4], "little") for i in range(0, len(data), 4)]
    count = len(symbols)
    if count == 0:
        return [] if not data else None
    lanes, low = (1, 2**precision) if count < 2**15 else (4, 2**32)
    if len(words) < (1 if lanes == 1 else 8) or len(data) % 4:
        return None
    states = [words[0] + (words[1] << 32 if len(words) > 1 else 0)] if lanes == 1 else []
    states = states or [words[2 * i] + (words[2 * i + 1] << 32) for i in range(4)]
    words = words[2 * lanes :]
    if (lanes == 4 or len(data) > 4) and min(states) < 2**32:
        return None

    def refill(lane):
        if states[lane] < 2**32 and (words or lanes == 4):
            states[lane] = states[lane] << 32 | words.pop(0)  # IndexError: the stream is too short

    def pull_raw(lane, bits):
        value = 0
        for size in [bits - 32, min(bits, 32)]:
            if size > 0:
                value = value << size | states[lane] & (1 << size) - 1
                states[lane] >>= size
                refill(lane)
        return value

    values = []
    try:
        for i in range(count):
            lane, start = i % lanes, 0
            slot = states[lane] & (1 << precision) - 1
            table = iter(symbols[i])
            frequency, first, raw = next(table)
            while slot >= start + frequency:
                start += frequency
                frequency, first, raw = next(table)
            states[lane] = frequency * (states[lane] >> precision) + slot - start
            refill(lane)
            if raw == 255:
                length = pull_raw(lane, 7)
                if length > 64:
                    return None
                whole = (1 << length - 1) + pull_raw(lane, length - 1) if length else 0
                values.append(-(whole + 1) // 2 if whole & 1 else whole // 2)
            else:
                values.append(first + pull_raw(lane, raw))
    except IndexError:
        return None
    return values if not words and states == [low] * lanes else None


def crc32c(data: bytes, value: int = 0) -> int:
    """CRC-32C bit by bit (Castagnoli, Brauer and Herrmann 1993, reflected polynomial 0x82F63B78)."""
    value ^= 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def dense_gap(weights, theta, a) -> float:
    """log lambda_max of M = sum_j w_j v_j v_j^* / p_j, summed node by node."""
    V = np.exp(1j * np.outer(theta, np.arange(len(a))))
    p = np.abs(V @ a) ** 2 / np.vdot(a, a).real
    M = sum(w / q * np.outer(v, v.conj()) for w, q, v in zip(weights, p, V) if w > 0)
    return float(np.log(np.linalg.eigvalsh(M)[-1]))


def ans_decode(words, frequencies, count: int) -> list[int]:
    """One-lane ANS over 32-bit words with integer frequencies of sum 2^24 (Duda 2013), in Python's integers."""
    words, ends, state, out = [int(w) for w in words], np.cumsum(frequencies), 0, []
    while words and state < 2**32:
        state = state << 32 | words.pop()
    for _ in range(count):
        slot = state & 2**24 - 1
        s = int(np.searchsorted(ends, slot, side="right"))
        state = (state >> 24) * int(frequencies[s]) + slot - int(ends[s] - frequencies[s])
        if state < 2**32 and words:
            state = state << 32 | words.pop()
        out.append(s)
    return out


def fourier_bin_bits(x, scale, step, a, tail):
    """-log2 of a bin's mass under `density.bin_mass`, as a plain difference of two cdfs in 60 digits."""
    import mpmath as mp

    with mp.workdps(100):
        x, scale, step, tail = (mp.mpf(float(v)) for v in (x, scale, step, tail))
        a = [mp.mpf(float(v)) for v in a]
        K = len(a) - 1
        c = [sum(a[j] * a[j + k] for j in range(K + 1 - k)) / sum(v * v for v in a) for k in range(K + 1)]

        def cdf(z):
            u = 1 / (1 + mp.exp(-z))
            wave = sum(2 * c[k] * mp.sin(k * mp.pi * u) / (k * mp.pi) for k in range(1, K + 1))
            return (1 - tail) * (u + wave) + tail * (1 + z / (1 + abs(z))) / 2

        return float(-mp.log(cdf((x + step / 2) / scale) - cdf((x - step / 2) / scale), 2))
