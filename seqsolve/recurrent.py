"""Drop-in replacements of nn.RNN, nn.GRU and nn.LSTM that run one fused loop where it wins, torch where that does."""

from __future__ import annotations

from operator import is_
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from ._checks import dual_level, transforming
from ._threads import resolve_workers
from .cell_gradient import cell_gradient, supported
from .cells import Layout, Track, run_layer
from .chunked_layers import shoot_track
from .dispatch import choose, chunks_may_win
from .handover import ShortCalls
from .kept_weights import KeptWeights
from .record import Record
from .results import Report

_METHODS = ("auto", "sequential", "shooting", "torch")
_FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


@overload
def parallelize(module: nn.RNN, *, method: str = "auto", workers: int | None = None) -> FusedRNN: ...
@overload
def parallelize(module: nn.GRU, *, method: str = "auto", workers: int | None = None) -> FusedGRU: ...
@overload
def parallelize(module: nn.LSTM, *, method: str = "auto", workers: int | None = None) -> FusedLSTM: ...
@overload
def parallelize(module: nn.Module, *, method: str = "auto", workers: int | None = None) -> Any: ...
def parallelize(module, *, method="auto", workers=None):
    r"""A faster drop-in for a recurrent module, or for all that a larger module contains: same parameters and outputs.

    .. math:: h_t = f(h_{t-1}, x_t),\quad t = 1..T

    is computed step by step in one fused loop, in place of one operator call after another. The result shares its
    parameters with `module` (training one trains the other), is an instance of the same torch class, and has the same
    ``state_dict``; ``deepcopy``, ``pickle``, ``train``, ``eval`` and ``to`` work as before. After a call, ``.report``
    says what was done and why, with a certificate.

    Parameters
    ----------
    module : nn.RNN, nn.GRU or nn.LSTM with any constructor flags; an nn.RNNCell, nn.GRUCell or nn.LSTMCell, in place
        of a loop over it; or any module that contains recurrent ones, such as nn.Sequential or a model of your own.
    method : "auto" takes the faster of the two, by a measured rule (`seqsolve.dispatch`); "sequential" insists on the
        fused loop and raises where it cannot run; "shooting" insists on chunks of time side by side wherever the
        network forgets, and takes the fused loop where it does not; "torch" always calls torch's own.
    workers : threads over the sequences of a batch and the directions of a bidirectional layer; None is torch's own
        number of threads (``torch.get_num_threads``).

    Returns
    -------
    nn.Module
        An instance of nn.RNN, nn.GRU or nn.LSTM whose ``forward`` takes tensors of 2 or 3 dimensions or a
        PackedSequence, and the initial state. Of a cell, a module over whole sequences, time first:
        ``output, state = fast(inputs, state)`` with the state as the cell takes it. Of a larger module, a copy that
        shares its parameters and buffers and in which the recurrent modules are replaced, one in several places by one;
        its ``.report`` has the ``parts`` by name, and ``left``: what was not replaced, and why.

    Raises
    ------
    TypeError
        If `module` neither is nor contains an nn.RNN, nn.GRU, nn.LSTM. Subclasses of them are never replaced: their
        forward may be another one.
    ValueError
        If `method` is unknown. In a call: if method="sequential" cannot serve the input; else whatever torch raises.

    Notes
    -----
    float16 and bfloat16 are computed in float32 and returned as given. Where gradients are needed, the forward pass is
    the fused loop. The backward pass of one layer of an RNN or GRU in one direction is a loop with one product a step;
    of any other, and for second derivatives, it is torch's own, which repeats the forward pass then: a call whose
    gradient is never asked for costs nothing more. Dropout in training, autocast, ``torch.compile``, functorch
    transforms and devices other than the CPU go to torch as a whole. Weights are compared bit for
    bit in every call with those of the last, of which a copy is kept, and packed again where anything has changed.

    The certificate is worked out when ``.report`` is read: the outputs are finite, and rounding errors do not grow on
    the first 256 steps of the first sequence (a chaotic network has ``certificate.ok`` False: its steps are those of
    torch, but rounding alone leads elsewhere).

    Complexity
    ----------
    Time O(T B gates H^2), memory one piece of gates (about 1 MB) beyond the output, whatever T is.

    Examples
    --------
    >>> import torch, seqsolve as sq
    >>> gru = torch.nn.GRU(4, 8)
    >>> fast = sq.parallelize(gru)
    >>> x = torch.linspace(-1, 1, 400).reshape(100, 1, 4)
    >>> with torch.inference_mode():
    ...     y, h = fast(x)
    ...     bool((y - gru(x)[0]).abs().max() < 1e-6)
    True
    >>> fast.report.method, fast.report.certificate.ok
    ('sequential', True)
    """
    if method not in _METHODS:
        raise ValueError(f"method={method!r} is unknown; parallelize takes {', '.join(map(repr, _METHODS))}")
    if workers is not None:
        resolve_workers(workers)
    if not isinstance(module, nn.Module):
        raise TypeError(f"parallelize takes a torch module, got {type(module).__name__}; for a step(x, u) call solve")
    from . import composite, sequences
    from .protocol import Cell

    layers: dict[type, Any] = {nn.RNN: FusedRNN, nn.GRU: FusedGRU, nn.LSTM: FusedLSTM}
    if type(module) not in layers | sequences.CELLS and not isinstance(module, _Fused | Cell):
        return composite.replaced(module, lambda part: parallelize(part, method=method, workers=workers), (*layers,))
    target: Any = (layers | sequences.CELLS).get(type(module), type(module))
    state = module.__getstate__() if hasattr(module, "__getstate__") else module.__dict__
    fast: Any = target.__new__(target)
    fast.__setstate__({k: v.copy() if isinstance(v, dict | list) else v for k, v in state.items()})
    fast._settings = (method, workers)
    fast._record = fast._kept = None
    return fast


