"""What a solve returns: a status that is a sentence, a certificate, and the work that was done."""

from __future__ import annotations

import enum
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

_FORMAT = 1  # of saved solutions


class Status(enum.Enum):
    """How a solve ended; the value is what the user reads."""

    SEQUENTIAL = "Every step was computed in order: the states are exact up to rounding."
    CONVERGED = "The residual met its tolerance at every step."
    REPAIRED = "Some windows did not converge and were recomputed sequentially; the states are exact there."
    DIVERGED = "Some windows did not meet the tolerance. Use on_fail='sequential', a smaller window, or more sweeps."
    CHAOTIC = (
        "The recurrence is chaotic here: the states satisfy it, but rounding alone leads to another trajectory, so"
        " that no method can certify this one."
    )
    SENSITIVE = (
        "The recurrence forgets too slowly for this dtype: rounding errors add up beyond the accuracy limit. Use"
        " float64."
    )
    NONFINITE = "NaN or inf entered the states; from that step on they are those of the sequential recurrence."
    MODEL = (
        "The sweeps that were asked for were made: the states are those of the truncated iteration, and nothing is"
        " certified."
    )
    EMPTY = "There was no step to compute."
    TORCH = "torch's own module did the work."


@dataclass(frozen=True)
class Certificate:
    """What is known about the accuracy of the states.

    kind : "exact sequential", "residual", "seam" (of shooting), "torch", "empty", or "none" for a truncated iteration.
    residual : max over steps of abs(x_t - step(x_{t-1}, u_t)), over the scale of the states (their largest modulus).
    amplification : how large errors of size one with random signs, made at every step, become when the exact
        linearisation carries them along; None where it was not estimated.
    bound : estimated distance to the trajectory, over the scale: the residuals carried along in the same way, to first
        order, plus amplification * eps for rounding, the worst of three realisations taken three times. An estimate,
        not a proof.
    limit : what `bound` may be for `ok`.
    lyapunov : mean logarithmic growth of such an error a step, or None.
    finite : no NaN or inf in the states.
    seam : of shooting, the largest gap between a chunk and what the true end of the chunk before leads to, over the
        scale; it is part of the residual and of the bound. None without seams.
    """

    kind: str
    residual: float = 0.0
    amplification: float | None = None
    bound: float | None = None
    limit: float = 1e-4
    lyapunov: float | None = None
    finite: bool = True
    met: bool = True
    seam: float | None = None

    @property
    def ok(self) -> bool:
        """True only where the states are finite, met the tolerance, and are determined to within `limit`."""
        return self.finite and self.met and (self.bound is None or self.bound <= self.limit)

    def __bool__(self) -> bool:
        return self.ok

    def explain(self) -> str:
        """The certificate in a sentence."""
        if not self.finite:
            return "not certified: NaN or inf in the states"
        text = f"{self.kind}, residual {self.residual:.1e} of the scale"
        if self.seam is not None:
            text += f", seams closed to {self.seam:.1e}"
        if self.bound is not None:
            text += f", rounding errors add up {self.amplification:.3g}-fold, states within about {self.bound:.1e}"
        if not self.met:
            return f"not certified: {text}; the tolerance was not met"
        return text if self.ok else f"not certified: {text}, above the limit {self.limit:.0e}"


#: One record for each sweep of each window.
HISTORY = np.dtype(
    [
        ("window", np.int64),
        ("start", np.int64),
        ("sweep", np.int64),
        ("residual", np.float64),
        ("update", np.float64),
        ("frontier", np.int64),
        ("overflows", np.int64),
        ("damping", np.float64),
        ("seconds", np.float64),
    ]
)


def no_history() -> np.recarray:
    """A history without any sweep."""
    return np.zeros(0, HISTORY).view(np.recarray)


