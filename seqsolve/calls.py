"""One call of a drop-in: its arguments in the shape that kernels take, all layers run, and the way back."""

from __future__ import annotations

from operator import is_
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from ._checks import tracing
from .cells import Layout, Track, run_layer
from .chunked_layers import shoot_track
from .kept_weights import KeptWeights

_FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
MALFORMED = "torch checks and reports what is wrong with the arguments"


class TapedLayer(NamedTuple):
    """What the backward pass of a layer starts from.

    x : its input, (rows, m).
    kept : what each direction knows of its steps, see `_kernels`; None where it ran in chunks.
    mask : what its output was multiplied with by dropout, or None.
    """

    x: Tensor
    kept: list[Any]
    mask: Tensor | None


class RemembersError(Exception):
    """Chunks alone would have beaten torch, and the network does not forget."""


class Call:
    """One call of a drop-in: the arguments in the shape that kernels take, and the way back."""

    def __init__(self, module, data, hx, layout, batch_sizes, indices, shape, kept):
        self.module, self.data, self.hx, self.layout, self.kept = module, data, hx, layout, kept
        self.batch_sizes, self.indices, self.shape = batch_sizes, indices, shape
        self.dtype, self.hidden = data.dtype, module.hidden_size
        self.batch, self.steps = layout.batch, layout.steps
        self.weights = list(module._flat_weights)
        self.setup = (module.bias, module.num_layers, module.dropout, module.training, module.bidirectional)
        self.kind, self.proj, self.chunks = module._kind, module.proj_size, "never"

    @classmethod
    def read(cls, module, input, hx) -> Call | str:
        """The call in one shape, or the reason why torch has to take it."""
        if tracing():
            return "torch's own module is what torch.export and torch.jit.trace can follow"
        packed = isinstance(input, PackedSequence)
        data = input.data if packed else input
        lstm = module._kind == "lstm"
        if not isinstance(data, Tensor) or data.dim() not in ((2,) if packed else (2, 3)):
            return MALFORMED
        states = () if hx is None else tuple(hx) if lstm else (hx,)
        if not all(isinstance(t, Tensor) for t in states) or len(states) not in (0, 1 + lstm):
            return MALFORMED
        names = getattr(module, "_flat_weights_names", ())
        if not all(map(is_, map(module._parameters.get, names), module._flat_weights)):
            module._update_flat_weights()  # as torch's own forward: functional_call and parametrizations
        weights = module._flat_weights
        kept = module._kept if module._kept is not None and module._kept.current(weights) else None
        if kept is not None and data.dtype != kept.dtype:
            kept = None
        everything = [data, *states, *(weights if kept is None else ())]
        if any(type(t) not in (Tensor, nn.Parameter) for t in everything):
            return "a tensor subclass"
        if not all(t.is_cpu for t in everything):
            return f"the data are on {data.device}, and the fused loop runs on the CPU"
        if torch.is_autocast_enabled("cpu"):  # before the dtypes: the layer before may have returned bfloat16
            return "autocast is on"
        dtype = data.dtype
        if not all(t.dtype == dtype for t in everything) or dtype not in _FLOATS:
            return MALFORMED
        if getattr(torch._C, "_are_functorch_transforms_active", bool)():
            return "a functorch transform is active"
        if any(t.layout != torch.strided or t.is_conj() for t in everything):
            return "a layout that is not strided"
        return cls._shaped(module, input, data, states, packed, kept)

    @classmethod
    def _shaped(cls, module, input, data, states, packed, kept) -> Call | str:
        batch_sizes, indices, shape = None, None, None
        if packed:
            batch_sizes, indices = input.batch_sizes, (input.sorted_indices, input.unsorted_indices)
            batch, steps = int(batch_sizes[0]), len(batch_sizes)
        else:
            shape = data.dim()
            if shape == 2:
                data, states = data.unsqueeze(1), tuple(t.unsqueeze(1) if t.dim() == 2 else t[None] for t in states)
            elif module.batch_first:
                data = data.transpose(0, 1)
            steps, batch = data.shape[:2]
        R = module.proj_size or module.hidden_size
        tracks = module.num_layers * (2 if module.bidirectional else 1)
        expected = [(tracks, batch, R), (tracks, batch, module.hidden_size)]
        if data.shape[-1] != module.input_size or not steps or not batch:
            return MALFORMED
        if any(tuple(t.shape) != e for t, e in zip(states, expected)):
            return MALFORMED
        if indices is not None and indices[0] is not None:
            states = tuple(t.index_select(1, indices[0]) for t in states)
        layout = Layout.packed(batch_sizes.numpy()) if batch_sizes is not None else Layout.padded(steps, batch)
        return cls(module, data, list(states), layout, batch_sizes, indices, shape, kept)

    @property
    def work(self) -> torch.dtype:
        """What is computed in."""
        return torch.float64 if self.dtype == torch.float64 else torch.float32

    @property
    def drops(self) -> bool:
        """Whether dropout acts between the layers."""
        _, layers, dropout, training, _ = self.setup
        return bool(training) and dropout > 0 and layers > 1

    def run(self, threads: int, record, tape: list[TapedLayer] | None = None) -> tuple[Tensor, ...]:
        """All layers by the fused loop: (output, h) or (output, h, c), as torch's own function gives them.

        `tape` receives what a backward pass asks for, a layer each.
        """
        work = self.work
        x = _host(self.data, work).reshape(-1, self.data.shape[-1])
        _, layers, _, _, bidirectional = self.setup
        directions = 2 if bidirectional else 1
        R = self.proj or self.hidden
        sizes = (R, self.hidden) if self.kind == "lstm" else (R,)
        shapes = [(layers * directions, self.batch, n) for n in sizes]
        given = [_host(t, work) for t in self.hx] or [np.zeros(shape, x.dtype) for shape in shapes]
        final = [np.empty(shape, x.dtype) for shape in shapes]
        packs = (self.kept or self._packed(work, layers * directions)).tracks
        for layer in range(layers):
            out, tracks, mask = torch.empty((len(x), R * directions), dtype=work), [], None
            rows = out.numpy()
            for k in range(directions):
                at = layer * directions + k
                h, c = given[0][at], given[1][at] if len(given) > 1 else None
                weights, packed = packs[at]
                tracks.append(Track(weights, h, c, backwards=k == 1, column=k * R, packed=packed))
                record.keep(weights, x, self.layout, h, c, k == 1)
            first = layer * directions
            rest = self._in_chunks(tracks, [w for w, _ in packs[first:]], x, rows, threads, record)
            if tape is not None:
                for track in rest:
                    track.kept = torch.empty(len(x) * track.packed.kept_numbers, dtype=work).numpy()
            if rest:
                run_layer(rest, x, self.layout, rows, threads)
            for k, track in enumerate(tracks):
                for array, state in zip(final, track.final()):
                    array[first + k] = state
            if self.drops and layer < layers - 1:
                mask = self._mask(out)
                rows = (out * mask).numpy()
            if tape is not None:
                tape.append(TapedLayer(torch.from_numpy(x), [track.kept for track in tracks], mask))
            x = rows
        states = [torch.from_numpy(array) for array in final]
        # a gated cell keeps a NaN to its end; relu can turn inf into 0 again
        record.output = out if self.kind == "rnn_relu" else states[0]
        output = out if self.batch_sizes is not None else out.view(self.steps, self.batch, -1)
        return tuple(t if work == self.dtype else t.to(self.dtype) for t in (output, *states))

    def _mask(self, out: Tensor) -> Tensor:
        """What dropout multiplies the output of a layer with; the same numbers are drawn as by torch."""
        return torch.dropout(torch.ones_like(out), self.setup[2], True)

    def _packed(self, work: torch.dtype, tracks: int) -> KeptWeights:
        """The weights packed afresh, and kept for the next call where it can tell whether they are still the same."""
        arrays, each = [_host(t, work) for t in self.weights], len(self.weights) // tracks
        kept = KeptWeights(self.kind, self.weights, arrays, each, self.setup[0])
        if work == self.dtype and all(t.is_contiguous() for t in self.weights):
            self.module.__dict__["_kept"] = kept
        return kept

    def _in_chunks(self, tracks, packs, x, out, threads, record) -> list[Track]:
        """Run in chunks what can; the tracks that are left for the loop."""
        if self.chunks == "never":
            return tracks
        rest = []
        for track, weights in zip(tracks, packs):
            found = shoot_track(track, weights, x, self.layout, out, threads, insist=self.chunks == "always")
            if found is None or found.abandoned:
                if self.chunks == "only":
                    raise RemembersError
                rest.append(track)
            if found is not None:
                record.chunks.append(found)
        return rest

    def replay(self, data, hx, weights, masks: list[Tensor]) -> tuple[Tensor, ...]:
        """The same by torch's own function, time first; `masks` are those of dropout, if it acts."""
        bias, layers, dropout, training, bidirectional = self.setup
        directions = 2 if bidirectional else 1
        if not hx:
            like = [(self.proj or self.hidden)] + ([self.hidden] if self.kind == "lstm" else [])
            hx = [data.new_zeros(layers * directions, self.batch, n) for n in like]
        function = getattr(torch._VF, self.kind)

        def run(x, hx, weights, layers):
            state = tuple(hx) if self.kind == "lstm" else hx[0]
            setup = (bias, layers, 0.0 if masks else dropout, training, bidirectional)
            if self.batch_sizes is None:
                return function(x, state, weights, *setup, False)
            return function(x, self.batch_sizes, state, weights, *setup)

        if not masks:
            return run(data, hx, weights, layers)
        each, final = len(weights) // layers, []
        for layer in range(layers):
            some = slice(layer * directions, (layer + 1) * directions)
            data, *ends = run(data, [t[some] for t in hx], weights[layer * each : (layer + 1) * each], 1)
            final.append(ends)
            if layer < len(masks):
                data = data * masks[layer].reshape(data.shape).to(data.dtype)
        return data, *(torch.cat(ends) for ends in zip(*final))

    def finish(self, result: tuple[Tensor, ...]):
        """Outputs as torch's forward gives them for this input."""
        output, *final = result
        if self.indices is not None:
            if self.indices[1] is not None:
                final = [t.index_select(1, self.indices[1]) for t in final]
            output = PackedSequence(output, self.batch_sizes, *self.indices)
        elif self.shape == 2:
            output, final = output.squeeze(1), [t.squeeze(1) for t in final]
        elif self.module.batch_first:
            output = output.transpose(0, 1)
        return output, tuple(final) if self.kind == "lstm" else final[0]


def _host(t: Tensor, work: torch.dtype) -> np.ndarray:
    t = t.detach()
    return (t if t.dtype == work else t.to(work)).contiguous().numpy()
