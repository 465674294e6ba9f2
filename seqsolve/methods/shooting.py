"""Chunks of time side by side, from states that were burned in: no linearisation, no sweeps.

The one method that needs nothing from a step but its values. What it does stands in `seqsolve.shooting`; the driver
hands it the whole sequence, for which its `window` is the length of a chunk.
"""

from .state import Iteration


class Shooting(Iteration):
    """x_t = f(x_{t-1}, u_t) in order inside each chunk, all chunks at once."""

    chunked = True
    fresh = 0

    def sweep(self, problem, state):
        return state.values
