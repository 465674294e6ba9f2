r"""Shooting: chunks of time run side by side from states that were burned in, every seam verified.

A recurrence that forgets reaches the same states from wherever it starts. So the time axis is cut into C chunks of N
steps, all of which start at once (step 1) from a guess, and M steps later each has joined the trajectory. What they
computed before is replaced (step 2): each chunk is entered once more from the end of the one before, and after M
steps it has to meet, within the tolerance, what is already there. Every seam is thus verified from the state that the
chunk before really ended in, and the states satisfy the recurrence everywhere but for one gap of at most the tolerance
a chunk. A chunk that did not meet is run again in order (step 3), and so are those after it until one is met. This is
multiple shooting (Bellen, Zennaro 1989, doi:10.1016/0377-0427(89)90037-X) with the coarse propagator of Parareal
(Lions, Maday, Turinici 2001) replaced by forgetting; step 2 is the relaxation of MGRIT over the beginning of each chunk
(Falgout et al. 2014, doi:10.1137/130944230; for GRU: Moon and Cyr 2022, arXiv:2203.04738).

M is measured beforehand (step 0): pairs of trajectories from unlike states, at places spread over the time axis, until
all pairs have met, or are half way to it (in decades) and nearing by a steady factor. Where they do not, in a hundredth
of the time that all steps take, or a twentieth where a hundredth is very few steps, nothing else is tried.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ._torch_threads import few_threads
from .cells import lane_seconds
from .dispatch import fused_seconds
from .lanes import BUDGET, PROBES, LaneFlow, Lanes, lane_count, probing_limit
from .recurrence import CellRecurrence, StepRecurrence

_PATIENCE = 48  # steps before pairs are given up that do not approach fast enough
_FIRST = 8  # steps of a pair before the first look
_MARGIN = 1.25  # the burn-in over what the slowest pair took
_TIMED = 8  # steps of all chunks that a step of the user is timed by


class Flow(Protocol):
    """A recurrence that runs many stretches of time side by side and keeps their states.

    Stretch k of a call starts at step first + k * spacing; len(states) is a multiple of the number of stretches.
    """

    steps: int
    shape: tuple[int, ...]  # of one state

    def chunks(self, states: Tensor, places: int, first: int, spacing: int, steps: int, keep: bool = True) -> Tensor:
        """The states (C, ...) after `steps` steps of `places` stretches; those in between are kept, or not."""
        ...

    def order(self, state: Tensor, first: int, last: int) -> Tensor:
        """Steps first..last in order, kept; the state after them."""
        ...

    def rows(self, times: Any) -> Tensor:
        """A copy of what was kept of these steps."""
        ...

    def put(self, times: Any, rows: Tensor) -> None:
        """Keep as much of these states as `rows` returns, or such rows again."""
        ...

    def limit(self) -> int:
        """Steps that the pairs may be followed for: a small part of what all steps in order take."""
        ...

    def count(self, burn: int) -> int:
        """A number of chunks that suits the machine and a burn-in; 1 where it does not pay."""
        ...

    def cost(self, chunks: int, burn: int) -> float:
        """Seconds that this many chunks are expected to take."""
        ...


@dataclass
class Outcome:
    """What became of it.

    chunks, length, burn : C, N, M.  seam : largest gap that was left at a seam, over the scale of the states.
    repaired, failed : chunks that were run again in order; that should have been.
    abandoned : why all steps were made in order, or "".
    gaps : of every seam, over the scale, before repairs.
    """

    chunks: int = 1
    length: int = 0
    burn: int = 0
    seam: float = 0.0
    repaired: int = 0
    failed: int = 0
    abandoned: str = ""
    gaps: list[float] = field(default_factory=list)
    state: Any = None  # after the last step

    def explain(self) -> str:
        """One sentence."""
        if self.abandoned:
            return self.abandoned
        again = f", {self.repaired} of them run again in order" if self.repaired else ""
        return (
            f"{self.chunks} chunks of {self.length} steps side by side, entered twice for {self.burn} steps until they"
            f" meet{again}; seams closed to {self.seam:.1e} of the scale"
        )


def shoot(
    flow: Flow,
    x0: Tensor,
    tol: float,
    *,
    length: int | None = None,
    guess: Tensor | None = None,
    repair: bool = True,
    order: bool = True,
    burn: int | None = None,
) -> Outcome:
    """All states of a flow.

    Parameters
    ----------
    flow : see `Flow`.
    x0 : the state before the first step.
    tol : gap that a seam may have, relative to the largest state so far.
    length : steps of a chunk; None follows from the burn-in.
    guess : (T, ...) a state before every step, from which a chunk that starts there starts; None is zero.
    repair : False leaves open seams as they are, and tries even where the pairs did not meet.
    burn : what `burn_in` has found, if it was asked before.
    order : make all steps in order where chunks were given up; False leaves that to the caller.
    """
    burn = burn or burn_in(flow, x0, tol)
    if burn is None and repair:
        return _given_up(flow, x0, f"{unmet(flow)}, so all were made in order", order)
    burn = burn or max(flow.limit(), 1)
    C = flow.count(burn) if length is None else flow.steps // max(length, 1)
    N = flow.steps // max(C, 1) if length is None else length
    M = min(burn, N)
    if C < 2:
        return _given_up(flow, x0, f"{flow.steps} steps are too few for chunks with {burn} steps of burn-in", order)
    starts = x0.new_zeros((C, *x0.shape)) if guess is None else guess[: C * N : N].clone()
    starts[0] = x0
    # step 1: every chunk from a guess
    middle = flow.chunks(starts, C, 0, N, M)
    ends = flow.chunks(middle, C, M, N, N - M) if N > M else middle.clone()
    # step 2: every chunk but the first from the end of the one before
    meeting = N * np.arange(1, C) + M - 1
    kept = flow.rows(meeting).numpy()  # whose indexing does not wait for threads of torch
    again = flow.chunks(ends[:-1], C - 1, N, N, M)
    gaps, sizes = _largest(again - middle[1:]), _largest(torch.maximum(middle.abs(), ends.abs()))
    scales = np.maximum.accumulate(np.where(np.isfinite(sizes), sizes, 0.0))
    with np.errstate(all="ignore"):
        relative = np.where(gaps == 0, 0.0, gaps / scales[:-1])
    relative = np.where(np.isfinite(relative), relative, np.inf)
    met = int(np.append(relative > tol, True).argmax())  # chunks 1..met follow from the one before
    found, closed = Outcome(C, N, M, seam=float(max(relative[:met], default=0.0))), list(range(met))
    found.gaps, scale, state = relative[:met].tolist(), float(scales[met]), ends[met]
    true = True  # the chunk before ended as step 2 took it
    for c in range(met + 1, C):
        gap = _relative(float(gaps[c - 1]), scale)
        found.gaps.append(gap)
        if gap <= tol:
            closed.append(c - 1)
        if (gap <= tol and true) or not repair:
            found.failed += not gap <= tol
            found.seam, state, scale = max(found.seam, gap), ends[c], max(scale, _finite(float(sizes[c])))
            continue
        # step 3: this chunk in order, and the next one too unless this ends where it ended before
        flow.put(meeting[closed], torch.from_numpy(kept[closed]))
        found.repaired, closed = found.repaired + 1, []
        state = flow.order(state, c * N, (c + 1) * N)
        scale = max(scale, _finite(float(state.abs().max())))
        gap = _relative(float((state - ends[c]).abs().max()), scale)
        true = gap <= tol
        if true and c + 1 < C:
            flow.put([(c + 1) * N - 1], ends[c][None])
            found.seam, state = max(found.seam, gap), ends[c]
    flow.put(
        meeting[closed], torch.from_numpy(kept[closed])
    )  # a gap stands before the step where a chunk met, and is what was measured
    found.state = flow.order(state, C * N, flow.steps)
    return found


def _largest(states: Tensor) -> np.ndarray:
    """The largest number of every chunk."""
    return states.abs().reshape(len(states), -1).amax(1).double().cpu().numpy()


def _finite(size: float) -> float:
    return size if math.isfinite(size) else 0.0


def _relative(gap: float, scale: float) -> float:
    """inf for what is not finite: a NaN or an infinite state never meets anything."""
    if not math.isfinite(gap):
        return math.inf
    return gap / scale if scale > 0 else math.inf if gap else 0.0


def _given_up(flow: Flow, x0: Tensor, reason: str, order: bool) -> Outcome:
    return Outcome(length=flow.steps, abandoned=reason, state=flow.order(x0, 0, flow.steps) if order else None)


def burn_in(flow: Flow, x0: Tensor, tol: float) -> int | None:
    """Steps after which trajectories from unlike states have met at every probe, and a quarter more; None if not.

    One of a pair starts from zero, as the chunks do, the other from random signs. Pairs that have come half of the way,
    in decades, within the limit are expected to go on at the same rate: the seams tell if they do not.
    """
    limit = flow.limit()
    spacing = (flow.steps - limit) // PROBES
    if limit < _FIRST or spacing < 1:
        return None
    zero, first = x0.new_zeros((PROBES, *x0.shape)), spacing // 2
    size = _finite(float(flow.chunks(zero, PROBES, first, spacing, _FIRST, keep=False).abs().max())) or 1.0
    signs = torch.randint(0, 2, zero.shape, generator=torch.Generator().manual_seed(20240921)) * 2 - 1
    states = torch.cat([zero, (size * signs).to(zero.dtype)])
    done, step, last, ahead = 0, _FIRST, 0.0, math.inf
    while done < limit:
        step = min(step, limit - done)
        states = flow.chunks(states, PROBES, first + done, spacing, step, keep=False)
        done += step
        gap = float((states[:PROBES] - states[PROBES:]).abs().max())
        size = max(size, _finite(float(states.abs().max())))
        gap = _relative(gap, size)
        if gap <= tol:
            return int(_MARGIN * done) + _FIRST
        if not math.isfinite(gap):
            return None
        # the next look is where they will have met if they go on as in the last steps
        rate = (last - math.log(gap)) / step
        last = math.log(gap)
        ahead = (last - math.log(tol)) / rate if rate > 0 else math.inf
        if done >= _PATIENCE and done + ahead > 2 * limit:
            return None
        step = int(min(max(1.1 * ahead, 4), 2 * done, max(_PATIENCE - done, done)))
    halfway = 2 * last <= math.log(tol) and ahead <= done
    return int(_MARGIN * (done + ahead)) + _FIRST if halfway else None


def unmet(flow: Flow) -> str:
    """Why `burn_in` gave None, as the beginning of a sentence."""
    if flow.limit() < _FIRST:
        return f"{flow.steps} steps are too few to find out how soon pairs of trajectories meet"
    return f"pairs of trajectories did not promise to meet within {flow.limit()} steps"


class StepFlow:
    """A step of the user: chunks are an axis in front of its batch."""

    def __init__(self, problem, states: Tensor, *, insist: bool = False):
        self.problem, self.states, self.insist = problem, states, insist
        self.steps, self.shape = problem.steps, tuple(problem.x0.shape)

    def chunks(self, states, places, first, spacing, steps, keep=True):
        # views of all stretches at once, (places, ..., steps)
        end = first + (places - 1) * spacing + steps
        inputs = self.problem.inputs[first:end].unfold(0, steps, spacing)
        out = self.states[first:end].unfold(0, steps, spacing) if keep else None
        copies = len(states) // places
        with few_threads(states.numel() * self.shape[-1]):
            for t in range(steps):
                u = inputs[..., t]
                states = self.problem.apply(states, u if copies == 1 else u.repeat(copies, *[1] * (u.dim() - 1)))
                if out is not None:
                    out[..., t] = states
        return states

    def order(self, state, first, last):
        if last == first:
            return state
        self.states[first:last] = self.problem.advance(state, first, last)
        return self.states[last - 1]

    def rows(self, times):  # by numpy, which does not wait for threads of torch
        return torch.from_numpy(self.states.numpy()[times])

    def put(self, times, rows):
        self.states.numpy()[times] = rows.numpy()

    def limit(self):
        return int(BUDGET * self.steps) if self.insist else probing_limit(self.steps, 1.0)

    def count(self, burn):
        # a step costs its overhead, worth about 4000 numbers, plus its numbers, for T / C + 2 M steps
        numbers = max(1, math.prod(self.shape))
        best = math.sqrt(self.steps / (2 * burn) * 4000 / numbers)
        return int(min(best, self.steps // (2 * burn)))

    def cost(self, chunks, burn):
        # measured: what a step of all chunks takes is the user's affair
        length, few = self.steps // chunks, min(_TIMED, burn)
        start = torch.zeros((chunks, *self.shape), dtype=self.states.dtype)
        seconds = []
        for _ in range(2):  # the first call may allocate
            begin = time.perf_counter()
            self.chunks(start, chunks, 0, length, few)
            seconds.append((time.perf_counter() - begin) / few)
        return (length + burn) * min(seconds)


def loop_seconds(problem: CellRecurrence) -> float:
    """Seconds that one step of a known cell takes in order."""
    weights, batch = problem.weights, problem.x0.numel() // problem.x0.shape[-1]
    if problem.kind != "lstm":
        return fused_seconds(weights, batch)
    dtype, inputs = weights.w_hh.dtype, weights.w_ih.shape[1]
    L = lane_count(dtype)  # its steps in order are lanes, too, since c has to be kept
    return -(-batch // L) * L * lane_seconds("lstm", weights.hidden, inputs, dtype.itemsize)


def flow_of(problem: Any, states: Tensor, workers: int, *, insist: bool = False) -> Flow:
    """The flow of what `solve` solves; `states` (T, ..., n) is filled in.

    `insist` on chunks that may be no faster, and on pairs that are followed for a twentieth of all steps.
    """
    if isinstance(problem, StepRecurrence):
        return StepFlow(problem, states, insist=insist)
    if not isinstance(problem, CellRecurrence):
        raise TypeError(f"shooting has no flow for {type(problem).__name__}; use another method")
    n, batch = problem.x0.shape[-1], problem.x0.numel() // problem.x0.shape[-1]
    if problem.lanes is None:
        problem.lanes = Lanes(problem.weights)
    lanes, lstm = problem.lanes, problem.kind == "lstm"

    def order(state: Tensor, first: int, last: int) -> Tensor:
        states[first:last] = problem.advance(state.reshape(problem.x0.shape), first, last)
        return states[last - 1].reshape(batch, n)

    x = problem.inputs.reshape(-1, problem.inputs.shape[-1]).contiguous().numpy()
    return LaneFlow(
        lanes,
        x,
        states.view(-1, n).numpy(),
        batch,
        order,
        loop_seconds(problem),
        cells=lstm,
        workers=workers,
        insist=insist,
    )
