"""The Jacobians J_t of a stretch of steps, in the structures that make their scan cheap."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

STRUCTURES = ("dense", "diag", "block", "low-rank")


class Linearization(Protocol):
    """The Jacobians J_t of a stretch of steps, (T, ..., n, n) in one structure or another."""

    def scan(self, rhs: Tensor, start: Tensor) -> Tensor:
        """All d_t = J_t d_{t-1} + rhs_t."""
        ...

    def tail(self, k: int) -> Linearization:
        """The same without the first k steps."""
        ...

    def damped(self, factor: float) -> Linearization:
        """factor * J_t."""
        ...

    def diagonal(self) -> Tensor:
        """The diagonals of J_t, (T, ..., n)."""
        ...

    def matrices(self) -> Tensor:
        """J_t written out, (T, ..., n, n)."""
        ...


def _by_autograd(A: Tensor, rhs: Tensor, start: Tensor, structure: str) -> Tensor:
    from .scan import affine_scan

    return affine_scan(A, rhs, start, structure=structure, workers=1)


def _differentiable(*tensors: Tensor) -> bool:
    return torch.is_grad_enabled() and any(t.requires_grad for t in tensors)


class Dense:
    """Jacobians as matrices, (T, ..., n, n)."""

    def __init__(self, J: Tensor):
        self.J = J

    def scan(self, rhs, start):
        if _differentiable(self.J, rhs, start):
            return _by_autograd(self.J, rhs, start, "dense")
        from . import _scan_kernels as kernels

        T, n = rhs.shape[0], rhs.shape[-1]
        J, b = self.J.detach().reshape(T, -1, n, n), rhs.detach().reshape(T, -1, n)
        out, v = torch.empty_like(b), start.detach().reshape(-1, n)
        for i in range(b.shape[1]):
            mine = np.empty((T, n), b.numpy().dtype)
            kernels.dense_scan(
                J[:, i].contiguous().numpy(), b[:, i].contiguous().numpy(), v[i].clone().numpy(), mine, False
            )
            out[:, i] = torch.from_numpy(mine)
        return out.reshape(rhs.shape)

    def tail(self, k):
        return Dense(self.J[k:])

    def damped(self, factor):
        return Dense(self.J * factor)

    def diagonal(self):
        return self.J.diagonal(dim1=-2, dim2=-1)

    def matrices(self):
        return self.J


class Diagonal:
    """J_t = diag(a_t), a is (T, ..., n)."""

    def __init__(self, a: Tensor):
        self.a = a

    def scan(self, rhs, start):
        if _differentiable(self.a, rhs, start):
            return _by_autograd(self.a, rhs, start, "diag")
        from . import _scan_kernels as kernels

        T = len(rhs)
        a, b = (t.detach().reshape(T, -1).contiguous().numpy() for t in (self.a, rhs))
        out = np.empty_like(b)
        kernels.diag_scan(a, b, start.detach().reshape(-1).clone().numpy(), out, 0, T, False)
        return torch.from_numpy(out).reshape(rhs.shape)

    def tail(self, k):
        return Diagonal(self.a[k:])

    def damped(self, factor):
        return Diagonal(self.a * factor)

    def diagonal(self):
        return self.a

    def matrices(self):
        return torch.diag_embed(self.a)


class Block:
    """Blocks of k along the diagonal, (T, ..., n/k, k, k)."""

    def __init__(self, blocks: Tensor):
        self.blocks = blocks

    def scan(self, rhs, start):
        k = self.blocks.shape[-1]
        apart = Dense(self.blocks).scan(rhs.unflatten(-1, (-1, k)), start.unflatten(-1, (-1, k)))
        return apart.flatten(-2)

    def tail(self, k):
        return Block(self.blocks[k:])

    def damped(self, factor):
        return Block(self.blocks * factor)

    def diagonal(self):
        return self.blocks.diagonal(dim1=-2, dim2=-1).flatten(-2)

    def matrices(self):
        count, k = self.blocks.shape[-3], self.blocks.shape[-1]
        J = self.blocks.new_zeros((*self.blocks.shape[:-3], count, k, count, k))
        for i in range(count):
            J[..., i, :, i, :] = self.blocks[..., i, :, :]
        return J.flatten(-4, -3).flatten(-2)


class LowRank:
    """J_t = B_t Q_t^T with B, Q of shape (T, ..., n, r)."""

    def __init__(self, B: Tensor, Q: Tensor):
        self.B, self.Q = B, Q

    def scan(self, rhs, start):
        if _differentiable(self.B, self.Q, rhs, start):
            return _by_autograd(self.matrices(), rhs, start, "dense")
        from . import _structure_kernels as kernels

        T, n, r = len(rhs), self.B.shape[-2], self.B.shape[-1]
        B, Q = (t.detach().reshape(T, -1, n, r) for t in (self.B, self.Q))
        b, v = rhs.detach().reshape(T, -1, n), start.detach().reshape(-1, n)
        out = torch.empty_like(b)
        for i in range(b.shape[1]):
            mine = np.empty((T, n), b.numpy().dtype)
            parts = (t[:, i].contiguous().numpy() for t in (B, Q, b))
            kernels.low_rank_scan(*parts, v[i].clone().numpy(), mine)
            out[:, i] = torch.from_numpy(mine)
        return out.reshape(rhs.shape)

    def tail(self, k):
        return LowRank(self.B[k:], self.Q[k:])

    def damped(self, factor):
        return LowRank(self.B * factor, self.Q)

    def diagonal(self):
        return (self.B * self.Q).sum(-1)

    def matrices(self):
        return self.B @ self.Q.transpose(-1, -2)


class Gates:
    """Jacobians of a known cell, applied through its weights; D, C as in `gate_scan` and `lstm_scan`."""

    def __init__(self, U: np.ndarray, D: Tensor, C: Tensor, shape: tuple[int, ...], lstm: bool):
        self.U, self.D, self.C, self.shape, self.lstm = U, D, C, shape, lstm  # shape of one state

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

    def tail(self, k):
        return Gates(self.U, self.D[k:], self.C[k:], self.shape, self.lstm)

    def damped(self, factor):
        D = self.D * factor
        if self.lstm:  # h' = D_1 c' + ..: c' is damped already
            D[:, :, 1] = self.D[:, :, 1]
        return Gates(self.U, D, self.C * factor, self.shape, self.lstm)

    def diagonal(self):
        U = torch.from_numpy(self.U).unflatten(0, (self.C.shape[2], -1)).diagonal(dim1=-2, dim2=-1)
        own = self.C * U
        if not self.lstm:
            return (self.D + own.sum(2)).reshape(-1, *self.shape)
        h = self.D[:, :, 1] * own[:, :, :3].sum(2) + own[:, :, 3]
        return torch.cat([h, self.D[:, :, 0]], -1).reshape(-1, *self.shape)

    def matrices(self):
        U = torch.from_numpy(self.U).unflatten(0, (self.C.shape[2], -1))
        n = self.shape[-1]
        if not self.lstm:
            J = torch.einsum("tbgi,gij->tbij", self.C, U) + torch.diag_embed(self.D)
        else:
            c = torch.einsum("tbgi,gij->tbij", self.C[:, :, :3], U[:3])
            h = self.D[:, :, 1, :, None] * c + self.C[:, :, 3, :, None] * U[3]
            d = torch.diag_embed(torch.stack([self.D[:, :, 0] * self.D[:, :, 1], self.D[:, :, 0]]))
            J = torch.cat([torch.cat([h, d[0]], -1), torch.cat([c, d[1]], -1)], -2)
        return J.reshape(-1, *self.shape, n)


class Constant:
    """One matrix A for every step, diagonalised, so that its scan is element-wise and complex."""

    def __init__(self, A: Tensor):
        self.A, self.factor = A, 1.0
        self.V = self.inverse = None
        if A.requires_grad:  # eigenvectors have no gradient where eigenvalues meet; the matrix itself always has
            return
        values, V = torch.linalg.eig(A.double())
        # rounding in the scan is multiplied by the condition of V; a defective A keeps its matrix form
        s = torch.linalg.svdvals(V)
        if s[-1] * 1e6 > s[0]:
            self.V, self.values, self.inverse = V, values, torch.linalg.inv(V)

    def scan(self, rhs, start):
        if self.V is None or self.inverse is None:
            return Dense((self.factor * self.A).expand(*rhs.shape, rhs.shape[-1])).scan(rhs, start)
        b, v = (t.to(self.V.dtype) @ self.inverse.T for t in (rhs, start))
        return (Diagonal((self.factor * self.values).expand(b.shape)).scan(b, v) @ self.V.T).real.to(rhs.dtype)

    def tail(self, k):
        return self

    def damped(self, factor):
        if factor == 1.0:
            return self
        other = object.__new__(Constant)
        other.__dict__.update(self.__dict__, factor=self.factor * factor)
        return other

    def diagonal(self):
        return (self.factor * self.A).diagonal()

    def matrices(self):
        return self.factor * self.A


def restructure(linear: Linearization, kind: str, size: int) -> Linearization:
    """The part of written-out Jacobians that a structure holds."""
    if kind == "dense":
        return Dense(linear.matrices())
    if kind == "diag":
        return Diagonal(linear.diagonal())
    J = linear.matrices()
    n = J.shape[-1]
    if kind == "block":
        apart = J.unflatten(-1, (n // size, size)).unflatten(-3, (n // size, size))  # (.., block, i, block, j)
        return Block(apart.diagonal(dim1=-4, dim2=-2).movedim(-1, -3))
    L, s, R = torch.linalg.svd(J, full_matrices=False)
    return LowRank(L[..., :size] * s[..., None, :size], R[..., :size, :].transpose(-1, -2))


def as_structure(linearization, n: int) -> tuple[str, int] | None:
    """The checked form of what `solve` takes as linearization=; None leaves the choice to the recurrence."""
    if linearization is None or linearization == "auto":
        return None
    kind, size = linearization if isinstance(linearization, tuple) and len(linearization) == 2 else (linearization, 1)
    if kind not in STRUCTURES:
        raise ValueError(
            f"linearization={linearization!r} is unknown; pass 'auto', 'dense', 'diag', ('block', size) or"
            " ('low-rank', rank)"
        )
    if kind in ("block", "low-rank"):
        if not isinstance(linearization, tuple) or isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"linearization={linearization!r} needs a whole number: ('{kind}', 2)")
        if kind == "block" and n % size:
            raise ValueError(f"linearization={linearization!r} does not divide a state of {n} numbers into blocks")
    return kind, min(size, n)
