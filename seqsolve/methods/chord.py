"""Newton's method that keeps the Jacobians of its second sweep.

Kelley (1995), doi:10.1137/1.9781611970944, section 5.4.1 ("the chord method").
"""

from .state import Iteration


class Chord(Iteration):
    """A_t = J_t at the first iterate that has seen the recurrence, kept."""

    fresh = 2

    def sweep(self, problem, state):
        if state.linear is not None:
            state.kept = state.frontier, state.linear
        since, linear = state.kept
        return state.update(linear.tail(state.frontier - since))
