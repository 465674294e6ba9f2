"""The pattern of kernels of a distance or an inner product: one number for each pair of points, then one map of it."""

import math
from typing import ClassVar

import numpy as np

DIRECT = 20  # dimensions up to which differences beat a GEMM with repairs: 1.1 against 1.8 ns an entry at 10, 4.3
# against 2.4 at 32 (float64, one core)
HIGH = 128  # points a block is high, and wide: the block and its points stay in L2
WIDE = 512
LIMIT = {np.dtype("f8"): 2.0**-6, np.dtype("f4"): 2.0**-3}  # share of |x|^2 + |y|^2 below which a GEMM lost digits


class PointKernel:
    """A kernel ``K(p, q) = profile(s)`` of s, the scaled squared distance ``|p - q|^2 scale^2`` or ``<p, q>``.

    A new one defines `profile`, which maps a block of s in place, and where they differ from the usual `inner`,
    `scale`, `represent` and `diagonal`.
    """

    inner: ClassVar[bool] = False  # s is the inner product and not the distance
    scale: float = 1.0

    def profile(self, s: np.ndarray) -> None:
        """Map a block of s to entries, in place."""
        raise NotImplementedError

    def represent(self, X: np.ndarray, name: str) -> np.ndarray:
        """The points that s is made of."""
        return X

    def diagonal(self, P: np.ndarray) -> np.ndarray:
        """``K(p, p)`` for each row p of P."""
        return np.ones(len(P))

    def __call__(self, P: np.ndarray, Q: np.ndarray) -> np.ndarray:
        from .kernel import KernelMatrix

        return KernelMatrix(self, P, Q).entries(np.arange(len(P)), np.arange(len(Q)))


def positive(value, name: str) -> float:
    """`value` as a positive finite float, the inverse of which is finite too."""
    real = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not (real and 0 < value < math.inf and math.isfinite(1 / float(value))):
        raise ValueError(f"{name}={value!r} is not a positive finite number")
    return float(value)


class Evaluator:
    """Blocks of a `PointKernel` between two sets of points.

    Distances are sums of squared differences in up to 20 dimensions. Beyond, they are ``|x|^2 + |y|^2 - 2 <x, y>`` of
    centred points by GEMM, and those that lost more than six bits to cancellation are made anew from differences of
    the points as given: near pairs, on which Laplace and Matern kernels live, and points far from the origin keep
    their digits. Equal points are at distance 0 exactly.
    """

    def __init__(self, kernel: PointKernel, X: np.ndarray, Y: np.ndarray | None):
        self.kernel, self.scale = kernel, float(kernel.scale)
        self.dtype = X.dtype if Y is None else np.result_type(X, Y)
        if not 1e-30 < self.scale < 1e30:
            self.dtype = np.dtype(np.float64)
        self.X = kernel.represent(np.ascontiguousarray(X, dtype=self.dtype), "X")
        self.Y = self.X if Y is None else kernel.represent(np.ascontiguousarray(Y, dtype=self.dtype), "Y")
        self.by_gemm = self.X.shape[1] > DIRECT and (kernel.inner or self._centred())

    def _centred(self) -> bool:
        """Centred and scaled points with their squared norms; False where these leave the range of the dtype."""
        with np.errstate(all="ignore"):
            center = self.Y.mean(axis=0, dtype=np.float64) if len(self.Y) else 0.0

            def move(Z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
                moved = ((Z - center) * self.scale).astype(self.dtype)
                return moved, np.einsum("ij,ij->i", moved, moved)

            self._x, self._xx = move(self.X)
            self._y, self._yy = (self._x, self._xx) if self.Y is self.X else move(self.Y)
            return bool(max(self._xx.max(initial=0), self._yy.max(initial=0)) < np.finfo(self.dtype).max / 8)

    def fill(self, rows, columns, out: np.ndarray) -> None:
        """Entries at `rows` and `columns` (slices or indices) into `out`, in blocks that stay in cache.

        Floor: 4 dim flops of differences, or 2 dim of GEMM and one pass, and the profile: 0.5 ns for an exponential.
        """
        if abs(out.strides[0]) < abs(out.strides[1]):  # column-major: the same entries in the order that out has
            left, right, out, first = columns, rows, out.T, False
        else:
            left, right, first = rows, columns, True
        block = self._by_gemm(left, right, first) if self.by_gemm else self._by_differences(left, right, first)
        p, q = out.shape
        with np.errstate(all="ignore"):  # far points underflow to 0; what a profile can overflow, the caller checks
            for j in range(0, q, WIDE):
                part = block(slice(j, min(j + WIDE, q)))
                for i in range(0, p, HIGH):
                    s = part(slice(i, min(i + HIGH, p)))
                    self.kernel.profile(s)
                    np.copyto(out[i : i + HIGH, j : j + WIDE], s, casting="same_kind")

    def _sides(self, first: bool) -> tuple[np.ndarray, np.ndarray]:
        return (self.X, self.Y) if first else (self.Y, self.X)

    def _by_differences(self, left, right, first: bool):
        from lowrank._distance_kernels import inner_products, squared_distances

        P, Q = self._sides(first)
        P, Q, scale = np.ascontiguousarray(P[left]), Q[right], self.dtype.type(self.scale)

        def strip(columns: slice):
            Qt = np.ascontiguousarray(Q[columns].T)

            def tile(rows: slice) -> np.ndarray:
                s = np.empty((rows.stop - rows.start, Qt.shape[1]), dtype=self.dtype)
                if self.kernel.inner:
                    inner_products(P[rows], Qt, s)
                else:
                    squared_distances(P[rows], Qt, scale, s)
                return s

            return tile

        return strip

    def _by_gemm(self, left, right, first: bool):
        from lowrank._distance_kernels import refine

        P, Q = self._sides(first)
        P, Q, scale = np.ascontiguousarray(P[left]), np.ascontiguousarray(Q[right]), self.dtype.type(self.scale)
        if self.kernel.inner:
            return lambda columns: lambda rows: P[rows] @ Q[columns].T
        sides = ((self._x, self._xx), (self._y, self._yy))
        (x, xx), (y, yy) = sides if first else sides[::-1]
        x, xx, y, yy = x[left], xx[left], y[right], yy[right]
        limit = self.dtype.type(LIMIT[self.dtype])

        def tile(rows: slice, columns: slice) -> np.ndarray:
            s = x[rows] @ y[columns].T
            s *= self.dtype.type(-2)
            s += xx[rows, None]
            s += yy[columns]
            refine(P[rows], Q[columns], scale, xx[rows], yy[columns], limit, s)
            return s

        return lambda columns: lambda rows: tile(rows, columns)
