"""The affine scan of checked tensors, its derivatives in both modes, its rule under vmap, and the kernel it chooses.

Four kinds of A are left here: "scalar" (T,), "diag" (T, ..., n), "block" (T, ..., k, k) and "constant" (n, n). b and h0
already have the shape of all states and of one state.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.forward_ad import _set_fwd_grad_enabled, unpack_dual

from ._threads import thread_map

_CHUNKED = 1 << 19  # elements from which time is cut into chunks; a property of the data, never of the threads
_CHUNKS = 8
_SERIES = (1, 2, 4)  # numbers a step of which several steps share a register
_WIDE = 8  # numbers a step that fill one


class Settings(NamedTuple):
    """What a scan is besides its tensors; a state beyond `limit` does not fit the dtype that is returned."""

    kind: str
    reverse: bool = False
    workers: int | None = 1  # None, all cores, only while an operator is being traced
    limit: float = math.inf


def apply(A: Tensor, h: Tensor, kind: str) -> Tensor:
    """A_t h_t for a stretch of steps, the product that one step takes."""
    if kind == "block":
        return (A @ h[..., None])[..., 0]
    if kind == "constant":
        return h @ A.mT
    if kind == "scalar":
        A = A.reshape(-1, *[1] * (h.dim() - 1))
    return A * h


class AffineScan(torch.autograd.Function):
    """The scan; its adjoint is again a scan, lambda_t = g_t + A_{t+1}^H lambda_{t+1}, and so is its tangent."""

    @staticmethod
    def forward(A, b, h0, settings):
        return run(A, b, h0, settings)

    @staticmethod
    def setup_context(ctx, inputs, output):
        A, _, h0, settings = inputs
        ctx.save_for_backward(A, h0, output)
        ctx.save_for_forward(A, h0, output)
        ctx.settings = settings

    @staticmethod
    def backward(ctx, g):  # pyright: ignore[reportIncompatibleMethodOverride]
        A, h0, h = ctx.saved_tensors
        return *pulled_back(AffineScan.apply, A, h0, h, g, ctx.settings), None

    @staticmethod
    def jvp(ctx, da, db, dh0, _):  # pyright: ignore[reportIncompatibleMethodOverride]
        # torch calls this with forward mode off, which would cut the tangents of an outer jvp; those of this one go
        with _set_fwd_grad_enabled(True):
            A, h0, h = (unpack_dual(t).primal for t in ctx.saved_tensors)
            rhs = torch.zeros_like(h) if db is None else db
            if da is not None and len(h):
                rhs = rhs + apply(da, _before(h, h0, ctx.settings.reverse), ctx.settings.kind)
            start = torch.zeros_like(h0) if dh0 is None else dh0
            return AffineScan.apply(A, rhs, start, ctx.settings._replace(limit=math.inf))

    @staticmethod
    def vmap(info, in_dims, A, b, h0, settings):  # pyright: ignore[reportIncompatibleMethodOverride]
        """The new axis becomes the first axis of a state."""
        count, kind = info.batch_size, settings.kind
        if kind == "constant" and in_dims[0] is not None:  # one matrix each: one scan each
            A = A.movedim(in_dims[0], 0)
            b, h0 = (
                t.expand(count, *t.shape) if d is None else t.movedim(d, 0)
                for t, d in zip((b, h0), in_dims[1:3], strict=True)
            )
            return torch.stack([AffineScan.apply(*parts, settings) for parts in zip(A, b, h0, strict=True)]), 0
        b = _batched(b, in_dims[1], 1, count)
        h0 = _batched(h0, in_dims[2], 0, count)
        if kind == "scalar" and in_dims[0] is not None:
            A = A.movedim(in_dims[0], 1).reshape(len(b), count, *[1] * (b.dim() - 2)).expand(b.shape)
            settings = settings._replace(kind="diag")
        elif kind not in ("scalar", "constant"):
            A = _batched(A, in_dims[0], 1, count)
        return AffineScan.apply(A, b, h0, settings), 1


def pulled_back(
    scan: Callable[..., Any], A: Tensor, h0: Tensor, h: Tensor, g: Tensor, settings: Settings
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients by A, b and h0 from that by h, one `scan` (a differentiable one) in the other direction."""
    kind, reverse, workers, _ = settings
    if not len(h):
        return torch.zeros_like(A), torch.zeros_like(h), torch.zeros_like(h0)
    AH = A.mH if kind in ("block", "constant") else A.conj()
    first = -1 if reverse else 0
    if kind == "constant":
        shifted = AH
    else:  # the adjoint coefficients belong to the step after, which for reverse is the row before
        edge = torch.zeros_like(AH[:1])
        shifted = torch.cat([edge, AH[:-1]]) if reverse else torch.cat([AH[1:], edge])
    adjoint = scan(shifted, g, torch.zeros_like(h0), Settings(kind, not reverse, workers))
    before = _before(h, h0, reverse)
    by_h0 = apply(AH if kind == "constant" else AH[first : first + 1 or None], adjoint[first][None], kind)[0]
    if kind == "block":
        by_A = adjoint[..., :, None] * before.conj()[..., None, :]
    elif kind == "constant":
        by_A = adjoint.flatten(0, -2).mT @ before.flatten(0, -2).conj()
    else:
        by_A = adjoint * before.conj()
        by_A = by_A.flatten(1).sum(1) if kind == "scalar" else by_A
    return by_A, adjoint, by_h0


