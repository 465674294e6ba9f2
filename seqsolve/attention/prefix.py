"""Attention of one fixed query over every prefix of its keys: the many-to-many recurrence of Aaren."""

import torch
from torch import Tensor

from seqsolve._prefix import check_form, prefixes

from . import _checks
from .state import SoftmaxState


def aaren(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    state: SoftmaxState | None = None,
    *,
    form: str = "scan",
    scale: float | None = None,
    chunk: int | None = None,
) -> tuple[Tensor, SoftmaxState]:
    """Attention of a fixed query after each key: ``o_t = sum_{j<=t} exp(s_j) v_j / sum_{j<=t} exp(s_j)``.

    With ``s_j = scale * q . k_j``; all prefixes come from one scan of the merge of softmax states.

    Parameters
    ----------
    q : (H, d) one query a head, or (B, H, 1, d).
    k : (B, Hk, T, d) keys, H a multiple of Hk.
    v : (B, Hk, T, dv) values.
    state : the state after earlier keys, as returned, or None.
    form : "step" (constant memory beside the outputs), "scan" (2 log2 T deep) or "chunk" (2 sqrt(T) deep).
    scale : factor on q . k; None is 1 / sqrt(d).
    chunk : steps a chunk of the chunk form; None is sqrt(T).

    Returns
    -------
    o : (B, H, T, dv) in the dtype of `v`.
    state : `SoftmaxState` of the query after all keys, with one row: (B, H, 1).

    Raises
    ------
    ValueError, TypeError
        For shapes, dtypes or a form that do not fit.

    Notes
    -----
    Complexity: O(H T (d + dv)) flops and memory.

    References
    ----------
    Feng, Tung, Hajimirsadeghi, Ahmed, Bengio and Mori (2024), "Attention as an RNN", arXiv:2405.13956, section 3.2.

    Examples
    --------
    >>> import torch
    >>> from seqsolve.attention import aaren
    >>> o, state = aaren(torch.zeros(1, 2), torch.ones(1, 1, 3, 2), torch.tensor([[[[1.0], [2.0], [6.0]]]]))
    >>> o.flatten().tolist()  # equal weights: running means
    [1.0, 1.5, 3.0]
    """
    check_form(form)
    if isinstance(q, Tensor) and q.ndim == 2:
        q = q[None, :, None].expand(k.shape[0] if isinstance(k, Tensor) and k.ndim else 1, -1, -1, -1)
    q, k, v = _checks.triple(q, k, v)
    if q.shape[2] != 1:
        raise ValueError(f"q has shape {tuple(q.shape)}, expected one query a head: (H, d) or (B, H, 1, d)")
    if chunk is not None:
        _checks.positive("chunk", chunk, "the number of steps a chunk")
    dtype, compute = v.dtype, _checks.state_dtype(v.dtype)
    q, k, v = (x.to(compute) for x in (q, k, v))
    B, H, _, d = q.shape
    scaled = q.reshape(B, k.shape[1], -1, d) * _checks.scale_of(scale, d)
    s = (scaled @ k.mT).reshape(B, H, -1)
    v = v.repeat_interleave(H // v.shape[1], 1)
    if state is None:
        state = SoftmaxState.empty(B, H, 1, dv=v.shape[-1], dtype=compute, device=v.device)
    if state.acc.shape != (B, H, 1, v.shape[-1]):
        raise ValueError(
            f"state has acc of shape {tuple(state.acc.shape)}, expected {(B, H, 1, v.shape[-1])}: one row a head"
        )
    if s.shape[2] == 0:
        return v.to(dtype), state
    elements = (s, torch.ones_like(s), v)
    if form == "step":  # the state is carried, nothing else is kept
        rows = []
        for t in range(s.shape[2]):
            state = state.merge(SoftmaxState(*(x[:, :, t : t + 1] for x in elements)))
            rows.append(state.output())
        return torch.cat(rows, 2).to(dtype), state
    all_states = state.merge_after(SoftmaxState(*prefixes(_merge, elements, form, chunk)))
    return all_states.output(dtype), all_states[:, :, -1:]


def _merge(earlier, later):
    both = SoftmaxState(*earlier).merge_after(SoftmaxState(*later))
    return both.m, both.l, both.acc
