r"""The gradient of a solution, by the implicit function theorem: one reversed affine scan, whatever method found it.

The states solve :math:`x_t = f(x_{t-1}, u_t; \theta)`. For a loss with derivative g_t by x_t,

.. math:: \lambda_t = g_t + J_{t+1}^T \lambda_{t+1}, \qquad
          \bar u_t = (\partial f / \partial u_t)^T \lambda_t,\quad
          \bar\theta = \sum_t (\partial f / \partial \theta)^T \lambda_t,\quad \bar x_0 = J_1^T \lambda_1

with the exact Jacobians, so that the result is that of autograd through the loop. The reversed scan runs window by
window: memory O(window n^2). Every operation is differentiable, so that second derivatives are those of the loop too.
A known cell whose second derivatives nobody asks for never forms a Jacobian (`cell_gradient`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.forward_ad import _set_fwd_grad_enabled, unpack_dual

from ._checks import dual_level, transforming
from .cell_gradient import cell_gradient, supported
from .recurrence import cell_tensors, cell_values
from .scan import affine_scan

_JACOBIAN_ELEMENTS = 1 << 20


def torch_step(step: Any) -> Callable[[Tensor, Tensor], Tensor]:
    """The step as torch operations with live parameters: a user's own, or a cell in torch's formulas."""
    from .protocol import Cell

    if isinstance(step, Cell):
        return lambda x, u: step.step(x, step.project(u), step.step_parameters())
    found = cell_tensors(step)
    if found is None:
        return step
    kind, tensors = found
    return lambda x, u: cell_values(kind, x, u, *tensors)[0]


def parameters_of(step: Any, x0: Tensor, inputs: Tensor) -> list[Tensor]:
    """All leaves that one step depends on and that want a gradient: a module's parameters, what a closure holds."""
    if not torch.is_grad_enabled() or not len(inputs) or not x0.numel():
        return []
    from .protocol import Cell

    if isinstance(step, Cell) or (isinstance(step, nn.Module) and cell_tensors(step) is not None):
        return [p for p in step.parameters() if p.requires_grad and not p.is_inference()]
    with torch.inference_mode(False), torch.enable_grad():
        y = step(x0.detach().clone(), inputs[0].detach().clone())
    found, seen, todo = [], set(), [getattr(y, "grad_fn", None)]
    if isinstance(y, Tensor) and y.requires_grad and y.grad_fn is None:
        found.append(y)
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.append(node.variable)
        todo += [parent for parent, _ in node.next_functions]
    return found


def attach_gradient(states: Tensor, step: Any, x0: Tensor, inputs: Tensor, parameters: list[Tensor]) -> Tensor:
    """The same states, with the implicit gradient to x0, inputs and parameters."""
    return differentiable(lambda *_: states, step, x0, inputs, parameters)


def differentiable(
    run: Callable[[Tensor, Tensor], Tensor], step: Any, x0: Tensor, inputs: Tensor, parameters: list[Tensor]
) -> Tensor:
    """``run(x0, inputs)``, the states, as a function that torch can differentiate and transform.

    Inside torch.func transforms `run` gets plain tensors; vmap adds its axis as the first one of x0 and of an input.
    """
    return _Implicit.apply(run, step, x0, inputs, *parameters)  # pyright: ignore[reportReturnType]


class _Gate(torch.autograd.Function):
    """The identity, whose gradient is cut while `closed[0]`: partial derivatives of what is linked to the past."""

    @staticmethod
    def forward(ctx, x, closed):
        ctx.closed = closed
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        return (None if ctx.closed[0] else g), None


