"""Attention with a bounded number of states: each step drops the key that it attends to least (TOVA)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from . import _checks


@dataclass(frozen=True, eq=False)
class MultiState:
    """The keys and values that are kept, and where they stood: at most `capacity` of them, whatever the history.

    Parameters
    ----------
    k : (B, Hk, n, d) keys.
    v : (B, Hk, n, dv) values.
    positions : (B, Hk, n) integers, ascending: the step at which each was read.
    steps : steps read so far.
    """

    k: Tensor
    v: Tensor
    positions: Tensor
    steps: int

    def numel(self) -> int:
        """Numbers that the state holds, positions included."""
        return self.k.numel() + self.v.numel() + self.positions.numel()

    def __repr__(self) -> str:
        return (
            f"MultiState(kept={self.k.shape[2]}, steps={self.steps}, k={tuple(self.k.shape)}, v={tuple(self.v.shape)})"
        )


def tova(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    state: MultiState | None = None,
    *,
    capacity: int,
    per_head: bool = False,
    scale: float | None = None,
) -> tuple[Tensor, MultiState]:
    """Causal attention over at most `capacity` keys: when one more arrives, the least attended one is dropped.

    ``w_t = softmax(scale * q_t . K)`` over the kept keys and the new one, ``o_t = w_t V``, then
    ``drop argmin_j mean_heads w_tj`` if more than `capacity` are kept. The new key itself may be the one dropped.

    Parameters
    ----------
    q : (B, Hq, T, d) queries, one for each new key.
    k : (B, Hk, T, d) keys, Hq a multiple of Hk.
    v : (B, Hk, T, dv) values.
    state : what earlier calls kept, or None.
    capacity : keys kept between steps, at least 1. From T on nothing is dropped and the attention is exact.
    per_head : drop for each key head by itself, instead of one position for all heads.
    scale : factor on q . k; None is 1 / sqrt(d).

    Returns
    -------
    o : (B, Hq, T, dv) in the dtype of `q`.
    state : `MultiState` with what is kept.

    Raises
    ------
    ValueError, TypeError
        For shapes, dtypes or a capacity that do not fit.

    Notes
    -----
    Complexity: O(Hq T capacity (d + dv)) flops, O(Hk capacity (d + dv)) state.

    References
    ----------
    Oren, Hassid, Yarden, Adi and Schwartz (2024), "Transformers are Multi-State RNNs", arXiv:2401.06104, section 3.2.

    Examples
    --------
    >>> import torch
    >>> from seqsolve.attention import tova
    >>> q = torch.ones(1, 1, 3, 1)
    >>> k = torch.tensor([[[[5.0], [-5.0], [1.0]]]])
    >>> o, state = tova(q, k, k, capacity=2)
    >>> state.positions.flatten().tolist()  # the key that was attended to least is gone
    [0, 2]
    """
    q, k, v = _checks.triple(q, k, v)
    _checks.positive("capacity", capacity, "the number of keys kept between steps")
    scale = _checks.scale_of(scale, q.shape[-1])
    B, H, T, d = q.shape
    heads = k.shape[1]
    if k.shape[2] != T:
        raise ValueError(f"q has {T} steps and k has {k.shape[2]}; each step brings one query and one key")
    if state is None:
        none = torch.zeros(B, heads, 0, dtype=torch.int64, device=k.device)
        state = MultiState(k[:, :, :0], v[:, :, :0], none, 0)
    if state.k.shape[:2] != k.shape[:2] or state.k.shape[3] != d or state.v.shape[3] != v.shape[3]:
        raise ValueError(
            f"state holds k {tuple(state.k.shape)} and v {tuple(state.v.shape)}, which do not fit "
            f"k {tuple(k.shape)} and v {tuple(v.shape)}; start from state=None"
        )
    compute = _checks.state_dtype(q.dtype)
    K, V, places = state.k, state.v, state.positions
    outputs = []
    for t in range(T):
        K, V = torch.cat((K, k[:, :, t : t + 1]), 2), torch.cat((V, v[:, :, t : t + 1]), 2)
        now = torch.full((B, heads, 1), state.steps + t, dtype=torch.int64, device=k.device)
        places = torch.cat((places, now), 2)
        grouped = q[:, :, t].reshape(B, heads, -1, d).to(compute) * scale
        w = torch.softmax(grouped @ K.to(compute).mT, -1)  # (B, heads, group, n)
        outputs.append((w @ V.to(compute)).reshape(B, H, 1, -1))
        while K.shape[2] > capacity:
            weight = w.detach().mean(2) if per_head else w.detach().mean((1, 2)).unsqueeze(1).expand(-1, heads, -1)
            kept = _without(weight.argmin(-1), K.shape[2])
            K, V = (torch.take_along_dim(x, kept[..., None], 2) for x in (K, V))
            places = torch.take_along_dim(places, kept, 2)
            w = torch.take_along_dim(w, kept[:, :, None], 3)
    o = torch.cat(outputs, 2) if outputs else v.new_zeros((B, H, 0, v.shape[-1]))
    return o.to(q.dtype), MultiState(K, V, places, state.steps + T)


def _without(dropped: Tensor, n: int) -> Tensor:
    """The indices 0..n-1 in order, less one for each (batch, head)."""
    rest = torch.arange(n - 1, device=dropped.device)
    return rest + (rest >= dropped[..., None])
