"""Pictures of a density; needs matplotlib, the extra "plot"."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .fourier import FourierDensity


def plot_density(p: "FourierDensity", data=None, *, ax: Any = None):
    """The density, over a histogram of `data` if given.

    Parameters
    ----------
    data : array of samples, or None.
    ax : matplotlib Axes to draw on; None for a new figure.

    Returns
    -------
    matplotlib.axes.Axes
    """
    if ax is None:
        try:
            from matplotlib.figure import Figure
        except ImportError:
            raise ImportError("plot needs matplotlib; run: pip install 'triskele[plot]'") from None
        figure = _pyplot_figure() or Figure(figsize=(7, 4), layout="constrained")
        ax = figure.add_subplot()
    lo, hi = p.ppf([0.002, 0.998])
    if data is not None:
        from ._checks import as_samples, non_finite_message

        data = as_samples(data, "data")
        if not np.isfinite(data).all():
            raise ValueError(non_finite_message(data, "data"))
        seen = data[(data >= lo) & (data <= hi)]
        bins = int(np.clip(2 * len(data) ** (1 / 3), 10, 400))
        counts, edges = np.histogram(seen, bins=bins, range=(lo, hi))
        heights = counts / (max(len(data), 1) * np.diff(edges))
        ax.stairs(heights, edges, fill=True, color="0.85", label=f"{len(data)} samples")
    # equal steps in x for the picture, and in probability so that no peak is missed
    x = np.union1d(np.linspace(lo, hi, 1000), p.ppf(np.linspace(0.002, 0.998, 1000)))
    label = f"{p.map.kind} map, {p.n_parameters} parameters, gap {p.gap_nats:.0e} nats"
    ax.plot(x, p.pdf(x), color="C0", linewidth=1.5, label=label)
    ax.set(xlabel="x", ylabel="density", xlim=(lo, hi))
    ax.set_ylim(bottom=0)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, loc="best")
    return ax


def _pyplot_figure():
    """A figure that pyplot shows, where the caller works with pyplot; else None, and no window system is touched."""
    import sys

    pyplot = sys.modules.get("matplotlib.pyplot")
    return None if pyplot is None else pyplot.figure(figsize=(7, 4), layout="constrained")
