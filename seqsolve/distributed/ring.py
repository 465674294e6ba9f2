"""Exact attention in a ring of processes, and softmax states merged over ranks."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from seqsolve.attention import SoftmaxState, causal
from seqsolve.attention import _checks as checks
from seqsolve.attention.blocks import backward_blocks
from seqsolve.attention.visibility import Visibility, visibility

from .ranks import TIMEOUT, Ranks


def ring_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    window: int | None = None,
    alibi: Tensor | bool | None = None,
    scale: float | None = None,
    block: int | None = None,
    process_group: Any = None,
    timeout: float = TIMEOUT,
) -> tuple[Tensor, SoftmaxState]:
    """Exact causal attention with time split over ranks: keys travel round the ring, softmax states merge.

    Parameters
    ----------
    q : (B, Hq, T_r, d) this rank's queries.
    k : (B, Hk, T_r, d) this rank's keys, of the same steps; rotate them by their global positions first, if at all.
    v : (B, Hk, T_r, dv) this rank's values.
    window : a query sees at most this many keys, its own included.
    alibi : True for the customary slopes, or (Hq,) slopes.
    scale : factor on q . k; None is 1 / sqrt(d).
    block : queries and keys taken at a time; None chooses.
    process_group : a torch.distributed group; None is the default one.
    timeout : seconds to wait for a message of another rank.

    Returns
    -------
    o : (B, Hq, T_r, dv) in the dtype of `q`.
    state : `SoftmaxState` of this rank's queries over all keys they see.

    Raises
    ------
    LostRankError
        When a rank does not answer within `timeout` seconds, or its connection closes; on all other ranks.
    ValueError, TypeError
        When shapes differ between ranks, or do not fit.
    FloatingPointError
        When finite inputs overflow.

    Notes
    -----
    Complexity: each key block travels to every rank once (twice more in the backward pass, with its gradients);
    memory of two blocks beside the inputs. Parts that no query of the rank sees are passed on without work.

    References
    ----------
    Liu, Zaharia and Abbeel (2023), arXiv:2310.01889, section 3; Li, Xue, Baranwal, Li and You (2023), arXiv:2105.13120.

    Examples
    --------
    >>> import torch
    >>> import torch.distributed as dist
    >>> from seqsolve import attention, distributed
    >>> dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    >>> q, k, v = torch.randn(3, 1, 2, 5, 4, generator=torch.Generator().manual_seed(7))
    >>> o, state = distributed.ring_attention(q, k, v)
    >>> torch.allclose(o, attention.causal(q, k, v)[0])
    True
    >>> dist.destroy_process_group()
    """
    ranks = Ranks.of(process_group, timeout)
    q, k, v = checks.triple(q, k, v)
    if q.shape[2] != k.shape[2]:
        raise ValueError(
            f"q has {q.shape[2]} steps and k has {k.shape[2]} on rank {ranks.rank}; they split one time axis"
        )
    compute = checks.state_dtype(q.dtype)
    lengths = ranks.agree(k, 2, "k")
    ranks.agree(v, 2, "v")
    starts = [sum(lengths[:r]) for r in range(ranks.size)]
    sights = [
        visibility(q, k.new_empty((1, 1, n, 1)), offset=starts[ranks.rank] - s, window=window, alibi=alibi)
        for s, n in zip(starts, lengths)
    ]
    scale = checks.scale_of(scale, q.shape[-1])
    inputs = (x.to(compute).contiguous() for x in (q, k, v))
    o, lse = _Ring.apply(*inputs, ranks, sights, scale, block)
    if not checks.is_finite(o) and checks.is_finite(q, k, v):
        raise FloatingPointError(
            f"finite inputs overflow {compute} on rank {ranks.rank}; scale them down or pass float64"
        )
    return o.to(q.dtype), SoftmaxState(lse, torch.where(lse == -torch.inf, 0.0, 1.0).to(lse.dtype), o)


def _sees(sight: Visibility) -> bool:
    low, high = sight.key_range(0, sight.queries)
    return high > low and sight.queries > 0


def _passed_on(ranks: Ranks, step: int, mine: list[Tensor], sights: list[Visibility]) -> list[Tensor]:
    """What the rank before sends of `mine`: after step s it is the block of rank - s - 1."""
    n = sights[(ranks.rank - step - 1) % ranks.size].keys
    fresh = [x.new_empty((*x.shape[:2], n, x.shape[3])) for x in mine]
    after, before = (ranks.rank + 1) % ranks.size, (ranks.rank - 1) % ranks.size
    sent = [(after, x) for x in mine if x.numel()]
    ranks.messages(sent, [(before, x) for x in fresh if x.numel()], "passing keys round the ring")
    return fresh


class _Ring(Function):
    @staticmethod
    def forward(ctx, q, k, v, ranks: Ranks, sights, scale, block):
        state = SoftmaxState.empty(*q.shape[:3], dv=v.shape[3], dtype=q.dtype, device=q.device)
        travelling = [k, v]
        for step in range(ranks.size):
            sight = sights[(ranks.rank - step) % ranks.size]
            if _sees(sight):
                options = {"window": sight.window, "alibi": sight.slopes, "offset": sight.offset}
                kj, vj = travelling
                _, state = causal(q, kj, vj, state, **options, scale=scale, block=block, check_finite=False)
            if step + 1 < ranks.size:
                travelling = _passed_on(ranks, step, travelling, sights)
        o, lse = state.output(), state.logsumexp
        ctx.save_for_backward(q, k, v, o, lse)
        ctx.rest = ranks, sights, scale, block
        ctx.set_materialize_grads(False)
        return o, lse

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, do, dlse):
        """Keys go round once more with their gradients, and come home after as many steps as there are ranks."""
        q, k, v, o, lse = ctx.saved_tensors
        ranks, sights, scale, block = ctx.rest
        dq = torch.zeros_like(q)
        travelling = [k, v, torch.zeros_like(k), torch.zeros_like(v)]
        for step in range(ranks.size):
            sight = sights[(ranks.rank - step) % ranks.size]
            if _sees(sight) and (do is not None or dlse is not None):
                kj, vj, dk, dv = travelling
                part = backward_blocks(q, kj, vj, None, sight.slopes, o, lse, do, dlse, sight, scale, block)
                dq = dq + part[0]
                travelling = [kj, vj, dk + part[1], dv + part[2]]
            if ranks.size > 1:
                travelling = _passed_on(ranks, step, travelling, sights)
        return dq, travelling[2], travelling[3], None, None, None, None


def merge(state: SoftmaxState, *, process_group: Any = None, timeout: float = TIMEOUT) -> SoftmaxState:
    """The softmax state over the keys of all ranks, when every rank holds the same queries over other keys.

    Parameters
    ----------
    state : this rank's `SoftmaxState`.
    process_group : a torch.distributed group; None is the default one.
    timeout : seconds to wait for a message of another rank.

    Returns
    -------
    SoftmaxState
        Merged in the order of the ranks: the same bits on every rank.

    Raises
    ------
    LostRankError
        When a rank does not answer within `timeout` seconds, or its connection closes; on all other ranks.
    ValueError
        When the queries differ between ranks.

    Notes
    -----
    Complexity: one exchange of the state. Not differentiable; use `ring_attention` to train.

    References
    ----------
    Milakov and Gimelshein (2018), arXiv:1805.02867, section 3.1.

    Examples
    --------
    >>> import torch
    >>> import torch.distributed as dist
    >>> from seqsolve import attention, distributed
    >>> dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    >>> distributed.merge(attention.SoftmaxState.empty(1, 2, dv=4))
    SoftmaxState(queries=(1, 2), dv=4, dtype=torch.float32, device=cpu)
    >>> dist.destroy_process_group()
    """
    if not isinstance(state, SoftmaxState):
        raise TypeError(f"state is a {type(state).__name__}, expected a SoftmaxState")
    ranks = Ranks.of(process_group, timeout)
    packed = torch.cat((state.m[..., None], state.l[..., None], state.acc), -1)
    flat = packed.reshape(1, *packed.shape)
    ranks.agree(flat, 0, "state")
    states = [SoftmaxState(x[..., 0], x[..., 1], x[..., 2:]) for x in ranks.all(packed, "merging softmax states")]
    merged = states[0]
    for other in states[1:]:
        merged = merged.merge(other)
    return merged
