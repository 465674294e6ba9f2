"""Pictures of the pages about `lowrank`."""

import matplotlib.pyplot as plt
import numpy as np

import lowrank as lr

BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#999999"  # told apart by everyone


def _panels(count, width=4.2, height=3.2, **options):
    figure, axes = plt.subplots(1, count, figsize=(width * count, height), layout="constrained", **options)
    for axis in np.atleast_1d(axes):
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _ranks(axis, ranks, scale="log"):
    """The ranks themselves as ticks."""
    axis.set_xscale(scale)
    axis.set_xticks(ranks, [str(k) for k in ranks])
    axis.xaxis.set_minor_locator(plt.NullLocator())


def shapes():
    """What each factorisation keeps of A, drawn to scale for a 12 x 9 matrix and rank 2."""
    figure, axis = plt.subplots(figsize=(8.4, 4.6), layout="constrained")
    axis.set_axis_off()
    axis.set_aspect("equal")

    def box(x, y, width, height, colour, name):
        axis.add_patch(plt.Rectangle((x, y - height), width, height, facecolor=colour, edgecolor="black", lw=0.8))
        if name:
            ink = "white" if colour in (BLUE, GREEN) else "black"
            axis.text(x + width / 2, y - height / 2, name, ha="center", va="center", fontsize=10, color=ink)

    def whole(x, y, columns=(), rows=(), square=False):
        m, n = (10, 10) if square else (12, 9)
        box(x, y, n, m, "#eeeeee", "")
        for j in columns:
            box(x + j, y, 1, m, BLUE, "")
        for i in rows:
            box(x, y - i, n, 1, ORANGE, "")
        return x + n

    def sign(x, y, text):
        axis.text(x, y, text, ha="center", va="center", fontsize=14)

    top, bottom = 30, 12
    end = whole(0, top, columns=(2, 6))
    sign(end + 1.2, top - 6, "≈")
    box(end + 2.4, top, 2, 12, BLUE, "C")
    box(end + 5, top, 9, 2, "white", "Z")
    axis.text(0, top + 0.6, "column ID", fontsize=11, va="bottom")
    x = 29
    end = whole(x, top, columns=(2, 6), rows=(3, 8))
    sign(end + 1.2, top - 6, "≈")
    box(end + 2.4, top, 2, 12, BLUE, "C")
    box(end + 5, top, 2, 2, "white", "U")
    box(end + 7.6, top, 9, 2, ORANGE, "R")
    axis.text(x, top + 0.6, "CUR", fontsize=11, va="bottom")
    end = whole(0, bottom, columns=(2, 6), square=True)
    sign(end + 1.2, bottom - 5, "≈")
    box(end + 2.4, bottom, 2, 10, GREEN, "F")
    box(end + 5, bottom, 10, 2, GREEN, "F*")
    axis.text(0, bottom + 0.6, "Nyström (A positive semidefinite)", fontsize=11, va="bottom")
    end = whole(x, bottom, columns=(1, 4), square=True)
    end = whole(end + 0.6, bottom, rows=(1, 4), square=True)
    sign(end + 1.2, bottom - 5, "≈")
    box(end + 2.4, bottom, 2, 10, BLUE, "C")
    box(end + 5, bottom, 10, 2, ORANGE, "R")
    axis.text(x, bottom + 0.6, "CR: a product X Y from pairs", fontsize=11, va="bottom")
    axis.set_xlim(-0.5, 67)
    axis.set_ylim(0.5, 33)
    return figure


def interpolative():
    """Error against rank, beside the best that any rank-k matrix can do."""
    figure, axes = _panels(2, sharey=False)
    cases = {
        "singular values $1/j^2$": (lr.gallery.polynomial_decay(2000, 400, rng=7), lr.gallery.polynomial_spectrum(400)),
        "singular values $e^{-j/20}$": (
            lr.gallery.exponential_decay(2000, 400, rng=7),
            lr.gallery.exponential_spectrum(400),
        ),
    }
    ranks = np.array([5, 10, 20, 40, 80, 120, 160])
    for axis, (title, (A, s)) in zip(axes, cases.items()):
        total = np.linalg.norm(s)
        axis.semilogy(
            ranks, [lr.gallery.optimal_error(s, k) / total for k in ranks], "k--", lw=1, label="optimum (SVD)"
        )
        for quality, colour in (("best", GREEN), ("fast", BLUE)):
            found = [lr.column_id(A, rank=int(k), quality=quality, rng=11) for k in ranks]
            low, high = np.array([f.certificate.interval for f in found]).T
            truth = [f.relative_error(A) for f in found]
            axis.fill_between(ranks, low, high, color=colour, alpha=0.2, lw=0)
            axis.semilogy(ranks, truth, "o-", ms=4, color=colour, label=f'column ID, quality="{quality}"')
        axis.set(title=title, xlabel="rank", ylabel="relative error (Frobenius)")
    axes[0].legend(frameon=False, fontsize=8)
    return figure


