"""Recurrent cells from the literature, each through the protocol of `Cell`: LEM, minGRU, minLSTM, IndRNN, CfC."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from . import _published_kernels as kernels
from ._checks import choice, positive_integer
from .protocol import Cell


class _Projected(Cell):
    """A cell whose inputs go through one linear map into all its gates."""

    def __init__(self, input_size: int, hidden_size: int, gates: int, *, bias: bool, dtype, device):
        super().__init__()
        self.input_size = positive_integer(input_size, "input_size")
        self.hidden_size = self.state_size = positive_integer(hidden_size, "hidden_size")
        options = {"dtype": dtype, "device": device}
        self.weight_ih = nn.Parameter(torch.empty(gates * hidden_size, input_size, **options))
        self.bias = nn.Parameter(torch.empty(gates * hidden_size, **options)) if bias else None

    def _recurrent(self, *shape: int) -> nn.Parameter:
        return nn.Parameter(self.weight_ih.detach().new_empty(shape))

    def reset_parameters(self) -> None:
        """Every parameter from U(-1/sqrt(H), 1/sqrt(H)), as torch's own recurrent modules."""
        bound = self.hidden_size**-0.5
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def project(self, u: Tensor) -> Tensor:
        """W u + b of all gates."""
        if u.shape[-1] != self.input_size:
            raise ValueError(
                f"the inputs have {u.shape[-1]} numbers a step; {type(self).__name__} takes {self.input_size}"
            )
        return nn.functional.linear(u, self.weight_ih, self.bias)

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}"


class LEM(_Projected):
    r"""Long expressive memory: two coupled states with time steps that are learned.

    .. math::

        \Delta_t &= \Delta\,\sigma(W_1 y_{t-1} + V_1 u_t + b_1), \quad
        \bar\Delta_t = \Delta\,\sigma(W_2 y_{t-1} + V_2 u_t + b_2) \\
        z_t &= (1 - \Delta_t) z_{t-1} + \Delta_t \tanh(W_z y_{t-1} + V_z u_t + b_z) \\
        y_t &= (1 - \bar\Delta_t) y_{t-1} + \bar\Delta_t \tanh(W_y z_t + V_y u_t + b_y)

    The state is (y, z), 2 H numbers; the output is y.

    Parameters
    ----------
    input_size, hidden_size : m and H.
    dt : the largest time step, above 0.
    bias, dtype, device : as for torch's modules.

    References
    ----------
    Rusch, Mishra, Erichson, Mahoney (2022), ICLR, arXiv:2110.04744, equation 3.

    Examples
    --------
    >>> import torch, seqsolve as sq
    >>> fast = sq.parallelize(sq.LEM(3, 8))
    >>> y, state = fast(torch.ones(50, 1, 3))
    >>> y.shape, state.shape
    (torch.Size([50, 1, 8]), torch.Size([1, 16]))
    """

    loop = kernels.lem

    def __init__(
        self, input_size: int, hidden_size: int, *, dt: float = 1.0, bias: bool = True, dtype=None, device=None
    ):
        super().__init__(input_size, hidden_size, 4, bias=bias, dtype=dtype, device=device)
        if not 0 < dt < math.inf:
            raise ValueError(f"dt={dt} must be a finite number above 0")
        H = hidden_size
        self.state_size, self.output_size, self.dt = 2 * H, H, float(dt)
        self.weight_y, self.weight_z = self._recurrent(3 * H, H), self._recurrent(H, H)
        self.reset_parameters()

    def step_parameters(self) -> tuple[Tensor, ...]:
        """W_1, W_2, W_z stacked, W_y, both transposed, and the time step."""
        return self.weight_y.T, self.weight_z.T, self.weight_y.new_tensor([self.dt])

    def step(self, x, a, params):
        """Equation 3."""
        U, V, dt = params
        y, z = x.chunk(2, -1)
        hidden, inner = a[..., : U.shape[1]] + y @ U, a[..., U.shape[1] :]
        first, second, new = hidden.chunk(3, -1)
        z = z + dt * torch.sigmoid(first) * (torch.tanh(new) - z)
        return torch.cat([y + dt * torch.sigmoid(second) * (torch.tanh(inner + z @ V) - y), z], -1)


