"""Adaptive integration of vectorised functions, with the error that it estimates."""

import numpy as np

# Gauss (7 points) inside Kronrod (15 points) on [-1, 1]; nodes >= 0 (QUADPACK, Piessens et al. 1983).
_NODES = np.array([
    0.991455371120812639206854697526329, 0.949107912342758524526189684047851, 0.864864423359769072789712788640926,
    0.741531185599394439863864773280788, 0.586087235467691130294144435320321, 0.405845151377397166906606412076961,
    0.207784955007898467600689403773245, 0.0,
])  # fmt: skip
_KRONROD = np.array([
    0.022935322010529224963732008058970, 0.063092092629978553290700663189204, 0.104790010322250183839876322541518,
    0.140653259715525918745189590510238, 0.169004726639267902826583426598550, 0.190350578064785409913256402421014,
    0.204432940075298892414161999234649, 0.209482141084727828012999174891714,
])  # fmt: skip
_GAUSS = np.array([
    0.129484966168869693270611432679082, 0.279705391489276667901467771423780, 0.381830050505118944950369775488975,
    0.417959183673469387755102040816327,
])  # fmt: skip
_X = np.concatenate([-_NODES[:-1], _NODES[::-1]])
_WK = np.concatenate([_KRONROD[:-1], _KRONROD[::-1]])
_WG = np.zeros(15)
_WG[1::2] = np.concatenate([_GAUSS[:-1], _GAUSS[::-1]])


def panels(count: int, breaks=(), *, graded: bool = False):
    """Edges of `count` equal panels of [0, 1] and of those between `breaks`; `graded` ones shrink towards 0 and 1.

    A rule sees nothing of a strip between an end and its first node: 1e-5 wide for 256 panels, where an integrand may
    well jump.
    """
    edges = [np.linspace(0, 1, count + 1), np.asarray(breaks, dtype=np.float64).reshape(-1)]
    if graded:
        near = 0.5 ** np.arange(1, 45)
        edges += [near, 1 - near]
    edges = np.unique(np.concatenate(edges))
    return edges[(edges >= 0) & (edges <= 1)]


def integrate(f, panels, *, tolerance: float = 1e-12, rounds: int = 60, most: float = np.inf) -> tuple[float, float]:
    """``int_0^1 f(u) du`` and a bound on its error; each round halves all panels that still matter, together.

    `panels` is their number at the start, or their edges. f takes and returns an array; it may have integrable
    singularities at 0 and 1, where it is never evaluated. Halving also ends before `most` panels were looked at: those
    around a few jumps are halved to the end, those of a function that is noisy everywhere are not.
    """
    edges = np.linspace(0, 1, panels + 1) if np.ndim(panels) == 0 else panels
    left, right = edges[:-1], edges[1:]
    total, error, seen = 0.0, 0.0, 0
    for _ in range(rounds):
        seen += len(left)
        if seen > most:
            break
        half = (right - left) / 2
        u = (left + half)[:, None] + half[:, None] * _X
        values = f(u.reshape(-1)).reshape(u.shape)
        fine = half * (values @ _WK)
        wrong = np.abs(fine - half * (values @ _WG))
        scale = max(1.0, abs(total + fine.sum()))
        open_ = (wrong > tolerance * scale * np.maximum(right - left, 1e-3)) & (half > 1e-15)
        total += float(fine[~open_].sum())
        error += float(wrong[~open_].sum())
        if not open_.any():
            return total, error
        left, right = left[open_], right[open_]
        middle = (left + right) / 2
        left, right = np.concatenate([left, middle]), np.concatenate([middle, right])
    half = (right - left) / 2
    u = (left + half)[:, None] + half[:, None] * _X
    last = half * (f(u.reshape(-1)).reshape(u.shape) @ _WK)
    return total + float(last.sum()), error + float(np.abs(last).sum())
