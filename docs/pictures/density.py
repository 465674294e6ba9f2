"""Pictures of the pages about `density`."""

import matplotlib.pyplot as plt
import numpy as np

import density as ds
from density.likelihood import Circle, certified_maximum, escape, maximise, optimality_gap, spectral_factor

BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#999999"  # told apart by everyone


def _panels(count, width=4.2, height=3.2):
    figure, axes = plt.subplots(1, count, figsize=(width * count, height), layout="constrained")
    for axis in np.atleast_1d(axes):
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def fit():
    """The 25-mode mixture: histogram, fit and truth."""
    figure, axis = _panels(1, width=8.4)
    known = ds.gallery.gmm25()
    x = known.sample(100_000, rng=7)
    p = ds.fit(x)
    p.plot(x, ax=axis)
    grid = np.linspace(*p.ppf([0.002, 0.998]), 2000)
    axis.plot(grid, known.pdf(grid), "k--", lw=0.8, label=f"truth, KL {known.kl(p):.1e} nats")
    axis.set_ylim(0, 1.1 * known.pdf(grid).max())  # the legend of three stands above the picture
    axis.legend(frameon=False, fontsize=8, ncols=3, loc="upper center", bbox_to_anchor=(0.5, 1.14))
    return figure


def gap():
    """The certificate and what it bounds, along Newton's iteration, from the spectral start and from random ones."""
    figure, axes = _panels(2)
    x = ds.gallery.gmm25().sample(20_000, rng=7)
    order, nodes = 30, 1024
    u = (x - x.min() + 1e-3) / (np.ptp(x) + 2e-3)
    circle = Circle(np.bincount(np.rint(u * nodes).astype(int), minlength=nodes + 1), "cosine")
    best = certified_maximum(circle, order).log_likelihood
    gaps, losses, _ = _ascent(circle, spectral_factor(circle, circle.smoothed(order), order), best)
    axes[0].semilogy(gaps, "o-", ms=4, color=BLUE, label="certified gap")
    axes[0].semilogy(losses, "s--", ms=4, color=ORANGE, label="true loss")
    rng = np.random.default_rng(11)
    escaped = []
    for i in range(6):
        path, _, escapes = _ascent(circle, rng.standard_normal(order + 1), best)
        axes[1].semilogy(path, lw=0.9, color=GREY, label=None if i else "random starts")
        escaped += [(at, path[at]) for at in escapes]
    axes[1].semilogy(gaps, lw=2, color=BLUE, label="spectral factor")
    if escaped:
        axes[1].semilogy(*zip(*escaped), "o", ms=6, color=RED, label="escape step")
    axes[0].set(title="from the spectral factor", xlabel="Newton steps", ylabel="nats per sample")
    axes[1].set(title="the gap from other starts", xlabel="Newton steps", ylabel="certified gap, nats per sample")
    for axis in axes:
        axis.axhline(1e-6, color="black", lw=0.8, ls=":")
        axis.legend(frameon=False, fontsize=8, loc="upper right" if axis is axes[0] else "lower right")
    axes[1].set_xlim(right=80)
    return figure


def _ascent(circle, start, best):
    """Gap and loss after each step until Newton ends certified, and where it had to escape."""
    gaps, losses, escapes, steps = [], [], [], 0
    while len(gaps) < 100:
        found = maximise(circle, start, max_steps=steps) if steps else None
        a = start / np.linalg.norm(start) if found is None else found.a
        gaps.append(max(optimality_gap(circle, a), 1e-15))
        losses.append(max(best - circle.log_likelihood(a), 1e-15))
        steps += 1
        if found is None or found.steps == steps - 1:
            continue
        if gaps[-1] <= 1e-6:
            break
        escapes.append(len(gaps) - 1)
        start, steps = escape(circle, a), 1
    return gaps, losses, escapes


