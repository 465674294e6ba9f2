"""Positions inside the scores: rotary embeddings and the slopes of ALiBi."""

import math

import torch
from torch import Tensor

from . import _checks


def rotary(x: Tensor, positions: Tensor | int = 0, *, base: float = 10000.0) -> Tensor:
    """Rotate each pair of features by an angle proportional to the position, so that scores see distances only.

    Features are taken in halves: ``(x_i, x_{i + d/2})`` turns by ``p * base**(-2 i / d)``, hence
    ``rotary(q, p) . rotary(k, s)`` depends on ``p - s``.

    Parameters
    ----------
    x : (..., T, d) floating tensor, d even.
    positions : the position of the first step (an integer), or all of them as a tensor that broadcasts to (..., T).
    base : the longest wavelength is 2 pi base.

    Returns
    -------
    Tensor
        Of the shape and dtype of `x`; angles are formed in float64.

    Raises
    ------
    ValueError
        For an odd number of features.

    Notes
    -----
    Complexity: O(T d).

    References
    ----------
    Su, Lu, Pan, Murtadha, Wen and Liu (2021), arXiv:2104.09864, eq. 34.

    Examples
    --------
    >>> import torch
    >>> from seqsolve.attention import rotary
    >>> x = torch.ones(1, 4, dtype=torch.float64)
    >>> bool(torch.isclose((rotary(x, 7) * rotary(x, 5)).sum(), (rotary(x, 2) * rotary(x, 0)).sum()))
    True
    """
    if not isinstance(x, Tensor) or x.dtype not in _checks.FLOATS:
        raise TypeError(f"x is {getattr(x, 'dtype', type(x).__name__)}, expected a floating torch tensor (..., T, d)")
    if x.ndim < 2 or x.shape[-1] % 2:
        raise ValueError(f"x has shape {tuple(x.shape)}, expected (..., T, d) with an even d to rotate pairs")
    if not base > 0:
        raise ValueError(f"base={base} is not positive; 10000 is customary")
    T, half = x.shape[-2], x.shape[-1] // 2
    if isinstance(positions, Tensor):
        places = positions.to(x.device, torch.float64)
    else:
        places = torch.arange(positions, positions + T, device=x.device, dtype=torch.float64)
    rates = base ** (-torch.arange(half, device=x.device, dtype=torch.float64) / half)
    angles = places[..., None] * rates
    compute = _checks.state_dtype(x.dtype)
    cos, sin = angles.cos().to(compute), angles.sin().to(compute)
    first, second = x[..., :half].to(compute), x[..., half:].to(compute)
    return torch.cat((first * cos - second * sin, first * sin + second * cos), -1).to(x.dtype)


def alibi_slopes(heads: int) -> Tensor:
    """Slopes of ALiBi: geometric from ``2**(-8 / n)`` for n heads, interleaved when n is no power of two.

    ``score(p, j) = q . k - slope * (p - j)``.

    Parameters
    ----------
    heads : number of query heads.

    Returns
    -------
    Tensor
        (heads,) float64.

    Raises
    ------
    ValueError
        When `heads` is less than 1.

    Notes
    -----
    Complexity: O(heads).

    References
    ----------
    Press, Smith and Lewis (2022), "Train Short, Test Long", arXiv:2108.12409, section 3.

    Examples
    --------
    >>> from seqsolve.attention import alibi_slopes
    >>> alibi_slopes(4).tolist()
    [0.25, 0.0625, 0.015625, 0.00390625]
    """
    _checks.positive("heads", heads, "the number of query heads")
    whole = 2 ** int(math.log2(heads))
    slopes = [2 ** (-8 * (i + 1) / whole) for i in range(whole)]
    slopes += [2 ** (-4 * (2 * i + 1) / whole) for i in range(heads - whole)]
    return torch.tensor(slopes, dtype=torch.float64)
