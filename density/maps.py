"""Monotone maps from the line, a half line or an interval to (0, 1): the image of the data is nearly flat there.

With u = F((x - loc) / scale) a density p on (0, 1) becomes q(x) = p(u) F'((x - loc) / scale) / |scale|.
"""

from dataclasses import dataclass

import numpy as np

LINE = ("normal", "logistic", "laplace", "cauchy")
BOUNDED = ("affine", "arcsine")
HALF = ("exponential", "loglogistic", "lognormal")
MAPS = (*LINE, *BOUNDED, *HALF, "mixture")  # stored densities hold the position in this row: only ever append


@dataclass(frozen=True)
class Map:
    """One map with its location and scale.

    A bounded one takes [loc, loc + scale] to [0, 1]. One of a half line takes [loc, inf) there, or (-inf, loc] where
    scale < 0; "loglogistic" and "lognormal" see ``shape * log((x - loc) / scale)``.
    """

    kind: str
    loc: float
    scale: float
    shape: float = 1.0

    @property
    def bounded(self) -> bool:
        """Whether the map's density lives on an interval."""
        return self.kind in BOUNDED

    @property
    def singular(self) -> bool:
        """Whether the map's density is infinite at an end of its support."""
        return self.kind == "arcsine" or (self.kind == "loglogistic" and self.shape < 1)

    @property
    def support(self) -> tuple[float, float]:
        """Where the map's density is positive."""
        if self.bounded:
            return self.loc, self.loc + self.scale
        if self.kind in HALF:
            return (self.loc, np.inf) if self.scale > 0 else (-np.inf, self.loc)
        return -np.inf, np.inf

    @property
    def tail_index(self) -> float:
        """Moments of this order and above are infinite."""
        return {"cauchy": 1.0, "loglogistic": self.shape}.get(self.kind, np.inf)

    def n_parameters(self, stated: bool) -> int:
        """Numbers of the map that were taken from the data; `stated` where the caller gave the support."""
        if self.kind in HALF:
            return (1 if self.shape == 1 else 2) + (0 if stated else 1)
        return 0 if stated else 2

    def describe(self) -> str:
        """Name and numbers."""
        shape = f", shape={self.shape:.4g}" if self.shape != 1 else ""
        return f"{self.kind}(loc={self.loc:.6g}, scale={self.scale:.6g}{shape})"

    def centred(self) -> "tuple[float, float, Map]":
        """(loc, |scale|, the same map without them): x = loc + |scale| z keeps its digits far from 0."""
        return self.loc, abs(self.scale), Map(self.kind, 0.0, np.sign(self.scale), self.shape)

    def forward(self, x):
        """u = F(z) in [0, 1]."""
        return self._distribution(x, self.scale < 0)

    def complement(self, x):
        """1 - u, accurate where u is close to 1."""
        return self._distribution(x, self.scale > 0)

    def inverse(self, u):
        """x with forward(x) = u; the ends of the support at 0 and 1."""
        return self._quantile(u, self.scale < 0)

    def inverse_complement(self, v):
        """x with complement(x) = v."""
        return self._quantile(v, self.scale > 0)

    def log_derivative(self, x):
        """log du/dx; -inf outside the support."""
        z = self._standard(x)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            if self.kind in HALF:
                inside = _HALF_LOG_DERIVATIVE[self.kind](np.maximum(z, 0), self.shape)
                return np.where(z < 0, -np.inf, inside) - np.log(abs(self.scale))
            return _LOG_DERIVATIVE[self.kind](z) - np.log(self.scale)

    def _standard(self, x):
        return (np.asarray(x, dtype=np.float64) - self.loc) / self.scale

    def _distribution(self, x, flip):
        z = self._standard(x)
        with np.errstate(divide="ignore", over="ignore"):
            if self.kind in HALF:
                return _HALF_FORWARD[self.kind](np.maximum(z, 0), self.shape, flip)
            return _FORWARD[self.kind]((1 - z if self.bounded else -z) if flip else z)

    def _quantile(self, u, flip):
        u = np.asarray(u, dtype=np.float64)
        with np.errstate(divide="ignore", over="ignore"):  # quantiles beyond the doubles are infinite
            if self.kind in HALF:
                return self.loc + self.scale * _HALF_INVERSE[self.kind](u, self.shape, flip)
            z = _INVERSE[self.kind](u)
            return self.loc + self.scale * ((1 - z if self.bounded else -z) if flip else z)


def _logistic(z):
    return np.exp(np.minimum(z, 0)) / (
        1 + np.exp(-np.abs(z))
    )  # without a choice by sign, which costs four exponentials


def _logit(u):
    return np.log(u) - np.log1p(-u)


def _normal(z):
    from scipy.special import ndtr

    return ndtr(z)


def _normal_inverse(u):
    from scipy.special import ndtri

    return ndtri(u)


