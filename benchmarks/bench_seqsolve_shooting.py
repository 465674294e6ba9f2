"""Shooting beside the fused loop, torch's own modules and a step of the user, where it gains and where it cannot work.

A recurrence that forgets is cut into chunks that run side by side, as vector lanes for known cells and as a batch for
steps in torch. One that remembers or is chaotic is found out by a burn-in, whose cost is what the last races show.
"""

import importlib.util
from collections.abc import Callable, Iterator

import torch

import seqsolve as sq
from benchmarks.ratios import Race, all_threads, race

KINDS, UNITS, INPUTS, SEED = ("rnn", "gru", "lstm"), (1, 2, 4, 8, 16, 32, 64, 128), 4, 20319


def _steps(units: int) -> int:
    return 100_000 if units < 64 else 20_000


def _drop_ins(
    name: str, module: torch.nn.Module, exact: torch.nn.Module, x, rounds: int, threads: int, method: str = "shooting"
) -> Race:
    """One module: chunks (or what became of them), the fused loop, torch's own; error against float64."""
    with torch.no_grad():
        truth = exact.double()(x.double())[0]
    chunks, loop = sq.parallelize(module, method=method), sq.parallelize(module, method="sequential")
    return race(
        name, {method: lambda: chunks(x)[0], "fused loop": lambda: loop(x)[0], "torch": lambda: module(x)[0]},
        rounds=rounds, threads=threads, min_seconds=3e-2,
        error=lambda y: float((torch.as_tensor(y).double() - truth).abs().max()),
    )  # fmt: skip


def forgets(kind: str, units: int, steps: int, threads: int, rounds: int) -> Race:
    """S2: torch's initialisation, batch 1."""
    module, exact = (
        sq.gallery.torch_init(kind, INPUTS, units, rng=SEED).eval().requires_grad_(False) for _ in range(2)
    )
    x = torch.randn(steps, 1, INPUTS, generator=torch.Generator().manual_seed(SEED))
    return _drop_ins(f"nn.{kind.upper()}({INPUTS}, {units}), {steps:,} steps", module, exact, x, rounds, threads)


def black_box(kind: str, steps: int, threads: int, rounds: int) -> Race:
    """256 units: our lanes beside the same chunks as a batch of torch's own kernel (no seam verified there)."""
    units, chunks = 256, 32
    module, exact = (
        sq.gallery.torch_init(kind, INPUTS, units, rng=SEED).eval().requires_grad_(False) for _ in range(2)
    )
    x = torch.randn(steps, 1, INPUTS, generator=torch.Generator().manual_seed(SEED))
    fast, burn = sq.parallelize(module, method="shooting"), 64
    length = steps // chunks
    ahead = torch.cat([x.new_zeros(burn, 1, INPUTS), x])[: (chunks - 1) * length + length + burn]
    stretches = ahead[:, 0].unfold(0, length + burn, length).permute(2, 0, 1).contiguous()

    def batched():
        return module(stretches)[0][burn:].transpose(0, 1).reshape(-1, 1, units)

    with torch.no_grad():
        truth = exact.double()(x.double())[0]
    later = slice(length, chunks * length)  # the first chunk of `batched` begins with made-up inputs
    return race(
        f"nn.{kind.upper()}({INPUTS}, 256), {steps:,} steps: chunks as lanes and as a batch",
        {"shooting": lambda: fast(x)[0], "torch, chunks as a batch": batched, "torch": lambda: module(x)[0]},
        rounds=rounds, threads=threads, error=lambda y: float((torch.as_tensor(y)[later] - truth[later]).abs().max()),
    )  # fmt: skip


