"""Pictures of a density; needs matplotlib, the extra "plot"."""

from typing import TYPE_CHECKING, Any

import numpy as np

from .mixture_map import MixtureMap

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
    lo, hi = _window(p)
    unit, name = _unit(max(abs(lo), abs(hi)))
    atoms, room = np.array(p.atoms.values), 0.02 * (hi - lo)
    # equal steps in x for the picture, and in probability so that no peak is missed
    x = np.union1d(np.linspace(lo, hi, 1000), np.clip(p.ppf(np.linspace(0.002, 0.998, 1000)), lo, hi))
    curve = p.pdf(x) * unit
    top = _height(x / unit, curve)
    if data is not None:
        heights, edges, outside = _bars(p, data, lo, hi)
        label = f"{_counted(len(data), 'sample')}{f', {outside:.2g} % of them beyond' if outside > 1 else ''}"
        ax.stairs(heights * unit, edges / unit, fill=True, color="0.85", label=label)
        top = max(top, float(heights.max(initial=0)) * unit)
    label = f"{p.map.kind} map, {_counted(p.n_parameters, 'parameter')}, gap {_short(p.gap_nats)} nats"
    ax.plot(x / unit, curve, color="C0", linewidth=1.5, label=label)
    alone, other, most = _plot_parts(p, x, unit, ax) if parts else (0.0, None, 0.0)
    top = max(top, alone)
    near = (atoms >= lo - (hi - lo)) & (atoms <= hi + (hi - lo))
    if len(atoms):
        lo, hi = min([lo, *atoms[near]]), max([hi, *atoms[near]])
    lines = len(ax.get_legend_handles_labels()[0]) + bool(len(atoms))
    inches = ax.get_window_extent().height / ax.figure.dpi
    room_above = 1.05 / (1 - min(0.6, (0.22 * lines + 0.1) / max(inches, 1)))  # nothing stands behind the legend
    top *= room_above
    if len(atoms):  # a mass has no height as a density: its share of the picture's height is its probability
        at, heights = atoms[near] / unit, np.array(p.atoms.masses)[near] * top
        ax.vlines(at, 0, heights, color="C3", linewidth=2, label=_atoms_label(p, int((~near).sum())))
        ax.plot(at, heights, "o", color="C3", markersize=4)
    density = "density" if unit == 1 else f"density × {name}"
    ax.set(xlabel="x" if unit == 1 else f"x / {name}", ylabel=density)
    ax.set(xlim=((lo - room) / unit, (hi + room) / unit), ylim=(0, top or 1))
    if other is not None:
        other.set_ylim(0, room_above * most)
    ax.legend(frameon=False, loc="upper left" if len(atoms) and atoms[-1] > (lo + hi) / 2 else "upper right")


def _plot_parts(p: "FourierDensity", x, unit: float, ax):
    """The map with its components, and the polynomial on an axis of its own: the map's height, that axis, its top."""
    share = (1 - p.atoms.mass) * unit
    alone = share * np.exp(p.map.log_derivative(x))
    ax.plot(x / unit, alone, color="C1", linewidth=1, linestyle="--", label="map alone")
    if isinstance(p.map, MixtureMap) and len(p.map.weights) > 1:
        label = f"its {len(p.map.weights)} components"
        for weight, mean, width in zip(p.map.weights, p.map.means, p.map.widths, strict=True):
            bell = share * weight / (width * np.sqrt(2 * np.pi)) * np.exp(-0.5 * ((x - mean) / width) ** 2)
            ax.plot(x / unit, bell, color="C1", linewidth=0.6, alpha=0.7, label=label)
            label = None
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = p._p(p.map.forward(x))
    other = ax.twinx()
    other.plot(x / unit, ratio, color="C2", linewidth=0.8, alpha=0.8)
    other.set_ylabel("|A|² / ‖a‖² on the map", color="C2")
    other.spines["top"].set_visible(False)
    ax.plot([], [], color="C2", linewidth=0.8, label="polynomial (right axis)")
    ax.set_zorder(other.get_zorder() + 1)
    ax.patch.set_visible(False)
    return _height(x / unit, alone), other, float(np.nanmax(ratio))


