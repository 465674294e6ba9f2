"""The selective state-space recurrence, ``S_t = exp(dt_t A) * S_{t-1} + k_t (dt_t v_t)^T``, fused where it can be."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function

from seqsolve._checks import dual_level, transforming
from seqsolve._threads import resolve_workers, thread_map

from .channelwise import ChannelParts

TILE = 64  # channels whose states stay in the fastest cache together; the numbers do not depend on the threads
EVERY = 32  # steps between the states that the backward pass starts from
SHARED = 1 << 18  # state entries times steps from which threads share the tiles


@dataclass(frozen=True)
class SelectiveParts:
    """q, k (B, H, T, N), v, dt (B, H, T, d) and the rates A (H, N, d); the state is (B, H, N, d), read as q_t^T S_t."""

    q: Tensor
    k: Tensor
    v: Tensor
    dt: Tensor
    A: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """What is looked through for NaN and infinity; A has been."""
        return {"q": self.q, "k": self.k, "v": self.v, "dt": self.dt}

    def empty(self) -> Tensor:
        """The state before the first step."""
        return self.v.new_zeros((*self.k.shape[:2], self.k.shape[3], self.v.shape[3]))

    def nothing(self) -> Tensor:
        """The outputs of no steps."""
        return self.v[:, :, :0]

    def written_out(self) -> ChannelParts:
        """The same recurrence with its (B, H, T, N, d) decays and inputs formed."""
        factor = torch.exp(self.dt[..., None, :] * self.A[:, None])
        return ChannelParts(factor, self.k[..., :, None] * (self.dt * self.v)[..., None, :], self.q)

    def run(self, S: Tensor, form: str, chunk: int | None) -> tuple[Tensor, Tensor]:
        """(o, S_T) from the state `S`."""
        if form == "step":
            rows = []
            for t in range(self.k.shape[2]):
                q, k, v, dt = (x[:, :, t] for x in (self.q, self.k, self.v, self.dt))
                S = torch.exp(dt[..., None, :] * self.A) * S + k[..., :, None] * (dt * v)[..., None, :]
                rows.append((q[..., None, :] @ S)[:, :, 0])
            return torch.stack(rows, 2), S
        if form == "chunk" and chunk is None and self.v.device.type == "cpu" and not (transforming() or dual_level()):
            return SelectiveScan.apply(self.q, self.k, self.v, self.dt, self.A, S)
        return self.written_out().run(S, form, chunk)


def _host(x: Tensor, *shape: int) -> np.ndarray:
    return x.detach().resolve_neg().contiguous().numpy().reshape(shape)


def _tiles(rows: int, steps: int, N: int, d: int) -> tuple[list[tuple[int, int, int, int]], int]:
    """(row, tile, low, high) for each call of a kernel, and the threads that share them."""
    cuts = [(tile, low, min(low + TILE, d)) for tile, low in enumerate(range(0, d, TILE))]
    workers = resolve_workers(None) if rows * steps * N * d >= SHARED else 1
    return [(row, *cut) for row in range(rows) for cut in cuts], workers


class SelectiveScan(Function):
    """Compiled forward and backward passes in the memory of one state a chunk of steps."""

    @staticmethod
    def forward(ctx, q, k, v, dt, A, S):
        from seqsolve._selective_kernels import selective_scan

        B, H, T, N = k.shape
        R, d = B * H, v.shape[3]
        given = [_host(x, R, T, w) for x, w in ((q, N), (k, N), (v, d), (dt, d))]
        rates, end = _host(A, H, N, d), _host(S, R, N, d).copy()
        learns = any(ctx.needs_input_grad)
        starts = np.empty((R, -(-T // EVERY), N, d) if learns else (0, 0, 0, 0), end.dtype)
        y = np.empty((R, T, d), end.dtype)
        jobs, workers = _tiles(R, T, N, d)

        def one(job):
            row, _, low, high = job
            selective_scan(*given, rates, end, y, starts, EVERY, row, low, high)

        thread_map(one, jobs, workers)
        ctx.save_for_backward(q, k, v, dt, A, S)
        ctx.starts = starts
        ctx.set_materialize_grads(False)
        return torch.from_numpy(y).reshape(v.shape), torch.from_numpy(end).reshape(S.shape)

    @staticmethod
    def backward(ctx, do, end):  # pyright: ignore[reportIncompatibleMethodOverride]
        q, k, v, dt, A, S = ctx.saved_tensors
        if do is None and end is None:
            return (None,) * 6
        do = torch.zeros_like(v) if do is None else do
        end = torch.zeros_like(S) if end is None else end
        if torch.is_grad_enabled():  # for a second derivative: the same numbers through operations that have one
            return _differentiable(ctx.needs_input_grad, ctx.saved_tensors, do, end)
        return _gradients(q, k, v, dt, A, ctx.starts, do, end)


def _gradients(q, k, v, dt, A, starts: np.ndarray, do: Tensor, end: Tensor) -> tuple[Tensor, ...]:
    from seqsolve._selective_kernels import selective_gradient

    B, H, T, N = k.shape
    R, d = B * H, v.shape[3]
    given = [_host(x, R, T, w) for x, w in ((q, N), (k, N), (v, d), (dt, d))]
    rates, dy, by_S = _host(A, H, N, d), _host(do, R, T, d), _host(end, R, N, d).copy()
    jobs, workers = _tiles(R, T, N, d)
    parts = [np.empty((R, -(-d // TILE), T, N), dy.dtype) for _ in range(2)]
    wide = [np.empty((R, T, d), dy.dtype) for _ in range(2)]
    by_A = np.empty((R, N, d), dy.dtype)
    thread_map(
        lambda job: selective_gradient(*given, rates, starts, EVERY, dy, by_S, *parts, *wide, by_A, *job), jobs, workers
    )
    dq, dk = (torch.from_numpy(x.sum(1)).reshape(k.shape) for x in parts)
    dv, ddt = (torch.from_numpy(x).reshape(v.shape) for x in wide)
    rate = torch.from_numpy(by_A.reshape(B, H, N, d).sum(0))
    return dq, dk, dv, ddt, rate, torch.from_numpy(by_S).reshape(end.shape)


def _differentiable(wanted, saved: tuple[Tensor, ...], do: Tensor, end: Tensor) -> tuple[Any, ...]:
    *inputs, S = saved
    found = SelectiveParts(*inputs).written_out().run(S, "chunk", None)
    sought = [x for x, needed in zip(saved, wanted) if needed]
    grads = iter(torch.autograd.grad(found, sought, (do, end), create_graph=True))
    return tuple(next(grads) if needed else None for needed in wanted)
