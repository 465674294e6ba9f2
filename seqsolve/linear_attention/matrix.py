"""Recurrences of a matrix state, ``S_t = (diag(w_t) + a_t b_t^T) S_{t-1} + k_t v_t^T``, in three forms.

The step form is the definition; the scan form takes prefixes of the affine maps; the chunk form turns the steps inside
a chunk into matrix products (the WY form of the Householder-like factors) and steps from chunk to chunk.
"""

from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from seqsolve._prefix import prefixes

CHUNK = 64


@dataclass(frozen=True)
class MatrixParts:
    """One recurrence, written out: everything is (B, H, T, width), the state is (B, H, dk, dv).

    log_decay : log w_t, (B, H, T, 1) for one factor a head or (B, H, T, dk); None is w = 1; -inf forgets all.
    a, b : what is written where ``b^T S`` was read; None for a diagonal transition.
    bonus : (B, H, T, dk): then ``o_t = q_t^T (S_{t-1} + diag(bonus) k_t v_t^T)`` is read before the update,
        otherwise ``o_t = q_t^T S_t`` after it.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    log_decay: Tensor | None = None
    a: Tensor | None = None
    b: Tensor | None = None
    bonus: Tensor | None = None

    def tensors(self) -> dict[str, Tensor]:
        """The tensors that are present, by name."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: x for name, x in found.items() if x is not None}

    def empty(self) -> Tensor:
        """The state before the first step."""
        return self.v.new_zeros((*self.k.shape[:2], self.k.shape[-1], self.v.shape[-1]))

    def nothing(self) -> Tensor:
        """The outputs of no steps."""
        return self.v[:, :, :0]

    def map(self, function) -> "MatrixParts":
        """`function` applied to each tensor that is present."""
        return replace(self, **{name: function(x) for name, x in self.tensors().items()})

    def run(self, S: Tensor, form: str, chunk: int | None) -> tuple[Tensor, Tensor]:
        """(o, S_T) from the state `S`."""
        if form == "step":
            return step_form(self, S)
        if form == "scan":
            return scan_form(self, S)
        return chunk_form(self, S, chunk)


def _decay(p: MatrixParts) -> Tensor | None:
    """w_t as (B, H, T, 1 | dk, 1), ready to multiply a state."""
    return None if p.log_decay is None else torch.exp(p.log_decay)[..., None]


def step_form(p: MatrixParts, S: Tensor) -> tuple[Tensor, Tensor]:
    """One step after the other, the state alone kept: O(T dk dv) flops, O(dk dv) memory beside the outputs."""
    w = _decay(p)
    rows = []
    for t in range(p.k.shape[2]):
        k, v, q = p.k[:, :, t, :, None], p.v[:, :, t, None, :], p.q[:, :, t, None, :]
        if p.bonus is not None:
            rows.append(q @ S + (q * p.bonus[:, :, t, None, :]) @ k * v)
        new = S if w is None else w[:, :, t] * S
        if p.a is not None and p.b is not None:
            new = new + p.a[:, :, t, :, None] * (p.b[:, :, t, None, :] @ S)
        S = new + k * v
        if p.bonus is None:
            rows.append(q @ S)
    return torch.cat(rows, 2), S


def scan_form(p: MatrixParts, S: Tensor) -> tuple[Tensor, Tensor]:
    """All prefixes of the affine maps: 2 log2 T deep; every state is formed, O(T dk dv) memory (and dk^2 with a, b)."""
    write = p.k[..., :, None] * p.v[..., None, :]
    w = _decay(p)
    if p.a is not None and p.b is not None:
        A = p.a[..., :, None] * p.b[..., None, :]
        A = A + (torch.eye(A.shape[-1], dtype=A.dtype, device=A.device) * (1.0 if w is None else w))
        A, R = prefixes(_dense, (A, write), "scan")
        states = A @ S[:, :, None] + R
    elif w is not None:
        A, R = prefixes(_diagonal, (w, write), "scan")
        states = A * S[:, :, None] + R
    else:
        states = prefixes(lambda x, y: (x[0] + y[0],), (write,), "scan")[0] + S[:, :, None]
    last = states[:, :, -1]
    if p.bonus is None:
        return (p.q[..., None, :] @ states)[..., 0, :], last
    before = torch.cat((S[:, :, None], states[:, :, :-1]), 2)
    now = (p.q * p.bonus * p.k).sum(-1, keepdim=True) * p.v
    return (p.q[..., None, :] @ before)[..., 0, :] + now, last


