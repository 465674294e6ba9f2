"""A kernel that the user wrote for a pair of points, compiled into a loop over blocks."""

import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np


@lru_cache(maxsize=64)
def _loop(function: Any) -> Any:
    """The block loop around `function`. It is compiled for this function and not kept on disk: a cached kernel cannot
    tell one function that it was given from another."""
    from numba import njit

    def block(P, Q, out):
        for i in range(P.shape[0]):
            for j in range(Q.shape[0]):
                out[i, j] = function(P[i], Q[j])

    return njit(nogil=True, error_model="numpy")(block)


class NumbaKernel:
    """A kernel ``function(x, y) -> float`` of two points, one-dimensional arrays, compiled into the loop over a block.

    Parameters
    ----------
    function : a function compiled by numba, or a plain one that numba can compile.

    Raises
    ------
    TypeError
        If numba cannot compile it, or it does not return a real number.

    Complexity
    ----------
    One call of the compiled function an entry, and one second of compilation for each dtype of points.

    Examples
    --------
    >>> import numpy as np, lowrank as lr
    >>> def tent(x, y):
    ...     return max(0.0, 1.0 - abs(x[0] - y[0]))
    >>> kernel = lr.NumbaKernel(tent)
    >>> kernel(np.array([[0.0], [0.25]]), np.array([[0.0], [0.5]]))
    array([[1.  , 0.5 ],
           [0.75, 0.75]])
    """

    def __init__(self, function: Callable):
        if not callable(function):
            raise TypeError(f"function={function!r} is not callable; pass a function of two points that numba compiles")
        if not is_compiled(function):
            from numba import njit

            function = njit(nogil=True, error_model="numpy")(function)
        self.function = function

    def __call__(self, P: np.ndarray, Q: np.ndarray) -> np.ndarray:
        P, Q = np.ascontiguousarray(P), np.ascontiguousarray(Q)
        out = np.empty((len(P), len(Q)), dtype=np.result_type(P, Q, np.float32))
        from numba.core.errors import NumbaError

        try:
            _loop(self.function)(P, Q, out)
        except NumbaError as problem:
            reason = next((line.strip() for line in str(problem).splitlines() if line.strip()), "no reason given")
            name = getattr(self.function, "__name__", "function")
            raise TypeError(
                f"numba cannot compile {name}(x, y) for points of dtype {P.dtype}: {reason}; it must take two "
                "one-dimensional arrays and return a real number"
            ) from problem
        return out


def is_compiled(function: Any) -> bool:
    """Whether numba made `function`; numba is not imported for the question."""
    module = sys.modules.get("numba.core.dispatcher")
    return module is not None and isinstance(function, module.Dispatcher)


def of_pairs(function: Any, x: np.ndarray, y: np.ndarray) -> bool:
    """Whether a compiled function takes a pair of points to a number, and not two blocks of points to a block."""
    if not is_compiled(function):
        return False
    try:
        return np.ndim(function(x, y)) == 0
    except Exception:  # it does not take one-dimensional arrays: a kernel of blocks
        return False
