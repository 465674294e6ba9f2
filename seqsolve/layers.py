"""Layers with one set of weights and two ways to run: all steps at once to train, step by step to decode."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import causal, rotary
from .attention._checks import positive
from .linear_attention import TABLE


@dataclass(frozen=True, eq=False)
class CachedKeys:
    """What `RecurrentAttention` keeps between calls: keys and values (B, heads, n, d), and the steps read so far."""

    k: Tensor
    v: Tensor
    steps: int

    def numel(self) -> int:
        """Numbers that the state holds."""
        return self.k.numel() + self.v.numel()

    def __repr__(self) -> str:
        return f"CachedKeys(kept={self.k.shape[2]}, steps={self.steps}, k={tuple(self.k.shape)})"


class RecurrentAttention(nn.Module):
    """Causal multi-head attention that trains on whole sequences and decodes from a state.

    ``y = W_o softmax(q K^T / sqrt(d)) V`` with ``q, K, V`` projections of the input. ``layer(x)`` reads a sequence at
    once; ``layer(x_t, state)`` goes on from where the last call ended, with the same numbers. With `window` the state
    is constant: the last ``window - 1`` keys.

    Parameters
    ----------
    d_model : width of the input and output.
    heads : number of query heads.
    kv_heads : number of key heads, a divisor of `heads`; None is `heads`.
    window : keys that a query sees, its own included; None is all.
    rotary : rotate queries and keys by their positions.
    alibi : add the slopes of ALiBi.

    Examples
    --------
    >>> import torch
    >>> from seqsolve.layers import RecurrentAttention
    >>> layer = RecurrentAttention(8, heads=2)
    >>> x = torch.randn(1, 5, 8)
    >>> whole, _ = layer(x)
    >>> first, state = layer(x[:, :3])
    >>> second, state = layer(x[:, 3:], state)
    >>> torch.allclose(torch.cat((first, second), 1), whole, atol=1e-6)
    True
    """

    def __init__(
        self,
        d_model: int,
        heads: int,
        *,
        kv_heads: int | None = None,
        window: int | None = None,
        rotary: bool = True,
        alibi: bool = False,
    ):
        super().__init__()
        positive("d_model", d_model, "the width of the input")
        positive("heads", heads, "the number of query heads")
        kv_heads = heads if kv_heads is None else positive("kv_heads", kv_heads, "the number of key heads")
        if d_model % heads or heads % kv_heads:
            raise ValueError(f"d_model={d_model}, heads={heads}, kv_heads={kv_heads}: each must divide the one before")
        if rotary and d_model // heads % 2:
            raise ValueError(f"rotary needs an even width of a head, got d_model / heads = {d_model // heads}")
        if window is not None:
            positive("window", window, "the number of keys a query sees")
        self.heads, self.kv_heads, self.window, self.rotary, self.alibi = heads, kv_heads, window, rotary, alibi
        self.width = d_model // heads
        self.q = nn.Linear(d_model, d_model, bias=False)
        self.k = nn.Linear(d_model, kv_heads * self.width, bias=False)
        self.v = nn.Linear(d_model, kv_heads * self.width, bias=False)
        self.out = nn.Linear(d_model, d_model, bias=False)

    def project(self, x: Tensor, start: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (B, heads, T, d) of inputs (B, T, d_model) whose first step is step `start`."""
        q, k, v = (part(x).unflatten(-1, (-1, self.width)).transpose(1, 2) for part in (self.q, self.k, self.v))
        return (rotary(q, start), rotary(k, start), v) if self.rotary else (q, k, v)

    def join(self, o: Tensor) -> Tensor:
        """The output (B, T, d_model) from the heads (B, heads, T, d)."""
        return self.out(o.transpose(1, 2).flatten(2))

    def forward(self, x: Tensor, state: CachedKeys | None = None) -> tuple[Tensor, CachedKeys]:
        """(y, state) for (B, T, d_model), any T; pass the state of the last call to go on."""
        steps = 0 if state is None else state.steps
        q, k, v = self.project(x, steps)
        if state is not None:
            k, v = torch.cat((state.k, k), 2), torch.cat((state.v, v), 2)
        o, _ = causal(q, k, v, window=self.window, alibi=self.alibi)
        kept = k.shape[2] if self.window is None else min(k.shape[2], self.window - 1)
        first = k.shape[2] - kept
        return self.join(o), CachedKeys(k[:, :, first:], v[:, :, first:], steps + x.shape[1])