def _diagonal(earlier, later):
    return later[0] * earlier[0], later[0] * earlier[1] + later[1]


def _dense(earlier, later):
    return later[0] @ earlier[0], later[0] @ earlier[1] + later[1]


def chunk_form(p: MatrixParts, S: Tensor, L: int | None) -> tuple[Tensor, Tensor]:
    """Matrix products inside chunks of L steps, one step from chunk to chunk.

    O(T (L (dk + dv) + dk dv)) flops, all of them in matrix products; O(T (L + dk)) memory. No power of a decay above 1
    is ever formed, so that strong decays neither overflow nor cancel.

    The rank-one terms: with u_t = b_t^T S_{t-1} the state is ``S_t = diag(w_t) S_{t-1} + a_t u_t^T + k_t v_t^T``, and
    inside a chunk ``(I - M_ba) U = B S_0 + M_bk V`` with M strictly lower triangular.
    Bischof and Van Loan (1987), doi:10.1137/0908009 (WY form); Yang, Wang, Zhang, Shen and Kim (2024),
    arXiv:2406.06484, section 3 (its use for the delta rule).
    """
    T, g = p.k.shape[2], p.log_decay
    if L is None:
        L = CHUNK if g is None else CHUNK // 2
    L = 1 << (min(L, max(T, 1)) - 1).bit_length()  # halves of halves down to single steps
    C = -(-T // L)
    # Padding steps write nothing, keep everything (w = 1) and are cut off.
    p = p.map(lambda x: F.pad(x, (0, 0, 0, C * L - T)).unflatten(2, (C, L)))
    g = p.log_decay
    low_rank = p.a is not None and p.b is not None
    # What is read (q, b) against what was written (k, a). A reader before the update meets decays up to t - 1 only:
    # its rows are moved up by one step, and down again afterwards.
    readers = [p.q if p.bonus is None else _shift_up(p.q), *([_shift_up(p.b)] if p.b is not None else [])]
    writers = [p.k, *([p.a] if p.a is not None else [])]
    M = decayed_products(torch.stack(readers, -3), torch.stack(writers, -3), g)  # (B, H, C, readers, writers, L, L)
    M_qk = M[..., 0, 0, :, :]
    if p.bonus is not None:
        M_qk = _shift_down(M_qk) + torch.diag_embed((p.q * p.bonus * p.k).sum(-1))
    q_reach, whole, k_left = p.q, None, p.k
    if g is not None:
        since_start, until_end = torch.exp(g.cumsum(-2)), torch.exp(_exclusive_suffix(g))
        before = torch.exp(_shift_down(g.cumsum(-2))) if low_rank or p.bonus is not None else since_start
        q_reach = p.q * (since_start if p.bonus is None else before)
        k_left, whole = p.k * until_end, since_start[..., -1, :, None]
    o, write = M_qk @ p.v, k_left.mT @ p.v
    if p.a is not None and p.b is not None:
        M_qa = M[..., 0, 1, :, :] if p.bonus is None else _shift_down(M[..., 0, 1, :, :])
        M_bk, M_ba = _shift_down(M[..., 1, 0, :, :]), _shift_down(M[..., 1, 1, :, :])
        b_reach, a_left = (p.b, p.a) if g is None else (p.b * before, p.a * until_end)
        right = torch.cat((b_reach, M_bk @ p.v), -1)
        identity = torch.eye(L, dtype=p.k.dtype, device=p.k.device)
        solved = torch.linalg.solve_triangular(identity - M_ba, right, upper=False, unitriangular=True)
        W, U = solved[..., : p.k.shape[-1]], solved[..., p.k.shape[-1] :]
        q_reach, o = q_reach + M_qa @ W, o + M_qa @ U
        write = write + a_left.mT @ U
        kept = torch.eye(p.k.shape[-1], dtype=p.k.dtype, device=p.k.device) * (1.0 if whole is None else whole)
        S, starts = _dense_steps(kept + a_left.mT @ W, write, S)
    else:
        S, starts = _diagonal_steps(whole, write, S)
    o = o + q_reach @ starts
    return o.flatten(2, 3)[:, :, :T], S


def _diagonal_steps(whole: Tensor | None, write: Tensor, S: Tensor) -> tuple[Tensor, Tensor]:
    starts = []
    for c in range(write.shape[2]):
        starts.append(S)
        S = (S if whole is None else whole[:, :, c] * S) + write[:, :, c]
    return S, torch.stack(starts, 2)


def _dense_steps(turn: Tensor, write: Tensor, S: Tensor) -> tuple[Tensor, Tensor]:
    starts = []
    for c in range(write.shape[2]):
        starts.append(S)
        S = turn[:, :, c] @ S + write[:, :, c]
    return S, torch.stack(starts, 2)


def _shift_down(x: Tensor) -> Tensor:
    """Row t becomes row t + 1; the first row is 0."""
    return F.pad(x[..., :-1, :], (0, 0, 1, 0))


def _shift_up(x: Tensor) -> Tensor:
    """Row t + 1 becomes row t; the last row is 0."""
    return F.pad(x[..., 1:, :], (0, 0, 0, 1))


def _exclusive_suffix(g: Tensor) -> Tensor:
    """sum of g over the steps after t; never a difference of sums, so that -inf and large sums are exact."""
    return F.pad(g[..., 1:, :].flip(-2).cumsum(-2).flip(-2), (0, 0, 0, 1))


def decayed_products(X: Tensor, Y: Tensor, g: Tensor | None) -> Tensor:
    """``M_tj = x_t^T diag(w_t ... w_{j+1}) y_j`` for j <= t and 0 above, for each reader x and writer y.

    (..., R, L, d) and (..., W, L, d) give (..., R, W, L, L); the decays (..., L, d) are exponentiated once for all.
    """
    L = X.shape[-2]
    if g is None:
        return _pairs(X, Y).tril()
    if g.shape[-1] == 1:
        return _pairs(X, Y) * segment_decay(g[..., 0])[..., None, None, :, :]
    # Halves: rows of the second against columns of the first meet at the boundary, where both have decayed (<= 1).
    # Then the halves of the halves, all of one size in one product; from single steps up.
    M = (X.unsqueeze(-3) * Y.unsqueeze(-4)).sum(-1)[..., None, None]  # (..., R, W, L blocks, 1, 1)
    half = 1
    while half < L:
        n = L // (2 * half)
        x, y, decays = (z.unflatten(-2, (n, 2, half)) for z in (X, Y, g))
        rows = x[..., 1, :, :] * torch.exp(decays[..., 1, :, :].cumsum(-2)).unsqueeze(-4)
        columns = y[..., 0, :, :] * torch.exp(_exclusive_suffix(decays[..., 0, :, :])).unsqueeze(-4)
        low = _blocks(rows, columns)  # (..., R, W, n, half, half)
        pairs = M.unflatten(-3, (n, 2))
        top = F.pad(pairs[..., 0, :, :], (0, half))
        M = torch.cat((top, torch.cat((low, pairs[..., 1, :, :]), -1)), -2)
        half *= 2
    return M[..., 0, :, :]


def _pairs(X: Tensor, Y: Tensor) -> Tensor:
    """x_t . y_j of every reader (..., R, L, d) and writer (..., W, L, d) in one product: (..., R, W, L, L)."""
    R, W, L = X.shape[-3], Y.shape[-3], X.shape[-2]
    return (X.flatten(-3, -2) @ Y.flatten(-3, -2).mT).unflatten(-2, (R, L)).unflatten(-1, (W, L)).movedim(-2, -3)


def _blocks(X: Tensor, Y: Tensor) -> Tensor:
    """The same for blocks: (..., R, n, h, d) and (..., W, n, h, d) give (..., R, W, n, h, h)."""
    return _pairs(X.movedim(-3, -4), Y.movedim(-3, -4)).movedim(-5, -3)


def segment_decay(g: Tensor) -> Tensor:
    """``exp(g_{j+1} + ... + g_t)`` for j <= t and 0 above, (..., L, L) from (..., L), each a sum of its own terms."""
    L = g.shape[-1]
    below = torch.ones(L, L, dtype=torch.bool, device=g.device).tril(-1)
    terms = torch.where(below, g[..., :, None], torch.zeros((), dtype=g.dtype, device=g.device))
    return torch.exp(terms.cumsum(-2)).tril()
