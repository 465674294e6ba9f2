"""Which method solves a recurrence: what ``method="auto"`` follows, from as little work as decides it.

What is measured comes in the order of its price. Pairs of trajectories (the burn-in of `shooting`) tell whether chunks
of time can run side by side; that is all a cell with a fused loop needs, since no iteration beats such a loop on a CPU.
Where chunks of a user's step promise a quarter of the time, they are taken. Otherwise errors are carried through a
sample of the steps (is it chaotic?), and the methods are tried on it in turn.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ._torch_threads import few_threads
from .conditioning import Growth
from .driver import Run
from .lanes import CALL, PAYS, SHARE
from .methods import METHODS
from .recurrence import CellRecurrence, Recurrence
from .results import HISTORY
from .shooting import burn_in, flow_of, loop_seconds, unmet

FEWEST, SAMPLE, PART = 128, 512, 400  # steps of a sample: at least, at most, and one of so many in between
_SHORT = 128  # below this many steps there is nothing to save
_TIMED = 16  # steps that the time of one is taken from
_FLOOR, _MOST = 0.03, 0.1  # seconds that trials may take of a short sequence, and the part of its time
_TRIAL = 4e-3  # seconds below which trials cannot show anything
_WORTH = 4e-3  # seconds of a fused loop from which on pairs are followed
_ENOUGH = 0.25  # of the time of the steps in order: where chunks promise that, nothing else is tried
_GROWING = 3  # times its best time that a sample may take while windows still grow
_MARGIN = 0.8  # of the time of the steps in order, which a method must stay below to be chosen
_PROMISE = ("newton", "chord", "elk", "frozen", "constant", "quasi")  # tried first


@dataclass(frozen=True)
class Prediction:
    """What a method is expected to need for the whole sequence; measured on a sample and scaled up.

    complete : False where the trial was called off since another method was done sooner, or never begun (sweeps is NaN
        then) since nothing was left of what trials may take: it needs at least that much.
    """

    sweeps: float
    seconds: float
    complete: bool = True


@dataclass(frozen=True)
class Verdict:
    """The method that fits, and what that was seen from.

    method, reason : of `Solution`.  burn : burn-in of "shooting", which need not be found again.
    predictions : what was predicted on the way.  lyapunov : where it was needed, else None.
    """

    method: str
    reason: str
    burn: int | None = None
    predictions: dict[str, Prediction] = field(default_factory=dict)
    lyapunov: float | None = None


def verdict(problem: Recurrence, tol: float | None = None) -> Verdict:
    """Method and reason for ``method="auto"``; `tol` as in `solve`."""
    if not problem.x0.numel() or not problem.steps:
        return Verdict("sequential", "there is nothing to compute")
    tol = 32 * torch.finfo(problem.x0.dtype).eps if tol is None else tol
    if isinstance(problem, CellRecurrence):
        return _of_a_cell(problem, tol)
    if getattr(problem, "fused", False):
        return Verdict("sequential", f"{problem.name} has a fused loop, which no iteration beats on a CPU")
    if problem.steps <= _SHORT:
        return Verdict("sequential", f"{problem.steps} steps are too few to gain from anything else")
    return _of_a_step(problem, tol)


def _of_a_cell(problem: CellRecurrence, tol: float) -> Verdict:
    """Chunks as vector lanes, or the fused loop."""
    ordered = loop_seconds(problem) * problem.steps
    found = {"sequential": Prediction(1.0, ordered)}
    if ordered < max(_WORTH, CALL / PAYS):
        return Verdict(
            "sequential", f"{problem.name} has a fused loop, and about {ordered:.2g} s of it are too few for more",
            predictions=found,
        )  # fmt: skip
    flow = _flow(problem)
    promising = flow.measure(problem.x0.reshape(flow.shape))
    ordered = flow.pace.order * problem.steps
    found["sequential"] = Prediction(1.0, ordered)
    if not promising:
        found["shooting"] = Prediction(math.nan, flow.pace.lane * flow.batch * problem.steps, False)
        reason = f"{problem.name} has a fused loop, about {ordered:.2g} s for all steps, and chunks would not be faster"
        return Verdict("sequential", reason, predictions=found)
    found["shooting"], burn, reason = _chunks(problem, flow, tol, PAYS * ordered)
    if burn is None:
        reason = f"{reason}: {problem.name} has a fused loop, about {ordered:.2g} s for all steps"
        return Verdict("sequential", reason, predictions=found)
    reason = f"{reason}: about {found['shooting'].seconds:.2g} s, and its fused loop {ordered:.2g} s"
    return Verdict("shooting", reason, burn, found)


def _of_a_step(problem: Recurrence, tol: float) -> Verdict:
    ordered = step_seconds(problem) * problem.steps
    found = {"sequential": Prediction(1.0, ordered)}
    clean = _finite(problem)
    if clean:
        found["shooting"], burn, reason = _chunks(problem, _flow(problem), tol, _MARGIN * ordered)
        chunks = found["shooting"].seconds
        if burn is not None and chunks <= _ENOUGH * ordered:
            reason = f"{reason}: about {chunks:.2g} s for all steps, sequential {ordered:.2g} s"
            return Verdict("shooting", reason, burn, found)
    else:
        burn, reason = None, "NaN or inf stands among the inputs"
    allowed = max(SHARE * ordered, min(_FLOOR, _MOST * ordered))
    if clean and allowed < _TRIAL:
        if burn is not None:
            return Verdict("shooting", f"{reason}: about {found['shooting'].seconds:.2g} s for all steps", burn, found)
        reason = f"{reason}, and about {ordered:.2g} s for all steps in order are too few for trials"
        return Verdict("sequential", reason, predictions=found)
    states, known = sampled(problem)
    if known < len(states):
        reason = f"the states stop being finite at step {known}"
        return Verdict("sequential", reason, predictions=found)
    if not clean:
        return Verdict("sequential", reason, predictions=found)
    lyapunov = exponent(problem, states, known)
    if lyapunov > 0:
        reason = (
            f"the Lyapunov exponent is {lyapunov:+.3f}: it is chaotic, and only the steps in order define the states"
        )
        return Verdict("sequential", reason, predictions=found, lyapunov=lyapunov)
    best = min(p.seconds for p in found.values() if p.complete)
    found |= race(problem, known, best, time.perf_counter() + allowed / 2)
    method, reason = _fastest(found)
    return Verdict(method, reason, burn if method == "shooting" else None, found, lyapunov)


def step_seconds(problem: Recurrence) -> float:
    """Seconds of one step in order: the faster of two goes."""
    few, seconds = min(_TIMED, problem.steps), []
    problem.advance(problem.x0, 0, min(2, few))  # compiles what has to be compiled
    for _ in range(2):
        begin = time.perf_counter()
        problem.advance(problem.x0, 0, few)
        seconds.append(time.perf_counter() - begin)
    return min(seconds) / few


def sampled(problem: Recurrence) -> tuple[torch.Tensor, int]:
    """The states of the first steps in order, and how many of them are finite."""
    states = problem.advance(problem.x0, 0, min(problem.steps, SAMPLE, max(FEWEST, problem.steps // PART)))
    finite = torch.isfinite(states).flatten(1).all(1)
    return states, len(states) if bool(finite.all()) else int((~finite).byte().argmax())


def exponent(problem: Recurrence, states: torch.Tensor, known: int) -> float:
    """The Lyapunov exponent along the sample."""
    growth = Growth(problem, torch.finfo(states.dtype).eps)
    with few_threads():
        growth.run(states, 0, known)
    return growth.lyapunov if growth.lyapunov is not None else math.nan


def _flow(problem: Recurrence) -> Any:
    states = torch.empty((problem.steps, *problem.x0.shape), dtype=problem.x0.dtype)
    return flow_of(problem, states, torch.get_num_threads())


def _chunks(problem: Recurrence, flow: Any, tol: float, limit: float) -> tuple[Prediction, int | None, str]:
    """What shooting needs, the burn-in if it is below `limit` seconds, and what the pairs did."""
    begin = time.perf_counter()
    with few_threads():
        burn = burn_in(flow, problem.x0.reshape(flow.shape), tol)
    spent = time.perf_counter() - begin
    if burn is None:
        return Prediction(math.nan, spent, False), None, unmet(flow)
    reason = f"pairs of trajectories meet, with some reserve, within {burn} steps"
    chunks = flow.count(burn)
    if chunks < 2:
        return Prediction(math.nan, spent, False), None, f"{reason}, too many for chunks that pay"
    seconds = flow.cost(chunks, burn)  # from here on: what the pairs have cost is spent
    if isinstance(problem, CellRecurrence) and not _finite(problem):
        return Prediction(2.0, seconds, False), None, "NaN or inf stands among the inputs"
    return Prediction(2.0, seconds), burn if seconds < limit else None, reason


def _finite(problem: Recurrence) -> bool:
    with few_threads():
        return bool(torch.isfinite(problem.inputs.sum()))


def race(problem: Recurrence, steps: int, best: float, end: float) -> dict[str, Prediction]:
    """Methods tried on the first steps until `end` (of `perf_counter`); `best` is what all steps take otherwise.

    Windows grow, and the longest is what most of a sequence would be solved in: its time counts, and a trial may take
    a few times what these steps take at the best pace so far. Whoever is not tried is given what two evaluations of all
    steps cost: no iteration needs less.
    """
    whole, begin = problem.steps / steps, time.perf_counter()
    problem.evaluate(problem.x0.expand(steps, *problem.x0.shape), 0)
    found = {
        name: Prediction(math.nan, 2 * (time.perf_counter() - begin) * whole, False)
        for name, method in METHODS.items()
        if not (method.exact or method.chunked)
    }
    for name in sorted(found, key=lambda name: _PROMISE.index(name) if name in _PROMISE else len(_PROMISE)):
        if time.perf_counter() > end:
            break
        begin = time.perf_counter()
        Run(problem, name, 4, max_sweeps=1).go(min(4, steps))  # compiles, at no method's expense
        run, warm = Run(problem, name), time.perf_counter()
        begin, end = warm, end + warm - begin
        done = run.go(steps, min(_GROWING * best / whole, end - begin))
        seconds = (time.perf_counter() - begin) / max(done, 1) * problem.steps
        if run.history:
            seconds = min(seconds, _pace(run, done) * problem.steps)
        if done >= steps:
            best = min(best, seconds)
        found[name] = Prediction(len(run.history) / max(run.windows, 1), seconds, done >= steps)
    return found


def _pace(run: Run, done: int) -> float:
    """Seconds a step of the longest window."""
    history = np.array(run.history, HISTORY)
    starts, first = np.unique(history["start"], return_index=True)
    lengths, seconds = np.diff(np.append(starts, done)), np.add.reduceat(history["seconds"], first)
    longest = int(lengths.argmax())
    return float(seconds[longest] / lengths[longest])


def _fastest(predictions: dict[str, Prediction]) -> tuple[str, str]:
    finished = {name: p.seconds for name, p in predictions.items() if p.complete}
    ordered = finished.pop("sequential")
    name = min(finished, key=finished.__getitem__, default="sequential")
    if name == "sequential" or finished[name] > _MARGIN * ordered:
        return "sequential", f"no method was faster on a sample: about {ordered:.2g} s for all steps"
    return name, (
        f"it was the fastest on a sample: about {finished[name]:.2g} s for all steps, sequential {ordered:.2g} s"
    )
