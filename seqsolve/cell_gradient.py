r"""The gradient of a known cell by the chain rule over time, with one product with U^T a step.

For states of :math:`x_t = f(W u_t + b, U x_{t-1} + b')` and derivatives g_t of a loss by x_t, the deltas
:math:`\delta_t` by what enters the gates follow one another from the last step to the first (`_gradient_kernels`). What
is left are products over all steps at once:

.. math:: \bar W = \sum_t \delta_t u_t^T,\quad \bar U = \sum_t \delta'_t x_{t-1}^T,\quad
          \bar b = \sum_t \delta_t,\quad \bar b' = \sum_t \delta'_t,\quad \bar u_t = W^T \delta_t.

A GRU has two kinds of deltas, since its reset gate stands between U x + b' and the new state. The gates are computed
again from the states, window by window: memory O(window H) beside the results.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear, pad

from ._threads import thread_map
from .cells import lanes_for, step_seconds

_WINDOW = 1 << 18  # numbers of one window, in all arrays together: they stay in the L2 cache
_WORTH_A_THREAD = 5e-4  # seconds of work that pay for one more thread
# blocks of a row of deltas: all of them, where those of W and of U begin, and which gates they are in torch's order
_BLOCKS = {
    "rnn_tanh": (1, 0, 0, (0,), (0,)),
    "rnn_relu": (1, 0, 0, (0,), (0,)),
    "gru": (4, 0, 1, (2, 0, 1), (0, 1, 2)),
    "lstm": (4, 0, 0, (0, 1, 3, 2), (0, 1, 3, 2)),
}


def supported(kind: str, tensors: Sequence[Any], x0: Tensor, inputs: Tensor, *others: Tensor) -> bool:
    """Whether the kernels take these: one float dtype, on the CPU, and an input for every state."""
    everything = [*(t for t in tensors if t is not None), x0, inputs, *others]
    return (
        x0.dtype in (torch.float32, torch.float64)
        and x0.shape[:-1] == inputs.shape[1:-1]
        and all(t.dtype == x0.dtype and t.is_cpu and t.layout == torch.strided for t in everything)
    )


def cell_gradient(
    kind: str,
    tensors: Sequence[Tensor | None],
    x0: Tensor,
    inputs: Tensor,
    states: Tensor,
    g: Tensor,
    needs: Sequence[bool],
) -> tuple[Tensor, Tensor | None, list[Tensor | None]]:
    """The gradients by x0, by the inputs and by W, U, b, b_h, the last two kinds where `needs` says so (inputs first).

    x0 (..., n); inputs (T, ..., m); states and g (T, ..., n), n = 2 H of h and c side by side for an LSTM.
    """
    with torch.no_grad():
        return _Chain(kind, tensors, x0.detach(), needs).run(inputs.detach(), states.detach(), g)


class _Chain:
    """Weights padded as the kernels read them, and the gradients summed over the windows so far."""

    def __init__(self, kind: str, tensors: Sequence[Any], x0: Tensor, needs: Sequence[bool]):
        from . import _gradient_kernels, _kernels

        W, U, b, bh = tensors
        W, U = W.detach(), U.detach()
        self.kind, self.kernels, self.needs, self.x0 = kind, _gradient_kernels, needs, x0
        self.H, self.parts = U.shape[1], 2 if kind == "lstm" else 1
        self.lanes = lanes_for(self.H, torch.empty(0, dtype=U.dtype).numpy().dtype)
        L = len(self.lanes)
        self.P = P = -(-self.H // L) * L
        self.blocks, self.of_W, self.of_U, order_W, order_U = _BLOCKS[kind]
        self.order = order_W, order_U
        self.W, self.U = self._rows(W, order_W), pad(self._rows(U, order_U), (0, P - self.H))
        self.b, self.bh = (None if t is None else self._rows(t.detach(), o) for t, o in ((b, order_W), (bh, order_U)))
        columns = self.U.T.contiguous().numpy()
        self.packed = _kernels.aligned(columns, columns.size)
        _kernels.pack(self.lanes, columns, (False,), L * len(self.U), 0, L, self.packed)
        self.batch = x0.numel() // x0.shape[-1]
        shapes = [(len(self.W), W.shape[1]), tuple(self.U.shape), (len(self.W),), (len(self.U),)]
        self.sums = [U.new_zeros(shape) if need else None for shape, need in zip(shapes, needs[1:])]

    def _rows(self, weight: Tensor, order: Sequence[int]) -> Tensor:
        """Gates in the order of the deltas, each padded to P rows."""
        apart = weight.unflatten(0, (-1, self.H))[list(order)]
        return pad(apart, (0, 0) * (weight.dim() - 1) + (0, self.P - self.H)).flatten(0, 1).contiguous()

    def _back(self, total: Tensor, order: Sequence[int]) -> Tensor:
        """What `_rows` did, undone."""
        apart = total.unflatten(0, (-1, self.P))[:, : self.H]
        return apart[sorted(range(len(order)), key=order.__getitem__)].flatten(0, 1)

    def _wide(self, x: Tensor) -> Tensor:
        """States of H (h and c of an LSTM: 2 H) numbers as contiguous rows of P each."""
        apart = x.reshape(len(x), self.batch, self.parts, self.H)
        return pad(apart, (0, self.P - self.H)).contiguous()

    def run(self, inputs: Tensor, states: Tensor, g: Tensor):
        T, B, P = len(states), self.batch, self.P
        u = inputs.reshape(T, B, -1).contiguous()
        by_input = torch.empty_like(u) if self.needs[0] else None
        carry = self.U.new_zeros((B, self.parts, P))
        window = max(1, _WINDOW // max(1, 12 * B * P))
        for low in reversed(range(0, T if B else 0, window)):
            high = min(low + window, T)
            if low:
                before = states[low - 1 : high - 1]
            else:
                before = torch.cat([self.x0[None], states[: high - 1]])
            before, rows = self._wide(before), u[low:high].flatten(0, 1)
            x = before.view(-1, self.parts, P)[:, 0]
            gates = self._gates(rows, x, states[low:high], before)
            delta = self._pull(gates, self._wide(g[low:high]), carry)
            by_W = delta[:, self.of_W * P :][:, : len(self.W)]
            by_U = delta[:, self.of_U * P :][:, : len(self.U)]
            for total, left, right in zip(self.sums, (by_W, by_U, by_W, by_U), (rows, x, None, None)):
                if total is not None:
                    total += left.sum(0) if right is None else left.T @ right
            if by_input is not None:
                torch.mm(by_W, self.W, out=by_input[low:high].flatten(0, 1))
        found = [self._back(s, o) if s is not None else None for s, o in zip(self.sums, (*self.order, *self.order))]
        if found[1] is not None:
            found[1] = found[1][:, : self.H]
        by_x0 = carry[:, :, : self.H].reshape(self.x0.shape)
        return by_x0, None if by_input is None else by_input.reshape(inputs.shape), found

    def _gates(self, u: Tensor, x: Tensor, states: Tensor, before: Tensor) -> list[Tensor]:
        """What the kernel of this cell needs to know of the steps: all from the states before them, all at once."""
        P, W, U, b, bh = self.P, self.W, self.U, self.b, self.bh
        if self.kind == "rnn_tanh":
            return [1 - self._wide(states).square_()]
        if self.kind == "rnn_relu":  # a state that is zero but for rounding does not show which side it is on
            return [((linear(u, W, b) + linear(x, U, bh)) > 0).to(x.dtype)]
        if self.kind == "gru":
            rz = linear(u, W[P:], None if b is None else b[P:])
            rz = rz.add_(linear(x, U[: 2 * P], None if bh is None else bh[: 2 * P])).sigmoid_()
            inner = linear(x, U[2 * P :], None if bh is None else bh[2 * P :])
            n = linear(u, W[:P], None if b is None else b[:P]).addcmul_(rz[:, :P], inner).tanh_()
            return [rz, n, inner, before]
        both = None if b is None or bh is None else b + bh
        ifo, m = (
            linear(u, W[part], None if both is None else both[part]).addmm_(x, U[part].T)
            for part in (slice(3 * P), slice(3 * P, None))
        )
        s = self._wide(states)[:, :, 1].contiguous().tanh_()
        return [ifo.sigmoid_(), m.tanh_(), s, before]

    def _pull(self, gates: list[Tensor], g: Tensor, carry: Tensor) -> Tensor:
        """The deltas of a window, (T B, blocks P); `carry` moves to before its first step."""
        T, B, P = len(g), self.batch, self.P
        delta = carry.new_empty((T * B, self.blocks * P))
        arrays = [t.reshape(-1).numpy() for t in (*gates, g, carry, delta)]
        kernel = getattr(self.kernels, f"{self.kind.partition('_')[0]}_pull")
        seconds = T * B * step_seconds(self.kind, self.H, self.H, self.packed.dtype)
        workers = min(torch.get_num_threads(), B, 1 + int(seconds / _WORTH_A_THREAD))
        cuts = [B * k // workers for k in range(workers + 1)]
        thread_map(lambda c: kernel(self.lanes, self.packed, *arrays, (T, B, *c, P)), pairwise(cuts), workers)
        return delta
