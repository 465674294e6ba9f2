"""Affine scans with time split over processes."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from seqsolve import scan

from .ranks import TIMEOUT, Ranks

STRUCTURES = ("scalar", "diag", "dense")


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
