"""Checked and normalised inputs of the recurrences: (B, H, T, width) in the dtype of the state."""

from typing import Any

import torch
from torch import Tensor

from seqsolve.attention import _checks


def sequences(q: Tensor | None, k: Tensor, v: Tensor, *, same_width: bool = False) -> tuple[Any, Tensor, Tensor]:
    """q (B, H, T, dk), k (B, H, T, dk), v (B, H, T, dv); fewer heads in one of them are shared evenly by the others.

    With `same_width` all have the width of v (recurrences of single channels); q may be None there.
    """
    named = [(name, x) for name, x in (("q", q), ("k", k), ("v", v)) if x is not None]
    for name, x in named:
        _checks.tensor(name, x, 4, "(batch, heads, time, d)")
    for name, x in named:
        if x.shape[0] != v.shape[0] or x.shape[2] != v.shape[2]:
            raise ValueError(
                f"{name} has shape {tuple(x.shape)}, v has {tuple(v.shape)}; batch and time must be the same"
            )
        if x.dtype != v.dtype or x.device != v.device:
            raise TypeError(
                f"{name} is {x.dtype} on {x.device}, v is {v.dtype} on {v.device}; use one dtype and one device"
            )
    widths = {name: x.shape[3] for name, x in named}
    if same_width and len(set(widths.values())) > 1:
        raise ValueError(f"widths {widths} differ; this recurrence works channel by channel and needs one width")
    if q is not None and q.shape[3] != k.shape[3]:
        raise ValueError(f"q has width {q.shape[3]}, k has width {k.shape[3]}; queries and keys need one width")
    if 0 in widths.values():
        raise ValueError(f"widths {widths}: a head of width 0 holds nothing; pass at least one feature")
    heads = max(x.shape[1] for _, x in named)
    compute = _checks.state_dtype(v.dtype)
    shared = {name: _shared(name, x, heads).to(compute) for name, x in named}
    return shared.get("q"), shared["k"], shared["v"]


def _shared(name: str, x: Tensor, heads: int) -> Tensor:
    if x.shape[1] == heads:
        return x
    if x.shape[1] == 0 or heads % x.shape[1]:
        raise ValueError(f"{name} has {x.shape[1]} heads among {heads}; the number of heads must divide {heads}")
    return x.repeat_interleave(heads // x.shape[1], 1)


def like(name: str, x: object, k: Tensor, *shape: int, meaning: str, real: bool = True, fixed: bool = False) -> Tensor:
    """`x` broadcast to `shape`, in the dtype of `k` (complex where `real` is False and x is).

    A `fixed` parameter serves all steps, so that NaN or +inf in it is an error; elsewhere it starts at its step.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} is a {type(x).__name__}, expected a torch tensor: {meaning}")
    if real and x.is_complex():
        raise TypeError(f"{name} is complex, expected real numbers: {meaning}")
    if not (x.is_complex() or x.dtype in _checks.FLOATS):
        raise TypeError(f"{name} has dtype {x.dtype}, expected floating numbers: {meaning}")
    if x.ndim > len(shape) or any(n not in (1, m) for n, m in zip(x.shape[::-1], shape[::-1])):
        raise ValueError(f"{name} has shape {tuple(x.shape)}, which does not broadcast to {shape}: {meaning}")
    if fixed and bool((torch.isnan(x) | (x.abs() == torch.inf) & (x != -torch.inf)).any()):
        raise ValueError(f"{name} holds NaN or infinity, which would spoil every step; {meaning}")
    return x.to(k.device, k.dtype.to_complex() if x.is_complex() else k.dtype).expand(shape)


def decay(x: Tensor, k: Tensor, *, vector: bool) -> Tensor:
    """log_decay as (B, H, T, dk) or, one factor a head and step, (B, H, T, 1); a constant (H,) or (H, dk) is spread."""
    B, H, T, dk = k.shape
    if vector:
        meaning = "log of the decay, (B, H, T, dk) or broadcastable to it, at most 0"
        return like("log_decay", x, k, B, H, T, dk, meaning=meaning)
    if isinstance(x, Tensor) and x.ndim == 1:
        x = x[:, None]
    meaning = "log of the decay, (B, H, T), or (H,) for a constant, at most 0"
    return like("log_decay", x, k, B, H, T, meaning=meaning)[..., None]


def added_input(o: Tensor, skip: Tensor | None, v: Tensor, meaning: str) -> Tensor:
    """o + skip * v: the feed-through of state-space models."""
    if skip is None:
        return o
    return o + like("skip", skip, v, v.shape[1], v.shape[3], meaning=meaning, fixed=True)[:, None] * v


def discretised_gap(z: Tensor) -> Tensor:
    """(exp(z) - 1) / z without cancellation at small z, for complex z."""
    small = z.abs() < 1e-2
    safe = torch.where(small, torch.ones_like(z), z)
    series = 1 + z / 2 * (1 + z / 3 * (1 + z / 4 * (1 + z / 5 * (1 + z / 6))))
    return torch.where(small, series, (torch.exp(safe) - 1) / safe)
