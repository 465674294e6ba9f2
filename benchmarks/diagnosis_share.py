"""What the verdict of auto and `diagnose` cost, in per cent of the loop: ``python -m benchmarks.diagnosis_share``.

Known cells against their fused loop and tanh steps in torch against the loop over them, that forget (torch's
initialisation, gain 0.7) and that do not (gain 3), by the number of steps; CPU time on one thread, medians of rounds in
turn, all kernels loaded and the pace of each size known. For steps in torch, at most 1e5 of them, ``solve`` with
method="auto" stands beside, certificate included. A minute or two; ``--quick`` leaves out the longest.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

import seqsolve as sq
from seqsolve.recurrence import as_recurrence
from seqsolve.verdict import verdict

SEED = 20413
CELLS, STEPS = ((8, "forgets"), (32, "forgets"), (32, "wild")), ((2, 0.7), (32, 0.7), (8, 3.0))


def _seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def cell(units: int, weights: str, steps: int) -> tuple[str, object, torch.Tensor, torch.Tensor]:
    """A GRU with 4 inputs."""
    module = sq.gallery.torch_init("gru", 4, units, rng=SEED).requires_grad_(False)
    if weights == "wild":
        module.get_parameter("weight_hh_l0").mul_(3 * 3**0.5)
    u = torch.randn(steps, 4, generator=torch.Generator().manual_seed(SEED))
    return f"GRU, {units} units, {weights}", module, torch.zeros(units), u


def tanh_step(units: int, gain: float, steps: int) -> tuple[str, object, torch.Tensor, torch.Tensor]:
    """A step in torch, of which nothing is known."""
    A = sq.gallery.tanh_rnn(units, gain, rng=SEED, dtype=torch.float32).get_parameter("weight_hh_l0").detach()
    u = torch.randn(steps, units, generator=torch.Generator().manual_seed(SEED))

    def step(x, v):
        return torch.tanh(x @ A.T + v)

    return f"torch step, {units} numbers, gain {gain}", step, torch.zeros(units), u


def row(name: str, step, x0: torch.Tensor, u: torch.Tensor, rounds: int) -> str:
    """One line: the loop in milliseconds, and the shares of it."""
    problem = as_recurrence(step, x0, u)
    calls = (
        lambda: problem.advance(x0, 0, len(u)),
        lambda: verdict(as_recurrence(step, x0, u)),
        lambda: sq.diagnose(step, x0, u),
        lambda: sq.solve(step, x0, u),
    )
    known = not callable(getattr(problem, "apply", None))
    calls = calls[:3] if known else calls
    for call in calls:
        call()
    seconds = np.median([[_seconds(call) for call in calls] for _ in range(rounds)], axis=0)
    shares = "".join(f"{100 * s / seconds[0]:10.1f} %" for s in seconds[1:])
    shares += 12 * " " if known else ""
    return f"{name:34}{len(u):9,}{1e3 * seconds[0]:10.1f}{shares}  {verdict(problem).method}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="at most 100,000 steps of a cell and 10,000 of torch's")
    quick = parser.parse_args().quick
    print(f"{'':34}{'steps':>9}{'loop, ms':>10}{'verdict':>12}{'diagnose':>12}{'solve':>12}  by")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.no_grad():
        for steps in (10_000, 100_000) if quick else (10_000, 100_000, 1_000_000):
            for units, weights in CELLS:
                print(row(*cell(units, weights, steps), 5 if steps < 1e6 else 3), flush=True)
        for steps in (10_000,) if quick else (10_000, 100_000):
            for units, gain in STEPS:
                print(row(*tanh_step(units, gain, steps), 5 if steps < 1e5 else 3), flush=True)
    torch.set_num_threads(before)


if __name__ == "__main__":
    main()
