"""nn.RNNCell, nn.GRUCell, nn.LSTMCell over whole sequences: what a loop over a cell becomes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from ._checks import compiling, uncompiled
from .recurrent import _Fused


class _OverTime(_Fused):
    """A cell as one layer in one direction: ``(output, state) = fast(inputs, state)``, time first.

    inputs : (T, B, m), (T, m) or a PackedSequence.  state : as the cell takes it, (B, H) or (H,); None is zero.
    """

    batch_first, bidirectional, num_layers, proj_size, dropout = False, False, 1, 0, 0.0
    input_size: int
    training: bool

    def forward(self, input, hx=None):
        """All steps of the loop ``for x in input: hx = cell(x, hx)``, and where it ended."""
        if compiling():
            return uncompiled(type(self).forward)(self, input, hx)
        data = input.data if isinstance(input, PackedSequence) else input
        batch = self._check(input, data)
        states = () if hx is None else tuple(hx) if self._kind == "lstm" else (hx,)
        if self._kind == "lstm" and hx is not None and (isinstance(hx, Tensor) or len(states) != 2):
            raise ValueError("the state of an LSTM cell is a pair (h, c); pass hx=(h, c), or None for zeros")
        for state in states:
            if not isinstance(state, Tensor) or tuple(state.shape) != (*batch, self.hidden_size):
                raise ValueError(
                    f"the state has shape {tuple(getattr(state, 'shape', ()))}, and for an input of shape"
                    f" {tuple(data.shape)} it must be {(*batch, self.hidden_size)}: this module runs whole sequences,"
                    " time first; call the cell itself for a single step"
                )
        lifted: Any = None if hx is None else tuple(s[None] for s in states) if self._kind == "lstm" else hx[None]
        final: Any
        output, final = super().forward(input, lifted)
        return output, tuple(s.squeeze(0) for s in final) if self._kind == "lstm" else final.squeeze(0)

    def _check(self, input, data) -> tuple[int, ...]:
        packed = isinstance(input, PackedSequence)
        if not isinstance(data, Tensor) or data.dim() not in ((2,) if packed else (2, 3)):
            raise ValueError(
                f"the input is {tuple(data.shape) if isinstance(data, Tensor) else type(data).__name__}; pass a tensor"
                f" (T, B, {self.input_size}) or (T, {self.input_size}), or a PackedSequence"
            )
        if data.shape[-1] != self.input_size:
            raise ValueError(f"the input has {data.shape[-1]} numbers a step, and the cell takes {self.input_size}")
        if packed:
            return (int(input.batch_sizes[0]),)
        return tuple(data.shape[1:-1])

    @property
    def _kind(self) -> str:
        raise NotImplementedError

    @property
    def _flat_weights(self) -> list[Tensor]:
        found: list[Any] = [getattr(self, name) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        return [t for t in found if t is not None]

    def _by_torch(self, input, hx):
        """torch's own function for a whole layer, on the weights of the cell."""
        data = input.data if isinstance(input, PackedSequence) else input
        out: Any
        flat = not isinstance(input, PackedSequence) and data.dim() == 2
        if flat:
            input = data.unsqueeze(1)
            hx = None if hx is None else tuple(s.unsqueeze(1) for s in hx) if self._kind == "lstm" else hx.unsqueeze(1)
        size = int(input.batch_sizes[0]) if isinstance(input, PackedSequence) else input.shape[1]
        if hx is None:
            zero = data.new_zeros(1, size, self.hidden_size)
            hx = (zero, zero) if self._kind == "lstm" else zero
        elif isinstance(input, PackedSequence) and input.sorted_indices is not None:
            hx = _permuted(hx, input.sorted_indices)
        function, weights = getattr(torch._VF, self._kind), self._flat_weights
        bias = len(weights) == 4
        if isinstance(input, PackedSequence):
            out, *final = function(input.data, input.batch_sizes, hx, weights, bias, 1, 0.0, self.training, False)
            out = PackedSequence(out, input.batch_sizes, input.sorted_indices, input.unsorted_indices)
            if input.unsorted_indices is not None:
                final = [s.index_select(1, input.unsorted_indices) for s in final]
        else:
            out, *final = function(input, hx, weights, bias, 1, 0.0, self.training, False, False)
        if flat:
            out, final = out.squeeze(1), [s.squeeze(1) for s in final]
        return out, tuple(final) if self._kind == "lstm" else final[0]


def _permuted(hx, order):
    return tuple(s.index_select(1, order) for s in hx) if isinstance(hx, tuple) else hx.index_select(1, order)


class SequenceRNN(_OverTime, nn.RNNCell):
    """An nn.RNNCell over whole sequences; made by `parallelize`."""

    @property
    def _kind(self) -> str:
        return f"rnn_{self.nonlinearity}"


class SequenceGRU(_OverTime, nn.GRUCell):
    """An nn.GRUCell over whole sequences; made by `parallelize`."""

    @property
    def _kind(self) -> str:
        return "gru"


class SequenceLSTM(_OverTime, nn.LSTMCell):
    """An nn.LSTMCell over whole sequences; made by `parallelize`."""

    @property
    def _kind(self) -> str:
        return "lstm"


CELLS: dict[type, type] = {nn.RNNCell: SequenceRNN, nn.GRUCell: SequenceGRU, nn.LSTMCell: SequenceLSTM}
