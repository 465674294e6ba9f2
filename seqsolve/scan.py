"""Affine scans: every state of h_t = A_t h_{t-1} + b_t."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ._checks import as_tensor, choice, working_dtype
from ._threads import resolve_workers, thread_map

STRUCTURES = ("scalar", "diag", "dense")
_PLANNED = ("complex", "block", "constant")
_CHUNKED = 1 << 19  # elements from which time is cut into chunks; a property of the data, never of the threads
_CHUNKS = 8


def affine_scan(A, b, h0=None, *, structure: str = "diag", reverse: bool = False, dim: int = 0, workers=None):
    r"""All states of a linear recurrence with changing coefficients.

    .. math:: h_t = A_t h_{t-1} + b_t,\quad t = 0..T-1,\quad h_{-1} = h_0

    or, with ``reverse``, :math:`h_t = A_t h_{t+1} + b_t` from the last step down, starting from `h0` behind the end.

    Parameters
    ----------
    A : the coefficients, time along `dim`: (T,) for "scalar", (T, ..., n) for "diag", (T, ..., n, n) for "dense".
        "diag" broadcasts against b, so that (T, 1, n) serves a batch.
    b : (T, ..., n), what is added. Torch tensors and numpy arrays of float32, float64, complex64, complex128;
        float16 and bfloat16 are computed in float32 and returned as given.
    h0 : (..., n), the state before the first step; None is zero.
    structure : "scalar", "diag" or "dense".
    reverse : run from the last step to the first.
    dim : the axis of time.
    workers : threads; None is all cores. The answer does not depend on it.

    Returns
    -------
    (T, ..., n), in the array kind and dtype of b; differentiable, twice if need be.

    Raises
    ------
    ValueError
        If shapes do not fit or the structure is unknown.
    OverflowError
        If finite coefficients made a state overflow. (NaN and inf that were given appear from the step at which they
        were given.)

    Complexity
    ----------
    Time O(T n), for "dense" O(T n^2); each element is read once. Where A forgets (its products fall below rounding
    within a chunk) time is cut into chunks that start from zero, run on all threads, and are corrected until the
    correction no longer changes a state.

    References
    ----------
    Blelloch (1990), "Prefix sums and their applications", CMU-CS-90-190, section 1.4.

    Examples
    --------
    >>> import numpy as np, seqsolve as sq
    >>> sq.affine_scan(np.full((4, 1), 0.5), np.ones((4, 1)))[:, 0]
    array([1.   , 1.5  , 1.75 , 1.875])
    >>> sq.affine_scan(np.full(4, 0.5), np.ones((4, 1)), structure="scalar", reverse=True)[:, 0]
    array([1.875, 1.75 , 1.5  , 1.   ])
    """
    if structure in _PLANNED:
        raise ValueError(f"structure={structure!r} is not available yet; use 'dense' with the full matrices")
    choice(structure, "structure", STRUCTURES)
    given = b
    A, b = as_tensor(A, "A"), as_tensor(b, "b")
    work = working_dtype(A, b) if h0 is None else working_dtype(A, b, as_tensor(h0, "h0"))
    if b.dim() == 0:
        raise ValueError("b is a single number; pass time along its first axis, shape (T, ..., n)")
    if not -b.dim() <= dim < b.dim():
        raise ValueError(f"dim={dim} is not an axis of b, which has shape {tuple(b.shape)}")
    result_dtype = b.dtype if torch.promote_types(b.dtype, work) == torch.float32 else work
    A, b = A.to(work), b.to(work)
    dim = dim % b.dim()
    if dim:
        b = b.movedim(dim, 0)
        A = A.movedim(dim, 0) if structure != "scalar" else A
    flat = b.dim() == 1 and structure != "dense"
    if flat:  # a series of numbers is a state of size 1
        b = b[:, None]
        A = A[:, None] if structure == "diag" and A.dim() == 1 else A
    A = _shaped(A, b, structure)
    start = b.new_zeros(b.shape[1:]) if h0 is None else as_tensor(h0, "h0").to(work)
    if h0 is not None:
        try:
            start = start.expand(b.shape[1:])
        except RuntimeError:
            raise ValueError(
                f"h0 has shape {tuple(start.shape)}, but one state of b has shape {tuple(b.shape[1:])}"
            ) from None
    h = _AffineScan.apply(A, b, start, structure, bool(reverse), resolve_workers(workers))
    h = h[:, 0] if flat else h
    h = h.movedim(0, dim) if dim else h
    h = h.to(result_dtype)
    return h if isinstance(given, Tensor) else h.numpy()


def _shaped(A: Tensor, b: Tensor, structure: str) -> Tensor:
    """A broadcast to the states of b, or an error that shows both shapes."""
    T, state = b.shape[0], tuple(b.shape[1:])
    if structure == "scalar":
        expected, rule = (T,), "(T,)"
    elif structure == "diag":
        expected, rule = (T, *state), "(T, ..., n)"
    else:
        if not state:
            raise ValueError(f"b has shape {tuple(b.shape)}; structure='dense' needs (T, ..., n)")
        expected, rule = (T, *state, state[-1]), "(T, ..., n, n)"
    try:
        if A.dim() != len(expected) or A.shape[0] != T:
            raise RuntimeError
        return A.expand(expected)
    except RuntimeError:
        raise ValueError(
            f"A has shape {tuple(A.shape)} and b {tuple(b.shape)}; structure={structure!r} needs A of shape {rule},"
            f" here {expected}"
        ) from None


class _AffineScan(torch.autograd.Function):
    """The scan with its derivative, which is again a scan: lambda_t = g_t + A_{t+1}^H lambda_{t+1}."""

    @staticmethod
    def forward(ctx, A, b, h0, structure, reverse, workers):
        h = _run(A, b, h0, structure, reverse, workers)
        ctx.save_for_backward(A, h0, h)
        ctx.settings = structure, reverse, workers
        return h

    @staticmethod
    def backward(ctx, g):
        A, h0, h = ctx.saved_tensors
        structure, reverse, workers = ctx.settings
        if not len(h):
            return torch.zeros_like(A), torch.zeros_like(h), torch.zeros_like(h0), None, None, None
        AH = A.conj()
        if structure == "dense":
            AH = AH.transpose(-1, -2)
        # the transposed coefficients belong to the step after, which for reverse is the row before
        edge = torch.zeros_like(AH[:1])
        shifted = torch.cat([edge, AH[:-1]]) if reverse else torch.cat([AH[1:], edge])
        adjoint = _AffineScan.apply(shifted, g, torch.zeros_like(h0), structure, not reverse, workers)
        before = torch.cat([h[1:], h0[None]]) if reverse else torch.cat([h0[None], h[:-1]])
        first = -1 if reverse else 0
        if structure == "dense":
            grad_A = adjoint[..., :, None] * before.conj()[..., None, :]
            grad_h0 = (AH[first] @ adjoint[first][..., None])[..., 0]
        else:
            grad_A = adjoint * before.conj()
            grad_h0 = AH[first] * adjoint[first]
            if structure == "scalar":
                grad_A = grad_A.flatten(1).sum(1)
        return grad_A, adjoint, grad_h0, None, None, None


def _run(A: Tensor, b: Tensor, h0: Tensor, structure: str, reverse: bool, workers: int) -> Tensor:
    """Choose the kernel for checked tensors of one dtype."""
    if b.numel() == 0:
        return torch.empty_like(b)
    if not b.is_cpu:
        return _doubling(A, b, h0, structure, reverse)
    from . import _scan_kernels as kernels

    T = b.shape[0]
    out = torch.empty(b.shape, dtype=b.dtype)
    if structure == "dense":
        n = b.shape[-1]
        matrices, rhs = (_host(t, (T, -1, *t.shape[t.dim() - k :])) for t, k in ((A, 2), (b, 1)))
        states, start = out.numpy().reshape(T, -1, n), _host(h0, (-1, n))

        def one(i):
            mine = np.empty((T, n), states.dtype)
            kernels.dense_scan(
                np.ascontiguousarray(matrices[:, i]), np.ascontiguousarray(rhs[:, i]), start[i].copy(), mine, reverse
            )
            states[:, i] = mine

        thread_map(one, range(states.shape[1]), workers if T * n * n > 1 << 16 else 1)
    else:
        rhs, start, states = _host(b, (T, -1)), _host(h0, (-1,)).copy(), out.numpy().reshape(T, -1)
        if structure == "scalar":
            kernels.scalar_scan(_host(A, (T,)), rhs, start, states, 0, T, reverse)
        else:
            _diagonal(kernels, _host(A, (T, -1)), rhs, start, states, reverse, workers)
    last = out[0] if reverse else out[-1]
    if not torch.isfinite(last).all() and all(torch.isfinite(t).all() for t in (A, b, h0)):
        bad = (~torch.isfinite(out.reshape(T, -1)).all(1)).nonzero()
        step = int(bad[-1] if reverse else bad[0])
        raise OverflowError(
            f"affine_scan: the state overflows {b.dtype} at step {step} of {T}, since A makes it grow; scale A below 1"
            " in modulus, split the sequence, or use float64"
        )
    return out


def _host(t: Tensor, shape) -> np.ndarray:
    return t.detach().resolve_conj().contiguous().numpy().reshape(shape)


def _diagonal(kernels, A, b, start, out, reverse: bool, workers: int) -> None:
    """One pass; or, where A forgets its past within a chunk, chunks side by side and a short correction each."""
    T, M = b.shape
    rows = -(-T // _CHUNKS)
    tiny = float(np.finfo(A.dtype).eps) * 1e-6
    cuts = [(low, min(low + rows, T)) for low in range(0, T, rows)]
    if reverse:
        cuts.reverse()
    low, high = cuts[0]
    if T * M < _CHUNKED or T < 64 * _CHUNKS or not kernels.diag_forgets(A[low:high], tiny, reverse):
        kernels.diag_scan(A, b, start, out, 0, T, reverse)
        return

    def local(k):
        h = start if k == 0 else np.zeros_like(start)
        kernels.diag_scan(A, b, h, out, *cuts[k], reverse)

    thread_map(local, range(len(cuts)), workers)
    for (low, high), (left, right) in pairwise(cuts):
        carry = out[low if reverse else high - 1].copy()
        kernels.diag_correct(A, out, carry, left, right, reverse)


def _doubling(A: Tensor, b: Tensor, h0: Tensor, structure: str, reverse: bool) -> Tensor:
    """Recursive doubling by tensor operators alone, log2 T passes: for devices without a kernel."""
    if reverse:
        return _doubling(A.flip(0), b.flip(0), h0, structure, False).flip(0)
    if structure == "scalar":
        A = A.reshape(-1, *[1] * (b.dim() - 1))

    def apply(M, v):
        return (M @ v[..., None])[..., 0] if structure == "dense" else M * v

    h = torch.cat([(apply(A[0], h0) + b[0])[None], b[1:]])
    k = 1
    while k < len(h):
        h = torch.cat([h[:k], h[k:] + apply(A[k:], h[:-k])])
        A = torch.cat([A[:k], A[k:] @ A[:-k] if structure == "dense" else A[k:] * A[:-k]])
        k *= 2
    return h
