"""What stands in for rounding while a network is trained: noise, soft rounding, straight-through. Units of one step."""

import torch
from torch import Tensor

MODES = ("noise", "soft-round", "straight-through", "round")
MAX_SHARPNESS = 12.0  # beyond it tanh(sharpness / 2) is 1 to float32, and the inverse is infinite


def quantise(v: Tensor, mode: str, sharpness: float = 4.0, generator: torch.Generator | None = None) -> Tensor:
    """`v` at unit steps: what the decoder would see, or its stand-in with a gradient.

    noise: v + U, U uniform on [-1/2, 1/2] (Balle, Laparra and Simoncelli 2017, arXiv:1611.01704, eq. 9).
    soft-round: r(s(v) + U), which tends to noise as sharpness -> 0 and to rounding as it grows.
    straight-through: round(v), with the gradient of v.
    round: round(v), without gradient; ties go to the even integer.
    """
    if mode == "noise":
        return v + _noise(v, generator)
    if mode == "soft-round":
        return soft_round_mean(soft_round(v, sharpness) + _noise(v, generator), sharpness)
    if mode == "straight-through":
        return v + (torch.round(v) - v).detach()
    if mode == "round":
        return torch.round(v.detach())
    raise ValueError(f"mode={mode!r} is not known; expected one of {', '.join(map(repr, MODES))}")


def soft_round(v: Tensor, sharpness: float) -> Tensor:
    """s(v) = floor(v) + 1/2 + tanh(a r) / (2 tanh(a / 2)), r = v - floor(v) - 1/2, a = `sharpness`.

    Agustsson and Theis (2020), arXiv:2006.09952, section 4.1. The identity at a = 0, rounding as a grows.

    Examples
    --------
    >>> import torch
    >>> from density.quantisers import soft_round
    >>> soft_round(torch.tensor([0.0, 0.25, 0.5, 1.0]), 8.0)
    tensor([0.0000, 0.0177, 0.5000, 1.0000])
    """
    a = checked_sharpness(sharpness)
    if a < 1e-3:
        return v
    middle = torch.floor(v) + 0.5
    return middle + torch.tanh(a * (v - middle)) / (2 * torch.tanh(_like(v, a / 2)))


def soft_round_inverse(w: Tensor, sharpness: float) -> Tensor:
    """The v with s(v) = `w`."""
    a = checked_sharpness(sharpness)
    if a < 1e-3:
        return w
    middle = torch.floor(w) + 0.5
    return middle + torch.atanh((w - middle) * (2 * torch.tanh(_like(w, a / 2)))) / a


def soft_round_mean(w: Tensor, sharpness: float) -> Tensor:
    """r(w) = E[V | s(V) + U = w] = s^-1(w - 1/2) + 1/2 for V locally uniform (ibid., section 4.1).

    The interval of V that can have led to w has length one and centre r(w), because s(v + 1) = s(v) + 1: the rate of w
    is that of the unit bin at r(w), as it is for noise.
    """
    return soft_round_inverse(w - 0.5, sharpness) + 0.5


def checked_sharpness(sharpness: float) -> float:
    sharpness = float(sharpness)
    if not 0 <= sharpness <= MAX_SHARPNESS:
        raise ValueError(f"sharpness={sharpness:g} is outside 0..{MAX_SHARPNESS:g}; 0 is noise alone, 4 is common")
    return sharpness


def _noise(v: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.rand(v.shape, dtype=v.dtype, device=v.device, generator=generator) - 0.5


def _like(v: Tensor, value: float) -> Tensor:
    return torch.tensor(value, dtype=v.dtype, device=v.device)
