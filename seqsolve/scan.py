"""Affine scans: every state of h_t = A_t h_{t-1} + b_t."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ._affine import AffineScan, Settings, run
from ._checks import as_tensor, choice, destination, followed, tracing, working_dtype
from ._threads import resolve_workers

STRUCTURES = ("scalar", "diag", "complex", "block", "dense", "constant")
_SHAPES = {
    "scalar": "(T,)", "diag": "(T, ..., n)", "complex": "(T, ..., n)", "block": "(T, ..., n/k, k, k)",
    "dense": "(T, ..., n, n)", "constant": "(n, n)",
}  # fmt: skip


def affine_scan(
    A, b, h0=None, *, structure: str = "auto", reverse: bool = False, dim: int = 0, workers=None, out=None
) -> Any:
    r"""All states of a linear recurrence with changing coefficients.

    .. math:: h_t = A_t h_{t-1} + b_t,\quad t = 0..T-1,\quad h_{-1} = h_0

    or, with ``reverse``, :math:`h_t = A_t h_{t+1} + b_t` from the last step down, starting from `h0` behind the end.

    Parameters
    ----------
    A : the coefficients, time along `dim`; one of these shapes for b of shape (T, ..., n):

        ========== ===================== ===========================================================
        structure  A                     A_t is
        ========== ===================== ===========================================================
        "scalar"   (T,)                  a number
        "diag"     (T, ..., n)           a diagonal, real or complex
        "complex"  (T, ..., n) complex,  a complex diagonal; or, in real tensors, pairs (real part,
                   or (T, ..., n, 2)     imaginary part) along the last axis of A, b, h0 and the result
        "block"    (T, ..., n/k, k, k)   blocks of k along the diagonal
        "dense"    (T, ..., n, n)        a matrix
        "constant" (n, n)                one matrix for all steps and the whole batch
        ========== ===================== ===========================================================

    b : (T, ..., n), what is added. Torch tensors and numpy arrays of float32, float64, complex64, complex128;
        float16 and bfloat16 are computed in float32 and returned as given.
    h0 : (..., n), the state before the first step; None is zero.
    structure : one of the table, or "auto": what the shapes say. Pairs have to be asked for, and so does either reading
        of an A of shape (n, n) where T = n.
    reverse : run from the last step to the first.
    dim : the axis of time, the same in A and b.
    workers : threads; None is all cores. The answer does not depend on it.
    out : a tensor or array of the shape and dtype of the result that is filled and returned, as in numpy, where no
        gradient is wanted. Fresh memory costs a long scan a third of its time. It must not share memory with A, b, h0.

    Returns
    -------
    (T, ..., n), in the dtype of b (complex if A or h0 is), as a tensor if one was given and else as an array;
    differentiable any number of times, backwards (``autograd``) and forwards (``torch.func.jvp``), and under
    ``torch.func.vmap``.

    Raises
    ------
    ValueError
        If shapes do not fit, leave the structure open, or it is unknown; if `out` does not fit.
    OverflowError
        If finite coefficients made a state overflow. (NaN and inf that were given appear from the step at which they
        were given.) `out` then holds what was computed.

    Notes
    -----
    The axes between time and n broadcast as in numpy, and so does n itself for "diag": A of (T, 1, n) serves a batch,
    A of (1, ..., n) stays the same over time. b alone says what T is.

    Complexity
    ----------
    Time O(T n), "block" O(T n k), "dense" and "constant" O(T n^2); each element is read once. Where a diagonal forgets
    (its products fall below rounding within a chunk) time is cut into chunks that start from zero, run on all threads,
    and are corrected until the correction no longer changes a state. Where one step has 1, 2 or 4 real numbers,
    several steps share a vector register and are scanned in it by doubling; the last digits are those of that order.

    References
    ----------
    Blelloch (1990), "Prefix sums and their applications", CMU-CS-90-190, section 1.4. Hillis and Steele (1986),
    doi:10.1145/7902.7903.

    Examples
    --------
    >>> import numpy as np, seqsolve as sq
    >>> sq.affine_scan(np.full((4, 1), 0.5), np.ones((4, 1)))[:, 0]
    array([1.   , 1.5  , 1.75 , 1.875])
    >>> sq.affine_scan(np.full(4, 0.5), np.ones((4, 1)), structure="scalar", reverse=True)[:, 0]
    array([1.875, 1.75 , 1.5  , 1.   ])
    >>> fibonacci = sq.affine_scan(np.array([[1.0, 1.0], [1.0, 0.0]]), np.zeros((9, 2)), np.array([1.0, 0.0]))
    >>> fibonacci[:, 1].astype(int)
    array([ 1,  1,  2,  3,  5,  8, 13, 21, 34])
    >>> states = np.empty((4, 1))  # used again by every call
    >>> sq.affine_scan(np.full((4, 1), 0.5), np.ones((4, 1)), out=states) is states
    True
    """
    if structure != "auto":
        choice(structure, "structure", ("auto", *STRUCTURES))
    given = (A, b, h0)
    A, b = as_tensor(A, "A"), as_tensor(b, "b")
    start = None if h0 is None else as_tensor(h0, "h0")
    if A.device != b.device or (start is not None and start.device != b.device):
        devices = ", ".join(f"{n} on {t.device}" for n, t in (("A", A), ("b", b), ("h0", start)) if t is not None)
        raise ValueError(f"{devices}; move them to one device")
    work = working_dtype(A, b) if start is None else working_dtype(A, b, start)
    if b.dim() == 0:
        raise ValueError("b is a single number; pass time along its first axis, shape (T, ..., n)")
    if not -b.dim() <= dim < b.dim():
        raise ValueError(f"dim={dim} is not an axis of b, which has shape {tuple(b.shape)}")
    dim, dtype = dim % b.dim(), b.dtype
    if structure == "auto":
        structure = _structure_of(A, b, dim)
    result = dtype if torch.promote_types(dtype, work) == torch.float32 else work
    A, b, start = A.to(work), b.to(work), None if start is None else start.to(work)
    pairs = structure == "complex" and not work.is_complex
    if pairs:
        A, b, start = _complex(A, b, start, dim)
    kind = {"dense": "block", "complex": "diag"}.get(structure, structure)
    if dim:
        b = b.movedim(dim, 0)
        A = A if kind in ("scalar", "constant") or A.dim() <= dim else A.movedim(dim, 0)
    flat = b.dim() == 1 and kind in ("scalar", "diag")
    if flat:  # a series of numbers is a state of size 1
        b = b[:, None]
        A = A[:, None] if kind == "diag" and A.dim() == 1 else A
    A, b, start = _shaped(A, b, start, structure)
    limit = torch.finfo(result).max if result in (torch.float16, torch.bfloat16) else math.inf
    traced = tracing()
    settings = Settings(kind, bool(reverse), workers if traced else resolve_workers(workers), limit)
    # torch keeps what a function saved until its collector runs, which costs fresh memory at the next call
    tracked = followed(A, b, start)
    evaluate = AffineScan.apply if tracked else run
    if traced:
        from ._traced_scan import traced_scan as evaluate

    def finished(h: Any) -> Tensor:
        h = h.flatten(-2) if structure == "block" else h
        h = h[:, 0] if flat else h
        h = h.movedim(0, dim) if dim else h
        return torch.view_as_real(h) if pairs else h

    if out is None:
        h = finished(evaluate(A, b, start, settings)).to(result)
        return h if any(isinstance(t, Tensor) for t in given) else h.numpy()
    if traced:
        raise ValueError("out= is nothing that torch.compile, torch.export or torch.jit.trace can follow; leave it out")
    if tracked:
        raise ValueError("out= has no gradient; leave it out, or call under torch.no_grad() with detached tensors")
    to = destination(out, tuple(finished(b).shape), result, (A, b, start))
    if b.is_cpu and result == work and not dim and to.is_contiguous():
        run(A, b, start, settings, (torch.view_as_complex(to) if pairs else to).view(b.shape))
    else:
        to.copy_(finished(run(A, b, start, settings)))
    return out


def _structure_of(A: Tensor, b: Tensor, dim: int) -> str:
    """The one structure whose shape A has."""
    n = b.shape[-1]
    square = A.dim() == 2 and A.shape == (n, n)
    if A.dim() == 1:
        return "diag" if b.dim() == 1 else "scalar"
    if A.dim() == b.dim() and not (square and n > 1):
        return "diag"
    if square:
        if b.dim() == 2 and b.shape[dim] == n:
            raise ValueError(
                f"A has shape {tuple(A.shape)} and b {tuple(b.shape)}, which fits structure='diag' and"
                " structure='constant'; say which"
            )
        return "constant"
    if A.dim() - b.dim() in (1, 2):
        return "dense" if A.dim() == b.dim() + 1 else "block"
    raise ValueError(
        f"A has shape {tuple(A.shape)} and b {tuple(b.shape)}; no structure has these shapes. A is one of "
        + ", ".join(f"{shape} ({name!r})" for name, shape in _SHAPES.items() if name != "complex")
    )


def _complex(A: Tensor, b: Tensor, start: Tensor | None, dim: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """Pairs (real, imaginary) as complex numbers."""
    for name, t in (("A", A), ("b", b), ("h0", start)):
        if t is not None and (t.dim() == 0 or t.shape[-1] != 2):
            raise ValueError(
                "structure='complex' with real tensors takes pairs (real, imaginary) along the last axis, but"
                f" {name} has shape {tuple(t.shape)}; pass (..., 2), or complex numbers"
            )
    if dim == b.dim() - 1:
        raise ValueError(f"dim={dim} is the axis of the pairs (real, imaginary) of b, which has shape {tuple(b.shape)}")
    parts = (t if t is None else torch.view_as_complex(t.contiguous()) for t in (A, b, start))
    return tuple(parts)  # pyright: ignore[reportReturnType]


def _shaped(A: Tensor, b: Tensor, start: Tensor | None, structure: str) -> tuple[Tensor, Tensor, Tensor]:
    """A, b and h0 broadcast to one another, blocks with an axis of their own; or an error that shows the shapes."""
    T, state = b.shape[0], tuple(b.shape[1:])
    given = f"A has shape {tuple(A.shape)} and b {tuple(b.shape)}; structure={structure!r} needs A of shape"
    if structure not in ("scalar", "diag", "complex") and not state:
        raise ValueError(f"b has shape {tuple(b.shape)}; structure={structure!r} needs (T, ..., n)")
    n = state[-1]
    if structure == "scalar":
        expected = (T,)
    elif structure == "constant":
        expected = (n, n)
    elif structure == "block":
        k = A.shape[-1] if A.dim() else 1
        if A.dim() < 3 or A.shape[-2] != k or k == 0 or n % k:
            raise ValueError(f"{given} {_SHAPES[structure]} with k that divides n = {n}")
        state = (*state[:-1], n // k, k)
        expected = (T, *state, k)
    else:
        expected = (T, *state) if structure in ("diag", "complex") else (T, *state, n)
    try:
        if start is not None:
            if structure == "block" and start.dim():
                start = start.expand(*start.shape[:-1], n).unflatten(-1, state[-2:])
            if start.dim() > len(state):
                raise RuntimeError
    except RuntimeError:
        raise ValueError(_start_error(start, b)) from None
    try:
        if A.dim() != len(expected) or (structure != "constant" and A.shape[0] not in (T, 1)):
            raise RuntimeError
        if structure in ("scalar", "constant"):
            A, shared = A.expand(expected), state
        elif structure in ("diag", "complex"):
            shared = state if A.shape[1:] == state else tuple(torch.broadcast_shapes(A.shape[1:], state))
            A = A.expand(T, *shared)
        else:  # the last two axes of A are matrices, and a matrix does not broadcast
            if A.shape[-2:] != expected[-2:]:
                raise RuntimeError
            shared = (*torch.broadcast_shapes(A.shape[1:-2], state[:-1]), state[-1])
            A = A.expand(T, *shared, state[-1])
    except RuntimeError:
        raise ValueError(f"{given} {_SHAPES[structure]}, here {expected}") from None
    b = b.reshape(T, *state).expand(T, *shared)
    if start is None:
        return A, b, b.new_zeros(shared)
    try:
        return A, b, start.expand(shared)
    except RuntimeError:
        raise ValueError(_start_error(start, b)) from None


def _start_error(start: Tensor | None, b: Tensor) -> str:
    shape = None if start is None else tuple(start.shape)
    return f"h0 has shape {shape}, but one state of b has shape {tuple(b.shape[1:])}"
