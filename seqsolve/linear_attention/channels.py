"""Recurrences of single channels: state-space models with a diagonal state, gated units without hidden weights."""

import torch
from torch import Tensor

from .channelwise import ChannelParts, SoftmaxParts
from .gated import GatedParts
from .inputs import added_input, discretised_gap, like, sequences
from .selective import SelectiveParts
from .table import recurrence


@recurrence(
    decay="w (num, den)",
    update="e^k (v, 1)",
    read="sigmoid(q) (num + e^(u + k) v) / (den + e^(u + k))",
    sample=lambda n: {
        "q": n.values(),
        "k": n.values(),
        "v": n.values(),
        "log_decay": -torch.exp(n.normal(n.H, n.dv)),
        "bonus": n.normal(n.H, n.dv),
    },
)
def rwkv4(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, bonus: Tensor):
    """RWKV-4: each channel's softmax average over its past, with a decay, and a bonus for the newest token.

    ``wkv_t = (sum_{i<t} e^{(t-1-i) log w + k_i} v_i + e^{u + k_t} v_t) / (the same without v)``,
    ``o_t = sigmoid(q_t) wkv_t``. Keys of any size are safe: the state keeps its largest exponent aside.

    Parameters
    ----------
    q : (B, H, T, d) receptance.
    k : (B, H, T, d) keys, one a channel.
    v : (B, H, T, d) values.
    log_decay : (H, d) log w, at most 0.
    bonus : (H, d), the u of the paper.

    Returns
    -------
    o : (B, H, T, d) in the dtype of `v`.
    state : `SoftmaxState` with one entry a channel, (B, H, d).

    References
    ----------
    Peng et al. (2023), arXiv:2305.13048, section 3.

    Examples
    --------
    >>> import torch
    >>> from seqsolve import linear_attention
    >>> x = torch.arange(1.0, 4.0)[None, None, :, None]
    >>> zero = torch.zeros(1, 1)
    >>> o, _ = linear_attention.rwkv4(0 * x, 0 * x, x, zero, zero)
    >>> (2 * o).flatten().tolist()  # equal weights: running means
    [1.0, 1.5, 2.0]
    """
    q, k, v = sequences(q, k, v, same_width=True)
    _, H, _, d = k.shape
    g = like("log_decay", log_decay, k, H, d, meaning="log of the decay, (H, d), at most 0", fixed=True)[
        :, None
    ].expand_as(k)
    u = like("bonus", bonus, k, H, d, meaning="the weight of the newest token, (H, d)", fixed=True)[:, None].expand_as(
        k
    )
    return SoftmaxParts(g, k, v, u, torch.sigmoid(q)), None