class _Fused:
    """The part of the drop-ins that is common to all three; torch's class follows it in the bases."""

    _settings: tuple[str, int | None] = ("auto", None)
    _record: Any = None
    _kept: KeptWeights | None = None
    _parameters: Any
    batch_first: bool
    bidirectional: bool
    hidden_size: int
    num_layers: int

    @property
    def report(self) -> Report:
        """What the last call did, why, and how far its outputs can be trusted."""
        if self._record is None:
            raise RuntimeError("there is no report before the first call of the module")
        if not isinstance(self._record, Report):
            self.__dict__["_record"] = self._record.report()
        return self._record

    def forward(self, input, hx=None):
        """As torch's own forward."""
        method, workers = self._settings
        fused, rival, reason = self._choose(input) if method == "auto" else (method != "torch", False, "asked for")
        if not (fused or rival):
            return self._torch(input, hx, reason)
        call = _Call.read(self, input, hx)
        if isinstance(call, str):
            if method != "auto" and call != _MALFORMED:
                raise ValueError(f"method={method!r} cannot run here: {call}; use method='auto'")
            return self._torch(input, hx, call)
        threads = torch.get_num_threads() if workers is None else resolve_workers(workers)
        record = Record("sequential", reason, call.steps, threads)
        call.chunks = "always" if method == "shooting" else "only" if rival else "never" if method != "auto" else "try"
        tensors = [call.data, *call.hx, *call.weights]
        try:
            if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
                result = _Replay.apply(call, threads, record, *tensors)
            else:
                result = call.run(threads, record)
        except _RemembersError:
            return self._torch(input, hx, reason)
        self.__dict__["_record"] = record
        return call.finish(result)

    def _choose(self, input) -> tuple[bool, bool, str]:
        """Take the fused loop? If not, may chunks win? By the sizes alone: a call for torch must not wait for us."""
        if isinstance(input, PackedSequence):
            data, steps = input.data, len(input.batch_sizes)
            batch = -(-len(data) // steps)
        elif isinstance(input, Tensor) and 2 <= input.dim() <= 3:
            data, shape = input, input.shape
            steps, batch = (shape[0], 1) if len(shape) == 2 else shape[1::-1] if self.batch_first else shape[:2]
        else:
            return False, False, _MALFORMED
        if torch.compiler.is_compiling() or not steps or not batch:
            return False, False, _MALFORMED
        sizes, double = (self._kind, self.hidden_size, batch, steps), data.dtype == torch.float64
        layers = self.num_layers * (2 if self.bidirectional else 1)
        fused, reason = choose(
            *sizes, double=double, layers=layers, threads=torch.get_num_threads(), changing=torch.is_grad_enabled()
        )
        return fused, not fused and chunks_may_win(*sizes, data.shape[-1], double=double), reason

    def _torch(self, input, hx, reason):
        result = self._by_torch(input, hx)
        if not torch.compiler.is_compiling():
            output = result[1][0] if isinstance(result[1], tuple) else result[1]
            self.__dict__["_record"] = Record("torch", reason, 0, torch.get_num_threads(), output)
        return result

    def _by_torch(self, input, hx):
        return super().forward(input, hx)  # type: ignore[misc]

    @property
    def _kind(self) -> str:
        return self.mode.lower()  # type: ignore[attr-defined]

    def __getstate__(self):
        state: Any = super().__getstate__()
        return {**state, "_record": None, "_kept": None}


class FusedRNN(ShortCalls, _Fused, nn.RNN):
    """nn.RNN by one fused loop; made by `parallelize`."""


class FusedGRU(ShortCalls, _Fused, nn.GRU):
    """nn.GRU by one fused loop; made by `parallelize`."""


class FusedLSTM(ShortCalls, _Fused, nn.LSTM):
    """nn.LSTM by one fused loop; made by `parallelize`."""


_MALFORMED = "torch checks and reports what is wrong with the arguments"


class _RemembersError(Exception):
    """Chunks alone would have beaten torch, and the network does not forget."""


class _Call:
    """One call of a drop-in: the arguments in the shape that kernels take, and the way back."""

    def __init__(self, module, data, hx, layout, batch_sizes, indices, shape, kept):
        self.module, self.data, self.hx, self.layout, self.kept = module, data, hx, layout, kept
        self.batch_sizes, self.indices, self.shape = batch_sizes, indices, shape
        self.dtype, self.hidden = data.dtype, module.hidden_size
        self.batch, self.steps = len(layout.lengths), len(layout.start) - 1
        self.weights = list(module._flat_weights)
        self.setup = (module.bias, module.num_layers, module.dropout, module.training, module.bidirectional)
        self.kind, self.proj, self.chunks = module._kind, module.proj_size, "never"

    @classmethod
    def read(cls, module, input, hx) -> _Call | str:
        """The call in one shape, or the reason why torch has to take it."""
        if torch.compiler.is_compiling():
            return "torch.compile traces torch's own module"
        packed = isinstance(input, PackedSequence)
        data = input.data if packed else input
        lstm = module._kind == "lstm"
        if not isinstance(data, Tensor) or data.dim() not in ((2,) if packed else (2, 3)):
            return _MALFORMED
        states = () if hx is None else tuple(hx) if lstm else (hx,)
        if not all(isinstance(t, Tensor) for t in states) or len(states) not in (0, 1 + lstm):
            return _MALFORMED
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
            return _MALFORMED
        if getattr(torch._C, "_are_functorch_transforms_active", bool)():
            return "a functorch transform is active"
        if module.training and module.dropout > 0 and module.num_layers > 1:
            return "dropout is active in training"
        if any(t.layout != torch.strided or t.is_conj() for t in everything):
            return "a layout that is not strided"
        return cls._shaped(module, input, data, states, packed, kept)

    @classmethod
    def _shaped(cls, module, input, data, states, packed, kept) -> _Call | str:
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
            return _MALFORMED
        if any(tuple(t.shape) != e for t, e in zip(states, expected)):
            return _MALFORMED
        if indices is not None and indices[0] is not None:
            states = tuple(t.index_select(1, indices[0]) for t in states)
        layout = Layout.packed(batch_sizes.numpy()) if batch_sizes is not None else Layout.padded(steps, batch)
        return cls(module, data, list(states), layout, batch_sizes, indices, shape, kept)

    def run(self, threads: int, record) -> tuple[Tensor, ...]:
        """All layers by the fused loop: (output, h) or (output, h, c), as torch's own function gives them."""
        work = torch.float64 if self.dtype == torch.float64 else torch.float32
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
            out, tracks = torch.empty((len(x), R * directions), dtype=work), []
            rows = out.numpy()
            for k in range(directions):
                at = layer * directions + k
                h, c = given[0][at], given[1][at] if len(given) > 1 else None
                weights, packed = packs[at]
                tracks.append(Track(weights, h, c, backwards=k == 1, column=k * R, packed=packed))
                record.keep(weights, x, self.layout, h, c, k == 1)
            first = layer * directions
            rest = self._in_chunks(tracks, [w for w, _ in packs[first:]], x, rows, threads, record)
            if rest:
                run_layer(rest, x, self.layout, rows, threads)
            for k, track in enumerate(tracks):
                for array, state in zip(final, track.final()):
                    array[first + k] = state
            x = rows
        states = [torch.from_numpy(array) for array in final]
        # a gated cell keeps a NaN to its end; relu can turn inf into 0 again
        record.output = out if self.kind == "rnn_relu" else states[0]
        output = out if self.batch_sizes is not None else out.view(self.steps, self.batch, -1)
        return tuple(t if work == self.dtype else t.to(self.dtype) for t in (output, *states))

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
                    raise _RemembersError
                rest.append(track)
            if found is not None:
                record.chunks.append(found)
        return rest

    def replay(self, data, hx, weights) -> tuple[Tensor, ...]:
        """The same by torch's own function, time first."""
        if not hx:
            like = [(self.proj or self.hidden)] + ([self.hidden] if self.kind == "lstm" else [])
            tracks = self.setup[1] * (2 if self.setup[4] else 1)
            hx = [data.new_zeros(tracks, self.batch, n) for n in like]
        function = getattr(torch._VF, self.kind)
        state = tuple(hx) if self.kind == "lstm" else hx[0]
        if self.batch_sizes is None:
            return function(data, state, weights, *self.setup, False)
        return function(data, self.batch_sizes, state, weights, *self.setup)

    def chain(self, tensors, states: Tensor, gradients, wanted) -> list[Tensor | None] | None:
        """The gradients by `tensors` from the states of one layer in one direction; None where torch has to repeat it.

        An LSTM has cells that no output shows.
        """
        _, layers, _, _, bidirectional = self.setup
        if self.kind == "lstm" or layers > 1 or bidirectional or self.batch_sizes is not None:
            return None
        if transforming() or dual_level() or not torch.isfinite(states).all():
            return None
        data, given = tensors[0], len(self.hx)
        weights = [*tensors[1 + given :], None, None][:4]
        x0 = tensors[1][0] if given else states.new_zeros(states.shape[1:])
        by_output, by_last = gradients
        g = torch.zeros_like(states) if by_output is None else by_output
        if by_last is not None:
            g = torch.cat([g[:-1], g[-1:] + by_last])
        if not supported(self.kind, weights, x0, data, states, g):
            return None
        needs = [wanted[0], *wanted[1 + given :], False, False][:5]
        by_x0, by_data, found = cell_gradient(self.kind, weights, x0, data, states, g, needs)
        return [by_data, *([by_x0[None] if wanted[1] else None] * given), *found[: len(tensors) - 1 - given]]

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


class _Replay(torch.autograd.Function):
    """Forward by the fused loop; backward by the chain rule of one layer, else by torch's own module run once more."""

    @staticmethod
    def forward(ctx, call, threads, record, *tensors):
        ctx.call, ctx.given = call, len(call.hx)
        ctx.save_for_backward(*tensors)
        result = call.run(threads, record)
        ctx.states = result[0].detach()  # a tensor of its own, or the graph would hold itself
        ctx.version = ctx.states._version
        return result

    @staticmethod
    def backward(ctx, *gradients):
        saved, wanted = ctx.saved_tensors, ctx.needs_input_grad[3:]
        graph = torch.is_grad_enabled()  # the caller wants a second derivative
        if not graph and ctx.states._version == ctx.version:  # nobody has written into the output
            found = ctx.call.chain(saved, ctx.states, gradients, wanted)
            if found is not None:
                return None, None, None, *found
        with torch.enable_grad():
            # views: new nodes of the graph, so that a weight which the input was made from is not counted twice,
            # and through which a second derivative flows
            views = [t.view_as(t) if w else t for t, w in zip(saved, wanted)]
            k = 1 + ctx.given
            outputs = ctx.call.replay(views[0], views[1:k], views[k:])
            pairs = [(o, g) for o, g in zip(outputs, gradients) if g is not None and o.requires_grad]
            found = torch.autograd.grad(
                [o for o, _ in pairs],
                [v for v, w in zip(views, wanted) if w],
                [g for _, g in pairs],
                create_graph=graph,
                allow_unused=True,
            )
        found = iter(found)
        return None, None, None, *(next(found) if w else None for w in wanted)
