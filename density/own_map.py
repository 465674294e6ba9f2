"""Maps that the caller brings: checked on entry, then used like ours."""

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

_NEEDED = ("forward", "inverse", "log_derivative")


class MonotoneMap(Protocol):
    """What `fit` asks of a map of one's own: three functions of arrays, F increasing from 0 to 1.

    An optional fourth, ``complement(x) = 1 - forward(x)``, keeps the digits of small upper tails.
    """

    def forward(self, x: Any, /) -> Any:
        """u = F(x)."""
        ...

    def inverse(self, u: Any, /) -> Any:
        """x with F(x) = u; the ends of the support, which may be infinite, at 0 and 1."""
        ...

    def log_derivative(self, x: Any, /) -> Any:
        """log F'(x)."""
        ...


@dataclass(frozen=True)
class OwnMap:
    """The caller's map behind the face of `density.maps.Map`."""

    given: Any
    support: tuple[float, float]
    kind: ClassVar[str] = "own"
    scale: ClassVar[float] = float("nan")
    singular: ClassVar[bool] = False
    tail_index: ClassVar[float] = np.inf  # not known: moments are as good as their quadrature

    @property
    def bounded(self) -> bool:
        """Whether both ends of the support are finite."""
        return bool(np.isfinite(self.support).all())

    def n_parameters(self, stated: bool) -> int:
        """None: the caller brought the map."""
        return 0

    def describe(self) -> str:
        """The class of the caller's object."""
        return f"own({type(self.given).__name__})"

    def centred(self):
        """(0, 1, self): nothing is known of its location."""
        return 0.0, 1.0, self

    def forward(self, x):
        """u = F(x), 0 and 1 outside the support."""
        return self._on_support(self.given.forward, x, 0.0, 1.0)

    def complement(self, x):
        """1 - u."""
        if hasattr(self.given, "complement"):
            return self._on_support(self.given.complement, x, 1.0, 0.0)
        return 1 - self.forward(x)

    def inverse(self, u):
        """x with forward(x) = u."""
        u = np.asarray(u, dtype=np.float64)
        inner = (u > 0) & (u < 1)
        x = self._call(self.given.inverse, np.where(inner, u, 0.5))
        return np.where(inner, x, np.where(u <= 0, self.support[0], self.support[1]))

    def inverse_complement(self, v):
        """x with complement(x) = v."""
        return self.inverse(1 - np.asarray(v, dtype=np.float64))

    def log_derivative(self, x):
        """log du/dx; -inf outside the support."""
        return self._on_support(self.given.log_derivative, x, -np.inf, -np.inf)

    def _on_support(self, function, x, below, above):
        x = np.asarray(x, dtype=np.float64)
        lo, hi = self.support
        inner = (x >= lo) & (x <= hi) & np.isfinite(x)
        if not inner.any():
            value = x
        else:
            value = self._call(function, np.where(inner, x, x[inner].flat[0]))
        outer = np.where(x <= lo, below, np.where(x >= hi, above, np.nan))
        return np.where(inner, value, outer)

    def _call(self, function, x):
        with np.errstate(all="ignore"):
            return np.asarray(function(x), dtype=np.float64)


def own_map(given, quantile) -> OwnMap:
    """The caller's map, once it has proved on the data that it is one.

    Parameters
    ----------
    given : object with forward, inverse and log_derivative.
    quantile : function of an array of probabilities, the quantiles of the data.
    """
    missing = [name for name in _NEEDED if not callable(getattr(given, name, None))]
    if missing:
        raise TypeError(
            f"map={given!r} has no {', '.join(missing)}; pass a name, or an object with forward, inverse and "
            "log_derivative of arrays"
        )
    name = f"map={type(given).__name__}"
    with np.errstate(all="ignore"):
        lo, hi = np.asarray(given.inverse(np.array([0.0, 1.0])), dtype=np.float64)
    if not lo < hi:
        raise ValueError(f"{name}: inverse(0)={lo:g} and inverse(1)={hi:g} must be the ends of the support")
    m = OwnMap(given, (float(lo), float(hi)))
    x = np.unique(quantile(np.linspace(0, 1, 65)))
    if x[0] < lo or x[-1] > hi:
        raise ValueError(f"{name} ends at {lo:g} and {hi:g}, but the data run from {x[0]:.6g} to {x[-1]:.6g}")
    u = m.forward(x)
    if u.shape != x.shape or not np.isfinite(u).all() or (u < 0).any() or (u > 1).any():
        raise ValueError(f"{name}: forward must give one number in [0, 1] for each sample")
    if (np.diff(u) <= 0).any():
        j = int(np.argmin(np.diff(u)))
        raise ValueError(f"{name}: forward must increase, but forward({x[j]:.6g}) >= forward({x[j + 1]:.6g})")
    probe = np.linspace(0, 1, 101)[1:-1]
    back = m.forward(m.inverse(probe))
    wrong = np.abs(back - probe)
    if not wrong.max() < 1e-6:
        j = int(np.argmax(np.where(np.isnan(wrong), np.inf, wrong)))
        raise ValueError(f"{name}: forward(inverse({probe[j]:.2f})) is {back[j]:.6g}; inverse must undo forward")
    # Gauss's rule on every gap between the quantiles: the slope must add up to the rise.
    nodes, weights = np.polynomial.legendre.leggauss(16)
    half = np.diff(x)[:, None] / 2
    rise = (np.exp(m.log_derivative(x[:-1, None] + half * (1 + nodes))) * half) @ weights
    wrong = np.abs(rise - np.diff(u)) / np.diff(u)
    if not np.median(wrong) < 1e-4:
        raise ValueError(f"{name}: log_derivative is not the logarithm of the slope of forward on the data")
    return m
