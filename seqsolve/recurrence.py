"""A recurrence x_t = f(x_{t-1}, u_t) as the solver sees it: evaluate, linearise, advance."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ._checks import as_tensor, working_dtype
from .cells import GATES, Layout, Track, Weights, run_layer
from .lanes import Lanes
from .linearization import Block, Dense, Diagonal, Gates, Linearization, LowRank, restructure

Structure = tuple[str, int] | None
_WORTH = 3  # numbers in a state from which on two backward passes are fewer than one for each
_TYPICAL = 32  # steps whose Jacobians at zero are averaged where a constant matrix has to be derived


class Recurrence(Protocol):
    """What the driver needs to know. States are (..., n), time comes first, steps are numbered from 0."""

    x0: Tensor
    inputs: Tensor
    steps: int
    name: str
    structure: Structure  # of the Jacobians that a method sees; the certificate takes them as they are

    @property
    def unstructured(self) -> bool:
        """Nothing is known of the Jacobians: `linearize` needs n passes a step, and `apply` makes single steps."""
        ...

    def evaluate(self, before: Tensor, first: int) -> Tensor:
        """f(x_{t-1}, u_t) for t = first.. with the states before each step given: all steps at once."""
        ...

    def linearize(self, before: Tensor, first: int, structure: Structure = None) -> tuple[Tensor, Linearization]:
        """`evaluate` together with the Jacobians there: exact, or as much of them as the structure holds."""
        ...

    def typical(self, first: int, last: int) -> Tensor:
        """One matrix in place of all Jacobians, for a linear recurrence that resembles this one."""
        ...

    def advance(self, x: Tensor, first: int, last: int) -> Tensor:
        """Steps first..last in order, from state x."""
        ...


def _mean_at_zero(problem: Recurrence, first: int, last: int) -> Tensor:
    """The mean Jacobian at x = 0 over the first inputs of a window, over a batch too."""
    last = min(last, first + _TYPICAL)
    J = problem.linearize(problem.x0.new_zeros((last - first, *problem.x0.shape)), first)[1].matrices()
    J = J.reshape(-1, *J.shape[-2:])
    J = J[torch.isfinite(J).flatten(1).all(1)]
    return J.mean(0) if len(J) else torch.zeros(J.shape[1:], dtype=J.dtype)


class StepRecurrence:
    """A user's own step(x, u), batched over leading axes, in torch.

    With gradients enabled all that it returns carries a graph. Units that act on themselves alone are recognised at the
    first linearisation: two backward passes in place of n then give the Jacobians, and one of them is a probe which, at
    every linearisation, shows whether anything stands beside the diagonal.
    """

    name = "a step of the user"
    structure: Structure = None
    faithful = True  # no probe has shown that the structure leaves something out
    own: Structure = None  # what all Jacobians so far were found to be
    looked = False  # whether that was tried

    def __init__(self, step: Callable, x0: Tensor, inputs: Tensor):
        self.step, self.x0, self.inputs, self.steps = step, x0, inputs, len(inputs)
        self.differences: bool | None = None  # decided at the first linearisation
        if self.steps and x0.numel():
            one = self._checked(step(x0, inputs[0]), x0, inputs[0])
            one = one.detach()
            if not one.dtype.is_floating_point:
                raise TypeError(f"step returned {one.dtype}; it must return {x0.dtype}, the dtype of x0")
            other = one + torch.linspace(0.1, 0.5, one.numel(), dtype=one.dtype).reshape(one.shape)
            pair = torch.stack([x0.detach(), other]), inputs[:1].expand(2, *inputs.shape[1:])
            both = self._checked(step(*pair), *pair).detach()
            scale = max(1.0, float(one.abs().max())) if one.numel() else 1.0
            if torch.isfinite(one).all() and not torch.allclose(both[0], one, rtol=1e-3, atol=1e-3 * scale):
                raise ValueError(
                    "step gives another result when states are stacked on a leading axis: it must treat leading axes"
                    " as a batch (use x[..., i], x @ A.T, torch.cat(..., dim=-1)) and have no side effects"
                )

    def _checked(self, y, x, u) -> Tensor:
        if not isinstance(y, Tensor):
            raise TypeError(f"step returned {type(y).__name__}; it must return a torch tensor, shape {tuple(x.shape)}")
        if y.shape != x.shape:
            raise ValueError(
                f"step returned shape {tuple(y.shape)} for a state of shape {tuple(x.shape)} and an input of shape"
                f" {tuple(u.shape)}; it must return the shape of the state"
            )
        return y if torch.is_grad_enabled() else y.detach()

    def evaluate(self, before, first):
        return self.apply(before, self.inputs[first : first + len(before)])

    @property
    def unstructured(self):
        self._look(self.x0[None], self.inputs[:1])
        return (self.structure is None and self.own is None) or not self.faithful

    def _look(self, before, u) -> None:
        """Find out once whether autograd is right, and whether the Jacobian here is diagonal."""
        if self.differences is None:
            with torch.no_grad():
                self.differences = not self._autograd_is_right(before[:1].detach(), u[:1].detach())
        if not self.looked and not self.differences and before.shape[-1] >= _WORTH:
            self.looked = True
            if self.structure is None and self.own is None:
                with torch.no_grad():
                    self._structured(before[:1].detach(), u[:1].detach(), ("diag", 1))
                self.own = ("diag", 1) if self.faithful else None

    def apply(self, x, u):
        """One step of states and inputs that are stacked on leading axes."""
        return self._checked(self.step(x, u), x, u)

    def linearize(self, before, first, structure=None):
        u = self.inputs[first : first + len(before)]
        self._look(before, u)
        known = self.structure or self.own
        if structure is None and known is not None and self.faithful:
            values, linear = self._structured(before, u, known)
            if self.faithful:
                return values, linear
        if structure is None or structure[0] == "dense":
            return self._differences(before, u) if self.differences else self._autograd(before, u)
        return self._structured(before, u, structure)

    def typical(self, first, last):
        return _mean_at_zero(self, first, last)

    def _rows(self, before, u, V):
        """f there and V_k^T J for rows V of shape (k, n): one backward pass on k copies of the batch."""
        graph = torch.is_grad_enabled()
        with torch.inference_mode(False), torch.enable_grad():
            k = len(V)
            x = before.clone().expand(k, *before.shape)
            x = x if graph and x.requires_grad else x.detach().clone().requires_grad_()
            y = self.step(x, u.clone().expand(k, *u.shape))
            rows = V.reshape(k, *[1] * (before.dim() - 1), V.shape[-1]).expand_as(y)
            R = None
            if y.requires_grad:
                R = torch.autograd.grad(y, x, rows, allow_unused=True, create_graph=graph, retain_graph=graph or None)
                R = R[0]
            if R is None:
                R = torch.zeros_like(x.detach())
        return self._checked(y[0], before, u), R if graph else R.detach()

    def _autograd(self, before, u):
        """Copy k of the batch asks for row k of the Jacobians."""
        values, R = self._rows(before, u, torch.eye(before.shape[-1], dtype=before.dtype))
        return values, Dense(R.movedim(0, -2))

    def _structured(self, before, u, structure):
        """As few backward passes as the structure needs, and one probe of what it leaves out."""
        kind, size = structure
        n = before.shape[-1]
        if self.differences:
            values, dense = self._differences(before, u)
            linear = restructure(dense, kind, size)
            self.faithful &= bool(torch.allclose(linear.matrices(), dense.matrices(), rtol=1e-3, atol=1e-5))
            return values, linear
        probe = torch.cos(torch.arange(1.0, n + 1, dtype=before.dtype))  # any row with entries that do not repeat
        if kind == "low-rank":  # rows that span the row space, then the columns of J in that space
            V = torch.randn(size, n, generator=torch.Generator().manual_seed(20311), dtype=torch.float64)
            values, R = self._rows(before, u, torch.cat([V.to(probe.dtype), probe[None]]))
            Q = torch.linalg.qr(R[:-1].movedim(0, -1).nan_to_num(0, 0, 0))[0]  # (T, ..., n, r)
            linear = LowRank(self._columns(before, u, Q), Q)
            guess = (probe @ linear.B)[..., None, :] @ Q.transpose(-1, -2)
            self._probed(R[-1], guess[..., 0, :])
            return values, linear
        k = size if kind == "block" else 1  # row i of every block at once: blocks share no column
        V = torch.eye(k, dtype=before.dtype).repeat(1, n // k)
        values, R = self._rows(before, u, torch.cat([V, probe[None]]))
        if kind == "diag":
            self._probed(R[-1], R[0] * probe)
            return values, Diagonal(R[0])
        blocks = R[:-1].unflatten(-1, (n // k, k)).movedim(0, -2)  # (T, ..., n/k, row, column)
        self._probed(R[-1], (probe.reshape(n // k, 1, k) @ blocks)[..., 0, :].flatten(-2))
        return values, Block(blocks)

    def _probed(self, truth, guess) -> None:
        good = torch.isfinite(truth) & torch.isfinite(guess)
        gap, size = torch.where(good, truth - guess, 0.0).abs().max(), torch.where(good, truth, 0.0).abs().max()
        self.faithful &= bool(gap <= 1e3 * torch.finfo(truth.dtype).eps * size)

    def _columns(self, before, u, Q):
        """J_t Q_t on r copies of the batch: v^T J is linear in v, and its derivative by v along Q is J Q."""
        V = Q.movedim(-1, 0)
        graph = torch.is_grad_enabled()
        with torch.inference_mode(False), torch.enable_grad():
            x = before.clone().expand(V.shape)
            x = x if graph and x.requires_grad else x.detach().clone().requires_grad_()
            y = self.step(x, u.clone().expand(len(V), *u.shape))
            v = torch.zeros_like(y, requires_grad=True)
            row = torch.autograd.grad(y, x, v, create_graph=True, allow_unused=True)[0] if y.requires_grad else None
            moved = None
            if row is not None and row.requires_grad:
                moved = torch.autograd.grad(row, v, V.clone(), create_graph=graph, allow_unused=True)[0]
            moved = torch.zeros_like(V) if moved is None else moved
        return (moved if graph else moved.detach()).movedim(0, -1)

    def _differences(self, before, u):
        """Central differences, for a step that autograd cannot look into."""
        n, info = before.shape[-1], torch.finfo(before.dtype)
        size = float(before.detach().abs().max())
        size = size or float(self.step(before, u).detach().abs().max()) or 1.0  # at rest the next state gives the scale
        size = size if math.isfinite(size) else 1.0
        width = info.eps ** (1 / 3) * before.abs().clamp(min=1e-3 * size + info.tiny)
        shift = torch.diag_embed(width).movedim(-2, 0)
        both = torch.cat([before + shift, before - shift, before[None]])
        y = self.step(both, u.expand(len(both), *u.shape))
        return self._checked(y[-1], before, u), Dense((y[:n] - y[n:-1]).movedim(0, -1) / (2 * width[..., None, :]))

    def _autograd_is_right(self, before, u) -> bool:
        """A step that detaches, or leaves torch for a while, has derivatives that autograd knows nothing of."""
        v = torch.ones_like(before)
        _, exact = self._differences(before, u)
        try:
            _, ours = self._autograd(before, u)
        except RuntimeError:
            return False
        known, found = (J.scan(torch.zeros_like(v), v[0]) for J in (exact, ours))
        size = float(known.abs().max())
        return not math.isfinite(size) or bool((known - found).abs().max() <= 0.05 * size + 1e-6)

    def advance(self, x, first, last):
        out = torch.empty((last - first, *self.x0.shape), dtype=self.x0.dtype)
        for t in range(first, last):
            x = self._checked(self.step(x, self.inputs[t]), x, self.inputs[t])
            out[t - first] = x
        return out


class CellRecurrence:
    """nn.RNN, nn.GRU, nn.LSTM (one layer, one direction) or their cells; an LSTM's state is h and c side by side."""

    structure: Structure = None
    unstructured = False

    def __init__(self, weights: Weights, x0: Tensor, inputs: Tensor):
        self.weights, self.x0, self.inputs, self.steps = weights, x0, inputs, len(inputs)
        self.kind, self.name = weights.kind, f"a {weights.kind} cell of {weights.hidden} units"
        self.W, self.U = torch.from_numpy(weights.w_ih), torch.from_numpy(weights.w_hh)
        self.b, self.bh = (None if a is None else torch.from_numpy(a) for a in (weights.b_ih, weights.b_hh))
        self.track: Track | None = None
        self.lanes: Lanes | None = None

    def evaluate(self, before, first):
        return self._values(before, first)[0]

    def linearize(self, before, first, structure=None):
        x, D, C = self._values(before, first)
        T, n = len(before), self.weights.hidden
        batch = before[0].numel() // before.shape[-1]
        D = D.reshape(T, batch, *((2, n) if self.kind == "lstm" else (n,)))
        C = C.reshape(T, batch, GATES[self.kind], n)
        linear = Gates(self.weights.w_hh, D, C, tuple(self.x0.shape), self.kind == "lstm")
        return x, linear if structure is None else restructure(linear, *structure)

    def typical(self, first, last):
        if self.kind == "rnn_tanh":
            return self.U
        if self.kind == "gru":  # z = r = 1/2: x <- (x + tanh(W u + U_n x / 2)) / 2
            return (torch.eye(len(self.U) // 3, dtype=self.U.dtype) + self.U.chunk(3)[2] / 2) / 2
        return _mean_at_zero(self, first, last)

    def _values(self, before, first):
        u = self.inputs[first : first + len(before)]
        return cell_values(self.kind, before, u, self.W, self.U, self.b, self.bh)

    def advance(self, x, first, last):
        if last == first:
            return x.new_empty((0, *self.x0.shape))
        if self.kind == "lstm":  # the kernel of one sequence keeps c to itself, the solver needs all of them
            return self._lstm(x, first, last)
        h = x.reshape(-1, self.weights.hidden).numpy()
        if self.track is None:
            self.track = Track(self.weights, h, None)
        self.track.h[:, : self.weights.hidden] = h
        u = self.inputs[first:last].reshape(-1, self.inputs.shape[-1])
        out = torch.empty((len(u), self.weights.hidden), dtype=x.dtype)
        run_layer(
            [self.track],
            u.contiguous().numpy(),
            Layout.padded(last - first, len(h)),
            out.numpy(),
            torch.get_num_threads(),
        )
        return out.reshape(last - first, *self.x0.shape)

    def _lstm(self, x, first, last):
        """States h and c by the kernel in which a lane is a sequence, if only one of them."""
        if self.lanes is None:
            self.lanes = Lanes(self.weights)
        states = x.reshape(-1, x.shape[-1]).numpy()
        batch, rows = len(states), np.arange(len(states))
        u = self.inputs[first:last].reshape(-1, self.inputs.shape[-1]).contiguous().numpy()
        out = torch.empty((last - first, *self.x0.shape), dtype=x.dtype)
        to = out.view(-1, x.shape[-1]).numpy()
        self.lanes.advance(u, states, to, rows, rows, last - first, stride=batch, cells=True)
        return out


def cell_values(kind: str, before: Tensor, u: Tensor, W, U, b, bh) -> tuple[Tensor, Tensor, Tensor]:
    """The next states of a cell in torch's own formulas, and D, C of its Jacobians (see `gate_scan`, `lstm_scan`)."""
    H = U.shape[1]
    a, d = nn.functional.linear(u, W, b), nn.functional.linear(before[..., :H], U, bh)
    if kind == "rnn_tanh":
        x = torch.tanh(a + d)
        return x, torch.zeros_like(x), 1 - x * x
    if kind == "rnn_relu":
        x = torch.relu(a + d)
        return x, torch.zeros_like(x), (x > 0).to(x.dtype)
    if kind == "gru":
        (ar, az, an), (dr, dz, dn) = a.chunk(3, -1), d.chunk(3, -1)
        r, z = torch.sigmoid(ar + dr), torch.sigmoid(az + dz)
        n = torch.tanh(an + r * dn)
        inner = (1 - z) * (1 - n * n)
        C = torch.stack([inner * dn * r * (1 - r), (before - n) * z * (1 - z), inner * r], dim=-2)
        return n + z * (before - n), z, C
    i, f, g, o = (a + d).chunk(4, -1)
    i, f, g, o = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)
    c = before[..., H:]
    new = f * c + i * g
    s = torch.tanh(new)
    C = torch.stack([g * i * (1 - i), c * f * (1 - f), i * (1 - g * g), s * o * (1 - o)], dim=-2)
    return torch.cat([o * s, new], dim=-1), torch.stack([f, o * (1 - s * s)], dim=-2), C


def cell_tensors(module: Any) -> tuple[str, list[Any]] | None:
    """Kind and W, U, b, b_h of a module that has a kernel; None for a callable that is a step of the user."""
    suffix = ""
    if isinstance(module, nn.RNNBase):
        if module.num_layers > 1 or module.bidirectional or module.proj_size:
            raise ValueError(
                f"solve takes one layer in one direction without projection, got {module}; parallelize(module) runs"
                " the whole module"
            )
        kind, suffix = module.mode.lower(), "_l0"
    elif isinstance(module, nn.RNNCell):
        kind = f"rnn_{module.nonlinearity}"
    elif isinstance(module, nn.GRUCell):
        kind = "gru"
    elif isinstance(module, nn.LSTMCell):
        kind = "lstm"
    else:
        return None
    names = [f"{name}{suffix}" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    return kind, [getattr(module, name, None) for name in names]


def _weights(module: Any) -> Weights | None:
    found = cell_tensors(module)
    if found is None:
        return None
    kind, tensors = found
    for t in tensors:
        if t is not None and not t.is_cpu:
            raise ValueError(f"the weights are on {t.device}; solve runs on the CPU: pass module.cpu()")
    arrays = [None if t is None else t.detach().contiguous().numpy() for t in tensors]
    return Weights(kind, *arrays)  # pyright: ignore[reportArgumentType]  (only biases can be missing)


def as_recurrence(step: Any, x0: Any, inputs: Any) -> Recurrence:
    """Recognise what was given and check shapes and dtypes."""
    if not callable(step):
        raise TypeError(f"step is {type(step).__name__}; pass a torch recurrent module, a cell, or step(x, u) -> x")
    if isinstance(x0, tuple) and len(x0) == 2 and isinstance(step, nn.LSTM | nn.LSTMCell):
        x0 = torch.cat([as_tensor(x, "x0") for x in x0], dim=-1)
    x0, inputs = as_tensor(x0, "x0"), as_tensor(inputs, "inputs")
    for tensor, name in ((x0, "x0"), (inputs, "inputs")):
        if not tensor.is_cpu:
            raise ValueError(f"{name} is on {tensor.device}; solve runs on the CPU: pass {name}.cpu()")
        if tensor.dim() == 0:
            raise ValueError(f"{name} is a single number; pass shape {'(..., n)' if name == 'x0' else '(T, ..., m)'}")
    dtype = working_dtype(x0, inputs)
    if dtype.is_complex:
        raise TypeError("solve takes real states; stack real and imaginary parts on the last axis")
    weights = _weights(step)
    if weights is not None:
        wanted = torch.from_numpy(weights.w_hh).dtype
        if working_dtype(torch.empty(0, dtype=wanted)) != wanted or torch.promote_types(dtype, wanted) != wanted:
            raise TypeError(f"the weights are {wanted} and the data {dtype}; convert one of them")
        x0, inputs = x0.detach().to(wanted), inputs.detach().to(wanted)
        size = weights.hidden * (2 if weights.kind == "lstm" else 1)
        if x0.shape[-1] != size or inputs.shape[-1] != weights.w_ih.shape[1] or x0.shape[:-1] != inputs.shape[1:-1]:
            raise ValueError(
                f"x0 has shape {tuple(x0.shape)} and inputs {tuple(inputs.shape)}; {step} needs x0 (..., {size}) and"
                f" inputs (T, ..., {weights.w_ih.shape[1]}) with the same axes between"
            )
        return CellRecurrence(weights, x0, inputs)
    from .protocol import Cell, ProtocolRecurrence

    if isinstance(step, Cell):
        return ProtocolRecurrence.of(step, x0.detach().to(dtype), inputs.detach().to(dtype))
    return StepRecurrence(step, x0.detach().to(dtype), inputs.detach().to(dtype))
