"""The one driver loop: windows, tolerances, the exact prefix, damping, overflow, history, repair, certificate."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .conditioning import Growth
from .methods import METHODS
from .methods.state import State
from .recurrence import Recurrence
from .results import Certificate, Status
from .shooting import flow_of, shoot

FIRST_WINDOW, SMALLEST, LARGEST = 32, 4, 512
_WILD = 1e3  # growth of the residual, over one sweep, that a scan is damped for
_TRUST = 1e12  # the largest damping of a trust region: from there on nothing moves


class Run:
    """One solve in progress."""

    def __init__(
        self, problem: Recurrence, method: str, window: Any = "auto", tol: float | None = None,
        max_sweeps: int | None = None, on_fail: str = "sequential", *, damping: float | str = "auto",
        matrix: Tensor | None = None, guess: Tensor | None = None, burn: int | None = None,
    ):  # fmt: skip
        self.problem, self.method, self.on_fail, self.max_sweeps = problem, METHODS[method], on_fail, max_sweeps
        self.adaptive = window == "auto"
        self.window = FIRST_WINDOW if self.adaptive else int(window)
        self.given, self.burn = guess, burn
        self.damping = damping
        self.shared: dict[str, Any] = {"matrix": matrix}
        x0 = problem.x0
        self.eps, self.tiny = torch.finfo(x0.dtype).eps, torch.finfo(x0.dtype).tiny
        self.tol = 32 * self.eps if tol is None else tol
        self.states = torch.empty((problem.steps, *x0.shape), dtype=x0.dtype)
        self.scale = 0.0  # of the states so far; x0 may be far larger than they are, and must not excuse their errors
        self.history: list[tuple] = []
        self.windows = self.repaired = self.failed = self.largest_window = 0
        self.broken: int | None = None  # first step whose state is not finite
        self.exact = self.method.exact  # every step was made in order
        self.seam: float | None = None
        self.note = ""  # what the reason says besides

    def go(self, end: int | None = None, seconds: float = math.inf) -> int:
        """Fill `states` up to step `end`, as far as `seconds` go (asked after each window); the steps that are done."""
        problem, x, first, clock = self.problem, self.problem.x0, 0, time.perf_counter()
        end = problem.steps if end is None else end
        if self.method.exact or x.numel() == 0:
            self.states = problem.advance(x, 0, end)
            first = self.largest_window = end
            self._broken()
        elif self.method.chunked and end:
            self._shoot()
            first = end
            self._broken()
        while first < end and self.broken is None and time.perf_counter() - clock < seconds:
            last = min(first + self.window, end)
            self.largest_window = max(self.largest_window, last - first)
            sweeps = self.solve_window(x, first, last)
            x, first = self.states[last - 1], last
            if self.adaptive and sweeps <= 4:
                self.window = min(2 * self.window, LARGEST)
            elif self.adaptive and sweeps > 8:
                self.window = max(self.window // 2, SMALLEST)
        windows = not (self.method.exact or self.method.chunked)
        if self.broken is not None and windows:  # nothing to solve any more: only what the steps say
            k = self.broken
            before = self.states[k - 1] if k else problem.x0
            self.states[k:end] = problem.advance(before, k, end)
        return first

    def _broken(self) -> None:
        states = self.states.flatten(1).numpy()
        with np.errstate(all="ignore"):  # numpy sums on one thread, and a finite sum has finite terms
            if np.isfinite(states.sum()):
                return
        bad = ~np.isfinite(states).all(1)
        self.broken = int(bad.argmax()) if bad.any() else None

    def _shoot(self) -> None:
        """Chunks side by side; the history has an entry for the first pass and one for the verified seams."""
        clock, x0 = time.perf_counter(), self.problem.x0
        flow = flow_of(self.problem, self.states, torch.get_num_threads(), insist=True)
        before = None
        if self.given is not None:
            before = torch.cat([x0[None], self.given[:-1]]).reshape(len(self.given), *flow.shape)
        found = shoot(
            flow, x0.reshape(flow.shape), self.tol, length=None if self.adaptive else self.window, guess=before,
            repair=self.on_fail == "sequential", burn=self.burn,
        )  # fmt: skip
        seconds = time.perf_counter() - clock
        self.exact, self.seam, self.largest_window = bool(found.abandoned), found.seam, found.length
        self.repaired, self.failed, self.note = found.repaired, found.failed, found.explain()
        if not self.exact:
            self.windows = 1
            first = next((k for k, gap in enumerate(found.gaps) if not gap <= self.tol), len(found.gaps)) + 1
            for sweep, residual, frontier, part in (
                (1, max(found.gaps), first * found.length, 1 - found.burn / (found.length + found.burn)),
                (2, found.seam, self.problem.steps, found.burn / (found.length + found.burn)),
            ):
                self.history.append((0, 0, sweep, residual, math.nan, frontier, 0, 0.0, seconds * part))

    def solve_window(self, x: Tensor, first: int, last: int) -> int:
        """Sweep until the residual of every step is small; the exact prefix is never touched again."""
        problem, method, clock = self.problem, self.method, time.perf_counter()
        auto = self.damping == "auto"
        state = State(x, first, last, method.damping if auto else float(self.damping), self.shared)
        state.guess = method.start(problem, state) if self.given is None else self.given[first:last].clone()
        limit = self.max_sweeps or last - first
        update, overflows, merit = math.nan, 0, math.inf
        self.windows += 1
        for sweep in range(limit + 1):
            state.sweep, frontier, tail = sweep, state.frontier, state.tail
            before = torch.cat([(state.guess[frontier - 1] if frontier else x)[None], tail[:-1]])
            if sweep < method.fresh:
                values, state.linear = problem.linearize(before, first + frontier, problem.structure)
            else:
                values, state.linear = problem.evaluate(before, first + frontier), None
            finite = torch.isfinite(values).flatten(1).all(1)
            if not finite[0]:  # the state before it is exact: this one is truly NaN or inf
                self.states[first : first + frontier] = state.guess[:frontier]
                self.broken = first + frontier
                return sweep
            # the scale of a step is the largest state up to it: a wild iterate further on must not excuse an error here
            scale = values.abs().flatten(1).amax(1).nan_to_num(math.inf).cummax(0).values.clamp(min=self.scale)
            error = (values - tail).abs().flatten(1).amax(1)
            state.values, state.error, state.allowed = values, error, self.tol * scale
            done = method.done(state) and bool(finite.all())
            rounded = (error <= 4 * self.eps * scale) & finite
            ahead = len(rounded) if bool(rounded.all()) else int((~rounded).byte().argmax())
            if sweep:
                residual = float((error / scale.clamp(min=self.tiny)).nan_to_num(math.inf).max())
                self.history.append(
                    (self.windows - 1, first, sweep, residual, update, frontier + ahead, overflows, state.damping,
                     time.perf_counter() - clock)
                )  # fmt: skip
                clock = time.perf_counter()
            if ahead == len(tail) or (done and not method.quadratic):
                break
            if sweep == limit and not done:
                self._failed(state.guess, frontier + ahead, x, first, last)
                break
            if auto:
                found = float((error / float(scale[0] or 1.0)).double().square().nan_to_num(math.inf).sum())
                state.damping = adapted(state.damping, found, merit, overflows, trust=method.damping > 0)
                merit = found
            values[:ahead] = tail[:ahead]  # exact to rounding: kept as they are
            new = method.sweep(problem, state)
            new[: ahead + 1] = values[: ahead + 1]
            new, overflows = tamed(new, values, finite)
            update = float((new - tail).abs().nan_to_num(math.inf).max())
            state.guess = torch.cat([state.guess[:frontier], new])
            if done:  # the linearisation was at hand: one more update is free of evaluations
                break
            state.frontier += ahead
        self.states[first:last] = state.guess
        self.scale = max(self.scale, float(state.guess.abs().max()))
        return max(sweep, 1)

    def _failed(self, guess: Tensor, frontier: int, x: Tensor, first: int, last: int) -> None:
        """The window used up its sweeps: recompute what is not exact, or say so."""
        if self.on_fail != "sequential":
            self.failed += 1
            return
        self.repaired += 1
        before = guess[frontier - 1] if frontier else x
        guess[frontier:] = self.problem.advance(before, first + frontier, last)

    def certify(self) -> tuple[Certificate, Status]:
        """Evaluate every step once more at the final states, and let errors run through their linearisation."""
        problem, states = self.problem, self.states
        if not states.numel():
            return Certificate("empty"), Status.EMPTY
        steps = problem.steps if self.broken is None else self.broken
        growth = Growth(problem, self.eps)
        growth.run(states, 0, steps)
        exact, finite = self.exact, self.broken is None
        residual = growth.residual / (growth.scale or 1.0)
        # this evaluation batches other steps together than the sweeps did, so its rounding differs: 4 tol
        seam = None if exact else self.seam
        certificate = Certificate(
            "exact sequential" if exact else "residual" if seam is None else "seam", residual, growth.amplification,
            growth.bound,
            lyapunov=growth.lyapunov, finite=finite,
            met=exact or (residual <= 4 * max(self.tol, 16 * self.eps) and not self.failed), seam=seam,
        )  # fmt: skip
        if not finite:
            return certificate, Status.NONFINITE
        if not certificate.met:
            return certificate, Status.DIVERGED
        if not certificate.ok:
            return certificate, Status.CHAOTIC if (growth.lyapunov or 0) > 0 else Status.SENSITIVE
        if exact:
            return certificate, Status.SEQUENTIAL
        return certificate, Status.REPAIRED if self.repaired else Status.CONVERGED


def adapted(damping: float, merit: float, before: float, overflows: int, *, trust: bool) -> float:
    """The damping of the next sweep from the squared residual before and after the last one.

    A trust region shrinks whenever the residual grew (Marquardt 1963, doi:10.1137/0111030); a scan is damped only when
    it ran away, since Newton's residuals may rise for some sweeps on their way down.
    """
    if trust:
        grew = overflows or not merit < before
        return min(damping * 8, _TRUST) if grew and math.isfinite(before) else damping / 8
    if overflows or merit > _WILD**2 * before:
        return 1 - (1 - damping) / 2
    return damping / 2 if damping > 0.1 else 0.0


def tamed(new: Tensor, values: Tensor, finite: Tensor) -> tuple[Tensor, int]:
    """Replace what overflowed by the plain fixed-point value, and by the last finite state where that is not finite."""
    good = torch.isfinite(new).flatten(1).all(1)
    if bool(good.all()):
        return new, 0
    usable = good | finite
    new = torch.where(good.reshape(-1, *[1] * (new.dim() - 1)), new, values)
    index = torch.where(usable, torch.arange(len(new)), 0).cummax(0).values
    return new[index], int((~good).sum())