@recurrence(
    decay="exp(dt_t A) * S",
    update="k (dt_t v)^T",
    read="q^T S + skip v",
    sample=lambda n: {
        "q": n.keys()[:, :1],
        "k": n.keys()[:, :1],
        "v": n.values(),
        "dt": n.uniform(n.B, n.H, n.T, n.dv),
        "A": -torch.exp(n.normal(n.H, n.dk, n.dv)),
        "skip": n.normal(n.H, n.dv),
    },
)
def mamba1(q: Tensor, k: Tensor, v: Tensor, dt: Tensor, A: Tensor, skip: Tensor | None = None):
    """Mamba: a selective state-space model with a decay for each state of each channel.

    ``S_t = exp(dt_t A) * S_{t-1} + k_t (dt_t v_t)^T``, ``o_t = q_t^T S_t + skip * v_t``; in the paper's names q is C,
    k is B, v is x.

    Parameters
    ----------
    q : (B, H, T, N) read-out C; one head may serve all.
    k : (B, H, T, N) input map B; one head may serve all.
    v : (B, H, T, d) inputs.
    dt : (B, H, T, d) step sizes, positive (after softplus).
    A : (H, N, d) or (N, d) rates, negative.
    skip : (H, d) feed-through, the D of the paper.

    Returns
    -------
    o : (B, H, T, d) in the dtype of `v`.
    state : (B, H, N, d).

    Notes
    -----
    On a CPU the chunk form is one compiled loop, forward and backward, that writes no (T, N, d) tensor: its memory
    beside inputs and outputs is one state, and one for every 32 steps where a gradient is wanted. Elsewhere, and under
    ``torch.func``, decays and inputs of all steps are formed.

    References
    ----------
    Gu and Dao (2023), arXiv:2312.00752, algorithm 2.

    Examples
    --------
    >>> import torch
    >>> from seqsolve import linear_attention
    >>> ones = torch.ones(1, 1, 3, 1)
    >>> linear_attention.mamba1(ones, ones, ones, ones, torch.zeros(1, 1))[0].flatten().tolist()
    [1.0, 2.0, 3.0]
    """
    q, k, v = sequences(q, k, v)
    H, N, d = k.shape[1], k.shape[3], v.shape[3]
    step = like("dt", dt, v, *v.shape, meaning="step sizes, (B, H, T, d)")
    rate = like("A", A, v, H, N, d, meaning="negative rates, (H, N, d)", fixed=True)
    return SelectiveParts(q, k, v, step, rate), lambda o: added_input(o, skip, v, "feed-through, (H, d)")


def _complex_maps(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor, tuple[int, int]]:
    """v (B, H, T, d), the read-out q (H, dv, N) and the input map k (H, N, d), which do not depend on time."""
    v = sequences(None, v, v)[2]
    H, d = v.shape[1], v.shape[3]
    for name, x in (("q", q), ("k", k)):
        if not isinstance(x, Tensor) or x.ndim != 3:
            shape = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(f"{name} is {shape}, expected a map of 3 axes: q (H, dv, N) reads, k (H, N, d) writes")
    N = k.shape[1]
    write = like("k", k, v, H, N, d, meaning="the input map, (H, N, d)", real=False, fixed=True)
    read = like("q", q, v, H, q.shape[1], N, meaning="the read-out, (H, dv, N)", real=False, fixed=True)
    kind = v.dtype.to_complex()
    return read.to(kind), write.to(kind), v, (H, N)


def _read_out(read: Tensor, S: Tensor, skip: Tensor | None, v: Tensor) -> Tensor:
    return added_input(torch.einsum("hon,bhtn->bhto", read, S).real, skip, v, "feed-through, (H, d)")