def _height(x, curve) -> float:
    """The highest point of a curve, less where that is a pole, which would press everything else flat."""
    mass = curve * np.gradient(x)
    order = np.argsort(curve)
    typical = curve[order][np.searchsorted(np.cumsum(mass[order]), 0.95 * mass.sum())]
    return min(float(curve.max()), 2 * float(typical))


def _window(p: "FourierDensity") -> tuple[float, float]:
    """What is shown: 99.6 % of the mass, less where tails reach so far that the middle could not be seen."""
    lo, low, high, hi = (float(v) for v in p.ppf([0.002, 0.25, 0.75, 0.998]))
    if low < high:
        reach = 8 * (high - low)
        return max(lo, low - reach), min(hi, high + reach)
    if not lo < hi:  # nearly all is one atom
        lo, hi = (float(v) for v in p.map.inverse(np.array([0.002, 0.998])))
        lo, hi = min([lo, *p.atoms.values]), max([hi, *p.atoms.values])
    return lo, hi


def _bars(p: "FourierDensity", data, lo: float, hi: float):
    """Heights and edges of a histogram of what is no atom, and what percentage of the data lies beyond it."""
    free = data[~np.isin(data, np.array(p.atoms.values))]
    seen = free[(free >= lo) & (free <= hi)]
    bins = int(np.clip(4 * len(seen) ** (1 / 3), 10, 400))
    if p.report.grid is not None:  # whole rounding cells in every bar, or bars would beat against the grid
        width = p.report.grid * max(1, int(np.ceil((hi - lo) / bins / p.report.grid)))
        edges = np.arange(float(seen.min(initial=hi)) - p.report.grid / 2, hi + width, width)
    else:
        edges = np.linspace(lo, hi, bins + 1)
    counts, edges = np.histogram(seen, bins=edges)
    return counts / (max(len(data), 1) * np.diff(edges)), edges, 100 * (len(free) - len(seen)) / max(len(data), 1)


def _unit(size: float) -> tuple[float, str]:
    """A power of ten to draw in, with its name: matplotlib's axes end long before doubles do."""
    if size == 0 or 1e-100 < size < 1e100:
        return 1.0, "1"
    unit = float(f"1e{int(np.floor(np.log10(size)))}")
    return unit, _power(unit)


def _power(number: float) -> str:
    return "0" if number == 0 else f"{number:.0e}".replace("e+", "e").replace("e0", "e").replace("e-0", "e-")


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _short(number: float) -> str:
    return "0" if number == 0 else f"{number:.0e}"


def _atoms_label(p: "FourierDensity", beyond: int) -> str:
    count = f"{len(p.atoms)} atoms" if len(p.atoms) > 1 else f"atom at {p.atoms.values[0]:.4g}"
    hidden = f", {beyond} of them beyond" if beyond else ""
    return f"{count}, mass {p.atoms.mass:.3g}{hidden} (height: of the axis)"


