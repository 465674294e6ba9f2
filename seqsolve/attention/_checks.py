"""What a caller may pass, and the sentence that answers anything else."""

import math

import torch
from torch import Tensor

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def tensor(name: str, x: object, ndim: int, layout: str) -> Tensor:
    """`x` when it is a floating tensor of `ndim` axes, named by `layout` in the error."""
    if not isinstance(x, Tensor):
        kind = type(x)
        raise TypeError(
            f"{name} is a {kind.__module__}.{kind.__name__}, expected a torch tensor {layout}; "
            f"convert it with torch.as_tensor({name})"
        )
    if x.ndim != ndim:
        raise ValueError(f"{name} has shape {tuple(x.shape)}, expected {ndim} axes {layout}; add or remove axes")
    if x.dtype not in FLOATS:
        raise TypeError(f"{name} has dtype {x.dtype}, expected float16, bfloat16, float32 or float64; cast it first")
    return x


def triple(q: object, k: object, v: object) -> tuple[Tensor, Tensor, Tensor]:
    """Queries (B, Hq, Tq, d), keys (B, Hk, Tk, d) and values (B, Hk, Tk, dv) that fit together."""
    q, k, v = (tensor(name, x, 4, "(batch, heads, time, d)") for name, x in (("q", q), ("k", k), ("v", v)))
    if not q.dtype == k.dtype == v.dtype:
        raise TypeError(f"q, k, v have dtypes {q.dtype}, {k.dtype}, {v.dtype}; cast them to one dtype")
    if not q.device == k.device == v.device:
        raise ValueError(f"q, k, v lie on {q.device}, {k.device}, {v.device}; move them to one device")
    if k.shape[:3] != v.shape[:3]:
        raise ValueError(
            f"k {tuple(k.shape)} and v {tuple(v.shape)} differ before their last axis; give each key one value"
        )
    if q.shape[0] != k.shape[0]:
        raise ValueError(f"q has batch {q.shape[0]}, k and v have batch {k.shape[0]}; make them equal")
    if q.shape[3] != k.shape[3]:
        raise ValueError(f"q has width {q.shape[3]}, k has width {k.shape[3]}; queries and keys need one width")
    if k.shape[1] == 0 or q.shape[1] % k.shape[1]:
        raise ValueError(
            f"q has {q.shape[1]} heads, k and v have {k.shape[1]}; "
            "the heads of q must be a multiple of theirs (grouped-query attention)"
        )
    if q.shape[3] == 0:
        raise ValueError(f"q has shape {tuple(q.shape)}: the width of a head is 0; pass at least one feature")
    return q, k, v


def scale_of(scale: float | None, width: int) -> float:
    """The factor on q . k: 1 / sqrt(d) unless given."""
    if scale is None:
        return width**-0.5
    scale = float(scale)
    if scale != scale or scale in (float("inf"), -float("inf")):
        raise ValueError(f"scale={scale} is not finite; leave it None for 1/sqrt(d)")
    return scale


def positive(name: str, value: object, meaning: str) -> int:
    """`value` as an int of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}={value!r} is not an integer; pass {meaning}")
    if value < 1:
        raise ValueError(f"{name}={value} is less than 1; pass {meaning}")
    return value


def is_finite(*tensors: Tensor) -> bool:
    """Whether all entries are finite, one pass over each tensor in the common case.

    A sum is finite only if its terms are; where it overflows, the extremes tell.
    """
    for x in tensors:
        if x.numel() and not math.isfinite(x.detach().sum().item()):
            low, high = torch.aminmax(x.detach())
            if not (math.isfinite(low.item()) and math.isfinite(high.item())):
                return False
    return True


def state_dtype(dtype: torch.dtype) -> torch.dtype:
    """Half precision is accumulated in float32; float32 and float64 in themselves."""
    return torch.float64 if dtype == torch.float64 else torch.float32
