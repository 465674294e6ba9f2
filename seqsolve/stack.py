"""A small causal language model, cut where `recompute` needs it."""

from typing import cast

from torch import Tensor, nn

from .attention import causal
from .attention._checks import positive
from .layers import RecurrentAttention


class CausalLayer(nn.Module):
    """One block of a causal stack, cut where `recompute` needs it: what keys depend on, and what follows attention.

    Parameters
    ----------
    d_model : width.
    heads : number of query heads.
    kv_heads : number of key heads, or None.
    hidden : width inside the feed-forward part; None is 2 d_model, 0 leaves it out.
    """

    def __init__(self, d_model: int, heads: int, *, kv_heads: int | None = None, hidden: int | None = None):
        super().__init__()
        hidden = 2 * d_model if hidden is None else hidden
        self.before, self.attention = nn.RMSNorm(d_model), RecurrentAttention(d_model, heads, kv_heads=kv_heads)
        self.after = nn.RMSNorm(d_model)
        self.feed = nn.Sequential(nn.Linear(d_model, hidden), nn.GELU(), nn.Linear(hidden, d_model)) if hidden else None

    def project(self, x: Tensor, start: int) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of the activations (B, T, d_model) from step `start` on."""
        return self.attention.project(self.before(x), start)

    def finish(self, x: Tensor, o: Tensor) -> Tensor:
        """The next activations (B, T, d_model) from the present ones and what attention read."""
        x = x + self.attention.join(o)
        return x if self.feed is None else x + self.feed(self.after(x))

    def flops(self) -> tuple[int, int, int, int]:
        """Flops a step of queries, of keys and values, of `finish`, and of one query-key pair."""
        a = self.attention
        finish = 2 * a.out.weight.numel()
        finish += sum(2 * m.weight.numel() for m in self.feed if isinstance(m, nn.Linear)) if self.feed else 0
        pair = 4 * a.heads * a.width
        return 2 * a.q.weight.numel(), 2 * (a.k.weight.numel() + a.v.weight.numel()), finish, pair


class CausalStack(nn.Module):
    """A small causal language model: embedding, layers of attention, logits.

    ``stack(tokens)`` gives the logits of all steps at once; `recompute` gives the same ones token by token, with a
    cache, with pages, or with no cache at all.

    Parameters
    ----------
    vocabulary : number of tokens.
    d_model : width.
    heads : number of query heads.
    layers : number of layers.
    kv_heads : number of key heads, or None.
    hidden : width inside the feed-forward parts; None is 2 d_model, 0 leaves them out.

    Examples
    --------
    >>> import torch
    >>> from seqsolve.stack import CausalStack
    >>> CausalStack(11, 8, heads=2, layers=2)(torch.tensor([[3, 1, 4]])).shape
    torch.Size([1, 3, 11])
    """

    def __init__(
        self,
        vocabulary: int,
        d_model: int,
        heads: int,
        layers: int,
        *,
        kv_heads: int | None = None,
        hidden: int | None = None,
    ):
        super().__init__()
        positive("vocabulary", vocabulary, "the number of tokens")
        positive("layers", layers, "the number of layers")
        self.embed = nn.Embedding(vocabulary, d_model)
        self.layers = nn.ModuleList(
            CausalLayer(d_model, heads, kv_heads=kv_heads, hidden=hidden) for _ in range(layers)
        )
        self.head = nn.Sequential(nn.RMSNorm(d_model), nn.Linear(d_model, vocabulary, bias=False))

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (B, T, vocabulary) of tokens (B, T)."""
        x = self.embed(tokens)
        for layer in cast(list[CausalLayer], list(self.layers)):
            q, k, v = layer.project(x, 0)
            x = layer.finish(x, causal(q, k, v)[0])
        return self.head(x)
