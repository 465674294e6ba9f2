"""Prefixes of any associative operation, log T deep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ._checks import as_tensor


def associative_scan(op: Callable[[Any, Any], Any], elements: Any, *, reverse: bool = False, dim: int = 0) -> Any:
    r"""All prefixes of an associative operation.

    .. math:: s_t = e_0 \circ e_1 \circ \dots \circ e_t,\quad (x \circ y) \circ z = x \circ (y \circ z)

    Parameters
    ----------
    op : ``op(earlier, later) -> both``, in torch. It is called on slices along `dim`, so that one call combines many
        pairs: earlier and later have the structure of `elements`, with the same length along `dim`, and what it returns
        must have it too. It need not be commutative.
    elements : a tensor or array, or a tuple, list or dict of them (nested if need be), with T entries along `dim` each.
        Any dtypes; the operation must keep them.
    reverse : prefixes from the end, ``s_t = e_{T-1} o ... o e_t``: `earlier` is then what comes later in time.
    dim : the axis of time in every tensor.

    Returns
    -------
    The structure of `elements` with s_t in place of e_t; tensors if there is one among the elements, else arrays.
    Differentiable as far as `op` is, backwards, forwards and under ``torch.func.vmap``: it is made of torch operations.

    Raises
    ------
    ValueError
        If lengths differ, or `op` returns another structure, shape or dtype than it was given; both are shown.

    Complexity
    ----------
    At most 2 T operations, in at most 2 log2 T calls of `op`; T <= 1 calls it never.

    References
    ----------
    Ladner and Fischer (1980), "Parallel prefix computation", doi:10.1145/322217.322232. Blelloch (1990), section 1.4.

    Examples
    --------
    >>> import torch, seqsolve as sq
    >>> sq.associative_scan(torch.maximum, torch.tensor([1, 3, 2, 5, 4]))
    tensor([1, 3, 3, 5, 5])
    >>> a, b = torch.full((4,), 0.5), torch.ones(4)
    >>> sq.associative_scan(lambda p, q: (p[0] * q[0], q[0] * p[1] + q[1]), (a, b))[1]
    tensor([1.0000, 1.5000, 1.7500, 1.8750])
    """
    if not callable(op):
        raise TypeError(f"op is {type(op).__name__}; pass a function op(earlier, later) -> both")
    leaves, tree = pytree.tree_flatten(elements)
    if not leaves:
        raise ValueError("elements holds no tensor; pass a tensor or a tuple, list or dict of them")
    tensors = [_leaf(x, i) for i, x in enumerate(leaves)]
    for x in tensors:
        if not -x.dim() <= dim < x.dim():
            raise ValueError(f"dim={dim} is not an axis of an element of shape {tuple(x.shape)}")
    lengths = [x.shape[dim] for x in tensors]
    if len(set(lengths)) > 1:
        shapes = ", ".join(str(tuple(x.shape)) for x in tensors)
        raise ValueError(f"elements have shapes {shapes}, which differ along dim={dim}; pass as many entries in each")
    axes = [dim % x.dim() for x in tensors]

    def combine(earlier: list[Tensor], later: list[Tensor]) -> list[Tensor]:
        both, shape = pytree.tree_flatten(op(pytree.tree_unflatten(earlier, tree), pytree.tree_unflatten(later, tree)))
        if shape != tree:
            raise ValueError(f"op returned the structure {shape}, but was given {tree}; return one like its arguments")
        for old, new in zip(earlier, both, strict=True):
            if not isinstance(new, Tensor) or new.shape != old.shape or new.dtype != old.dtype:
                found = f"{tuple(new.shape)} of {new.dtype}" if isinstance(new, Tensor) else type(new).__name__
                raise ValueError(
                    f"op returned {found} for an element of shape {tuple(old.shape)} of {old.dtype}; an operation keeps"
                    " shape and dtype, and treats dim as a batch of pairs"
                )
        return both

    if reverse:
        tensors = [x.flip(a) for x, a in zip(tensors, axes, strict=True)]
    if lengths[0] > 1:
        tensors = _prefixes(combine, tensors, axes)
    if reverse:
        tensors = [x.flip(a) for x, a in zip(tensors, axes, strict=True)]
    if not any(isinstance(x, Tensor) for x in leaves):
        tensors = [x.detach().numpy() for x in tensors]
    return pytree.tree_unflatten(tensors, tree)


def _leaf(x: Any, index: int) -> Tensor:
    """A tensor of any dtype; an array of whole numbers stays one."""
    if isinstance(x, np.ndarray) and x.dtype.kind in "iub" and x.dtype.isnative:
        return torch.from_numpy(np.array(x))
    return as_tensor(x, f"element {index}")


def _prefixes(combine, elements: list[Tensor], axes: list[int]) -> list[Tensor]:
    """Pairs are combined, their prefixes taken, and the even places filled in (Blelloch 1990, section 1.4)."""
    T = elements[0].shape[axes[0]]

    def at(parts: list[Tensor], start: int, stop: int, step: int = 1) -> list[Tensor]:
        return [x[(slice(None),) * a + (slice(start, stop, step),)] for x, a in zip(parts, axes, strict=True)]

    if T == 1:
        return elements
    pairs = T // 2
    odd = _prefixes(combine, combine(at(elements, 0, 2 * pairs, 2), at(elements, 1, 2 * pairs, 2)), axes)
    first = at(elements, 0, 1)
    if T == 2:
        return [torch.cat(both, a) for *both, a in zip(first, odd, axes, strict=True)]
    later = combine(at(odd, 0, (T - 1) // 2), at(elements, 2, T, 2))  # places 2, 4, ...
    even = [torch.cat(both, a) for *both, a in zip(first, later, axes, strict=True)]
    woven = [
        torch.stack((e, o), a + 1).flatten(a, a + 1) for e, o, a in zip(at(even, 0, pairs), odd, axes, strict=True)
    ]
    if T % 2:
        woven = [torch.cat((w, e), a) for w, e, a in zip(woven, at(even, pairs, pairs + 1), axes, strict=True)]
    return woven
