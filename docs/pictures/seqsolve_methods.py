"""Each iterative method of `seqsolve` on the same four recurrences: 120 steps in one window, sweep by sweep."""

import functools

import numpy as np
import torch

import seqsolve as sq

from .seqsolve import BLUE, GREEN, GREY, ORANGE, RED, _one_thread, _panels

STEPS, TOL = 120, 1e-13
METHODS = ("jacobi", "picard", "constant", "frozen", "chord", "newton", "quasi", "elk", "quasi_elk")


def _oscillator(x, u):
    """Van der Pol by explicit Euler: x'' = (1 - x^2) x' - x, h = 0.02, driven by u."""
    position, speed = x[..., 0], x[..., 1]
    force = (1 - position**2) * speed - position + u[..., 0]
    return torch.stack([position + 0.02 * speed, speed + 0.02 * force], dim=-1)


@functools.cache
def _recurrences():
    """label -> (step, x0, inputs)."""
    rng = np.random.default_rng(11)

    def noise(n):
        return torch.from_numpy(rng.standard_normal((STEPS, n)))

    def zero(n):
        return torch.zeros(n, dtype=torch.float64)

    fresh = sq.gallery.torch_init("gru", 8, 8, rng=7, dtype=torch.float64)
    return {
        "tanh RNN, norm 0.5": (sq.gallery.spectral_rnn(8, 0.5, rng=7), zero(8), noise(8)),
        "GRU as torch makes it": (fresh, zero(8), noise(8)),
        "oscillator, small steps": (_oscillator, torch.tensor([0.5, 0.0]).double(), noise(1)),
        "tanh RNN, gain 1.5": (sq.gallery.tanh_rnn(8, 1.5, rng=7), zero(8), 0.3 * noise(8)),
    }


@functools.cache
def _found(method):
    return {
        label: sq.solve(step, x0, u, method=method, window=STEPS, on_fail="return", tol=TOL)
        for label, (step, x0, u) in _recurrences().items()
    }


def _draw(method):
    @_one_thread
    @torch.no_grad()
    def picture():
        figure, axis = _panels(1, width=5.6, height=3.2)
        for (label, solution), colour in zip(_found(method).items(), (GREEN, BLUE, ORANGE, RED)):
            history = solution.history
            residual = history["residual"].copy()
            seen = np.where(np.isfinite(residual), np.clip(residual, 1e-17, 1e12), 1e12)
            text = f"{label}: {history['sweep'].max()}"
            axis.semilogy(history["sweep"], seen, "o-", ms=3, lw=1, color=colour, label=text)
        axis.axhline(TOL, color=GREY, lw=0.8, ls=":")
        axis.set(title=f"{method}: sweeps for {STEPS} steps at once", xlabel="sweep", ylim=(1e-17, 1e13))
        axis.set_ylabel("residual / scale (cut at 1e12)")
        axis.legend(frameon=False, fontsize=8)
        return figure

    return picture


jacobi, picard, constant, frozen, chord, newton, quasi, elk, quasi_elk = map(_draw, METHODS)


@_one_thread
@torch.no_grad()
def shooting():
    """What shooting lives on: two trajectories of one recurrence from unlike states, and how far apart they are."""
    figure, axis = _panels(1, width=5.6, height=3.2)
    for (label, (step, x0, u)), colour in zip(_recurrences().items(), (GREEN, BLUE, ORANGE, RED)):
        other = x0 + 1.0 - 2.0 * (torch.arange(len(x0)) % 2)
        one, two = (sq.solve(step, start, u, method="sequential").states for start in (x0, other))
        gap = (one - two).abs().amax(1) / one.abs().max()
        axis.semilogy(np.arange(1, STEPS + 1), np.maximum(gap, 1e-17), color=colour, label=label)
    axis.axhline(TOL, color=GREY, lw=0.8, ls=":")
    axis.set(title="one recurrence from two states", xlabel="step", ylabel="distance / scale")
    axis.legend(frameon=False, fontsize=8)
    return figure
