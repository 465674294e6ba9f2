"""The ways to find all states of a recurrence, one a file; `METHODS` is the registry.

All solve ``d_t - A_t d_{t-1} = f(x_{t-1}, u_t) - x_t`` and put x + d in place of x; a method is the choice of A_t. It
says where to start, how to sweep and when it is done; the driver in `solve.py` owns windows, tolerances, the frontier
of the exact prefix, damping, non-finite values, history and the certificate. `shooting` alone makes no sweeps.
"""

from typing import Protocol

from torch import Tensor

from seqsolve.recurrence import Recurrence

from .chord import Chord
from .constant import ConstantMatrix
from .elk import Elk, QuasiElk
from .frozen import Frozen
from .jacobi import Jacobi
from .newton import Newton
from .picard import Picard
from .quasi import Quasi
from .sequential import Sequential
from .shooting import Shooting
from .state import State


class Method(Protocol):
    """Three verbs, and the facts that `Iteration` lists."""

    @property
    def exact(self) -> bool: ...
    @property
    def chunked(self) -> bool: ...
    @property
    def fresh(self) -> float: ...
    @property
    def damping(self) -> float: ...
    @property
    def quadratic(self) -> bool: ...

    def start(self, problem: Recurrence, state: State) -> Tensor:
        """A guess for all states of the window."""
        ...

    def sweep(self, problem: Recurrence, state: State) -> Tensor:
        """Better states from the frontier on."""
        ...

    def done(self, state: State) -> bool:
        """Whether the states satisfy the recurrence."""
        ...


METHODS: dict[str, Method] = {
    "sequential": Sequential(),
    "jacobi": Jacobi(),
    "picard": Picard(),
    "constant": ConstantMatrix(),
    "frozen": Frozen(),
    "chord": Chord(),
    "newton": Newton(),
    "quasi": Quasi(),
    "elk": Elk(),
    "quasi_elk": QuasiElk(),
    "shooting": Shooting(),
}
