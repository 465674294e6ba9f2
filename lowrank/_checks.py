"""Checks of what users pass; each message says what was given, what was expected and what to do."""

from collections.abc import Iterable
from operator import index

import numpy as np


def check_array(A, name: str = "A") -> np.ndarray:
    """`A` as a plain array in the machine's byte order; a mask is not dropped in silence."""
    if isinstance(A, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array, and lowrank has no notion of a missing entry; fill it first")
    try:
        A = np.asarray(A)
    except ValueError:
        raise ValueError(
            f"{name} is a nested sequence whose rows differ in length; a matrix needs equal ones, so pad or cut them"
        ) from None
    return A if A.dtype.isnative else A.astype(A.dtype.newbyteorder("="))


def check_rank(
    rank, shape: tuple[int, int], *, name: str = "rank", tol=None, instead: str = "",
    most: str = "min(A.shape)",
) -> int:  # fmt: skip
    """`rank` as an int within ``0..min(shape)``, called `most`; `instead` ends the sentence for who passed none."""
    limit = min(shape)
    if rank is None:
        if tol is not None:
            raise NotImplementedError(
                f"tol={tol!r}: choosing the rank from a tolerance is not available yet; pass rank="
            )
        raise TypeError(f"pass {name}=, an integer from 0 to {most}={limit}{instead}")
    if tol is not None:
        raise TypeError(f"pass {name}= or tol=, not both")
    try:
        if isinstance(rank, (bool, np.bool_)):
            raise TypeError
        value = index(rank)
    except TypeError:
        raise TypeError(f"{name}={rank!r} is not an integer; pass an integer from 0 to {limit}") from None
    if value < 0:
        raise ValueError(f"{name}={value} is negative; pass an integer from 0 to {most}={limit}")
    if value > limit:
        raise ValueError(f"{name}={value} exceeds {most}={limit}; pass {name}<={limit}")
    return value


def check_tol(tol, rank, selection: str) -> float:
    """`tol` as a positive float, in place of a rank."""
    if rank is not None:
        raise TypeError("pass rank= or tol=, not both")
    if selection == "given":
        raise ValueError('selection="given" names the columns itself, so pass rank= with it and not tol=')
    if isinstance(tol, (bool, np.bool_)) or not isinstance(tol, (int, float, np.integer, np.floating)):
        raise TypeError(f"tol={tol!r} is not a real number; pass a relative error such as tol=1e-3")
    value = float(tol)
    if not (np.isfinite(value) and value > 0):
        raise ValueError(f"tol={tol!r} is not a positive finite number; pass a relative error such as tol=1e-3")
    return value


def check_choice(value, known: Iterable[str], name: str) -> str:
    """`value` if it is one of the names in `known`."""
    known = tuple(known)
    if value not in known:
        raise ValueError(f"{name}={value!r} is not available; pass one of {', '.join(map(repr, known))}")
    return value


def check_method(method: str, name: str = "method") -> str:
    from .selection import SELECTIONS

    return check_choice(method, SELECTIONS, name)


def check_norm(norm: str, *, trace: bool = False) -> str:
    """`norm` if it is known; "trace" measures positive semidefinite residuals, which not everything leaves."""
    if norm == "trace" and not trace:
        raise ValueError(
            'norm="trace" is for positive semidefinite matrices approximated from below; use nystrom, whose error '
            'in it is known exactly, or pass norm="fro" or norm="spectral"'
        )
    return check_choice(norm, ("fro", "spectral", *(("trace",) if trace else ())), "norm")


def check_indices(indices, n: int, k: int, method: str, *, name: str = "indices") -> np.ndarray | None:
    """The user's own columns: k different integers below n; only ``given`` takes them."""
    if indices is None:
        if method == "given":
            raise ValueError(f'the selection "given" needs {name}=, the {k} columns (or rows) to keep')
        return None
    if method != "given":
        raise ValueError(f'{name}= goes with the selection "given", not with {method!r}')
    J = np.asarray(indices)
    if J.ndim != 1 or (J.dtype.kind not in "iu" and J.size):
        raise TypeError(f"{name} must be one-dimensional integers, got shape {J.shape} and dtype {J.dtype}")
    J = J.astype(np.int64)
    if len(J) != k:
        raise ValueError(f"{name} has {len(J)} entries, but the rank is {k}; make them agree")
    if J.size and (J.min() < -n or J.max() >= n):
        raise IndexError(
            f"{name} reaches from {J.min()} to {J.max()}, but there are {n} columns (or rows) to choose from"
        )
    J = np.where(J < 0, J + n, J)
    if len(np.unique(J)) != len(J):
        raise ValueError(f"{name} repeats an index; each column (or row) can be kept once")
    return J
