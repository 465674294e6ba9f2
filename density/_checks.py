"""What a caller may pass, checked once at the door; every message says what was given and what to do."""

from operator import index
from typing import Any

import numpy as np


def as_samples(x, name: str = "x"):
    """A contiguous one-dimensional array of finite real numbers (bool and integers as float64, float16 as float32)."""
    x = np.asarray(x)
    if x.dtype.kind == "O":
        raise TypeError(f"{name} has dtype object; pass real numbers, for example np.asarray({name}, dtype=float)")
    if x.dtype.kind not in "buif":
        raise TypeError(f"{name} has dtype {x.dtype}; densities are fitted to real numbers")
    x = np.ascontiguousarray(x).reshape(-1)
    if x.dtype.kind != "f" or x.dtype.itemsize > 8:
        x = x.astype(np.float64)
    elif x.dtype.itemsize < 4:
        x = x.astype(np.float32)
    return x.astype(x.dtype.newbyteorder("="), copy=False)


def non_finite_message(x, name: str = "x") -> str:
    """The sentence for data with NaN or infinities in it."""
    x = np.asarray(x)
    nan, inf = int(np.isnan(x).sum()), int(np.isinf(x).sum())
    return (
        f"{name} holds {nan} NaN and {inf} infinite among {x.size} values; "
        f"a density is fitted to finite numbers: pass {name}[np.isfinite({name})]"
    )


def as_weights(weights, n: int):
    """Non-negative finite weights, one a sample, of positive sum."""
    w = np.asarray(weights, dtype=np.float64).reshape(-1)
    if len(w) != n:
        raise ValueError(f"weights has {len(w)} values for {n} samples; pass one weight a sample")
    if not np.isfinite(w).all() or (w < 0).any():
        raise ValueError("weights must be finite and >= 0")
    if w.sum() <= 0:
        raise ValueError("all weights are zero: nothing is left to fit")
    return w


def as_order(order):
    """None for "auto" and the names of criteria, else an int >= 0."""
    if isinstance(order, str):
        if order in ("auto", "aic", "bic", "cv"):
            return None
        raise ValueError(f"order={order!r} is not known; pass order='auto', 'aic', 'bic', 'cv' or an integer >= 0")
    try:
        K = int(order)
        exact = order == K
    except (TypeError, ValueError):
        raise TypeError(f"order={order!r} is not an integer; pass order='auto' or an integer >= 0") from None
    if isinstance(order, bool) or not exact or K < 0:
        raise ValueError(f"order={order!r} is not an integer >= 0; pass order='auto' to choose it by AIC")
    if K > 2048:
        raise ValueError(f"order={K} is above 2048, where a Newton step costs seconds; pass order <= 2048")
    return K


def as_support(support):
    """None, or a pair of floats lo < hi, at most one of them infinite."""
    if support is None:
        return None
    try:
        lo, hi = (float(v) for v in support)
    except (TypeError, ValueError):
        raise ValueError(f"support={support!r} is not a pair; pass support=(lo, hi)") from None
    if np.isnan(lo) or np.isnan(hi) or not lo < hi:
        raise ValueError(f"support=({lo:g}, {hi:g}) is empty; pass support=(lo, hi) with lo < hi")
    if np.isinf(lo) and np.isinf(hi):
        raise ValueError("support=(-inf, inf) is the whole line; leave support out, or pass at least one finite end")
    return lo, hi


def as_roughness(roughness):
    """None for "auto", else a finite number >= 0."""
    if isinstance(roughness, str) and roughness == "auto":
        return None
    try:
        gamma = float(roughness)
    except (TypeError, ValueError):
        raise ValueError(f"roughness={roughness!r} is not a number; pass 'auto', 0 for none, or a weight > 0") from None
    if not 0 <= gamma < np.inf:
        raise ValueError(f"roughness={gamma:g} is not a weight; pass 'auto', 0 for none, or a finite number > 0")
    return gamma


def as_shape(n: Any) -> tuple[int, ...]:
    """The shape that a number of samples, or a shape, stands for."""
    try:
        extents: Any = n if np.iterable(n) and not isinstance(n, str) else (n,)
        shape = tuple(index(extent) for extent in extents)
    except TypeError:
        raise TypeError(f"n={n!r} is neither a number of samples nor a shape; pass an integer or a tuple") from None
    if min(shape, default=0) < 0:
        raise ValueError(f"n={n!r} asks for fewer than no samples; pass integers >= 0")
    return shape