@dataclass(frozen=True)
class Solution:
    """The states of a recurrence, how they were found and how far they can be trusted.

    states : (T, ..., n), step t at index t, in the array kind of the inputs.
    status : how it ended.  method, window, reason : what was chosen and why.
    sweeps : mean number of sweeps a window; 1 for a sequential solve.
    certificate : accuracy; `ok` is a short cut to certificate.ok.
    history : one record a sweep: window, start, sweep, residual, update, frontier, overflows, damping,
        seconds.
    """

    states: Any
    status: Status
    method: str
    window: int
    reason: str
    sweeps: float
    certificate: Certificate
    history: np.recarray = field(default_factory=no_history)
    repaired: int = 0
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether the trajectory is certified."""
        return self.certificate.ok

    def explain(self) -> str:
        """What was done, why, and what it is worth, as a person reads it."""
        lines = [
            f"method: {self.method} ({self.reason})",
            f"status: {self.status.value}",
            f"certificate: {self.certificate.explain()}",
        ]
        if self.method == "shooting" and len(self.history):
            lines.append(
                f"work: {len(self.history)} passes over chunks of {self.window} steps, {self.repaired} chunks repaired,"
                f" {self.seconds:.3g} s"
            )
        elif len(self.history):
            windows = len(np.unique(self.history["window"]))
            lines.append(
                f"work: {windows} windows of up to {self.window} steps, {self.sweeps:.2f} sweeps a window,"
                f" {int(self.history['overflows'].sum())} overflows, {self.repaired} windows repaired,"
                f" {self.seconds:.3g} s"
            )
        else:
            lines.append(f"work: one pass, {self.seconds:.3g} s")
        return "\n".join(lines)

    def plot_convergence(self, *, ax: Any = None) -> Any:
        """Residual after each sweep; see `seqsolve.plotting`."""
        from .plotting import plot_convergence

        return plot_convergence(self, ax=ax)

    def save(self, path: Any) -> Path:
        """Write everything to one .npz file, without pickles; states as a numpy array, bfloat16 as float32."""
        states, kind = self.states, "numpy"
        if not isinstance(states, np.ndarray):
            kind = str(states.dtype).removeprefix("torch.")
            states = (states.float() if kind == "bfloat16" else states).detach().cpu().numpy()
        facts = {
            **{name: getattr(self, name) for name in ("method", "window", "reason", "sweeps", "repaired", "seconds")},
            "status": self.status.name, "certificate": asdict(self.certificate), "kind": kind, "format": _FORMAT,
        }  # fmt: skip
        path = Path(path)
        path = path if path.suffix == ".npz" else path.with_name(path.name + ".npz")
        np.savez(path, states=states, history=np.asarray(self.history), facts=json.dumps(facts))
        return path

    @classmethod
    def load(cls, path: Any) -> Solution:
        """Read what `save` wrote; the gradient is not part of it."""
        with np.load(path, allow_pickle=False) as archive:
            if "facts" not in archive.files:
                raise ValueError(f"{path} holds {archive.files}; pass a file that Solution.save wrote")
            facts = json.loads(str(archive["facts"]))
            states, history = archive["states"], archive["history"].view(np.recarray)
        if facts.pop("format") != _FORMAT:
            raise ValueError(f"{path} was written by another version of seqsolve; save it again")
        kind = facts.pop("kind")
        if kind != "numpy":
            import torch

            states = torch.from_numpy(states).to(getattr(torch, kind))
        status, certificate = Status[facts.pop("status")], Certificate(**facts.pop("certificate"))
        return cls(states=states, status=status, certificate=certificate, history=history, **facts)

    def __repr__(self) -> str:
        shape = tuple(getattr(self.states, "shape", ()))
        return (
            f"Solution(states of shape {shape}, method={self.method!r}, status={self.status.name},"
            f" sweeps={self.sweeps:.2f}, ok={self.ok})"
        )


@dataclass(frozen=True)
class Report:
    """What `parallelize` did in its last call.

    method : "sequential" (one fused loop), "shooting" (chunks of time side by side in some layer) or "torch".
    reason : why.
    certificate : how far the outputs can be trusted; `certificate.ok` is False after NaN and for chaos.
    """

    method: str
    reason: str
    certificate: Certificate
    status: Status
    steps: int = 0
    workers: int = 1

    def explain(self) -> str:
        """The report in three lines."""
        return (
            f"method: {self.method} ({self.reason})\nstatus: {self.status.value}\n"
            f"certificate: {self.certificate.explain()}"
        )
