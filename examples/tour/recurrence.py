"""Act 2: a trained GRU reads a long text, and Newton's method solves all of its steps at once."""

import time
from pydoc_data.topics import topics

import numpy as np
import torch

import page
import seqsolve as sq

COLOUR = page.COLOURS["seqsolve"]


def text(words: int) -> str:
    """The first words of Python's own language reference, as its help() has it."""
    prose = " ".join(topics[name] for name in sorted(topics))
    letters = "".join(c if "a" <= c <= "z" else " " for c in prose.lower())
    return " ".join(letters.split()[:words])


def paired(left, right, rounds: int) -> tuple[float, float, float]:
    """Seconds of `left` and `right` (medians) and the median of their ratio, run in turn."""
    seconds = np.empty((rounds, 2))
    for r in range(rounds):
        for side in (0, 1) if r % 2 else (1, 0):
            start = time.perf_counter()
            (left, right)[side]()
            seconds[r, side] = time.perf_counter() - start
    return (*np.median(seconds, axis=0), float(np.median(seconds[:, 0] / seconds[:, 1])))


def act(quick: bool = False) -> page.Act:
    """The drop-in beside torch on the trained weights, then the solver's residuals sweep by sweep."""
    prose = text(60 if quick else 1500)
    rounds = 3 if quick else 5
    with torch.inference_mode():
        gru, x = sq.gallery.g2p_gru(), sq.gallery.g2p_inputs(prose)[:, None]
        steps = len(x)
        result = page.Act(
            "seqsolve",
            "A trained network reads the Python manual",
            f"The encoder of g2p_en is a GRU with {gru.hidden_size} units, trained to pronounce English words. Here it "
            f"reads {steps:,} characters of the Python manual in one go: first through the drop-in, then as one "
            "non-linear system for all states at once.",
        )
        fast = sq.parallelize(gru)
        ours, theirs = fast(x)[0], gru(x)[0]
        mine, torchs, ratio = paired(lambda: fast(x), lambda: gru(x), rounds)
        result.row(
            "the trained GRU, drop-in",
            f"{1 / ratio:.1f} x torch",
            f"{1e6 * mine / steps:.1f} us a step beside {1e6 * torchs / steps:.1f} us, median of {rounds} pairs; "
            f"method {fast.report.method}",
        )
        difference = float((ours - theirs).abs().max())
        result.row("largest difference to torch", f"{difference:.1e}", "over all states, which lie in [-1, 1]")
        small = torch.nn.GRU(4, 8)
        fast_small, u = sq.parallelize(small), torch.randn(2_000 if quick else 10_000, 1, 4)
        fast_small(u)
        mine, torchs, ratio = paired(lambda: fast_small(u), lambda: small(u), rounds)
        result.row(
            "nn.GRU(4, 8), drop-in",
            f"{1 / ratio:.0f} x torch",
            f"{1e6 * mine / len(u):.2f} us a step beside {1e6 * torchs / len(u):.1f} us; the smaller the cell, the "
            "more of torch's time is overhead",
        )
        sizes = (8, 256) if quick else (4, 8, 16, 32, 64, 128, 256)
        result.figures += [
            page.Figure(
                states_plot(ours.numpy(), prose),
                f"What the network remembers while it reads: {ours.shape[-1]} units (rows) over the first characters; "
                "a dot ends a word.",
                wide=True,
            ),
            page.Figure(
                speed_plot(sizes, rounds, 400 if quick else 2000),
                "Speed of the drop-in against torch's own module for small and large cells, one sequence; 1 is equal.",
            ),
        ]
    newton(result, gru, x[: 64 if quick else 512, 0])
    return result


def newton(result: page.Act, gru, x) -> None:
    """Diagnose, then solve, the same weights by windowed Newton."""
    start = torch.zeros(gru.hidden_size)
    verdict = sq.diagnose(gru, start, x)
    result.row(
        "what the diagnosis said",
        f"Lyapunov {verdict.lyapunov:+.3f}",
        f"forgets a restart after {verdict.forgetting_length:g} steps; verdict {verdict.method}: {verdict.reason}",
    )
    solutions = {w: sq.solve(gru, start, x, method="newton", window=w) for w in (8, 16, 32)}
    chosen = solutions[16]
    result.row(
        "Newton, windows of 16",
        f"{chosen.sweeps:.1f} sweeps",
        f"a window, {len(x)} steps. {chosen.status.value} Certificate {'ok' if chosen.ok else 'NOT ok'}: "
        f"{chosen.certificate.explain()}",
    )
    result.figures.append(
        page.Figure(
            residual_plot(solutions),
            "Newton's residual after each sweep, every window a line, for three window lengths: short windows stay "
            "where Newton is quadratic.",
        )
    )


def states_plot(states: np.ndarray, prose: str, characters: int = 72) -> str:
    """A heat map of the hidden state, units sorted by when they swing most."""
    S = states.reshape(len(states), -1)[:characters].T
    order = np.argsort(np.argmax(np.abs(np.diff(S, axis=1)), axis=1), kind="stable")
    figure, ax = page.axes(10.5, 3.6)
    ax.grid(False)
    ax.imshow(S[order], aspect="auto", cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
    ax.set_xticks(range(S.shape[1]), prose.replace(" ", "\u00b7")[: S.shape[1]], fontsize=9)
    ax.set(ylabel="unit")
    return page.plot_uri(figure)


def speed_plot(sizes: tuple[int, ...], rounds: int, steps: int) -> str:
    """Ratio to torch over the hidden size, three kinds of cell."""
    figure, ax = page.axes()
    for kind, marker in ((torch.nn.RNN, "s"), (torch.nn.GRU, "o"), (torch.nn.LSTM, "^")):
        ratios = []
        for hidden in sizes:
            module = kind(4, hidden)
            fast, x = sq.parallelize(module), torch.randn(steps, 1, 4)
            fast(x)
            ratios.append(1 / paired(lambda f=fast, x=x: f(x), lambda m=module, x=x: m(x), rounds)[2])
        ax.plot(sizes, ratios, marker=marker, label=f"nn.{kind.__name__}", lw=1.6)
    ax.axhline(1, color=page.SOFT, lw=1)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xticks(sizes, [str(size) for size in sizes])
    ax.set(xlabel="hidden units", ylabel="times as fast as torch")
    ax.legend(frameon=False, fontsize=10)
    return page.plot_uri(figure)


def residual_plot(solutions) -> str:
    """One line a window, one colour a window length."""
    figure, ax = page.axes()
    for (window, solution), colour in zip(solutions.items(), ("#0f766e", COLOUR, "#9f1239")):
        history = solution.history
        for n, index in enumerate(np.unique(history["window"])):
            mine = history[history["window"] == index]
            label = {"label": f"windows of {window}"} if n == 0 else {}
            ax.semilogy(mine["sweep"], np.maximum(mine["residual"], 1e-9), color=colour, lw=0.8, alpha=0.35, **label)
    legend = ax.legend(frameon=False, fontsize=10)
    for line in legend.get_lines():
        line.set(alpha=1, linewidth=2)
    ax.set(xlabel="sweep", ylabel="residual over the scale of the states")
    return page.plot_uri(figure)
