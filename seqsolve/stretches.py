"""Errors carried through stretches of time side by side, where what a stretch inherits is forgotten before it counts.

An error after step t is what the steps up to t have added, each multiplied by the Jacobians since then. Where the
recurrence forgets, all but the last M additions are gone, so that the errors of a stretch of N steps can be had from M
steps before it on, from none, and all stretches at once: N + M steps of a batch in place of one step after another, as
in `shooting`. What is left of perturbations from M steps before shows for every stretch whether that holds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

_LEFT = 1e-3  # of a perturbation before the stretch, which may be missing from the errors inside it
_RESERVE = 1.5  # M over what the rate of forgetting so far asks for
_PROBES = 3  # perturbations that have to be forgotten
_FEWEST, _LONGEST = 512, 240  # steps worth a division; the largest M
_OVERHEAD = 4000  # numbers that a step of all stretches works on in the time of its calls
_FEWER, _NARROW = 20, 8  # times fewer steps that pay for up to 8 numbers, whose Jacobians cost little; then ever less
_RENEWED = 8  # steps after which perturbations are brought back to size one; a divisor of every M


@dataclass
class Stretches:
    """What was found in each of C stretches of N = `length` steps.

    met : whether what came before had no say.  largest : (k, C) of every error.  residual : of the states.
    errors, perturbation : (k, C, ...), (C, ...) after the last step.  logs, steps : the growth of the latter, summed.
    """

    length: int
    met: np.ndarray
    largest: np.ndarray
    residual: np.ndarray
    errors: Tensor
    perturbation: Tensor
    logs: np.ndarray
    steps: np.ndarray


def division(steps: int, numbers: int, lyapunov: float | None) -> tuple[int, int] | None:
    """C and M for so many steps of states of `numbers` numbers; None where one after another is as good."""
    if lyapunov is None or not lyapunov < 0 or steps < _FEWEST:
        return None
    M = math.log(_LEFT) / lyapunov * _RESERVE
    if M > _LONGEST:
        return None
    M = (math.ceil(M / _RENEWED) + 1) * _RENEWED
    C = int(min(math.sqrt(steps / M * _OVERHEAD / (8 * numbers)), steps // (2 * M)))
    fewer = min(_FEWER, max(2.0, _FEWER * _NARROW / numbers))
    return (C, M) if C >= 4 and (steps // C + M) * fewer < steps else None


def carried(problem: Any, states: Tensor, first: int, last: int, cut: tuple[int, int], noises: int) -> Stretches:
    """Errors through the stretches of first..last as `division` has cut it; M < first, what is left over is at the end.

    The first error is added to by the gaps ``f(x_{t-1}, u_t) - x_t``, the others by random signs. ``J e`` is a
    difference of the step, as in `conditioning`.
    """
    (C, M), limits, shape = cut, torch.finfo(states.dtype), tuple(problem.x0.shape)
    N, k, least = (last - first) // C, 1 + noises, 1e6 * limits.tiny
    begin, end = first - M, first + C * N
    before, after, inputs = (
        values.unfold(0, M + N, N)
        for values in (states[begin - 1 : end - 1], states[begin:end], problem.inputs[begin:end])
    )
    reach = limits.eps**0.5 * (size_of(states[begin - 1 : end]) or 1.0)
    every, rng = tuple(range(2, 2 + len(shape))), np.random.default_rng(20240917)  # one answer for one input
    errors = torch.zeros((k + _PROBES, C, *shape), dtype=states.dtype)
    errors[k:] = _signs(rng, (_PROBES, C, *shape), states.dtype)
    batch = torch.empty((1 + k + _PROBES, C, *shape), dtype=states.dtype)
    sizes, growth = errors.abs().amax(every, keepdim=True), _Perturbations(_PROBES, C, least)
    largest, gaps, signs = torch.zeros(k, C, dtype=states.dtype), torch.zeros_like(errors[0]), errors
    for t in range(M + N):
        if t % _RENEWED == 0:
            errors[k:], sizes[k:] = growth.renew(errors[k:], sizes[k:])
            signs = _signs(rng, (_RENEWED, noises, C, *shape), states.dtype)
        if t == M:  # one perturbation tells how the stretch itself grows
            growth.enter()
            errors, sizes, batch = errors[: k + 1], sizes[: k + 1], batch[: k + 2]
        h = (reach / sizes.clamp(min=least)).clamp_(max=limits.max)
        batch[0] = before[..., t]
        torch.addcmul(batch[:1], errors, h, out=batch[1:])
        u = inputs[..., t]
        moved = problem.apply(batch, u.expand(len(batch), *u.shape))
        errors, gap = torch.sub(moved[1:], moved[:1]).div_(h), moved[0] - after[..., t]
        errors[0] += gap
        errors[1:k] += signs[t % _RENEWED]
        sizes = errors.abs().amax(every, keepdim=True)
        now = sizes.reshape(len(sizes), C)
        growth.sizes.append(now[k:])
        if t >= M:
            largest, gaps = torch.maximum(largest, now[:k]), torch.maximum(gaps, gap.abs())
    perturbation = growth.renew(errors[k:], sizes[k:])[0][0]
    residual = gaps.reshape(C, -1).amax(1).nan_to_num(math.inf)
    met = torch.isfinite(largest).all(0).numpy() & (growth.left <= math.log(_LEFT))
    return Stretches(
        N,
        met,
        largest.numpy(),
        residual.numpy(),
        errors[:k],
        perturbation,
        growth.logs,
        growth.steps,
    )


def size_of(states: Tensor) -> float:
    """The largest number of many, without a copy of them."""
    low, high = torch.aminmax(states)
    return max(-float(low), float(high))


class _Perturbations:
    """How large perturbations have become, in logarithms, and how fast the first of them grew since `enter`."""

    def __init__(self, count: int, places: int, least: float):
        self.heights, self.left, self.least = np.zeros((count, places)), np.full(places, -math.inf), least
        self.logs, self.steps, self.sizes, self.inside = np.zeros(places), np.zeros(places, np.int64), [], False

    def enter(self) -> None:
        self.inside, self.heights = True, self.heights.max(0, keepdims=True)
        self.left = self.heights[0].copy()

    def renew(self, errors: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """Account for the steps since the last time; the perturbations at size one again."""
        if self.sizes:
            sizes_seen = torch.stack(self.sizes).double().nan_to_num(math.inf).clamp(min=self.least)
            logs, floor = np.log(sizes_seen.reshape(len(self.sizes), *self.heights.shape).numpy()), math.log(self.least)
            if self.inside:
                self.left = np.maximum(self.left, self.heights[0] + logs[:, 0].max(0))
                alive = np.logical_and.accumulate(logs[:, 0] > floor).sum(0)
                self.logs += np.take_along_axis(logs[:, 0], np.maximum(alive - 1, 0)[None], 0)[0]
                self.steps += np.where(alive, alive, len(logs))
            self.heights = self.heights + logs[-1]
            self.sizes = []
        good = (sizes > self.least) & torch.isfinite(sizes)
        return torch.where(good, errors / sizes, 1.0), torch.ones_like(sizes)


def _signs(rng: np.random.Generator, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    bits = np.unpackbits(np.frombuffer(rng.bytes(-(-math.prod(shape) // 8)), np.uint8), count=math.prod(shape))
    return torch.from_numpy(bits).to(dtype).mul_(2).sub_(1).reshape(shape)
