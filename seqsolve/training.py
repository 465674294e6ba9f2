"""The backward pass of a whole module: layer by layer from the last one, each by the chain rule of its cell.

The forward pass keeps of every step what its chain rule asks for (`_kernels`), so that nothing is computed twice.
Second derivatives, forward mode and states that are not finite are left to torch's own module, which is run once more
for them.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ._checks import dual_level, transforming
from .calls import Call, TapedLayer
from .cell_gradient import Chain


class Training(torch.autograd.Function):
    """All layers of a call as a function that torch can differentiate."""

    @staticmethod
    def forward(ctx, call: Call, threads: int, record, *tensors):  # pyright: ignore[reportIncompatibleMethodOverride]
        tape: list[TapedLayer] = []
        result = call.run(threads, record, tape)
        kept = [array for layer in tape for array in layer.kept]
        masks = [layer.mask for layer in tape if layer.mask is not None]
        # a sum is finite only where all is; where it overflows, torch does what we could have done
        ctx.known = all(a is not None for a in kept) and all(math.isfinite(float(t.sum())) for t in result)
        more = [layer.x for layer in tape] + [torch.from_numpy(a) for a in kept] if ctx.known else []
        ctx.call, ctx.threads, ctx.sizes = call, threads, (len(tensors), len(masks), len(tape))
        ctx.save_for_backward(*tensors, *masks, *more)  # all of it goes with the graph
        ctx.set_materialize_grads(False)
        return result

    @staticmethod
    def backward(ctx, *gradients):  # pyright: ignore[reportIncompatibleMethodOverride]
        call, wanted, (n, m, layers) = ctx.call, ctx.needs_input_grad[3:], ctx.sizes
        saved = ctx.saved_tensors
        tensors, masks = saved[:n], list(saved[n : n + m])
        graph = torch.is_grad_enabled()  # the caller wants a second derivative
        if ctx.known and not (graph or transforming() or dual_level()):
            xs, kept = saved[n + m : n + m + layers], saved[n + m + layers :]
            found: Any = _through_layers(call, ctx.threads, tensors, masks, xs, kept, gradients, wanted)
            return None, None, None, *found
        with torch.enable_grad():
            # views: new nodes of the graph, so that a weight which the input was made from is not counted twice,
            # and through which a second derivative flows
            views = [t.view_as(t) if w else t for t, w in zip(tensors, wanted)]
            k = 1 + len(call.hx)
            outputs = call.replay(views[0], views[1:k], views[k:], masks)
            pairs = [(o, g) for o, g in zip(outputs, gradients) if g is not None and o.requires_grad]
            found = torch.autograd.grad(
                [o for o, _ in pairs],
                [v for v, w in zip(views, wanted) if w],
                [g for _, g in pairs],
                create_graph=graph,
                allow_unused=True,
            )
        found = iter(found)
        return None, None, None, *(next(found) if w else None for w in wanted)


def _through_layers(call: Call, threads, tensors, masks, xs, kept, gradients, wanted) -> list[Tensor | None]:
    """The gradients by all that a call was given, from the last layer to the first that has one."""
    layout, work, start = call.layout, call.work, call.layout.start
    directions, R = 2 if call.setup[4] else 1, call.proj or call.hidden
    given = 1 + len(call.hx)
    each = (len(tensors) - given) // (len(xs) * directions)
    bias, last = each > 3, [None if g is None else g.to(work) for g in gradients[1:]]
    found: list[Tensor | None] = [None] * len(tensors)
    at_start = [torch.zeros_like(t, dtype=work) if w else None for t, w in zip(tensors[1:given], wanted[1:given])]
    g = None if gradients[0] is None else gradients[0].to(work).reshape(int(start[-1]), -1)
    lowest = 0 if any(wanted[:given]) else min(k for k, w in enumerate(wanted[given:]) if w) // (each * directions)
    for layer in reversed(range(lowest, len(xs))):
        x = xs[layer]
        by_x = torch.empty_like(x) if wanted[0] or layer > lowest else None
        for k in range(directions):
            track = layer * directions + k
            first = given + track * each
            own, needs = list(tensors[first : first + each]), list(wanted[first : first + each])
            if not bias:
                own[2:2], needs[2:2] = [None, None], [False, False]
            own = [None if t is None else t.to(work) for t in own]
            chain = Chain(call.kind, own, needs, layout, backwards=k == 1, threads=threads)
            carry = chain.new_carry(*(None if t is None else t[track] for t in last))
            rows = kept[track].view(len(x), -1)
            chain.run(
                x, g, carry, by_x, lambda a, b, rows=rows: (rows[start[a] : start[b]], int(start[a])),
                column=k * R, add=k == 1,
            )  # fmt: skip
            parts = chain.gradients()
            parts = parts if bias else [*parts[:2], *parts[4:]]
            found[first : first + each] = parts[:each]
            for total, state in zip(at_start, (carry[:, :R], carry[:, chain.Q :][:, : call.hidden])):
                if total is not None:
                    total[track] = state
        if by_x is not None and layer and masks:
            by_x *= masks[layer - 1]
        g = by_x
    found[:given] = [None if g is None or not wanted[0] else g.reshape(tensors[0].shape), *at_start]
    return [None if f is None or not w else f.to(t.dtype) for f, t, w in zip(found, tensors, wanted)]
