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
_FEW = 160  # steps below which a twentieth of them, what a burn-in may take, is no burn-in
_WIDE, _CACHED = 64, 1.8  # a large batch, and what its first steps, all in cache, save torch of the time of later ones
_TORCH_CALL, _TORCH_LAYER = 3e-6, {"rnn": 1e-5, "gru": 1.2e-5, "lstm": 1.2e-5}  # by `handover.py`
_ONEDNN = 3e-5  # more of that for an LSTM in float32, which oneDNN prepares afresh for every call
_PACKING = 2e-5  # seconds more of a call, and of a layer, where the weights have changed and autograd looks on
_COMPARED, _PACKED = 3e-10, 1.5e-9  # seconds a byte of U where the weights are as before, and where they have changed

STEP = {
    ("rnn", "float32", "torch"): (
        (2.25, 2.29, 2.26, 2.46, 3.34),
        (2.17, 2.45, 2.91, 4.99, 11.9),
        (2.44, 2.94, 4.15, 10.1, 31.4),
        (2.58, 3.7, 7.53, 21.7, 117),
        (3.63, 5.04, 13.2, 42.6, 152),
        (6.38, 9.26, 34, 107, 430),
        (17.4, 27.1, 109, 297, 1190),
    ),
    ("rnn", "float32", "fused"): (
        (0.0125, 0.0488, 0.181, 0.735, 2.81),
        (0.0219, 0.0762, 0.399, 2.49, 7.99),
        (0.0662, 0.357, 1.26, 5.54, 19.2),
        (0.213, 0.775, 3.45, 13.9, 76.2),
        (0.642, 2.35, 8.83, 36, 141),
        (2.23, 8.57, 34, 137, 563),
        (8.17, 32.2, 139, 524, 2100),
    ),
    ("rnn", "float64", "torch"): (
        (2.15, 2.23, 2.32, 2.65, 3.81),
        (2.11, 2.63, 2.92, 5.47, 26.3),
        (2.28, 3.45, 6.48, 29.3, 111),
        (2.73, 5.41, 12.9, 39.6, 201),
        (3.63, 10.5, 25.3, 73.1, 495),
        (6.95, 29, 69.5, 223, 918),
        (44, 122, 247, 730, 3010),
    ),
    ("rnn", "float64", "fused"): (
        (0.0265, 0.102, 0.404, 1.54, 5.89),
        (0.0425, 0.181, 0.741, 3.34, 22.1),
        (0.15, 0.677, 2.94, 16.7, 67.9),
        (0.473, 2.05, 10.2, 29.4, 118),
        (1.37, 5.3, 21.8, 83.8, 450),
        (4.55, 18.4, 76.2, 300, 1260),
        (26, 107, 423, 1690, 9200),
    ),
    ("gru", "float32", "torch"): (
        (7, 7.91, 8.1, 9.68, 15.2),
        (6.95, 8.56, 9.76, 15.9, 38.4),
        (7.93, 9.7, 13.1, 29.8, 114),
        (8.3, 11.5, 20.7, 72.7, 266),
        (10.9, 16.5, 41.5, 124, 546),
        (19.5, 30.4, 99.8, 317, 1230),
        (117, 233, 391, 1020, 3430),
    ),
    ("gru", "float32", "fused"): (
        (0.0324, 0.108, 0.459, 1.5, 5.7),
        (0.0385, 0.161, 0.813, 3.5, 10.4),
        (0.178, 0.801, 2.7, 10.6, 38.7),
        (0.643, 2.07, 7.71, 32, 137),
        (2.07, 6.85, 27.8, 106, 440),
        (6.88, 26.2, 94.4, 376, 1540),
        (54.4, 228, 975, 4310, 24800),
    ),
    ("gru", "float64", "torch"): (
        (6.7, 7.42, 7.93, 9.53, 16.8),
        (6.95, 8.92, 11, 21.5, 70.7),
        (8.02, 10.3, 18.2, 62.7, 231),
        (8.26, 15.5, 35.6, 140, 565),
        (11.5, 29.6, 69.6, 313, 1350),
        (28, 95.7, 214, 715, 2720),
        (259, 458, 828, 2150, 8250),
    ),
    ("gru", "float64", "fused"): (
        (0.0548, 0.229, 0.836, 3.05, 12.3),
        (0.0778, 0.457, 1.45, 5.75, 19.6),
        (0.456, 1.73, 6.53, 23.4, 102),
        (1.42, 5.05, 19.7, 78.4, 352),
        (4.41, 16.7, 63.7, 247, 1110),
        (16.1, 64.4, 254, 935, 5050),
        (182, 716, 2950, 12800, 56300),
    ),
    ("lstm", "float32", "torch"): (
        (0.277, 0.412, 1.13, 3.45, 13.2),
        (0.331, 0.557, 1.4, 4.32, 20),
        (0.499, 1.02, 3.13, 15.6, 59),
        (1.14, 2.3, 8.46, 39, 151),
        (3.06, 5.78, 19.8, 93.1, 376),
        (11.5, 20.7, 64.8, 237, 966),
        (153, 180, 339, 994, 3230),
    ),
    ("lstm", "float32", "fused"): (
        (0.0295, 0.0964, 0.399, 1.54, 6.23),
        (0.0541, 0.166, 0.735, 2.75, 13.4),
        (0.213, 0.813, 3.17, 13.3, 48.7),
        (0.727, 2.57, 11.3, 43.9, 173),
        (2.31, 8.75, 35, 143, 584),
        (8.85, 34.9, 136, 519, 2290),
        (100, 394, 1630, 6800, 37800),
    ),
    ("lstm", "float64", "torch"): (
        (6.23, 7.03, 7.64, 9.41, 17.9),
        (6.51, 8.5, 12.1, 25.7, 100),
        (7.35, 11.4, 21.5, 79.6, 300),
        (8.19, 17.8, 43.3, 185, 746),
        (12.3, 35.9, 93.4, 350, 1750),
        (49.6, 136, 294, 915, 3590),
        (354, 641, 1130, 2750, 12800),
    ),
    ("lstm", "float64", "fused"): (
        (0.0693, 0.289, 1.06, 3.83, 15.6),
        (0.0982, 0.488, 1.7, 8.07, 23.4),
        (0.582, 2.02, 7.8, 30.7, 124),
        (1.75, 6.53, 25.2, 100, 407),
        (5.05, 19.6, 76.9, 322, 1300),
        (25.3, 104, 402, 1610, 10600),
        (280, 1100, 4280, 21000, 85100),
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
    chunks = max(_FEW, _TRY / _step(kind.partition("_")[0], double, "torch", units, batch))
    return 1 + math.floor((1 - 1e-9) * min(loop, chunks, 1e15))


def _costs(kind: str, units: int, batch: int, double: bool, layers: int, threads: int, changing: bool = False):
    """Seconds of a call and of a step of the fused loop, the same of torch, and the margin between the two."""
    cell = kind.partition("_")[0]
    gates = {"rnn": 1, "gru": 3, "lstm": 4}[cell]
    theirs, ours = (_step(cell, double, which, units, batch) for which in ("torch", "fused"))
    if threads > 1 and batch == 1 and gates * units * units > 1 << 17:
        theirs *= 0.5  # a product of a large matrix and one vector is what torch does on several threads
    if threads > 1 and batch >= _WIDE:
        theirs *= 0.55  # and its element-wise operations on a large batch
    margin = _MARGIN if units <= UNITS[-1] else _MARGIN**2
    weights = gates * units * units * (8 if double else 4) * (_PACKED if changing else _COMPARED)
    fused = _FUSED_CALL + layers * (_FUSED_LAYER + weights)
    fused += (1 + layers) * _PACKING if changing else 0.0
    torch = _TORCH_CALL + layers * (_TORCH_LAYER[cell] + (_ONEDNN if cell == "lstm" and not double else 0.0))
    if batch >= _WIDE:
        torch -= layers * _CACHED * theirs
    return fused, layers * ours, torch, layers * theirs, margin


def chunks_may_win(kind: str, units: int, batch: int, steps: int, inputs: int, *, double: bool) -> bool:
    """Whether chunks of time side by side would be far ahead of torch on one thread, if the network forgets."""
    if steps < _FEW:
        return False
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
