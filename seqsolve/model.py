"""A fixed number of sweeps as a model in its own right: the truncated iteration, with its own gradient."""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor

from .methods import METHODS
from .methods.state import State
from .recurrence import Recurrence


def truncated(
    problem: Recurrence, method: str, sweeps: int, window: int, damping: float, matrix: Tensor | None
) -> tuple[Tensor, list[tuple]]:
    """States after `sweeps` sweeps of every window, and a history; each operation is differentiable.

    Nothing is stopped, damped adaptively, tamed or repaired here: with gradients enabled, and a recurrence that
    carries a graph, the result is a function of x0, inputs and parameters in torch's sense, Jacobians included.
    """
    chosen, x, shared = METHODS[method], problem.x0, {"matrix": matrix}
    pieces, history = [], []
    for number, first in enumerate(range(0, problem.steps, window)):
        clock = time.perf_counter()
        last = min(first + window, problem.steps)
        state = State(x, first, last, damping, shared)
        state.guess = chosen.start(problem, state)
        for sweep in range(0 if chosen.exact else sweeps):
            state.sweep = sweep
            before = torch.cat([x[None], state.guess[:-1]])
            if sweep < chosen.fresh:
                state.values, state.linear = problem.linearize(before, first, problem.structure)
            else:
                state.values, state.linear = problem.evaluate(before, first), None
            new = chosen.sweep(problem, state)
            with torch.no_grad():
                scale = float(state.values.abs().max()) or 1.0
                residual = float((state.values - state.guess).abs().max()) / scale
                update = float((new - state.guess).abs().max())
            seconds, clock = time.perf_counter() - clock, time.perf_counter()
            history.append((number, first, sweep + 1, residual, update, min(sweep, last - first), 0, damping, seconds))
            state.guess = new
        pieces.append(state.guess)
        x = state.guess[-1]
    states = torch.cat(pieces) if pieces else problem.x0.new_empty((0, *problem.x0.shape))
    return states, [tuple(math.inf if v != v else v for v in row) for row in history]
