"""`solve` inside torch.func transforms (vmap, jvp, grad and what they compose to) and with forward-mode dual numbers.

The values of a transformed tensor cannot be looked at, and a solver must look at residuals. Where x0 or inputs are
transformed, the solve runs as one operation on the values below all transforms, and has rules of its own: vmap adds a
batch axis, derivatives are implicit. Where the step itself holds transformed tensors, torch lets nobody reach their
values, and the steps run in order in torch, as the transform would have it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack, temporarily_pop_interpreter_stack
from torch.autograd import forward_ad

from ._checks import dual_level, functorch, transforming
from .implicit import differentiable, parameters_of, torch_step
from .results import Certificate, Solution, Status, no_history


def _special(t: Any) -> bool:
    """A tensor of a transform, or a dual number."""
    if not isinstance(t, Tensor):
        return False
    wrapped = functorch.is_functorch_wrapped_tensor(t)
    return wrapped or (dual_level() and forward_ad.unpack_dual(t).tangent is not None)


def under_transform(step: Any, x0: Any, inputs: Any) -> bool:
    """Whether `solve` must not look at x0, inputs, or what the step returns."""
    if not transforming() and not dual_level():
        return False
    parts = x0 if isinstance(x0, tuple) else (x0,)
    return any(_special(t) for t in (*parts, inputs)) or _holds_special(step, x0, inputs)


def _holds_special(step: Any, x0: Any, inputs: Any) -> bool:
    """Whether a step from plain numbers gives a transformed tensor: then the step's own tensors are transformed."""
    if not callable(step) or not isinstance(x0, Tensor) or not isinstance(inputs, Tensor) or not len(inputs):
        return False
    try:
        y = torch_step(step)(*_plain(x0, inputs))
    except RuntimeError:  # made inside a transform that is put aside here; or wrong, which the steps in order will say
        return True
    if not isinstance(y, Tensor) or functorch.is_batchedtensor(y):
        return isinstance(y, Tensor)
    tracked = functorch.is_gradtrackingtensor(y) and y.requires_grad
    if tracked or (dual_level() and forward_ad.unpack_dual(y).tangent is not None):
        return True
    if not transforming():
        return False
    with temporarily_pop_interpreter_stack():  # each transform sees its own tensors alone
        return _holds_special(step, x0, inputs)


def _plain(x0: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
    return torch.zeros(x0.shape, dtype=x0.dtype), torch.zeros(inputs.shape[1:], dtype=inputs.dtype)


def solve_transformed(
    solve: Callable[..., Solution], step: Any, x0: Any, inputs: Any, options: dict[str, Any]
) -> Solution:
    """The solution whose states belong to the transforms; what is certified are the values below them."""
    for name in ("guess", "model_sweeps"):
        if options.get(name) is not None:
            raise ValueError(
                f"{name}= has no rule inside torch.func transforms; leave it out, or differentiate with torch.autograd"
            )
    if not isinstance(inputs, Tensor):
        raise TypeError(f"inputs is {type(inputs).__name__}; inside a torch.func transform pass tensors")
    start = torch.cat(list(x0), dim=-1) if isinstance(x0, tuple) else x0
    dtype = torch.promote_types(start.dtype, inputs.dtype)
    start, u = start.to(dtype), inputs.to(dtype)
    if _holds_special(step, start, u):
        return _in_order(step, start, u)
    found: list[Solution] = []

    def run(x0: Tensor, u: Tensor) -> Tensor:
        with torch.no_grad():
            found.append(solve(step, x0, u, **options))
        return found[-1].states

    parameters: list[Tensor] = []
    if len(u):
        with temporarily_clear_interpreter_stack():
            plain, one = _plain(start, u)
            parameters = parameters_of(step, plain, one[None])
    states = differentiable(run, step, start, u, parameters)
    return replace(found[-1], states=states)


def _in_order(step: Any, x: Tensor, inputs: Tensor) -> Solution:
    """One torch step after the other; nothing can be looked at, so nothing is certified."""
    apply, out = torch_step(step), []
    for u in inputs:
        x = apply(x, u)
        out.append(x)
    return Solution(
        torch.stack(out), Status.SEQUENTIAL, "sequential", len(out),
        "the step holds tensors of a torch.func transform, whose values torch hides: its steps run in order", 1.0,
        Certificate("none", met=False), no_history(),
    )  # fmt: skip
