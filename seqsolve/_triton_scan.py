"""Affine scans on a GPU: diagonals, complex diagonals and blocks of 2 to 4, for any number of steps.

A lane is one column of one chunk of time and goes through its rows in order with the state in registers, so that any
operation fits and neighbouring lanes read neighbouring columns. Where there are too few columns to fill the device,
time is cut into C chunks and the work has three phases: each chunk reduces to one step (P, e) that takes a state across
it; these C steps are scanned; each chunk is run from its true start. Floor: one pass moves A, b and the states once;
the first phase reads A and b a second time (5 against 3 elements moved for a diagonal). Merrill and Garland (2016),
"Single-pass parallel prefix scan with decoupled look-back", NVR-2016-002, compare such schemes.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

LANES = 128  # columns and chunks that one program goes through side by side
FILLED = 1 << 16  # lanes that keep a large GPU busy
SHORTEST = 32  # rows of a chunk: T shrinks by as much from one level of the recursion to the next


@triton.jit
def _diag(A, b, h, out, P, e, T, M, L, lanes, ends: tl.constexpr, B: tl.constexpr):
    """(T, M) real; `h` holds the start of each chunk, (C, M). ends: only P and e, from a start of zero."""
    lane = tl.program_id(0).to(tl.int64) * B + tl.arange(0, B)
    live = lane < lanes
    first, column = (lane // M) * L, lane % M
    x = tl.zeros((B,), A.dtype.element_ty)
    p = x + 1
    if not ends:
        x = tl.load(h + lane, mask=live, other=0.0)
    for k in range(L):
        row = first + k
        here = live & (row < T)
        at = row * M + column
        a = tl.load(A + at, mask=here, other=1.0)
        x = a * x + tl.load(b + at, mask=here, other=0.0)
        if ends:
            p = a * p
        else:
            tl.store(out + at, x, mask=here)
    if ends:
        tl.store(P + lane, p, mask=live)
        tl.store(e + lane, x, mask=live)


@triton.jit
def _complex(A, b, h, out, P, e, T, M, L, lanes, ends: tl.constexpr, B: tl.constexpr):
    """The same with pairs (real, imaginary) side by side in memory."""
    lane = tl.program_id(0).to(tl.int64) * B + tl.arange(0, B)
    live = lane < lanes
    first, column = (lane // M) * L, lane % M
    x = tl.zeros((B,), A.dtype.element_ty)
    y = x
    p, q = x + 1, x
    if not ends:
        x = tl.load(h + 2 * lane, mask=live, other=0.0)
        y = tl.load(h + 2 * lane + 1, mask=live, other=0.0)
    for k in range(L):
        row = first + k
        here = live & (row < T)
        at = 2 * (row * M + column)
        re = tl.load(A + at, mask=here, other=1.0)
        im = tl.load(A + at + 1, mask=here, other=0.0)
        u = re * x - im * y + tl.load(b + at, mask=here, other=0.0)
        y = re * y + im * x + tl.load(b + at + 1, mask=here, other=0.0)
        x = u
        if ends:
            u = re * p - im * q
            q = re * q + im * p
            p = u
        else:
            tl.store(out + at, x, mask=here)
            tl.store(out + at + 1, y, mask=here)
    if ends:
        tl.store(P + 2 * lane, p, mask=live)
        tl.store(P + 2 * lane + 1, q, mask=live)
        tl.store(e + 2 * lane, x, mask=live)
        tl.store(e + 2 * lane + 1, y, mask=live)


@triton.jit
def _block(A, b, h, out, P, e, T, M, L, lanes, K: tl.constexpr, ends: tl.constexpr, B: tl.constexpr):
    """Blocks of K: A is (T, M, K, K), b (T, M, K). Vectors and matrices are padded to four, in registers."""
    lane = tl.program_id(0).to(tl.int64) * B + tl.arange(0, B)
    live = lane < lanes
    first, column = (lane // M) * L, lane % M
    j = tl.arange(0, 4)
    inside = j < K
    diagonal = (j[:, None] == j[None, :]) & inside[:, None]
    x = tl.zeros((B, 4), A.dtype.element_ty)
    p = tl.zeros((B, 4, 4), A.dtype.element_ty) + tl.where(diagonal, 1.0, 0.0).to(A.dtype.element_ty)[None, :, :]
    if not ends:
        x = tl.load(h + lane[:, None] * K + j[None, :], mask=live[:, None] & inside[None, :], other=0.0)
    square = inside[:, None] & inside[None, :]
    for k in range(L):
        row = first + k
        here = live & (row < T)
        at = row * M + column
        mask = here[:, None] & inside[None, :]
        a = tl.load(
            A + at[:, None, None] * (K * K) + (j[:, None] * K + j[None, :])[None, :, :],
            mask=here[:, None, None] & square[None, :, :], other=0.0,
        )  # fmt: skip
        new = tl.sum(a * x[:, None, :], axis=2) + tl.load(b + at[:, None] * K + j[None, :], mask=mask, other=0.0)
        x = tl.where(here[:, None], new, x)
        if ends:
            moved = tl.sum(a[:, :, :, None] * p[:, None, :, :], axis=2)
            p = tl.where(here[:, None, None], moved, p)
        else:
            tl.store(out + at[:, None] * K + j[None, :], x, mask=mask)
    if ends:
        tl.store(
            P + lane[:, None, None] * (K * K) + (j[:, None] * K + j[None, :])[None, :, :], p,
            mask=live[:, None, None] & square[None, :, :],
        )  # fmt: skip
        tl.store(e + lane[:, None] * K + j[None, :], x, mask=live[:, None] & inside[None, :])


def fits(A: Tensor, kind: str) -> bool:
    """Whether a kernel takes it: single or double precision, real or complex diagonals, real blocks of 2 to 4."""
    if kind == "block":
        return A.dtype in (torch.float32, torch.float64) and 2 <= A.shape[-1] <= 4
    return kind == "diag" and A.dtype in (torch.float32, torch.float64, torch.complex64, torch.complex128)


def triton_scan(A: Tensor, b: Tensor, h0: Tensor, kind: str, reverse: bool, chunks: int | None = None) -> Tensor:
    """All states, as `_device_scan.rows` gives them one by one; `chunks` of time, or as many as fill the device."""
    if reverse:
        return triton_scan(A.flip(0), b.flip(0), h0, kind, False, chunks).flip(0)
    T = b.shape[0]
    K = b.shape[-1] if kind == "block" else 1
    M = b.numel() // (T * K)
    C = chunks or max(1, min(FILLED // M, T // SHORTEST))
    L = -(-T // C)
    C = -(-T // L)
    state, matrix = ((C, M, K), (C, M, K, K)) if kind == "block" else ((C, M), (C, M))
    A, b = A.resolve_conj().contiguous(), b.resolve_conj().contiguous()
    out = torch.empty_like(b)
    P, e = b.new_empty(matrix if C > 1 else 0), b.new_empty(state if C > 1 else 0)
    starts = h0.resolve_conj().reshape(1, *state[1:]).contiguous()

    def launch(h: Tensor, reduce: bool) -> None:
        kernel: Any = _block if kind == "block" else _complex if b.is_complex() else _diag
        size = {"K": K, "B": LANES // 4} if kind == "block" else {"B": LANES}
        parts = [torch.view_as_real(t) if t.is_complex() else t for t in (A, b, h, out, P, e)]
        with torch.cuda.device_of(b):
            kernel[(triton.cdiv(C * M, size["B"]),)](*parts, T, M, L, C * M, ends=reduce, **size)

    if C > 1:
        launch(starts, True)  # phase 1
        ends = triton_scan(P[:-1], e[:-1], starts[0], kind, False)  # phase 2, of C - 1 steps
        starts = torch.cat([starts, ends]).contiguous()
    launch(starts, False)  # phase 3
    return out
