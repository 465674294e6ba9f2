"""Measure the tables of `seqsolve/dispatch.py`: ``python -m benchmarks.dispatch_table`` prints them, some minutes.

Microseconds a step of torch's own module and of the fused loop, one thread, by units and batch. The two run in turn;
a step is the difference of a long and a short call, each the best CPU time of seven rounds, so that other work on the
machine matters little. ``--lanes`` prints nanoseconds a step of one sequence where every vector lane is one, beside
what `cells.lane_seconds` says of them.
"""

import argparse
import time

import numpy as np
import torch

import seqsolve as sq
from seqsolve.dispatch import BATCHES, UNITS
from seqsolve.lanes import Lanes
from seqsolve.recurrence import as_recurrence

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


def _step_microseconds(kind, units, batch, dtype):
    """(torch, fused) for one step of a whole batch."""
    module = getattr(torch.nn, kind.upper())(min(units, 64), units, dtype=dtype)
    fast = sq.parallelize(module, method="sequential")

    def calls(steps):
        x = torch.randn(steps, batch, module.input_size, dtype=dtype)
        return [lambda: module(x), lambda: fast(x)]

    short = 4
    start = _best_seconds(calls(short), rounds=1, least=0)
    long = int(max(2 * short, min(_LONG, _BUDGET / max(start) * short)))
    few, many = _best_seconds(calls(short)), _best_seconds(calls(long))
    return [max((b - a) / (long - short) * 1e6, 1e-3) for a, b in zip(few, many, strict=True)]


def _lanes():
    """Four registers of sequences, 64 steps each, by kind, width of the numbers and units."""
    print(f"{'cell':5} {'dtype':8} {'inputs':>6} {'units':>5} {'ns a step':>10} {'model':>8}")
    for kind in ("rnn", "gru", "lstm"):
        for dtype in (torch.float32, torch.float64):
            for inputs, units in ((1, 1), (4, 1), (4, 4), (4, 8), (4, 16), (4, 32), (32, 32), (4, 64), (64, 128)):
                module = getattr(torch.nn, kind.upper())(inputs, units, dtype=dtype)
                lanes = Lanes(as_recurrence(module, torch.zeros(units * (1 + (kind == "lstm")), dtype=dtype),
                                            torch.zeros(1, inputs, dtype=dtype)).weights)  # pyright: ignore # fmt: skip
                count, steps = 4 * len(lanes.lanes), 64
                x = np.random.default_rng(7).standard_normal((count * steps, inputs)).astype(lanes.dtype)
                states = np.zeros((count, lanes.size), lanes.dtype)
                out, starts = np.empty((count * steps, units), lanes.dtype), np.arange(count) * steps

                def call(lanes=lanes, x=x, states=states, out=out, starts=starts, steps=steps):
                    lanes.advance(x, states, out, starts, starts, steps)

                each = _best_seconds([call])[0] / (count * steps)
                print(f"{kind:5} {str(dtype)[6:]:8} {inputs:6} {units:5} {1e9 * each:10.2f} {1e9 * lanes.seconds:8.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lanes", action="store_true")
    torch.set_num_threads(1)
    if parser.parse_args().lanes:
        _lanes()
        return
    with torch.inference_mode():
        for kind in ("rnn", "gru", "lstm"):
            for dtype in (torch.float32, torch.float64):
                rows = [[_step_microseconds(kind, units, batch, dtype) for batch in BATCHES] for units in UNITS]
                for which, name in enumerate(("torch", "fused")):
                    values = ", ".join("(" + ", ".join(f"{r[which]:.3g}" for r in row) + ")" for row in rows)
                    print(f'    ("{kind}", {str(dtype)[6:]!r}, "{name}"): ({values}),', flush=True)


if __name__ == "__main__":
    main()
