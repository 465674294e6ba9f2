"""Pictures of a factorisation; needs matplotlib, the extra "plot".

Colours are those of Okabe and Ito, which people with any kind of colour vision tell apart; marks and dashes differ too.
"""

from typing import Any

import numpy as np

from .pooling import pooled
from .results import Recorded

__all__ = ["plot_decay", "plot_error_against_rank", "plot_picked"]

BLUE, ORANGE, GREEN, BLACK = "#0072B2", "#D55E00", "#009E73", "#000000"
NORMS = {"fro": "||A||_F", "spectral": "||A||_2", "trace": "trace(K)"}


def plot_decay(result: Recorded, *, ax: Any = None):
    """The pivots of a factorisation, with its certificate.

    A pivot is the distance of a column from the span of those chosen before it, over ||A||_F; for a `Nystrom` it is the
    residual diagonal at a landmark, over the trace, and the error in the trace norm after each landmark stands beside.

    Parameters
    ----------
    result : `ColumnID`, `RowID`, `CUR`, `TwoSidedID` or `Nystrom`.
    ax : matplotlib Axes to draw on; None for a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        If matplotlib is missing.
    TypeError
        For a result without pivots.

    Complexity
    ----------
    2 m k^2 flops for the pivots of an ID or a CUR; those of a Nystrom are kept.

    Examples
    --------
    >>> import numpy as np, lowrank as lr
    >>> f = lr.column_id(np.vander(np.linspace(0, 1, 200), 30), rank=8, rng=7)
    >>> lr.plot_decay(f).get_ylabel()
    'relative to ||A||_F'
    """
    if not isinstance(result, Recorded) or not hasattr(result, "pivots"):
        raise TypeError(
            f"a {type(result).__name__} has no pivots; pass the result of column_id, row_id, cur or nystrom"
        )
    certificate = result.certificate
    sizes = np.asarray(result.pivots, dtype=float)  # pyright: ignore[reportAttributeAccessIssue]
    ax = _axes(ax)
    whole = _whole(result)
    trace = hasattr(result, "landmarks")
    rank = np.arange(1, len(sizes) + 1)
    what = "landmark" if trace else "column" if hasattr(result, "C") or hasattr(result, "columns") else "row"
    _line(ax, rank, sizes / whole, BLUE, "o", f"pivot of each {what}")
    if trace:
        F = result.factors()[0]
        gone = np.cumsum(np.linalg.norm(F, axis=0) ** 2) / whole
        _line(ax, rank, np.maximum(1.0 - gone, 0.0), GREEN, "s", "error after as many landmarks")
    if certificate.estimate > 0:
        low, high = certificate.interval
        unit = "error" if certificate.probes == 0 else "error, 95 % interval"
        ax.axhline(certificate.estimate, color=ORANGE, linestyle="--", label=f"{unit}: {certificate.estimate:.2g}")
        if high > low > 0:
            ax.axhspan(low, high, color=ORANGE, alpha=0.2, linewidth=0)
    _finish(ax, f"{what}s in order of choice", f"relative to {NORMS.get(certificate.norm, 'the norm of A')}")
    ax.set_title(f"{result.kind}, rank {result.rank}", fontsize="medium")  # pyright: ignore[reportAttributeAccessIssue]
    return ax


