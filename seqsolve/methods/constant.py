"""One matrix for all steps, diagonalised once: each sweep is an element-wise complex scan.

The perturbation view of Su (2023), https://kexue.fm/archives/9783: the linear recurrence with A is solved exactly, what
is left of the step enters as its input.
"""

from seqsolve.linearization import Constant

from .state import Iteration


class ConstantMatrix(Iteration):
    """A_t = A, given as matrix= or derived from the recurrence."""

    fresh = 0

    def sweep(self, problem, state):
        if "constant" not in state.shared:
            A = state.shared.get("matrix")
            state.shared["constant"] = Constant(problem.typical(state.first, state.last) if A is None else A)
        return state.update(state.shared["constant"])
