"""Which keys a query sees, and what is added to their scores, block by block."""

from dataclasses import dataclass

import torch
from torch import Tensor

from . import _checks


@dataclass(frozen=True)
class Visibility:
    """Query i sees key j where every rule that is present allows it.

    Position of query i is ``p = offset + i``, of key j is ``j``. The rules are: causal ``j <= p``; a window
    ``p - j < window``; lengths ``j < length`` and ``p < length``; and a boolean mask. A floating mask and
    ``-slope * (p - j)`` (ALiBi) are added to the scores.
    """

    queries: int
    keys: int
    heads: int
    causal: bool = True
    offset: int | Tensor = 0
    window: int | None = None
    lengths: Tensor | None = None
    mask: Tensor | None = None
    slopes: Tensor | None = None

    @property
    def plain(self) -> bool:
        """Nothing but causality at one fixed offset: what a fused attention kernel knows."""
        return self.window is None and self.lengths is None and self.mask is None and self.slopes is None

    def key_range(self, first: int, last: int) -> tuple[int, int]:
        """Keys that queries first..last-1 can see at all; blocks outside are never touched."""
        if isinstance(self.offset, Tensor) or not self.causal:
            return 0, self.keys
        low = 0 if self.window is None else max(0, self.offset + first - self.window + 1)
        return low, max(low, min(self.keys, self.offset + last))

    def _positions(self, i0: int, i1: int, device: torch.device) -> Tensor:
        rows = torch.arange(i0, i1, device=device)[:, None]
        if isinstance(self.offset, Tensor):
            return self.offset.to(device)[:, None, None, None] + rows
        return rows + self.offset

    def _crosses_an_edge(self, i0: int, i1: int, j0: int, j1: int) -> bool:
        """Whether causality or the window hides part of this block."""
        if not self.causal and self.window is None:
            return False
        if isinstance(self.offset, Tensor):
            return True
        first, last = self.offset + i0, self.offset + i1 - 1
        return (self.causal and j1 - 1 > first) or (self.window is not None and last - j0 >= self.window)

    def hidden(self, i0: int, i1: int, j0: int, j1: int, device: torch.device) -> Tensor | None:
        """True where a query of rows i0..i1-1 does not see a key of columns j0..j1-1; None when it sees all."""
        hidden = None
        edge = self._crosses_an_edge(i0, i1, j0, j1)
        if edge or self.lengths is not None:
            p, j = self._positions(i0, i1, device), torch.arange(j0, j1, device=device)
            if edge:
                hidden = j > p if self.causal else torch.zeros_like(j > p)
                if self.window is not None:
                    hidden = hidden | (p - j >= self.window)
            if self.lengths is not None:
                length = self.lengths[:, None, None, None]
                outside = (j >= length) | (p >= length)
                hidden = outside if hidden is None else hidden | outside
        if self.mask is not None and self.mask.dtype == torch.bool:
            masked = ~self.mask_block(self.mask, i0, i1, j0, j1)
            hidden = masked if hidden is None else hidden | masked
        return hidden

    def mask_block(self, mask: Tensor, i0: int, i1: int, j0: int, j1: int) -> Tensor:
        """The part of a broadcastable (B, Hq, Tq, Tk) mask that falls on the block."""
        rows = slice(None) if mask.shape[-2] == 1 else slice(i0, i1)
        columns = slice(None) if mask.shape[-1] == 1 else slice(j0, j1)
        return mask[..., rows, columns]

    def distance(self, i0: int, i1: int, j0: int, j1: int, like: Tensor) -> Tensor:
        """p - j on the block, in the dtype of the scores."""
        return (self._positions(i0, i1, like.device) - torch.arange(j0, j1, device=like.device)).to(like.dtype)

    def adjust(self, scores: Tensor, mask: Tensor | None, slopes: Tensor | None, i0: int, j0: int) -> Tensor:
        """Scores (B, Hq, rows, columns) with what is added, and -inf where the key is not seen."""
        i1, j1 = i0 + scores.shape[-2], j0 + scores.shape[-1]
        if slopes is not None:
            scores = scores - slopes[:, None, None] * self.distance(i0, i1, j0, j1, scores)
        if mask is not None and mask.dtype != torch.bool:
            scores = scores + self.mask_block(mask, i0, i1, j0, j1)
        hidden = self.hidden(i0, i1, j0, j1, scores.device)
        return scores if hidden is None else scores.masked_fill(hidden, -torch.inf)


def visibility(
    q: Tensor, k: Tensor, *, causal=True, offset=None, window=None, lengths=None, mask=None, alibi=None
) -> Visibility:
    """A checked `Visibility` for queries (B, Hq, Tq, d) and keys (B, Hk, Tk, d)."""
    B, H, Tq, _ = q.shape
    Tk = k.shape[2]
    if window is not None:
        _checks.positive("window", window, "the number of keys a query sees, itself included")
    if offset is None:
        offset = Tk - Tq
    elif isinstance(offset, Tensor):
        if offset.shape != (B,) or offset.dtype.is_floating_point:
            raise ValueError(f"offset has shape {tuple(offset.shape)} and dtype {offset.dtype}, expected {B} integers")
    elif isinstance(offset, bool) or not isinstance(offset, int):
        raise TypeError(f"offset={offset!r} is not an integer; pass the position of the first query among the keys")
    if lengths is not None:
        lengths = torch.as_tensor(lengths, device=q.device)
        if lengths.shape != (B,) or lengths.dtype.is_floating_point:
            raise ValueError(
                f"lengths has shape {tuple(lengths.shape)} and dtype {lengths.dtype}, expected {B} integers"
            )
        if B and (int(lengths.min()) < 0 or int(lengths.max()) > Tk):
            raise ValueError(
                f"lengths run from {int(lengths.min())} to {int(lengths.max())}, expected 0..{Tk} (the time axis of k)"
            )
    if mask is not None:
        mask = _mask(mask, q, (B, H, Tq, Tk))
    return Visibility(Tq, Tk, H, causal, offset, window, lengths, mask, _slopes(alibi, q, H))


def _mask(mask: Tensor, q: Tensor, shape: tuple[int, ...]) -> Tensor:
    if not isinstance(mask, Tensor) or not (mask.dtype == torch.bool or mask.dtype in _checks.FLOATS):
        raise TypeError(f"mask is {type(mask).__name__}, expected a boolean (True: seen) or floating (added) tensor")
    if mask.ndim > 4 or any(m not in (1, s) for m, s in zip(mask.shape[::-1], shape[::-1])):
        raise ValueError(
            f"mask has shape {tuple(mask.shape)}, which does not broadcast to (B, Hq, Tq, Tk) = {shape}; reshape it"
        )
    mask = mask.to(q.device).reshape((1,) * (4 - mask.ndim) + tuple(mask.shape))
    if mask.dtype != torch.bool:
        if mask.numel() and not torch.amax(mask.detach()) < torch.inf:
            raise ValueError("mask holds NaN or +inf; a floating mask is finite or -inf (not seen)")
        mask = mask.to(_checks.state_dtype(q.dtype))
    return mask


def _slopes(alibi, q: Tensor, heads: int) -> Tensor | None:
    if alibi is None or alibi is False:
        return None
    if alibi is True:
        from .positions import alibi_slopes

        alibi = alibi_slopes(heads)
    if not isinstance(alibi, Tensor) or alibi.shape != (heads,):
        shape = tuple(alibi.shape) if isinstance(alibi, Tensor) else type(alibi).__name__
        raise ValueError(f"alibi is {shape}, expected True or one slope for each of the {heads} query heads")
    return alibi.to(q.device, _checks.state_dtype(q.dtype))