def plot_error_against_rank(A, *, ranks=None, selection="auto", quality="fast", rng=None, workers=None, ax: Any = None):
    """Relative error of `column_id` against its rank, with the 95 % intervals, and the optimum where A is small.

    Parameters
    ----------
    A : (m, n) matrix of any kind that `as_operand` reads.
    ranks : the ranks to try, integers from 1 to min(m, n); about ten from 1 to min(m, n) / 4 (at most 256) otherwise.
    selection, quality, rng, workers : as in `column_id`; every rank starts from the same seed.
    ax : matplotlib Axes to draw on; None for a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        If matplotlib is missing.
    ValueError
        As `column_id`.

    Complexity
    ----------
    One column ID a rank; the optimum is an SVD, and is drawn where min(m, n) <= 1000 and m n <= 4,000,000.

    Examples
    --------
    >>> import numpy as np, lowrank as lr
    >>> A = lr.gallery.polynomial_decay(200, 100, rng=7)
    >>> ax = lr.plot_error_against_rank(A, ranks=[2, 5, 10, 20], rng=7)
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['optimum (SVD)', 'column ID, 95 % intervals']
    """
    from .gallery import optimal_error
    from .interpolative import column_id
    from .operands import as_operand

    operand = as_operand(A)
    limit = min(operand.shape)
    if limit == 0:
        raise ValueError(f"A has shape {operand.shape}; there is no rank to try")
    if ranks is None:
        ranks = np.unique(np.round(np.geomspace(1, max(1, min(limit // 4, 256)), 10)).astype(int))
    ranks = sorted(int(k) for k in ranks)
    seed = np.random.default_rng(rng).integers(1 << 62)
    found = [
        column_id(operand, rank=k, selection=selection, quality=quality, rng=seed, workers=workers).certificate
        for k in ranks
    ]
    ax = _axes(ax)
    errors = np.array([c.estimate for c in found])
    ends = np.array([c.interval for c in found]).reshape(-1, 2)
    shown = errors > 0
    spread = np.abs(ends - errors[:, None])[shown].T
    ax.errorbar(
        np.array(ranks)[shown], errors[shown], yerr=spread, color=BLUE, marker="o", markersize=4, capsize=3,
        linewidth=1.2, label="column ID, 95 % intervals",
    )  # fmt: skip
    if limit <= 1000 and operand.size <= 4_000_000 and operand.shape[0] * operand.shape[1] <= 4_000_000:
        dense = operand.rows(np.arange(operand.shape[0]))
        s = np.linalg.svd(dense / (operand.largest() or 1.0), compute_uv=False)
        best = np.array([optimal_error(s, k) for k in ranks]) / (np.linalg.norm(s) or 1.0)
        _line(ax, np.array(ranks), best, BLACK, "x", "optimum (SVD)", "--")
    _finish(ax, "rank k", "relative error in the Frobenius norm")
    return ax


def plot_picked(result: Recorded, A, *, pixels: int = 400, ax: Any = None):
    """The matrix as an image, with the picked columns marked above it and the picked rows at its left.

    A block of a large matrix is shown by its largest modulus, so that nothing that stands out is lost; A is read once,
    in strips of rows.

    Parameters
    ----------
    result : `ColumnID`, `RowID`, `CUR`, `TwoSidedID` or `Nystrom` of A.
    A : (m, n) matrix of any kind that `as_operand` reads.
    pixels : sides of the image at most.
    ax : matplotlib Axes to draw on; None for a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        If matplotlib is missing.
    ValueError
        If the shapes differ.

    Complexity
    ----------
    One pass over A (over the stored entries of a sparse matrix); pixels^2 numbers and one strip in memory.

    Examples
    --------
    >>> import numpy as np, lowrank as lr
    >>> A = lr.gallery.spike(300, 200, rng=7)
    >>> ax = lr.plot_picked(lr.cur(A, rank=6, rng=7), A)
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('column j (6 of 200 picked)', 'row i (6 of 300 picked)')
    """
    from .operands import as_operand

    operand = as_operand(A)
    if not isinstance(result, Recorded):
        raise TypeError(f"result is a {type(result).__name__}; pass the result of column_id, row_id, cur or nystrom")
    if operand.shape != result.shape:
        raise ValueError(f"A has shape {operand.shape}, but the factorisation has {result.shape}; pass the same matrix")
    if min(operand.shape) == 0:
        raise ValueError(f"A has shape {operand.shape}; there is nothing to show")
    ax = _axes(ax, (6, 5.4))
    m, n = operand.shape
    image = pooled(operand, pixels)
    shown = ax.imshow(
        image, cmap="Greys", norm=_shades(image), extent=(-0.5, n - 0.5, m - 0.5, -0.5), aspect="auto",
        interpolation="nearest",
    )  # fmt: skip
    whole = image.shape == (m, n)
    ax.figure.colorbar(shown, ax=ax, label="|a_ij|" if whole else "largest |a_ij| of each block")
    columns, rows = _picked(result)
    top, left = (0.0 if picked is None else 0.05 * size for picked, size in ((columns, m), (rows, n)))
    if columns is not None:
        _marks(ax.vlines, columns, -0.5 - top, -0.5 - 0.2 * top, m - 0.5, ORANGE)
    if rows is not None:
        _marks(ax.hlines, rows, -0.5 - left, -0.5 - 0.2 * left, n - 0.5, BLUE)
    ax.set(xlim=(-0.5 - left, n - 0.5), ylim=(m - 0.5, -0.5 - top))  # a margin for the marks
    ax.spines[:].set_visible(False)
    ax.set_xlabel("column j" + (f" ({len(columns)} of {n:,} picked)" if columns is not None else ""))
    ax.set_ylabel("row i" + (f" ({len(rows)} of {m:,} picked)" if rows is not None else ""))
    return ax


def _marks(lines: Any, picked: np.ndarray, start: float, stop: float, end: float, color: str) -> None:
    """A mark in the margin for each pick, and a thin line over the image where there are few."""
    where = np.asarray(picked, dtype=float)
    lines(where, start, stop, color=color, linewidth=1.2)
    if len(where) <= 40:
        lines(where, -0.5, end, color=color, linewidth=0.6, alpha=0.6)


def _picked(result: Any) -> tuple[np.ndarray | None, np.ndarray | None]:
    """(columns, rows) that the result keeps."""
    if hasattr(result, "landmarks"):
        return result.landmarks, result.landmarks
    if hasattr(result, "columns"):
        return result.columns, result.rows
    return (result.indices, None) if hasattr(result, "C") else (None, result.indices)


def _whole(result: Any) -> float:
    """||A||_F, or the trace of K, from what the result knows."""
    if hasattr(result, "landmarks"):
        kept = float(np.linalg.norm(result.factor) ** 2)
        return kept / (1 - result.trace_error) or 1.0 if result.trace_error < 1 else 1.0
    certificate = result.certificate
    if certificate.estimate > 0 and np.isfinite(certificate.absolute / certificate.estimate):
        return certificate.absolute / certificate.estimate
    left, right = result.factors()
    order = 2 if certificate.norm == "spectral" else "fro"
    return float(np.linalg.norm(np.linalg.qr(left)[1] @ right, order)) or 1.0


def _shades(image: np.ndarray):
    """Linear shades where most of the image would show on them, else logarithmic ones over six decades at most."""
    from matplotlib.colors import LogNorm, Normalize

    top = float(image.max())
    positive = image[image > 0]
    if top <= 0 or np.median(positive) > 0.05 * top:
        return Normalize(0.0, top or 1.0)
    return LogNorm(max(float(positive.min()), 1e-6 * top), top, clip=True)


def _line(ax, x, y, color: str, marker: str, label: str, style: str = "-") -> None:
    shown = y > 0  # the scale is logarithmic
    size = 4 if shown.sum() <= 60 else 0
    ax.plot(x[shown], y[shown], style, color=color, marker=marker, markersize=size, linewidth=1.2, label=label)


def _finish(ax, x: str, y: str) -> None:
    from matplotlib.ticker import MaxNLocator

    ax.set_yscale("log")
    ax.set(xlabel=x, ylabel=y)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(True, which="major", alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)
    if ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False)


def _axes(ax: Any, size: tuple[float, float] = (6.4, 4)):
    """The Axes given, or those of a new figure, which pyplot shows where the caller works with pyplot."""
    if ax is not None:
        return ax
    import sys

    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("plots need matplotlib; run: pip install 'triskele[plot]'") from None
    pyplot = sys.modules.get("matplotlib.pyplot")
    figure = (
        Figure(figsize=size, layout="constrained")
        if pyplot is None
        else pyplot.figure(figsize=size, layout="constrained")
    )
    return figure.add_subplot()
