"""Time split over processes: affine scans, exact attention in a ring, and states merged over ranks.

Each rank of a ``torch.distributed`` group (gloo or NCCL) holds a consecutive part of the sequence, in the order of the
ranks; parts may differ in length. Messages are point to point, so that a rank that does not answer is named.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function

from . import scan
from .attention import SoftmaxState, causal
from .attention import _checks as checks
from .attention.blocks import backward_blocks
from .attention.visibility import Visibility, visibility

TIMEOUT = 60.0  # seconds
STRUCTURES = ("scalar", "diag", "dense")


class LostRankError(RuntimeError):
    """A rank did not answer in time, or its connection closed."""


@dataclass(frozen=True)
class Ranks:
    """The members of a process group, and how long to wait for one of them."""

    group: Any
    rank: int
    size: int
    timeout: float

    @classmethod
    def of(cls, group, timeout: float) -> "Ranks":
        """Checked; `group` None is the default group."""
        if not (isinstance(timeout, (int, float)) and timeout > 0):
            raise ValueError(f"timeout={timeout!r} is not a positive number of seconds")
        if not dist.is_available() or not dist.is_initialized():
            raise RuntimeError("no process group: call torch.distributed.init_process_group on every rank first")
        return cls(group, dist.get_rank(group), dist.get_world_size(group), float(timeout))

    def _peer(self, rank: int) -> int:
        return rank if self.group is None else dist.get_global_rank(self.group, rank)

    def messages(self, sent: Iterable[tuple[int, Tensor]], received: Iterable[tuple[int, Tensor]], doing: str) -> None:
        """Send and receive at once; a rank that is silent for `timeout` seconds raises `LostRankError` here."""
        sent, received = list(sent), list(received)
        ops, peers = [], []
        for call, pairs in ((dist.isend, sent), (dist.irecv, received)):
            for peer, x in pairs:
                ops.append(dist.P2POp(call, x, self._peer(peer), self.group))
                peers.append(peer)
        if not ops:
            return
        deadline = time.monotonic() + self.timeout
        lost: dict[int, str] = {}
        try:
            requests = dist.batch_isend_irecv(ops)
        except RuntimeError as error:
            raise self._lost({p: str(error) for p in peers}, doing) from error
        for n, request in enumerate(requests):
            peer = peers[n] if len(requests) == len(peers) else -1  # NCCL returns one request for the batch
            try:
                left = max(deadline - time.monotonic(), 0.05)
                request.wait(timedelta(seconds=left))
            except RuntimeError as error:
                lost[peer] = str(error)
        if lost:
            raise self._lost(lost, doing)

    def _lost(self, lost: dict[int, str], doing: str) -> LostRankError:
        names = ", ".join(str(p) for p in sorted(lost) if p >= 0) or "unknown"
        first = next(iter(lost.values())).strip().splitlines()
        return LostRankError(
            f"rank {self.rank} of {self.size} lost rank {names} while {doing} (timeout {self.timeout:g} s): "
            f"{first[0][:160] if first else 'no answer'}. "
            "The group is unusable now: destroy it and start all ranks again."
        )

    def all(self, x: Tensor, doing: str) -> list[Tensor]:
        """`x` of every rank, in order; equal shapes."""
        x = x.detach().contiguous()
        gathered = [x if r == self.rank else torch.empty_like(x) for r in range(self.size)]
        others = [r for r in range(self.size) if r != self.rank]
        self.messages([(r, x) for r in others], [(r, gathered[r]) for r in others], doing)
        return gathered

    def agree(self, x: Tensor, free: int, what: str) -> list[int]:
        """The size of axis `free` on every rank, once dtype and all other axes are found equal."""
        codes = {d: n for n, d in enumerate((*checks.FLOATS, torch.complex64, torch.complex128))}
        header = torch.full((12,), -1, dtype=torch.int64, device=x.device)
        header[0], header[1] = codes.get(x.dtype, -1), x.ndim
        header[2 : 2 + x.ndim] = torch.tensor(x.shape)
        headers = [h.tolist() for h in self.all(header, f"comparing the shapes of {what}")]
        lengths = [h[2 + free] for h in headers]
        fixed = [h[: 2 + free] + h[3 + free :] for h in headers]
        for r, other in enumerate(fixed):
            if other != fixed[self.rank]:
                raise ValueError(
                    f"{what} has shape {tuple(headers[self.rank][2 : 2 + x.ndim])} on rank {self.rank} and "
                    f"{tuple(n for n in headers[r][2:] if n >= 0)} on rank {r} (or another dtype); "
                    "only the length in time may differ"
                )
        return lengths


def affine_scan(
    A: Tensor,
    b: Tensor,
    h0: Tensor | None = None,
    *,
    structure: str = "diag",
    process_group: Any = None,
    timeout: float = TIMEOUT,
) -> Tensor:
    """All states of ``h_t = A_t h_{t-1} + b_t`` with time split over ranks; differentiable.

    Every rank composes its own steps into one affine map, the maps are exchanged, and each rank starts from where the
    ranks before it end.

    Parameters
    ----------
    A : this rank's coefficients, (T_r,) for "scalar", (T_r, ..., n) for "diag", (T_r, ..., n, n) for "dense".
    b : (T_r, ..., n), what is added; T_r may differ between ranks and be 0.
    h0 : (..., n) state before the first step of rank 0, given on every rank alike; None is zero.
    structure : "scalar", "diag" or "dense".
    process_group : a torch.distributed group; None is the default one.
    timeout : seconds to wait for a message of another rank.

    Returns
    -------
    Tensor
        (T_r, ..., n), this rank's states.

    Raises
    ------
    LostRankError
        When a rank does not answer within `timeout` seconds, or its connection closes; on all other ranks.
    ValueError
        When shapes differ between ranks, or do not fit.

    Notes
    -----
    Complexity: twice the local scan, and one exchange of n (diag) or n^2 (dense) numbers forward and backward. The
    gradient with respect to `h0` lies on rank 0 and is zero elsewhere, so that the sum over ranks is right.

    References
    ----------
    Blelloch (1990), "Prefix sums and their applications", CMU-CS-90-190, section 1.4.

    Examples
    --------
    >>> import torch, tempfile
    >>> import torch.distributed as dist
    >>> from seqsolve import distributed
    >>> store = dist.HashStore()
    >>> dist.init_process_group("gloo", store=store, rank=0, world_size=1)  # as many as there are processes
    >>> distributed.affine_scan(torch.full((3, 1), 0.5), torch.ones(3, 1)).flatten().tolist()
    [1.0, 1.5, 1.75]
    >>> dist.destroy_process_group()
    """
    ranks = Ranks.of(process_group, timeout)
    if structure not in STRUCTURES:
        raise ValueError(f"structure={structure!r} is unknown; pass one of {', '.join(STRUCTURES)}")
    if not isinstance(A, Tensor) or not isinstance(b, Tensor) or b.ndim == 0:
        raise TypeError("A and b must be torch tensors with time along their first axis")
    shape = {"scalar": b.shape[:1], "diag": b.shape, "dense": (*b.shape, b.shape[-1])}[structure]
    try:
        if structure == "scalar" and A.ndim == 1:
            A = A.reshape(-1, *(1,) * (b.ndim - 1)).expand(b.shape)
        else:
            A = A.expand(shape)
    except RuntimeError:
        raise ValueError(
            f"A {tuple(A.shape)} and b {tuple(b.shape)} do not fit {structure!r}; expected {shape}"
        ) from None
    ranks.agree(b, 0, "b")
    start = b.new_zeros(b.shape[1:]) if h0 is None else h0.to(b).expand(b.shape[1:])
    kind = "dense" if structure == "dense" else "diag"
    return _AffineScan.apply(A.to(b.dtype), b, start, ranks, kind)


def _apply(A: Tensor, x: Tensor, structure: str) -> Tensor:
    """A x for one or many steps; a state of 0 stays 0 whatever A, even where its product overflowed."""
    if structure == "dense":
        return (A @ x[..., None])[..., 0]
    return torch.where(x == 0, torch.zeros_like(x), A * x)


def _product(A: Tensor, structure: str) -> Tensor:
    """A_{T-1} ... A_0, pairs first."""
    if structure == "diag":
        return A.prod(0)
    if A.shape[0] == 0:
        return torch.eye(A.shape[-1], dtype=A.dtype, device=A.device).expand(A.shape[1:]).clone()
    while A.shape[0] > 1:
        paired = A.shape[0] - A.shape[0] % 2
        A = torch.cat((A[1:paired:2] @ A[0:paired:2], A[paired:]))
    return A[0]


def _local(A: Tensor, b: Tensor, start: Tensor, structure: str, reverse: bool = False) -> Tensor:
    if b.shape[0] == 0:
        return b
    return scan.affine_scan(A, b, start, structure=structure, reverse=reverse)


class _AffineScan(Function):
    @staticmethod
    def forward(ctx, A, b, h0, ranks: Ranks, structure: str):
        zero = torch.zeros_like(h0)
        last = _local(A, b, zero, structure)[-1] if b.shape[0] else zero
        product = _product(A, structure)
        packed = ranks.all(torch.cat((product.flatten(), last.flatten())), "exchanging the maps of an affine scan")
        products = [x[: product.numel()].view_as(product) for x in packed]
        carry = h0
        for r in range(ranks.rank):
            carry = _apply(products[r], carry, structure) + packed[r][product.numel() :].view_as(last)
        h = _local(A, b, carry, structure)
        ctx.save_for_backward(A, carry, h, *products)
        ctx.rest = ranks, structure
        return h

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        """mu_t = A_t^H (g_t + mu_{t+1}) is the same scan backwards; db_t = g_t + mu_{t+1}, dA_t = db_t h_{t-1}^H."""
        A, carry, h, *products = ctx.saved_tensors
        ranks, structure = ctx.rest
        adjoint = A.mH if structure == "dense" else A.conj()
        turned = [P.mH if structure == "dense" else P.conj() for P in products]
        zero = torch.zeros_like(carry)
        b = _apply(adjoint, g, structure)
        first = _local(adjoint, b, zero, structure, reverse=True)[0] if g.shape[0] else zero
        pieces = ranks.all(first, "exchanging the gradients of an affine scan")
        behind = zero
        for r in range(ranks.size - 1, ranks.rank, -1):
            behind = _apply(turned[r], behind, structure) + pieces[r]
        mu = _local(adjoint, b, behind, structure, reverse=True)
        db = g + torch.cat((mu[1:], behind[None])) if g.shape[0] else g
        before = torch.cat((carry[None], h[:-1])) if g.shape[0] else h
        grad_A = db[..., None] * before.conj()[..., None, :] if structure == "dense" else db * before.conj()
        start = mu[0] if g.shape[0] else behind
        return grad_A, db, start if ranks.rank == 0 else torch.zeros_like(start), None, None


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
