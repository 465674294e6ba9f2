"""Affine scans on devices other than the CPU: by Triton where it runs, by tensor operators alone elsewhere."""

from __future__ import annotations

import torch
from torch import Tensor


def device_scan(A: Tensor, b: Tensor, h0: Tensor, kind: str, reverse: bool) -> Tensor:
    """Kinds "scalar", "diag" and "block" on a device; where products of A overflow, one row after the other."""
    kernels = _triton() if b.is_cuda else None
    if kernels is not None and kind == "scalar":
        A, kind = A.reshape(-1, *[1] * (b.dim() - 1)).expand(b.shape), "diag"
    if kernels is not None and kernels.fits(A, kind):
        out = kernels.triton_scan(A, b, h0, kind, reverse)
    else:
        out = doubling(A, b, h0, kind, reverse)
    last = out[0] if reverse else out[-1]
    if torch.isfinite(last).all() or not all(torch.isfinite(t).all() for t in (A, b, h0)):
        return out
    return rows(A, b, h0, kind, reverse)


def _triton():
    """The Triton kernels, or None where triton is not installed."""
    try:
        from . import _triton_scan
    except ImportError:
        return None
    return _triton_scan


def doubling(A: Tensor, b: Tensor, h0: Tensor, kind: str, reverse: bool) -> Tensor:
    """Recursive doubling by tensor operators alone: log2 T passes (Hillis and Steele 1986, doi:10.1145/7902.7903)."""
    from ._affine import apply

    if reverse:
        return doubling(A.flip(0), b.flip(0), h0, kind, False).flip(0)
    h = torch.cat([apply(A[:1], h0[None], kind) + b[:1], b[1:]])
    k = 1
    while k < len(h):
        h = torch.cat([h[:k], h[k:] + apply(A[k:], h[:-k], kind)])
        A = torch.cat([A[:k], A[k:] @ A[:-k] if kind == "block" else A[k:] * A[:-k]])
        k *= 2
    return h


def rows(A: Tensor, b: Tensor, h0: Tensor, kind: str, reverse: bool) -> Tensor:
    """One step after the other: slow, and exact wherever the recurrence itself is."""
    from ._affine import apply

    out, h = torch.empty_like(b, memory_format=torch.contiguous_format), h0[None]
    for t in reversed(range(len(b))) if reverse else range(len(b)):
        h = apply(A[t : t + 1], h, kind) + b[t : t + 1]
        out[t] = h[0]
    return out
