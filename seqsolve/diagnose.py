"""What a recurrence is like, and which method fits, before it is solved."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import torch

from .conditioning import Growth
from .driver import Run
from .methods import METHODS
from .recurrence import CellRecurrence, Recurrence, as_recurrence
from .shooting import burn_in, flow_of

_SAMPLE = 512  # steps that the diagnosis looks at
_NORMS = 64  # of these, steps whose Jacobians are written out for their norms
_SHARE = 0.1  # of the time of all steps in order, which the trials may take
_PROMISE = ("newton", "chord", "elk", "frozen", "constant", "quasi")  # tried first
_MARGIN = 0.8  # of the time of the steps in order, which an iterative method must stay below to be chosen
_CHUNK = 8  # steps of all chunks that shooting is timed by
_LONG = 1 << 14  # numbers in the states of a known cell from which on chunks are tried
_SHORT = 128  # below this many steps a diagnosis costs more than it can save


@dataclass(frozen=True)
class Prediction:
    """What a method is expected to need for the whole sequence; measured on a sample and scaled up.

    complete : False where the trial was called off since another method was done sooner, or never begun (sweeps is NaN
        then) since the trials had taken a tenth of the solve: it needs at least that much.
    """

    sweeps: float
    seconds: float
    complete: bool = True


@dataclass(frozen=True)
class Diagnosis:
    """The character of a recurrence and the method that fits it.

    lyapunov : mean logarithmic growth of a perturbation a step; above 0 the recurrence is chaotic.
    forgetting_length : steps after which a restart from zero in the middle can no longer be told from the trajectory
        (within 1e-4 of the scale); inf where the sample did not see it forget.
    jacobian_norms : median and largest spectral norm of the Jacobians in the sample.
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
    jacobian_norms: tuple[float, float] = (math.nan, math.nan)

    def explain(self) -> str:
        """The verdict with the numbers behind it."""
        lines = [
            f"verdict: {self.method}, since {self.reason}",
            f"lyapunov exponent {self.lyapunov:+.4f} a step; forgets a restart after {self.forgetting_length:g} steps"
            f" (sample of {self.sample})",
            f"Jacobians: spectral norm {self.jacobian_norms[0]:.3g} at the median,"
            f" {self.jacobian_norms[1]:.3g} at most",
        ]
        lines += [
            f"{name}: {'about' if p.complete else 'at least'} {p.seconds:.3g} s,"
            + (" not tried" if math.isnan(p.sweeps) else f" {p.sweeps:.1f} sweeps a window")
            for name, p in self.predictions.items()
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
    At most 1024 steps in order, a linearisation of 512, and trials on these 512, each called off once it takes longer
    than the fastest so far, all of them once they have taken a tenth of the solve.

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
    with torch.no_grad():
        problem = as_recurrence(step, x0, inputs)
        if not problem.steps or not problem.x0.numel():
            raise ValueError(f"there is nothing to diagnose: {problem.steps} steps of {problem.x0.numel()} numbers")
        return _look(problem)


def verdict(problem: Recurrence) -> tuple[str, str]:
    """Method and reason for ``method="auto"``."""
    if isinstance(problem, CellRecurrence) or getattr(problem, "fused", False):
        if not isinstance(problem, CellRecurrence) or problem.steps * problem.x0.numel() < _LONG:
            return "sequential", f"{problem.name} has a fused loop, which no iteration beats on a CPU"
        return "shooting", f"{problem.name} has a kernel for chunks side by side, tried and given up where it remembers"
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
    if known == sample and lyapunov <= 0:
        predictions |= _shooting(problem)
    if known:
        predictions |= _race(problem, known, each * known)
    method, reason = _judge(problem, lyapunov, known, sample, predictions)
    return Diagnosis(
        lyapunov, _forgetting(problem, states, known), method, "auto", reason, predictions, sample,
        time.perf_counter() - clock, _norms(problem, states, known),
    )  # fmt: skip


def _race(problem: Recurrence, steps: int, best: float) -> dict[str, Prediction]:
    """Methods tried on the sample, each for as long as the fastest so far took, all within a share of the solve.

    Whoever is not tried is given what two evaluations of all steps cost: no iteration needs less.
    """
    whole = problem.steps / steps
    begin = time.perf_counter()
    problem.evaluate(problem.x0.expand(steps, *problem.x0.shape), 0)
    found = {
        name: Prediction(math.nan, 2 * (time.perf_counter() - begin) * whole, False)
        for name, method in METHODS.items()
        if not (method.exact or method.chunked)
    }
    end = time.perf_counter() + _SHARE * best * whole
    for name in sorted(found, key=lambda name: _PROMISE.index(name) if name in _PROMISE else len(_PROMISE)):
        if time.perf_counter() > end:
            break
        Run(problem, name, 4, max_sweeps=1).go(min(4, steps))  # compiles what has to be compiled
        run, begin = Run(problem, name), time.perf_counter()
        done = run.go(steps, best)
        seconds = time.perf_counter() - begin
        if done >= steps:
            best = min(best, seconds)
        found[name] = Prediction(
            len(run.history) / max(run.windows, 1), seconds / max(done, 1) * problem.steps, done >= steps
        )
    return found


def _shooting(problem: Recurrence) -> dict[str, Prediction]:
    """What shooting needs, from its own burn-in on all of the sequence and some steps of as many chunks."""
    begin = time.perf_counter()
    states = torch.empty((problem.steps, *problem.x0.shape), dtype=problem.x0.dtype)
    flow, x0 = flow_of(problem, states, torch.get_num_threads()), problem.x0
    x0, tol = x0.reshape(flow.shape), 32 * torch.finfo(x0.dtype).eps
    burn = burn_in(flow, x0, tol)
    spent = time.perf_counter() - begin
    chunks = flow.count(burn) if burn else 1
    if not burn or chunks < 2:
        return {"shooting": Prediction(math.nan, spent, False)}
    length, few = problem.steps // chunks, min(_CHUNK, burn)
    start = x0.expand(chunks, *x0.shape)
    flow.chunks(start, chunks, 0, length, 1, keep=True)
    begin = time.perf_counter()
    flow.chunks(start, chunks, 0, length, few, keep=True)
    each = (time.perf_counter() - begin) / few
    return {"shooting": Prediction(2.0, spent + (length + burn) * each)}


def _norms(problem: Recurrence, states, known: int) -> tuple[float, float]:
    """Spectral norms of the Jacobians on the last steps of the sample."""
    if not known:
        return math.nan, math.nan
    first = max(known - _NORMS, 0)
    before = torch.cat([(states[first - 1] if first else problem.x0)[None], states[first : known - 1]])
    J = problem.linearize(before, first)[1].matrices().nan_to_num(0, 0, 0)
    norms = torch.linalg.matrix_norm(J, 2).flatten()
    return float(norms.median()), float(norms.max())


def _judge(problem, lyapunov: float, known: int, sample: int, predictions) -> tuple[str, str]:
    if known < sample:
        return "sequential", f"the states stop being finite at step {known}"
    if lyapunov > 0:
        return "sequential", (
            f"the Lyapunov exponent is {lyapunov:+.3f}: it is chaotic, and only the steps in order define the states"
        )
    if isinstance(problem, CellRecurrence) or getattr(problem, "fused", False):
        return verdict(problem)
    finished = {name: p.seconds for name, p in predictions.items() if p.complete}
    others = {name: seconds for name, seconds in finished.items() if name != "sequential"}
    name, ordered = min(others, key=others.__getitem__, default="sequential"), finished["sequential"]
    if name == "sequential" or others[name] > _MARGIN * ordered:
        return "sequential", f"no method was faster on a sample: about {ordered:.2g} s for all steps"
    return name, (
        f"it was the fastest on a sample: about {others[name]:.2g} s for all steps, sequential {ordered:.2g} s"
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