@recurrence(
    decay="lambda * S",
    update="gamma * (k v)",
    read="Re(q S) + skip v",
    sample=lambda n: {
        "q": n.complex(n.H, n.dv, n.dk),
        "k": n.complex(n.H, n.dk, n.dv),
        "v": n.values(),
        "log_decay": -0.5 * n.uniform(n.H, n.dk),
        "phase": 3 * n.uniform(n.H, n.dk),
        "skip": n.normal(n.H, n.dv),
    },
)
def lru(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, phase: Tensor, skip: Tensor | None = None):
    """The linear recurrent unit: complex modes that decay and turn at constant rates.

    ``S_t = lambda * S_{t-1} + sqrt(1 - |lambda|^2) * (k v_t)``, ``o_t = Re(q S_t) + skip * v_t`` with
    ``lambda = exp(log_decay + i phase)``; in the paper's names q is C, k is B.

    Parameters
    ----------
    q : (H, dv, N) read-out, complex or real; it does not depend on time.
    k : (H, N, d) input map, complex or real; it does not depend on time.
    v : (B, H, T, d) inputs.
    log_decay : (H, N) log |lambda|, at most 0.
    phase : (H, N) angle of lambda in radians a step.
    skip : (H, d) feed-through (dv = d).

    Returns
    -------
    o : (B, H, T, dv) in the dtype of `v`.
    state : (B, H, N) complex.

    References
    ----------
    Orvieto, Smith, Gu, Fernando, Gulcehre, Pascanu and De (2023), arXiv:2303.06349, section 3.

    Examples
    --------
    >>> import math
    >>> import torch
    >>> from seqsolve import linear_attention
    >>> one = torch.ones(1, 1, 1)
    >>> pulse = torch.tensor([1.0, 0.0, 0.0])[None, None, :, None]
    >>> o, _ = linear_attention.lru(one, one, pulse, torch.tensor([[math.log(0.6)]]), torch.tensor([[math.pi / 2]]))
    >>> [round(x, 4) + 0.0 for x in o.flatten().tolist()]
    [0.8, 0.0, -0.288]
    """
    read, write, v, (H, N) = _complex_maps(q, k, v)
    size = like("log_decay", log_decay, v, H, N, meaning="log |lambda|, (H, N), at most 0", fixed=True)
    if bool((size > 0).any()):
        raise ValueError(f"log_decay reaches {float(size.max()):.3g}; |lambda| <= 1 needs log_decay <= 0")
    angle = like("phase", phase, v, H, N, meaning="angles in radians, (H, N)", fixed=True)
    factor = torch.exp(torch.complex(size, angle))
    gain = torch.sqrt(-torch.expm1(2 * size))
    x = torch.einsum("hnd,bhtd->bhtn", write, v.to(write.dtype)) * gain[:, None]
    return ChannelParts(factor[:, None].expand_as(x), x), lambda S: _read_out(read, S, skip, v)


@recurrence(
    decay="exp(A dt) * S",
    update="(exp(A dt) - 1) / A * (k v)",
    read="Re(q S) + skip v",
    sample=lambda n: {
        "q": n.complex(n.H, n.dv, n.dk),
        "k": n.complex(n.H, n.dk, n.dv),
        "v": n.values(),
        "A": torch.complex(-n.uniform(n.H, n.dk).float(), n.normal(n.H, n.dk).float()).to(
            torch.complex128 if n.dtype == torch.float64 else torch.complex64
        ),
        "dt": n.uniform(n.H, n.dk),
        "skip": n.normal(n.H, n.dv),
    },
)
def s5(q: Tensor, k: Tensor, v: Tensor, A: Tensor, dt: Tensor, skip: Tensor | None = None):
    """S5: a diagonal state-space model in continuous time, held constant between steps (zero-order hold).

    ``S_t = exp(A dt) * S_{t-1} + (exp(A dt) - 1) / A * (k v_t)``, ``o_t = Re(q S_t) + skip * v_t``.

    Parameters
    ----------
    q : (H, dv, N) read-out C; of conjugate pairs keep one half and pass 2 C.
    k : (H, N, d) input map B.
    v : (B, H, T, d) inputs.
    A : (H, N) eigenvalues, complex or real, real part at most 0.
    dt : (H, N), (H, 1) or (1,) step sizes, positive.
    skip : (H, d) feed-through (dv = d).

    Returns
    -------
    o : (B, H, T, dv) in the dtype of `v`.
    state : (B, H, N) complex.

    References
    ----------
    Smith, Warrington and Linderman (2023), arXiv:2208.04933, section 3.

    Examples
    --------
    >>> import torch
    >>> from seqsolve import linear_attention
    >>> one = torch.ones(1, 1, 1)
    >>> ones = torch.ones(1, 1, 3, 1)
    >>> linear_attention.s5(one, one, ones, torch.zeros(1, 1), torch.tensor([0.5]))[0].flatten().tolist()
    [0.5, 1.0, 1.5]
    """
    read, write, v, (H, N) = _complex_maps(q, k, v)
    rate = like("A", A, v, H, N, meaning="eigenvalues, (H, N)", real=False, fixed=True).to(write.dtype)
    step = like("dt", dt, v, H, N, meaning="step sizes, (H, N)", fixed=True)
    z = rate * step
    x = torch.einsum("hnd,bhtd->bhtn", write, v.to(write.dtype)) * (step * discretised_gap(z))[:, None]
    return ChannelParts(torch.exp(z)[:, None].expand_as(x), x), lambda S: _read_out(read, S, skip, v)