class _Implicit(torch.autograd.Function):
    @staticmethod
    def forward(run, step, x0, inputs, *parameters):
        return run(x0, inputs).clone()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.set_materialize_grads(False)
        ctx.step = inputs[1]
        ctx.save_for_backward(output, *inputs[2:])
        ctx.save_for_forward(output, *inputs[2:])

    @staticmethod
    def vmap(info, in_dims, run, step, x0, inputs, *parameters):  # pyright: ignore[reportIncompatibleMethodOverride]
        start, u = x0, inputs
        start = start.expand(info.batch_size, *start.shape) if in_dims[2] is None else start.movedim(in_dims[2], 0)
        if in_dims[3] is None:
            u = u.unsqueeze(1).expand(len(u), info.batch_size, *u.shape[1:])
        else:
            u = u.movedim(in_dims[3], 0).movedim(1, 0)  # time stays first
        missing = start.dim() + 1 - u.dim()  # axes of a state that an input was broadcast to
        u = u.reshape(*u.shape[:2], *[1] * missing, *u.shape[2:]) if missing > 0 else u
        return _Implicit.apply(run, step, start, u, *parameters), 1

    @staticmethod
    def jvp(ctx, _run, _step, dx0, du, *_):  # pyright: ignore[reportIncompatibleMethodOverride]
        # torch calls this with forward mode off, which would cut the tangents of an outer jvp; those of this one go
        with _set_fwd_grad_enabled(True):
            states, x0, inputs, *_ = (unpack_dual(t).primal for t in ctx.saved_tensors)
            start = torch.zeros_like(x0) if dx0 is None else dx0
            if not states.numel():
                return torch.zeros_like(states)
            step, before = torch_step(ctx.step), torch.cat([x0[None], states[:-1]])
            rhs = torch.zeros_like(states)
            if du is not None:  # v^T df/du is linear in v, and its derivative by v along du is df/du du
                pull: Any = torch.func.vjp(lambda u: step(before, u), inputs)[1]
                rhs = torch.func.vjp(lambda v: pull(v)[0], rhs)[1](du)[0]
            return affine_scan(_all_jacobians(step, before, inputs), rhs, start, structure="dense", workers=1)

    @staticmethod
    def backward(ctx, g):  # pyright: ignore[reportIncompatibleMethodOverride]
        states, x0, inputs, *parameters = ctx.saved_tensors
        needs = ctx.needs_input_grad[2:]
        if g is None:
            return None, None, *(None for _ in needs)
        if transforming():  # values cannot be looked at
            return None, None, *_pulled(torch_step(ctx.step), states, x0, inputs, g), *(None for _ in parameters)
        bad = (~torch.isfinite(states).flatten(1).all(1)).nonzero()
        steps = int(bad[0]) if len(bad) else len(states)
        if bool((g[steps:] != 0).any()):
            raise ValueError(
                f"the loss depends on states that are NaN or inf, from step {steps} on, and those have no gradient;"
                " leave them out of the loss"
            )
        graph, closed = torch.is_grad_enabled(), [False]  # graph: the caller wants a second derivative
        if not graph:
            found = _by_cell(ctx.step, states[:steps], x0, inputs, parameters, g[:steps], needs)
            if found is not None:
                return None, None, *found
        with torch.enable_grad():
            if graph:
                states, start, u = (_Gate.apply(t, closed) for t in (states, x0, inputs))
            else:
                states, start, u = states.detach(), x0.detach(), inputs.detach().requires_grad_()
            targets = [t for t, need in zip([u, *parameters], needs[1:]) if need]
            total: list[Tensor | None] = [None] * len(targets)
            carry, step = torch.zeros_like(g[0]) if len(g) else torch.zeros_like(x0), torch_step(ctx.step)
            window = max(1, min(256, _JACOBIAN_ELEMENTS // max(1, x0.numel() * x0.shape[-1])))
            for low in reversed(range(0, steps if x0.numel() else 0, window)):
                high = min(low + window, steps)
                before = torch.cat([(states[low - 1] if low else start)[None], states[low : high - 1]])
                JT = _jacobians(step, before, u[low:high], graph).transpose(-1, -2)
                shifted = torch.cat([JT[1:], torch.zeros_like(JT[:1])])
                rhs = torch.cat([g[low : high - 1], (g[high - 1] + carry)[None]])
                adjoint = affine_scan(shifted, rhs, structure="dense", reverse=True, workers=1)
                carry = (JT[0] @ adjoint[0][..., None])[..., 0]
                y = step(before, u[low:high])
                if targets and y.requires_grad:
                    closed[0] = True
                    found = torch.autograd.grad(
                        y, targets, adjoint, allow_unused=True, create_graph=graph, retain_graph=True
                    )
                    closed[0] = False
                    total = [a if b is None else b if a is None else a + b for a, b in zip(total, found)]
        grads = iter([torch.zeros_like(t) if s is None else s for s, t in zip(total, targets)])
        rest = [next(grads) if need else None for need in needs[1:]]
        return None, None, carry if needs[0] else None, *rest


def _by_cell(step, states, x0, inputs, parameters, g, needs) -> list[Tensor | None] | None:
    """The gradients by x0, inputs and parameters of a cell that has a kernel for them; None for any other step."""
    from .protocol import Cell

    if dual_level() or not states.numel():
        return None
    if isinstance(step, Cell):
        return _by_derivative(step, states, x0, inputs, parameters, g, needs)
    with torch.enable_grad():  # weights may be made from the parameters, as torch.nn.utils.parametrize does
        cell = cell_tensors(step)
    if cell is None or not supported(*cell, x0, inputs, states, g):
        return None
    kind, tensors = cell
    wanted = [p for p, need in zip(parameters, needs[2:]) if need]
    own = [t is not None and (t.grad_fn is not None or any(t is p for p in wanted)) for t in tensors]
    by_x0, by_input, found = cell_gradient(kind, tensors, x0, inputs[: len(states)], states, g, [needs[1], *own])
    if by_input is not None and len(states) < len(inputs):
        by_input = torch.cat([by_input, torch.zeros_like(inputs[len(states) :])])
    totals = [torch.zeros_like(p) for p in wanted]
    for t, f in zip(tensors, found):
        for p, total in zip(wanted, totals):
            if f is not None and t is p:
                total += f
    made = [(t, f) for t, f in zip(tensors, found) if f is not None and t.grad_fn is not None]
    if made:
        outputs, gradients = zip(*made)
        parts = torch.autograd.grad(outputs, wanted, gradients, retain_graph=True, allow_unused=True)
        totals = [total if part is None else total + part for total, part in zip(totals, parts)]
    rest = iter(totals)
    return [by_x0 if needs[0] else None, by_input, *(next(rest) if need else None for need in needs[2:])]


def _by_derivative(cell, states, x0, inputs, parameters, g, needs) -> list[Tensor | None] | None:
    """The same of a cell of the user that says its derivative: by the compiled loop, then through its projection."""
    from .cell_derivative import by_derivative, derivative_of

    if derivative_of(cell) is None or not (x0.is_cpu and x0.dtype in (torch.float32, torch.float64)):
        return None
    with torch.enable_grad():
        u = inputs[: len(states)].detach().requires_grad_()
        given = [cell.project(u), *cell.step_parameters()]
    if any(t.dtype != x0.dtype for t in (states, *given)):
        return None
    workers = torch.get_num_threads()
    by_drive, by_x0, *by_params = by_derivative(cell, states, [given[0], x0, *given[1:]], g, workers)
    wanted = [t for t, need in zip([u, *parameters], needs[1:]) if need]
    pairs = [(t, f) for t, f in zip(given, [by_drive, *by_params]) if t.requires_grad]
    found: Any = [None] * len(wanted)
    if wanted and pairs:
        found = torch.autograd.grad([t for t, _ in pairs], wanted, [f for _, f in pairs], allow_unused=True)
    rest = iter([torch.zeros_like(t) if f is None else f for t, f in zip(wanted, found)])
    by_input = next(rest) if needs[1] else None
    if by_input is not None and len(states) < len(inputs):
        by_input = torch.cat([by_input, torch.zeros_like(inputs[len(states) :])])
    return [by_x0 if needs[0] else None, by_input, *(next(rest) if need else None for need in needs[2:])]


def _all_jacobians(step: Callable, before: Tensor, u: Tensor) -> Tensor:
    """J_t as matrices, (T, ..., n, n), by operations that transforms can follow: row k from copy k of the batch."""
    n = before.shape[-1]
    pull: Any = torch.func.vjp(lambda x: step(x, u.expand(n, *u.shape)), before.expand(n, *before.shape))[1]
    rows = torch.eye(n, dtype=before.dtype).reshape(n, *[1] * (before.dim() - 1), n).expand(n, *before.shape)
    return pull(rows)[0].movedim(0, -2)


def _pulled(step: Callable, states: Tensor, x0: Tensor, inputs: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients by x0 and inputs, without a look at any value: memory O(T n^2)."""
    if not states.numel():
        return torch.zeros_like(x0), torch.zeros_like(inputs)
    before = torch.cat([x0[None], states[:-1]])
    JT = _all_jacobians(step, before, inputs).mT
    shifted = torch.cat([JT[1:], torch.zeros_like(JT[:1])])
    adjoint = affine_scan(shifted, g, structure="dense", reverse=True, workers=1)
    by_state, by_input = torch.func.vjp(step, before, inputs)[1](adjoint)
    return by_state[0], by_input


def _jacobians(step: Callable, before: Tensor, u: Tensor, graph: bool) -> Tensor:
    """J_t as matrices: row k from copy k of the batch."""
    n = before.shape[-1]
    x = before.expand(n, *before.shape)
    x = x if graph and x.requires_grad else x.detach().clone().requires_grad_()
    y = step(x, (u if graph else u.detach()).expand(n, *u.shape))
    rows = torch.eye(n, dtype=x.dtype).reshape(n, *[1] * (before.dim() - 1), n).expand_as(y)
    J = torch.autograd.grad(y, x, rows, allow_unused=True, create_graph=graph)[0] if y.requires_grad else None
    return (torch.zeros_like(x) if J is None else J).movedim(0, -2)
