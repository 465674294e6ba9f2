r"""The gradient through a cell of your own: by its compiled derivative, by one reversed scan, or by its steps in torch.

For states of :math:`x_t = \mathrm{step}(x_{t-1}, a_t, \theta)` and derivatives g_t of a loss by x_t,

.. math:: \lambda_t = g_t + J_{t+1}^T \lambda_{t+1},\quad
          \bar a_t = (\partial x_t / \partial a_t)^T \lambda_t,\quad
          \bar\theta = \sum_t (\partial x_t / \partial \theta)^T \lambda_t.

A cell that says its derivative has all three from one compiled loop, last step first. Of any other, either all
Jacobians at once and a scan (`implicit`), or the steps in torch once more: whichever is measured to be faster, once for
a size.
"""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numba.core.caching import NullCache
from numba.core.dispatcher import Dispatcher
from torch import Tensor

from ._jit import kernel as compiled
from ._threads import thread_map

_GROUPS = 8  # parts of a batch that sum the gradients of parameters for themselves, whatever the number of threads
_TRIAL, _FEW = 128, 8  # steps of the scan, and in torch, by which the two other ways are compared
_WORTH_A_THREAD = 5e-4  # seconds of work, estimated from the sizes, that pay for one more thread


class CellGradient(torch.autograd.Function):
    """Forward by the compiled loop `run`; backward by the fastest way there is."""

    @staticmethod
    def forward(ctx, run, cell, workers, drive, x0, *params):  # pyright: ignore[reportIncompatibleMethodOverride]
        states = run(cell, drive, x0, workers)
        ctx.cell, ctx.workers = cell, workers
        ctx.save_for_backward(states, drive, x0, *params)
        return states

    @staticmethod
    def backward(ctx, g):  # pyright: ignore[reportIncompatibleMethodOverride]
        states, *saved = ctx.saved_tensors
        wanted, graph = ctx.needs_input_grad[3:], torch.is_grad_enabled()
        found: Sequence[Tensor | None]
        if graph or not math.isfinite(float(states.sum())):  # a second derivative, or what has none
            found = by_steps(ctx.cell, saved, g, wanted, graph)
        elif derivative_of(ctx.cell) is not None:
            found = by_derivative(ctx.cell, states, saved, g, ctx.workers)
        else:
            scan = _scan_is_faster(ctx.cell, states, saved, g, wanted)
            found = by_scan(ctx.cell, states, saved, g, wanted) if scan else by_steps(ctx.cell, saved, g, wanted)
        return None, None, None, *(f if w else None for f, w in zip(found, wanted))


def by_steps(cell, saved: Sequence[Tensor], g: Tensor, wanted, graph: bool = False) -> list[Tensor | None]:
    """By x0, drive and params through the steps in torch, one after another."""
    with torch.enable_grad():
        views = [t.view_as(t) if w else t for t, w in zip(saved, wanted)]
        x, states = views[1], []
        for a in views[0]:
            x = cell.step(x, a, tuple(views[2:]))
            states.append(x)
        return _filled(torch.stack(states), views, wanted, g, graph)


def by_scan(cell, states: Tensor, saved: Sequence[Tensor], g: Tensor, wanted) -> list[Tensor | None]:
    """By x0, drive and params from all Jacobians at once: time O(T n) evaluations of a step in large batches."""
    from .implicit import differentiable

    with torch.enable_grad():
        drive, x0, *params = views = [t.detach().requires_grad_(w) for t, w in zip(saved, wanted)]
        known = differentiable(lambda *_: states, lambda x, a: cell.step(x, a, tuple(params)), x0, drive, params)
        return _filled(known, views, wanted, g, False)


def _filled(states, views, wanted, g, graph) -> list[Tensor | None]:
    leaves = [v for v, w in zip(views, wanted) if w]
    rest = iter(torch.autograd.grad(states, leaves, g, create_graph=graph, allow_unused=True))
    return [next(rest) if w else None for w in wanted]


def _scan_is_faster(cell, states, saved, g, wanted) -> bool:
    """Measured on the first steps, once for each size of a batch."""
    drive, x0, *params = saved
    known = cell.__dict__.setdefault("_measured", {})
    key = ("gradient", x0.numel(), min(len(drive), _TRIAL).bit_length(), drive.dtype, torch.get_num_threads())
    if len(drive) <= _FEW:
        return False
    if key not in known:
        few, some = [drive[:_FEW], x0, *params], [drive[:_TRIAL], x0, *params]
        one = _seconds(lambda: by_steps(cell, few, g[:_FEW], wanted)) / _FEW
        other = _seconds(lambda: by_scan(cell, states[:_TRIAL], some, g[:_TRIAL], wanted)) / len(some[0])
        known[key] = other < one
    return known[key]