def _batched(t: Tensor, dim: int | None, to: int, count: int) -> Tensor:
    if dim is not None:
        return t.movedim(dim, to)
    t = t.unsqueeze(to)
    return t.expand(*t.shape[:to], count, *t.shape[to + 1 :])


def _before(h: Tensor, h0: Tensor, reverse: bool) -> Tensor:
    """The state that each step starts from."""
    return torch.cat([h[1:], h0[None]]) if reverse else torch.cat([h0[None], h[:-1]])


def run(A: Tensor, b: Tensor, h0: Tensor, settings: Settings, into: Tensor | None = None) -> Tensor:
    """All states, by the kernel that fits; what overflowed although nothing infinite was given is an error.

    `into` : contiguous memory on the CPU for them, else it is fresh.
    """
    kind, reverse = settings.kind, settings.reverse
    if b.numel() == 0 or b.is_meta:
        return torch.empty_like(b, memory_format=torch.contiguous_format)
    if b.is_cpu:
        out = _compiled(A, b, h0, settings, into)
    elif kind == "constant":
        out = constant_products(A, b, h0, reverse)
    else:
        from ._device_scan import device_scan

        out = device_scan(A, b, h0, kind, reverse)
    _check_growth(out, A, b, h0, settings)
    return out


def _check_growth(out: Tensor, A: Tensor, b: Tensor, h0: Tensor, settings: Settings) -> None:
    """NaN and inf stay to the end, so that the last state tells; only a narrower result has to be looked through."""
    last = out[0] if settings.reverse else out[-1]
    narrow = settings.limit < torch.finfo(out.dtype).max
    if out.is_cpu and not narrow and np.isfinite(last.numpy()).all():  # the usual case, without a call of torch
        return
    T, good = len(out), out.abs() <= settings.limit if narrow else torch.isfinite(last)
    if good.all() or not all(torch.isfinite(t).all() for t in (A, b, h0)):
        return
    bad = (~(good if narrow else torch.isfinite(out)).reshape(T, -1).all(1)).nonzero()
    step = int(bad[-1] if settings.reverse else bad[0])
    dtype = "the dtype of b" if narrow else out.dtype
    double = out.dtype in (torch.float64, torch.complex128)
    wider = "; float32 reaches further" if narrow else "" if double else "; float64 reaches further"
    raise OverflowError(
        f"affine_scan: the state overflows {dtype} at step {step} of {T}, since A makes it grow; scale A below 1"
        f" in modulus, or split the sequence{wider}"
    )


def _host(t: Tensor, shape) -> np.ndarray:
    if t.is_conj() or t.is_neg():
        t = t.resolve_conj().resolve_neg()
    return t.detach().contiguous().numpy().reshape(shape)


