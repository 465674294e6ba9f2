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


class Linearization(Protocol):
    """The Jacobians J_t of a stretch of steps."""

    def scan(self, rhs: Tensor, start: Tensor) -> Tensor:
        """All d_t = J_t d_{t-1} + rhs_t."""
        ...


class Recurrence(Protocol):
    """What the driver needs to know. States are (..., n), time comes first, steps are numbered from 0."""

    x0: Tensor
    steps: int
    name: str

    def evaluate(self, before: Tensor, first: int) -> Tensor:
        """f(x_{t-1}, u_t) for t = first.. with the states before each step given: all steps at once."""
        ...

    def linearize(self, before: Tensor, first: int) -> tuple[Tensor, Linearization]:
        """`evaluate` together with the Jacobians there."""
        ...

    def advance(self, x: Tensor, first: int, last: int) -> Tensor:
        """Steps first..last in order, from state x."""
        ...


class _Dense:
    """Jacobians as matrices, (T, ..., n, n)."""

    def __init__(self, J: Tensor):
        self.J = J

    def scan(self, rhs, start):
        from . import _scan_kernels as kernels

        T, n = rhs.shape[0], rhs.shape[-1]
        J, b = self.J.reshape(T, -1, n, n), rhs.reshape(T, -1, n)
        out, v = torch.empty_like(b), start.reshape(-1, n)
        for i in range(b.shape[1]):
            mine = np.empty((T, n), b.numpy().dtype)
            kernels.dense_scan(
                J[:, i].contiguous().numpy(), b[:, i].contiguous().numpy(), v[i].clone().numpy(), mine, False
            )
            out[:, i] = torch.from_numpy(mine)
        return out.reshape(rhs.shape)


class _Gates:
    """Jacobians of a known cell, applied through its weights."""

    def __init__(self, U: np.ndarray, D: Tensor, C: Tensor, lstm: bool):
        self.U, self.D, self.C, self.lstm = U, D, C, lstm

    def scan(self, rhs, start):
        from . import _scan_kernels as kernels

        kernel = kernels.lstm_scan if self.lstm else kernels.gate_scan
        T, n = rhs.shape[0], rhs.shape[-1]
        b, v = rhs.reshape(T, -1, n), start.reshape(-1, n)
        out = torch.empty_like(b)
        for i in range(b.shape[1]):
            mine = np.empty((T, n), b.numpy().dtype)
            D, C, mine_b = (t[:, i].contiguous().numpy() for t in (self.D, self.C, b))
            kernel(self.U, D, C, mine_b, v[i].clone().numpy(), mine)
            out[:, i] = torch.from_numpy(mine)
        return out.reshape(rhs.shape)


