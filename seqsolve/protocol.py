"""The protocol of a cell of your own: what it must say of itself to be run in one loop, solved, and certified."""

from __future__ import annotations

import inspect
import time
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from numba.core.caching import NullCache
from numba.core.dispatcher import Dispatcher
from torch import Tensor, nn

from ._checks import compiling, tracing, uncompiled
from ._jit import kernel as compiled
from ._threads import resolve_workers, thread_map
from .cell_derivative import CellGradient
from .conditioning import Growth
from .linearization import Block, Dense, Diagonal, Linearization
from .recurrence import StepRecurrence
from .results import Certificate, Report, Status

_TRIAL, _LONG = 8, 128  # steps in torch, and in the fused loop, by which the two are compared once for each size
_WORTH_A_THREAD = 5e-4  # seconds of work, estimated from the sizes, that pay for one more thread
_SAMPLE, _SHORT = 256, 32  # steps that a certificate looks at; shorter calls are not sampled
_MARGIN = 0.75  # the fused loop must be measured this much faster


class Cell(nn.Module):
    r"""A recurrence of your own, as a torch module: subclass it, say what a step is, and everything else follows.

    .. math:: x_t = \mathrm{step}(x_{t-1}, a_t, \theta),\quad a_t = \mathrm{project}(u_t)

    ``cell(inputs, state)`` runs the steps one by one in torch; ``parallelize(cell)`` runs them in one compiled loop (or
    one scan) with the same outputs and gradients; ``solve(cell, x0, inputs)`` takes any method.

    Attributes and methods of a subclass
    ------------------------------------
    state_size : int, n. Set it in ``__init__``.
    output_size : how many leading numbers of the state are the output of a step; None is all.
    project(u) : (..., m) -> (..., g), all of a step that depends on the input alone; it runs outside the loop, for all
        steps at once. The default hands the input on.
    step_parameters() : the tensors that a step uses, as a tuple; the default is empty.
    step(x, a, params) : (..., n), (..., g) -> (..., n) in torch, leading axes a batch.
    structure : of the Jacobian of a step by x: None (dense), "diag" or ("block", k). Checked by a probe.
    jacobian(x, a, params) : the Jacobian in closed form, (..., n), (..., n/k, k, k) or (..., n, n) as `structure` says.
        None, the default, leaves it to autograd. Compared with autograd when it is first used.
    linear(a) : for a linear recurrence ``x_t = A_t * x_{t-1} + b_t`` the pair (A, b), each (..., n): the loop becomes
        an affine scan. None is the default.
    kernel : a step for numba, ``kernel(x, a, params, new)`` on arrays of one dtype: x (n,) must not be written to,
        a (g,) may be, `params` is the tuple of ``step_parameters()``, `new` (n,) is filled. A plain function or one
        that numba has compiled; the loop around it is compiled once a process, in about a second.
    loop : in place of `kernel` a compiled loop of your own, ``loop(start, drive, params, states, low, high)``, that
        fills the rows low..high of states (T, B, n) from start (B, n) and drive (T, B, g).
    derivative : the chain rule of one step for numba, ``derivative(x, a, params, new, g, by_x, by_a, by_params)``: from
        g (n,), the derivatives of a loss by `new`, it fills by_x (n,) and by_a (g,) and adds to each array of the tuple
        by_params, of the shapes of `params`. Compared with autograd through `step` when it is first used. Without it
        gradients come from `step` in torch, all Jacobians at once or step by step, whichever is measured to be faster.
    derivative_loop : in place of `derivative` a compiled loop of your own, ``derivative_loop(start, drive, params,
        states, g, carry, by_drive, by_params, low, high)``: g (T, B, n) has the derivatives by the states; the rows
        low..high of carry (B, n), zero before, become those by start, and those of by_drive (T, B, g) are filled.

    Examples
    --------
    >>> import torch, seqsolve as sq
    >>> class Leaky(sq.Cell):  # x <- x + rate * (tanh(u) - x): linear in x, hence one scan
    ...     state_size = 3
    ...     structure = "diag"
    ...
    ...     def linear(self, a):
    ...         return torch.full_like(a, 0.9), 0.1 * a.tanh()
    ...
    ...     def step(self, x, a, params):
    ...         return 0.9 * x + 0.1 * a.tanh()
    >>> cell, u = Leaky(), torch.linspace(-1, 1, 300).reshape(100, 3)
    >>> fast = sq.parallelize(cell)
    >>> torch.allclose(fast(u)[0], cell(u)[0], atol=1e-6), fast.report.method
    (True, 'scan')
    >>> sq.solve(cell, torch.zeros(3), u, method="quasi").ok
    True
    """

    state_size: int
    output_size: int | None = None
    structure: str | tuple[str, int] | None = None
    kernel: Any = None
    loop: Any = None
    derivative: Any = None
    derivative_loop: Any = None
    jacobian: Any = None
    linear: Any = None
    _settings: tuple[str, int | None] | None = None  # as `parallelize` set them
    _record: Any = None

    def project(self, u: Tensor) -> Tensor:
        """All of a step that depends on the input alone, (..., m) -> (..., g)."""
        return u

    def step_parameters(self) -> tuple[Tensor, ...]:
        """The tensors that a step uses."""
        return ()

    def step(self, x: Tensor, a: Tensor, params: tuple[Tensor, ...]) -> Tensor:
        """The next state (..., n) from the state and the projected input."""
        raise NotImplementedError(f"{type(self).__name__} does not say what a step is: define step(self, x, a, params)")

    def forward(self, inputs: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(outputs, state) for inputs (T, ..., m), time first, and the state (..., n) before them; None is zero."""
        n = getattr(self, "state_size", None)
        if not isinstance(n, int) or n < 1:
            raise ValueError(f"{type(self).__name__}.state_size is {n!r}; set it to the number of entries of a state")
        if not isinstance(inputs, Tensor) or inputs.dim() < 2 or not len(inputs):
            given = tuple(inputs.shape) if isinstance(inputs, Tensor) else type(inputs).__name__
            raise ValueError(f"the inputs are {given}; pass a tensor (T, ..., m) with time first and T of at least 1")
        drive = self.project(inputs)
        x0 = drive.new_zeros((*drive.shape[1:-1], n)) if state is None else state
        if tuple(x0.shape) != (*drive.shape[1:-1], n):
            raise ValueError(f"the state has shape {tuple(x0.shape)}; pass one of shape {(*drive.shape[1:-1], n)}")
        if self._settings is None:
            states = _looped(self, drive, x0)
        else:  # torch.compile would write down every step
            states = (uncompiled(_run) if compiling() else _run)(self, drive, x0)
        return states if self.output_size is None else states[..., : self.output_size], states[-1]

    @property
    def report(self) -> Report:
        """What the last call did, of a cell that `parallelize` returned."""
        if self._record is None:
            raise RuntimeError("there is no report before the first call of a cell that parallelize returned")
        if not isinstance(self._record, Report):
            self.__dict__["_record"] = _certified(*self._record)
        return self._record

    def __dir__(self):
        """No report before the first call: what looks at every attribute, as torch.jit.trace does, must not stumble."""
        return [name for name in super().__dir__() if name != "report" or self._record is not None]

    def __getstate__(self):
        return {k: v for k, v in super().__getstate__().items() if k not in ("_record", "_measured", "_agreed")}


class ProtocolRecurrence(StepRecurrence):
    """A `Cell` as the solver sees it: the inputs are projected once, the Jacobian is what the cell says it is."""

    def __init__(self, cell: Cell, x0: Tensor, drive: Tensor):
        params = tuple(p.detach() for p in cell.step_parameters())
        self.cell, self.params, self.checked = cell, params, False
        super().__init__(lambda x, a: cell.step(x, a, params), x0, drive)
        self.name = f"a cell of class {type(cell).__name__}"
        given = cell.structure if cell.linear is None else "diag"
        self.own = given if isinstance(given, tuple) else None if given is None else (given, 1)
        self.looked = cell.linear is not None or cell.jacobian is not None  # then it says what it is
        self.fused = _fusible(cell, drive)

    @classmethod
    def of(cls, cell: Cell, x0: Tensor, inputs: Tensor) -> ProtocolRecurrence:
        """Check what goes together, and project the inputs."""
        wanted = next((p.dtype for p in cell.parameters()), x0.dtype)
        if wanted != x0.dtype or x0.dtype != inputs.dtype:
            raise TypeError(f"the weights are {wanted} and the data {inputs.dtype}; convert one of them")
        n = cell.state_size
        if x0.shape[-1] != n or x0.shape[:-1] != inputs.shape[1:-1]:
            raise ValueError(
                f"x0 has shape {tuple(x0.shape)} and inputs {tuple(inputs.shape)}; {type(cell).__name__} needs x0"
                f" (..., {n}) and inputs (T, ..., m) with the same axes between"
            )
        with torch.no_grad():
            return cls(cell, x0, cell.project(inputs))

    @property
    def unstructured(self):
        return self.cell.linear is None and self.cell.jacobian is None and super().unstructured

    def linearize(self, before, first, structure=None):
        if structure is not None or self.structure is not None:
            return super().linearize(before, first, structure)
        u = self.inputs[first : first + len(before)]
        J = self._closed_form(before, u)
        if J is None:  # what the cell says is probed against autograd, and given up where it leaves something out
            return super().linearize(before, first)
        if not self.checked:
            self._compare(before[:1], u[:1])
        return self.evaluate(before, first), J

    def _closed_form(self, before: Tensor, u: Tensor) -> Linearization | None:
        if self.cell.linear is not None:
            return Diagonal(self.cell.linear(u)[0].expand_as(before).contiguous())
        if self.cell.jacobian is None:
            return None
        kind = "dense" if self.own is None else self.own[0]
        made: Any = {"diag": Diagonal, "block": Block, "dense": Dense}[kind]
        return made(self.cell.jacobian(before, u, self.params).contiguous())

    def _compare(self, before, u) -> None:
        """The Jacobian that the cell gives beside that of autograd, once."""
        _, exact = self._autograd(before, u)
        given: Any = self._closed_form(before, u)
        gap, size = float((exact.J - given.matrices()).abs().max()), float(exact.J.abs().max())
        self.checked = True
        if gap > 1e-3 * max(size, 1e-3):
            raise ValueError(
                f"the Jacobian that {type(self.cell).__name__} gives in closed form differs from the derivative of its"
                f" step by {gap:.2g} (largest entry {size:.2g}); correct `jacobian` or `linear`, or leave it out to"
                " have autograd find it"
            )

    def advance(self, x, first, last):
        drive = self.inputs[first:last]
        if not len(drive) or not x.numel() or not self.fused:
            return super().advance(x, first, last)
        with torch.no_grad():
            return _fused(self.cell, drive, x, torch.get_num_threads())


def _fusible(cell: Cell, drive: Tensor) -> bool:
    known = cell.linear is not None or loop_of(cell) is not None
    return known and drive.is_cpu and drive.dtype in (torch.float32, torch.float64)


def loop_of(cell: Cell) -> Any:
    """The compiled loop over the steps of a cell, or None."""
    for name in ("loop", "kernel"):
        found = inspect.getattr_static(type(cell), name)
        found = found.__func__ if isinstance(found, staticmethod) else found
        if found is not None:
            return found if name == "loop" else _around(found)
    return None


@cache
def _around(step: Any) -> Any:
    step = step if isinstance(step, Dispatcher) else compiled(step)

    def loop(start, drive, params, states, low, high):
        for b in range(low, high):
            x = start[b]
            for t in range(len(drive)):
                step(x, drive[t, b], params, states[t, b])
                x = states[t, b]

    made = compiled(loop)
    made._cache = NullCache()  # numba would key a file by the identity of `step`, which another process has not
    return made


def _looped(cell: Cell, drive: Tensor, x: Tensor) -> Tensor:
    """The steps one by one in torch."""
    params, states = cell.step_parameters(), []
    for a in drive:
        new = cell.step(x, a, params)
        if new.shape != x.shape:
            raise ValueError(
                f"{type(cell).__name__}.step returned shape {tuple(new.shape)} for a state of shape {tuple(x.shape)};"
                " it must return the shape of the state"
            )
        x = new
        states.append(x)
    return torch.stack(states)


def _fused(cell: Cell, drive: Tensor, x0: Tensor, workers: int) -> Tensor:
    """The states by one scan, which carries its gradient, or by one compiled loop, which does not."""
    if cell.linear is not None:
        from .scan import affine_scan

        A, b = cell.linear(drive)
        return affine_scan(A, b, x0, workers=1)
    n = x0.shape[-1]
    dtype = torch.promote_types(drive.dtype, x0.dtype)
    a = drive.detach().reshape(len(drive), -1, drive.shape[-1]).to(dtype).numpy().copy(order="C")  # a step may write
    start = x0.detach().reshape(-1, n).to(dtype).contiguous().numpy()
    params = tuple(p.detach().to(dtype).contiguous().numpy() for p in cell.step_parameters())
    states, loop, batch = torch.empty((len(drive), len(start), n), dtype=dtype), loop_of(cell), len(start)
    seconds = len(drive) * batch * (5e-8 + 1e-9 * drive.shape[-1] + 2e-10 * sum(p.size for p in params))
    workers = max(1, min(workers, batch, 1 + int(seconds / _WORTH_A_THREAD)))
    cuts, out = [batch * k // workers for k in range(workers + 1)], states.numpy()
    thread_map(lambda rows: loop(start, a, params, out, *rows), pairwise(cuts), workers)
    return states.reshape(len(drive), *x0.shape)


def _run(cell: Cell, drive: Tensor, x0: Tensor) -> Tensor:
    """What `parallelize` made of a cell: the faster of the two, and a record of it."""
    method, workers = cell._settings or ("auto", None)
    workers = torch.get_num_threads() if workers is None else resolve_workers(workers)
    reason = _obstacle(cell, drive, x0)
    if method == "sequential" and reason:
        raise ValueError(f"method='sequential' cannot run here: {reason}; use method='auto'")
    fused = method != "torch" and not reason
    if not reason:
        reason = "asked for"
        if method == "auto":
            fused, reason = _faster(cell, drive, x0)
    name = "torch" if not fused else "sequential" if cell.linear is None else "scan"
    params = cell.step_parameters()
    states: Any
    if not fused:
        states = _looped(cell, drive, x0)
    elif cell.linear is None and torch.is_grad_enabled() and any(t.requires_grad for t in (drive, x0, *params)):
        states = CellGradient.apply(_fused, cell, workers, drive, x0, *params)  # pyright: ignore
    else:
        states = _fused(cell, drive, x0, workers)
    if not tracing():
        one = x0.detach().reshape(-1, x0.shape[-1])[:1]
        sample = drive.detach()[:_SAMPLE].reshape(min(len(drive), _SAMPLE), -1, drive.shape[-1])[:, :1]
        cell.__dict__["_record"] = (cell, name, reason, one.clone(), sample.clone(), states.detach(), workers)
    return states


def _obstacle(cell: Cell, drive: Tensor, x0: Tensor) -> str:
    """Why the steps have to run in torch; empty where they need not."""
    if tracing():
        return "torch.export and torch.jit.trace follow the steps themselves"
    if cell.linear is None and loop_of(cell) is None:
        return f"{type(cell).__name__} has neither a kernel nor a linear form"
    if getattr(torch._C, "_are_functorch_transforms_active", bool)():
        return "a functorch transform is active"
    if torch.is_autocast_enabled("cpu"):
        return "autocast is on"
    if not drive.is_cpu or not x0.is_cpu:
        return f"the data are on {drive.device}, and the fused loop runs on the CPU"
    if drive.dtype not in (torch.float32, torch.float64) or x0.dtype != drive.dtype:
        return f"the dtypes are {drive.dtype} and {x0.dtype}, and the fused loop runs in float32 or float64"
    return "" if x0.numel() else "the batch is empty"


def _faster(cell: Cell, drive: Tensor, x0: Tensor) -> tuple[bool, str]:
    """Measure a few steps of both, once for each size of a batch, and remember which was faster."""
    if cell.linear is not None:
        return True, "the recurrence is linear in its state, hence one affine scan"
    known = cell.__dict__.setdefault("_measured", {})
    long = drive[:_LONG].detach()
    key = (x0.numel(), len(long).bit_length(), drive.dtype, torch.get_num_threads())
    if key not in known:
        with torch.no_grad():
            known[key] = (
                _seconds_a_step(lambda some: _looped(cell, some, x0), long[:_TRIAL]),
                _seconds_a_step(lambda some: _fused(cell, some, x0, 1), long),
            )
    torch_step, fused_step = known[key]
    figures = f"{fused_step * 1e6:.3g} us a step against {torch_step * 1e6:.3g} us in torch, measured once"
    if fused_step < _MARGIN * torch_step:
        return True, f"the fused loop is faster here: {figures}"
    return False, f"the fused loop is not surely faster here: {figures}"


def _seconds_a_step(run, some: Tensor) -> float:
    """The best of three, after one call that may have to compile."""
    run(some)
    found = []
    for _ in range(3):
        clock = time.perf_counter()
        run(some)
        found.append((time.perf_counter() - clock) / len(some))
    return min(found)


def _certified(cell, method, reason, start, drive, states, workers) -> Report:
    """As for torch's modules: finite, and rounding errors do not grow on the first steps of the first sequence."""
    finite, steps = bool(torch.isfinite(states).all()), len(states)
    if method == "torch":
        status = Status.TORCH if finite else Status.NONFINITE
        return Report(method, reason, Certificate("torch", finite=finite), status, steps, workers)
    lyapunov = bound = amplification = None
    if finite and len(drive) >= _SHORT:
        with torch.no_grad():
            problem = ProtocolRecurrence(cell, start, drive)
            growth = Growth(problem, torch.finfo(drive.dtype).eps)
            growth.run(problem.advance(start, 0, len(drive)), 0, len(drive))
        lyapunov, bound, amplification = growth.lyapunov, growth.bound, growth.amplification
    certificate = Certificate("exact sequential", 0.0, amplification, bound, lyapunov=lyapunov, finite=finite)
    status = Status.SEQUENTIAL
    if not finite:
        status = Status.NONFINITE
    elif not certificate.ok:
        status = Status.CHAOTIC if (lyapunov or 0) > 0 else Status.SENSITIVE
    return Report(method, reason, certificate, status, steps, workers)
