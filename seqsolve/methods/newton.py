"""Newton's method on all steps of a window at once.

Lim, Zhu, Selfridge, Kasim (2024), "Parallelizing non-linear sequential models over the sequence length",
arXiv:2309.12252, eq. 3-5. After k sweeps the first k states are exact, so it ends whatever the recurrence is.
"""

from .state import Iteration


class Newton(Iteration):
    """A_t = J_t, the Jacobian at the last iterate."""

    quadratic = True

    def sweep(self, problem, state):
        return state.update(state.jacobians)
