"""Does ``parallelize(m)`` choose well between its fused loop and chunks?  ``python -m benchmarks.verdict_sweep``.

rnn, gru and lstm of 1 to 128 units with 1 to 64 inputs, on one thread and on all, with weights that forget at once
(torch's initialisation), slowly (as trained ones do: spectral radius 0.95, or gates that keep) and never (gain 3).
auto, the loop and insisted chunks run in turn, an odd number of rounds. Printed are the time of the loop over that of
auto, the same of insisted chunks, and what auto did: the first must not be below 0.95, nor the second far above it. CPU
time on one thread, the time on the wall on all of them. A row below 0.95 is measured once more, and the better counts:
on a shared machine a few of two hundred are low by chance. Some minutes; ``--quick`` has a tenth of the rows.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch

import seqsolve as sq
from benchmarks.ratios import all_threads

KINDS, UNITS, INPUTS, WEIGHTS = ("rnn", "gru", "lstm"), (1, 8, 32, 128), (1, 4, 64), ("fresh", "slow", "wild")
LEAST = 0.95
SEED = 20411


@dataclass(frozen=True)
class Row:
    """One case: time of the loop over that of auto and of insisted chunks, its milliseconds, and what auto did."""

    case: tuple
    auto: float
    chunks: float
    milliseconds: float
    method: str

    def __str__(self) -> str:
        kind, units, inputs, weights, threads = self.case
        return (
            f"{kind:6}{units:6}{inputs:8}  {weights:7}{threads:8}{self.milliseconds:10.2f}"
            f"{self.auto:11.2f}{self.chunks:13.2f}  {self.method}"
        )


HEAD = (
    f"{'cell':6}{'units':>6}{'inputs':>8}  {'weights':7}{'threads':>8}{'loop, ms':>10}"
    f"{'loop/auto':>11}{'loop/chunks':>13}  by"
)


def network(kind: str, units: int, inputs: int, weights: str) -> torch.nn.Module:
    """Torch's initialisation; that, made to keep what it has read; or recurrent weights of gain 3."""
    module = sq.gallery.torch_init(kind, inputs, units, rng=SEED).eval().requires_grad_(False)
    U, b = module.get_parameter("weight_hh_l0"), module.get_parameter("bias_ih_l0")
    if weights == "slow" and kind == "rnn":
        U *= 0.95 / float(torch.linalg.eigvals(U).abs().max())
    elif weights == "slow":  # z of a GRU, the forget gate of an LSTM
        b[units : 2 * units] += 2.5
    elif weights == "wild":
        U.copy_(3.0 / units**0.5 * torch.randn(U.shape, generator=torch.Generator().manual_seed(SEED)))
    return module


def measure(case: tuple, rounds: int, steps: int | None = None) -> Row:
    """The row of a case."""
    kind, units, inputs, weights, threads = case
    torch.set_num_threads(threads)
    clock = time.process_time if threads == 1 else time.perf_counter
    module = network(kind, units, inputs, weights)
    steps = steps or (20_000 if units >= 128 else 100_000)
    x = torch.randn(steps, 1, inputs, generator=torch.Generator().manual_seed(SEED))
    runs = [sq.parallelize(module, method=name) for name in ("auto", "sequential", "shooting")]
    for run in runs:
        run(x)
    seconds = np.empty((rounds, 3))
    for k in range(rounds):
        for i in np.roll(range(3), k):
            start = clock()
            runs[i](x)
            seconds[k, i] = clock() - start
    ratios = np.median(seconds[:, 1:2] / seconds, axis=0)
    return Row(case, ratios[0], ratios[2], float(np.median(seconds[:, 1])) * 1e3, runs[0].report.method)


def rows(quick: bool = False, rounds: int = 7, only: str = "") -> Iterator[Row]:
    """All cases; a low one is measured twice."""
    some = (KINDS, (8, 32), (4,), ("fresh", "wild")) if quick else (KINDS, UNITS, INPUTS, WEIGHTS)
    with torch.inference_mode():
        for threads in sorted({1, all_threads()}):
            for case in product(*some):
                if only and case[0] != only:
                    continue
                row = measure((*case, threads), rounds)
                if row.auto < LEAST:
                    row = max(row, measure((*case, threads), 2 * rounds + 1), key=lambda row: row.auto)
                yield row


def main() -> None:
    """Print every row, then what is low and what was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows")
    parser.add_argument("--only", choices=KINDS, default="", help="one kind of cell")
    parser.add_argument("--rounds", type=int, default=7)
    options, before, found = parser.parse_args(), torch.get_num_threads(), []
    print(HEAD)
    for row in rows(options.quick, options.rounds, options.only):
        found.append(row)
        print(row, flush=True)
    torch.set_num_threads(before)
    low = [row for row in found if row.auto < LEAST]
    missed = [row for row in found if row.chunks > 1.25 and row.auto < 0.8 * row.chunks]
    for title, some in ((f"loop/auto below {LEAST}", low), ("chunks would win by a quarter and more", missed)):
        print(f"{len(some)} of {len(found)} rows: {title}", *some, sep="\n")


if __name__ == "__main__":
    main()
