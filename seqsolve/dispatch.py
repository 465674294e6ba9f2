"""Which of the two is faster, the fused loop or torch's own: a measured rule.

`STEP` is microseconds a step of a whole batch, one thread, by units (rows) and batch (columns), as
``python -m benchmarks.dispatch_table`` prints it; measured on two cores with 512-bit registers, torch 2.13. Between the
entries logarithms are interpolated. To a step comes what a call costs before its first step: the fused loop packs the
weights afresh in every call, so that a change of them is always seen.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from functools import lru_cache

UNITS = (1, 8, 32, 128, 512)
BATCHES = (1, 4, 16, 64, 256)

_MARGIN = 0.75  # the fused loop must be estimated this much faster: machines differ
_TORCH_CALL, _FUSED_CALL, _FUSED_BYTE = 2e-5, 4e-5, 5e-10  # seconds a call of one layer; packing a byte of weights

STEP = {
    ("rnn", "float32", "torch"): (
        (2.36, 2.35, 2.45, 2.6, 3.57),
        (2.27, 2.59, 3.02, 4.63, 11.4),
        (2.49, 3.48, 4.63, 7.92, 28.5),
        (4.21, 5.86, 12.4, 61.5, 166),
        (18.7, 26.6, 109, 320, 1260),
    ),
    ("rnn", "float32", "fused"): (
        (0.046, 0.11, 0.36, 1.63, 6.81),
        (0.062, 0.15, 0.54, 2.39, 10.2),
        (0.14, 0.37, 1.87, 6.8, 25.1),
        (1.22, 4.9, 13.4, 63.7, 204),
        (9.71, 36.9, 236, 588, 2340),
    ),
    ("rnn", "float64", "torch"): (
        (2.16, 2.25, 2.32, 2.55, 3.77),
        (2.15, 2.81, 3, 4.82, 11.6),
        (2.3, 3.49, 6.25, 18.5, 70.2),
        (3.94, 10.2, 26.1, 97.2, 338),
        (46.7, 130, 241, 723, 2620),
    ),
    ("rnn", "float64", "fused"): (
        (0.067, 0.15, 0.52, 1.9, 8.06),
        (0.087, 0.27, 0.84, 3.48, 13.9),
        (0.22, 0.77, 3.49, 14.5, 51.1),
        (1.99, 9.17, 39.2, 120, 584),
        (38.8, 158, 596, 2430, 6430),
    ),
    ("gru", "float32", "torch"): (
        (6.81, 7.72, 7.91, 9.62, 14.8),
        (7.3, 9.12, 10.1, 14.3, 35.3),
        (7.34, 9.58, 11.1, 20.8, 77.2),
        (10.4, 15, 33.3, 121, 570),
        (120, 241, 412, 1010, 3610),
    ),
    ("gru", "float32", "fused"): (
        (0.089, 0.23, 0.81, 3.67, 13.1),
        (0.11, 0.31, 1.19, 5.12, 23),
        (0.29, 1, 4.18, 16.3, 58),
        (2.47, 11.6, 32.5, 126, 513),
        (106, 426, 1600, 6510, 25900),
    ),
    ("gru", "float64", "torch"): (
        (6.76, 7.49, 8.16, 9.96, 16.5),
        (6.81, 8.78, 10.9, 17, 47.6),
        (7.75, 10.5, 16.4, 40.5, 192),
        (12.2, 27.9, 69.8, 246, 1080),
        (256, 433, 777, 1680, 7820),
    ),
    ("gru", "float64", "fused"): (
        (0.097, 0.3, 1.27, 5.39, 20.4),
        (0.13, 0.41, 1.9, 6.62, 29.4),
        (0.66, 2.65, 9.56, 38.8, 146),
        (5.44, 26.5, 107, 307, 1220),
        (238, 920, 3650, 14600, 60300),
    ),
    ("lstm", "float32", "torch"): (
        (0.28, 0.44, 1.13, 3.49, 12.6),
        (0.33, 0.49, 1.4, 4.3, 16.4),
        (0.48, 1.13, 3.24, 11.4, 62.5),
        (3.79, 7.31, 21.6, 85.9, 338),
        (156, 186, 355, 1120, 3600),
    ),
    ("lstm", "float32", "fused"): (
        (0.067, 0.26, 0.92, 3.7, 13.6),
        (0.16, 0.41, 1.74, 6.36, 23.8),
        (0.45, 1.24, 5.58, 19.4, 86.3),
        (3.23, 12.4, 46.7, 183, 730),
        (155, 608, 2420, 9460, 37700),
    ),
    ("lstm", "float64", "torch"): (
        (6.41, 7.51, 8, 9.99, 16.7),
        (6.68, 9.41, 12.3, 23.8, 80.3),
        (8.03, 12.1, 19.5, 60.4, 296),
        (13.4, 34.8, 98.4, 356, 1440),
        (359, 638, 1070, 2350, 12400),
    ),
    ("lstm", "float64", "fused"): (
        (0.11, 0.33, 1.17, 5.16, 18.5),
        (0.18, 0.53, 2.24, 8.25, 33.8),
        (1.09, 3.4, 12.2, 46.1, 195),
        (8.94, 33.4, 127, 401, 1690),
        (326, 1350, 5150, 18600, 82000),
    ),
}


@lru_cache(1024)
def choose(
    kind: str, units: int, batch: int, steps: int, *, double: bool, layers: int = 1, threads: int = 1
) -> tuple[bool, str]:
    """Whether to take the fused loop, and why.

    kind : "rnn_tanh", "rnn_relu", "gru" or "lstm".  double : float64.  layers : layers times directions.
    """
    cell = kind.partition("_")[0]
    gates = {"rnn": 1, "gru": 3, "lstm": 4}[cell]
    theirs, ours = (_step(cell, double, which, units, batch) for which in ("torch", "fused"))
    if threads > 1 and batch == 1 and gates * units * units > 1 << 17:
        theirs *= 0.6  # a product of a large matrix and one vector is what torch does on several threads
    margin = _MARGIN if units <= UNITS[-1] else _MARGIN**2
    fused = _FUSED_CALL + layers * (
        _FUSED_CALL + gates * units * units * (8 if double else 4) * _FUSED_BYTE + steps * ours
    )
    torch = _TORCH_CALL + layers * (_TORCH_CALL * (2 if cell == "lstm" and not double else 1) + steps * theirs)
    figures = f"about {_time(fused)} against {_time(torch)} of torch's own"
    if fused < margin * torch:
        return True, f"one fused loop is faster here: {figures}"
    return False, f"torch's own is faster or as fast here: the fused loop needs {figures}"


def _step(cell: str, double: bool, which: str, units: int, batch: int) -> float:
    """Seconds a step, by bilinear interpolation of logarithms; beyond the table in proportion to the arithmetic."""
    table = STEP[cell, "float64" if double else "float32", which]
    i, u = _locate(UNITS, units)
    j, v = _locate(BATCHES, batch)
    low, high = ((1 - v) * math.log(table[k][j]) + v * math.log(table[k][j + 1]) for k in (i, i + 1))
    beyond = max(units / UNITS[-1], 1.0) ** 2 * max(batch / BATCHES[-1], 1.0)
    return math.exp((1 - u) * low + u * high) * 1e-6 * beyond


def _locate(grid: tuple[int, ...], value: int) -> tuple[int, float]:
    """The interval of the grid, and where in it the value lies on a logarithmic scale."""
    k = min(max(bisect_right(grid, value) - 1, 0), len(grid) - 2)
    return k, min(math.log(value / grid[k]) / math.log(grid[k + 1] / grid[k]), 1.0)


def _time(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"
