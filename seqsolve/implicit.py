r"""The gradient of a solution, by the implicit function theorem: one reversed affine scan, whatever method found it.

The states solve :math:`x_t = f(x_{t-1}, u_t; \theta)`. For a loss with derivative g_t by x_t,

.. math:: \lambda_t = g_t + J_{t+1}^T \lambda_{t+1}, \qquad
          \bar u_t = (\partial f / \partial u_t)^T \lambda_t,\quad
          \bar\theta = \sum_t (\partial f / \partial \theta)^T \lambda_t,\quad \bar x_0 = J_1^T \lambda_1

with the exact Jacobians, so that the result is that of autograd through the loop. The reversed scan runs window by
window: memory O(window n^2). Every operation is differentiable, so that second derivatives are those of the loop too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .cells import GATES
from .linearization import Gates
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
    return _Implicit.apply(states, step, x0, inputs, *parameters)  # pyright: ignore[reportReturnType]


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
    def forward(ctx, states, step, x0, inputs, *parameters):
        ctx.set_materialize_grads(False)
        out = states.clone()
        ctx.step = step
        ctx.save_for_backward(out, x0, inputs, *parameters)
        return out

    @staticmethod
    def backward(ctx, g):
        states, x0, inputs, *parameters = ctx.saved_tensors
        needs = ctx.needs_input_grad[2:]
        if g is None:
            return None, None, *(None for _ in needs)
        bad = (~torch.isfinite(states).flatten(1).all(1)).nonzero()
        steps = int(bad[0]) if len(bad) else len(states)
        if bool((g[steps:] != 0).any()):
            raise ValueError(
                f"the loss depends on states that are NaN or inf, from step {steps} on, and those have no gradient;"
                " leave them out of the loss"
            )
        graph, closed = torch.is_grad_enabled(), [False]  # graph: the caller wants a second derivative
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
                JT = _jacobians(ctx.step, step, before, u[low:high], graph).transpose(-1, -2)
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


def _jacobians(given: Any, step: Callable, before: Tensor, u: Tensor, graph: bool) -> Tensor:
    """J_t as matrices: in closed form for a cell, else row k from copy k of the batch."""
    found = None if graph else cell_tensors(given)
    if found is not None:
        kind, tensors = found
        U = tensors[1].detach()
        n, H = before.shape[-1], U.shape[1]
        _, D, C = cell_values(kind, before, u.detach(), *(t if t is None else t.detach() for t in tensors))
        D = D.reshape(len(before), -1, *((2, H) if kind == "lstm" else (H,)))
        C = C.reshape(len(before), -1, GATES[kind], H)
        shape = (*before.shape[1:-1], n)
        return Gates(U.contiguous().numpy(), D, C, shape, kind == "lstm").matrices()
    n = before.shape[-1]
    x = before.expand(n, *before.shape)
    x = x if graph and x.requires_grad else x.detach().clone().requires_grad_()
    y = step(x, (u if graph else u.detach()).expand(n, *u.shape))
    rows = torch.eye(n, dtype=x.dtype).reshape(n, *[1] * (before.dim() - 1), n).expand_as(y)
    J = torch.autograd.grad(y, x, rows, allow_unused=True, create_graph=graph)[0] if y.requires_grad else None
    return (torch.zeros_like(x) if J is None else J).movedim(0, -2)