def plot_order(p: "FourierDensity", ax) -> None:
    """What choosing the order saw: the criterion above its least value, and how far the likelihood still rose."""
    path = p.report.order_path
    orders = np.array([s.order for s in path], dtype=float)
    score = np.array([s.score for s in path])
    likelihood = np.array([s.log_likelihood for s in path])
    n = p.report.n
    name = {"aic": "AIC", "bic": "BIC", "cv": "−2 × cross-validated likelihood"}[p.report.criterion]
    above, rest = n * (score - score.min()), 2 * n * (likelihood.max() - likelihood)
    ax.plot(orders, above, "o-", color="C0", markersize=4, label=f"{name} above its least")
    ax.plot(orders, rest, "s:", color="0.5", markersize=3, label="2 n (highest L − L)")
    ax.axvline(p.order, color="C3", linewidth=1, label=f"chosen: {p.order}")
    ax.set_xscale("symlog", linthresh=4)
    ax.set_yscale("symlog", linthresh=10)
    last, top = max(orders.max(), 4), max(above.max(), rest.max(), 2)
    _ticks(ax.xaxis, [0, *(2.0**k for k in range(12))], last)
    _ticks(ax.yaxis, list(range(11)) if top <= 10 else [0, 5, *(10.0**k for k in range(1, 300))], top)
    ax.minorticks_off()
    ax.set(
        xlabel="order K", ylabel="nats of all data × 2", xlim=(-0.3, 1.1 * last), ylim=(-0.03 * min(top, 20), 1.3 * top)
    )
    ax.legend(frameon=False, loc="best")


def _ticks(axis, at, last: float) -> None:
    shown = [t for t in at if t <= last]
    shown = shown if len(shown) <= 12 else shown[:: -(-len(shown) // 12)]
    axis.set_ticks(shown, [f"{t:g}" for t in shown])


def plot_qq(p: "FourierDensity", data, ax) -> None:
    """Quantiles of the data against those of the density, and the 99 % band that the data's own noise makes."""
    from scipy.special import betaincinv

    x = np.sort(data)
    n = len(x)
    unit, name = _unit(float(np.abs(x).max()))
    rank = np.unique(np.round(np.concatenate([np.geomspace(1, n, 400), n + 1 - np.geomspace(1, n, 400)])).astype(int))
    y = (rank - 0.5) / n
    model = p.ppf(y) / unit
    # the rank-th of n uniform samples has a beta distribution: its quantiles, carried to x
    low, high = (p.ppf(betaincinv(rank, n + 1 - rank, q)) / unit for q in (0.005, 0.995))
    middle = float(np.abs(np.quantile(x, [0.1, 0.9])).max()) / unit
    if 0 < 30 * middle < np.abs(x).max() / unit:  # one sample far out would leave the others a single point
        ax.set_xscale("symlog", linthresh=middle)
        ax.set_yscale("symlog", linthresh=middle)
        decades = 10.0 ** np.arange(np.ceil(np.log10(middle)), 309)
        far = max(abs(model[0]), abs(model[-1]), abs(x[0]) / unit, abs(x[-1]) / unit)
        decades = decades[decades <= far]
        decades = decades[:: max(1, -(-len(decades) // 4))]
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_ticks([*-decades[::-1], 0, *decades], [_power(t) for t in (*-decades[::-1], 0, *decades)])
    ax.plot(model, x[rank - 1] / unit, ".", color="C0", markersize=3, label=_counted(n, "sample"))
    sides, limits = ax.get_xlim(), ax.get_ylim()  # the band of the extremes may reach far into the safety tail
    ax.plot(model, model, color="0.4", linewidth=0.8)
    ax.fill_between(model, low, high, color="0.88", label=f"99 % of {_counted(n, 'sample')} of the density", zorder=0)
    of = "" if unit == 1 else f" / {name}"
    ax.set(xlabel=f"quantile of the density{of}", ylabel=f"quantile of the data{of}", xlim=sides, ylim=limits)
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
    ax.axhline(1, color="C3", linewidth=1, label=f"1: nothing left to gain (gap {_short(p.gap_nats)} nats)")
    ax.set(xlabel="number of the eigenvalue, largest first", ylabel="eigenvalue of M", xlim=(0.5, len(values) + 0.5))
    ax.set_ylim(0, 1.1 * max(start[0], values[0], 1))
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend(frameon=False, loc="best")


def _pyplot_figure():
    """A figure that pyplot shows, where the caller works with pyplot; else None, and no window system is touched."""
    import sys

    pyplot = sys.modules.get("matplotlib.pyplot")
    return None if pyplot is None else pyplot.figure(figsize=(7, 4), layout="constrained")
