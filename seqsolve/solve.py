"""Check, diagnose, choose, solve, verify, attach the gradient: `solve`."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ._checks import as_tensor, choice, compiling, positive_integer, uncompiled
from .driver import Run
from .implicit import attach_gradient, parameters_of, torch_step
from .linearization import as_structure
from .methods import METHODS
from .model import truncated
from .recurrence import Recurrence, StepRecurrence, as_recurrence
from .results import HISTORY, Certificate, Solution, Status, no_history
from .transforms import solve_transformed, under_transform

_ON_FAIL = ("sequential", "raise", "return")


class ConvergenceError(RuntimeError):
    """A window did not meet its tolerance and on_fail="raise"; `solution` holds what there is."""

    def __init__(self, message: str, solution: Solution):
        super().__init__(message)
        self.solution = solution


def solve(
    step: Any,
    x0: Any,
    inputs: Any,
    *,
    method: str = "auto",
    linearization: str | tuple[str, int] = "auto",
    matrix: Any = None,
    window: int | str = "auto",
    damping: float | str = "auto",
    guess: Any = None,
    tol: float | None = None,
    max_sweeps: int | None = None,
    model_sweeps: int | None = None,
    on_fail: str = "sequential",
) -> Solution:
    r"""All states of a recurrence, with a certificate.

    .. math:: x_t = f(x_{t-1}, u_t),\quad t = 0..T-1

    Parameters
    ----------
    step : nn.RNN, nn.GRU, nn.LSTM (one layer, one direction), their cells, or a function ``step(x, u) -> x`` in torch
        that treats leading axes as a batch.
    x0 : (..., n), the state before the first step; for an LSTM h and c side by side, or the pair of them.
    inputs : (T, ..., m), time first. Torch tensors or numpy arrays, float32 or float64.
    method : one of `METHODS`, or "auto": what `diagnose` says. All but "sequential" sweep over a window of steps,
        solving ``d_t - A_t d_{t-1} = f(x_{t-1}, u_t) - x_t`` and adding d to x. They differ in A_t: 0 (jacobi), the
        identity (picard), one matrix (constant), the Jacobian at x = 0 (frozen), that of the second sweep (chord), of
        every sweep (newton), its diagonal (quasi), both of these in a trust region (elk, quasi_elk). "shooting" sweeps
        over nothing: chunks of time run side by side from states that were burned in, and every seam is verified.
    linearization : structure of the Jacobians that a method sees: "dense", "diag", ("block", size), ("low-rank", rank),
        or "auto": in closed form for known cells, else dense. A structure that the step does not have costs sweeps,
        never accuracy.
    matrix : (n, n), the A of method="constant"; None derives one (tanh RNN: its weight; GRU: (I + U_n / 2) / 2;
        else the mean Jacobian at x = 0).
    window : steps that an iterative method solves at once, or "auto": 32 to begin with, doubled where windows converge
        in few sweeps and halved where they do not. For shooting the steps of a chunk; "auto" follows from its burn-in.
    damping : for elk and quasi_elk the weight >= 0 of ``|d|^2`` beside the squared residual; for the other methods,
        from 0 to 1, by which A_t is shrunk: 0 is the method itself, 1 is Jacobi. "auto" adapts it to the residuals.
    guess : (T, ..., n), states to start from, such as those of an earlier solve; None starts each window from the
        state before it.
    tol : largest residual, of shooting also the largest gap at a seam, relative to the largest state; default 32 eps
        of the dtype.
    max_sweeps : sweeps a window may take; default the window, after which every method has ended: k sweeps make the
        first k steps exact.
    model_sweeps : sweeps that every window makes, no more and no less: the truncated iteration as a model, whose
        gradient is its own. Nothing is certified then, and "auto" means Newton and one window.
    on_fail : "sequential" recomputes a window that did not converge step by step; "raise" raises; "return" keeps it.
        Shooting gives itself up beforehand where the recurrence does not forget, unless it must raise or return.

    Returns
    -------
    Solution
        ``states`` (T, ..., n), ``certificate.ok`` (False for chaos, NaN, unmet tolerance), ``history``, ``explain()``.
        With gradients enabled the states carry the implicit gradient to x0, inputs and all parameters of the step: one
        reversed affine scan with the exact Jacobians, whatever the method; twice differentiable. torch.func transforms
        (vmap, jvp, grad, jacfwd, jacrev, hessian) by x0 and inputs work; by tensors that the step itself holds too, but
        then torch hides all values and the steps run in order, uncertified.

    Raises
    ------
    ValueError, TypeError
        If the arguments do not fit; the message shows both shapes.
    ConvergenceError
        With on_fail="raise".

    Complexity
    ----------
    Sequential: T steps. Newton: about `sweeps` evaluations of all steps and as many affine scans, memory O(window n^2)
    (known cells: O(window n), their Jacobians are applied, not formed). The certificate costs one linearisation more.

    References
    ----------
    Lim et al. (2024), arXiv:2309.12252. Gonzalez et al. (2024), arXiv:2407.19115, on stability.

    Examples
    --------
    >>> import torch, seqsolve as sq
    >>> u = torch.linspace(0, 6, 200, dtype=torch.float64)[:, None]
    >>> sol = sq.solve(
    ...     lambda x, u: torch.tanh(0.8 * x + u.sin()),
    ...     torch.zeros(1, dtype=torch.float64),
    ...     u,
    ...     method="newton",
    ...     window=50,
    ... )
    >>> sol.ok, sol.status.name, bool(sol.sweeps < 8)
    (True, 'CONVERGED', True)
    """
    options = {
        "method": method, "linearization": linearization, "matrix": matrix, "window": window, "damping": damping,
        "guess": guess, "tol": tol, "max_sweeps": max_sweeps, "model_sweeps": model_sweeps, "on_fail": on_fail,
    }  # fmt: skip
    if compiling():  # a solver looks at its numbers: it runs between two graphs
        return uncompiled(solve)(step, x0, inputs, **options)
    if method != "auto":
        choice(method, "method", METHODS)
    choice(on_fail, "on_fail", _ON_FAIL)
    if window != "auto":
        window = positive_integer(window, "window")
    if max_sweeps is not None:
        max_sweeps = positive_integer(max_sweeps, "max_sweeps")
    if tol is not None and not 0 < tol < 1:
        raise ValueError(f"tol={tol} must lie between 0 and 1: it is relative to the largest state")
    damping = _checked_damping(damping, method)
    if under_transform(step, x0, inputs):
        return solve_transformed(solve, step, x0, inputs, options)
    clock = time.perf_counter()
    problem = as_recurrence(step, x0, inputs)
    problem.structure = as_structure(linearization, problem.x0.shape[-1])
    matrix = _checked_matrix(matrix, method, problem)
    if model_sweeps is not None:
        model_sweeps = positive_integer(model_sweeps, "model_sweeps")
        return _model(step, x0, inputs, problem, method, model_sweeps, window, damping, matrix, guess, clock)
    with torch.no_grad():
        reason, burn = "asked for", None
        if method == "auto":
            from .verdict import verdict

            found = verdict(problem, tol)
            method, reason, burn = found.method, found.reason, found.burn
        run = Run(
            problem, method, window, tol, max_sweeps, on_fail,
            damping=damping, matrix=matrix, guess=_checked_guess(guess, problem),
            burn=burn,
        )  # fmt: skip
        run.go()
        certificate, status = run.certify()
        reason = f"{reason}; {run.note}" if run.note else reason
    history = np.array(run.history, HISTORY).view(np.recarray) if run.history else no_history()
    solution = Solution(
        _as_given(_linked(run.states, step, x0, inputs, problem), inputs), status, method, run.largest_window, reason,
        len(run.history) / max(run.windows, 1) if run.history else 1.0,
        certificate, history, run.repaired, time.perf_counter() - clock,
    )  # fmt: skip
    if on_fail == "raise" and status is Status.DIVERGED:
        raise ConvergenceError(f"{status.value} {solution!r}", solution)
    return solution


def _model(step, x0, inputs, problem, method, sweeps, window, damping, matrix, guess, clock) -> Solution:
    """A fixed number of sweeps, differentiated as it stands."""
    if guess is not None:
        raise ValueError("model_sweeps= starts every window from the state before it; leave guess= out")
    method = "newton" if method == "auto" else method
    if METHODS[method].chunked:
        raise ValueError(f"method={method!r} makes no sweeps that model_sweeps= could count; use newton or jacobi")
    damping = METHODS[method].damping if damping == "auto" else float(damping)
    size = max(problem.steps, 1) if window == "auto" else window
    parameters = _parameters(step, x0, inputs, problem)
    live = isinstance(inputs, Tensor) and any(t.requires_grad for t in (*_given(x0, inputs), *parameters))
    if live and torch.is_grad_enabled():
        if method in ("elk", "quasi_elk"):
            raise ValueError(f"model_sweeps= has no gradient through the smoother of {method}; use newton or quasi")
        structure, dtype = problem.structure, problem.x0.dtype
        problem = StepRecurrence(torch_step(step), *(t.to(dtype) for t in _given(x0, inputs)))
        problem.structure, problem.differences = structure, False
        states, history = truncated(problem, method, sweeps, size, damping, matrix)
    else:
        with torch.no_grad():
            states, history = truncated(problem, method, sweeps, size, damping, matrix)
    residual = max((row[3] for row in history if row[2] == sweeps), default=0.0)
    finite = bool(torch.isfinite(states.detach()).all())
    return Solution(
        _as_given(states, inputs), Status.MODEL, method, size, f"{sweeps} sweeps were asked for", float(sweeps),
        Certificate("none", residual, finite=finite, met=False),
        np.array(history, HISTORY).view(np.recarray) if history else no_history(), 0, time.perf_counter() - clock,
    )  # fmt: skip


def _given(x0: Any, inputs: Any) -> tuple[Tensor, Tensor]:
    """x0 and inputs as tensors, with whatever graph they carry."""
    x0 = torch.cat([as_tensor(x, "x0") for x in x0], dim=-1) if isinstance(x0, tuple) else as_tensor(x0, "x0")
    inputs = as_tensor(inputs, "inputs")
    return tuple(t.clone() if t.is_inference() else t for t in (x0, inputs))  # what is saved for a backward pass


def _parameters(step: Any, x0: Any, inputs: Any, problem: Recurrence) -> list[Tensor]:
    if not torch.is_grad_enabled() or not isinstance(inputs, Tensor):
        return []
    return parameters_of(step, problem.x0, problem.inputs)


def _linked(states: Tensor, step: Any, x0: Any, inputs: Any, problem: Recurrence) -> Tensor:
    """The states with their implicit gradient, where anything wants one."""
    if not torch.is_grad_enabled() or not isinstance(inputs, Tensor) or not states.numel():
        return states
    start, u = (t.to(states.dtype) for t in _given(x0, inputs))
    parameters = _parameters(step, x0, inputs, problem)
    if not any(t.requires_grad for t in (start, u, *parameters)):
        return states
    return attach_gradient(states, step, start, u, parameters)


def _as_given(states: Tensor, inputs: Any) -> Any:
    """In the dtype and the array kind of the inputs."""
    keep = as_tensor(inputs, "inputs").dtype
    states = states.to(keep) if keep in (torch.float16, torch.bfloat16) else states
    return states if isinstance(inputs, Tensor) else states.detach().numpy()


def _checked_damping(damping: Any, method: str) -> float | str:
    if damping == "auto" or damping is None:
        return "auto"
    if isinstance(damping, bool) or not isinstance(damping, int | float):
        raise TypeError(f"damping={damping!r} is not a number; pass one, or 'auto'")
    if method in ("elk", "quasi_elk"):
        if not 0 <= damping < float("inf"):
            raise ValueError(f"damping={damping} must be a finite number of at least 0: the weight of the trust region")
    elif not 0 <= damping <= 1:
        raise ValueError(f"damping={damping} must lie between 0 (the method itself) and 1 (Jacobi)")
    return float(damping)


def _checked_matrix(matrix: Any, method: str, problem: Recurrence) -> Tensor | None:
    if matrix is None:
        return None
    if method != "constant":
        raise ValueError(f"matrix= is the A of method='constant', but method={method!r}; change one of them")
    A, n = as_tensor(matrix, "matrix").detach(), problem.x0.shape[-1]
    if A.shape != (n, n) or A.is_complex():
        raise ValueError(f"matrix has shape {tuple(A.shape)} and dtype {A.dtype}; pass a real one of shape {(n, n)}")
    if not torch.isfinite(A).all():
        raise ValueError("matrix holds NaN or inf; pass finite numbers")
    return A.to(problem.x0.dtype)


def _checked_guess(guess: Any, problem: Recurrence) -> Tensor | None:
    if guess is None:
        return None
    states, wanted = as_tensor(guess, "guess").detach(), (problem.steps, *problem.x0.shape)
    if tuple(states.shape) != wanted:
        raise ValueError(f"guess has shape {tuple(states.shape)}; pass states of shape {wanted}")
    states = states.to(problem.x0.dtype)
    return torch.where(torch.isfinite(states), states, 0.0)