def cur():
    """The rows and columns that a CUR names, and what the three cores lose."""
    figure, axes = _panels(2)
    x = np.linspace(-1, 1, 300)
    A = 1 / (1.05 - np.multiply.outer(x, x)) + np.where(x[:, None] + x > 0.4, 0.6, 0.0)
    g = lr.cur(A, rank=8, rng=7)
    axes[0].imshow(A, cmap="Greys", norm="log", aspect="equal", interpolation="nearest")
    for j in g.columns:
        axes[0].axvline(j, color=BLUE, lw=1.2)
    for i in g.rows:
        axes[0].axhline(i, color=ORANGE, lw=1.2)
    axes[0].set(title="8 columns and 8 rows of a 300 x 300 matrix", xlabel="column", ylabel="row")
    s = np.linalg.svd(A, compute_uv=False)
    ranks = np.array([4, 8, 16, 32, 64])
    axes[1].loglog(
        ranks, [np.linalg.norm(s[k:]) / np.linalg.norm(s) for k in ranks], "k--", lw=1, label="optimum (SVD)"
    )
    for core, colour in (("optimal", GREEN), ("sketched", BLUE), ("cross", RED)):
        error = [
            np.median([lr.cur(A, rank=int(k), core=core, rng=seed).relative_error(A) for seed in range(11, 18)])
            for k in ranks
        ]
        axes[1].loglog(ranks, error, "o-", ms=4, color=colour, label=f'core="{core}"')
    axes[1].set(title="error against rank, median of 7 seeds", xlabel="rank", ylabel="relative error (Frobenius)")
    _ranks(axes[1], ranks)
    axes[1].legend(frameon=False, fontsize=8)
    return figure


def nystrom():
    """Where the landmarks go, and when choosing them pays."""
    figure, axes = _panels(3, width=3.6)
    rng = np.random.default_rng(7)
    face = rng.standard_normal((4000, 2)) @ np.diag([0.3, 0.3])
    angle = rng.uniform(np.pi * 1.1, np.pi * 1.9, 120)
    smile = np.concatenate(
        [face, 4 * np.stack([np.cos(angle), np.sin(angle)], 1) + 0.05 * rng.standard_normal((120, 2))]
    )
    K = lr.nystrom(lr.GaussianKernel(bandwidth=0.4), smile, rank=40, rng=7)
    axes[0].plot(*smile.T, ".", ms=1.5, color=GREY, alpha=0.6, rasterized=True)
    axes[0].plot(*smile[K.landmarks].T, "o", ms=4, color=RED)
    axes[0].set(title="4120 points, 40 landmarks", aspect="equal", xlabel="x", ylabel="y")
    clouds = {
        "the points on the left": (smile, 0.4),
        "isotropic cloud, 5 dimensions": (rng.standard_normal((3000, 5)), 2.0),
    }
    ranks = np.array([5, 10, 20, 40])
    for axis, (title, (X, width)) in zip(axes[1:], clouds.items()):
        for selection, colour in (("uniform", GREY), ("rpcholesky", BLUE)):
            error = [
                np.median(
                    [
                        lr.nystrom(
                            lr.GaussianKernel(bandwidth=width), X, rank=int(k), selection=selection, rng=s
                        ).trace_error
                        for s in range(11, 16)
                    ]
                )
                for k in ranks
            ]
            axis.loglog(ranks, error, "o-", ms=4, color=colour, label=selection)
        axis.set(title=title, xlabel="rank", ylabel="relative trace error")
        _ranks(axis, ranks)
        axis.legend(frameon=False, fontsize=8)
    return figure


def column_row():
    """Approximate products: four ways to choose the pairs, and what weights gain."""
    figure, axes = _panels(2)
    rng = np.random.default_rng(7)
    n = 400
    shared = rng.standard_normal((2, 15, n))  # pairs lie along 15 directions, so that many cancel or repeat others
    X = (rng.standard_normal((60, 15)) @ shared[0] + 0.3 * rng.standard_normal((60, n))) * (rng.pareto(2.0, n) + 0.2)
    Y = (rng.standard_normal((60, 15)) @ shared[1] + 0.3 * rng.standard_normal((60, n))).T
    ranks = np.array([5, 10, 20, 40, 80])
    colours = {"sampling": GREY, "leverage": ORANGE, "norm": BLUE, "greedy": GREEN}
    for axis, weights in zip(axes, ("none", "full")):
        for method, colour in colours.items():
            error = [
                np.median(
                    [
                        np.linalg.norm(lr.cr(X, Y, int(k), method=method, weights=weights, rng=s).to_dense() - X @ Y)
                        for s in range(11, 14)
                    ]
                )
                for k in ranks
            ]
            axis.semilogy(ranks, np.array(error) / np.linalg.norm(X @ Y), "o-", ms=4, color=colour, label=method)
        axis.set(title=f'weights="{weights}"', xlabel="pairs kept out of 400", ylabel="relative error (Frobenius)")
    axes[0].legend(frameon=False, fontsize=8)
    return figure


