"""Recurrences of independent channels: ``S_t = d_t * S_{t-1} + x_t`` entry by entry, and its softmax-weighted kin."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from seqsolve._checks import followed
from seqsolve._prefix import prefixes
from seqsolve.attention.state import SoftmaxState
from seqsolve.scan import affine_scan

_APART = 1 << 14  # numbers of one head from which a scan of its own costs less than moving time to the front


@dataclass(frozen=True)
class ChannelParts:
    """``S_t = decay_t * S_{t-1} + write_t`` with tensors (B, H, T, ...), real or complex.

    q : None: the states are the outputs; or (B, H, T, N) for states (B, H, T, N, d) read as ``o_t = q_t^T S_t``.
    """

    decay: Tensor
    write: Tensor
    q: Tensor | None = None

    def tensors(self) -> dict[str, Tensor]:
        """What is looked through for NaN and infinity."""
        found = {"decay": self.decay, "write": self.write}
        return found if self.q is None else {**found, "q": self.q}

    def empty(self) -> Tensor:
        """The state before the first step."""
        shape = torch.broadcast_shapes(self.decay.shape, self.write.shape)
        return self.write.new_zeros((*shape[:2], *shape[3:]))

    def nothing(self) -> Tensor:
        """The outputs of no steps."""
        empty = self.write[:, :, :0]
        return empty if self.q is None else empty.sum(3)

    def run(self, S: Tensor, form: str, chunk: int | None) -> tuple[Tensor, Tensor]:
        """(o, S_T) from the state `S`."""
        if form == "step":
            rows = []
            for t in range(self.write.shape[2]):
                S = self.decay[:, :, t] * S + self.write[:, :, t]
                rows.append(S if self.q is None else (self.q[:, :, t, None, :] @ S)[:, :, 0])
            return torch.stack(rows, 2), S
        if form == "chunk" and chunk is None and not self.write.is_complex() and self.write.device.type == "cpu":
            states = _compiled(self.decay, self.write, S)  # chunks of the compiled scan: 2-4 times faster
        else:
            factors, sums = prefixes(_affine, (self.decay, self.write), form, chunk)
            states = factors * S[:, :, None] + sums
        o = states if self.q is None else (self.q[..., None, :] @ states)[..., 0, :]
        return o, states[:, :, -1]


def _compiled(decay: Tensor, write: Tensor, S: Tensor) -> Tensor:
    B, H = write.shape[:2]
    apart = write.numel() >= _APART * max(1, B * H) and decay.shape == write.shape
    try:
        if apart and not followed(decay, write, S):  # one head after the other lies together in memory as it is
            states = torch.from_numpy(np.empty(tuple(write.shape), write.detach().new_empty(0).numpy().dtype))
            for i in range(B):
                for j in range(H):
                    affine_scan(decay[i, j], write[i, j], S[i, j], structure="diag", out=states[i, j])
            return states
        return affine_scan(decay, write, S, dim=2)
    except OverflowError:  # the driver looks for the step
        return torch.full_like(write * S[:, :, None], torch.nan)


def _affine(earlier, later):
    return later[0] * earlier[0], later[0] * earlier[1] + later[1]


@dataclass(frozen=True)
class SoftmaxParts:
    """Each channel's running softmax average with a decay and a bonus for the newest value (B, H, T, d).

    ``num_t = w num_{t-1} + e^{k_t} v_t``, ``den_t = w den_{t-1} + e^{k_t}``, read before the update as
    ``(num_{t-1} + e^{u + k_t} v_t) / (den_{t-1} + e^{u + k_t})``. The state is a `SoftmaxState` whose "queries" are
    the channels, so that no exponential overflows.
    """

    log_decay: Tensor
    k: Tensor
    v: Tensor
    bonus: Tensor
    gate: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """What is looked through for NaN and infinity."""
        return {"log_decay": self.log_decay, "k": self.k, "v": self.v, "bonus": self.bonus, "gate": self.gate}

    def nothing(self) -> Tensor:
        """The outputs of no steps."""
        return self.v[:, :, :0]

    def empty(self) -> SoftmaxState:
        """The state before the first step: (B, H, d) channels that have seen nothing."""
        B, H, _, d = self.k.shape
        return SoftmaxState.empty(B, H, d, dv=1, dtype=self.k.dtype, device=self.k.device)

    def run(self, state: SoftmaxState, form: str, chunk: int | None) -> tuple[Tensor, SoftmaxState]:
        """(o, state_T) from `state`."""
        T = self.k.shape[2]
        one = torch.ones_like(self.k)
        if form == "step":
            rows = []
            for t in range(T):
                fresh = SoftmaxState(self.k[:, :, t], one[:, :, t], self.v[:, :, t, :, None])
                favoured = SoftmaxState(fresh.m + self.bonus[:, :, t], fresh.l, fresh.acc)
                rows.append(state.merge(favoured).output()[..., 0])
                state = _decayed(state, self.log_decay[:, :, t]).merge(fresh)
            return torch.stack(rows, 2) * self.gate, state
        g = self.log_decay.expand_as(self.k)
        g, m, l, acc = prefixes(_softmax, (g, self.k, one, self.v[..., None]), form, chunk)  # noqa: E741
        start = SoftmaxState(state.m[:, :, None], state.l[:, :, None], state.acc[:, :, None])
        after = _decayed(start, g).merge_after(SoftmaxState(m, l, acc))
        before = SoftmaxState(
            *(
                torch.cat((x, y[:, :, :-1]), 2)
                for x, y in zip((start.m, start.l, start.acc), (after.m, after.l, after.acc))
            )
        )
        now = SoftmaxState(self.k + self.bonus, one, self.v[..., None])
        return before.merge(now).output()[..., 0] * self.gate, after[:, :, -1]


def _decayed(state: SoftmaxState, log_decay: Tensor) -> SoftmaxState:
    """Every weight multiplied by one factor; the state may be shared by several steps."""
    m = state.m + log_decay
    return SoftmaxState(m, state.l.expand_as(m), state.acc.expand(*m.shape, -1))


def _softmax(earlier, later):
    past = _decayed(SoftmaxState(*earlier[1:]), later[0])
    both = past.merge_after(SoftmaxState(*later[1:]))
    return earlier[0] + later[0], both.m, both.l, both.acc
