"""Features of points whose inner products are the Nystrom kernel, for points that were not there at the fit."""

import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import solve_triangular

from .partial_cholesky import ours


@dataclass(frozen=True, eq=False)
class FeatureMap:
    r"""``phi(y) = K(y, P) L^{-*}`` for landmark points P with ``K(P, P) = L L^*``.

    kernel : the kernel, or None where a file or a pickle could not keep it;  points : P, (k, dim).
    """

    kernel: Callable | None
    points: np.ndarray

    def __call__(self, Y, L: np.ndarray, workers: int) -> np.ndarray:
        from .operands import KernelMatrix

        if self.kernel is None:
            raise ValueError(
                "the kernel was a Python function, which files do not keep; make the approximation anew, "
                "or use a kernel of this package"
            )
        Y = np.asarray(Y)
        if Y.ndim == 2 and Y.shape[1] != self.points.shape[1]:
            raise ValueError(f"Y has points of dimension {Y.shape[1]}, but the landmarks of {self.points.shape[1]}")
        block = KernelMatrix(self.kernel, Y, self.points)
        columns = block.columns(np.arange(len(self.points)), workers=workers)
        if len(self.points) == 0 or len(columns) == 0:
            return columns
        return solve_triangular(L, columns.conj().T, lower=True, check_finite=False).conj().T

    def portable(self) -> "FeatureMap":
        """Without a kernel that is not of this package, which a file cannot name."""
        return self if self.kernel is None or ours(self.kernel) else replace(self, kernel=None)

    def __getstate__(self):
        state = dict(self.__dict__)
        try:
            pickle.dumps(self.kernel)
        except Exception:  # a lambda or a closure; the numbers are worth keeping without it
            state["kernel"] = None
        return state
