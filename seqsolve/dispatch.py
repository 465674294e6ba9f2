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
        (2.29, 2.41, 2.31, 2.51, 3.41),
        (2.2, 2.59, 2.95, 4.51, 9.52),
        (2.44, 3.17, 4.02, 7.15, 25.6),
        (3.78, 5.83, 12.3, 41.4, 158),
        (21.9, 29.7, 122, 345, 1320),
    ),
    ("rnn", "float32", "fused"): (
        (0.063, 0.14, 0.46, 1.87, 7.41),
        (0.032, 0.14, 0.51, 2.49, 10.6),
        (0.099, 0.27, 1.23, 5.58, 23.2),
        (0.86, 3.34, 11.7, 49.9, 286),
        (10, 40.5, 237, 626, 2580),
    ),
    ("rnn", "float64", "torch"): (
        (2.31, 2.38, 2.61, 2.74, 4.65),
        (2.29, 2.72, 3.08, 5.08, 13.3),
        (2.41, 3.77, 5.76, 15.8, 73),
        (4.82, 12.3, 26.9, 97.7, 350),
        (41.4, 150, 273, 804, 2930),
    ),
    ("rnn", "float64", "fused"): (
        (0.077, 0.19, 0.64, 2.48, 10.3),
        (0.084, 0.17, 0.84, 3.47, 18.1),
        (0.16, 0.82, 3.57, 15.4, 59.4),
        (2.1, 7.8, 31.2, 123, 485),
        (36.4, 138, 711, 2190, 8070),
    ),
    ("gru", "float32", "torch"): (
        (7.59, 7.81, 8.09, 9.91, 16),
        (7.37, 8.9, 10.5, 16.7, 40.6),
        (7.92, 9.88, 12.6, 27.9, 91.4),
        (11.7, 17.8, 44, 128, 542),
        (156, 276, 464, 1040, 4090),
    ),
    ("gru", "float32", "fused"): (
        (0.04, 0.25, 0.98, 4.07, 16.3),
        (0.072, 0.28, 1.11, 6.62, 22.2),
        (0.27, 1.14, 7.36, 25, 74.4),
        (2.79, 13.1, 41, 141, 553),
        (117, 449, 1770, 6940, 26100),
    ),
    ("gru", "float64", "torch"): (
        (6.9, 7.85, 9.04, 11.3, 18.3),
        (7.26, 8.97, 11.9, 21.1, 62.4),
        (7.93, 11.8, 22.8, 57.8, 245),
        (13.9, 36.1, 83.9, 276, 1180),
        (305, 563, 958, 2110, 8370),
    ),
    ("gru", "float64", "fused"): (
        (0.057, 0.35, 1.39, 7.07, 23.8),
        (0.13, 0.51, 3.19, 11.5, 32),
        (0.68, 3.52, 19.9, 51.9, 186),
        (6.74, 24.4, 85.9, 335, 1370),
        (265, 1010, 3910, 13800, 59100),
    ),
    ("lstm", "float32", "torch"): (
        (0.34, 0.41, 1.13, 3.56, 12.8),
        (0.31, 0.47, 1.44, 4.76, 15.7),
        (0.58, 1.07, 3.71, 12.3, 46.5),
        (4.11, 7.39, 21.3, 77, 315),
        (156, 187, 381, 955, 2870),
    ),
    ("lstm", "float32", "fused"): (
        (0.02, 0.27, 0.99, 4.11, 16.3),
        (0.15, 0.52, 1.73, 6.94, 26.5),
        (0.31, 1.35, 6.17, 23.2, 88.7),
        (3.21, 13.1, 47.9, 232, 700),
        (151, 588, 2360, 9880, 39000),
    ),
    ("lstm", "float64", "torch"): (
        (6.33, 7.03, 7.66, 9.41, 17.3),
        (6.55, 8.91, 12.2, 21.5, 75.7),
        (7.84, 11.9, 17.7, 49.4, 299),
        (12.3, 32.4, 85.9, 335, 1500),
        (341, 612, 1070, 2320, 11800),
    ),
    ("lstm", "float64", "fused"): (
        (0.077, 0.27, 1.18, 5.31, 20.1),
        (0.12, 0.52, 2.37, 9.5, 36.7),
        (0.75, 3.11, 11.9, 44, 191),
        (5.57, 22.6, 90.5, 368, 1500),
        (324, 1220, 4900, 19700, 85000),
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