def _seconds(run: Callable[[], Any]) -> float:
    found = []
    for _ in range(3):
        clock = time.perf_counter()
        run()
        found.append(time.perf_counter() - clock)
    return min(found)


def derivative_of(cell) -> Any:
    """The compiled loop of the chain rule over the steps of a cell, or None."""
    for name in ("derivative_loop", "derivative"):
        found = inspect.getattr_static(type(cell), name)
        found = found.__func__ if isinstance(found, staticmethod) else found
        if found is not None:
            return found if name == "derivative_loop" else _around(found)
    return None


@cache
def _around(step: Any) -> Any:
    step = step if isinstance(step, Dispatcher) else compiled(step)

    def loop(start, drive, params, states, g, carry, by_drive, by_params, low, high):
        total = np.empty_like(carry[0])
        for b in range(low, high):
            for k in range(len(drive)):
                t = len(drive) - 1 - k
                x = states[t - 1, b] if t else start[b]
                for i in range(total.size):
                    total[i] = g[t, b, i] + carry[b, i]
                step(x, drive[t, b], params, states[t, b], total, carry[b], by_drive[t, b], by_params)

    made = compiled(loop)
    made._cache = NullCache()  # numba would key a file by the identity of `step`, which another process has not
    return made


def by_derivative(cell, states: Tensor, saved: Sequence[Tensor], g: Tensor, workers: int) -> list[Tensor | None]:
    """By x0, drive and params from the compiled loop."""
    drive, x0, *params = (t.detach() for t in saved)
    if not cell.__dict__.get("_agreed"):
        _compare(cell, drive, x0, params, states)
        cell.__dict__["_agreed"] = True
    by_x0, by_drive, by_params = _run(cell, drive, x0, params, states, g, workers)
    return [by_drive, by_x0, *by_params]


def _run(cell, drive, x0, params, states, g, workers) -> tuple[Tensor, Tensor, list[Tensor]]:
    T, n, loop = len(drive), x0.shape[-1], derivative_of(cell)

    def rows(t: Tensor, size: int) -> np.ndarray:
        return t.detach().to(x0.dtype).reshape(T, -1, size).contiguous().numpy()

    a = rows(drive, drive.shape[-1]).copy(order="C")  # a step may write
    start = x0.reshape(-1, n).contiguous().numpy()
    known, by_states, batch = rows(states, n), rows(g, n), len(start)
    weights = tuple(p.to(x0.dtype).contiguous().numpy() for p in params)
    by_drive, carry = torch.zeros(a.shape, dtype=x0.dtype), torch.zeros(batch, n, dtype=x0.dtype)
    count = max(1, min(_GROUPS, batch))
    cuts = [batch * k // count for k in range(count + 1)]
    sums = [tuple(np.zeros_like(w) for w in weights) for _ in range(count)]
    seconds = T * batch * (1e-7 + 1e-9 * drive.shape[-1] + 6e-10 * sum(w.size for w in weights))

    def go(job):
        mine, part = job
        loop(start, a, weights, known, by_states, carry.numpy(), by_drive.numpy(), mine, *part)

    thread_map(go, zip(sums, pairwise(cuts)), max(1, min(workers, 1 + int(seconds / _WORTH_A_THREAD))))
    totals = [torch.from_numpy(sum(parts[1:], parts[0])).to(p.dtype) for parts, p in zip(zip(*sums), params)]
    return carry.reshape(x0.shape), by_drive.reshape(drive.shape).to(drive.dtype), totals


def _compare(cell, drive, x0, params, states) -> None:
    """The compiled derivative beside that of autograd, once, on one step of one sequence."""
    n = x0.shape[-1]
    a, x = drive[:1].reshape(1, -1, drive.shape[-1])[:, :1], x0.reshape(-1, n)[:1]
    new = states[:1].reshape(1, -1, n)[:, :1]
    g = torch.cos(torch.arange(1.0, n + 1, dtype=x0.dtype)).reshape(1, 1, n)  # entries that do not repeat
    by_x, by_a, by_params = _run(cell, a, x, params, new, g, 1)
    leaves = [t.detach().clone().requires_grad_() for t in (a, x, *params)]
    exact = by_steps(cell, leaves, g, [True] * len(leaves))
    names = ["by_a", "by_x", *(f"by_params[{k}]" for k in range(len(params)))]
    for name, ours, theirs in zip(names, [by_a, by_x, *by_params], exact):
        theirs = torch.zeros_like(ours) if theirs is None else theirs
        gap, size = float((ours - theirs).abs().max()), float(theirs.abs().max()) if theirs.numel() else 0.0
        if not gap <= 1e-3 * max(size, 1e-3):
            raise ValueError(
                f"the derivative that {type(cell).__name__} gives differs from that of its step in torch: {name} by"
                f" {gap:.2g} (largest entry {size:.2g}); correct `derivative`, or leave it out to have the gradient"
                " found by torch"
            )
