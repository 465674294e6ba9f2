"""Decoding in the memory one chooses: all keys kept, pages of them, or none, recomputed from the tokens each time."""

import enum
import math
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .attention import SoftmaxState, causal, online_softmax
from .attention._checks import positive

LEVELS = ("full", "sqrt", "none")
WIDE = 1 << 25  # flops of one call from which torch's threads pay for waking them


class Status(enum.Enum):
    """How the decoding remembered; the value is what the user reads."""

    CACHED = "Every layer kept the keys and values of all tokens."
    PAGED = "No keys were kept; every layer re-read its history from the tokens, a page at a time."
    RECOMPUTED = "No keys were kept; every layer re-read its history from the tokens, one token at a time."


@dataclass
class Work:
    """What was done, counted where it was done."""

    pairs: int = 0
    flops: int = 0
    held: int = 0
    peak: int = 0

    def hold(self, *tensors: Tensor | SoftmaxState) -> int:
        """Count tensors as alive; returns the number of entries, to be released."""
        n = sum(x.numel() for x in tensors)
        self.held += n
        self.peak = max(self.peak, self.held)
        return n

    def release(self, n: int) -> None:
        """Count `n` entries as forgotten."""
        self.held -= n


@dataclass(frozen=True, eq=False)
class Recomputation:
    """Logits of a decoding and what it cost.

    Parameters
    ----------
    logits : (B, T, vocabulary), one row for each token, each computed when its token had been read.
    status : how the decoding remembered.
    page : activations that a layer held at a time (T with a full cache).
    pairs : query-key pairs that were scored.
    flops : floating-point operations of projections, scores and feed-forward parts.
    peak_state : largest number of entries alive at once, caches and working memory of all layers, tokens excluded.
    seconds : wall time.
    """

    logits: Tensor
    status: Status
    page: int
    pairs: int
    flops: int
    peak_state: int
    seconds: float

    def explain(self) -> str:
        """What happened, in one sentence and three numbers."""
        return (
            f"{self.status.value} {self.pairs:,} query-key pairs, {self.flops:,} flops, "
            f"at most {self.peak_state:,} numbers alive."
        )

    def __repr__(self) -> str:
        return (
            f"Recomputation({self.status.name}, logits={tuple(self.logits.shape)}, page={self.page}, "
            f"pairs={self.pairs}, flops={self.flops}, peak_state={self.peak_state})"
        )


@torch.no_grad()
def recompute(model: Any, tokens: Tensor, level: str = "full", *, page: int | None = None) -> Recomputation:
    """Decode a stack of causal layers token by token, with all, some or none of its keys and values remembered.

    Without a cache the keys of layer n at step j are those of the layer's input, which layer n - 1 gives by reading
    steps 0..j, and so on down to the tokens: the network is a recurrence in O(1) memory a layer, at a cost of about
    ``L**(N + 1) / (N + 1)!`` query-key pairs for L tokens and N layers, against ``N L**2 / 2`` with a cache. Pages of
    P steps share one pass over their history: about ``P**(2 - N) L**(N + 1) / (N + 1)!`` pairs from N = 2 on.

    Parameters
    ----------
    model : a `CausalStack`, or anything with ``embed(tokens)``, ``layers`` and ``head(x)`` where each layer has
        ``project(x, start) -> (q, k, v)``, ``finish(x, o) -> x`` and ``flops()`` (see `CausalLayer`).
    tokens : (T,) or (B, T) integers.
    level : "full" keeps all keys and values; "sqrt" re-reads pages of about sqrt(T) steps; "none" single steps.
    page : steps of a page, instead of those of `level` "sqrt" or "none".

    Returns
    -------
    Recomputation
        With `logits` (equal at all levels to rounding), `flops`, `pairs` and `peak_state`.

    Raises
    ------
    ValueError, TypeError
        For an unknown level, a page below 1, tokens of the wrong kind or a model without the parts above.

    Notes
    -----
    Complexity: pairs as above; memory O(N T d) with a cache, O(N P d) with pages of P.

    References
    ----------
    Su (2024), kexue.fm/archives/10017 (attention as an RNN of quadratic complexity).

    Examples
    --------
    >>> import torch
    >>> from seqsolve.recompute import recompute
    >>> from seqsolve.stack import CausalStack
    >>> model, tokens = CausalStack(11, 8, heads=2, layers=2), torch.arange(9)
    >>> cached, bare = recompute(model, tokens), recompute(model, tokens, "none")
    >>> torch.allclose(cached.logits, bare.logits, atol=1e-5)
    True
    >>> cached.pairs, bare.pairs  # 2 * 9 * 10 / 2 and C(10, 2) + C(11, 3)
    (90, 210)
    >>> bare.peak_state < cached.peak_state
    True
    """
    tokens = _tokens(tokens)
    _check_model(model, tokens)
    page = _page(level, page, tokens.shape[1])
    work, start = Work(), time.perf_counter()
    with _threads_of(_largest_call(model, tokens, 1 if level == "full" else page)):
        if level == "full":
            logits, status = _with_cache(model, tokens, work), Status.CACHED
        else:
            rows = [
                model.head(_activations(model, tokens, len(model.layers), t, t + 1, page, work))
                for t in range(tokens.shape[1])
            ]
            logits = torch.cat(rows, 1)
            status = Status.RECOMPUTED if page == 1 else Status.PAGED
    return Recomputation(logits, status, page, work.pairs, work.flops, work.peak, time.perf_counter() - start)