def _compiled(A: Tensor, b: Tensor, h0: Tensor, settings: Settings, into: Tensor | None) -> Tensor:
    """Numba on one core, or on several where parts of the work do not touch."""
    from . import _scan_kernels as kernels

    kind, reverse, _, _ = settings
    workers = settings.workers or 1
    T = b.shape[0]
    # numpy's own memory has huge pages: half the page faults of torch's
    states = np.empty(tuple(b.shape), _host(h0, -1).dtype) if into is None else into.numpy()
    if kind in ("block", "constant"):
        k = b.shape[-1]
        kernel, shape = (kernels.block_scan, (T, -1, k, k)) if kind == "block" else (kernels.constant_scan, (k, k))
        matrices, rhs, start = _host(A, shape), _host(b, (T, -1, k)), _host(h0, (-1, k)).copy()
        out, blocks = states.reshape(T, -1, k), len(start)
        parts = min(blocks, workers) if T * blocks * k * k > 1 << 16 else 1
        edges = [blocks * i // parts for i in range(parts + 1)]
        thread_map(lambda i: kernel(matrices, rhs, start, out, edges[i], edges[i + 1], reverse), range(parts), workers)
    else:
        rhs, start, out = _host(b, (T, -1)), _host(h0, (-1,)).copy(), states.reshape(T, -1)
        if kind == "scalar" and rhs.shape[1] > 1:
            kernels.scalar_scan(_host(A, (T,)), rhs, start, out, 0, T, reverse)
        else:
            _diagonal(kernels, _host(A, (T, -1)), rhs, start, out, reverse, workers)
    return torch.from_numpy(states) if into is None else into


def _diagonal(kernels, A, b, start, out, reverse: bool, workers: int) -> None:
    """One pass; or, where A forgets its past within a chunk, chunks side by side and a short correction each."""
    T, M = b.shape
    real = A.dtype.kind == "f" and (M in _SERIES or M >= _WIDE)
    scan = _in_registers if real else kernels.diag_scan
    cuts = _cuts(kernels, A, reverse) if T * M >= _CHUNKED and T >= 64 * _CHUNKS else [(0, T)]
    if len(cuts) == 1:
        scan(A, b, start, out, 0, T, reverse)
        return

    def local(k):
        h = start if k == 0 else np.zeros_like(start)
        scan(A, b, h, out, *cuts[k], reverse)

    thread_map(local, range(len(cuts)), workers)
    for (low, high), (left, right) in pairwise(cuts):
        carry = out[low if reverse else high - 1].copy()
        kernels.diag_correct(A, out, carry, left, right, reverse)


def _cuts(kernels, A, reverse: bool) -> list[tuple[int, int]]:
    """The chunks in the order in which they follow one another; one where A remembers."""
    T = len(A)
    rows = -(-T // _CHUNKS)
    first = slice(T - rows // 4, T) if reverse else slice(0, rows // 4)  # forgotten there, a correction is short
    tiny = float(np.finfo(A.dtype).eps) * 1e-6
    if not kernels.diag_forgets(A[first], tiny, tiny ** (1 / 128), reverse):
        return [(0, T)]
    cuts = [(low, min(low + rows, T)) for low in range(0, T, rows)]
    return cuts[::-1] if reverse else cuts


def _in_registers(A, b, h, out, first: int, last: int, reverse: bool) -> None:
    """`diag_scan` of real numbers, several steps in a register or several numbers of a step."""
    from . import _diagonal_kernels as kernels

    flat = A.reshape(-1), b.reshape(-1), h, out.reshape(-1), first, last, reverse
    if len(h) >= _WIDE:
        kernels.wide_scan(*flat)
    else:
        kernels.series_scan((0,) * len(h), *flat)


def constant_products(A: Tensor, b: Tensor, h0: Tensor, reverse: bool) -> Tensor:
    """One matrix for all steps on a device: chunks of time side by side, so that each step is a product of matrices.

    Chunks start from zero; then what each carries into the next runs along, e <- A e, until it changes no state. At
    most 4 T n^2 flops, in 2 T / C products of C rows. On a CPU the loop, with half the flops and A in cache, was
    faster at every order and batch measured (n = 2..512) but one; the eigenvectors of A, which would make the scan
    element-wise, were slower still and lose as many digits as their condition has.
    """
    T, n = b.shape[0], b.shape[-1]
    if reverse:
        return constant_products(A, b.flip(0), h0, False).flip(0)
    rhs, start, AT = b.reshape(T, -1, n), h0.reshape(1, -1, n), A.mT
    N = rhs.shape[1]
    L = min(T, max(1, math.isqrt(T * N)))  # rows of a product: about as many as there are products
    C = -(-T // L)
    power = torch.linalg.matrix_power(A, L).mT if C > 1 else A
    if not torch.isfinite(power).all():  # inf * 0 would make a NaN of a carry that is zero
        L, C = T, 1
    padded = torch.cat([rhs, rhs.new_zeros(C * L - T, N, n)]) if C * L > T else rhs
    out = padded.reshape(C, L, N, n).transpose(0, 1).reshape(L, C * N, n).clone()
    for k in range(L):
        before = torch.cat([start[0], start.new_zeros((C - 1) * N, n)]) if k == 0 else out[k - 1]
        out[k] += before @ AT
    if C > 1:
        last = out[-1].reshape(C, N, n)
        carries = [last[0]]
        for c in range(1, C - 1):
            carries.append(last[c] + carries[-1] @ power)
        e, tail = torch.cat(carries), out[:, N:]
        for k in range(L):
            e = e @ AT
            corrected = tail[k] + e
            if torch.equal(corrected, tail[k]):
                break
            tail[k] = corrected
    return out.reshape(L, C, N, n).transpose(0, 1).reshape(C * L, N, n)[:T].reshape(b.shape)
