r"""The gradient of a known cell by the chain rule over time, with one product with U^T a step.

For states of :math:`x_t = f(W u_t + b, U x_{t-1} + b')` and derivatives g_t of a loss by x_t, the deltas
:math:`\delta_t` by what enters the gates follow one another from the last step to the first (`_gradient_kernels`). What
is left are products over all steps at once:

.. math:: \bar W = \sum_t \delta_t u_t^T,\quad \bar U = \sum_t \delta'_t x_{t-1}^T,\quad
          \bar b = \sum_t \delta_t,\quad \bar b' = \sum_t \delta'_t,\quad \bar u_t = W^T \delta_t.

A GRU has two kinds of deltas, since its reset gate stands between U x + b' and the new state. What a step has to
remember for this, its gates above all, is either kept by the forward pass (`training`) or computed again from the
states (`FromStates`). All runs window by window: memory O(window H) beside what is kept and the results.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import linear, pad

from ._threads import thread_map
from .cells import KEPT, Layout, lanes_for, step_seconds

_WINDOW = 1 << 18  # numbers of one window, in all arrays together: they stay in the L2 cache
_FEWEST = 256  # rows of a window: fewer make a product that mostly reads and writes its result
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
        n, T, batch = x0.shape[-1], len(states), x0.numel() // x0.shape[-1]
        chain = Chain(kind, tensors, needs[1:], Layout.padded(T, batch))
        carry = chain.new_carry()
        u = inputs.detach().reshape(T * batch, inputs.shape[-1]).contiguous()
        by_input = torch.empty_like(u) if needs[0] else None
        if T * batch:
            known = FromStates(chain, u, x0.detach().reshape(batch, n), states.detach().reshape(T * batch, n))
            rows = g.reshape(T * batch, n)
            chain.run(u, rows, carry, by_input, known.window, column=-1 if kind == "lstm" else 0)
        by_x0 = carry.view(batch, -1, chain.P)[:, :, : chain.H].reshape(x0.shape)
        return by_x0, None if by_input is None else by_input.reshape(inputs.shape), chain.gradients()[:4]


class Chain:
    """One direction of one layer: its weights padded as the kernels read them, and the gradients summed so far.

    tensors : W, U, b, b_h and, of a projected LSTM, W_hr.  needs : whether their gradients are wanted.
    """

    def __init__(
        self,
        kind: str,
        tensors: Sequence[Any],
        needs: Sequence[bool],
        layout: Layout,
        *,
        backwards: bool = False,
        threads: int | None = None,
    ):
        from . import _gradient_kernels

        given: list[Any] = [None if t is None else t.detach() for t in tensors]
        W, U, b, bh, V = [*given, None][:5]
        self.kind, self.layout, self.backwards = kind, layout, backwards
        self.threads = torch.get_num_threads() if threads is None else threads
        self.pull = getattr(_gradient_kernels, f"{kind.partition('_')[0]}_pull")
        self.blocks, self.of_W, self.of_U, order_W, order_U = _BLOCKS[kind]
        self.order = order_W, order_U
        self.H, self.R = len(U) // len(order_U), U.shape[1]
        self.lanes = lanes_for(self.H, torch.empty(0, dtype=U.dtype).numpy().dtype)
        L = len(self.lanes)
        self.P, self.Q = (-(-n // L) * L for n in (self.H, self.R))
        self.W, self.U = self._rows(W, order_W), pad(self._rows(U, order_U), (0, self.Q - self.R))
        self.b, self.bh = (None if t is None else self._rows(t, o) for t, o in ((b, order_W), (bh, order_U)))
        self.packed, self.packed_V = self._packed(self.U), np.zeros(0, self.U.numpy().dtype)
        if V is not None:
            V = pad(V, (0, self.P - self.H, 0, self.Q - self.R))
            self.packed_V = self._packed(V)
        self.line = self.blocks * self.P + (self.Q if V is not None else 0)  # numbers of a row of deltas
        shapes = [(len(self.W), W.shape[1]), tuple(self.U.shape), (self.line,), None if V is None else tuple(V.shape)]
        wanted = [needs[0], needs[1], needs[2] or needs[3], len(needs) > 4 and needs[4]]
        self.needs = needs
        self.sums = [U.new_zeros(s) if s is not None and need else None for s, need in zip(shapes, wanted)]

    def _packed(self, matrix: Tensor) -> np.ndarray:
        """A matrix whose transpose the kernels multiply with: (tile of columns, row, lane)."""
        from . import _kernels

        columns = matrix.T.contiguous().numpy()
        packed = _kernels.aligned(columns, columns.size)
        _kernels.pack(self.lanes, columns, (False,), len(self.lanes) * len(matrix), 0, len(self.lanes), packed)
        return packed

    def _rows(self, weight: Tensor, order: Sequence[int]) -> Tensor:
        """Gates in the order of the deltas, each padded to P rows."""
        apart = weight.unflatten(0, (-1, self.H))[list(order)]
        return pad(apart, (0, 0) * (weight.dim() - 1) + (0, self.P - self.H)).flatten(0, 1).contiguous()

    def _back(self, total: Tensor, order: Sequence[int]) -> Tensor:
        """What `_rows` did, undone."""
        apart = total.unflatten(0, (-1, self.P))[:, : self.H]
        return apart[sorted(range(len(order)), key=order.__getitem__)].flatten(0, 1)

    def new_carry(self, h: Tensor | None = None, c: Tensor | None = None) -> Tensor:
        """The derivatives (B, R) and (B, H) by the last states as the kernels read them; None is zero."""
        carry = self.U.new_zeros((len(self.layout.lengths), self.Q + (self.P if self.kind == "lstm" else 0)))
        if h is not None:
            carry[:, : self.R] = h
        if c is not None:
            carry[:, self.Q : self.Q + self.H] = c
        return carry

    def gradients(self) -> list[Tensor | None]:
        """By W, U, b, b_h, W_hr."""
        (by_W, by_U, by_b, by_V), (order_W, order_U), P = self.sums, self.order, self.P
        parts: list[Tensor | None] = [None] * 5
        if by_W is not None:
            parts[0] = self._back(by_W, order_W)
        if by_U is not None:
            parts[1] = self._back(by_U, order_U)[:, : self.R]
        for k, of, order in ((2, self.of_W, order_W), (3, self.of_U, order_U)):
            if by_b is not None and self.needs[k]:
                parts[k] = self._back(by_b[of * P : of * P + len(order) * P], order)
        if by_V is not None:
            parts[4] = by_V[: self.R, : self.H]
        return parts

    def run(
        self,
        u: Tensor,
        g: Tensor | None,
        carry: Tensor,
        by_input: Tensor | None,
        kept: Callable[[int, int], tuple[Tensor, int]],
        *,
        column: int = 0,
        add: bool = False,
    ) -> None:
        """All steps: `carry` moves to before the first one, `by_input` (rows, m) is filled or, with `add`, added to.

        u (rows, m); g (rows, ...) with the derivatives by the output from `column` on, or None for zeros; ``kept(first,
        last)`` gives what is known of some steps, (rows, numbers), and the row it begins with.
        """
        T, B, P, start = len(self.layout.start) - 1, len(carry), self.P, self.layout.start
        g = None if g is None else g.contiguous()
        window = max(1, max(_WINDOW // (8 * P), _FEWEST) // max(1, B))
        cuts = [*range(0, T, window), T] if self.backwards else [*range(T, 0, -window), 0]
        for one, other in pairwise(cuts):
            first, last = min(one, other), max(one, other)
            low, high = int(start[first]), int(start[last])
            known, base = kept(first, last)
            delta = self._deltas(known, base, g, column, carry, first, last)
            by_W, by_U = (delta[:, of * P :][:, : len(M)] for of, M in ((self.of_W, self.W), (self.of_U, self.U)))
            rows, now = u[low:high], known[low - base : high - base]
            if self.sums[0] is not None:
                self.sums[0].addmm_(by_W.T, rows)
            if self.sums[1] is not None:
                self.sums[1].addmm_(by_U.T, now[:, known.shape[1] - self.Q :])
            if self.sums[2] is not None:
                self.sums[2] += delta.sum(0)
            if self.sums[3] is not None:  # h = W_hr (o s)
                self.sums[3].addmm_(delta[:, 4 * P :].T, now[:, 2 * P : 3 * P] * now[:, 4 * P : 5 * P])
            if by_input is not None and add:
                by_input[low:high].addmm_(by_W, self.W)
            elif by_input is not None:
                torch.mm(by_W, self.W, out=by_input[low:high])

    def _deltas(self, known, base, g, column, carry, first, last) -> Tensor:
        """The deltas of a window, a row of it each; `carry` moves to before its first step."""
        start, B, P, Q = self.layout.start, len(carry), self.P, self.Q
        low, high = int(start[first]), int(start[last])
        delta, from_g = carry.new_empty((high - low, self.line)), 0
        if g is None:
            g, column, from_g = carry.new_zeros((high - low, Q)), 0, low
        elif self.R != Q:
            n = 2 if column < 0 else 1
            g = pad(g[low:high, max(column, 0) :][:, : n * self.R].unflatten(1, (n, self.R)), (0, Q - self.R))
            g, column, from_g = g.flatten(1), min(column, 0), low
        full = carry.new_empty(B * P if self.packed_V.size else 0)
        arrays = [t.reshape(-1).numpy() for t in (known, g, carry, full, delta)]
        seconds = (high - low) * step_seconds(self.kind, self.H, self.R, self.packed.dtype)
        fours = -(-B // 4)  # sequences share loads of U in fours, whatever the number of threads
        workers = min(self.threads, fours, 1 + int(seconds / _WORTH_A_THREAD))
        cuts = [min(B, fours * k // workers * 4) for k in range(workers + 1)]
        sizes = (P, Q, base, from_g, g.shape[1], column)

        def go(part):
            span = (first, last, self.backwards, *part, *sizes)
            self.pull(self.lanes, self.packed, self.packed_V, *arrays, start, span)

        thread_map(go, pairwise(cuts), workers)
        return delta


class FromStates:
    """What the kernels have to know of the steps, computed again from the states: all steps of a window at once."""

    def __init__(self, chain: Chain, u: Tensor, x0: Tensor, states: Tensor):
        self.chain, self.u, self.x0, self.states = chain, u, x0, states

    def _wide(self, x: Tensor) -> Tensor:
        """States of H (h and c of an LSTM: 2 H) numbers in rows of P each."""
        return pad(x.reshape(len(x), -1, self.chain.H), (0, self.chain.P - self.chain.H))

    def window(self, first: int, last: int) -> tuple[Tensor, int]:
        """The rows of `kept`, see `_kernels`, and the first one's number."""
        chain, B = self.chain, len(self.x0)
        P, W, U, b, bh = chain.P, chain.W, chain.U, chain.b, chain.bh
        low, high = first * B, last * B
        before = self.states[low - B : high - B] if low else torch.cat([self.x0, self.states[: high - B]])
        before, u = self._wide(before), self.u[low:high]
        x = before[:, 0].contiguous()
        kept = x.new_empty((high - low, KEPT[chain.kind] * P + P))
        part = [kept[:, k * P : (k + 1) * P] for k in range(kept.shape[1] // P)]
        part[-1].copy_(x)
        if chain.kind == "rnn_tanh":
            part[0].copy_(1 - self._wide(self.states[low:high])[:, 0].square())
        elif chain.kind == "rnn_relu":  # a state that is zero but for rounding does not show which side it is on
            part[0].copy_((linear(u, W, b) + linear(x, U, bh)) > 0)
        elif chain.kind == "gru":
            rz = linear(u, W[P:], None if b is None else b[P:])
            rz = rz.add_(linear(x, U[: 2 * P], None if bh is None else bh[: 2 * P])).sigmoid_()
            kept[:, : 2 * P] = rz
            inner = linear(x, U[2 * P :], None if bh is None else bh[2 * P :])
            part[2].copy_(linear(u, W[:P], None if b is None else b[:P]).addcmul_(rz[:, :P], inner).tanh_())
            part[3].copy_(inner)
        else:
            both = None if b is None or bh is None else b + bh
            gates = linear(u, W, both).addmm_(x, U.T)
            kept[:, : 3 * P] = gates[:, : 3 * P].sigmoid_()
            part[3].copy_(gates[:, 3 * P :].tanh_())
            part[4].copy_(self._wide(self.states[low:high])[:, 1].tanh())
            part[5].copy_(before[:, 1])
        return kept, low
