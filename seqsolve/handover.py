"""Calls too short for anything but torch's own function: recognised before all else, and handed over at once.

Of a call of one step, torch's kernel takes 10 to 50 us; what stands before it in ``nn.RNN.forward`` takes 8 us more,
most of it to learn whether the weights are still the same objects. The same question to the table of parameters takes
0.3 us, which pays for the choice.
"""

from __future__ import annotations

from operator import is_
from typing import Any

import torch
from torch import Tensor

from ._checks import tracing
from .dispatch import choose, shortest
from .results import Certificate, Report, Status


class ShortCalls:
    """Put before the drop-in of a layer: takes the calls that the rule surely gives to torch, and no other."""

    _settings: tuple[str, int | None]
    _parameters: Any
    _flat_weights: list[Tensor]
    _flat_weights_names: list[str]
    mode: str
    bias: bool
    batch_first: bool
    bidirectional: bool
    dropout: float
    hidden_size: int
    input_size: int
    num_layers: int
    proj_size: int
    training: bool

    def forward(self, input, hx=None):
        """As torch's own forward."""
        if type(input) is not Tensor or self._settings[0] != "auto" or tracing() or input.dim() != 3:
            return super().forward(input, hx)  # type: ignore[misc]
        if self.batch_first:
            batch, steps, inputs = input.shape
        else:
            steps, batch, inputs = input.shape
        units, tracks, dtype = self.hidden_size, self.num_layers * (1 + self.bidirectional), input.dtype
        weights = self._flat_weights
        training = torch.is_grad_enabled() and learning(input, hx, weights)
        sizes = (self.mode, units, tracks, dtype, batch, torch.get_num_threads(), training, inputs)
        if steps >= shortest(*sizes):
            return super().forward(input, hx)  # type: ignore[misc]
        usual = inputs == self.input_size and steps and dtype is weights[0].dtype
        if not (usual and all(map(is_, map(self._parameters.get, self._flat_weights_names), weights))):
            return super().forward(input, hx)  # type: ignore[misc]
        shape = (tracks, batch, self.proj_size or units)
        if self.mode == "LSTM":
            h, c = hx if type(hx) is tuple and len(hx) == 2 else (hx, hx)
            if hx is None:
                h = c = input.new_zeros(shape)
                if self.proj_size:
                    c = input.new_zeros((tracks, batch, units))
            elif not (_has(h, shape) and _has(c, (tracks, batch, units))):
                return super().forward(input, hx)  # type: ignore[misc]
            hx = (h, c)
        elif hx is None:
            hx = input.new_zeros(shape)
        elif not _has(hx, shape):
            return super().forward(input, hx)  # type: ignore[misc]
        output, *final = _FUNCTIONS[self.mode](
            input, hx, weights, self.bias, self.num_layers, self.dropout, self.training, self.bidirectional,
            self.batch_first,
        )  # fmt: skip
        self.__dict__["_record"] = Handed(sizes, steps, final[0])
        return output, tuple(final) if len(final) == 2 else final[0]


class Handed:
    """What such a call leaves behind: enough for the report, should anybody read it."""

    __slots__ = ("output", "sizes", "steps")

    def __init__(self, sizes: tuple, steps: int, output: Tensor):
        self.sizes, self.steps, self.output = sizes, steps, output

    def report(self) -> Report:
        """Why torch took the call, and whether what it returned is finite."""
        mode, units, layers, dtype, batch, threads, training, inputs = self.sizes
        _, reason = choose(
            mode.lower(), units, batch, self.steps,
            double=dtype == torch.float64, layers=layers, threads=threads, training=training, inputs=inputs,
        )  # fmt: skip
        finite = bool(torch.isfinite(self.output).all())
        status = Status.TORCH if finite else Status.NONFINITE
        return Report("torch", reason, Certificate("torch", finite=finite), status, 0, threads)


_FUNCTIONS: dict[str, Any] = {
    name: getattr(torch._VF, name.lower()) for name in ("RNN_TANH", "RNN_RELU", "GRU", "LSTM")
}


def learning(data: Tensor, hx: Any, weights: list[Tensor]) -> bool:
    """Whether a gradient may be asked for by anything that a call was given."""
    states = hx if isinstance(hx, tuple | list) else (hx,)
    return any(getattr(t, "requires_grad", False) for t in (*weights, data, *states))


def _has(state, shape: tuple[int, ...]) -> bool:
    return type(state) is Tensor and state.shape == shape
