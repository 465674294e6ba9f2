"""Pictures of a density; needs matplotlib, the extra "plot"."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .fourier import FourierDensity

_KINDS = ("density", "order", "qq", "certificate")


def plot(p: "FourierDensity", data=None, *, kind: str = "density", parts: bool = False, ax: Any = None):
    """One picture of a density; see `FourierDensity.plot`."""
    if kind not in _KINDS:
        raise ValueError(f"kind={kind!r} is not known; pass one of {', '.join(map(repr, _KINDS))}")
    if data is not None:
        from ._checks import as_samples, non_finite_message

        data = as_samples(data, "data")
        if not np.isfinite(data).all():
            raise ValueError(non_finite_message(data, "data"))
    if kind in ("qq", "certificate") and (data is None or not len(data)):
        raise ValueError(f"kind={kind!r} compares the density with samples; pass them as data")
    if kind == "order" and not p.report.order_path:
        raise ValueError("this density keeps no path of orders: it was read from bytes, which hold the result alone")
    ax = _axes() if ax is None else ax
    if kind == "density":
        plot_density(p, data, parts, ax)
    elif kind == "order":
        plot_order(p, ax)
    elif kind == "qq":
        plot_qq(p, data, ax)
    else:
        plot_certificate(p, data, ax)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _axes():
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("plot needs matplotlib; run: pip install 'triskele[plot]'") from None
    figure = _pyplot_figure() or Figure(figsize=(7, 4), layout="constrained")
    return figure.add_subplot()


def plot_density(p: "FourierDensity", data, parts: bool, ax) -> None:
    """The density, over a histogram of `data` if given; with `parts` what it is made of; atoms as stems."""
    lo, hi = (float(v) for v in p.ppf([0.002, 0.998]))
    if not lo < hi:  # nearly all is one atom
        lo, hi = (float(v) for v in p.map.inverse(np.array([0.002, 0.998])))
        lo, hi = min([lo, *p.atoms.values]), max([hi, *p.atoms.values])
    atoms = np.array(p.atoms.values)
    if data is not None:
        total = max(len(data), 1)
        seen = data[(data >= lo) & (data <= hi) & ~np.isin(data, atoms)]
        bins = int(np.clip(2 * len(data) ** (1 / 3), 10, 400))
        if p.report.grid is not None:  # whole rounding cells in every bar, or bars would beat against the grid
            width = p.report.grid * max(1, int(np.ceil((hi - lo) / bins / p.report.grid)))
            edges = np.arange(float(seen.min(initial=hi)) - p.report.grid / 2, hi + width, width)
        else:
            edges = np.linspace(lo, hi, bins + 1)
        counts, edges = np.histogram(seen, bins=edges)
        heights = counts / (total * np.diff(edges))
        ax.stairs(heights, edges, fill=True, color="0.85", label=f"{len(data)} samples")
    # equal steps in x for the picture, and in probability so that no peak is missed
    x = np.union1d(np.linspace(lo, hi, 1000), p.ppf(np.linspace(0.002, 0.998, 1000)))
    label = f"{p.map.kind} map, {p.n_parameters} parameters, gap {p.gap_nats:.0e} nats"
    ax.plot(x, p.pdf(x), color="C0", linewidth=1.5, label=label)
    if parts:
        share = 1 - p.atoms.mass
        ax.plot(x, share * np.exp(p.map.log_derivative(x)), color="C1", linewidth=1, linestyle="--", label="map alone")
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = p._p(p.map.forward(x))
        other = ax.twinx()
        other.plot(x, ratio, color="C2", linewidth=0.8, alpha=0.8)
        other.set_ylabel("|A|² / ‖a‖² on the map", color="C2")
        other.set_ylim(bottom=0)
        other.spines["top"].set_visible(False)
        ax.plot([], [], color="C2", linewidth=0.8, label="polynomial (right axis)")
        ax.set_zorder(other.get_zorder() + 1)
        ax.patch.set_visible(False)
    ax.set(xlabel="x", ylabel="density", xlim=(lo, hi))
    ax.set_ylim(bottom=0)
    if len(atoms):
        # a mass has no height as a density: its share of the picture's height is its probability
        room = 0.02 * (hi - lo)
        ax.set_xlim(min(lo, atoms[0] - room) if atoms[0] >= lo - (hi - lo) else lo, hi)
        top = ax.get_ylim()[1]
        ax.vlines(atoms, 0, np.array(p.atoms.masses) * top, color="C3", linewidth=2, label=_atoms_label(p))
        ax.plot(atoms, np.array(p.atoms.masses) * top, "o", color="C3", markersize=4)
        ax.set_ylim(0, top)
    if parts:  # the curves fill the picture
        ax.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    else:
        ax.legend(frameon=False, loc="best")


def _atoms_label(p: "FourierDensity") -> str:
    count = f"{len(p.atoms)} atoms" if len(p.atoms) > 1 else f"atom at {p.atoms.values[0]:.4g}"
    return f"{count}, mass {p.atoms.mass:.3g} (height: of the axis)"


def plot_order(p: "FourierDensity", ax) -> None:
    """What choosing the order saw: the criterion above its least value, and how far the likelihood still rose."""
    path = p.report.order_path
    orders = np.array([s.order for s in path], dtype=float)
    score = np.array([s.score for s in path])
    likelihood = np.array([s.log_likelihood for s in path])
    n = p.report.n
    name = {"aic": "AIC", "bic": "BIC", "cv": "−2 × cross-validated likelihood"}[p.report.criterion]
    ax.plot(orders, n * (score - score.min()), "o-", color="C0", markersize=4, label=f"{name} above its least")
    ax.plot(
        orders, 2 * n * (likelihood.max() - likelihood), "s:", color="0.5", markersize=3, label="2 n (highest L − L)"
    )
    ax.axvline(p.order, color="C3", linewidth=1, label=f"chosen: {p.order}")
    ax.set_xscale("symlog", linthresh=4)
    ax.set_yscale("symlog", linthresh=10)
    ticks = [k for k in (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512) if k <= max(orders.max(), 4)]
    ax.set_xticks(ticks, [str(k) for k in ticks])
    ax.minorticks_off()
    ax.set(xlabel="order K", ylabel="nats of all data × 2", xlim=(-0.3, 1.1 * max(orders.max(), 4)))
    ax.set_ylim(bottom=0)
    ax.legend(frameon=False, loc="best")


def plot_qq(p: "FourierDensity", data, ax) -> None:
    """Quantiles of the data against those of the density, and the 99 % band that the data's own noise makes."""
    from scipy.special import betaincinv

    x = np.sort(data)
    n = len(x)
    rank = np.unique(np.round(np.concatenate([np.geomspace(1, n, 400), n + 1 - np.geomspace(1, n, 400)])).astype(int))
    y = (rank - 0.5) / n
    model = p.ppf(y)
    # the rank-th of n uniform samples has a beta distribution: its quantiles, carried to x
    low, high = (p.ppf(betaincinv(rank, n + 1 - rank, q)) for q in (0.005, 0.995))
    ax.fill_between(model, low, high, color="0.88", label="99 % of samples of this size")
    ax.plot(model, model, color="0.4", linewidth=0.8)
    ax.plot(model, x[rank - 1], ".", color="C0", markersize=3, label=f"{n} samples")
    room = 0.05 * (x[-1] - x[0])  # the band of the extremes may reach far into the safety tail
    ax.set(xlabel="quantile of the density", ylabel="quantile of the data", ylim=(x[0] - room, x[-1] + room))
    ax.legend(frameon=False, loc="upper left")


