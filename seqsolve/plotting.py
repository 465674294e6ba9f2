"""Pictures of a solve; needs matplotlib, the extra "plot"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .results import Solution


def plot_convergence(solution: Solution, *, ax: Any = None) -> Any:
    """Residual after each sweep, every window a line; circles where an iterate overflowed.

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
    for k in shown:
        mine = history[history["window"] == k]
        ax.plot(mine["sweep"], _visible(mine["residual"]), color="C0", alpha=max(0.08, 0.9 / len(shown) ** 0.5))
    over = history[history["overflows"] > 0]
    if len(over):
        ax.plot(over["sweep"], _visible(over["residual"]), "o", color="C3", fillstyle="none", label="overflow")
        ax.legend(frameon=False)
    title = f"{solution.method}: {len(windows)} windows of up to {solution.window} steps"
    return _finish(ax, title)


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
    ax = _axes(ax)
    for label, solution in solutions.items():
        history = solution.history
        if not len(history):
            raise ValueError(f"method={solution.method!r} makes no sweeps: there is no convergence to plot")
        sweeps = np.unique(history["sweep"])
        worst = [float(history["residual"][history["sweep"] == s].max()) for s in sweeps]
        ax.plot(sweeps, _visible(np.asarray(worst)), "o-", markersize=4, label=f"{label}: {sweeps[-1]} sweeps")
    ax.legend(frameon=False)
    return _finish(ax, "residual sweep by sweep")


def _visible(residual: np.ndarray) -> np.ndarray:
    """On a logarithmic axis: zero at the bottom, inf left out."""
    return np.where(np.isfinite(residual), np.maximum(residual, 1e-18), np.nan)


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
