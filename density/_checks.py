"""What a caller may pass, checked once at the door; every message says what was given and what to do."""

import sys
from operator import index
from typing import Any

import numpy as np


def as_array(x):
    """An array of what numpy takes, a masked one still masked; torch's bfloat16, which numpy lacks, as float32."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(x, torch.Tensor) and x.dtype == torch.bfloat16:
        x = x.float()
    return x if is_masked(x) else np.asarray(x)


def is_masked(x) -> bool:
    """Whether x is one of numpy's masked arrays."""
    return isinstance(x, np.ndarray) and hasattr(x, "compressed")


def as_samples(x, name: str = "x"):
    """A contiguous one-dimensional array of real numbers (bool and integers as float64, float16 as float32).

    Entries that are masked are left out.
    """
    x = as_array(x)
    x = np.ma.compressed(x) if is_masked(x) else x
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
        f"{name} holds {nan} NaN and {inf} infinite among {x.size} values; a density is fitted to finite numbers: "
        f"pass {name}[np.isfinite({name})], or nan_policy='omit' to leave the others out"
    )


def as_nan_policy(nan_policy) -> bool:
    """Whether NaN and infinities are left out, rather than an error."""
    if nan_policy not in ("raise", "omit"):
        raise ValueError(f"nan_policy={nan_policy!r} is not known; pass 'raise', or 'omit' to leave NaN and inf out")
    return nan_policy == "omit"


def kept_samples(x, weights, omit: bool):
    """Samples and weights without masked entries, and with `omit` without NaN and infinities."""
    masked = as_array(x)
    values = as_samples(masked)
    if weights is not None and is_masked(masked):
        present = ~np.ma.getmaskarray(masked).reshape(-1)
        weights = as_weight_array(weights, len(present))[present]
    if weights is not None:
        weights = as_weight_array(weights, len(values))
    finite = np.isfinite(values) if omit else np.array(True)
    if finite.all():
        return values, weights
    return values[finite], None if weights is None else weights[finite]


def as_weight_array(weights, n: int):
    """One real number a sample."""
    w = np.asarray(weights).reshape(-1)
    if w.dtype.kind not in "buif":
        raise TypeError(f"weights has dtype {w.dtype}; pass real numbers >= 0, one a sample")
    if len(w) != n:
        raise ValueError(f"weights has {len(w)} values for {n} samples; pass one weight a sample")
    return w


def as_weights(weights, n: int):
    """Non-negative finite weights, one a sample, of positive sum."""
    w = as_weight_array(weights, n).astype(np.float64)
    if not np.isfinite(w).all() or (w < 0).any():
        raise ValueError("weights must be finite and >= 0")
    if not (w > 0).any():
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
    if np.isfinite([lo, hi]).all() and np.isinf(hi - lo):
        raise ValueError(f"support=({lo:g}, {hi:g}) is wider than a double holds; scale the data and the support down")
    return lo, hi


def as_roughness(roughness):
    """None for "auto", else a finite number >= 0."""
    if isinstance(roughness, str) and roughness == "auto":
        return None
    try:
        if isinstance(roughness, (bool, np.bool_)):
            raise TypeError
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