class MinGRU(_Projected):
    r"""A GRU whose gates do not see the state, so that it is linear in it: one scan.

    .. math:: h_t = (1 - z_t) h_{t-1} + z_t \tilde h_t,\quad z_t = \sigma(W_z u_t + b_z),\ \tilde h_t = W_h u_t + b_h

    Parameters
    ----------
    input_size, hidden_size, bias, dtype, device : as for torch's modules.

    References
    ----------
    Feng, Tung, Ahmed, Bengio, Hajimirsadeghi (2024), arXiv:2410.01201, section 3.1.

    Examples
    --------
    >>> import torch, seqsolve as sq
    >>> fast = sq.parallelize(sq.MinGRU(3, 8))
    >>> fast(torch.ones(50, 3))[0].shape, fast.report.method
    (torch.Size([50, 8]), 'scan')
    """

    structure = "diag"

    def __init__(self, input_size: int, hidden_size: int, *, bias: bool = True, dtype=None, device=None):
        super().__init__(input_size, hidden_size, 2, bias=bias, dtype=dtype, device=device)
        self.reset_parameters()

    def linear(self, a):
        """1 - z and z h."""
        gate, new = a.chunk(2, -1)
        return torch.sigmoid(-gate), torch.sigmoid(gate) * new

    def step(self, x, a, params):
        """Section 3.1."""
        gate, new = a.chunk(2, -1)
        return x + torch.sigmoid(gate) * (new - x)


class MinLSTM(_Projected):
    r"""An LSTM whose gates do not see the state, forget and input gate scaled to the sum 1: one scan.

    .. math:: h_t = \frac{f_t}{f_t + i_t} h_{t-1} + \frac{i_t}{f_t + i_t} \tilde h_t,\quad
              f_t = \sigma(W_f u_t + b_f),\ i_t = \sigma(W_i u_t + b_i),\ \tilde h_t = W_h u_t + b_h

    Parameters
    ----------
    input_size, hidden_size, bias, dtype, device : as for torch's modules.

    References
    ----------
    Feng, Tung, Ahmed, Bengio, Hajimirsadeghi (2024), arXiv:2410.01201, section 3.2.

    Examples
    --------
    >>> import torch, seqsolve as sq
    >>> fast = sq.parallelize(sq.MinLSTM(3, 8))
    >>> fast(torch.ones(50, 3))[0].shape, fast.report.method
    (torch.Size([50, 8]), 'scan')
    """

    structure = "diag"

    def __init__(self, input_size: int, hidden_size: int, *, bias: bool = True, dtype=None, device=None):
        super().__init__(input_size, hidden_size, 3, bias=bias, dtype=dtype, device=device)
        self.reset_parameters()

    def linear(self, a):
        """f / (f + i) and i / (f + i) h, by the logarithm of i / f, so that no pair of closed gates divides by 0."""
        forget, enter, new = a.chunk(3, -1)
        ratio = nn.functional.softplus(-forget) - nn.functional.softplus(-enter)  # log i - log f
        return torch.sigmoid(-ratio), torch.sigmoid(ratio) * new

    def step(self, x, a, params):
        """Section 3.2."""
        keep, new = self.linear(a)
        return keep * x + new


class IndRNN(_Projected):
    r"""A recurrent layer whose units see only themselves: a diagonal Jacobian.

    .. math:: h_t = f(W u_t + v \odot h_{t-1} + b),\quad f = \mathrm{relu}\ \text{or}\ \tanh

    Parameters
    ----------
    input_size, hidden_size, bias, dtype, device : as for torch's modules.
    nonlinearity : "relu" or "tanh".

    References
    ----------
    Li, Li, Cook, Zhu, Gao (2018), CVPR, arXiv:1803.04831, equation 2.

    Examples
    --------
    >>> import torch, seqsolve as sq
    >>> cell, u = sq.IndRNN(3, 8, nonlinearity="tanh"), torch.ones(50, 3)
    >>> sq.solve(cell, torch.zeros(8), u, method="newton").ok
    True
    """

    structure = "diag"
    loop = kernels.indrnn

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        nonlinearity: str = "relu",
        bias: bool = True,
        dtype=None,
        device=None,
    ):
        super().__init__(input_size, hidden_size, 1, bias=bias, dtype=dtype, device=device)
        choice(nonlinearity, "nonlinearity", ("relu", "tanh"))
        self.nonlinearity = nonlinearity
        self.weight_hh = self._recurrent(hidden_size)
        self.reset_parameters()

    def step_parameters(self) -> tuple[Tensor, ...]:
        """v, and 1 for relu."""
        return self.weight_hh, self.weight_hh.new_tensor([float(self.nonlinearity == "relu")])

    def step(self, x, a, params):
        """Equation 2."""
        inner = a + params[0] * x
        return torch.relu(inner) if self.nonlinearity == "relu" else torch.tanh(inner)

    def jacobian(self, x, a, params):
        """v f'(.), the diagonal."""
        new = self.step(x, a, params)
        return params[0] * ((new > 0).to(new.dtype) if self.nonlinearity == "relu" else 1 - new * new)


ACTIVATIONS = {
    "lecun_tanh": lambda x: 1.7159 * torch.tanh(0.666 * x),
    "tanh": torch.tanh,
    "relu": torch.relu,
    "silu": nn.functional.silu,
}


