"""Softmax attention as a recurrence: the state (m, l, acc), its update and its associative merge."""

from dataclasses import dataclass

import torch
from torch import Tensor

from . import _checks


@dataclass(frozen=True, eq=False)
class SoftmaxState:
    """What one query remembers of all the keys it has read: three numbers and a vector, whatever the history.

    With scores ``s_j = scale * q . k_j`` the state stands for ``sum_j exp(s_j)`` and ``sum_j exp(s_j) v_j``, both
    relative to ``exp(m)``::

        l = sum_j exp(s_j - m)         acc = sum_j exp(s_j - m) v_j         output = acc / l

    Any finite m gives the same output and the same ``logsumexp = m + log l``; it is kept near the largest score, so
    that nothing overflows. States of the same queries over different keys merge associatively and commutatively; the
    empty state (m = -inf) is the identity.

    Parameters
    ----------
    m : (..., T) reference exponent; -inf where no key was seen.
    l : (..., T) sum of the weights.
    acc : (..., T, dv) weighted sum of the values.

    References
    ----------
    Milakov and Gimelshein (2018), arXiv:1805.02867, algorithm 3 (online softmax).
    Feng, Tung, Hajimirsadeghi, Ahmed, Bengio and Mori (2024), arXiv:2405.13956, section 3.2 (the merge).

    Examples
    --------
    >>> import torch
    >>> from seqsolve.attention import SoftmaxState
    >>> q = torch.ones(1, 1, 1, 2)
    >>> k = torch.eye(2)[None, None]
    >>> v = torch.tensor([[[[2.0], [4.0]]]])
    >>> state = SoftmaxState.empty(1, 1, 1, dv=1)
    >>> for j in range(2):  # token by token, constant memory
    ...     state = state.update(q, k[:, :, j : j + 1], v[:, :, j : j + 1])
    >>> state.output()
    tensor([[[[3.]]]])
    """

    m: Tensor
    l: Tensor  # noqa: E741  (the paper's name)
    acc: Tensor

    def __post_init__(self):
        for name, x in (("m", self.m), ("l", self.l), ("acc", self.acc)):
            if not isinstance(x, Tensor):
                raise TypeError(f"{name} is a {type(x).__name__}, expected a torch tensor")
        if self.m.shape != self.l.shape or self.acc.shape[:-1] != self.m.shape:
            raise ValueError(
                f"m {tuple(self.m.shape)}, l {tuple(self.l.shape)} and acc {tuple(self.acc.shape)} do not fit; "
                "expected (..., T), (..., T) and (..., T, dv)"
            )

    @classmethod
    def empty(cls, *shape: int, dv: int, dtype: torch.dtype = torch.float32, device=None) -> "SoftmaxState":
        """The state of queries that have seen no key: the identity of `merge`."""
        like = {"dtype": _checks.state_dtype(dtype), "device": device}
        return cls(torch.full(shape, -torch.inf, **like), torch.zeros(shape, **like), torch.zeros((*shape, dv), **like))

    def update(self, q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None, scale: float | None = None):
        """The state after the same queries `q` have also read keys `k` with values `v`; O(1) memory a query."""
        return online_softmax(q, k, v, self, mask=mask, scale=scale)[1]

    def merge(self, other: "SoftmaxState") -> "SoftmaxState":
        """The state over the keys of both; ``a.merge(b)`` equals ``b.merge(a)`` to rounding."""
        if not isinstance(other, SoftmaxState):
            raise TypeError(f"a SoftmaxState merges with another one, not with a {type(other).__name__}")
        if self.acc.shape != other.acc.shape:
            raise ValueError(
                f"states of acc {tuple(self.acc.shape)} and {tuple(other.acc.shape)} belong to different queries; "
                "merge states of the same queries over different keys"
            )
        return self.merge_after(other)

    def merge_after(self, other: "SoftmaxState") -> "SoftmaxState":
        """`merge` with broadcasting: one state of (..., 1) joined to each of the prefixes (..., T)."""
        # m is a gauge: outputs do not depend on it, so no gradient flows through the choice (only through m - m_i).
        m = torch.maximum(self.m, other.m).detach()
        anchor = m.clamp(min=torch.finfo(m.dtype).min)  # exp(-inf - anchor) is 0, and not NaN
        mine, theirs = torch.exp(self.m - anchor), torch.exp(other.m - anchor)
        return SoftmaxState(
            m,
            torch.addcmul(self.l * mine, other.l, theirs),
            torch.addcmul(self.acc * mine.unsqueeze(-1), other.acc, theirs.unsqueeze(-1)),
        )

    def output(self, dtype: torch.dtype | None = None) -> Tensor:
        """acc / l of shape (..., T, dv); 0 for a query that has seen no key."""
        out = self.acc / self.l.masked_fill(self.m == -torch.inf, 1).unsqueeze(-1)
        return out if dtype is None else out.to(dtype)

    @property
    def logsumexp(self) -> Tensor:
        """m + log l of shape (..., T): the log of the partition sum; -inf for a query that has seen no key."""
        return self.m + torch.log(self.l.masked_fill(self.m == -torch.inf, 1))

    def numel(self) -> int:
        """Numbers that the state holds."""
        return self.m.numel() + self.l.numel() + self.acc.numel()

    def to(self, *args, **kwargs) -> "SoftmaxState":
        """As ``Tensor.to``."""
        return SoftmaxState(self.m.to(*args, **kwargs), self.l.to(*args, **kwargs), self.acc.to(*args, **kwargs))

    def detach(self) -> "SoftmaxState":
        """Without the graph."""
        return SoftmaxState(self.m.detach(), self.l.detach(), self.acc.detach())

    def __getitem__(self, index) -> "SoftmaxState":
        """The states of some of the queries; `index` acts on (..., T)."""
        return SoftmaxState(self.m[index], self.l[index], self.acc[index])

    def __repr__(self) -> str:
        return (
            f"SoftmaxState(queries={tuple(self.m.shape)}, dv={self.acc.shape[-1]}, "
            f"dtype={self.acc.dtype}, device={self.acc.device})"
        )


