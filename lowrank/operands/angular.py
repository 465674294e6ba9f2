"""Kernels of the inner product of two points: polynomial and cosine."""

import math
from dataclasses import dataclass
from operator import index
from typing import ClassVar

import numpy as np

from .point_kernel import PointKernel, positive


@dataclass(frozen=True)
class PolynomialKernel(PointKernel):
    r"""The polynomial kernel.

    .. math:: K(p, q) = (c \langle p, q \rangle + b)^g, \qquad c = factor,\; b = offset,\; g = degree

    Parameters
    ----------
    degree : positive integer.
    offset : float >= 0, so that the kernel is positive semidefinite.
    factor : positive float; 1 / dim keeps the numbers near 1.

    Raises
    ------
    TypeError, ValueError
        For a degree that is no positive integer, or another number out of range.

    Complexity
    ----------
    2 dim flops and about 2 log2(degree) multiplications an entry.

    Examples
    --------
    >>> import numpy as np, lowrank as lr
    >>> kernel = lr.PolynomialKernel(degree=2)
    >>> kernel(np.array([[1.0, 2.0]]), np.array([[3.0, 1.0]]))
    array([[36.]])
    """

    degree: int
    offset: float = 1.0
    factor: float = 1.0

    inner: ClassVar[bool] = True

    def __post_init__(self):
        try:
            if isinstance(self.degree, bool) or index(self.degree) < 1:
                raise ValueError(f"degree={self.degree!r} is not a positive integer")
        except TypeError:
            raise TypeError(f"degree={self.degree!r} is not a positive integer") from None
        positive(self.factor, "factor")
        if not (isinstance(self.offset, (int, float, np.number)) and 0 <= self.offset < math.inf):
            raise ValueError(f"offset={self.offset!r} is not a finite number >= 0")

    def profile(self, s: np.ndarray) -> None:
        s *= s.dtype.type(self.factor)
        s += s.dtype.type(self.offset)
        base, left = s.copy(), index(self.degree) - 1
        while left:  # by squaring: numpy's power takes 20 times as long
            if left & 1:
                s *= base
            left >>= 1
            if left:
                base *= base

    def diagonal(self, P: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            s = np.einsum("ij,ij->i", P, P)
            self.profile(s)
        return s


@dataclass(frozen=True)
class CosineKernel(PointKernel):
    r"""The cosine of the angle between two points.

    .. math::

        K(p, q) = \frac{\langle p, q \rangle}{|p|\, |q|}
        = 1 - \frac12 \left| \frac{p}{|p|} - \frac{q}{|q|} \right|^2

    The second form is what is computed: it is 1 exactly for equal points, and as accurate as the first for others.

    Raises
    ------
    ValueError
        For a point at the origin, which has no angle.

    Complexity
    ----------
    As `GaussianKernel`, without its exponential.

    Examples
    --------
    >>> import numpy as np, lowrank as lr
    >>> np.round(lr.CosineKernel()(np.array([[1.0, 0.0]]), np.array([[2.0, 0.0], [1.0, 1.0], [0.0, 3.0]])), 4)
    array([[1.    , 0.7071, 0.    ]])
    """

    def represent(self, X: np.ndarray, name: str) -> np.ndarray:
        largest = np.abs(X).max(axis=1, initial=0.0)
        if (largest == 0).any():
            i = int(np.flatnonzero(largest == 0)[0])
            raise ValueError(f"{name}[{i}] is the origin, which has no angle with other points; remove it")
        X = np.ldexp(X, -np.frexp(largest)[1][:, None])  # squares then neither overflow nor vanish together
        return X / np.linalg.norm(X, axis=1, keepdims=True)

    def profile(self, s: np.ndarray) -> None:
        s *= s.dtype.type(-0.5)
        s += s.dtype.type(1)
