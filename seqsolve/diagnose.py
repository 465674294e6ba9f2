"""What a recurrence is like, and which method fits, before it is solved."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import torch

from .conditioning import Growth
from .recurrence import CellRecurrence, Recurrence, as_recurrence, refuse_gradients
from .solve import _Run

_SAMPLE = 512  # steps that the diagnosis looks at
_TRIAL = 64  # steps on which an iterative method is tried
_SHORT = 128  # below this many steps a diagnosis costs more than it can save


@dataclass(frozen=True)
class Prediction:
    """What a method is expected to need for the whole sequence; measured on a sample and scaled up."""

    sweeps: float
    seconds: float


@dataclass(frozen=True)
class Diagnosis:
    """The character of a recurrence and the method that fits it.

    lyapunov : mean logarithmic growth of a perturbation a step; above 0 the recurrence is chaotic.
    forgetting_length : steps after which a restart from zero in the middle can no longer be told from the trajectory
        (within 1e-4 of the scale); inf where the sample did not see it forget.
    predictions : method -> `Prediction`.
    method, window, reason : the verdict.  sample : steps that were looked at.  seconds : what that took.
    """

    lyapunov: float
    forgetting_length: float
    method: str
    window: int | str
    reason: str
    predictions: dict[str, Prediction]
    sample: int
    seconds: float

    def explain(self) -> str:
        """The verdict with the numbers behind it."""
        lines = [
            f"verdict: {self.method}, since {self.reason}",
            f"lyapunov exponent {self.lyapunov:+.4f} a step; forgets a restart after {self.forgetting_length:g} steps"
            f" (sample of {self.sample})",
        ]
        lines += [
            f"{name}: about {p.sweeps:.1f} sweeps a window, {p.seconds:.3g} s" for name, p in self.predictions.items()
        ]
        return "\n".join(lines)


def diagnose(step: Any, x0: Any, inputs: Any) -> Diagnosis:
    """Look at the first steps of a recurrence: does it forget, is it chaotic, what would each method cost.

    Parameters
    ----------
    step, x0, inputs : as for `solve`.

    Returns
    -------
    Diagnosis
        ``lyapunov``, ``forgetting_length``, ``predictions``, and the verdict ``method``, ``reason`` that
        ``solve(..., method="auto")`` follows for sequences of more than 128 steps.

    Raises
    ------
    ValueError
        If there is no step to look at. Else as `solve`.

    Complexity
    ----------
    At most 1024 steps and a linearisation of 512, whatever T is.

    References
    ----------
    Benettin, Galgani, Giorgilli, Strelcyn (1980), Meccanica 15, doi:10.1007/BF02128236.

    Examples
    --------
    >>> import torch, seqsolve as sq
    >>> u = torch.linspace(0, 9, 300, dtype=torch.float64)[:, None]
    >>> d = sq.diagnose(lambda x, u: torch.tanh(0.5 * x + u.sin()), torch.zeros(1, dtype=torch.float64), u)
    >>> d.lyapunov < 0, d.forgetting_length < 40
    (True, True)
    """
    refuse_gradients(x0, inputs)
    with torch.no_grad():
        problem = as_recurrence(step, x0, inputs)
        if not problem.steps or not problem.x0.numel():
            raise ValueError(f"there is nothing to diagnose: {problem.steps} steps of {problem.x0.numel()} numbers")
        return _look(problem)


def verdict(problem: Recurrence) -> tuple[str, str]:
    """Method and reason for ``method="auto"``."""
    if isinstance(problem, CellRecurrence):
        return "sequential", f"{problem.name} has a fused loop, which no iteration beats on a CPU"
    if problem.steps <= _SHORT or not problem.x0.numel():
        return "sequential", f"{problem.steps} steps are too few to gain from anything else"
    found = _look(problem)
    return found.method, found.reason


def _look(problem: Recurrence) -> Diagnosis:
    clock = time.perf_counter()
    sample = min(problem.steps, _SAMPLE)
    problem.advance(problem.x0, 0, min(2, sample))  # compiles what has to be compiled
    begin = time.perf_counter()
    states = problem.advance(problem.x0, 0, sample)
    each = (time.perf_counter() - begin) / sample
    finite = torch.isfinite(states).flatten(1).all(1)
    known = sample if bool(finite.all()) else int((~finite).byte().argmax())
    growth = Growth(problem, torch.finfo(states.dtype).eps)
    growth.run(states, 0, known)
    lyapunov = growth.lyapunov if growth.lyapunov is not None else math.nan
    predictions = {"sequential": Prediction(1.0, each * problem.steps)}
    trial = min(_TRIAL, known)
    if trial:
        predictions["newton"] = _try_newton(problem, states, known, trial)
    method, reason = _judge(problem, lyapunov, known, sample, predictions)
    return Diagnosis(
        lyapunov, _forgetting(problem, states, known), method, "auto", reason, predictions, sample,
        time.perf_counter() - clock,
    )  # fmt: skip


def _try_newton(problem: Recurrence, states, known: int, trial: int) -> Prediction:
    """Solve the last steps of the sample by Newton, in windows of 16 and of all, and scale the better one up."""
    first = known - trial
    before = states[first - 1] if first else problem.x0
    best = None
    for window in (16, trial):
        run = _Run(problem, "newton", window, None, None, "sequential")
        begin = time.perf_counter()
        sweeps = []
        for low in range(first, known, window):
            start = states[low - 1] if low > first else before
            sweeps.append(run._solve_window(start, low, min(low + window, known)))
        seconds = (time.perf_counter() - begin) / trial * problem.steps
        if best is None or seconds < best.seconds:
            best = Prediction(sum(sweeps) / len(sweeps), seconds)
    return best


def _judge(problem, lyapunov: float, known: int, sample: int, predictions) -> tuple[str, str]:
    if known < sample:
        return "sequential", f"the states stop being finite at step {known}"
    if lyapunov > 0:
        return "sequential", (
            f"the Lyapunov exponent is {lyapunov:+.3f}: it is chaotic, and only the steps in order define the states"
        )
    if isinstance(problem, CellRecurrence):
        return verdict(problem)
    name = min(predictions, key=lambda key: predictions[key].seconds)
    other = max(predictions, key=lambda key: predictions[key].seconds)
    return name, (
        f"it was the fastest on a sample: about {predictions[name].seconds:.2g} s for all steps, {other}"
        f" {predictions[other].seconds:.2g} s"
    )


def _forgetting(problem: Recurrence, states, known: int) -> float:
    """Steps until a restart from zero, a quarter into the sample, has joined the trajectory."""
    first = known // 4
    if known < 2:
        return math.inf
    other = problem.advance(torch.zeros_like(problem.x0), first, known)
    scale = float(states[:known].abs().max()) or 1.0
    apart = ((other - states[first:known]).abs().flatten(1).amax(1) > 1e-4 * scale).nonzero()
    length = int(apart[-1]) + 1 if len(apart) else 0
    return math.inf if length >= known - first else float(length)