def online_softmax(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    state: SoftmaxState | None = None,
    *,
    mask: Tensor | None = None,
    scale: float | None = None,
    block: int | None = None,
) -> tuple[Tensor, SoftmaxState]:
    """Every query reads every key (no causality): cross attention, and the update of a `SoftmaxState`.

    ``o_i = sum_j exp(s_ij) v_j / sum_j exp(s_ij)`` with ``s_ij = scale * q_i . k_j + mask_ij``.

    Parameters
    ----------
    q : (B, Hq, Tq, d) queries.
    k : (B, Hk, Tk, d) keys, Hq a multiple of Hk.
    v : (B, Hk, Tk, dv) values.
    state : what the same queries have read before, or None.
    mask : boolean (True: seen) or floating (added to the scores), broadcastable to (B, Hq, Tq, Tk).
    scale : factor on q . k; None is 1 / sqrt(d).
    block : keys and queries taken at a time; None chooses.

    Returns
    -------
    o : (B, Hq, Tq, dv) in the dtype of `q`.
    state : `SoftmaxState` over all keys read so far, in float32 or float64.

    Raises
    ------
    ValueError, TypeError
        For shapes or dtypes that do not fit.
    FloatingPointError
        When finite inputs overflow.

    Notes
    -----
    Complexity: 2 Hq Tq Tk (d + dv) flops, memory O(block^2) beside the result.

    References
    ----------
    Milakov and Gimelshein (2018), arXiv:1805.02867.

    Examples
    --------
    >>> import torch
    >>> from seqsolve.attention import online_softmax
    >>> q, k, v = torch.ones(1, 1, 1, 2), torch.eye(2)[None, None], torch.tensor([[[[2.0], [4.0]]]])
    >>> first, state = online_softmax(q, k[:, :, :1], v[:, :, :1])
    >>> both, state = online_softmax(q, k[:, :, 1:], v[:, :, 1:], state)
    >>> float(first), float(both)
    (2.0, 3.0)
    """
    from .exact import attend

    return attend(q, k, v, state, causal=False, offset=0, mask=mask, scale=scale, block=block)
