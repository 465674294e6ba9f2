"""A non-linear recurrence with time split over processes: multiple shooting, with Newton's correction at the seams."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function

from seqsolve._checks import as_tensor
from seqsolve.conditioning import Growth
from seqsolve.driver import Run
from seqsolve.implicit import attach_gradient, parameters_of
from seqsolve.linearization import as_structure
from seqsolve.methods import METHODS
from seqsolve.recurrence import Recurrence, as_recurrence
from seqsolve.results import HISTORY, Certificate, Solution, Status, no_history

from .affine import _product
from .ranks import TIMEOUT, Ranks

_WINDOW_ELEMENTS = 1 << 20  # memory for the Jacobians whose product is formed
_NEGLIGIBLE = 1e-3  # of eps: from there on a product of Jacobians moves nothing


def solve(
    step: Any,
    x0: Any,
    inputs: Any,
    *,
    method: str = "auto",
    linearization: str | tuple[str, int] = "auto",
    window: int | str = "auto",
    tol: float | None = None,
    process_group: Any = None,
    timeout: float = TIMEOUT,
) -> Solution:
    r"""All states of a recurrence ``x_t = f(x_{t-1}, u_t)`` with time split over ranks, with one certificate for all.

    Every rank solves its own steps from a guessed start :math:`X_r`, by any method of `seqsolve.METHODS`. Its end
    :math:`F_r(X_r)` and the product :math:`P_r` of its Jacobians are exchanged, and all starts are corrected at once:

    .. math:: X_{r+1} \leftarrow F_r(X_r^{old}) + P_r\,(X_r - X_r^{old})

    A recurrence that forgets is done in two rounds. Whatever it does, k rounds make the first k ranks exact, so that
    the number of ranks bounds the rounds, and a recurrence that gains nothing takes about as long as one process.

    Parameters
    ----------
    step : nn.RNN, nn.GRU, nn.LSTM (one layer, one direction), their cells, or ``step(x, u) -> x``; alike on every rank.
    x0 : (..., n), the state before the first step of rank 0; given on every rank alike, the one of rank 0 is taken.
    inputs : (T_r, ..., m), this rank's; T_r may differ between ranks and be 0.
    method, linearization, window, tol : as in `seqsolve.solve`; "auto" is the verdict on this rank's own steps.
    process_group : a torch.distributed group; None is the default one.
    timeout : seconds to wait for a message of another rank. It includes the time by which other ranks are slower.

    Returns
    -------
    Solution
        ``states`` (T_r, ..., n), this rank's; `status` and `certificate` are those of the whole sequence, the same on
        every rank; `history` and `sweeps` are of the last round of this rank. `reason` says how many rounds there were.

    Raises
    ------
    LostRankError
        When a rank does not answer within `timeout` seconds, or its connection closes; on all other ranks.
    ValueError, TypeError
        When arguments do not fit, or differ between ranks.

    Notes
    -----
    Complexity: a round is one local solve and an exchange of n^2 + 2n numbers. The product of Jacobians is taken from
    the end of the part and left where it is negligible. The certificate costs two linearisations.

    States carry the implicit gradient, exact whatever the method: two local backward passes and one exchange. All ranks
    must run their backward pass. The gradient by `x0` lies on rank 0 and is zero elsewhere, and each rank has its own
    share of the gradients by parameters (None on a rank without steps): sum them over ranks, as data-parallel training
    does.

    References
    ----------
    Bellen and Zennaro (1989), doi:10.1016/0377-0427(89)90037-X; Gander and Vandewalle (2007),
    doi:10.1137/05064607X, section 2, for the iteration.

    Examples
    --------
    >>> import torch
    >>> import torch.distributed as dist
    >>> from seqsolve import distributed
    >>> dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)  # as many as there are processes
    >>> u = torch.linspace(0, 6, 200, dtype=torch.float64)[:, None]
    >>> x0 = torch.zeros(1, dtype=torch.float64)
    >>> sol = distributed.solve(lambda x, u: torch.tanh(0.8 * x + u.sin()), x0, u, method="newton")
    >>> sol.ok, sol.certificate.residual < 1e-13
    (True, True)
    >>> dist.destroy_process_group()
    """
    ranks = Ranks.of(process_group, timeout)
    if method != "auto" and method not in METHODS:
        raise ValueError(f"method={method!r} is unknown; pass 'auto' or one of {', '.join(METHODS)}")
    clock = time.perf_counter()
    problem = as_recurrence(step, x0, inputs)
    ranks.agree(problem.inputs, 0, "inputs")
    ranks.agree(problem.x0[None], 0, "x0")
    parts = _Parts(ranks, step, problem, method, as_structure(linearization, problem.x0.shape[-1]), window, tol)
    with torch.no_grad():
        parts.shoot()
        certificate, status = parts.certify()
    states = _linked(parts, step, x0, inputs)
    keep = as_tensor(inputs, "inputs").dtype
    states = states.to(keep) if keep in (torch.float16, torch.bfloat16) else states
    run = parts.run
    reason = f"{parts.reason}; rounds over {ranks.size} ranks: {parts.rounds}"
    return Solution(
        states if isinstance(inputs, Tensor) else states.detach().numpy(), status, parts.method, run.largest_window,
        reason, len(run.history) / max(run.windows, 1) if run.history else 1.0, certificate,
        np.array(run.history, HISTORY).view(np.recarray) if run.history else no_history(), run.repaired,
        time.perf_counter() - clock,
    )  # fmt: skip


class _Parts:
    """One solve in progress, as one rank sees it."""

    def __init__(self, ranks: Ranks, step, problem: Recurrence, method, structure, window, tol):
        self.ranks, self.step, self.problem = ranks, step, problem
        problem.structure = structure
        self.method, self.window, self.tol, self.structure = method, window, tol, structure
        self.reason = "asked for"
        x0 = problem.x0
        self.x0 = ranks.all(x0, "taking the first state from rank 0")[0]
        self.eye = torch.eye(x0.shape[-1], dtype=x0.dtype).expand(*x0.shape, x0.shape[-1]).clone()

    def shoot(self) -> None:
        """Rounds until every part starts where the part before it ended."""
        ranks = self.ranks
        self.start = self.x0
        solved = None  # the start that `states` belong to
        for self.rounds in range(1, ranks.size + 1):
            if solved is None or not _same(solved, self.start):
                self._solve_part(None if solved is None else self.states)
                solved = self.start
            self.product = self._end_map()
            starts, ends, products, scales = self._exchange()
            seams = [_distance(ends[r], starts[r + 1]) for r in range(ranks.size - 1)]
            self.seam = max((gap / (max(scales) or 1.0) for gap in seams), default=0.0)
            if all(gap <= self.run.tol * max(scales[: r + 2]) for r, gap in enumerate(seams)):
                break
            self.start = _corrected(starts, ends, products, scales)[ranks.rank]
        self.products = products
        self.before = self.x0 if ranks.rank == 0 else ends[ranks.rank - 1]  # where the part before truly ended

    def _solve_part(self, guess: Tensor | None) -> None:
        self.problem, burn = self._problem(self.start), None
        problem = self.problem
        if self.method == "auto":
            from seqsolve.verdict import verdict

            found = verdict(problem, self.tol)
            self.method, self.reason, burn = found.method, found.reason, found.burn
        if guess is not None:
            guess = torch.where(torch.isfinite(guess), guess, 0.0)
        self.run = Run(problem, self.method, self.window, self.tol, guess=guess, burn=burn)
        self.run.go()
        self.states = self.run.states

    def _problem(self, start: Tensor) -> Recurrence:
        problem = as_recurrence(self.step, start, self.problem.inputs)
        problem.structure = self.structure
        return problem

    def _end_map(self) -> Tensor:
        """dx_last / dx_start as the product of all Jacobians, from the end until nothing is left of it."""
        states, n = self.states, self.start.shape[-1]
        product, width = self.eye, max(1, min(256, _WINDOW_ELEMENTS // max(1, self.start.numel() * n)))
        limits = torch.finfo(states.dtype)
        for high in range(len(states), 0, -width):
            low = max(high - width, 0)
            before = torch.cat([(states[low - 1] if low else self.start)[None], states[low : high - 1]])
            _, linear = self.problem.linearize(before, low)
            J = linear.matrices()
            product = product @ _product(J.expand(high - low, *product.shape), "dense")
            size = float(product.abs().max()) if product.numel() else 0.0
            if not math.isfinite(size):
                return torch.full_like(product, math.nan)
            if size * n <= _NEGLIGIBLE * limits.eps:
                return torch.zeros_like(product)
        return product

    def _exchange(self):
        end = self.states[-1] if len(self.states) else self.start
        scale = self.states.abs().nan_to_num(0.0, 0.0).max() if self.states.numel() else end.new_zeros(())
        packed = torch.cat([self.start.flatten(), end.flatten(), self.product.flatten(), scale[None]])
        starts, ends, products, scales = [], [], [], []
        sizes = [end.numel(), end.numel(), self.product.numel(), 1]
        for x in self.ranks.all(packed, "exchanging the ends of the parts"):
            a, b, P, s = x.split(sizes)
            starts.append(a.view_as(end))
            ends.append(b.view_as(end))
            products.append(P.view_as(self.product))
            scales.append(float(s))
        return starts, ends, products, scales

    def certify(self) -> tuple[Certificate, Status]:
        """One certificate of the whole sequence, seams included, from the parts of all ranks."""
        ranks, run, states = self.ranks, self.run, self.states
        problem = self._problem(self.before)
        steps = len(states)
        bad = (~torch.isfinite(states).flatten(1).all(1)).nonzero() if states.numel() else ()
        finite = not len(bad) and bool(torch.isfinite(self.before).all())
        growth = Growth(problem, run.eps)
        if finite:
            growth.run(states, 0, steps)
            ends = ranks.all(torch.stack([c.value for c in (growth.gaps, *growth.noises)]), "exchanging errors")
            carried = torch.zeros_like(ends[0])
            for r in range(ranks.rank):
                carried = (self.products[r] @ carried[..., None])[..., 0] + ends[r]
            if ranks.rank:  # once more, with the errors that the parts before hand over
                growth = Growth(problem, run.eps)
                for mine, error in zip((growth.gaps, *growth.noises), carried):
                    mine.enter(error)
                growth.run(states, 0, steps)
        else:
            empty = torch.full((1 + len(growth.noises), *self.x0.shape), math.nan, dtype=self.x0.dtype)
            ranks.all(empty, "exchanging errors")
        facts = [
            growth.residual, growth.scale, growth.gaps.largest, growth.amplification, growth.logs, growth.steps,
            finite, run.failed, run.repaired, steps, run.exact or not steps, run.seam or 0.0,
            run.method.exact or run.method.chunked or not steps,
        ]  # fmt: skip
        table = torch.stack(ranks.all(torch.tensor(facts, dtype=torch.float64), "comparing certificates")).T
        return _verdict(Growth(problem, run.eps), table.tolist(), run, self.seam)


def _verdict(growth: Growth, table: list[list[float]], run: Run, between: float) -> tuple[Certificate, Status]:
    """The facts of all ranks as one certificate; `between` is the largest gap between the parts, over the scale.

    Steps in order are exact however much a second evaluation of them, in another order of rounding, differs: what is
    left to meet are the seams between the parts. All other steps have to meet the residual.
    """
    residual, scale, gaps, noise, logs, steps, finite, failed, repaired, lengths, exact, seam, seamed = table
    if not any(lengths):
        return Certificate("empty"), Status.EMPTY
    growth.residual, growth.scale = max(residual), max(scale)
    growth.gaps.largest, growth.noises[0].largest = (max(x, key=lambda v: (math.isnan(v), v)) for x in (gaps, noise))
    growth.logs, growth.steps = sum(logs), int(sum(steps))
    size = growth.residual / (growth.scale or 1.0)
    held = max((r for r, own in zip(residual, exact) if not own), default=0.0) / (growth.scale or 1.0)
    ordered = all(exact) and between == 0
    kind = "exact sequential" if ordered else "seam" if all(seamed) else "residual"
    certificate = Certificate(
        kind, size, growth.amplification, growth.bound, lyapunov=growth.lyapunov, finite=all(finite),
        met=not any(failed) and between <= 4 * run.tol and held <= 4 * max(run.tol, 16 * run.eps),
        seam=max(between, *seam) if kind == "seam" else None,
    )  # fmt: skip
    if not certificate.finite:
        return certificate, Status.NONFINITE
    if not certificate.met:
        return certificate, Status.DIVERGED
    if not certificate.ok:
        return certificate, Status.CHAOTIC if (growth.lyapunov or 0) > 0 else Status.SENSITIVE
    if ordered:
        return certificate, Status.SEQUENTIAL
    return certificate, Status.REPAIRED if any(repaired) else Status.CONVERGED


def _corrected(starts, ends, products, scales) -> list[Tensor]:
    """Newton's step on the seams: an affine recurrence over the ranks.

    A correction that is not finite, or larger than the states themselves, is left out: the plain end remains, which is
    exact as soon as the start before it is.
    """
    new = [starts[0]]
    for r in range(len(starts) - 1):
        moved = (products[r] @ (new[r] - starts[r])[..., None])[..., 0]
        trusted = bool(torch.isfinite(moved).all()) and float(moved.abs().max() if moved.numel() else 0) <= max(scales)
        new.append(ends[r] + moved if trusted else ends[r])
    return new


def _same(a: Tensor, b: Tensor) -> bool:
    return bool(((a == b) | (a.isnan() & b.isnan())).all())


def _distance(a: Tensor, b: Tensor) -> float:
    """max |a - b|; 0 where both are NaN or the same infinity."""
    if not a.numel():
        return 0.0
    same = (a == b) | (a.isnan() & b.isnan())
    return float(torch.where(same, 0.0, (a - b).abs()).nan_to_num(math.inf).max())


def _linked(parts: _Parts, step: Any, x0: Any, inputs: Any) -> Tensor:
    """This rank's states with the gradient through all ranks, where any rank wants one."""
    states, ranks = parts.states, parts.ranks
    live = torch.is_grad_enabled() and isinstance(inputs, Tensor)
    parameters = parameters_of(step, parts.problem.x0, parts.problem.inputs) if live else []
    given = torch.cat(list(x0), -1) if isinstance(x0, tuple) else x0
    wanted = live and any(isinstance(t, Tensor) and t.requires_grad for t in (given, inputs, *parameters))
    if not any(bool(flag) for flag in ranks.all(torch.tensor([float(wanted)]), "asking who wants gradients")):
        return states
    first = as_tensor(given, "x0").to(states.dtype)
    u = as_tensor(inputs, "inputs").to(states.dtype)
    return _Across.apply(states, first, u, parts, step, *parameters)  # pyright: ignore[reportReturnType]