def pseudoinverse():
    """How many steps the iterations take, and how exactly each method satisfies Penrose's equations."""
    figure, axes = _panels(2)
    conditions = 10.0 ** np.arange(0, 11)
    methods = {"svd": GREY, "qr": ORANGE, "newton_schulz": BLUE, "chebyshev": GREEN}
    steps: dict = {name: [] for name in methods}
    worst: dict = {name: [] for name in methods}
    for condition in conditions:
        A = lr.gallery.with_spectrum(80, 60, np.geomspace(1, 1 / condition, 60), rng=7)
        for name in methods:
            P = lr.pinv(A, method=name, throw=False)
            steps[name].append(P.iterations)
            worst[name].append(P.residuals.max())
    for name, colour in methods.items():
        if any(steps[name]):
            axes[0].semilogx(conditions, steps[name], "o-", ms=4, color=colour, label=name)
        axes[1].loglog(conditions, worst[name], "o-", ms=4, color=colour, label=name)
    axes[0].set(title="steps until the check is met", xlabel="condition number", ylabel="steps")
    axes[1].set(title="largest of the four Penrose residuals", xlabel="condition number", ylabel="relative residual")
    axes[0].legend(frameon=False, fontsize=8)
    axes[1].legend(frameon=False, fontsize=8)
    return figure


def selections():
    """The error that each rule leaves with exact coefficients, over the optimum, on three families."""
    figure, axes = _panels(3, width=3.3, height=5.0, sharey=True)
    rng = np.random.default_rng(7)
    centres = rng.standard_normal((60, 300)) * np.geomspace(1, 1e-3, 300)
    mixture = centres[rng.integers(0, 60, 1500)] * rng.pareto(2.0, (1500, 1)) + 1e-5 * rng.standard_normal((1500, 300))
    cases = {
        "$1/j^2$": (lr.gallery.polynomial_decay(1500, 300, rng=7), 40),
        "$e^{-j/20}$": (lr.gallery.exponential_decay(1500, 300, rng=7), 100),
        "few heavy rows": (mixture, 40),
    }
    names = [name for name in sorted(lr.SELECTIONS) if name not in ("given", "auto", "aca")]
    place = np.arange(len(names))
    for axis, (title, (A, k)) in zip(axes, cases.items()):
        s = np.linalg.svd(A, compute_uv=False)
        best = np.linalg.norm(s[k:])
        for name, y in zip(names, place):
            ratios = []
            for seed in range(11, 16):
                J = lr.select_columns(A, k, method=name, rng=seed)
                Q = np.linalg.qr(A[:, J])[0]
                ratios.append(np.linalg.norm(A - Q @ (Q.T @ A)) / best)
            axis.plot(ratios, np.full(5, y), "o", ms=3, color=BLUE, alpha=0.5)
            axis.plot(np.median(ratios), y, "|", ms=12, mew=2, color="black")
        axis.axvline(1, color=GREY, lw=1, ls="--")
        axis.set(title=title, xlabel="error / optimum")
        axis.grid(axis="y", lw=0.3)
    axes[0].set_yticks(place, names)
    axes[0].invert_yaxis()
    return figure


def certificates():
    """The estimate against the truth over seeds, with the intervals."""
    figure, axis = _panels(1, width=7.0)
    A = lr.gallery.polynomial_decay(1200, 300, rng=7)
    found = [lr.column_id(A, rank=30, rng=seed) for seed in range(100, 160)]
    truth = np.array([f.relative_error(A) for f in found])
    estimate = np.array([f.certificate.estimate for f in found]) / truth
    low, high = np.array([f.certificate.interval for f in found]).T / truth
    inside = (low <= 1) & (high >= 1)
    seeds = np.arange(len(found))
    for mask, colour, name in ((inside, BLUE, "interval holds the truth"), (~inside, RED, "interval misses it")):
        if mask.any():
            axis.errorbar(
                seeds[mask], estimate[mask], yerr=[(estimate - low)[mask], (high - estimate)[mask]], fmt="o", ms=3,
                lw=1, color=colour, label=f"{name} ({mask.sum()})",
            )  # fmt: skip
    axis.axhline(1, color="black", lw=1, ls="--")
    axis.set(xlabel="seed", ylabel="estimate / true error", title="95 % intervals of 60 column IDs")
    axis.legend(frameon=False, fontsize=8)
    return figure
