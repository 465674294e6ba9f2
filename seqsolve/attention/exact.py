"""Exact causal attention through the softmax state, with states in and out."""

from dataclasses import replace

import torch
from torch import Tensor

from . import _checks
from .blocks import Attend
from .fused import fused, quick, spans
from .positions import rotary as rotate
from .state import SoftmaxState
from .visibility import Visibility, visibility

METHODS = ("auto", "blocks", "fused")


def causal(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    state: SoftmaxState | None = None,
    *,
    mask: Tensor | None = None,
    window: int | None = None,
    alibi: Tensor | bool | None = None,
    rotary: float | bool = False,
    lengths: Tensor | None = None,
    offset: int | Tensor | None = None,
    scale: float | None = None,
    block: int | None = None,
    method: str = "auto",
    check_finite: bool = True,
) -> tuple[Tensor, SoftmaxState]:
    """Causal softmax attention, exact, as the recurrence of a `SoftmaxState` over blocks of keys.

    ``o_i = sum_{j <= p_i} exp(s_ij) v_j / sum_{j <= p_i} exp(s_ij)``, ``s_ij = scale * q_i . k_j + bias_ij``, where
    query i stands at position ``p_i = offset + i`` and key j at position j.

    Parameters
    ----------
    q : (B, Hq, Tq, d) queries, float16, bfloat16, float32 or float64.
    k : (B, Hk, Tk, d) keys; Hq is a multiple of Hk (grouped-query attention: head h reads key head h // (Hq / Hk)).
    v : (B, Hk, Tk, dv) values.
    state : what the same queries have already read (say the keys of an earlier part); None for nothing.
    mask : boolean (True: seen) or floating (added; -inf is not seen), broadcastable to (B, Hq, Tq, Tk).
    window : a query sees at most this many keys, the one at its own position included.
    alibi : True for the customary slopes, or (Hq,) slopes; adds ``-slope * (p_i - j)``.
    rotary : True (base 10000) or a base: rotates queries and keys by their positions first.
    lengths : (B,) integers: keys and queries at positions from there on are padding; padded queries return 0.
    offset : position of the first query among the keys, an integer or (B,) integers; None is ``Tk - Tq``, the
        queries being the last steps.
    scale : factor on q . k; None is 1 / sqrt(d).
    block : queries and keys taken at a time; None chooses.
    method : "blocks", "fused" (torch's own kernel: no mask, window, bias or lengths, d = dv) or "auto". Half precision
        goes through a fused kernel as it is, with the kernel's one rounding of each output; "blocks" computes it in
        float32.
    check_finite : look for NaN and infinity in the result. A NaN at key t then reaches exactly the queries that see
        key t, and finite inputs that overflow raise; False saves one pass over the result.

    Returns
    -------
    o : (B, Hq, Tq, dv) in the dtype of `q`; 0 for a query that sees no key.
    state : `SoftmaxState` of the queries over all keys read so far; float32, or float64 for float64 inputs.

    Raises
    ------
    ValueError, TypeError
        For shapes, dtypes or options that do not fit, with what to pass instead.
    FloatingPointError
        When finite inputs overflow the dtype of the state.

    Notes
    -----
    Complexity: Hq Tq Tk (d + dv) flops (half of the square), memory O(block^2) beside inputs and outputs, also in
    the backward pass, which recomputes the weights.

    References
    ----------
    Milakov and Gimelshein (2018), arXiv:1805.02867; Dao, Fu, Ermon, Rudra and Re (2022), arXiv:2205.14135.

    Examples
    --------
    >>> import torch
    >>> from seqsolve.attention import causal
    >>> q, k, v = torch.randn(3, 1, 2, 6, 4, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    >>> whole, state = causal(q, k, v)
    >>> _, early = causal(q[:, :, 3:], k[:, :, :3], v[:, :, :3], offset=3)  # the last queries, the first keys
    >>> late, merged = causal(q[:, :, 3:], k[:, :, 3:], v[:, :, 3:], early)  # then the rest, state in, state out
    >>> torch.allclose(late, whole[:, :, 3:], atol=1e-14)
    True
    """
    plain = state is block is mask is window is lengths is alibi is None and method == "auto" and not rotary
    if plain and (found := quick(q, k, v, offset, scale, check_finite)) is not None:
        return found
    if rotary:
        q, k, v = _checks.triple(q, k, v)
        if offset is None:
            offset = k.shape[2] - q.shape[2]
        base = 10000.0 if rotary is True else float(rotary)
        start = offset
        if isinstance(offset, Tensor):
            start = offset[:, None, None] + torch.arange(q.shape[2], device=q.device)
        q, k = rotate(q, start, base=base), rotate(k, base=base)
    return attend(
        q,
        k,
        v,
        state,
        causal=True,
        offset=offset,
        mask=mask,
        window=window,
        alibi=alibi,
        lengths=lengths,
        scale=scale,
        block=block,
        method=method,
        check_finite=check_finite,
    )


