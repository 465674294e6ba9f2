"""Newton's method with the diagonals of the Jacobians, so that its scan is element-wise.

Gonzalez, Warrington, Smith, Linderman (2024), arXiv:2407.19115, section 3 ("quasi-DEER").
"""

from seqsolve.linearization import Diagonal

from .state import Iteration


class Quasi(Iteration):
    """A_t = diag(J_t)."""

    def sweep(self, problem, state):
        return state.update(Diagonal(state.jacobians.diagonal()))