class StepRecurrence:
    """A user's own step(x, u), batched over leading axes, in torch."""

    name = "a step of the user"

    def __init__(self, step: Callable, x0: Tensor, inputs: Tensor):
        self.step, self.x0, self.inputs, self.steps = step, x0, inputs, len(inputs)
        self.differences: bool | None = None  # decided at the first linearisation
        if self.steps and x0.numel():
            one = self._checked(step(x0, inputs[0]), x0, inputs[0])
            if not one.dtype.is_floating_point:
                raise TypeError(f"step returned {one.dtype}; it must return {x0.dtype}, the dtype of x0")
            other = one + torch.linspace(0.1, 0.5, one.numel(), dtype=one.dtype).reshape(one.shape)
            pair = torch.stack([x0, other]), inputs[:1].expand(2, *inputs.shape[1:])
            both = self._checked(step(*pair), *pair)
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
        return y.detach()

    def evaluate(self, before, first):
        u = self.inputs[first : first + len(before)]
        return self._checked(self.step(before, u), before, u)

    def linearize(self, before, first):
        u = self.inputs[first : first + len(before)]
        if self.differences is None:
            self.differences = not self._autograd_is_right(before[:1], u[:1])
        return self._differences(before, u) if self.differences else self._autograd(before, u)

    def _autograd(self, before, u):
        """One backward pass on n copies of the batch, copy k asking for row k of the Jacobians."""
        n = before.shape[-1]
        with torch.inference_mode(False), torch.enable_grad():
            x = before.clone().expand(n, *before.shape).clone().requires_grad_()
            y = self.step(x, u.clone().expand(n, *u.shape))
            rows = torch.eye(n, dtype=x.dtype).reshape(n, *[1] * (before.dim() - 1), n).expand_as(y)
            J = torch.autograd.grad(y, x, rows, allow_unused=True)[0] if y.requires_grad else None
        values = self._checked(y[0], before, u)
        return values, _Dense(torch.zeros_like(x.detach()).movedim(0, -2) if J is None else J.movedim(0, -2))

    def _differences(self, before, u):
        """Central differences, for a step that autograd cannot look into."""
        n, info = before.shape[-1], torch.finfo(before.dtype)
        width = info.eps ** (1 / 3) * before.abs().clamp(min=1e-3 * float(before.abs().max()) + info.tiny)
        shift = torch.diag_embed(width).movedim(-2, 0)
        both = torch.cat([before + shift, before - shift, before[None]])
        y = self.step(both, u.expand(len(both), *u.shape)).detach()
        return self._checked(y[-1], before, u), _Dense((y[:n] - y[n:-1]).movedim(0, -1) / (2 * width[..., None, :]))

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

    def __init__(self, weights: Weights, x0: Tensor, inputs: Tensor):
        self.weights, self.x0, self.inputs, self.steps = weights, x0, inputs, len(inputs)
        self.kind, self.name = weights.kind, f"a {weights.kind} cell of {weights.hidden} units"
        self.W, self.U = torch.from_numpy(weights.w_ih), torch.from_numpy(weights.w_hh)
        self.b, self.bh = (None if a is None else torch.from_numpy(a) for a in (weights.b_ih, weights.b_hh))
        self.track: Track | None = None

    def _gates(self, before, first):
        h = before[..., : self.weights.hidden]
        u = self.inputs[first : first + len(before)]
        return nn.functional.linear(u, self.W, self.b), nn.functional.linear(h, self.U, self.bh)

    def evaluate(self, before, first):
        return self._values(before, first)[0]

    def linearize(self, before, first):
        x, D, C = self._values(before, first)
        T, n = len(before), self.weights.hidden
        batch = before[0].numel() // before.shape[-1]
        D = D.reshape(T, batch, *((2, n) if self.kind == "lstm" else (n,)))
        return x, _Gates(self.weights.w_hh, D, C.reshape(T, batch, GATES[self.kind], n), self.kind == "lstm")

    def _values(self, before, first):
        """The next states, and D, C of the linearisation (see `gate_scan` and `lstm_scan`)."""
        a, d = self._gates(before, first)
        if self.kind == "rnn_tanh":
            x = torch.tanh(a + d)
            return x, torch.zeros_like(x), 1 - x * x
        if self.kind == "rnn_relu":
            x = torch.relu(a + d)
            return x, torch.zeros_like(x), (x > 0).to(x.dtype)
        if self.kind == "gru":
            (ar, az, an), (dr, dz, dn) = a.chunk(3, -1), d.chunk(3, -1)
            r, z = torch.sigmoid(ar + dr), torch.sigmoid(az + dz)
            n = torch.tanh(an + r * dn)
            inner = (1 - z) * (1 - n * n)
            C = torch.stack([inner * dn * r * (1 - r), (before - n) * z * (1 - z), inner * r], dim=-2)
            return n + z * (before - n), z, C
        i, f, g, o = (a + d).chunk(4, -1)
        i, f, g, o = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)
        c = before[..., self.weights.hidden :]
        new = f * c + i * g
        s = torch.tanh(new)
        C = torch.stack([g * i * (1 - i), c * f * (1 - f), i * (1 - g * g), s * o * (1 - o)], dim=-2)
        return torch.cat([o * s, new], dim=-1), torch.stack([f, o * (1 - s * s)], dim=-2), C

    def advance(self, x, first, last):
        if last == first:
            return x.new_empty((0, *self.x0.shape))
        if self.kind == "lstm":  # the kernel keeps c to itself, the solver needs all of them
            out = torch.empty((last - first, *self.x0.shape), dtype=x.dtype)
            for t in range(first, last):
                x = self.evaluate(x[None], t)[0]
                out[t - first] = x
            return out
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


def _weights(module: Any) -> Weights | None:
    """The weights of a module that has a kernel; None for a callable that is a step of the user."""
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
    tensors = [getattr(module, name, None) for name in names]
    for t in tensors:
        if t is not None and not t.is_cpu:
            raise ValueError(f"the weights are on {t.device}; solve runs on the CPU: pass module.cpu()")
    arrays = [None if t is None else t.detach().contiguous().numpy() for t in tensors]
    return Weights(kind, *arrays)  # pyright: ignore[reportArgumentType]  (only biases can be missing)


def refuse_gradients(x0: Any, inputs: Any) -> None:
    """The solver builds no graph: whoever expects one must hear of it."""
    for value, name in ((x0, "x0"), (inputs, "inputs")):
        if torch.is_grad_enabled() and isinstance(value, Tensor) and value.requires_grad:
            raise ValueError(
                f"{name} requires grad, but solve does not build a graph yet; pass {name}.detach() or use"
                " torch.no_grad()"
            )


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
    return StepRecurrence(step, x0.detach().to(dtype), inputs.detach().to(dtype))
