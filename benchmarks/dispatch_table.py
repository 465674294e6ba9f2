"""Measure the tables of `seqsolve/dispatch.py`: ``python -m benchmarks.dispatch_table`` prints them, about 3 minutes.

Microseconds a step of torch's own module and of the fused loop, one thread, by units and batch. The two run in turn;
a step is the difference of a long and a short call, each the best CPU time of seven rounds, so that other work on the
machine matters little.
"""

import time

import torch

import seqsolve as sq
from seqsolve.dispatch import BATCHES, UNITS

_BUDGET = 0.06  # seconds that one call may take at most


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
    long = int(max(2 * short, min(256, _BUDGET / max(start) * short)))
    few, many = _best_seconds(calls(short)), _best_seconds(calls(long))
    return [max((b - a) / (long - short) * 1e6, 0.02) for a, b in zip(few, many, strict=True)]


def main():
    torch.set_num_threads(1)
    with torch.inference_mode():
        for kind in ("rnn", "gru", "lstm"):
            for dtype in (torch.float32, torch.float64):
                rows = [[_step_microseconds(kind, units, batch, dtype) for batch in BATCHES] for units in UNITS]
                for which, name in enumerate(("torch", "fused")):
                    values = ", ".join("(" + ", ".join(f"{r[which]:.3g}" for r in row) + ")" for row in rows)
                    print(f'    ("{kind}", {str(dtype)[6:]!r}, "{name}"): ({values}),', flush=True)


if __name__ == "__main__":
    main()
