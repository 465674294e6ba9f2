"""What a fit tried, what it chose, and how sure it is."""

import enum
from dataclasses import dataclass, fields
from typing import Any

import numpy as np


class FitWarning(UserWarning):
    """A fit was returned that its user should look at."""


class Status(enum.Enum):
    """How a fit ended; the value is what the user reads."""

    CERTIFIED = "No model of this order on this map can gain more than the certified gap."
    UNCERTIFIED = "The certified gap is above 1e-6 nats: a better model of this order may exist."


class _Numbers:
    """Numbers of Python in place of numpy's, whose printed form hides them."""

    def __post_init__(self):
        for f in fields(self):  # pyright: ignore[reportArgumentType]  (the children are dataclasses)
            value: Any = getattr(self, f.name)
            if isinstance(value, np.generic):
                object.__setattr__(self, f.name, value.item())

    def __repr__(self) -> str:
        named = ((f.name, getattr(self, f.name)) for f in fields(self))  # pyright: ignore[reportArgumentType]
        inside = ", ".join(f"{name}={v:.7g}" if isinstance(v, float) else f"{name}={v!r}" for name, v in named)
        return f"{type(self).__name__}({inside})"


@dataclass(frozen=True, repr=False)
class Candidate(_Numbers):
    """One map that was tried, with its best order; best where `worth` is high: mean log-likelihood less 3/2 of every
    number fitted over n (AIC3), nats a sample."""

    map: str
    scale: float
    order: int
    worth: float


@dataclass(frozen=True, repr=False)
class OrderStep(_Numbers):
    """One order that was tried on the chosen map; `aic` and `score`, the criterion asked for, are best where low."""

    order: int
    log_likelihood: float
    aic: float
    score: float


@dataclass(frozen=True, repr=False)
class FitReport(_Numbers):
    """Everything that a fit tried and measured.

    Attributes
    ----------
    status : how it ended.
    n : samples, or the effective number of them where weights were given; atoms count.
    candidates, order_path : what was tried, in the order of trying; empty where the caller chose.
    grid : step of the rounding that was found in the data, or None.
    atoms : (value, mass) of the values that were taken out as point masses.
    gap_nats : bound on what the best model of this order could still gain, nats per sample.
    criterion : "aic", "bic" or "cv": what chose the order.
    gamma : weight of the penalty on int p'^2; 0 for none.
    polish : "direct" or "finufft" where the last steps were made on the exact samples, else None.
    seconds : wall time of the fit; not part of equality nor of `to_bytes`.
    """

    status: Status
    n: float
    candidates: tuple[Candidate, ...] = ()
    order_path: tuple[OrderStep, ...] = ()
    grid: float | None = None
    atoms: tuple[tuple[float, float], ...] = ()
    gap_nats: float = float("nan")
    criterion: str = "aic"
    gamma: float = 0.0
    polish: str | None = None
    seconds: float = 0.0


def sentences(p) -> str:
    """What was chosen and why, for the user of a density."""
    r, m = p.report, p.map
    lines = [f"{r.status.value} (gap {p.gap_nats:.2e} nats a sample, n = {r.n:g})"]
    where = m.describe()
    if r.candidates:
        best = max(r.candidates, key=lambda c: c.worth)
        score = f"{best.worth:.6f} nats a sample"
        lines.append(f"Map: {where}; best of {len(r.candidates)} by AIC3, {score}.")
    else:
        lines.append(f"Map: {where}; as asked.")
    if len(r.order_path) > 1:
        why = {"aic": "lowest AIC", "bic": "lowest BIC", "cv": "best cross-validated likelihood"}[r.criterion]
        lines.append(f"Order: {p.order}, the {why} of {len(r.order_path)} orders tried, {p.basis} basis.")
    else:
        lines.append(f"Order: {p.order}, {p.basis} basis.")
    if r.gamma:
        lines.append(f"Roughness: {r.gamma:.3g} times the integral of p'^2 was taken from the likelihood.")
    if r.polish:
        lines.append(f"The last Newton steps went over the exact samples ({r.polish} sums), without binning.")
    if p.tail.mass:
        lines.append(
            f"Safety tail: Cauchy of mass {p.tail.mass:.2e} at {p.tail.loc:.6g}, so that no value has probability 0; "
            "mean and var are those of the fitted part."
        )
    else:
        lines.append(f"No safety tail: the support from {p.support[0]:.6g} to {p.support[1]:.6g} is believed.")
    if r.grid is not None:
        lines.append(
            f"The data are rounded to multiples of {r.grid:.6g}: the likelihood is that of the rounding cells."
        )
    if r.atoms:
        first = sorted(r.atoms, key=lambda a: -a[1])[:4]
        named = ", ".join(f"{value:.6g} ({mass:.2%})" for value, mass in first)
        more = f" and {len(r.atoms) - 4} more" if len(r.atoms) > 4 else ""
        lines.append(f"Atoms, which the pdf leaves out and the cdf holds: {named}{more}.")
    return "\n".join(lines)
