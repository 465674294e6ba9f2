"""Picard's iteration x_t = x_0 + sum of increments: made for small steps of an ODE, it diverges on most RNNs."""

import torch

from .state import Iteration


class Picard(Iteration):
    """A_t = I (1 - damping): the scan is a cumulative sum."""

    fresh = 0

    def sweep(self, problem, state):
        if state.damping:
            from seqsolve.linearization import Diagonal

            return state.update(Diagonal(torch.ones_like(state.tail)))
        return state.tail + (state.values - state.tail).cumsum(0)