def step_of_the_user(units: int, steps: int, rounds: int) -> Race:
    """A step in torch: shooting beside the loop in order, Newton and what auto takes; all with their certificates."""
    A = sq.gallery.spectral_rnn(units, 0.7, rng=SEED, dtype=torch.float32).get_parameter("weight_hh_l0").detach()
    u, x0 = torch.randn(steps, units, generator=torch.Generator().manual_seed(SEED)), torch.zeros(units)

    def step(x, v):
        return torch.tanh(x @ A.T + v)

    def loop():
        x, out = x0, []
        for v in u:
            x = step(x, v)
            out.append(x)
        return torch.stack(out)

    wide = A.double()
    exact = sq.solve(lambda x, v: torch.tanh(x @ wide.T + v), x0.double(), u.double(), method="sequential").states
    contenders: dict[str, Callable[[], object]] = {
        "shooting": lambda: sq.solve(step, x0, u, method="shooting").states,
        "solve, auto": lambda: sq.solve(step, x0, u).states,
        "newton": lambda: sq.solve(step, x0, u, method="newton").states,
        "torch, step by step": loop,
    }
    return race(
        f"tanh step in torch, n = {units}, {steps:,} steps", contenders, rounds=rounds,
        error=lambda y: float((torch.as_tensor(y).double() - exact).abs().max()),
    )  # fmt: skip


def remembers(rounds: int, threads: int) -> Iterator[Race]:
    """Gain 3 (chaotic: no error means much), many fixed points, the trained GRU: what the attempt of auto costs."""
    module = sq.gallery.tanh_rnn(32, 3.0, rng=SEED, dtype=torch.float32).eval().requires_grad_(False)
    exact = sq.gallery.tanh_rnn(32, 3.0, rng=SEED).eval().requires_grad_(False)
    x = torch.randn(150_000, 1, 32, generator=torch.Generator().manual_seed(SEED))
    yield _drop_ins("tanh RNN of gain 3, 32 units, 150,000 steps", module, exact, x, rounds, threads, "auto")
    module, exact = (
        sq.gallery.multistable_rnn(8, rng=SEED, dtype=torch.float32).eval().requires_grad_(False) for _ in range(2)
    )
    yield _drop_ins("multistable RNN, 8 units, 150,000 steps", module, exact, 0.1 * x[..., :8], rounds, threads, "auto")
    if importlib.util.find_spec("g2p_en") is not None:  # never imported: it downloads corpora
        words = "a recurrence remembers what it has read and a trained one remembers for long "
        u = sq.gallery.g2p_inputs(words * 70)[:4000, None]
        module, exact = (sq.gallery.g2p_gru().requires_grad_(False) for _ in range(2))
        yield _drop_ins("trained GRU-256 of g2p_en, 4,000 characters", module, exact, u, rounds, threads, "auto")


def races(quick: bool) -> Iterator[Race]:
    """What ``python -m benchmarks`` shows; ours is the first of each race."""
    rounds = 7
    for threads in (all_threads(),) if quick else sorted({1, all_threads()}):
        for kind in ("gru",) if quick else KINDS:
            for units in (4, 32) if quick else UNITS:
                yield forgets(kind, units, _steps(units) // (2 if quick else 1), threads, rounds)
        if not quick:
            for kind in KINDS:
                yield black_box(kind, 8192, threads, rounds)
            yield from remembers(rounds, threads)
    for units in (2,) if quick else (2, 8, 32):
        yield step_of_the_user(units, 2000 if quick else 8000, rounds)


class Shooting:
    """Ratio of the fused loop's time to that of shooting, all threads, and its error."""

    params = (KINDS, UNITS)
    param_names = ("kind", "units")
    timeout = 600

    def setup_cache(self):
        return {(k, n): forgets(k, n, _steps(n), all_threads(), 7) for k in KINDS for n in UNITS}

    def track_ratio_loop(self, found, kind, units):
        """Time of shooting over that of the fused loop."""
        return found[kind, units].ratio("shooting", "fused loop").median

    def track_error(self, found, kind, units):
        """Largest difference to float64."""
        return found[kind, units].error["shooting"]


class GivenUp:
    """What an attempt costs where the network remembers."""

    timeout = 600

    def track_ratio_loop(self):
        """The largest time of auto over that of the fused loop."""
        return max(r.ratio("auto", "fused loop").median for r in remembers(7, all_threads()))