def _laplace(z):
    return np.abs((np.asarray(z) >= 0) - np.exp(-np.abs(z)) / 2)


def _laplace_inverse(u):
    return np.where(u < 0.5, np.log(2 * u), -np.log(2 * (1 - u)))


def _cauchy(z):
    # arctan loses the small tail to 1/2 - pi/2; arctan2(1, -z) keeps it.
    return np.arctan2(1, -z) / np.pi


def _cauchy_inverse(u):
    return np.where(u < 0.5, -1 / np.tan(np.pi * u), 1 / np.tan(np.pi * (1 - u)))


def _inside(z, value):
    return np.where((z < 0) | (z > 1), -np.inf, value + 0 * np.clip(z, 0, 1))  # NaN stays NaN


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


# Maps of a half line, z >= 0; with `flip` the function of 1 - u instead of u.


def _loglogistic_slope(z, c):
    t = c * np.log(z)
    # z <= 1: t - log z = (c - 1) log z, which is 0 for c = 1 also at z = 0
    ahead = np.where(z > 1, -np.log(z) - np.abs(t), 0.0 if c == 1 else (c - 1) * np.log(z))
    return np.log(c) + ahead - 2 * np.log1p(np.exp(-np.abs(t)))


def _lognormal_slope(z, c):
    t = c * np.log(z)
    slope = np.log(c) - np.log(z) - 0.5 * t * t - 0.5 * np.log(2 * np.pi)
    return np.where(z == 0, -np.inf, slope)


_HALF_FORWARD = {
    "exponential": lambda z, c, flip: np.exp(-z) if flip else -np.expm1(-z),
    "loglogistic": lambda z, c, flip: _logistic((-c if flip else c) * np.log(z)),
    "lognormal": lambda z, c, flip: _normal((-c if flip else c) * np.log(z)),
}
_HALF_INVERSE = {
    "exponential": lambda u, c, flip: -np.log(u) if flip else -np.log1p(-u),
    "loglogistic": lambda u, c, flip: np.exp((-1 / c if flip else 1 / c) * _logit(u)),
    "lognormal": lambda u, c, flip: np.exp((-1 / c if flip else 1 / c) * _normal_inverse(u)),
}
_HALF_LOG_DERIVATIVE = {
    "exponential": lambda z, c: -z,
    "loglogistic": _loglogistic_slope,
    "lognormal": _lognormal_slope,
}

# Interquartile range of each standard density.
_SPREAD = {"logistic": 2 * np.log(3), "normal": 1.3489795003921634, "laplace": 2 * np.log(2), "cauchy": 2.0}


def check_map(name) -> str:
    """A kind that works, "auto", or an error that names those that do."""
    if name != "auto" and name not in MAPS:
        raise ValueError(
            f"map={name!r} is not known; pass 'auto', one of {list(MAPS)}, or an object with "
            "forward, inverse and log_derivative"
        )
    return name


def candidates(kind: str, *, support, quartiles, extent) -> list[Map]:
    """The maps that a fit tries for this kind.

    Parameters
    ----------
    support : (lo, hi) that the caller stated, one of them possibly infinite, or None.
    quartiles : (q1, median, q3) of the data.
    extent : (lo, hi) of the data, with the room that a new sample may need.
    """
    if support is not None and np.isinf(support).any():
        return _half_line(kind, support, quartiles, extent)
    if kind in HALF:
        raise ValueError(f"map={kind!r} is that of a half line; state which: support=(0, np.inf), say")
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


def _half_line(kind: str, support, quartiles, extent) -> list[Map]:
    """Maps that end where the caller said: by the median distance from there, and by the quartiles of its logarithm."""
    if kind != "auto" and kind not in HALF:
        raise ValueError(
            f"map={kind!r} does not end at one side as support=({support[0]:g}, {support[1]:g}) does; "
            f"pass map='auto' or one of {list(HALF)}"
        )
    right = np.isfinite(support[0])
    end = support[0] if right else support[1]
    near, middle, far = sorted(abs(float(q) - end) for q in quartiles)
    width = abs((extent[1] if right else extent[0]) - end)
    middle = middle if middle > 1e-12 * width else width / 8
    sign = 1.0 if right else -1.0
    octaves = np.log(far / near) if near > 1e-12 * width and far > near else 2 * np.log(3)
    logistic, normal = (_SPREAD[name] / octaves for name in ("logistic", "normal"))
    every = [
        Map("exponential", end, sign * middle / float(np.log(2))),
        Map("exponential", end, sign * 2 * middle / float(np.log(2))),
        Map("loglogistic", end, sign * middle),
        Map("loglogistic", end, sign * middle, float(logistic)),
        Map("lognormal", end, sign * middle, float(normal / 1.25)),
        Map("lognormal", end, sign * middle, float(normal)),
    ]
    return [m for m in every if kind in ("auto", m.kind)]
