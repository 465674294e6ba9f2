"""What is known of a window between two sweeps, and what the methods share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seqsolve.linearization import Linearization


@dataclass
class State:
    """A window between two sweeps: filled in by the driver, read by the methods.

    x : the state before the window.  first, last : its steps.
    guess : (W, ..., n) all its states; the first `frontier` of them are exact.
    values, linear : f at the guess, and its Jacobians if the method asked for them, for the steps from `frontier` on.
    error, allowed : residual of each of these steps and what the tolerance permits.
    kept : what the method keeps for the window.  shared : what it keeps for the whole solve.
    """

    x: Tensor
    first: int
    last: int
    damping: float
    shared: dict[str, Any]
    guess: Tensor = None  # pyright: ignore[reportAssignmentType]  (the driver sets it from `start`)
    values: Tensor = None  # pyright: ignore[reportAssignmentType]
    linear: Linearization | None = None
    error: Tensor = None  # pyright: ignore[reportAssignmentType]
    allowed: Tensor = None  # pyright: ignore[reportAssignmentType]
    frontier: int = 0
    sweep: int = 0
    kept: Any = None

    @property
    def tail(self) -> Tensor:
        """The states that are not known to be exact."""
        return self.guess[self.frontier :]

    @property
    def jacobians(self) -> Linearization:
        """`linear`, for a method that asks for it in every sweep."""
        if self.linear is None:
            raise RuntimeError("this sweep was not linearised: the method's `fresh` is too small")
        return self.linear

    def update(self, linear: Linearization) -> Tensor:
        """x + d with d_t - A_t d_{t-1} = f(x_{t-1}) - x_t: the sweep of every method, which differ in A."""
        factor = 1.0 - self.damping
        d = (linear if factor == 1.0 else linear.damped(factor)).scan(self.values - self.tail, torch.zeros_like(self.x))
        return self.tail + d


class Iteration:
    """What a method is unless it says otherwise.

    exact : `start` already gives the states.  chunked : no windows and sweeps, but chunks side by side.
    fresh : sweeps of a window that linearise anew.
    damping : what an adaptive damping begins with.  quadratic : one more update of a converged window is worth it.
    """

    exact: bool = False
    chunked: bool = False
    fresh: float = math.inf
    damping: float = 0.0
    quadratic: bool = False

    def start(self, problem, state: State) -> Tensor:
        """One step from the state before the window, for every step: nothing else is known."""
        return problem.evaluate(state.x.expand(state.last - state.first, *state.x.shape), state.first)

    def sweep(self, problem, state: State) -> Tensor:
        """Better states for the tail."""
        raise NotImplementedError

    def done(self, state: State) -> bool:
        """The residual of every step is within its tolerance; an update alone never ends a solve."""
        return bool((state.error <= state.allowed).all())
