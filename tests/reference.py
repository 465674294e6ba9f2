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


# --- seqsolve ---


def causal_attention(q, k, v, *, offset=None, window=None, slopes=None, mask=None, lengths=None, scale=None):
    """Softmax attention in float64, one query at a time: (outputs, log-partition sums); 0 and -inf where nothing is seen."""
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
