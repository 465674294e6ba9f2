"""Step after step: the reference and the fall-back, by a fused kernel where there is one."""

from .state import Iteration


class Sequential(Iteration):
    """x_t = f(x_{t-1}, u_t), t = 1, 2, .. in order."""

    exact = True
    fresh = 0

    def start(self, problem, state):
        return problem.advance(state.x, state.first, state.last)

    def sweep(self, problem, state):
        return state.values

    def done(self, state):
        return True