def plot_certificate(p: "FourierDensity", data, ax) -> None:
    """The eigenvalues of M: the largest bounds what is left to gain by its logarithm, and is 1 at the maximum."""
    from scipy import linalg

    from .cells import cells
    from .image import circle_of
    from .likelihood import Circle
    from .roughness import SmoothedCircle

    circle: Any = circle_of(cells(data, None, 1), p.map, max(p.order, 64), p.basis)
    if p.report.gamma:
        circle = SmoothedCircle(circle, p.report.gamma)
    values = np.linalg.eigvalsh(linalg.toeplitz(circle.gap_column(p.coefficients)))[::-1]
    plain = Circle(circle.weights, p.basis)
    flat = np.zeros(p.order + 1)
    flat[0] = 1.0
    start = np.linalg.eigvalsh(linalg.toeplitz(plain.gap_column(flat)))[::-1]
    k = np.arange(1, len(values) + 1)
    ax.plot(k, start, "s:", color="0.6", markersize=3, label="at the map alone")
    ax.plot(k, values, "o-", color="C0", markersize=4, label="at the fit")
    ax.axhline(1, color="C3", linewidth=1, label=f"1: nothing left to gain (gap {p.gap_nats:.0e} nats)")
    ax.set(xlabel="number", ylabel="eigenvalue of M")
    ax.set_ylim(bottom=0)
    ax.legend(frameon=False, loc="best")


def _pyplot_figure():
    """A figure that pyplot shows, where the caller works with pyplot; else None, and no window system is touched."""
    import sys

    pyplot = sys.modules.get("matplotlib.pyplot")
    return None if pyplot is None else pyplot.figure(figsize=(7, 4), layout="constrained")
