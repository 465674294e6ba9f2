"""What a call of a drop-in leaves behind, and the report that is made of it when somebody asks."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from .cells import Layout, Weights
from .conditioning import Growth
from .recurrence import CellRecurrence
from .results import Certificate, Report, Status
from .shooting import Outcome

_SAMPLE, _SHORT = 256, 32  # steps of a call that the report's certificate looks at; shorter calls are not sampled


class Record:
    """What a call leaves behind for its report."""

    def __init__(self, method: str, reason: str, steps: int, workers: int, output: Tensor | None = None):
        self.method, self.reason, self.steps, self.workers, self.output = method, reason, steps, workers, output
        self.samples: list[tuple] = []
        self.chunks: list[Outcome] = []  # a layer and direction each, where chunks were tried

    def keep(self, weights: Weights, x: np.ndarray, layout: Layout, h, c, backwards: bool) -> None:
        """Remember the first steps of the first sequence in one direction of one layer."""
        length = int(layout.lengths[0])
        count = min(_SAMPLE, length)
        if count < _SHORT or weights.w_hr is not None:
            return
        rows = layout.rows(length - count, length) if backwards else layout.rows(0, count)
        start = h[0].copy() if c is None else np.concatenate([h[0], c[0]])
        self.samples.append((weights, start, x[rows[::-1] if backwards else rows]))

    def report(self) -> Report:
        """Check what was kept, only now that somebody asks."""
        finite = self.output is None or bool(torch.isfinite(self.output).all())
        if self.method == "torch":
            status = Status.TORCH if finite else Status.NONFINITE
            return Report("torch", self.reason, Certificate("torch", finite=finite), status, self.steps, self.workers)
        lyapunov, bound, amplification, eps = None, None, None, 0.0
        for weights, *sample in self.samples if finite else ():
            start, inputs = map(torch.from_numpy, sample)
            problem, eps = CellRecurrence(weights, start, inputs), torch.finfo(inputs.dtype).eps
            with torch.no_grad():
                growth = Growth(problem, eps)
                growth.run(problem.advance(start, 0, len(inputs)), 0, len(inputs))
            amplification = max(amplification or 0.0, growth.amplification)
            bound = max(bound or 0.0, growth.bound)
            lyapunov = max(-math.inf if lyapunov is None else lyapunov, growth.lyapunov or -math.inf)
        if bound is not None and lyapunov is not None and lyapunov > 0:  # the sample grows on to the end
            bound *= math.exp(min(lyapunov * (self.steps - _SAMPLE), 700.0)) if self.steps > _SAMPLE else 1.0
        shot = [found for found in self.chunks if not found.abandoned]
        seam = max((found.seam for found in shot), default=None)
        if seam is not None and bound is not None:
            bound += 1.25 * seam * (amplification or 1.0)
        certificate = Certificate(
            "exact sequential" if seam is None else "seam", seam or 0.0, amplification, bound, lyapunov=lyapunov,
            finite=finite, seam=seam,
        )  # fmt: skip
        status = Status.SEQUENTIAL if seam is None else Status.CONVERGED
        if any(found.repaired for found in shot):
            status = Status.REPAIRED
        if not finite:
            status = Status.NONFINITE
        elif not certificate.ok:
            status = Status.CHAOTIC if (lyapunov or 0) > 0 else Status.SENSITIVE
        reason = "; ".join([self.reason, *dict.fromkeys(found.explain() for found in self.chunks)])
        method = "shooting" if shot else self.method
        return Report(method, reason, certificate, status, self.steps, self.workers)