class _Across(Function):
    """mu_r = P_r^T mu_{r+1} + p_r, where p_r is the gradient by the start of part r when nothing comes from behind."""

    @staticmethod
    def forward(ctx, states, x0, inputs, parts: _Parts, step, *parameters):
        ctx.rest = parts.ranks, step, parts.products
        ctx.save_for_backward(states, parts.before, inputs, *parameters)
        return states.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        states, before, inputs, *parameters = ctx.saved_tensors
        ranks, step, products = ctx.rest
        needs = [ctx.needs_input_grad[2], *ctx.needs_input_grad[5:]]
        with torch.enable_grad():
            start, u = before.detach().requires_grad_(), inputs.detach().requires_grad_()
            local = attach_gradient(states, step, start, u, parameters) if len(states) else None
        mine = torch.zeros_like(before)
        if local is not None:
            mine = torch.autograd.grad(local, start, g, retain_graph=True)[0]
        pieces = ranks.all(mine, "exchanging the gradients of a solve")
        behind = torch.zeros_like(before)
        for r in range(ranks.size - 1, ranks.rank, -1):
            behind = (products[r].mT @ behind[..., None])[..., 0] + pieces[r]
        if local is None:
            rest = [torch.zeros_like(t) for t in (u, *parameters)]
            first = behind
        else:
            g = torch.cat([g[:-1], (g[-1] + behind)[None]])
            first, *rest = torch.autograd.grad(local, [start, u, *parameters], g, allow_unused=True)
        first = first if ranks.rank == 0 else torch.zeros_like(before)
        u_grad, *others = (x if need else None for x, need in zip(rest, needs))
        return None, first, u_grad, None, None, *others
