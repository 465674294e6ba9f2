"""What a recurrence is like, and which method fits, before it is solved."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import torch

from ._torch_threads import few_threads
from .lanes import CALL
from .recurrence import Recurrence, as_recurrence
from .verdict import Prediction, exponent, race, sampled, step_seconds, verdict

_NORMS = 16  # steps at the end of the sample whose Jacobians are written out for their norms


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
        ``solve(..., method="auto")`` follows: both come from the same look, of which "auto" makes only as much as
        decides.

    Raises
    ------
    ValueError
        If there is no step to look at. Else as `solve`.

    Complexity
    ----------
    Every figure is bounded by the predicted time of the steps in order. Pairs of trajectories are followed for a
    hundredth of it (up to a twentieth as long as that is fewer than 96 steps). Where they do not settle the choice,
    methods are tried for another hundredth, or for 0.03 s and at most a tenth of it where a hundredth is less. Beside
    that `diagnose` itself looks at one step in 400, from 128 to 512 of them: twice in order, and once linearised. Below
    some tenths of a second of steps in order all that is more than a hundredth: the table of the manual, which
    ``python -m benchmarks.diagnosis_share`` prints, says how much. A fused loop is over sooner than its Jacobians are
    looked at.

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


def _look(problem: Recurrence) -> Diagnosis:
    clock = time.perf_counter()
    found = verdict(problem)
    predictions = dict(found.predictions)
    if "sequential" not in predictions:
        predictions["sequential"] = Prediction(1.0, step_seconds(problem) * problem.steps)
    states, known = sampled(problem)
    lyapunov = found.lyapunov
    if lyapunov is None:
        lyapunov = exponent(problem, states, known)
    if known:
        predictions = race(problem, known, 0.0, -math.inf) | predictions
    predictions.setdefault("shooting", Prediction(math.nan, CALL, False))  # its calls alone take that
    with few_threads():
        norms = _norms(problem, states, known)
    return Diagnosis(
        lyapunov, _forgetting(problem, states, known), found.method, "auto", found.reason, predictions, len(states),
        time.perf_counter() - clock, norms,
    )  # fmt: skip


def _norms(problem: Recurrence, states, known: int) -> tuple[float, float]:
    """Spectral norms of the Jacobians on the last steps of the sample."""
    if not known:
        return math.nan, math.nan
    first = max(known - _NORMS, 0)
    before = torch.cat([(states[first - 1] if first else problem.x0)[None], states[first : known - 1]])
    J = problem.linearize(before, first)[1].matrices().nan_to_num(0, 0, 0)
    norms = torch.linalg.eigvalsh(J.mT @ J)[..., -1].clamp(min=0).sqrt().flatten()
    return float(norms.median()), float(norms.max())


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