# --- linear recurrences ---

Width = str  # "1" a head, "dk", "dv", or a product of shapes such as "dk dv"


@dataclass(frozen=True)
class FromInput:
    """An argument that a linear map of the input gives at each step: (B, H, T, width)."""

    width: Width
    activation: Callable[[Tensor], Tensor] = lambda x: x
    bias: float | None = None


@dataclass(frozen=True)
class Learned:
    """An argument that is a parameter: (H, shape...); `complex` doubles it."""

    shape: Width
    start: Callable[[Tensor], Tensor]
    activation: Callable[[Tensor], Tensor] = lambda x: x
    complex: bool = False


def _small_rates(x: Tensor) -> Tensor:
    return torch.log(torch.linspace(1.0, 8.0, x.numel())).reshape(x.shape)


def _normal(x: Tensor) -> Tensor:
    return torch.randn_like(x) / x.shape[-2 if x.ndim > 1 and x.shape[-1] == 2 else -1] ** 0.5


_q, _k, _v = FromInput("dk"), FromInput("dk"), FromInput("dv")
_rate = FromInput("1", lambda x: F.softplus(x), bias=-3.0)
ARGUMENTS: dict[str, dict[str, FromInput | Learned]] = {
    "linear": {"q": _q, "k": _k, "v": _v},
    "retnet": {"q": _q, "k": _k, "v": _v},
    "gla": {"q": _q, "k": _k, "v": _v, "log_decay": FromInput("dk", lambda x: F.logsigmoid(x) / 16, bias=0.0)},
    "rwkv4": {
        "q": _v,
        "k": _v,
        "v": _v,
        "log_decay": Learned("dv", _small_rates, lambda x: -torch.exp(x) / 16),
        "bonus": Learned("dv", torch.zeros_like),
    },
    "rwkv6": {
        "q": _q,
        "k": _k,
        "v": _v,
        "log_decay": FromInput("dk", lambda x: -torch.exp(x.clamp(max=5.0)), bias=-3.0),
        "bonus": Learned("dk", torch.ones_like),
    },
    "rwkv7": {
        "q": _q,
        "k": _k,
        "v": _v,
        "log_decay": FromInput("dk", lambda x: -0.606531 * torch.sigmoid(x), bias=-3.0),
        "removal": _k,
        "rate": FromInput("dk", torch.sigmoid, bias=0.0),
    },
    "delta": {"q": _q, "k": _k, "v": _v, "beta": FromInput("1", torch.sigmoid, bias=0.0)},
    "gated_delta": {
        "q": _q,
        "k": _k,
        "v": _v,
        "beta": FromInput("1", torch.sigmoid, bias=0.0),
        "log_decay": FromInput("1", lambda x: -F.softplus(x), bias=-3.0),
    },
    "mamba1": {
        "q": _q,
        "k": _k,
        "v": _v,
        "dt": FromInput("dv", F.softplus, bias=-3.0),
        "A": Learned("dk dv", _small_rates, lambda x: -torch.exp(x)),
        "skip": Learned("dv", torch.ones_like),
    },
    "mamba2": {
        "q": _q,
        "k": _k,
        "v": _v,
        "dt": _rate,
        "A": Learned("1", _small_rates, lambda x: -torch.exp(x)),
        "skip": Learned("dv", torch.ones_like),
    },
    "lru": {
        "q": Learned("dv dk", _normal, complex=True),
        "k": Learned("dk dv", _normal, complex=True),
        "v": _v,
        "log_decay": Learned("dk", _small_rates, lambda x: -torch.exp(x) / 16),
        "phase": Learned("dk", lambda x: torch.linspace(0, 3.1, x.numel()).reshape(x.shape)),
    },
    "s5": {
        "q": Learned("dv dk", _normal, complex=True),
        "k": Learned("dk dv", _normal, complex=True),
        "v": _v,
        "A": Learned(
            "dk",
            lambda x: torch.stack(
                (0 * x[..., 0] - 0.7, torch.linspace(0, 3.1, x.numel() // 2).reshape(x.shape[:-1])), -1
            ),
            lambda x: torch.complex(-torch.exp(x.real), x.imag),
            complex=True,
        ),
        "dt": Learned("dk", lambda x: x - 2.0, torch.exp),
    },
    "min_gru": {"q": _v, "k": _v, "v": _v},
    "min_lstm": {"q": _v, "k": _v, "v": _v, "forget": _v},
}
OPTIONS = {"delta": {"unit_keys": True}, "gated_delta": {"unit_keys": True}, "linear": {"normalize": True}}


class LinearRecurrence(nn.Module):
    """Any line of ``linear_attention.TABLE`` as a layer: trained by chunks, decoded step by step, one set of weights.

    ``y = W_o (norm(o) * silu(W_g x))`` where ``o, state = linear_attention.<kind>(q, k, v, ...)`` and every argument
    of the recurrence is a linear map of the input or a parameter.

    Parameters
    ----------
    kind : a name of the table: "linear", "retnet", "gla", "delta", "gated_delta", "mamba2", ...
    d_model : width of the input and output.
    heads : number of heads.
    key_width : dk of each head; None is ``d_model / heads``.
    value_width : dv of each head; None is ``d_model / heads``.

    Examples
    --------
    >>> import torch
    >>> from seqsolve.layers import LinearRecurrence
    >>> layer = LinearRecurrence("gated_delta", 8, heads=2)
    >>> x = torch.randn(1, 5, 8)
    >>> whole, _ = layer(x)  # training: matrix products inside chunks
    >>> state, rows = None, []
    >>> for t in range(5):  # decoding: one state, whatever the history
    ...     y, state = layer.step(x[:, t], state)
    ...     rows.append(y)
    >>> torch.allclose(torch.stack(rows, 1), whole, atol=1e-5)
    True
    """

    def __init__(
        self,
        kind: str,
        d_model: int,
        heads: int,
        *,
        key_width: int | None = None,
        value_width: int | None = None,
    ):
        super().__init__()
        if kind not in ARGUMENTS:
            raise ValueError(f"kind={kind!r} is unknown; pass one of {', '.join(sorted(ARGUMENTS))}")
        positive("d_model", d_model, "the width of the input")
        positive("heads", heads, "the number of heads")
        if (key_width is None or value_width is None) and d_model % heads:
            raise ValueError(f"heads={heads} does not divide d_model={d_model}; pass key_width= and value_width=")
        dk = d_model // heads if key_width is None else positive("key_width", key_width, "the width of a key")
        dv = d_model // heads if value_width is None else positive("value_width", value_width, "the width of a value")
        self.kind, self.heads, self.dk, self.dv = kind, heads, dk, dv
        sizes = {"1": 1, "dk": dk, "dv": dv}
        self.maps, self.learned = nn.ModuleDict(), nn.ParameterDict()
        for name, argument in ARGUMENTS[kind].items():
            if isinstance(argument, FromInput):
                layer = nn.Linear(d_model, heads * sizes[argument.width], bias=argument.bias is not None)
                if argument.bias is not None:
                    nn.init.constant_(layer.bias, argument.bias)
                self.maps[name] = layer
            else:
                shape = [heads, *(sizes[s] for s in argument.shape.split() if s != "1")]
                shape += [2] if argument.complex else []
                self.learned[name] = nn.Parameter(argument.start(torch.zeros(shape)))
        self.gate = nn.Linear(d_model, heads * dv, bias=False)
        self.norm = nn.RMSNorm(dv)
        self.out = nn.Linear(heads * dv, d_model, bias=False)

    def arguments(self, x: Tensor) -> dict[str, Tensor]:
        """The arguments of the recurrence at the inputs (B, T, d_model)."""
        found = {}
        for name, argument in ARGUMENTS[self.kind].items():
            if isinstance(argument, FromInput):
                value = self.maps[name](x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
                value = value[..., 0] if argument.width == "1" else value
            else:
                value = self.learned[name]
                value = torch.view_as_complex(value) if argument.complex else value
            found[name] = argument.activation(value)
        return found

    def forward(self, x: Tensor, state=None, *, form: str = "chunk"):
        """(y, state) for (B, T, d_model), any T; pass the state of the last call to go on."""
        options = OPTIONS.get(self.kind, {})
        o, state = TABLE[self.kind].function(**self.arguments(x), **options, state=state, form=form)
        gated = self.norm(o).transpose(1, 2).flatten(2) * F.silu(self.gate(x))
        return self.out(gated), state

    def step(self, x: Tensor, state=None):
        """(y, state) for one step (B, d_model)."""
        y, state = self.forward(x[:, None], state, form="step")
        return y[:, 0], state

    def extra_repr(self) -> str:
        return f"kind={self.kind!r}, heads={self.heads}, key_width={self.dk}, value_width={self.dv}"


__all__ = ["CachedKeys", "LinearRecurrence", "RecurrentAttention"]