def attend(
    q, k, v, state, *, causal, scale, offset, block, method="auto", check_finite=True, **rules
) -> tuple[Tensor, SoftmaxState]:
    """check -> normalise -> choose -> kernel -> merge, for causal and full attention alike."""
    q, k, v = _checks.triple(q, k, v)
    scale = _checks.scale_of(scale, q.shape[3])
    if block is not None:
        _checks.positive("block", block, "the number of queries and keys taken at a time")
    if method not in METHODS:
        raise ValueError(f"method={method!r} is unknown; pass one of {', '.join(METHODS)}")
    if state is not None and state.acc.shape != (*q.shape[:3], v.shape[3]):
        raise ValueError(
            f"state has acc of shape {tuple(state.acc.shape)}, expected {(*q.shape[:3], v.shape[3])}: "
            "one row for each query of this call"
        )
    first, parts, sight = k.shape[2] - q.shape[2] if offset is None else offset, None, None
    plain = block is None and type(first) is int and all(x is None or x is False for x in rules.values())
    if plain and method != "blocks":
        parts = spans(q, k, v, causal, first)
    if parts is None:
        if method == "fused":
            raise ValueError(
                "method='fused' knows plain causal attention only (no mask, window, alibi or lengths, equal widths of "
                "k and v, offset >= 0, at least one query and key, on a GPU no float64); pass method='auto'"
            )
        sight = visibility(q, k, causal=causal, offset=offset, **rules)
        o, lse = _in_blocks(q, k, v, sight, scale, block)
    else:
        o, lse = fused(q, k, v, parts, scale)
    if check_finite and not _checks.is_finite(o):
        sight = sight or visibility(q, k, causal=causal, offset=offset, **rules)
        o, lse = _attend_wide(q, k, v, sight, scale, block)
    one = torch.ones_like(lse) if sight is None else (lse != -torch.inf).to(lse.dtype)
    new = SoftmaxState(lse, one, o.to(lse.dtype))
    if state is not None:
        new = state.merge(new)
        o = new.output()
    return o.to(q.dtype), new


def _in_blocks(q, k, v, sight: Visibility, scale: float, block) -> tuple[Tensor, Tensor]:
    q, k, v = (x.to(_checks.state_dtype(x.dtype)) for x in (q, k, v))
    if not q.numel():
        return q.new_zeros((*q.shape[:3], v.shape[-1])), q.new_full(q.shape[:3], -torch.inf)
    return Attend.apply(q, k, v, sight.mask, sight.slopes, sight, scale, block)


def _attend_wide(q, k, v, sight: Visibility, scale: float, block) -> tuple[Tensor, Tensor]:
    """The answer where a first attempt was not finite: by blocks in the dtype of the state, NaN where it belongs.

    A masked weight times NaN is NaN, so one bad value would spoil a whole block. The attention of the cleaned inputs
    is therefore taken, and a second one with equal weights finds who sees a bad key or value.
    """
    q, k, v = (x.to(_checks.state_dtype(x.dtype)) for x in (q, k, v))
    if _checks.is_finite(q, k, v):
        o, lse = _in_blocks(q, k, v, sight, scale, block)
        if not _checks.is_finite(o):
            largest = [f"{float(x.detach().abs().max()):.3g}" for x in (q, k, v)]
            raise FloatingPointError(
                f"finite inputs overflow {q.dtype}: largest |q|, |k|, |v| are {', '.join(largest)}, scale={scale:.3g}; "
                "scale them down or pass float64"
            )
        return o, lse
    bad_q = ~torch.isfinite(q).all(-1)
    bad_k = ~torch.isfinite(k).all(-1)
    bad_v = ~torch.isfinite(v)

    def clean(x):
        return torch.where(torch.isfinite(x), x, torch.zeros_like(x))

    o, lse = _in_blocks(clean(q), clean(k), clean(v), sight, scale, block)
    with torch.no_grad():
        flags = torch.cat((bad_v.to(v.dtype), bad_k[..., None].to(v.dtype)), -1)
        equal = torch.zeros_like(q), torch.zeros_like(k)
        touched = _in_blocks(*equal, flags, _without_biases(sight), scale, block)[0] > 0
    row = touched[..., -1] | (bad_q & (lse > -torch.inf))
    o = torch.where(touched[..., :-1] | row[..., None], torch.nan, o)
    return o, torch.where(row, torch.nan, lse)


def _without_biases(sight: Visibility) -> Visibility:
    """The same sight with what a floating mask hides, without what it or ALiBi adds."""
    mask = sight.mask
    if mask is not None and mask.dtype != torch.bool:
        mask = mask > -torch.inf
    return replace(sight, mask=mask, slopes=None)