def orders():
    """The order path of two fits, AIC relative to its lowest value."""
    figure, axes = _panels(2)
    for axis, known in zip(axes, (ds.gallery.gmm25(), ds.gallery.claw())):
        for n, colour in ((1_000, GREY), (10_000, ORANGE), (100_000, BLUE)):
            path = ds.fit(known.sample(n, rng=7), map="affine").report.order_path
            order = np.array([s.order for s in path])
            aic = np.array([s.aic for s in path]) / 2
            at = int(aic.argmin())
            axis.semilogy(order, aic - aic.min() + 1 / n, "o-", ms=3, color=colour, label=f"n = {n:,}: K = {order[at]}")
            axis.plot(order[at], 1 / n, "v", ms=8, color=colour)
        axis.set(title=f"{known.name}, affine map", xlabel="order K", ylabel="AIC / 2n above its lowest + 1/n")
        axis.legend(frameon=False, fontsize=8)
    return figure


def maps():
    """Student's t with three degrees of freedom: what each map makes of the tail, and the divergence that is left."""
    figure, axes = _panels(2)
    known = ds.gallery.student_t3()
    colours = {"logistic": BLUE, "normal": ORANGE, "laplace": GREEN, "cauchy": RED, "affine": GREY}
    x = known.sample(10_000, rng=7)
    grid = np.geomspace(1, 3000, 400)
    sizes = (300, 3_000, 30_000)
    samples = [known.sample(n, rng=7) for n in sizes]
    axes[0].loglog(grid, known.pdf(grid), "k--", lw=1, label="truth")
    for name, colour in colours.items():
        axes[0].loglog(grid, ds.fit(x, map=name).pdf(grid), color=colour, lw=1.2, label=name)
        axes[1].loglog(sizes, [known.kl(ds.fit(s, map=name)) for s in samples], "o-", ms=4, color=colour, label=name)
    axes[1].loglog(sizes, [known.kl(ds.fit(s)) for s in samples], "k^:", ms=5, label='map="auto"')
    axes[0].axvline(x.max(), color="black", lw=0.6, ls=":")
    axes[0].set(title="upper tail, n = 10,000", xlabel="x", ylabel="density", ylim=(1e-13, 1))
    axes[1].set(title="divergence from the truth", xlabel="samples", ylabel="KL, nats", ylim=(1e-5, 0.3))
    axes[1].legend(frameon=False, fontsize=7, ncols=2)
    return figure


def code_length():
    """Bits a value of whole containers: against the step, and over the entropy against the number of values."""
    figure, axes = _panels(2)
    sources = {"laplace": BLUE, "gmm25": GREEN, "cauchy": RED}
    steps = 2.0 ** -np.arange(2, 11)
    sizes = np.array([1_000, 4_000, 16_000, 64_000, 256_000])
    for name, colour in sources.items():
        known = getattr(ds.gallery, name)()
        x = known.sample(int(sizes[-1]), rng=7)
        bits = [8 * len(ds.compress(x[:100_000], step=step)) / 100_000 for step in steps]
        axes[0].semilogx(steps, bits, "o", ms=4, color=colour, label=name)
        axes[0].semilogx(steps, known.entropy / np.log(2) - np.log2(steps), "-", lw=0.8, color=colour)
        over = []
        for n in sizes:
            k = np.rint(x[:n] / 2.0**-6)
            share = np.unique(k, return_counts=True)[1] / n
            empirical = -share @ np.log2(share)
            over.append(8 * len(ds.compress(x[:n], step=2.0**-6)) / n / empirical - 1)
        axes[1].loglog(sizes, np.maximum(over, 1e-6), "o-", ms=4, color=colour, label=name)
    axes[0].invert_xaxis()
    axes[0].set(title="100,000 values; lines: h - log2(step)", xlabel="step", ylabel="bits a value, all included")
    axes[1].set(title="step 1/64, header and table included", xlabel="values", ylabel="bytes / empirical entropy - 1")
    for axis in axes:
        axis.legend(frameon=False, fontsize=8)
    return figure
