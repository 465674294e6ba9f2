"""Drop-in replacements of nn.RNN, nn.GRU and nn.LSTM that run one fused loop where it wins, torch where that does."""

from __future__ import annotations

from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from ._checks import compiling, tracing, uncompiled
from ._threads import resolve_workers
from .calls import MALFORMED, Call, RemembersError
from .dispatch import choose, chunks_may_win
from .handover import ShortCalls, learning
from .kept_weights import KeptWeights
from .record import Record
from .results import Report
from .training import Training

_METHODS = ("auto", "sequential", "shooting", "torch")


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
    the fused loop, which keeps the gates of all steps, and the backward pass a loop with one product a step; second
    derivatives, and states that are not finite, are left to torch, which repeats the forward pass then. Dropout draws
    the numbers that torch would. Autocast, ``torch.export``, ``torch.jit.trace``, functorch transforms and devices
    other than the CPU go to torch as a whole; ``torch.compile`` breaks its graph here, as it does at torch's own
    modules, and the call runs as ever. Weights are compared bit for bit in every call with those of the last, of which
    a copy is kept, and packed again where anything has changed.

    The certificate is worked out when ``.report`` is read: the outputs are finite, and rounding errors do not grow on
    the first 256 steps of the first sequence (a chaotic network has ``certificate.ok`` False: its steps are those of
    torch, but rounding alone leads elsewhere).

    Complexity
    ----------
    Time O(T B gates H^2), memory one piece of gates (about 1 MB) beyond the output, whatever T is; where gradients are
    needed, O(T B H) numbers more: 2 (RNN), 5 (GRU) or 7 (LSTM) a unit and step of each layer and direction.

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
    _flat_weights: list[Tensor]
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
        if compiling():  # a graph of its own before and after, as around torch's own
            return uncompiled(type(self).forward)(self, input, hx)
        method, workers = self._settings
        fused, rival, reason = self._choose(input, hx) if method == "auto" else (method != "torch", False, "asked for")
        if not (fused or rival):
            return self._torch(input, hx, reason)
        call = Call.read(self, input, hx)
        if isinstance(call, str):
            if method != "auto" and call != MALFORMED:
                raise ValueError(f"method={method!r} cannot run here: {call}; use method='auto'")
            return self._torch(input, hx, call)
        threads = torch.get_num_threads() if workers is None else resolve_workers(workers)
        record = Record("sequential", reason, call.steps, threads)
        call.chunks = "always" if method == "shooting" else "only" if rival else "never" if method != "auto" else "try"
        tensors = [call.data, *call.hx, *call.weights]
        training = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
        if training and method == "auto":
            call.chunks = "never"  # they would not keep what the backward pass needs
        try:
            if training:
                result = Training.apply(call, threads, record, *tensors)
            else:
                result = call.run(threads, record)
        except RemembersError:
            return self._torch(input, hx, reason)
        self.__dict__["_record"] = record
        return call.finish(result)

    def _choose(self, input, hx) -> tuple[bool, bool, str]:
        """Take the fused loop? If not, may chunks win? By the sizes alone: a call for torch must not wait for us."""
        if isinstance(input, PackedSequence):
            data, steps = input.data, len(input.batch_sizes)
            batch = -(-len(data) // steps)
        elif isinstance(input, Tensor) and 2 <= input.dim() <= 3:
            data, shape = input, input.shape
            steps, batch = (shape[0], 1) if len(shape) == 2 else shape[1::-1] if self.batch_first else shape[:2]
        else:
            return False, False, MALFORMED
        if tracing() or not steps or not batch:
            return False, False, MALFORMED
        sizes, double = (self._kind, self.hidden_size, batch, steps), data.dtype == torch.float64
        layers = self.num_layers * (2 if self.bidirectional else 1)
        training = torch.is_grad_enabled() and learning(data, hx, self._flat_weights)
        threads, inputs = torch.get_num_threads(), data.shape[-1]
        fused, reason = choose(*sizes, double=double, layers=layers, threads=threads, training=training, inputs=inputs)
        return fused, not (fused or training) and chunks_may_win(*sizes, inputs, double=double), reason

    def _torch(self, input, hx, reason):
        result = self._by_torch(input, hx)
        if not tracing():
            output = result[1][0] if isinstance(result[1], tuple) else result[1]
            self.__dict__["_record"] = Record("torch", reason, 0, torch.get_num_threads(), output)
        return result

    def _by_torch(self, input, hx):
        return super().forward(input, hx)  # type: ignore[misc]

    @property
    def _kind(self) -> str:
        return self.mode.lower()  # type: ignore[attr-defined]

    def __dir__(self):
        """No report before the first call: what looks at every attribute, as torch.jit.trace does, must not stumble."""
        return [name for name in super().__dir__() if name != "report" or self._record is not None]

    def __getstate__(self):
        state: Any = super().__getstate__()
        return {**state, "_record": None, "_kept": None}


class FusedRNN(ShortCalls, _Fused, nn.RNN):
    """nn.RNN by one fused loop; made by `parallelize`."""


class FusedGRU(ShortCalls, _Fused, nn.GRU):
    """nn.GRU by one fused loop; made by `parallelize`."""


class FusedLSTM(ShortCalls, _Fused, nn.LSTM):
    """nn.LSTM by one fused loop; made by `parallelize`."""
