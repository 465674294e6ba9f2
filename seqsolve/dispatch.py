"""Which of the two is faster, the fused loop or torch's own: a measured rule.

Both are estimated by the table of steps in `step_table`, whose logarithms are interpolated between its entries. To a
step comes what a call costs before its first step: the fused loop compares the weights with those of the last call, so
that a change of them is always seen, and packs them again after one. In training a call is a forward and a backward
pass, and the weights change from one to the next.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from functools import lru_cache

from .cells import lane_seconds
from .step_table import BATCHES, STEP, UNITS

_MARGIN, _TRAINING_MARGIN = 0.77, 0.75  # the fused loop must be estimated this much faster: machines differ
_AHEAD, _TRY = 0.4, 5e-3  # of torch's seconds that chunks may take, and how many of these make a burn-in worth trying
_FUSED_CALL, _FUSED_LAYER = 2.6e-5, 1.4e-5  # seconds before the first step, as `benchmarks.dispatch_sweep` shows
_FEW = 160  # steps below which a twentieth of them, what a burn-in may take, is no burn-in
_WIDE, _CACHED = 64, 1.8  # a large batch, and what its first steps, all in cache, save torch of the time of later ones
_TORCH_CALL, _TORCH_LAYER = 3e-6, {"rnn": 1e-5, "gru": 1.2e-5, "lstm": 1.2e-5}  # by `handover.py`
_ONEDNN = 3e-5  # more of that for an LSTM in float32, which oneDNN prepares afresh for every call
# the same of a forward and a backward pass: packing, and the products over all steps
_TRAINING_CALL, _TRAINING_LAYER, _TRAINING_TORCH, _TRAINING_ONEDNN = 1e-4, 3e-4, 4e-5, 2e-4
_MEASURED = 64  # inputs of the modules in the table, or as many as units where these are fewer
_INPUT = {"fused": 2.5e-11, "torch": 8e-12}  # seconds a multiply-add of the product of inputs and weights, in float32
_COMPARED, _PACKED = 3e-10, 5e-9  # seconds a byte of U where the weights are as before, and in training


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
    training: bool = False,
    inputs: int | None = None,
) -> tuple[bool, str]:
    """Whether to take the fused loop, and why.

    kind : "rnn_tanh", "rnn_relu", "gru" or "lstm".  double : float64.  layers : layers times directions.
    training : a backward pass follows, and other weights come with the next call.
    inputs : of the first layer; None is as many as the table was measured with.
    """
    fused, a, torch, b, margin = _costs(kind, units, batch, double, layers, threads, training, inputs)
    fused, torch = fused + steps * a, torch + steps * b
    figures = f"about {_time(fused)} against {_time(torch)} of torch's own"
    if fused < margin * torch:
        return True, f"one fused loop is faster here: {figures}"
    return False, f"the fused loop is not surely faster here: {figures}, and it runs only below {margin:.0%} of that"


@lru_cache(4096)
def shortest(
    mode: str, units: int, layers: int, dtype, batch: int, threads: int, training: bool = False,
    inputs: int | None = None,
) -> float:  # fmt: skip
    """Steps from which on anything but torch's own function is worth a thought; below them it never is.

    mode : as torch writes it.  layers : layers times directions.  dtype : that of the input.
    training, inputs : as in `choose`.
    """
    if not batch or not units:
        return math.inf
    kind, double = mode.lower(), str(dtype) == "torch.float64"
    fused, a, torch, b, margin = _costs(kind, units, batch, double, layers, threads, training, inputs)
    gain = margin * b - a
    loop = 0.0 if fused < margin * torch else (fused - margin * torch) / gain if gain > 0 else math.inf
    chunks = max(_FEW, _TRY / _step(kind.partition("_")[0], double, "torch", units, batch))
    return 1 + math.floor((1 - 1e-9) * min(loop, chunks, 1e15))


def _costs(
    kind: str, units: int, batch: int, double: bool, layers: int, threads: int, training: bool, inputs: int | None
):
    """Seconds of a call and of a step of the fused loop, the same of torch, and the margin between the two."""
    cell = kind.partition("_")[0]
    gates = {"rnn": 1, "gru": 3, "lstm": 4}[cell]
    which = ("torch training", "fused training") if training else ("torch", "fused")
    theirs, ours = (_step(cell, double, name, units, batch) for name in which)
    if threads > 1 and batch == 1 and gates * units * units > 1 << 17:
        theirs *= 0.5  # a product of a large matrix and one vector is what torch does on several threads
    if threads > 1 and batch >= _WIDE:
        theirs *= 0.55  # and its element-wise operations on a large batch
    margin = _TRAINING_MARGIN if training else _MARGIN
    margin = margin if units <= UNITS[-1] else margin**2
    weights = gates * units * units * (8 if double else 4) * (_PACKED if training else _COMPARED)
    prepared = cell == "lstm" and not double
    if training:
        fused = _TRAINING_CALL + layers * (_TRAINING_LAYER + weights)
        torch = layers * (_TRAINING_TORCH + (_TRAINING_ONEDNN if prepared else 0.0))
        return fused, layers * ours, torch, layers * theirs, margin
    fused = _FUSED_CALL + layers * (_FUSED_LAYER + weights)
    torch = _TORCH_CALL + layers * (_TORCH_LAYER[cell] + (_ONEDNN if prepared else 0.0))
    if batch >= _WIDE:
        torch -= layers * _CACHED * theirs
    ours, theirs = (
        layers * step + max(_of_inputs(which, gates, units, batch, inputs, double), -0.6 * step)
        for which, step in (("fused", ours), ("torch", theirs))
    )
    return fused, ours, torch, theirs, margin


def _of_inputs(which: str, gates: int, units: int, batch: int, inputs: int | None, double: bool) -> float:
    """Seconds that the product with the inputs takes beyond what it took in the table."""
    if inputs is None:
        return 0.0
    return (inputs - min(units, _MEASURED)) * gates * units * batch * _INPUT[which] * (2 if double else 1)


def chunks_may_win(kind: str, units: int, batch: int, steps: int, inputs: int, *, double: bool) -> bool:
    """Whether chunks of time side by side would be far ahead of torch on one thread, if the network forgets."""
    if steps < _FEW:
        return False
    theirs = steps * _step(kind.partition("_")[0], double, "torch", units, batch)
    ours = steps * batch * lane_seconds(kind, units, inputs, 8 if double else 4)
    return theirs > _TRY and ours < _AHEAD * theirs


def fused_seconds(weights, batch: int) -> float:
    """Seconds a step of the fused loop of one direction of one layer."""
    cell, double, inputs = weights.kind.partition("_")[0], weights.w_hh.itemsize == 8, weights.w_ih.shape[1]
    step = _step(cell, double, "fused", weights.hidden, batch)
    gates = {"rnn": 1, "gru": 3, "lstm": 4}[cell]
    return step + max(_of_inputs("fused", gates, weights.hidden, batch, inputs, double), -0.6 * step)


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
