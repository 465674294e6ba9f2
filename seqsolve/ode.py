"""Differential equations as recurrences, so that `solve` integrates them in parallel over time.

A scheme turns ``dx/dt = field(x, t)`` into ``step(x, u)`` whose input is u = (t, dt): `explicit_euler`,
`implicit_euler`, `rk4`. `integrate` puts them together; `lorenz` and `van_der_pol` are fields to try.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ._checks import as_tensor, choice
from .results import Solution

Field = Callable[[Tensor, Tensor], Tensor]
_NEWTON = 8  # iterations of an implicit step, quadratic from the explicit guess


def explicit_euler(field: Field) -> Callable[[Tensor, Tensor], Tensor]:
    """x <- x + dt f(x, t): order 1."""

    def step(x: Tensor, u: Tensor) -> Tensor:
        return x + u[..., 1:] * field(x, u[..., :1])

    return step


def rk4(field: Field) -> Callable[[Tensor, Tensor], Tensor]:
    """The classical method of Runge and Kutta, order 4 (Hairer, Norsett, Wanner 1993, table II.1.2)."""

    def step(x: Tensor, u: Tensor) -> Tensor:
        t, dt = u[..., :1], u[..., 1:]
        a = field(x, t)
        b = field(x + dt / 2 * a, t + dt / 2)
        c = field(x + dt / 2 * b, t + dt / 2)
        d = field(x + dt * c, t + dt)
        return x + dt / 6 * (a + 2 * b + 2 * c + d)

    return step


def implicit_euler(field: Field) -> Callable[[Tensor, Tensor], Tensor]:
    """x <- y with y = x + dt f(y, t + dt): order 1, for stiff fields (Hairer, Wanner 1996, section IV.3).

    The root is found by Newton's method without a graph; one more Newton step with its matrix held gives the values
    and, by the implicit function theorem, the first derivatives (second ones lack the change of the matrix).
    """

    def matrix(y, t, dt):
        n = y.shape[-1]
        with torch.enable_grad():
            z = y.detach().expand(n, *y.shape).clone().requires_grad_()
            f = field(z, t.detach())
            rows = torch.eye(n, dtype=y.dtype).reshape(n, *[1] * (y.dim() - 1), n).expand_as(f)
            J = torch.autograd.grad(f, z, rows)[0].movedim(0, -2)
        return torch.eye(n, dtype=y.dtype) - dt.detach()[..., None] * J

    def step(x: Tensor, u: Tensor) -> Tensor:
        t, dt = u[..., :1] + u[..., 1:], u[..., 1:]
        with torch.no_grad():
            y = x + dt * field(x, u[..., :1])
            for _ in range(_NEWTON):
                gap = y - x - dt * field(y, t)
                y = y - torch.linalg.solve_ex(matrix(y, t, dt), gap[..., None])[0][..., 0]
            M = matrix(y, t, dt)
        gap = y - x - dt * field(y, t)
        return y - torch.linalg.solve_ex(M, gap[..., None])[0][..., 0]

    return step


SCHEMES = {"explicit_euler": explicit_euler, "implicit_euler": implicit_euler, "rk4": rk4}


def integrate(field: Field, x0: Any, times: Any, *, scheme: str = "rk4", **options: Any) -> Solution:
    """States of ``dx/dt = field(x, t)`` at ``times[1:]``, one step of the scheme between neighbours, by `solve`.

    Parameters
    ----------
    field : ``field(x, t) -> dx/dt`` in torch, with leading axes as a batch; t has one trailing axis of size 1.
    x0 : (n,), the state at times[0].
    times : (T + 1,), in any spacing.
    scheme : "explicit_euler", "implicit_euler" or "rk4".
    options : of `solve`: method, window, tol ...

    Returns
    -------
    Solution
        ``states`` (T, n). Its certificate is about the scheme's recurrence; the error of the scheme comes on top.

    Examples
    --------
    >>> import torch, seqsolve as sq
    >>> t = torch.linspace(0, 1, 101, dtype=torch.float64)
    >>> sol = sq.ode.integrate(lambda x, t: -x, torch.ones(1, dtype=torch.float64), t, method="newton")
    >>> sol.ok, round(float(sol.states[-1, 0]), 6)
    (True, 0.367879)
    """
    choice(scheme, "scheme", SCHEMES)
    from .solve import solve

    x0, times = as_tensor(x0, "x0"), as_tensor(times, "times")
    if times.dim() != 1 or len(times) < 2:
        raise ValueError(f"times has shape {tuple(times.shape)}; pass at least two, along one axis")
    if x0.dim() != 1:
        raise ValueError(f"x0 has shape {tuple(x0.shape)}; pass one state, shape (n,)")
    inputs = torch.stack([times[:-1], times.diff()], dim=-1).to(torch.promote_types(x0.dtype, times.dtype))
    return solve(SCHEMES[scheme](field), x0.to(inputs.dtype), inputs, **options)


def lorenz(sigma: float = 10.0, rho: float = 28.0, beta: float = 8 / 3) -> Field:
    """The field of Lorenz (1963), doi:10.1175/1520-0469(1963)020<0130:DNF>2.0.CO;2, chaotic as it stands."""

    def field(x: Tensor, t: Tensor) -> Tensor:
        a, b, c = x.unbind(-1)
        return torch.stack([sigma * (b - a), a * (rho - c) - b, a * b - beta * c], dim=-1)

    return field


def van_der_pol(mu: float = 1.0) -> Field:
    """x'' = mu (1 - x^2) x' - x as a field of two variables: a limit cycle, stiff for large mu."""

    def field(x: Tensor, t: Tensor) -> Tensor:
        a, b = x.unbind(-1)
        return torch.stack([b, mu * (1 - a * a) * b - a], dim=-1)

    return field