def _gated(q: Tensor | None):
    return None if q is None else lambda S: q * S


@recurrence(
    decay="(1 - z_t) * S",
    update="z_t * v",
    read="q * S",
    sample=lambda n: {"q": n.values(), "k": n.values(), "v": n.values()},
)
def min_gru(q: Tensor | None, k: Tensor, v: Tensor):
    """The minimal GRU: a gate that looks at the input only, so that the recurrence is linear.

    ``z_t = sigmoid(k_t)``, ``S_t = (1 - z_t) * S_{t-1} + z_t * v_t``, ``o_t = q_t * S_t``.

    Parameters
    ----------
    q : (B, H, T, d) factor on the output, or None for the state itself (the paper).
    k : (B, H, T, d) logits of the update gate.
    v : (B, H, T, d) candidates.

    Returns
    -------
    o : (B, H, T, d) in the dtype of `v`.
    state : (B, H, d).

    Notes
    -----
    On a CPU the chunk form is one compiled loop, forward and backward, that writes no gate: beside inputs and outputs
    it needs no memory. Elsewhere, and under ``torch.func``, decays and inputs of all steps are formed.

    References
    ----------
    Feng, Tung, Ahmed, Bengio and Hajimirsadeghi (2024), arXiv:2410.01201, section 3.1.

    Examples
    --------
    >>> import torch
    >>> from seqsolve import linear_attention
    >>> ones = torch.ones(1, 1, 3, 1)
    >>> linear_attention.min_gru(None, 0 * ones, ones)[0].flatten().tolist()
    [0.5, 0.75, 0.875]
    """
    q, k, v = sequences(q, k, v, same_width=True)
    return GatedParts(k, v), _gated(q)


@recurrence(
    decay="f_t / (f_t + i_t) * S",
    update="i_t / (f_t + i_t) * v",
    read="q * S",
    sample=lambda n: {"q": n.values(), "k": n.values(), "v": n.values(), "forget": n.values()},
)
def min_lstm(q: Tensor | None, k: Tensor, v: Tensor, forget: Tensor):
    """The minimal LSTM: forget and input gates that look at the input only, normalised to sum to one.

    ``f_t = sigmoid(forget_t)``, ``i_t = sigmoid(k_t)``, ``S_t = (f_t S_{t-1} + i_t v_t) / (f_t + i_t)``,
    ``o_t = q_t * S_t``.

    Parameters
    ----------
    q : (B, H, T, d) factor on the output, or None for the state itself (the paper).
    k : (B, H, T, d) logits of the input gate.
    v : (B, H, T, d) candidates.
    forget : (B, H, T, d) logits of the forget gate.

    Returns
    -------
    o : (B, H, T, d) in the dtype of `v`.
    state : (B, H, d).

    Notes
    -----
    On a CPU the chunk form is one compiled loop, forward and backward, that writes no gate: beside inputs and outputs
    it needs no memory. Elsewhere, and under ``torch.func``, decays and inputs of all steps are formed.

    References
    ----------
    Feng, Tung, Ahmed, Bengio and Hajimirsadeghi (2024), arXiv:2410.01201, section 3.2.

    Examples
    --------
    >>> import torch
    >>> from seqsolve import linear_attention
    >>> ones = torch.ones(1, 1, 3, 1)
    >>> linear_attention.min_lstm(None, 0 * ones, ones, 0 * ones)[0].flatten().tolist()
    [0.5, 0.75, 0.875]
    """
    q, k, v = sequences(q, k, v, same_width=True)
    f = like("forget", forget, v, *v.shape, meaning="logits of the forget gate, (B, H, T, d)")
    return GatedParts(k, v, f), _gated(q)
