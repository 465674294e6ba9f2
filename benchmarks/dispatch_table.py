"""Measure the tables of `seqsolve/step_table.py`: ``python -m benchmarks.dispatch_table`` prints them, some minutes.

Microseconds a step of torch's own module and of the fused loop, one thread, by units and batch. The two run in turn;
a step is the difference of a long and a short call, each the best CPU time of seven rounds, so that other work on the
machine matters little. ``--training`` prints those of a forward and a backward pass. ``--lanes`` prints nanoseconds a
step of one sequence where every vector lane is one, beside what `cells.lane_seconds` says of them.
"""

import argparse
import time

import numpy as np
import torch

import seqsolve as sq
from seqsolve.lanes import Lanes
from seqsolve.recurrence import as_recurrence
from seqsolve.step_table import BATCHES, UNITS

_BUDGET, _LONG = 0.06, 20_000  # seconds and steps that one call may take at most


def _best_seconds(calls, rounds=7, least=2e-3):
    repeats = []
    for call in calls:
        call()
        start = time.thread_time()
        call()
        repeats.append(max(1, int(least / (time.thread_time() - start))))
    times = [[] for _ in calls]
    for _ in range(rounds):
        for call, count, mine in zip(calls, repeats, times, strict=True):
            start = time.thread_time()
            for _ in range(count):
                call()
            mine.append((time.thread_time() - start) / count)
    return [min(mine) for mine in times]


def _step_microseconds(kind, units, batch, dtype, training=False):
    """(torch, fused) for one step of a whole batch, forward alone or with the backward pass."""
    module = getattr(torch.nn, kind.upper())(min(units, 64), units, dtype=dtype)
    fast = sq.parallelize(module, method="sequential")

    def calls(steps):
        x = torch.randn(steps, batch, module.input_size, dtype=dtype, requires_grad=training)
        if not training:
            return [lambda: module(x), lambda: fast(x)]
        g, leaves = torch.randn(steps, batch, units, dtype=dtype), [x, *module.parameters()]
        return [lambda run=run: torch.autograd.grad(run(x)[0], leaves, g) for run in (module, fast)]

    short = 4
    start = _best_seconds(calls(short), rounds=1, least=0)
    long = int(max(2 * short, min(_LONG, _BUDGET / max(start) * short)))
    if training:  # before the first step comes more, which has to be told from the steps
        long = int(max(2 * short, min(_LONG, 2 * _BUDGET / max(_best_seconds(calls(long), rounds=2, least=0)) * long)))
    few, many = _best_seconds(calls(short)), _best_seconds(calls(long))
    return [max((b - a) / (long - short) * 1e6, 1e-3) for a, b in zip(few, many, strict=True)]


def _lanes():
    """Eight registers of sequences, 64 to 512 steps each, by kind, width of the numbers and units."""
    print(f"{'cell':5} {'dtype':8} {'inputs':>6} {'units':>5} {'ns a step':>10} {'model':>8}")
    for kind in ("rnn", "gru", "lstm"):
        for dtype in (torch.float32, torch.float64):
            for inputs, units in ((1, 1), (4, 1), (4, 4), (4, 8), (4, 16), (4, 32), (32, 32), (4, 64), (64, 128)):
                module = getattr(torch.nn, kind.upper())(inputs, units, dtype=dtype)
                lanes = Lanes(as_recurrence(module, torch.zeros(units * (1 + (kind == "lstm")), dtype=dtype),
                                            torch.zeros(1, inputs, dtype=dtype)).weights)  # pyright: ignore # fmt: skip
                count = 8 * len(lanes.lanes)
                steps = min(512, max(64, 3_000_000 // (count * units * units)))
                x = np.random.default_rng(7).standard_normal((count * steps, inputs)).astype(lanes.dtype)
                states = np.zeros((count, lanes.size), lanes.dtype)
                out, starts = np.empty((count * steps, units), lanes.dtype), np.arange(count) * steps

                def call(lanes=lanes, x=x, states=states, out=out, starts=starts, steps=steps):
                    lanes.advance(x, states, out, starts, starts, steps)

                each = _best_seconds([call], rounds=11)[0] / (count * steps)
                print(f"{kind:5} {str(dtype)[6:]:8} {inputs:6} {units:5} {1e9 * each:10.2f} {1e9 * lanes.seconds:8.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lanes", action="store_true")
    parser.add_argument("--training", action="store_true")
    torch.set_num_threads(1)
    given = parser.parse_args()
    if given.lanes:
        _lanes()
        return
    torch.autograd.set_multithreading_enabled(False)  # the clock is that of this thread
    with torch.inference_mode(not given.training):
        for kind in ("rnn", "gru", "lstm"):
            for dtype in (torch.float32, torch.float64):
                rows = [
                    [_step_microseconds(kind, units, batch, dtype, given.training) for batch in BATCHES]
                    for units in UNITS
                ]
                names = ("torch training", "fused training") if given.training else ("torch", "fused")
                for which, name in enumerate(names):
                    values = ", ".join("(" + ", ".join(f"{r[which]:.3g}" for r in row) + ")" for row in rows)
                    print(f'    ("{kind}", {str(dtype)[6:]!r}, "{name}"): ({values}),', flush=True)


if __name__ == "__main__":
    main()
