"""Newton's method on all steps of a window at once.

Lim, Zhu, Selfridge, Kasim (2024), "Parallelizing non-linear sequential models over the sequence length",
arXiv:2309.12252, eq. 3-5. After k sweeps the first k states are exact, so it ends whatever the recurrence is.
"""

import torch


class Newton:
    """d_t - J_t d_{t-1} = f(x_{t-1}, u_t) - x_t, solved by an affine scan; x <- x + d."""

    exact = False

    def start(self, problem, x, first, last):
        """One step from the state before the window, for every step: nothing else is known."""
        return problem.evaluate(x.expand(last - first, *x.shape), first)

    def sweep(self, guess, values, linear):
        return guess + linear.scan(values - guess, torch.zeros_like(guess[0]))
