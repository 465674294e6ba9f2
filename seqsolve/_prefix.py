"""All prefixes of an associative operation over the time axis, in three forms that give the same numbers.

Elements are tuples of tensors with time on axis 2, as in (batch, heads, time, ...).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

Elements = tuple[Tensor, ...]
Operation = Callable[[Elements, Elements], Elements]  # (earlier, later) -> both

FORMS = ("step", "scan", "chunk")


def check_form(form: str) -> str:
    """`form` when it is one of the three."""
    if form not in FORMS:
        raise ValueError(f"form={form!r} is unknown; pass one of {', '.join(FORMS)} (they give the same numbers)")
    return form


def prefixes(op: Operation, elements: Elements, form: str, chunk: int | None = None) -> Elements:
    """Inclusive prefixes: T - 1 operations one after the other, log T deep, or 2 sqrt(T) deep in chunks."""
    if elements[0].shape[2] <= 1:
        return elements
    if form == "step":
        return _sequential(op, elements)
    if form == "scan":
        return _odd_even(op, elements)
    return _chunked(op, elements, chunk)


def _at(elements: Elements, index) -> Elements:
    return tuple(x[:, :, index] for x in elements)


def _stack(rows: list[Elements], dim: int = 2) -> Elements:
    return tuple(torch.stack(column, dim) for column in zip(*rows))


def _cat(*parts: Elements) -> Elements:
    return tuple(torch.cat(column, 2) for column in zip(*parts))


def _sequential(op: Operation, elements: Elements) -> Elements:
    rows = [_at(elements, 0)]
    for t in range(1, elements[0].shape[2]):
        rows.append(op(rows[-1], _at(elements, t)))
    return _stack(rows)


def _odd_even(op: Operation, elements: Elements) -> Elements:
    """Pairs are combined, their prefixes taken, and the even places filled in: 2 T operations, 2 log2 T deep.

    Ladner and Fischer (1980), doi:10.1145/322217.322232; Blelloch (1990), section 1.4.
    """
    T = elements[0].shape[2]
    if T == 1:
        return elements
    paired = T - T % 2
    odd = _odd_even(op, op(_at(elements, slice(0, paired, 2)), _at(elements, slice(1, paired, 2))))
    first = _at(elements, slice(0, 1))
    if T == 2:
        return _cat(first, odd)
    later = op(_at(odd, slice(0, (T - 1) // 2)), _at(elements, slice(2, T, 2)))  # places 2, 4, ...
    even = _cat(first, later)
    woven = tuple(torch.stack((e[:, :, : paired // 2], o), 3).flatten(2, 3) for e, o in zip(even, odd))
    return woven if paired == T else _cat(woven, _at(even, slice(-1, None)))


def _chunked(op: Operation, elements: Elements, chunk: int | None) -> Elements:
    """Step through all chunks side by side, then through their last places, then join: L + T / L steps deep."""
    T = elements[0].shape[2]
    L = min(T, chunk or max(1, math.isqrt(T)))
    C = -(-T // L)
    if C * L > T:  # what is appended comes last, so that nothing kept depends on it
        elements = _cat(elements, tuple(x[:, :, -1:].expand(*x.shape[:2], C * L - T, *x.shape[3:]) for x in elements))
    blocks = tuple(x.unflatten(2, (C, L)) for x in elements)
    rows = [tuple(x[:, :, :, 0] for x in blocks)]
    for p in range(1, L):
        rows.append(op(rows[-1], tuple(x[:, :, :, p] for x in blocks)))
    local = _stack(rows, 3)  # (B, H, C, L, ...)
    carry = _sequential(op, tuple(x[:, :, :, -1] for x in local))
    before = tuple(x[:, :, :-1, None] for x in carry)
    joined = op(before, tuple(x[:, :, 1:] for x in local))
    return tuple(torch.cat((x[:, :, :1], y), 2).flatten(2, 3)[:, :, :T] for x, y in zip(local, joined))
