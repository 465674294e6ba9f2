"""Checks of arguments that several files share; each error says what was given, what is expected, what to do."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad

_HALVES = (torch.float16, torch.bfloat16)
_NUMBERS = (torch.float32, torch.float64, torch.complex64, torch.complex128)


def as_tensor(value, name: str) -> Tensor:
    """A tensor as it is, an array without a copy where that is possible."""
    if isinstance(value, Tensor):
        if value.layout != torch.strided:
            raise TypeError(f"{name} is a tensor of layout {value.layout}; pass {name}.to_dense()")
        return value
    if isinstance(value, np.ndarray | np.generic | list | tuple | float | int | complex):
        array = np.asarray(value)
        if array.dtype == np.float16 or (array.dtype.kind in "fc" and array.dtype.itemsize <= 16):
            if not array.dtype.isnative or any(s < 0 for s in array.strides) or not array.flags.writeable:
                array = array.astype(array.dtype.newbyteorder("="), order="C", copy=True)
            return torch.from_numpy(array)
        if array.dtype.kind in "iub":
            return torch.from_numpy(array.astype(np.float64))
    raise TypeError(
        f"{name} is {_describe(value)}; pass a torch tensor or a numpy array of float32, float64, complex64 or"
        " complex128"
    )


def _describe(value) -> str:
    dtype = getattr(value, "dtype", None)
    return type(value).__name__ if dtype is None else f"a {type(value).__name__} of {dtype}"


def working_dtype(*tensors: Tensor) -> torch.dtype:
    """The one dtype that all are computed in: float16 and bfloat16 in float32."""
    dtype = tensors[0].dtype
    for tensor in tensors[1:]:
        dtype = torch.promote_types(dtype, tensor.dtype)
    if dtype in _HALVES:
        return torch.float32
    if dtype not in _NUMBERS:
        raise TypeError(f"dtype {dtype} is not supported; pass float32, float64, complex64 or complex128")
    return dtype


def choice(value, name: str, known) -> None:
    """`value` is one of `known`."""
    if value not in known:
        raise ValueError(f"{name}={value!r} is unknown; choose one of {', '.join(map(repr, known))}")


def positive_integer(value, name: str) -> int:
    """A whole number >= 1."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name}={value!r} is not an integer")
    if value < 1:
        raise ValueError(f"{name}={value} must be at least 1")
    return int(value)


def destination(out, shape: tuple[int, ...], dtype: torch.dtype, inputs: tuple[Tensor, ...]) -> Tensor:
    """`out` as a tensor on its own memory that a result of this shape and dtype can be written to."""
    if not isinstance(out, Tensor | np.ndarray):
        raise TypeError(f"out is {_describe(out)}; pass a torch tensor or a numpy array of shape {shape}, {dtype}")
    if isinstance(out, np.ndarray) and not out.flags.writeable:
        raise ValueError("out is a read-only array; pass one that can be written to")
    try:
        to = out if isinstance(out, Tensor) else torch.from_numpy(out)
    except (TypeError, ValueError):  # no dtype of torch, bytes in foreign order, negative strides
        raise ValueError(f"out, {_describe(out)}, is no memory torch can use; pass a plain array of {dtype}") from None
    if tuple(to.shape) != shape or to.dtype != dtype or to.device != inputs[1].device:
        raise ValueError(
            f"out has shape {tuple(to.shape)}, {to.dtype} on {to.device}; the result has shape {shape}, {dtype} on"
            f" {inputs[1].device}"
        )
    if to.requires_grad or (to.is_inference() and not torch.is_inference_mode_enabled()):
        raise ValueError("out is followed by autograd or was made in inference mode; pass a plain tensor")
    low, high = _span(to)
    if any(low < end and start < high for start, end in map(_span, inputs)):
        raise ValueError("out shares memory with A, b or h0; pass memory of its own")
    return to


def _span(t: Tensor) -> tuple[int, int]:
    """The addresses from the first to behind the last byte."""
    last = sum((size - 1) * stride for size, stride in zip(t.shape, t.stride(), strict=True))
    return t.data_ptr(), t.data_ptr() + (last + 1) * t.element_size() * bool(t.numel())


functorch: Any = torch._C._functorch  # pyright: ignore[reportAttributeAccessIssue]  (torch has no public names for it)


def transforming() -> bool:
    """Whether a torch.func transform is active."""
    return functorch.maybe_current_level() is not None


#: A function for which torch.compile ends a graph and begins another behind it.
uncompiled: Any = torch.compiler.disable


def tracing() -> bool:
    """Whether torch.compile, torch.export or torch.jit.trace writes down what happens, to repeat it with other data."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def compiling() -> bool:
    """Whether torch.compile is at work, for which a part may run on its own; torch.export wants one graph."""
    exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)
    return torch.compiler.is_compiling() and not exporting()


def dual_level() -> bool:
    """Whether tensors may be dual numbers of forward mode."""
    return forward_ad._current_level >= 0  # pyright: ignore[reportAttributeAccessIssue]


def followed(*tensors: Tensor) -> bool:
    """Whether torch has to know how a result came from these tensors."""
    wanted = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
    return wanted or transforming() or dual_level()
