"""Pictures of a solve; needs matplotlib, the extra "plot"."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .diagnose import Diagnosis
    from .results import Solution


def plot_convergence(solution: Solution, *, ax: Any = None) -> Any:
    """Residual after each sweep, every window a line; circles where an iterate overflowed, crosses at inf and NaN.

    Parameters
    ----------
    solution : of a method that sweeps.
    ax : matplotlib Axes to draw on; None for a new figure.

    Returns
    -------
    matplotlib.axes.Axes
    """
    history = solution.history
    if not len(history):
        raise ValueError(f"method={solution.method!r} makes no sweeps: there is no convergence to plot")
    ax = _axes(ax)
    windows = np.unique(history["window"])
    shown = windows[np.linspace(0, len(windows) - 1, min(len(windows), 200)).round().astype(int)]
    style: dict[str, Any] = {"color": "C0", "alpha": max(0.08, 0.9 / len(shown) ** 0.5)}
    for k in shown:
        mine = history[history["window"] == k]
        ax.plot(mine["sweep"], _visible(mine["residual"]), marker="." if len(mine) == 1 else None, **style)
    over = history[history["overflows"] > 0]
    if len(over):
        ax.plot(over["sweep"], _visible(over["residual"]), "o", color="C3", fillstyle="none", label="overflow")
    _mark_lost(ax, history["sweep"][~np.isfinite(history["residual"])])
    if ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False)
    many = "1 window" if len(windows) == 1 else f"{len(windows)} windows"
    return _finish(ax, f"{solution.method}: {many} of up to {solution.window} steps")


def plot_ladder(solutions: Mapping[str, Solution], *, ax: Any = None) -> Any:
    """Largest residual after each sweep, one line a solve: how many rungs each method takes.

    Parameters
    ----------
    solutions : label -> solution of a method that sweeps.
    ax : matplotlib Axes to draw on; None for a new figure.

    Returns
    -------
    matplotlib.axes.Axes
    """
    if not solutions:
        raise ValueError("solutions is empty; pass label -> solution, at least one")
    for solution in solutions.values():
        if not len(solution.history):
            raise ValueError(f"method={solution.method!r} makes no sweeps: there is no convergence to plot")
    ax = _axes(ax)
    for label, solution in solutions.items():
        history = solution.history
        sweeps = np.unique(history["sweep"])
        worst = [float(history["residual"][history["sweep"] == s].max()) for s in sweeps]
        many = "1 sweep" if sweeps[-1] == 1 else f"{sweeps[-1]} sweeps"
        name = fill(f"{label}: {many}", 44)  # a longer line would leave the curves no room
        ax.plot(sweeps, _visible(np.asarray(worst)), "o-", markersize=4, label=name)
    lost = [s.history["sweep"][~np.isfinite(s.history["residual"])] for s in solutions.values()]
    _mark_lost(ax, np.concatenate(lost))
    ax.legend(frameon=False)
    return _finish(ax, "residual sweep by sweep")


def plot_predictions(diagnosis: Diagnosis, *, ax: Any = None) -> Any:
    """Seconds that each method is expected to need; hollow bars are lower bounds, the verdict is dark.

    Parameters
    ----------
    diagnosis : of `diagnose`.
    ax : matplotlib Axes to draw on; None for a new figure.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = _axes(ax)
    shown = sorted(diagnosis.predictions.items(), key=lambda pair: pair[1].seconds, reverse=True)
    for row, (method, p) in enumerate(shown):
        colour = "C0" if method == diagnosis.method else "0.7"
        ax.barh(row, p.seconds, color=colour if p.complete else "none", edgecolor=colour)
        sweeps = "" if np.isnan(p.sweeps) or method == "sequential" else f" {p.sweeps:.1f} sweeps"
        ax.text(p.seconds, row, sweeps, va="center", fontsize="small")
    ax.set_yticks(range(len(shown)), [method for method, _ in shown])
    ax.set_xscale("log")
    ax.margins(x=0.15)
    ax.set(xlabel="seconds for the whole sequence (hollow: at least)", title=f"verdict: {diagnosis.method}")
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def plot_states(states: np.ndarray, *, ax: Any = None) -> Any:
    """States over time: lines up to eight of them, else a map with time along the horizontal axis.

    Parameters
    ----------
    states : (T, n), or (T, ..., n), of which the first sequence is drawn.
    ax : matplotlib Axes to draw on; None for a new figure.

    Returns
    -------
    matplotlib.axes.Axes
    """
    states = np.asarray(states)
    if states.ndim < 2 or not states.size:
        raise ValueError(f"states has shape {states.shape}; pass (T, n) with at least one step")
    sequences = states.reshape(len(states), -1, states.shape[-1])
    first = sequences[:, 0]
    every = max(1, len(first) // 4000)  # more than a picture can show
    ax, first = _axes(ax), first[::every].astype(np.float64)
    finite = np.isfinite(first)
    size = float(np.abs(np.where(finite, first, 0.0)).max()) or 1.0
    unit = 1.0 if 1e-100 < size < 1e100 else float(f"1e{int(np.floor(np.log10(size)))}")  # matplotlib's range is less
    named = "state" + ("" if unit == 1 else f" / {unit:.0e}".replace("+", ""))
    if sequences.shape[1] > 1:
        named += f", the first of {sequences.shape[1]} sequences"
    if first.shape[1] <= 8:
        lines = ax.plot(np.arange(len(first)) * every, first / unit, ".-" if len(first) <= 40 else "-", linewidth=0.8)
        ax.spines[["top", "right"]].set_visible(False)
        if len(lines) > 1:
            names = [f"unit {k}" for k in range(len(lines))]
            ax.legend(lines, names, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
        if not finite.all():
            ax.set_title("gaps: not finite", fontsize="medium")
    else:
        image = ax.imshow(
            np.where(finite, first / unit, np.nan).T, aspect="auto", cmap="RdBu_r", vmin=-size / unit, vmax=size / unit,
            interpolation="nearest", extent=(0, len(states), first.shape[1] - 0.5, -0.5),
        )  # fmt: skip
        ax.set_facecolor("0.6")
        ax.figure.colorbar(image, ax=ax, label=named if finite.all() else f"{named} (grey: not finite)")
    ax.set(xlabel="step", ylabel=named if first.shape[1] <= 8 else "unit")
    return ax


def _visible(residual: np.ndarray) -> np.ndarray:
    """On a logarithmic axis: zero at the bottom, what is beyond all use at the top, inf and NaN left out."""
    return np.where(np.isfinite(residual), np.clip(residual, 1e-18, 1e18), np.nan)


def _mark_lost(ax: Any, sweeps: np.ndarray) -> None:
    """Crosses along the upper edge, at sweeps whose residual is no number."""
    if len(sweeps):
        style: dict[str, Any] = {"color": "C3", "transform": ax.get_xaxis_transform(), "label": "inf or NaN"}
        ax.plot(np.unique(sweeps), np.full(len(np.unique(sweeps)), 0.98), "x", **style)


def _finish(ax: Any, title: str) -> Any:
    ax.set_yscale("log")
    ax.set(xlabel="sweep", ylabel="residual / scale", title=title)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _axes(ax: Any) -> Any:
    if ax is not None:
        return ax
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("plotting needs matplotlib; run: pip install 'triskele[plot]'") from None
    import sys

    pyplot = sys.modules.get("matplotlib.pyplot")  # a window only where the caller works with pyplot
    size: dict[str, Any] = {"figsize": (7, 4), "layout": "constrained"}
    return (Figure(**size) if pyplot is None else pyplot.figure(**size)).add_subplot()
