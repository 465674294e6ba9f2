"""torch's fused attention kernels and the log-partition sums that they return: the state (m, l, acc) = (lse, 1, o).

One path serves the CPU and CUDA. The keys before the first query are seen by all queries, the others causally: one or
two calls, whose states merge.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from . import _checks
from .blocks import backward_blocks
from .state import SoftmaxState
from .visibility import Visibility

aten: Any = torch.ops.aten
fast: Any = torch  # the same operations with less on the way to them
HALF = (torch.float16, torch.bfloat16)
ALIGNED = 8  # features: the CUDA kernels take multiples of this
WIDEST = 256  # features of a head that the CUDA kernels take


class Kernel(NamedTuple):
    """``forward(q, k, v, causal, scale) -> (o, lse, kept)``; backward takes ``(do, q, k, v, o, lse, kept, ...)``.

    Heads are equal in number and features are neighbours in memory. `square` kernels know causality only for as many
    keys as queries.
    """

    forward: Callable
    backward: Callable
    square: bool


def _padded(*tensors: Tensor) -> list[Tensor]:
    """Zero features up to a multiple of ALIGNED; they change no product."""
    return [F.pad(x, (0, -x.shape[-1] % ALIGNED)) if x.shape[-1] % ALIGNED else x for x in tensors]


def _cpu(q, k, v, causal, scale):
    return *fast._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, causal, scale=scale), ()


def _cpu_backward(do, q, k, v, o, lse, kept, causal, scale):
    return aten._scaled_dot_product_flash_attention_for_cpu_backward(do, q, k, v, o, lse, 0.0, causal, scale=scale)


def _flash(q, k, v, causal, scale):
    """FlashAttention-2 on CUDA (Dao 2023, arXiv:2307.08691), half precision."""
    o, lse, *kept = fast._scaled_dot_product_flash_attention(*_padded(q, k, v), 0.0, causal, False, scale=scale)[:8]
    return o[..., : q.shape[-1]], lse, tuple(kept)


def _flash_backward(do, q, k, v, o, lse, kept, causal, scale):
    *lengths, seed, offset = kept
    grads = aten._scaled_dot_product_flash_attention_backward(
        *_padded(do, q, k, v, o), lse, *lengths, 0.0, causal, seed, offset, scale=scale
    )
    return [x[..., : q.shape[-1]] for x in grads]


def _efficient(q, k, v, causal, scale):
    """Memory-efficient attention on CUDA (Rabe and Staats 2021, arXiv:2112.05682), float32; its sums are padded."""
    o, lse, *kept = fast._scaled_dot_product_efficient_attention(
        *_padded(q, k, v), None, True, 0.0, causal, scale=scale
    )
    return o[..., : q.shape[-1]], lse[..., : q.shape[2]], (lse, *kept)


def _efficient_backward(do, q, k, v, o, lse, kept, causal, scale):
    lse, seed, offset = kept
    do, *given = _padded(do, q, k, v)
    rest = None, *_padded(o), lse, seed, offset, 0.0, (True, True, True, False), causal
    grads = aten._scaled_dot_product_efficient_attention_backward(do, *given, *rest, scale=scale)
    return [x[..., : q.shape[-1]] for x in grads[:3]]


CPU = Kernel(_cpu, _cpu_backward, square=False)
FLASH = Kernel(_flash, _flash_backward, square=True)
EFFICIENT = Kernel(_efficient, _efficient_backward, square=True)


def kernel_for(device: str, dtype: torch.dtype, width: int) -> Kernel | None:
    """The fused kernel of a device for a dtype and a width of heads, or None."""
    if device == "cpu":
        return CPU
    if device != "cuda" or width > WIDEST:
        return None
    return FLASH if dtype in HALF else EFFICIENT if dtype == torch.float32 else None


def spans(q: Tensor, k: Tensor, v: Tensor, causal: bool, offset: int) -> list[tuple[int, int, bool]] | None:
    """(first key, last key, whether causally) of the calls that make up this attention; None where none can.

    Every query sees a key there, so that no sum is empty.
    """
    kernel = kernel_for(q.device.type, q.dtype, q.shape[3])
    if kernel is None or q.shape[3] != v.shape[3] or not q.numel() or not k.numel():
        return None
    queries, keys = q.shape[2], k.shape[2]
    if not causal:
        return [(0, keys, False)]
    if offset < 0:
        return None
    if offset + 1 >= keys:  # all keys stand before the first query or at it, as in decoding
        return [(0, keys, False)]
    if kernel.square and offset + queries > keys:
        return None
    diagonal = (offset, min(keys, offset + queries), True)
    return [diagonal] if offset == 0 else [(0, offset, False), diagonal]


def fused(q: Tensor, k: Tensor, v: Tensor, parts: list[tuple[int, int, bool]], scale: float) -> tuple[Tensor, Tensor]:
    """(o, lse) of the calls named by `spans`."""
    learns = torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad)
    done = []
    for low, high, causal in parts:
        keys = (k, v) if high - low == k.shape[2] else (k[:, :, low:high], v[:, :, low:high])
        done.append(FusedAttend.apply(q, *keys, causal, scale) if learns else _run(q, *keys, causal, scale)[:2])
    if len(done) == 1:
        return done[0]
    one, two = (SoftmaxState(lse, torch.ones_like(lse), o.to(lse.dtype)) for o, lse in done)
    both = one.merge(two)
    return both.output(), both.logsumexp


def quick(q: Tensor, k: Tensor, v: Tensor, offset: object, scale: float | None, check_finite: bool):
    """(o, state) of the commonest causal calls, or None: one call on the CPU, nothing learned, everything finite.

    After a step of decoding the caches hold keys, and every object that the interpreter touches comes from memory:
    the checks on the way to `fused` took a third of the time of the kernel at 4096 keys, these take a tenth.
    """
    if not (
        type(q) is type(k) is type(v) is Tensor
        and q.is_cpu
        and k.is_cpu
        and v.is_cpu
        and q.dtype is k.dtype is v.dtype
        and q.dtype in _checks.FLOATS
        and q.ndim == k.ndim == v.ndim == 4
        and q.stride(3) == k.stride(3) == v.stride(3) == 1
        and (offset is None or type(offset) is int)
        and (scale is None or (type(scale) is float and math.isfinite(scale)))
        and not (torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad))
    ):
        return None
    shape, (batch, heads, keys, d) = q.shape, k.shape
    B, H, queries, _ = shape
    first = keys - queries if offset is None else offset
    causal = first + 1 < keys
    grouped = heads != H
    if (
        v.shape != k.shape
        or batch != B
        or shape[3] != d
        or not q.numel()
        or not heads * keys
        or H % heads
        or (causal and (first != 0 or grouped))
    ):
        return None
    rows = q.reshape(B, heads, -1, d) if grouped else q
    o, lse = fast._scaled_dot_product_flash_attention_for_cpu(rows, k, v, 0.0, causal, scale=scale)
    if check_finite and not math.isfinite(o.sum().item()):
        return None
    if grouped:
        o, lse = o.reshape(shape), lse.reshape(shape[:3])
    return o, SoftmaxState(lse, torch.ones_like(lse), o if o.dtype is lse.dtype else o.to(lse.dtype))


def _neighbours(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()  # the kernels do not check it


def _rows(x: Tensor, heads: int, causal: bool) -> Tensor:
    """Queries of a group beside their key head: as heads where position counts, else as rows of one product."""
    B, H, T, d = x.shape
    if heads == H:
        return _neighbours(x)
    return _neighbours(x.reshape(B * heads, H // heads, T, d) if causal else x.reshape(B, heads, -1, d))


def _keys(x: Tensor, groups: int, causal: bool) -> Tensor:
    if groups == 1 or not causal:
        return _neighbours(x)
    return _neighbours(x.reshape(-1, 1, *x.shape[2:])).expand(-1, groups, -1, -1)


def _run(q, k, v, causal: bool, scale: float):
    heads, groups = k.shape[1], q.shape[1] // k.shape[1]
    kernel = cast(Kernel, kernel_for(q.device.type, q.dtype, q.shape[3]))  # spans found one
    k, v = _keys(k, groups, causal), _keys(v, groups, causal)
    o, lse, kept = kernel.forward(_rows(q, heads, causal), k, v, causal, scale)
    if groups > 1:
        o, lse = o.reshape(q.shape), lse.reshape(q.shape[:3])
    return o, lse, kept


def _run_backward(do, q, k, v, o, lse, kept, causal: bool, scale: float):
    heads, groups = k.shape[1], q.shape[1] // k.shape[1]
    kernel = cast(Kernel, kernel_for(q.device.type, q.dtype, q.shape[3]))
    do, Q, o = (_rows(x, heads, causal) for x in (do, q, o))
    K, V = _keys(k, groups, causal), _keys(v, groups, causal)
    dq, dk, dv = kernel.backward(do, Q, K, V, o, lse.reshape(Q.shape[:3]), kept, causal, scale)
    if groups > 1 and causal:
        dk, dv = dk.sum(1).reshape(k.shape), dv.sum(1).reshape(v.shape)
    return dq.reshape(q.shape), dk, dv


class FusedAttend(Function):
    """(o, lse) with the kernel's own backward; the blocks take over for what it does not know."""

    @staticmethod
    def forward(ctx, q, k, v, causal: bool, scale: float):
        o, lse, kept = _run(q, k, v, causal, scale)
        ctx.save_for_backward(q, k, v, o, lse)
        ctx.set_materialize_grads(False)
        ctx.rest = kept, causal, scale
        return o, lse

    @staticmethod
    def backward(ctx, do, dlse):  # pyright: ignore[reportIncompatibleMethodOverride]
        q, k, v, o, lse = ctx.saved_tensors
        kept, causal, scale = ctx.rest
        if do is None and dlse is None:
            return None, None, None, None, None
        if dlse is None and not torch.is_grad_enabled():  # neither a gradient of the sums nor a second derivative
            return *_run_backward(do, q, k, v, o, lse, kept, causal, scale), None, None
        sight = Visibility(q.shape[2], k.shape[2], q.shape[1], causal)
        width = _checks.state_dtype(q.dtype)
        Q, K, V, out = (x.to(width) for x in (q, k, v, o))
        do = None if do is None else do.to(width)
        grads = backward_blocks(Q, K, V, None, None, out, lse, do, dlse, sight, scale, None)[:3]
        return *(x.to(q.dtype) for x in grads), None, None
