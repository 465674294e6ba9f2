"""The one driver loop: diagnose, choose, solve window by window, verify, repair or fall back."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ._checks import as_tensor, choice, positive_integer
from .conditioning import Growth
from .methods import METHODS
from .recurrence import Recurrence, as_recurrence, refuse_gradients
from .results import HISTORY, Certificate, Solution, Status, no_history

_ON_FAIL = ("sequential", "raise", "return")
_FIRST_WINDOW, _SMALLEST, _LARGEST = 32, 4, 512


class ConvergenceError(RuntimeError):
    """A window did not meet its tolerance and on_fail="raise"; `solution` holds what there is."""

    def __init__(self, message: str, solution: Solution):
        super().__init__(message)
        self.solution = solution


def solve(
    step: Any,
    x0: Any,
    inputs: Any,
    *,
    method: str = "auto",
    window: int | str = "auto",
    tol: float | None = None,
    max_sweeps: int | None = None,
    on_fail: str = "sequential",
) -> Solution:
    r"""All states of a recurrence, with a certificate.

    .. math:: x_t = f(x_{t-1}, u_t),\quad t = 0..T-1

    Parameters
    ----------
    step : nn.RNN, nn.GRU, nn.LSTM (one layer, one direction), their cells, or a function ``step(x, u) -> x`` in torch
        that treats leading axes as a batch.
    x0 : (..., n), the state before the first step; for an LSTM h and c side by side, or the pair of them.
    inputs : (T, ..., m), time first. Torch tensors or numpy arrays, float32 or float64.
    method : "sequential", "newton", or "auto": what `diagnose` says.
    window : steps that an iterative method solves at once, or "auto": 32 to begin with, doubled where windows converge
        in few sweeps and halved where they do not.
    tol : largest residual, relative to the largest state; default 32 eps of the dtype.
    max_sweeps : sweeps a window may take; default the window, at which Newton has ended whatever the recurrence.
    on_fail : "sequential" recomputes a window that did not converge step by step; "raise" raises; "return" keeps it.

    Returns
    -------
    Solution
        ``states`` (T, ..., n), ``certificate.ok`` (False for chaos, NaN, unmet tolerance), ``history``, ``explain()``.
        The states carry no graph.

    Raises
    ------
    ValueError, TypeError
        If the arguments do not fit; the message shows both shapes.
    ConvergenceError
        With on_fail="raise".

    Complexity
    ----------
    Sequential: T steps. Newton: about `sweeps` evaluations of all steps and as many affine scans, memory O(window n^2)
    (known cells: O(window n), their Jacobians are applied, not formed). The certificate costs one linearisation more.

    References
    ----------
    Lim et al. (2024), arXiv:2309.12252. Gonzalez et al. (2024), arXiv:2407.19115, on stability.

    Examples
    --------
    >>> import torch, seqsolve as sq
    >>> u = torch.linspace(0, 6, 200, dtype=torch.float64)[:, None]
    >>> sol = sq.solve(
    ...     lambda x, u: torch.tanh(0.8 * x + u.sin()),
    ...     torch.zeros(1, dtype=torch.float64),
    ...     u,
    ...     method="newton",
    ...     window=50,
    ... )
    >>> sol.ok, sol.status.name, bool(sol.sweeps < 8)
    (True, 'CONVERGED', True)
    """
    if method != "auto":
        choice(method, "method", METHODS)
    choice(on_fail, "on_fail", _ON_FAIL)
    if window != "auto":
        window = positive_integer(window, "window")
    if max_sweeps is not None:
        max_sweeps = positive_integer(max_sweeps, "max_sweeps")
    if tol is not None and not 0 < tol < 1:
        raise ValueError(f"tol={tol} must lie between 0 and 1: it is relative to the largest state")
    clock = time.perf_counter()
    refuse_gradients(x0, inputs)
    with torch.no_grad():
        problem = as_recurrence(step, x0, inputs)
        reason = "asked for"
        if method == "auto":
            from .diagnose import verdict

            method, reason = verdict(problem)
        run = _Run(problem, method, window, tol, max_sweeps, on_fail)
        run.go()
        certificate, status = run.certify()
    keep = as_tensor(inputs, "inputs").dtype
    states = run.states.to(keep) if keep in (torch.float16, torch.bfloat16) else run.states
    history = np.array(run.history, HISTORY).view(np.recarray) if run.history else no_history()
    solution = Solution(
        states if isinstance(inputs, Tensor) else states.numpy(), status, method, run.largest_window, reason,
        len(run.history) / max(run.windows, 1) if run.history else 1.0,
        certificate, history, run.repaired, time.perf_counter() - clock,
    )  # fmt: skip
    if on_fail == "raise" and status is Status.DIVERGED:
        raise ConvergenceError(f"{status.value} {solution!r}", solution)
    return solution


class _Run:
    """One solve in progress."""

    def __init__(self, problem: Recurrence, method: str, window, tol, max_sweeps, on_fail):
        self.problem, self.method, self.on_fail, self.max_sweeps = problem, METHODS[method], on_fail, max_sweeps
        self.adaptive = window == "auto"
        self.window = _FIRST_WINDOW if self.adaptive else window
        x0 = problem.x0
        self.eps, self.tiny = torch.finfo(x0.dtype).eps, torch.finfo(x0.dtype).tiny
        self.tol = 32 * self.eps if tol is None else tol
        self.states = torch.empty((problem.steps, *x0.shape), dtype=x0.dtype)
        self.scale = float(x0.abs().max()) if x0.numel() and torch.isfinite(x0).all() else 0.0
        self.history: list[tuple] = []
        self.windows = self.repaired = self.failed = self.largest_window = 0
        self.broken: int | None = None  # first step whose state is not finite

    def go(self) -> None:
        """Fill `states`."""
        problem, x, first = self.problem, self.problem.x0, 0
        if self.method.exact or x.numel() == 0:
            self.states = problem.advance(x, 0, problem.steps)
            first = self.largest_window = problem.steps
            bad = (~torch.isfinite(self.states).flatten(1).all(1)).nonzero()
            self.broken = int(bad[0]) if len(bad) else None
        while first < problem.steps and self.broken is None:
            last = min(first + self.window, problem.steps)
            self.largest_window = max(self.largest_window, last - first)
            sweeps = self._solve_window(x, first, last)
            x, first = self.states[last - 1], last
            if self.adaptive and sweeps <= 4:
                self.window = min(2 * self.window, _LARGEST)
            elif self.adaptive and sweeps > 8:
                self.window = max(self.window // 2, _SMALLEST)
        if self.broken is not None and not self.method.exact:  # nothing to solve any more: only what the steps say
            k = self.broken
            before = self.states[k - 1] if k else problem.x0
            self.states[k:] = problem.advance(before, k, problem.steps)

    def _solve_window(self, x: Tensor, first: int, last: int) -> int:
        """Sweep until the residual of every step is small; the exact prefix is never touched again."""
        problem, clock = self.problem, time.perf_counter()
        guess = self.method.start(problem, x, first, last)
        frontier, limit, update, overflows = 0, self.max_sweeps or last - first, math.nan, 0
        self.windows += 1
        for sweep in range(limit + 1):
            tail = guess[frontier:]
            before = torch.cat([(guess[frontier - 1] if frontier else x)[None], tail[:-1]])
            values, linear = problem.linearize(before, first + frontier)
            finite = torch.isfinite(values).flatten(1).all(1)
            if not finite[0]:  # the state before it is exact: this one is truly NaN or inf
                self.states[first : first + frontier] = guess[:frontier]
                self.broken = first + frontier
                return sweep
            # the scale of a step is the largest state up to it: a wild iterate further on must not excuse an error here
            scale = values.abs().flatten(1).amax(1).nan_to_num(math.inf).cummax(0).values.clamp(min=self.scale)
            error = (values - tail).abs().flatten(1).amax(1)
            done = bool((error <= self.tol * scale).all() and finite.all())
            rounded = (error <= 4 * self.eps * scale) & finite
            ahead = len(rounded) if bool(rounded.all()) else int((~rounded).byte().argmax())
            if sweep:
                residual = float((error / scale.clamp(min=self.tiny)).nan_to_num(math.inf).max())
                self.history.append(
                    (self.windows - 1, first, sweep, residual, update, frontier + ahead, overflows,
                     time.perf_counter() - clock)
                )  # fmt: skip
                clock = time.perf_counter()
            if ahead == len(tail):
                break
            if sweep == limit and not done:
                self._failed(guess, frontier + ahead, x, first, last)
                break
            values[:ahead] = tail[:ahead]  # exact to rounding: kept as they are
            new = self.method.sweep(tail, values, linear)
            new[ahead] = values[ahead]
            new, overflows = _tame(new, values, finite)
            update = float((new - tail).abs().nan_to_num(math.inf).max())
            guess = torch.cat([guess[:frontier], new])
            if done:  # the linearisation was at hand: one more update is free of evaluations
                break
            frontier += ahead
        self.states[first:last] = guess
        self.scale = max(self.scale, float(guess.abs().max()))
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
        exact, finite = self.method.exact, self.broken is None
        residual = growth.residual / (growth.scale or 1.0)
        # this evaluation batches other steps together than the sweeps did, so its rounding differs: 4 tol
        certificate = Certificate(
            "exact sequential" if exact else "residual", residual, growth.amplification, growth.bound,
            lyapunov=growth.lyapunov, finite=finite,
            met=exact or (residual <= 4 * max(self.tol, 16 * self.eps) and not self.failed),
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


def _tame(new: Tensor, values: Tensor, finite: Tensor) -> tuple[Tensor, int]:
    """Replace what overflowed by the plain fixed-point value, and by the last finite state where that is not finite."""
    good = torch.isfinite(new).flatten(1).all(1)
    if bool(good.all()):
        return new, 0
    usable = good | finite
    new = torch.where(good.reshape(-1, *[1] * (new.dim() - 1)), new, values)
    index = torch.where(usable, torch.arange(len(new)), 0).cummax(0).values
    return new[index], int((~good).sum())
