"""Attention block by block: outputs, log-partition sums and their gradients in memory O(T).

``o`` (B, Hq, Tq, dv) and ``lse`` (B, Hq, Tq) are the state (m, l, acc) = (lse, 1, o).
"""

import torch
from torch import Tensor
from torch.autograd import Function

from .visibility import Visibility

ROWS = 128  # queries a block
COLUMNS = 512  # keys a block


def _anchored(m: Tensor) -> Tensor:
    """m, with 0 in place of -inf, so that exp(-inf - m) is 0 and not NaN."""
    return torch.where(m == -torch.inf, torch.zeros_like(m), m)


def _scores(q: Tensor, k: Tensor, scale: float) -> Tensor:
    """scale * q . k of shape (B, Hq, rows, columns); the queries of a group share one product with their key head."""
    B, H, rows, d = q.shape
    grouped = q.reshape(B, k.shape[1], -1, d)
    return ((grouped * scale) @ k.mT).reshape(B, H, rows, k.shape[2])


def _weighted(p: Tensor, v: Tensor) -> Tensor:
    """p @ v for p (B, Hq, rows, columns), v (B, Hk, columns, dv)."""
    B, H, rows, columns = p.shape
    return (p.reshape(B, v.shape[1], -1, columns) @ v).reshape(B, H, rows, v.shape[-1])


def _gathered(p: Tensor, x: Tensor, heads: int) -> Tensor:
    """p^T @ x summed over each group of query heads: (B, Hk, columns, width)."""
    B, H, rows, columns = p.shape
    return p.reshape(B, heads, -1, columns).mT @ x.reshape(B, heads, (H // heads) * rows, x.shape[-1])


def forward_blocks(q, k, v, mask, slopes, sight: Visibility, scale: float, block: int | None):
    """Online softmax over blocks of keys; Milakov and Gimelshein (2018), algorithm 3, a block for an element."""
    rows, columns = block or ROWS, block or COLUMNS
    outputs, sums = [], []
    for i0 in range(0, q.shape[2], rows):
        qi = q[:, :, i0 : i0 + rows]
        m = qi.new_full(qi.shape[:3], -torch.inf)
        l = torch.zeros_like(m)  # noqa: E741
        acc = qi.new_zeros((*qi.shape[:3], v.shape[-1]))
        low, high = sight.key_range(i0, i0 + qi.shape[2])
        for j0 in range(low, high, columns):
            j1 = min(high, j0 + columns)
            s = sight.adjust(_scores(qi, k[:, :, j0:j1], scale), mask, slopes, i0, j0)
            larger = torch.maximum(m, s.amax(-1))  # line 4
            anchor = _anchored(larger)
            p = torch.exp(s - anchor[..., None])
            shrink = torch.exp(m - anchor)
            l = l * shrink + p.sum(-1)  # noqa: E741  line 5
            acc = acc * shrink[..., None] + _weighted(p, v[:, :, j0:j1])
            m = larger
        seen = m > -torch.inf  # NaN counts as not seen here and is put back by the sums
        seen = seen | torch.isnan(m)
        outputs.append(acc / torch.where(seen, l, torch.ones_like(l))[..., None])
        sums.append(torch.where(seen, m + torch.log(torch.where(seen, l, torch.ones_like(l))), m))
    return torch.cat(outputs, 2), torch.cat(sums, 2)


def backward_blocks(q, k, v, mask, slopes, o, lse, do, dlse, sight: Visibility, scale: float, block: int | None):
    """Gradients of (o, lse) with the weights recomputed block by block; Dao et al. (2022), algorithm 4.

    ``dS = P * (dO V^T - delta)`` with ``delta = rowsum(dO * O) - dlse``. Made of torch operations only, so that a
    second derivative can be taken.
    """
    rows, columns = block or ROWS, block or COLUMNS
    heads = k.shape[1]
    dq, dk, dv = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
    dmask = None if mask is None or mask.dtype == torch.bool or not mask.requires_grad else torch.zeros_like(mask)
    dslopes = None if slopes is None or not slopes.requires_grad else torch.zeros_like(slopes)
    delta = (do * o).sum(-1) if do is not None else torch.zeros_like(lse)
    if dlse is not None:
        delta = delta - dlse
    for i0 in range(0, q.shape[2], rows):
        i1 = min(q.shape[2], i0 + rows)
        qi, anchor = q[:, :, i0:i1], _anchored(lse[:, :, i0:i1])
        low, high = sight.key_range(i0, i1)
        for j0 in range(low, high, columns):
            j1 = min(high, j0 + columns)
            kj, vj = k[:, :, j0:j1], v[:, :, j0:j1]
            s = sight.adjust(_scores(qi, kj, scale), mask, slopes, i0, j0)
            p = torch.exp(s - anchor[..., None])
            ds = -delta[:, :, i0:i1, None]
            if do is not None:
                doi = do[:, :, i0:i1]
                dv[:, :, j0:j1] += _gathered(p, doi, heads)
                ds = _scores(doi, vj, 1.0) + ds
            ds = p * ds
            dq[:, :, i0:i1] += _weighted(ds, kj) * scale
            dk[:, :, j0:j1] += _gathered(ds, qi, heads) * scale
            if dmask is not None:
                part = sight.mask_block(dmask, i0, i1, j0, j1)
                part += ds.sum_to_size(part.shape)
            if dslopes is not None:
                dslopes -= (ds * sight.distance(i0, i1, j0, j1, ds)).sum((0, 2, 3))
    return dq, dk, dv, dmask, dslopes


class Attend(Function):
    """(o, lse) with a backward that recomputes the weights, so that no T x T matrix is kept."""

    @staticmethod
    def forward(ctx, q, k, v, mask, slopes, sight: Visibility, scale: float, block: int | None):
        o, lse = forward_blocks(q, k, v, mask, slopes, sight, scale, block)
        ctx.save_for_backward(q, k, v, mask, slopes, o, lse)
        ctx.set_materialize_grads(False)
        ctx.rest = sight, scale, block
        return o, lse

    @staticmethod
    def backward(ctx, do, dlse):
        q, k, v, mask, slopes, o, lse = ctx.saved_tensors
        sight, scale, block = ctx.rest
        none = (None,) * 3
        if do is None and dlse is None:
            return None, None, None, None, None, *none
        return *backward_blocks(q, k, v, mask, slopes, o, lse, do, dlse, sight, scale, block), *none