class CfC(_Projected):
    r"""A closed-form continuous-time cell: two proposals, between which a gate moves with the time that has passed.

    .. math:: x_t = s \odot g + (1 - s) \odot h,\quad s = \sigma(-f \tau_t),\quad
              f = W_f u_t + U_f x_{t-1} + b_f,\ g, h = \tanh(W_{g,h} u_t + U_{g,h} x_{t-1} + b_{g,h})

    With a `backbone` f, g, h are one layer each of z, the output of layers that they share, as in the paper's
    experiments: :math:`z = a(W_K\,a(\dots a(W_1 u_t + U_1 x_{t-1} + b_1)) + b_K)`.

    Parameters
    ----------
    input_size, hidden_size, bias, dtype, device : as for torch's modules.
    backbone : the widths of the shared layers; empty is none. An integer is one layer.
    activation : a of the shared layers: "lecun_tanh", 1.7159 tanh(0.666 x), "tanh", "relu" or "silu".
    timed : the last column of the inputs is the time tau_t since the step before, beside `input_size` columns of input;
        else every tau_t is 1.

    References
    ----------
    Hasani, Lechner, Amini, Liebenwein, Ray, Tschaikowski, Teschl, Rus (2022), Nature Machine Intelligence 4, 992-1003,
    doi:10.1038/s42256-022-00556-7, equation 4.

    Examples
    --------
    >>> import torch, seqsolve as sq
    >>> fast = sq.parallelize(sq.CfC(3, 8, timed=True))
    >>> fast(torch.rand(50, 4))[0].shape
    torch.Size([50, 8])
    >>> sq.CfC(3, 8, backbone=(32, 16))(torch.rand(50, 3))[0].shape
    torch.Size([50, 8])
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        timed: bool = False,
        backbone: int | Sequence[int] = (),
        activation: str = "lecun_tanh",
        bias: bool = True,
        dtype=None,
        device=None,
    ):
        super().__init__(input_size, hidden_size, 3, bias=bias, dtype=dtype, device=device)
        self.timed = bool(timed)
        widths = (backbone,) if isinstance(backbone, int) else tuple(backbone)
        self.backbone = tuple(positive_integer(n, "backbone") for n in widths)
        choice(activation, "activation", tuple(ACTIVATIONS))
        self.activation = activation
        sizes = [*self.backbone, 3 * hidden_size]
        self.weight_hh = self._recurrent(sizes[0], hidden_size)
        if self.backbone:
            self.weight_ih = self._recurrent(sizes[0], input_size)
            self.bias = self._recurrent(sizes[0]) if bias else None
        self.weights = nn.ParameterList(self._recurrent(m, n) for n, m in pairwise(sizes))
        self.biases = nn.ParameterList(self._recurrent(m) for m in sizes[1:] if bias)
        self.reset_parameters()

    @staticmethod
    def loop(start, drive, params, states, low, high):
        """All steps in one compiled loop."""
        run = kernels.cfc if len(params) == 1 else kernels.cfc_backbone
        run(start, drive, params, states, low, high)

    def project(self, u):
        """W u + b of f, g and h, and the time."""
        if not self.timed:
            return torch.cat([super().project(u), u.new_ones((*u.shape[:-1], 1))], -1)
        if u.shape[-1] != self.input_size + 1:
            raise ValueError(
                f"the inputs have {u.shape[-1]} numbers a step; CfC(timed=True) takes {self.input_size} and the time"
            )
        return torch.cat([super().project(u[..., :-1]), u[..., -1:]], -1)

    def step_parameters(self) -> tuple[Tensor, ...]:
        """U_f, U_g, U_h stacked and transposed; with a backbone U_1, all later weights and biases, and the sizes."""
        if not self.backbone:
            return (self.weight_hh.T,)
        biases = self.biases or [w.new_zeros(len(w)) for w in self.weights]
        parts = [part for w, b in zip(self.weights, biases) for part in (w.T.flatten(), b)]
        sizes = [*self.backbone, 3 * self.hidden_size, [*ACTIVATIONS].index(self.activation)]
        return self.weight_hh.T, torch.cat(parts), self.weight_hh.new_tensor(sizes)

    def step(self, x, a, params):
        """Equation 4."""
        z = a[..., :-1] + x @ params[0]
        at, sizes = 0, [*self.backbone, 3 * self.hidden_size]
        for n, m in pairwise(sizes):
            weight, bias = params[1][at : at + n * m].view(n, m), params[1][at + n * m : at + n * m + m]
            z, at = ACTIVATIONS[self.activation](z) @ weight + bias, at + n * m + m
        f, g, h = z.chunk(3, -1)
        s = torch.sigmoid(-f * a[..., -1:])
        return torch.tanh(h) + s * (torch.tanh(g) - torch.tanh(h))
