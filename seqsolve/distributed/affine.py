"""Affine scans with time split over processes."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from seqsolve import scan

from .ranks import TIMEOUT, Ranks

STRUCTURES = scan.STRUCTURES


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
    A : this rank's coefficients, with the shapes of `seqsolve.affine_scan`: (T_r,) for "scalar", (T_r, ..., n) for
        "diag" and "complex" (or pairs of real numbers along a last axis), (T_r, ..., n/k, k, k) for "block",
        (T_r, ..., n, n) for "dense"; (n, n), the same on every rank, for "constant".
    b : (T_r, ..., n), what is added; T_r may differ between ranks and be 0.
    h0 : (..., n) state before the first step of rank 0, given on every rank alike; None is zero.
    structure : "scalar", "diag", "complex", "block", "dense" or "constant".
    process_group : a torch.distributed group; None is the default one.
    timeout : seconds to wait for a message of another rank.

    Returns
    -------
    Tensor
        (T_r, ..., n), this rank's states; complex if A, b or h0 is.

    Raises
    ------
    LostRankError
        When a rank does not answer within `timeout` seconds, or its connection closes; on all other ranks.
    ValueError
        When shapes differ between ranks, or do not fit.

    Notes
    -----
    Complexity: twice the local scan, and one exchange of n (diag), n k (block) or n^2 (dense, constant) numbers forward
    and backward. The gradient with respect to `h0` lies on rank 0 and is zero elsewhere, and that of a constant A is
    the part of this rank's steps, so that their sums over ranks are right.

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
    start = b.new_zeros(b.shape[1:]) if h0 is None else h0.to(b.device).expand(b.shape[1:])
    dtype = torch.promote_types(torch.promote_types(A.dtype, b.dtype), start.dtype)
    A, b, start = (x.to(dtype) for x in (A, b, start))
    pairs = structure == "complex" and not dtype.is_complex
    if pairs:
        if A.ndim == 0 or A.shape[-1] != 2 or b.shape[-1] != 2:
            raise ValueError(
                f"A {tuple(A.shape)} and b {tuple(b.shape)} are real; structure='complex' then takes pairs (real, "
                "imaginary) along the last axis"
            )
        A, b, start = (torch.view_as_complex(x.contiguous()) for x in (A, b, start))
    shape, kind = b.shape, {"block": "dense", "dense": "dense", "constant": "constant"}.get(structure, "diag")
    A, b, start = _fitted(A, b, start, structure)
    ranks.agree(b, 0, "b")
    h = _AffineScan.apply(A, b, start, ranks, kind).reshape(shape)
    return torch.view_as_real(h) if pairs else h


def _fitted(A: Tensor, b: Tensor, start: Tensor, structure: str) -> tuple[Tensor, Tensor, Tensor]:
    """A one coefficient a step (or one for all), blocks along an axis of their own."""
    given, expected = (tuple(A.shape), tuple(b.shape)), tuple(b.shape)
    n = b.shape[-1]
    if structure == "block":
        k = A.shape[-1] if A.ndim else 0
        if k and n % k == 0 and b.ndim > 1:
            b, start = b.unflatten(-1, (n // k, k)), start.unflatten(-1, (n // k, k))
        expected = (*b.shape, k)
    elif structure in ("scalar", "constant"):
        expected = tuple(b.shape[:1]) if structure == "scalar" else (n, n)
    elif structure == "dense":
        expected = (*b.shape, n)
    try:
        if structure == "constant" and tuple(A.shape) != expected:
            raise RuntimeError
        if structure == "scalar" and A.ndim == 1:
            return A.reshape(-1, *(1,) * (b.ndim - 1)).expand(b.shape), b, start
        return A.expand(b.shape if structure == "scalar" else expected), b, start
    except RuntimeError:
        raise ValueError(f"A {given[0]} and b {given[1]} do not fit {structure!r}; expected {expected}") from None


def _apply(A: Tensor, x: Tensor, kind: str) -> Tensor:
    """A_t x_t for this rank's steps."""
    if kind == "diag":
        return A * x
    return x @ A.mT if kind == "constant" else (A @ x[..., None])[..., 0]


def _carried(product: Tensor, x: Tensor, kind: str) -> Tensor:
    """A composed map on one state; an entry of 0 stays 0 whatever the map, even where its product overflowed."""
    if kind == "diag":
        return torch.where(x == 0, torch.zeros_like(x), product * x)
    x = x[..., None, :]
    return torch.where(x == 0, torch.zeros_like(x), product * x).sum(-1)


def _product(A: Tensor, kind: str, steps: int = 0) -> Tensor:
    """A_{T-1} ... A_0, pairs first; of a constant, its power."""
    if kind == "diag":
        return A.prod(0)
    if kind == "constant":
        return torch.linalg.matrix_power(A, steps)
    if A.shape[0] == 0:
        return torch.eye(A.shape[-1], dtype=A.dtype, device=A.device).expand(A.shape[1:]).clone()
    while A.shape[0] > 1:
        paired = A.shape[0] - A.shape[0] % 2
        A = torch.cat((A[1:paired:2] @ A[0:paired:2], A[paired:]))
    return A[0]


def _local(A: Tensor, b: Tensor, start: Tensor, kind: str, reverse: bool = False) -> Tensor:
    if b.shape[0] == 0:
        return b
    return scan.affine_scan(A, b, start, structure=kind, reverse=reverse)


class _AffineScan(Function):
    @staticmethod
    def forward(ctx, A, b, h0, ranks: Ranks, kind: str):
        zero = torch.zeros_like(h0)
        last = _local(A, b, zero, kind)[-1] if b.shape[0] else zero
        product = _product(A, kind, b.shape[0])
        packed = ranks.all(torch.cat((product.flatten(), last.flatten())), "exchanging the maps of an affine scan")
        products = [x[: product.numel()].view_as(product) for x in packed]
        carry = h0
        for r in range(ranks.rank):
            carry = _carried(products[r], carry, kind) + packed[r][product.numel() :].view_as(last)
        h = _local(A, b, carry, kind)
        ctx.save_for_backward(A, carry, h, *products)
        ctx.rest = ranks, kind
        return h

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        """mu_t = A_t^H (g_t + mu_{t+1}) is the same scan backwards; db_t = g_t + mu_{t+1}, dA_t = db_t h_{t-1}^H."""
        A, carry, h, *products = ctx.saved_tensors
        ranks, kind = ctx.rest
        adjoint = A.conj() if kind == "diag" else A.mH
        turned = [P.conj() if kind == "diag" else P.mH for P in products]
        zero = torch.zeros_like(carry)
        b = _apply(adjoint, g, kind)
        first = _local(adjoint, b, zero, kind, reverse=True)[0] if g.shape[0] else zero
        pieces = ranks.all(first, "exchanging the gradients of an affine scan")
        behind = zero
        for r in range(ranks.size - 1, ranks.rank, -1):
            behind = _carried(turned[r], behind, kind) + pieces[r]
        mu = _local(adjoint, b, behind, kind, reverse=True)
        db = g + torch.cat((mu[1:], behind[None])) if g.shape[0] else g
        before = torch.cat((carry[None], h[:-1])) if g.shape[0] else h
        if kind == "constant":
            grad_A = db.flatten(0, -2).mT @ before.flatten(0, -2).conj()
        else:
            grad_A = db * before.conj() if kind == "diag" else db[..., None] * before.conj()[..., None, :]
        start = mu[0] if g.shape[0] else behind
        return grad_A, db, start if ranks.rank == 0 else torch.zeros_like(start), None, None