def _largest_call(model, tokens: Tensor, rows: int) -> int:
    """Flops of the largest projection, feed-forward part or reading of keys, for `rows` steps at a time."""
    batch, T = tokens.shape
    costs = [layer.flops() for layer in model.layers]
    return batch * rows * max((max(query, key, finish, T * pair) for query, key, finish, pair in costs), default=0)


@contextmanager
def _threads_of(flops: int):
    """One thread for calls that are over before a second one has woken: with two they took 10 times the CPU time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(threads if flops >= WIDE else 1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _with_cache(model, tokens: Tensor, work: Work) -> Tensor:
    caches: list[tuple[Tensor, Tensor] | None] = [None] * len(model.layers)
    rows = []
    for t in range(tokens.shape[1]):
        x = model.embed(tokens[:, t : t + 1])
        for n, layer in enumerate(model.layers):
            q, k, v = layer.project(x, t)
            before = caches[n]
            K, V = (k, v) if before is None else (torch.cat((before[0], k), 2), torch.cat((before[1], v), 2))
            work.hold(k, v)  # kept to the end
            caches[n] = K, V
            o, state = causal(q, K, V)
            _count(work, layer, x, queries=1, keys=1, pairs=K.shape[2], finished=1)
            busy = work.hold(x, q, state)
            x = layer.finish(x, o)
            work.release(busy)
        rows.append(model.head(x))
    return torch.cat(rows, 1)


def _activations(model, tokens: Tensor, depth: int, first: int, last: int, page: int, work: Work) -> Tensor:
    """Activations after `depth` layers at steps first..last-1, from the tokens alone."""
    if depth == 0:
        return model.embed(tokens[:, first:last])
    layer, n = model.layers[depth - 1], last - first
    x = _activations(model, tokens, depth - 1, first, last, page, work)
    q, k, v = layer.project(x, first)
    _, state = causal(q, k, v)  # the page's own steps
    _count(work, layer, x, queries=n, keys=n, pairs=n * (n + 1) // 2, finished=n)
    mine = work.hold(x, q, state)
    for start in range(0, first, page):
        stop = min(first, start + page)
        then = _activations(model, tokens, depth - 1, start, stop, page, work)
        _, k, v = layer.project(then, start)
        read = work.hold(then, k, v)
        _, state = online_softmax(q, k, v, state)
        _count(work, layer, x, queries=0, keys=stop - start, pairs=n * (stop - start), finished=0)
        work.release(read)
    work.release(mine)
    return layer.finish(x, state.output(x.dtype))


def _count(work: Work, layer, x: Tensor, *, queries: int, keys: int, pairs: int, finished: int) -> None:
    query, key, finish, pair = layer.flops()
    work.pairs += pairs
    work.flops += x.shape[0] * (queries * query + keys * key + finished * finish + pairs * pair)


def recompute_pairs(layers: int, length: int, page: int = 1) -> int:
    """Query-key pairs that `recompute` scores for N layers and L tokens without a cache, counted without computing.

    ``sum_{s=1..N} C(L + s, s + 1)`` for pages of one step.

    Parameters
    ----------
    layers : N, at least 1.
    length : L, at least 0.
    page : steps of a page.

    Returns
    -------
    int
        The count of `Recomputation.pairs`.

    Raises
    ------
    ValueError, TypeError
        When an argument is no positive integer.

    Notes
    -----
    Complexity: O(N (L / page + L)) operations.

    References
    ----------
    Su (2024), kexue.fm/archives/10017.

    Examples
    --------
    >>> from seqsolve.recompute import recompute_pairs
    >>> [recompute_pairs(n, 1000) for n in (1, 2, 3)]  # about L**(N + 1) / (N + 1)!
    [500500, 167667500, 42084792750]
    """
    positive("layers", layers, "the number of layers")
    positive("page", page, "the number of steps of a page")
    if isinstance(length, bool) or not isinstance(length, int) or length < 0:
        raise ValueError(f"length={length!r} is not a number of tokens")
    total, history = 0, [0] * layers  # history[d]: full pages so far, each computed to depth d
    for t in range(length):
        done, tail = divmod(t, page)
        if tail == 0 and t > 0:  # the page before t is complete
            ahead = [0] * layers
            for depth in range(1, layers):
                own = page * (page + 1) // 2 + page * page * (done - 1)
                # what reading it again costs: its own activations below, then those of every page before it
                ahead[depth] = ahead[depth - 1] + history[depth - 1] + own
            history = [h + a for h, a in zip(history, ahead)]
        below = tail_below = 0
        for depth in range(1, layers + 1):
            # a single step t, and the cut page before it of `tail` steps
            below, tail_below = (
                below + history[depth - 1] + (tail_below if tail else 0) + t + 1,
                tail_below + history[depth - 1] + tail * (tail + 1) // 2 + tail * page * done,
            )
        total += below
    return total


def _tokens(tokens: Tensor) -> Tensor:
    if not isinstance(tokens, Tensor) or tokens.is_floating_point() or tokens.dtype == torch.bool:
        kind = tokens.dtype if isinstance(tokens, Tensor) else type(tokens).__name__
        raise TypeError(f"tokens is {kind}, expected a torch tensor of integers (T,) or (B, T)")
    tokens = tokens[None] if tokens.ndim == 1 else tokens
    if tokens.ndim != 2 or tokens.shape[1] == 0:
        raise ValueError(f"tokens has shape {tuple(tokens.shape)}, expected (T,) or (B, T) with at least one token")
    return tokens


def _check_model(model, tokens: Tensor) -> None:
    missing = [name for name in ("embed", "layers", "head") if not hasattr(model, name)]
    for layer in getattr(model, "layers", ()):
        missing += [f"layers[*].{name}" for name in ("project", "finish", "flops") if not hasattr(layer, name)]
    if missing:
        raise TypeError(
            f"{type(model).__name__} has no {', '.join(dict.fromkeys(missing))}; pass a CausalStack, or a model with "
            "embed, layers and head whose layers have project, finish and flops (see CausalLayer)"
        )
    known = getattr(model.embed, "num_embeddings", None)
    if known is not None and not 0 <= int(tokens.min()) <= int(tokens.max()) < known:
        raise ValueError(f"tokens run from {int(tokens.min())} to {int(tokens.max())}, expected 0..{known - 1}")


def _page(level: str, page: int | None, T: int) -> int:
    if level not in LEVELS:
        raise ValueError(f"level={level!r} is unknown; pass one of {', '.join(LEVELS)}")
    if page is None:
        return {"full": T, "sqrt": math.isqrt(T - 1) + 1, "none": 1}[level]
    if level == "full":
        raise ValueError("page= belongs to level='sqrt' or 'none'; a full cache has no pages")
    return positive("page", page, "the number of steps of a page")
