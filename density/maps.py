"""Monotone maps from the line to (0, 1): the density is fitted on the image, where it is nearly flat.

With u = F((x - loc) / scale) a density p on (0, 1) becomes q(x) = p(u) F'((x - loc) / scale) / scale.
"""

from dataclasses import dataclass

import numpy as np

MAPS = ("normal", "logistic", "laplace", "cauchy", "affine", "arcsine")
BOUNDED = ("affine", "arcsine")


@dataclass(frozen=True)
class Map:
    """One map with its location and scale; a bounded one maps [loc, loc + scale] onto [0, 1]."""

    kind: str
    loc: float
    scale: float

    @property
    def bounded(self) -> bool:
        """Whether the image of the map's density is an interval."""
        return self.kind in BOUNDED

    @property
    def support(self) -> tuple[float, float]:
        """Where the map's density is positive."""
        return (self.loc, self.loc + self.scale) if self.bounded else (-np.inf, np.inf)

    def forward(self, x):
        """u = F(z) in [0, 1]."""
        return _FORWARD[self.kind]((np.asarray(x, dtype=np.float64) - self.loc) / self.scale)

    def complement(self, x):
        """1 - u, accurate where u is close to 1."""
        z = (np.asarray(x, dtype=np.float64) - self.loc) / self.scale
        return _FORWARD[self.kind](1 - z if self.bounded else -z)

    def inverse(self, u):
        """x with forward(x) = u; the ends of the support at 0 and 1."""
        with np.errstate(divide="ignore"):
            return self.loc + self.scale * _INVERSE[self.kind](np.asarray(u, dtype=np.float64))

    def log_derivative(self, x):
        """log du/dx; -inf outside a bounded support."""
        z = (np.asarray(x, dtype=np.float64) - self.loc) / self.scale
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return _LOG_DERIVATIVE[self.kind](z) - np.log(self.scale)


def _logistic(z):
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1, e) / (1 + e)


def _logit(u):
    return np.log(u) - np.log1p(-u)


def _normal(z):
    from scipy.special import ndtr

    return ndtr(z)


def _normal_inverse(u):
    from scipy.special import ndtri

    return ndtri(u)


def _laplace(z):
    half = np.exp(-np.abs(z)) / 2
    return np.where(z >= 0, 1 - half, half)


def _laplace_inverse(u):
    return np.where(u < 0.5, np.log(2 * u), -np.log(2 * (1 - u)))


def _cauchy(z):
    # arctan loses the small tail to 1/2 - pi/2; arctan2(1, -z) keeps it.
    return np.arctan2(1, -z) / np.pi


def _cauchy_inverse(u):
    return np.where(u < 0.5, -1 / np.tan(np.pi * u), 1 / np.tan(np.pi * (1 - u)))


def _inside(z, value):
    return np.where((z >= 0) & (z <= 1), value, -np.inf)


_FORWARD = {
    "logistic": _logistic,
    "normal": _normal,
    "laplace": _laplace,
    "cauchy": _cauchy,
    "affine": lambda z: np.clip(z, 0, 1),
    # The density is infinite at both ends; its logarithm is held at the value one rounding away from them.
    # 2 arcsin(sqrt(z)) / pi = arccos(1 - 2 z) / pi, without the cancellation at 0
    "arcsine": lambda z: 2 / np.pi * np.arcsin(np.sqrt(np.clip(z, 0, 1))),
}
_INVERSE = {
    "logistic": _logit,
    "normal": _normal_inverse,
    "laplace": _laplace_inverse,
    "cauchy": _cauchy_inverse,
    "affine": lambda u: u,
    "arcsine": lambda u: np.sin(np.pi / 2 * u) ** 2,
}
_LOG_DERIVATIVE = {
    "logistic": lambda z: -np.abs(z) - 2 * np.log1p(np.exp(-np.abs(z))),
    "normal": lambda z: -0.5 * z * z - 0.5 * np.log(2 * np.pi),
    "laplace": lambda z: -np.abs(z) - np.log(2),
    "cauchy": lambda z: -np.log(np.pi) - 2 * np.log(np.hypot(1, z)),
    "affine": lambda z: _inside(z, 0.0),
    "arcsine": lambda z: _inside(z, -np.log(np.pi) - 0.5 * np.log(np.maximum(z * (1 - z), np.finfo(float).eps))),
}

# Interquartile range of each standard density.
_SPREAD = {"logistic": 2 * np.log(3), "normal": 1.3489795003921634, "laplace": 2 * np.log(2), "cauchy": 2.0}


def check_map(name: str) -> str:
    """A kind that works, "auto", or an error that names those that do."""
    if not isinstance(name, str):
        raise NotImplementedError(f"map={name!r}: own maps are not built yet; pass 'auto' or one of {list(MAPS)}")
    if name == "mixture":
        raise NotImplementedError(f"map='mixture' is not built yet; pass 'auto' or one of {list(MAPS)}")
    if name != "auto" and name not in MAPS:
        raise ValueError(f"map={name!r} is not known; pass 'auto' or one of {list(MAPS)}")
    return name


def candidates(kind: str, *, support, quartiles, extent) -> list[Map]:
    """The maps that a fit tries for this kind.

    Parameters
    ----------
    support : (lo, hi) that the caller stated, or None.
    quartiles : (q1, median, q3) of the data.
    extent : (lo, hi) of the data, with the room that a new sample may need.
    """
    lo, hi = extent if support is None else support
    box = [Map("affine", lo, hi - lo), Map("arcsine", lo, hi - lo)]
    if kind in BOUNDED:
        return [m for m in box if m.kind == kind]
    if support is not None:
        if kind == "auto":
            return box
        raise ValueError(f"map={kind!r} covers the whole line, but support=({lo:g}, {hi:g}) was given; drop one")
    q1, median, q3 = quartiles
    spread = q3 - q1
    # Half of the data in a few ties leave no quartile range; the extent is then the only scale there is.
    spread = spread if spread > 1e-12 * (hi - lo) else (hi - lo) / 8

    def scaled(name, factors):
        return [Map(name, float(median), float(spread / _SPREAD[name] * f)) for f in factors]

    if kind == "auto":
        return [
            *scaled("logistic", (1.0, 2.0, 0.5)),
            *scaled("normal", (1.25,)),
            *scaled("laplace", (1.0,)),
            *scaled("cauchy", (1.0,)),
            *box,
        ]
    return scaled(kind, {"logistic": (1.0, 2.0, 0.5), "normal": (1.25, 2.0, 1.0)}.get(kind, (1.0, 2.0)))
