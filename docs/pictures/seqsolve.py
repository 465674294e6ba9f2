"""Pictures of the pages about `seqsolve`."""

import functools

import matplotlib.pyplot as plt
import numpy as np
import torch

import seqsolve as sq

BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#999999"  # told apart by everyone


def _one_thread(draw):
    """On a busy machine two threads over tiny tensors wait for each other twenty times as long as one works."""

    @functools.wraps(draw)
    def drawn():
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return draw()
        finally:
            torch.set_num_threads(threads)

    return drawn


def _panels(count, width=4.2, height=3.2):
    figure, axes = plt.subplots(1, count, figsize=(width * count, height), layout="constrained")
    for axis in np.atleast_1d(axes):
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _inputs(steps, n, seed):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((steps, n)))


@_one_thread
@torch.no_grad()
def ladder():
    """Three choices of A_t on x = tanh(A x + u) with spectral norm 0.5, 300 steps in one window."""
    module, u = sq.gallery.spectral_rnn(16, 0.5, rng=7), _inputs(300, 16, 11)
    found = {
        method: sq.solve(module, torch.zeros(16).double(), u, method=method, window=300, tol=1e-14)
        for method in ("constant", "frozen", "newton")
    }
    figure, axis = _panels(1, width=5.6, height=3.4)
    sq.plotting.plot_ladder(found, ax=axis)
    for line, colour in zip(axis.lines, (ORANGE, BLUE, GREEN)):
        line.set_color(colour)
    axis.legend(frameon=False)
    return figure


@_one_thread
@torch.no_grad()
def gain():
    """From contractive to chaotic: what a larger gain does to forgetting, growth and sweeps."""
    gains = np.array([0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0])
    n, steps = 24, 160
    u = 0.1 * _inputs(steps, n, 11)
    zero = torch.zeros(n).double()
    growth, forgotten, sweeps = [], [], {"one window of 160": [], "windows of 32": []}
    for value in gains:
        module = sq.gallery.tanh_rnn(n, float(value), rng=7)
        exact = sq.solve(module, zero, u, method="sequential")
        growth.append(exact.certificate.lyapunov)
        restarted = sq.solve(module, zero, u[40:], method="sequential").states
        apart = (restarted - exact.states[40:]).abs().amax(1) > 1e-4 * exact.states.abs().max()
        forgotten.append(int(apart.nonzero().max()) + 1 if apart.any() else 0)
        for label, window in (("one window of 160", steps), ("windows of 32", 32)):
            sweeps[label].append(sq.solve(module, zero, u, method="newton", window=window).sweeps)
    forgotten = np.array(forgotten)
    figure, axes = _panels(3, width=3.6)
    axes[0].axhline(0, color=GREY, lw=0.8)
    axes[0].plot(gains, growth, "o-", ms=4, color=BLUE)
    axes[0].set(title="growth of an error", ylabel="Lyapunov exponent a step")
    never = forgotten >= steps - 40
    axes[1].plot(gains[~never], forgotten[~never], "o-", ms=4, color=BLUE, label="forgotten (to 1e-4)")
    axes[1].plot(gains[never], forgotten[never], "x", color=RED, label="not within 120 steps")
    axes[1].set(title="a restart from zero", ylabel="steps until it is forgotten")
    axes[1].legend(frameon=False, fontsize=8)
    for (label, values), colour in zip(sweeps.items(), (ORANGE, GREEN)):
        axes[2].semilogy(gains, values, "o-", ms=4, color=colour, label=label)
    axes[2].set(title="Newton", ylabel="sweeps a window")
    axes[2].legend(frameon=False, fontsize=8)
    for axis in axes:
        axis.set_xlabel("gain")
    return figure


@_one_thread
@torch.no_grad()
def windows():
    """A recurrence with a negative Lyapunov exponent on which Newton's method passes through enormous iterates."""
    module, u = sq.gallery.tanh_rnn(8, 1.5, rng=7), 0.3 * _inputs(512, 8, 11)
    zero, sizes = torch.zeros(8).double(), (8, 16, 32, 64, 128, 256, 512)
    found = {size: sq.solve(module, zero, u, method="newton", window=size) for size in sizes}
    figure, axes = _panels(2)
    for size, colour in ((512, RED), (128, ORANGE), (32, GREEN)):
        history = found[size].history
        first = history[history["window"] == 0]
        seen = np.where(np.isfinite(first["residual"]), np.maximum(first["residual"], 1e-18), np.nan)
        axes[0].semilogy(first["sweep"], seen, "o-", ms=3, color=colour, label=f"first window of {size}")
    axes[0].set(title="residual sweep by sweep", xlabel="sweep", ylabel="residual / scale")
    axes[0].legend(frameon=False, fontsize=8)
    axes[1].loglog(sizes, [found[size].sweeps for size in sizes], "o-", ms=4, color=BLUE)
    axes[1].set(title="512 steps, cut in windows", xlabel="steps a window", ylabel="sweeps a window")
    axes[1].set_xticks(sizes, [str(size) for size in sizes])
    axes[1].set_yticks((6, 10, 20, 30), ["6", "10", "20", "30"])
    for side in (axes[1].xaxis, axes[1].yaxis):
        side.set_minor_locator(plt.NullLocator())
    return figure


