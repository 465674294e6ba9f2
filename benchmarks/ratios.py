"""Race several implementations of one job in turn, and report ratios of medians with quartiles.

The machine may be shared and noisy, so a duration alone says little. In every round each contender runs once, in an
order that rotates; a ratio is formed within each round, and the median over the rounds is what is quoted.
"""

import gc
import os
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import numpy as np
from threadpoolctl import threadpool_limits

ROUNDS = 7
# OpenBLAS's threads spin for about 2^26 cycles after their last product. On as many cores as threads they would take
# one away from whoever runs next, so a race on several threads waits for them before a long run.
SETTLE = 0.05  # seconds


@dataclass(frozen=True)
class Quartiles:
    """Median with the lower and upper quartile of one figure over the rounds."""

    median: float
    lower: float
    upper: float

    @classmethod
    def of(cls, values) -> "Quartiles":
        lower, median, upper = np.quantile(np.asarray(values, dtype=float), [0.25, 0.5, 0.75])
        return cls(float(median), float(lower), float(upper))

    def __format__(self, spec: str) -> str:
        spec = spec or ".3g"
        return f"{self.median:{spec}} [{self.lower:{spec}}, {self.upper:{spec}}]"


@dataclass(frozen=True)
class Race:
    """What one race measured; `wall` and `cpu` are seconds by contender and round, `error` what each returned."""

    name: str
    threads: int
    wall: dict[str, list[float]]
    cpu: dict[str, list[float]]
    error: dict[str, float | None] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def ratio(self, contender: str, to: str, clock: str = "wall") -> Quartiles:
        """Time of `contender` over time of `to`, formed round by round."""
        seconds = self.wall if clock == "wall" else self.cpu
        tick = time.get_clock_info("process_time").resolution
        pairs = zip(seconds[contender], seconds[to], strict=True)
        return Quartiles.of([max(mine, tick) / max(theirs, tick) for mine, theirs in pairs])


def race(
    name: str,
    contenders: Mapping[str, Callable[[], object]],
    *,
    rounds: int = ROUNDS,
    threads: int = 1,
    error: Mapping[str, Callable[[object], float]] | Callable[[object], float] | None = None,
    absent: Mapping[str, str] | None = None,
    min_seconds: float = 2e-3,
) -> Race:
    """Run each contender once a round for `rounds` rounds, after one warm-up each.

    Parameters
    ----------
    name : what the race is about, as a person reads it in the report.
    contenders : a callable without arguments for each library; the first is ours.
    rounds : at least 7 for a figure that is quoted.
    threads : threads that BLAS, OpenMP, torch and ``workers=None`` may use while the race runs.
    error : one function of a contender's result, or one a contender; its value stands beside the time.
    absent : peers that could not be imported, with the reason; the report shows them as n/a.
    min_seconds : a contender faster than this is repeated inside a round until the round lasts that long.
    """
    wall: dict[str, list[float]] = {key: [] for key in contenders}
    cpu: dict[str, list[float]] = {key: [] for key in contenders}
    errors: dict[str, float | None] = {}
    with thread_limit(threads):
        repeats = {}
        for key, run in contenders.items():
            result = run()
            judge = error.get(key) if isinstance(error, Mapping) else error
            errors[key] = None if judge is None else float(judge(result))
            del result
            start = time.perf_counter()
            run()
            once = time.perf_counter() - start
            repeats[key] = max(1, int(np.ceil(min_seconds / max(once, 1e-7))))
        order = list(contenders)
        gc.collect()
        gc.freeze()  # the peers' modules hold a million objects, which no round has to walk through again
        for shift in range(rounds):
            for key in order[shift % len(order) :] + order[: shift % len(order)]:
                run, times = contenders[key], repeats[key]
                gc.collect()
                if threads > 1 and times == 1:
                    time.sleep(SETTLE)
                cpu_start, wall_start = time.process_time(), time.perf_counter()
                for _ in range(times):
                    run()
                wall[key].append((time.perf_counter() - wall_start) / times)
                cpu[key].append((time.process_time() - cpu_start) / times)
        gc.unfreeze()
    return Race(name, threads, wall, cpu, errors, dict(absent or {}))


@contextmanager
def thread_limit(threads: int):
    """Confine BLAS, OpenMP, torch and, through the scheduler, every ``workers=None`` to `threads` cores."""
    with ExitStack() as stack:
        stack.enter_context(threadpool_limits(limits=threads))
        if hasattr(os, "sched_setaffinity"):
            before = os.sched_getaffinity(0)
            os.sched_setaffinity(0, set(sorted(before)[:threads]))
            stack.callback(os.sched_setaffinity, 0, before)
        import sys

        if "torch" in sys.modules:
            import torch

            stack.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(threads)
        yield


def all_threads() -> int:
    """Cores this process may use: the second column of every table."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
