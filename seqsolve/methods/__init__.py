"""The ways to find all states of a recurrence, one a file; `METHODS` is the registry.

A method says where to start and how to sweep; the driver in `solve.py` owns windows, tolerances, the frontier of the
exact prefix, non-finite values, history and the certificate.
"""

from typing import Protocol

from torch import Tensor

from seqsolve.recurrence import Linearization, Recurrence

from .newton import Newton
from .sequential import Sequential


class Method(Protocol):
    """Two verbs and a fact."""

    exact: bool  # `start` already gives the states

    def start(self, problem: Recurrence, x: Tensor, first: int, last: int) -> Tensor:
        """A guess for the states of steps first..last, given the state x before them."""
        ...

    def sweep(self, guess: Tensor, values: Tensor, linear: Linearization) -> Tensor:
        """A better guess from f(guess) and its linearisation there."""
        ...


METHODS: dict[str, Method] = {"sequential": Sequential(), "newton": Newton()}
