"""Attention recurrences that are not linear: key and decay see the output before them, and Newton solves for all steps.

Linear attention writes the same key whatever has been read. Here the key and the decay depend on the last output, so
that no scan and no chunk form exists; each step is a map of the state, which `seqsolve.solve` takes as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention._checks import positive
from .linear_attention.inputs import decay, like, sequences
from .results import Solution
from .solve import solve


@dataclass(frozen=True, eq=False)
class FeedbackState:
    """What goes on from one call to the next: the matrix S (B, H, dk, dv) and the last output (B, H, dv)."""

    S: Tensor
    output: Tensor

    def flat(self) -> Tensor:
        """(B, H, dk dv + dv)."""
        return torch.cat([self.S.flatten(-2), self.output], -1)

    def __repr__(self) -> str:
        return f"FeedbackState(S={tuple(self.S.shape)}, dtype={self.S.dtype})"


def feedback_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    key_feedback: Tensor | None = None,
    decay_feedback: Tensor | None = None,
    log_decay: Tensor | None = None,
    beta: Tensor | None = None,
    state: FeedbackState | None = None,
    method: str = "auto",
    **options: Any,
) -> tuple[Tensor, FeedbackState, Solution]:
    r"""Linear attention whose keys and decays depend on the output of the step before.

    .. math::
        \hat k_t &= \mathrm{unit}(k_t + R_k \tanh o_{t-1}), \qquad
        w_t = \sigma\bigl(\mathrm{logit}(e^{g_t}) + R_w \tanh o_{t-1}\bigr) \\
        S_t &= \mathrm{diag}(w_t) S_{t-1} + \beta_t \hat k_t (v_t - \hat k_t^T \mathrm{diag}(w_t) S_{t-1}), \qquad
        o_t = S_t^T q_t

    Parameters
    ----------
    q, k : (B, H, T, dk).
    v : (B, H, T, dv).
    key_feedback : R_k, (H, dk, dv) or broadcastable to it; None is 0.
    decay_feedback : R_w, (H, dk, dv) or broadcastable; None is 0. It needs `log_decay`.
    log_decay : g_t, (B, H, T, dk) or broadcastable, below 0; None forgets nothing.
    beta : (B, H, T) or broadcastable, the rate of the delta rule; None writes :math:`S + \hat k v^T` instead.
    state : what an earlier call returned, or None to start from nothing.
    method, options : of `seqsolve.solve`; "newton" solves all steps of a window at once, "sequential" steps.

    Returns
    -------
    o : (B, H, T, dv) in the dtype of `v`.
    state : `FeedbackState` after the last step.
    solution : `Solution` with the states (T, B, H, dk dv + dv), its certificate, status and history.

    Raises
    ------
    ValueError, TypeError
        When shapes or dtypes do not fit; the message shows them.

    Notes
    -----
    Complexity: the solver sees dk dv + dv numbers a head, and Newton's Jacobians have the square of that: for heads of
    up to about 8 x 8. A step alone is O(dk dv). Gradients are implicit: exact whatever the method.

    References
    ----------
    Irie, Schlag, Csordas and Schmidhuber (2021), arXiv:2106.06295: the Recurrent Delta RNN, whose queries, keys and
    values see the last output.

    Examples
    --------
    >>> import torch, seqsolve as sq
    >>> q, k, v = torch.randn(3, 1, 2, 40, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    >>> R = 0.3 * torch.ones(2, 3, 3, dtype=torch.float64)
    >>> given = {"key_feedback": R, "log_decay": torch.full((1, 2, 40, 1), -0.3, dtype=torch.float64)}
    >>> o, state, solution = sq.feedback_attention(q, k, v, **given, method="newton")
    >>> solution.ok, solution.sweeps < 10
    (True, True)
    >>> loop, _, _ = sq.feedback_attention(q, k, v, **given, method="sequential")
    >>> bool((o - loop).abs().max() < 1e-12)
    True
    """
    dtype = v.dtype if isinstance(v, Tensor) else None
    q, k, v = sequences(q, k, v)
    B, H, T, dk = k.shape
    dv = v.shape[-1]
    matrices = {}
    for name, R in (("key_feedback", key_feedback), ("decay_feedback", decay_feedback)):
        meaning = "weights from the last output, (H, dk, dv)"
        matrices[name] = None if R is None else like(name, R, k, H, dk, dv, meaning=meaning, fixed=True)
    if decay_feedback is not None and log_decay is None:
        raise ValueError("decay_feedback= shifts log_decay=, which is missing; pass both, or neither")
    parts = [q, k, v]
    if log_decay is not None:
        g = decay(log_decay, k, vector=True)
        if bool((g > 0).any()):
            raise ValueError(f"log_decay reaches {float(g.max()):.3g}; pass logarithms of factors, at most 0")
        g = g.clamp(max=-1e-37)  # a factor of 1 to rounding, with a finite logit
        parts.append(g - torch.log(-torch.expm1(g)))
    if beta is not None:
        parts.append(like("beta", beta, k, B, H, T, meaning="rate of the delta rule, (B, H, T)")[..., None])
    if state is None:
        state = FeedbackState(v.new_zeros(B, H, dk, dv), v.new_zeros(B, H, dv))
    elif not isinstance(state, FeedbackState) or state.S.shape != (B, H, dk, dv):
        shape = tuple(state.S.shape) if isinstance(state, FeedbackState) else type(state).__name__
        raise ValueError(f"state is {shape}; pass a FeedbackState with S of shape {(B, H, dk, dv)}")
    step = _Step(dk, dv, matrices["key_feedback"], matrices["decay_feedback"], log_decay is not None, beta is not None)
    inputs = torch.cat(parts, -1).permute(2, 0, 1, 3)
    solution = solve(step, state.flat().to(v.dtype), inputs, method=method, **options)
    states = solution.states
    if T:
        state = FeedbackState(states[-1, ..., : dk * dv].unflatten(-1, (dk, dv)), states[-1, ..., dk * dv :])
    return states[..., dk * dv :].permute(1, 2, 0, 3).to(dtype), state, solution


@dataclass(frozen=True, eq=False)
class _Step:
    """One step (x, u) -> x over any leading axes; x holds S and the last output, u all that the input gives."""

    dk: int
    dv: int
    key_feedback: Tensor | None
    decay_feedback: Tensor | None
    decays: bool
    corrects: bool

    def __call__(self, x: Tensor, u: Tensor) -> Tensor:
        dk, dv = self.dk, self.dv
        S, o = x[..., : dk * dv].unflatten(-1, (dk, dv)), torch.tanh(x[..., dk * dv :])
        q, k, v, rest = u.split([dk, dk, dv, u.shape[-1] - 2 * dk - dv], -1)
        if self.key_feedback is not None:
            k = k + (self.key_feedback @ o[..., None])[..., 0]
        k = k / (k.square().sum(-1, keepdim=True) + 1e-6).sqrt()
        if self.decays:
            logit = rest[..., :dk]
            if self.decay_feedback is not None:
                logit = logit + (self.decay_feedback @ o[..., None])[..., 0]
            S = torch.sigmoid(logit)[..., None] * S
        if self.corrects:
            v = rest[..., -1:] * (v - (k[..., None, :] @ S)[..., 0, :])
        S = S + k[..., None] * v[..., None, :]
        return torch.cat([S.flatten(-2), (q[..., None, :] @ S)[..., 0, :]], -1)


class FeedbackAttention(nn.Module):
    """A layer of `feedback_attention`: trains on whole sequences, decodes from a state, with one set of weights.

    Parameters
    ----------
    d_model : width of the input and output.
    heads : number of heads.
    width : dk = dv of each head; None is 4. Newton's work grows with its fourth power and more.
    method, options : of `seqsolve.solve`, for whole sequences; single steps are made as they are.

    Examples
    --------
    >>> import torch, seqsolve as sq
    >>> layer = sq.FeedbackAttention(8, heads=2)
    >>> x = torch.randn(1, 6, 8)
    >>> whole, _ = layer(x)
    >>> layer.solution.ok
    True
    >>> first, state = layer(x[:, :5])
    >>> last, state = layer(x[:, 5:], state)
    >>> torch.allclose(torch.cat((first, last), 1), whole, atol=1e-5)
    True
    """

    def __init__(self, d_model: int, heads: int, *, width: int | None = None, method: str = "auto", **options: Any):
        super().__init__()
        positive("d_model", d_model, "the width of the input")
        positive("heads", heads, "the number of heads")
        width = 4 if width is None else positive("width", width, "the width of a head")
        self.heads, self.width, self.method, self.options = heads, width, method, options
        self.q, self.k, self.v, self.decay = (nn.Linear(d_model, heads * width) for _ in range(4))
        self.beta = nn.Linear(d_model, heads)
        self.key_feedback = nn.Parameter(torch.randn(heads, width, width) / (2 * width**0.5))
        self.decay_feedback = nn.Parameter(torch.randn(heads, width, width) / (2 * width**0.5))
        self.out = nn.Linear(heads * width, d_model)
        self.solution: Solution | None = None

    def forward(self, x: Tensor, state: FeedbackState | None = None) -> tuple[Tensor, FeedbackState]:
        """(y, state) for (B, T, d_model), any T; `solution` then holds the certificate of this call."""
        maps = (self.q, self.k, self.v, self.decay)
        q, k, v, g = (f(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for f in maps)
        o, state, self.solution = feedback_attention(
            q, k, v, key_feedback=self.key_feedback, decay_feedback=self.decay_feedback, state=state,
            log_decay=F.logsigmoid(g + 2.0), beta=torch.sigmoid(self.beta(x)).transpose(1, 2),
            method="sequential" if x.shape[1] <= 2 else self.method, **self.options,
        )  # fmt: skip
        return self.out(o.transpose(1, 2).flatten(2)), state
