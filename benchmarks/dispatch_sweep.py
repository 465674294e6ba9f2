"""Is ``parallelize(m)(x)`` anywhere slower than ``m(x)``?  ``python -m benchmarks.dispatch_sweep``, 4 minutes at most.

Every combination of cell, units, batch, steps, dtype and threads that fits in the time: CPU time of both in turn, and
the median over the rounds of their ratio. A row that seems slower is measured once more, and the smaller ratio counts:
on a shared machine a hundred rows give a few such by chance. Kernels that numba has yet to compile take of the time,
so the first run has fewer rows. ``--quick`` has fewer sizes and takes 45 seconds. Printed are the twenty worst, and the
share above 1.05.
"""

import argparse
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch

import seqsolve as sq

CELLS = ("RNN", "GRU", "LSTM")
UNITS, BATCHES, STEPS = (1, 8, 32, 128, 512), (1, 4, 32, 256), (1, 2, 8, 64, 1000)
QUICK_UNITS, QUICK_BATCHES = (1, 32, 256), (1, 32)
SLOWER = 1.05
_LONGEST, _ROUND = 0.1, 1e-3  # seconds that one call of torch may take, and that a round lasts at least


@dataclass(frozen=True)
class Row:
    """One case: CPU time of ours over torch's, torch's microseconds, and who did the work."""

    case: tuple
    ratio: float
    microseconds: float
    method: str

    def __str__(self) -> str:
        cell, units, batch, steps, dtype, threads = self.case
        return (
            f"{cell:5}{units:6}{batch:7}{steps:7}{str(dtype)[6:]:>9}{threads:9}"
            f"{self.microseconds:14.1f}{self.ratio:8.2f}  {self.method}"
        )


HEAD = f"{'cell':5}{'units':>6}{'batch':>7}{'steps':>7}{'dtype':>9}{'threads':>9}{'torch, us':>14}{'ratio':>8}  by"


def cases(quick: bool) -> Iterator[tuple]:
    """(cell, units, batch, steps, dtype, threads), the threads outermost: changing them is slow."""
    threads = sorted({1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1})
    units, batches = (QUICK_UNITS, QUICK_BATCHES) if quick else (UNITS, BATCHES)
    for n, dtype, cell, H, B, T in product(threads, (torch.float32, torch.float64), CELLS, units, batches, STEPS):
        yield cell, H, B, T, dtype, n


def measure(case: tuple, rounds: int) -> Row | None:
    """The row of a case; None where a call of torch is estimated to take too long."""
    cell, units, batch, steps, dtype, threads = case
    if batch * steps * units * (units + 20) * 4e-10 > _LONGEST or steps * batch * units > 1 << 21:
        return None
    torch.set_num_threads(threads)
    module = getattr(torch.nn, cell)(min(units, 64), units, dtype=dtype)
    fast, x = sq.parallelize(module), torch.randn(steps, batch, min(units, 64), dtype=dtype)
    fast(x)
    start = time.perf_counter()
    module(x)
    repeats = 1 + int(_ROUND / max(time.perf_counter() - start, 1e-6))
    ratios, theirs = [], []
    for shift in range(rounds):
        seconds = {}
        for run in (fast, module) if shift % 2 else (module, fast):
            run(x)
            start = time.process_time()
            for _ in range(repeats):
                run(x)
            seconds[run] = (time.process_time() - start) / repeats
        ratios.append(seconds[fast] / max(seconds[module], 1e-7))
        theirs.append(seconds[module])
    return Row(case, float(np.median(ratios)), float(np.median(theirs)) * 1e6, fast.report.method)


def rows(quick: bool = False, budget: float = 210.0) -> Iterator[Row]:
    """All cases in an order drawn once within each number of threads, until the seconds of the budget are spent."""
    everything, rng = list(cases(quick)), np.random.default_rng(20)
    end, levels = time.perf_counter() + budget, sorted({case[-1] for case in everything})
    with torch.inference_mode():
        for k, threads in enumerate(levels):
            mine = [case for case in everything if case[-1] == threads]
            stop = time.perf_counter() + (end - time.perf_counter()) / (len(levels) - k)
            for i in rng.permutation(len(mine)):
                if time.perf_counter() > stop:
                    break
                row = measure(mine[i], 5)
                if row is not None and row.ratio > SLOWER:
                    again = measure(mine[i], 9)
                    row = min(row, again or row, key=lambda r: r.ratio)
                if row is not None:
                    yield row


def main() -> None:
    """Print the worst rows and how many are slower than torch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer sizes, under a minute")
    quick = parser.parse_args().quick
    before = torch.get_num_threads()
    found = sorted(rows(quick, 45.0 if quick else 210.0), key=lambda row: -row.ratio)
    torch.set_num_threads(before)
    print(HEAD, *found[:20], sep="\n")
    slower = sum(row.ratio > SLOWER for row in found)
    print(
        f"{slower} of {len(found)} rows ({slower / len(found):.1%}) are more than {SLOWER - 1:.0%} slower than torch;"
        f" median ratio {np.median([row.ratio for row in found]):.2f}"
    )


if __name__ == "__main__":
    main()
