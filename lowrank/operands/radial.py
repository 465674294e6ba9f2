"""Kernels of the distance between two points: Gaussian, Laplace and Matern."""

from dataclasses import dataclass

import numpy as np

from .point_kernel import PointKernel, positive

FAR = 1e6  # squared distance at which each of these is 0 in double precision; past it, inf * 0 would be NaN


class _Radial(PointKernel):
    bandwidth: float

    def __post_init__(self):
        positive(self.bandwidth, "bandwidth")

    @property
    def scale(self) -> float:  # type: ignore[override]
        return 1.0 / float(self.bandwidth)


@dataclass(frozen=True)
class GaussianKernel(_Radial):
    r"""The Gaussian kernel, smooth without limit.

    .. math:: K(p, q) = e^{-|p - q|^2 / (2 h^2)}, \qquad h = bandwidth

    Parameters
    ----------
    bandwidth : positive float, in the unit of the points.

    Raises
    ------
    ValueError
        If the bandwidth is not positive and finite.

    Complexity
    ----------
    4 dim flops (2 dim in GEMM beyond 20 dimensions) and one exponential an entry.

    Examples
    --------
    >>> import numpy as np, lowrank as lr
    >>> kernel = lr.GaussianKernel(bandwidth=2.0)
    >>> np.round(kernel(np.array([[0.0], [2.0]]), np.array([[0.0]])), 4)
    array([[1.    ],
           [0.6065]])
    """

    bandwidth: float

    def profile(self, s: np.ndarray) -> None:
        s *= s.dtype.type(-0.5)
        np.exp(s, out=s)


@dataclass(frozen=True)
class LaplaceKernel(_Radial):
    r"""The Laplace kernel of the Euclidean distance: continuous, with a kink where the points meet.

    .. math:: K(p, q) = e^{-|p - q| / h}, \qquad h = bandwidth

    Parameters
    ----------
    bandwidth : positive float, in the unit of the points.

    Raises
    ------
    ValueError
        If the bandwidth is not positive and finite.

    Complexity
    ----------
    As `GaussianKernel`, and one square root.

    Examples
    --------
    >>> import numpy as np, lowrank as lr
    >>> kernel = lr.LaplaceKernel(bandwidth=2.0)
    >>> np.round(kernel(np.array([[0.0], [2.0]]), np.array([[0.0]])), 4)
    array([[1.    ],
           [0.3679]])
    """

    bandwidth: float

    def profile(self, s: np.ndarray) -> None:
        np.sqrt(s, out=s)
        np.negative(s, out=s)
        np.exp(s, out=s)


@dataclass(frozen=True)
class MaternKernel(_Radial):
    r"""The Matern kernel, whose sample paths are differentiable less than `nu` times.

    .. math::

        K_{1/2} = e^{-r}, \quad K_{3/2} = (1 + a) e^{-a},\; a = \sqrt 3\, r, \quad
        K_{5/2} = (1 + a + a^2 / 3) e^{-a},\; a = \sqrt 5\, r, \qquad r = |p - q| / h

    Parameters
    ----------
    bandwidth : h, a positive float in the unit of the points.
    nu : smoothness: 0.5 (the Laplace kernel), 1.5 or 2.5.

    Raises
    ------
    ValueError
        If the bandwidth is not positive and finite, or for another nu.

    Complexity
    ----------
    As `LaplaceKernel`, and a few flops.

    References
    ----------
    Rasmussen and Williams (2006), Gaussian processes for machine learning, eq. 4.16 and 4.17.

    Examples
    --------
    >>> import numpy as np, lowrank as lr
    >>> kernel = lr.MaternKernel(bandwidth=2.0, nu=1.5)
    >>> np.round(kernel(np.array([[0.0], [2.0]]), np.array([[0.0]])), 4)
    array([[1.    ],
           [0.4834]])
    """

    bandwidth: float
    nu: float = 1.5

    def __post_init__(self):
        super().__post_init__()
        if self.nu not in (0.5, 1.5, 2.5):
            raise ValueError(f"nu={self.nu!r} is not available; pass 0.5, 1.5 or 2.5")

    def profile(self, s: np.ndarray) -> None:
        np.minimum(s, s.dtype.type(FAR), out=s)
        s *= s.dtype.type(2 * self.nu)
        np.sqrt(s, out=s)  # a
        fall = np.exp(-s)
        if self.nu == 0.5:
            np.copyto(s, fall)
            return
        if self.nu == 2.5:
            s += s * s / s.dtype.type(3)
        s += s.dtype.type(1)
        s *= fall
