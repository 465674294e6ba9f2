"""Which of the two is faster, the fused loop or torch's own: a measured rule.

`STEP` is microseconds a step of a whole batch, one thread, by units (rows) and batch (columns), as
``python -m benchmarks.dispatch_table`` prints it; measured on two cores with 512-bit registers, torch 2.13. Between the
entries logarithms are interpolated. (Batch 1 in float32 is the difference of 20,000 and 2,000 steps, of fewer from 64
units on.) To a step comes what a call costs before its first step: the fused loop compares the weights with those
of the last call, so that a change of them is always seen, and packs them again after one.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from functools import lru_cache

from .cells import lane_seconds

UNITS = (1, 8, 32, 64, 128, 256, 512)
BATCHES = (1, 4, 16, 64, 256)

_MARGIN = 0.75  # the fused loop must be estimated this much faster: machines differ
_AHEAD, _TRY = 0.4, 5e-3  # of torch's seconds that chunks may take, and how many of these make a burn-in worth trying
_FUSED_CALL, _FUSED_LAYER = 2.6e-5, 1.4e-5  # seconds before the first step, as `benchmarks.dispatch_sweep` shows
_TORCH_CALL, _TORCH_LAYER = 3e-6, {"rnn": 1e-5, "gru": 1.2e-5, "lstm": 1.2e-5}  # by `handover.py`
_ONEDNN = 3e-5  # more of that for an LSTM in float32, which oneDNN prepares afresh for every call
_PACKING = 2e-5  # seconds more of a call, and of a layer, where the weights have changed and autograd looks on
_COMPARED, _PACKED = 3e-10, 1.5e-9  # seconds a byte of U where the weights are as before, and where they have changed

STEP = {
    ("rnn", "float32", "torch"): (
        (2.36, 2.36, 2.33, 2.47, 3.25),
        (2.27, 2.71, 2.99, 4.42, 9.64),
        (2.48, 3.35, 4.29, 7.47, 19.9),
        (2.78, 4.25, 6.51, 15.4, 109),
        (4.31, 5.41, 12.1, 40.1, 158),
        (7.03, 9.85, 31.3, 98, 429),
        (18.3, 26.2, 113, 320, 1230),
    ),
    ("rnn", "float32", "fused"): (
        (0.016, 0.12, 0.38, 1.45, 6.16),
        (0.019, 0.16, 0.58, 2.56, 8.46),
        (0.053, 0.38, 1.44, 5.63, 20.5),
        (0.15, 1.06, 4.37, 15.2, 95.7),
        (0.61, 3.56, 13.3, 51.3, 204),
        (2.3, 10.7, 41.4, 164, 657),
        (8, 60.8, 153, 558, 2230),
    ),
    ("rnn", "float64", "torch"): (
        (2.28, 2.32, 2.44, 2.71, 3.92),
        (2.25, 2.74, 3.22, 4.89, 10.6),
        (2.36, 3.82, 5.69, 12.9, 52.8),
        (3.11, 5.42, 10.6, 31.4, 229),
        (4.16, 10.3, 21.8, 80.5, 495),
        (7.97, 29.4, 65.4, 226, 930),
        (41.6, 121, 229, 730, 2790),
    ),
    ("rnn", "float64", "fused"): (
        (0.063, 0.14, 0.5, 2.09, 7.71),
        (0.095, 0.21, 0.92, 3.51, 12.9),
        (0.22, 0.82, 3.12, 11.6, 44.8),
        (0.74, 2.77, 9.81, 37.2, 217),
        (2, 7.58, 28.2, 115, 705),
        (5.96, 23.2, 90.1, 342, 1400),
        (34.1, 149, 664, 2200, 9960),
    ),
    ("gru", "float32", "torch"): (
        (7.01, 7.79, 8.22, 9.6, 14.8),
        (7.2, 8.53, 9.79, 14.3, 32.2),
        (7.38, 9.98, 12.6, 22.1, 76.7),
        (9.41, 12.2, 18.5, 53.5, 200),
        (11.4, 16, 36, 123, 470),
        (20.1, 29.6, 97.3, 316, 1220),
        (119, 239, 365, 904, 3440),
    ),
    ("gru", "float32", "fused"): (
        (0.027, 0.23, 0.83, 3.77, 13.2),
        (0.039, 0.26, 1.03, 4.18, 18.4),
        (0.15, 1.28, 4.84, 23.7, 70.4),
        (0.45, 3.3, 12.6, 50.8, 189),
        (2, 9.04, 36.5, 141, 561),
        (6.3, 44.2, 116, 457, 1810),
        (98, 401, 1580, 6230, 25400),
    ),
    ("gru", "float64", "torch"): (
        (6.77, 7.6, 8.22, 9.44, 16.1),
        (6.87, 8.46, 10.5, 17.1, 44.5),
        (7.75, 11.2, 15.9, 36.7, 186),
        (9.28, 15.5, 29.3, 110, 450),
        (11.8, 28.5, 68.6, 263, 1030),
        (29.6, 94.5, 206, 671, 2720),
        (254, 455, 824, 1770, 7790),
    ),
    ("gru", "float64", "fused"): (
        (0.12, 0.39, 1.67, 6.44, 23.9),
        (0.13, 0.42, 1.81, 8.7, 25.3),
        (0.74, 2.54, 9.02, 36.4, 149),
        (2, 7.86, 31, 111, 430),
        (5.36, 20.7, 78.3, 314, 1220),
        (20.4, 79.6, 274, 1190, 3960),
        (231, 927, 3610, 14300, 57200),
    ),
    ("lstm", "float32", "torch"): (
        (0.29, 0.4, 1.11, 3.4, 13.1),
        (0.31, 0.47, 1.39, 4.28, 16.7),
        (0.46, 0.94, 3.25, 11.4, 61.5),
        (1.27, 2.71, 8.6, 33.3, 161),
        (3.6, 6.57, 21.4, 99.2, 414),
        (11.7, 21.6, 66.8, 258, 1030),
        (153, 183, 356, 953, 2830),
    ),
    ("lstm", "float32", "fused"): (
        (0.031, 0.23, 0.86, 3.41, 12.8),
        (0.043, 0.35, 1.55, 5.88, 21.8),
        (0.19, 1.33, 5.31, 19, 76.7),
        (0.6, 4.41, 15.9, 61.4, 245),
        (2.5, 15.7, 44.1, 178, 753),
        (8.6, 37.1, 149, 908, 2450),
        (148, 601, 2400, 9410, 38500),
    ),
    ("lstm", "float64", "torch"): (
        (6.43, 7.33, 7.62, 9.51, 17),
        (6.54, 8.76, 11.8, 22.8, 73.7),
        (7.36, 11.5, 18.2, 55.2, 294),
        (8.65, 15.9, 36.4, 180, 740),
        (13.9, 34.9, 97.7, 357, 1470),
        (51.1, 137, 305, 930, 3640),
        (343, 613, 1100, 2560, 12000),
    ),
    ("lstm", "float64", "fused"): (
        (0.11, 0.32, 1.17, 4.79, 17.9),
        (0.19, 0.59, 2.57, 10.2, 37.7),
        (0.87, 3.25, 12.9, 48.2, 185),
        (2.51, 8.58, 37.7, 141, 628),
        (6.71, 25.9, 102, 434, 1680),
        (38.1, 163, 608, 2480, 9490),
        (340, 1340, 5120, 19900, 77700),
    ),
}


@lru_cache(1024)
def choose(
    kind: str,
    units: int,
    batch: int,
    steps: int,
    *,
    double: bool,
    layers: int = 1,
    threads: int = 1,
    changing: bool = False,
) -> tuple[bool, str]:
    """Whether to take the fused loop, and why.

    kind : "rnn_tanh", "rnn_relu", "gru" or "lstm".  double : float64.  layers : layers times directions.
    changing : other weights in every call, as in training.
    """
    fused, a, torch, b, margin = _costs(kind, units, batch, double, layers, threads, changing)
    fused, torch = fused + steps * a, torch + steps * b
    figures = f"about {_time(fused)} against {_time(torch)} of torch's own"
    if fused < margin * torch:
        return True, f"one fused loop is faster here: {figures}"
    return False, f"the fused loop is not surely faster here: {figures}, and it runs only below {margin:.0%} of that"


@lru_cache(4096)
def shortest(mode: str, units: int, layers: int, dtype, batch: int, threads: int) -> float:
    """Steps from which on anything but torch's own function is worth a thought; below them it never is.

    mode : as torch writes it.  layers : layers times directions.  dtype : that of the input.
    """
    if not batch or not units:
        return math.inf
    kind, double = mode.lower(), str(dtype) == "torch.float64"
    fused, a, torch, b, margin = _costs(kind, units, batch, double, layers, threads)
    gain = margin * b - a
    loop = 0.0 if fused < margin * torch else (fused - margin * torch) / gain if gain > 0 else math.inf
    chunks = _TRY / _step(kind.partition("_")[0], double, "torch", units, batch)
    return 1 + math.floor((1 - 1e-9) * min(loop, chunks, 1e15))


def _costs(kind: str, units: int, batch: int, double: bool, layers: int, threads: int, changing: bool = False):
    """Seconds of a call and of a step of the fused loop, the same of torch, and the margin between the two."""
    cell = kind.partition("_")[0]
    gates = {"rnn": 1, "gru": 3, "lstm": 4}[cell]
    theirs, ours = (_step(cell, double, which, units, batch) for which in ("torch", "fused"))
    if threads > 1 and batch == 1 and gates * units * units > 1 << 17:
        theirs *= 0.8  # a product of a large matrix and one vector is what torch does on several threads
    margin = _MARGIN if units <= UNITS[-1] else _MARGIN**2
    weights = gates * units * units * (8 if double else 4) * (_PACKED if changing else _COMPARED)
    fused = _FUSED_CALL + layers * (_FUSED_LAYER + weights)
    fused += (1 + layers) * _PACKING if changing else 0.0
    torch = _TORCH_CALL + layers * (_TORCH_LAYER[cell] + (_ONEDNN if cell == "lstm" and not double else 0.0))
    return fused, layers * ours, torch, layers * theirs, margin


def chunks_may_win(kind: str, units: int, batch: int, steps: int, inputs: int, *, double: bool) -> bool:
    """Whether chunks of time side by side would be far ahead of torch on one thread, if the network forgets."""
    theirs = steps * _step(kind.partition("_")[0], double, "torch", units, batch)
    ours = steps * batch * lane_seconds(kind, units, inputs, 8 if double else 4)
    return theirs > _TRY and ours < _AHEAD * theirs


def fused_seconds(weights, batch: int) -> float:
    """Seconds a step of the fused loop of one direction of one layer."""
    cell = weights.kind.partition("_")[0]
    return _step(cell, weights.w_hh.itemsize == 8, "fused", weights.hidden, batch)


@lru_cache(4096)
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
