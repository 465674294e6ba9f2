"""Gated averages of single channels, ``S_t = a_t S_{t-1} + z_t v_t`` with ``a_t + z_t = 1``, fused where possible."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from seqsolve._checks import dual_level, followed, transforming
from seqsolve._threads import resolve_workers, thread_map

from .channelwise import ChannelParts

WIDEST = 1024  # channels one call of a kernel takes, so that its gates stay in the fastest cache
LINE = 16  # channels that threads do not divide: numbers of one cache line
SHARED = 1 << 18  # numbers from which threads share the channels


@dataclass(frozen=True)
class GatedParts:
    """k, v (B, H, T, d), the logits of the input gate and the candidates; the state is (B, H, d).

    forget : None for ``z = sigmoid(k)`` (minimal GRU), or logits (B, H, T, d) of a gate of its own, for
        ``z = sigmoid(k) / (sigmoid(k) + sigmoid(forget))`` (minimal LSTM).
    """

    k: Tensor
    v: Tensor
    forget: Tensor | None = None

    def empty(self) -> Tensor:
        """The state before the first step."""
        return self.v.new_zeros((*self.v.shape[:2], self.v.shape[3]))

    def nothing(self) -> Tensor:
        """The outputs of no steps."""
        return self.v[:, :, :0]

    def written_out(self) -> ChannelParts:
        """The same recurrence with its decays and inputs formed."""
        if self.forget is None:
            return ChannelParts(torch.sigmoid(-self.k), torch.sigmoid(self.k) * self.v)
        # f / (f + i) = sigmoid(log f - log i), which never divides 0 by 0
        odds = F.logsigmoid(self.forget) - F.logsigmoid(self.k)
        return ChannelParts(torch.sigmoid(odds), torch.sigmoid(-odds) * self.v)

    def fused(self, S: Tensor, form: str, chunk: int | None) -> tuple[Tensor, Tensor] | None:
        """(states, S_T) from the state `S` without a gate in memory, or None where the parts have to be written out.

        What is not finite stays in an average for good, 0 times infinity included: a finite S_T vouches for all.
        """
        if form != "chunk" or chunk is not None or self.v.device.type != "cpu" or transforming() or dual_level():
            return None
        given = (self.k, self.v, self.forget, S)
        if followed(*(x for x in given if x is not None)):
            return GatedScan.apply(*given)
        return _states(*given)


def _host(x: Tensor | None, like: Tensor) -> np.ndarray:
    """x flat and in memory order; an absent gate is an empty array."""
    x = like.new_empty(0) if x is None else x
    return x.detach().resolve_neg().contiguous().numpy().reshape(-1)


def _cuts(shape: torch.Size) -> tuple[list[tuple[int, int, int]], int]:
    """(row, low, high) for each call of a kernel, and the threads that share them."""
    B, H, T, d = shape
    workers = resolve_workers(None) if B * H * T * d >= SHARED else 1
    parts = -(-workers // max(1, B * H))
    width = min(WIDEST, -(-d // (parts * LINE)) * LINE)
    return [(row, low, min(low + width, d)) for row in range(B * H) for low in range(0, d, width)], workers


def _states(k: Tensor, v: Tensor, forget: Tensor | None, S: Tensor) -> tuple[Tensor, Tensor]:
    from seqsolve._gated_kernels import gated_scan

    given = _host(k, k), _host(forget, k), _host(v, k)
    end = S.detach().resolve_neg().contiguous().numpy().reshape(-1, v.shape[3]).copy()
    y = np.empty(v.numel(), end.dtype)
    cuts, workers = _cuts(v.shape)
    thread_map(lambda cut: gated_scan(*given, end, y, *cut), cuts, workers)
    return torch.from_numpy(y).reshape(v.shape), torch.from_numpy(end).reshape(S.shape)


class GatedScan(Function):
    """Compiled forward and backward passes that keep the states and make the gates again."""

    @staticmethod
    def forward(ctx, k, v, forget, S):
        states, end = _states(k, v, forget, S)
        ctx.save_for_backward(k, v, forget, S, states)
        ctx.set_materialize_grads(False)
        return states, end

    @staticmethod
    def backward(ctx, do, end):  # pyright: ignore[reportIncompatibleMethodOverride]
        k, v, forget, S, states = ctx.saved_tensors
        if do is None and end is None:
            return (None,) * 4
        do = torch.zeros_like(v) if do is None else do
        end = torch.zeros_like(S) if end is None else end
        if torch.is_grad_enabled():  # for a second derivative: the same numbers through operations that have one
            return _differentiable(ctx.needs_input_grad, (k, v, forget, S), do, end)
        return _gradients(k, v, forget, S, states, do, end)


def _gradients(k, v, forget, S: Tensor, states: Tensor, do: Tensor, end: Tensor) -> tuple[Tensor | None, ...]:
    from seqsolve._gated_kernels import gated_gradient

    given = _host(k, k), _host(forget, k), _host(v, k)
    start, by_S = (x.detach().resolve_neg().contiguous().numpy().reshape(-1, v.shape[3]) for x in (S, end))
    by_S = by_S.copy()
    dk, df, dv = (np.empty(x.size, x.dtype) for x in given)
    y, dy = _host(states, k), _host(do, k)
    cuts, workers = _cuts(v.shape)
    thread_map(lambda cut: gated_gradient(*given, start, y, dy, dk, df, dv, by_S, *cut), cuts, workers)
    by_k, by_v = (torch.from_numpy(x).reshape(v.shape) for x in (dk, dv))
    by_forget = None if forget is None else torch.from_numpy(df).reshape(v.shape)
    return by_k, by_v, by_forget, torch.from_numpy(by_S).reshape(S.shape)


def _differentiable(wanted, saved: tuple[Any, ...], do: Tensor, end: Tensor) -> tuple[Any, ...]:
    *given, S = saved
    found = GatedParts(*given).written_out().run(S, "chunk", None)
    sought = [x for x, needed in zip(saved, wanted) if needed]
    grads = iter(torch.autograd.grad(found, sought, (do, end), create_graph=True))
    return tuple(next(grads) if needed else None for needed in wanted)
