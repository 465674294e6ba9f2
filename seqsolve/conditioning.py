"""How far the states of a recurrence are determined: errors carried along by its linearisation.

Where the Jacobians have a structure, or are small, they are computed for a window at once and applied exactly. A dense
step of the user with many numbers would need n backward passes a step for that, many times the loop: there the errors
are carried in order, as differences of the step itself between the state and one beside it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ._torch_threads import few_threads
from .recurrence import Recurrence
from .stretches import carried, division, size_of

# one realisation of rounding may cancel (n = 1, T = 2) and was up to 800 times too small in 16,000 random recurrences
# of up to 100 steps; of the largest of three the true error was 5 times as much once in 26,000, mostly a fifth
_NOISES, _RESERVE = 3, 3.0
_WRITTEN = 32  # numbers in a state of a dense step up to which its Jacobians are cheaper than differences in order
_SEEN = 256  # steps in order that the rate of forgetting is read from
_JACOBIAN_ELEMENTS = 1 << 22  # memory for the Jacobians of one window: O(window n^2), never O(T n^2)


class Growth:
    """How errors grow along given states: carried by the exact linearisation from window to window."""

    def __init__(self, problem: Recurrence, eps: float):
        self.problem, self.eps = problem, eps
        self.residual = self.scale = self.logs = 0.0
        self.steps = 0
        self.gaps, self.noises = _Carried(problem.x0), [_Carried(problem.x0) for _ in range(_NOISES)]

    @property
    def amplification(self) -> float:
        """The largest state of e_t = J_t e_{t-1} + random signs, in the worst of three realisations."""
        return max((noise.largest for noise in self.noises), key=lambda v: (math.isnan(v), v))

    @property
    def bound(self) -> float:
        """First-order distance, over the scale, to the trajectory of the steps as evaluated, plus rounding."""
        return _RESERVE * (self.gaps.largest / (self.scale or 1.0) + self.amplification * self.eps)

    @property
    def lyapunov(self) -> float | None:
        """Mean logarithmic growth of a perturbation a step."""
        return self.logs / self.steps if self.steps else None

    def run(self, states: Tensor, first: int, last: int) -> None:
        """Go over the states of steps first..last; those before are taken as they are."""
        problem, n = self.problem, self.problem.x0.shape[-1]
        self._rng = np.random.default_rng(20240917)  # one answer for one input
        self._perturbation, low, cut = torch.ones_like(problem.x0), first, None
        with few_threads(256 * problem.x0.numel() * n):
            unknown = n > _WRITTEN and problem.unstructured
            window = 256 if unknown else max(1, min(256, _JACOBIAN_ELEMENTS // max(1, problem.x0.numel() * n)))
            while low < last:
                high = min(low + window, last)
                if cut is None and low - first >= _SEEN and problem.unstructured:
                    cut = division(last - low, problem.x0.numel(), self.lyapunov) or ()
                    low = self._side_by_side(states, low, last, cut, window, unknown) if cut else low
                else:
                    self._window(states, low, high, unknown)
                    low = high

    def _side_by_side(self, states: Tensor, first: int, last: int, cut, window: int, unknown: bool) -> int:
        """All stretches of `cut` at once, then those in order whose errors hang on what came before; where they end."""
        found = carried(self.problem, states, first, last, cut, _NOISES)
        met, N = found.met, found.length
        everything = (self.gaps, *self.noises)
        self.scale = max(self.scale, size_of(states[first : first + len(met) * N]))
        if met.any():
            self.residual = max(self.residual, float(found.residual[met].max()))
            self.logs, self.steps = self.logs + float(found.logs[met].sum()), self.steps + int(found.steps[met].sum())
            for one, largest in zip(everything, found.largest[:, met].max(1)):
                one.largest = max(one.largest, float(largest))

        def end(c: int) -> None:  # of a stretch that forgot what it began with
            for one, error in zip(everything, found.errors[:, c]):
                one.error, one.shift = error.clone(), 0.0
            self._perturbation = found.perturbation[c].clone()

        for c in np.flatnonzero(~met).tolist():
            if c and met[c - 1]:
                end(c - 1)
            for low in range(first + c * N, first + (c + 1) * N, window):
                self._window(states, low, min(low + window, first + (c + 1) * N), unknown)
        if met[-1]:
            end(-1)
        return first + len(met) * N

    def _window(self, states: Tensor, low: int, high: int, unknown: bool) -> None:
        """Steps low..high in order, from the errors after the step before."""
        problem = self.problem
        before = torch.cat([(states[low - 1] if low else problem.x0)[None], states[low : high - 1]])
        values, linear = (problem.evaluate(before, low), None) if unknown else problem.linearize(before, low)
        gap = values - states[low:high]
        self.residual = max(self.residual, _largest(gap))
        self.scale = max(self.scale, float(states[low:high].abs().max()))
        signs = torch.from_numpy(self._rng.integers(0, 2, (_NOISES, *gap.shape)) * 2 - 1).to(gap.dtype)
        added = zip((self.gaps, *self.noises), (gap, *signs))
        rhs = [*(one.scaled(what) for one, what in added), torch.zeros_like(gap)]
        errors = [self.gaps.error, *(noise.error for noise in self.noises), self._perturbation]
        if linear is None:
            inputs = problem.inputs[low:high]
            paths = _differences(problem, before, inputs, torch.stack(rhs, 1), torch.stack(errors)).unbind(1)
        else:
            paths = [linear.scan(b, e) for b, e in zip(rhs, errors)]
        for one, path in zip((self.gaps, *self.noises), paths):
            one.advance(path)
        self._perturbation = self._probe(paths[-1], self._perturbation)

    def _probe(self, path: Tensor, probe: Tensor) -> Tensor:
        """One perturbation, rescaled at the end of each window (Benettin et al. 1980)."""
        limits = torch.finfo(probe.dtype)
        sizes = path.abs().flatten(1).amax(1).nan_to_num(math.inf) if path.numel() else path.new_zeros(len(path))
        gone = (sizes < 1e6 * limits.tiny).nonzero()
        if len(gone) and int(gone[0]):  # it dies out within the window: the steps up to there give the rate
            last = int(gone[0]) - 1
            self.logs += math.log(float(sizes[last]))
            self.steps += last + 1
            return torch.ones_like(probe)
        moved = path[-1]
        size = _largest(moved)
        if not math.isfinite(size):
            size, moved = float(limits.max), torch.full_like(moved, float(limits.max))
        self.logs += math.log(max(size, limits.tiny))
        self.steps += len(path)
        return moved / size if size > limits.tiny else torch.ones_like(moved)


class _Carried:
    """An error that runs through the linearisation of window after window, rescaled before it overflows."""

    def __init__(self, x0: Tensor):
        self.error, self.shift, self.largest = torch.zeros_like(x0), 0.0, 0.0

    @property
    def value(self) -> Tensor:
        """The error itself."""
        return self.error * math.exp(min(self.shift, 700.0))

    def enter(self, error: Tensor) -> None:
        """Begin with an error that the steps before hand over."""
        size = _largest(error)
        self.largest = size
        self.error = error.clone() if math.isfinite(size) else torch.zeros_like(error)

    def scaled(self, rhs: Tensor) -> Tensor:
        """What every step adds, in the units of `error`."""
        return rhs * math.exp(-self.shift)

    def advance(self, errors: Tensor) -> None:
        """Take the errors (T, ..., n) of a window, in the units of `error`."""
        size = _largest(errors)
        self.largest = max(self.largest, size * math.exp(self.shift) if self.shift < 600 else math.inf)
        self.error = errors[-1]
        if not math.isfinite(size):
            self.error, self.largest = torch.zeros_like(self.error), math.inf
        elif size > 1e10:
            end = _largest(self.error) or 1.0
            self.error, self.shift = self.error / end, self.shift + math.log(end)


def _differences(problem: Any, before: Tensor, inputs: Tensor, rhs: Tensor, errors: Tensor) -> Tensor:
    """All e_t = J_t e_{t-1} + rhs_t for k errors side by side, (T, k, ..., n), one step of 1 + k states after another.

    J e is the difference of the step at x + h e and at x, over h, with h |e| = sqrt(eps) times the scale of the states:
    its relative error is of order sqrt(eps), and an error that dies out within a step is seen as that much of it.
    """
    limits = torch.finfo(rhs.dtype)
    reach, least = limits.eps**0.5 * (_largest(before) or 1.0), 1e6 * limits.tiny
    states, every = torch.empty((1 + len(errors), *before.shape[1:]), dtype=before.dtype), tuple(range(1, errors.dim()))
    here, beside, out = states[0], states[1:], []
    copies = inputs[:, None].expand(len(inputs), len(states), *inputs.shape[1:])
    for x, u, b in zip(before.unbind(), copies.unbind(), rhs.unbind()):
        h = (reach / errors.abs().amax(every, keepdim=True).clamp_(min=least)).clamp_(max=limits.max)
        here.copy_(x)
        torch.addcmul(x, errors, h, out=beside)
        moved = problem.apply(states, u)
        errors = torch.sub(moved[1:], moved[:1]).div_(h).add_(b)
        out.append(errors)
    return torch.stack(out)


def _largest(values: Tensor) -> float:
    return float(values.abs().nan_to_num(math.inf).max()) if values.numel() else 0.0