@_one_thread
@torch.no_grad()
def recompute():
    """Flops against the numbers alive, from a full cache to none, counted while the logits are computed."""
    figure, axes = _panels(2)
    torch.manual_seed(7)
    length = 12
    tokens = torch.arange(length) % 11
    for layers, pages, colour in ((1, (1, 2, 3, 6, 12), BLUE), (2, (1, 2, 3, 6, 12), ORANGE), (3, (3, 6, 12), GREEN)):
        model = sq.CausalStack(11, 8, heads=2, layers=layers)
        runs = [sq.recompute(model, tokens, "none", page=page) for page in pages]
        full = sq.recompute(model, tokens)
        axes[0].loglog(
            [run.peak_state for run in runs], [run.flops for run in runs], "o-", ms=4, color=colour,
            label=f"{layers} layer{'s' if layers > 1 else ''}",
        )  # fmt: skip
        axes[0].loglog(full.peak_state, full.flops, "*", ms=11, color=colour)
        lengths = np.array([8, 16, 32, 64, 128, 256, 512])
        axes[1].loglog(lengths, [sq.recompute_pairs(layers, int(t)) for t in lengths], "-", color=colour)
        axes[1].loglog(lengths, layers * lengths * (lengths + 1) / 2, ":", color=colour)
    axes[0].set(title="12 tokens: pages of 12 down to 1; star: cache", xlabel="numbers alive at most", ylabel="flops")
    axes[0].set_xticks((50, 100, 200, 400, 800), ["50", "100", "200", "400", "800"])
    axes[0].xaxis.set_minor_locator(plt.NullLocator())
    axes[0].legend(frameon=False, fontsize=8, loc="upper left")
    axes[0].set_ylim(top=3e6)
    axes[1].plot([], [], "k-", label="no cache")
    axes[1].plot([], [], "k:", label="cache")
    axes[1].set(title="query-key pairs", xlabel="tokens")
    axes[1].legend(frameon=False, fontsize=8)
    return figure


def unrolled():
    """Attention as a recurrence: a state that reads one key after the other, and two states that merge."""
    figure, axis = plt.subplots(figsize=(8.4, 3.6), layout="constrained")
    axis.set_axis_off()
    axis.set_aspect("equal")

    def box(x, y, text, colour, width=1.5):
        axis.add_patch(plt.Rectangle((x - width / 2, y - 0.4), width, 0.8, facecolor=colour, edgecolor="black", lw=0.8))
        ink = "white" if colour in (BLUE, GREEN) else "black"
        axis.text(x, y, text, ha="center", va="center", fontsize=9, color=ink)

    def arrow(a, b):
        axis.annotate("", b, a, arrowprops={"arrowstyle": "->", "lw": 1})

    for j in range(3):
        x = 2.6 * j
        box(x, 0, "read", BLUE)
        box(x, -1.7, f"$k_{j + 1}, v_{j + 1}$", "#eeeeee")
        arrow((x, -1.3), (x, -0.4))
        if j:
            arrow((x - 1.85, 0), (x - 0.75, 0))
    axis.text(-1.9, 0, "empty", ha="center", va="center", fontsize=9)
    arrow((-1.4, 0), (-0.75, 0))
    box(7.8, 0, "$m, \\ell, acc$", ORANGE, width=1.8)
    arrow((5.95, 0), (6.9, 0))
    for j in range(2):
        x = 2.6 * j + 1.3
        box(x, -3.6, "read", BLUE)
        box(x, -5.3, f"$k_{j + 4}, v_{j + 4}$", "#eeeeee")
        arrow((x, -4.9), (x, -4.0))
    arrow((2.05, -3.6), (3.15, -3.6))
    axis.text(-0.6, -3.6, "empty", ha="center", va="center", fontsize=9)
    arrow((-0.1, -3.6), (0.55, -3.6))
    box(6.5, -3.6, "$m, \\ell, acc$", ORANGE, width=1.8)
    arrow((4.65, -3.6), (5.6, -3.6))
    box(10.4, -1.8, "merge", GREEN)
    arrow((8.7, 0), (10.1, -1.4))
    arrow((7.4, -3.6), (10.1, -2.2))
    box(13.2, -1.8, "$o = acc / \\ell$", "#eeeeee", width=2.2)
    arrow((11.15, -1.8), (12.1, -1.8))
    axis.text(2.6, 0.75, "one query, the first keys", ha="center", fontsize=10)
    axis.text(2.6, -2.85, "the same query, the other keys, elsewhere", ha="center", fontsize=10)
    axis.set_xlim(-2.6, 14.5)
    axis.set_ylim(-5.9, 1.3)
    return figure
