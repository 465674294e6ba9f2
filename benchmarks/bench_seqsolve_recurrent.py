"""Drop-ins against torch's own modules and jax.lax.scan, the diagonal scan, and Newton on trained weights."""

import copy
import importlib.util
from collections.abc import Iterator

import numpy as np
import torch

import seqsolve as sq
from benchmarks import peers
from benchmarks.ratios import Race, all_threads, race

KINDS = ("gru", "rnn", "lstm")
UNITS = (1, 4, 8, 16, 32, 64, 256)
INPUTS, SEED = 4, 20271


def _module(kind: str, units: int) -> torch.nn.Module:
    return sq.gallery.torch_init(kind, INPUTS, units, rng=SEED).eval().requires_grad_(False)


def _inputs(steps: int, batch: int) -> torch.Tensor:
    return torch.randn(steps, batch, INPUTS, generator=torch.Generator().manual_seed(SEED))


def jax_scan(module: torch.nn.Module, kind: str, x: torch.Tensor):
    """The same cell by jax.lax.scan under jit, with the input product outside the loop; None without jax."""
    jax = peers.load("jax")
    if jax is None:
        return None
    jnp, nn = jax.numpy, jax.nn
    W, U, b, d = (jnp.asarray(p.detach().numpy()) for p in module.parameters())
    units = U.shape[1]

    def step(carry, a):
        if kind == "rnn":
            h = jnp.tanh(a + U @ carry)
            return h, h
        if kind == "gru":
            g = U @ carry + d
            r, z = nn.sigmoid(a[:units] + g[:units]), nn.sigmoid(a[units : 2 * units] + g[units : 2 * units])
            n = jnp.tanh(a[2 * units :] + r * g[2 * units :])
            h = n + z * (carry - n)
            return h, h
        h, c = carry
        i, f, g, o = jnp.split(a + U @ h, 4)
        c = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(g)
        h = nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    zero = jnp.zeros(units, jnp.float32)

    @jax.jit
    def run(x):
        a = x @ W.T + (b if kind == "gru" else b + d)
        return jax.lax.scan(step, (zero, zero) if kind == "lstm" else zero, a)[1]

    data = jnp.asarray(x[:, 0].numpy())
    return lambda: np.asarray(run(data))[:, None]


def drop_in(kind: str, units: int, steps: int, batch: int, threads: int, rounds: int) -> Race:
    """One module on one input: parallelize, torch, and jax for a single sequence."""
    module, x = _module(kind, units), _inputs(steps, batch)
    fast = sq.parallelize(module)
    with torch.no_grad():
        exact = sq.gallery.torch_init(kind, INPUTS, units, rng=SEED).double()(x.double())[0].detach()
    contenders = {"seqsolve": lambda: fast(x)[0], "torch": lambda: module(x)[0]}
    absent = {}
    if batch == 1:
        scan = jax_scan(module, kind, x)
        if scan is None:
            absent["jax.lax.scan"] = peers.why_absent("jax")
        else:
            contenders["jax.lax.scan"] = scan
    name = f"nn.{kind.upper()}({INPUTS}, {units}), batch {batch}, {steps:,} steps"
    return race(
        name, contenders, rounds=rounds, threads=threads, absent=absent, min_seconds=3e-2,
        error=lambda y: float((torch.as_tensor(np.array(y)).double() - exact).abs().max()),
    )  # fmt: skip


def published(name: str, units: int, steps: int, rounds: int) -> Race:
    """A cell of the literature through `parallelize` beside its own steps in torch, which is what there is else."""
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        cell = getattr(sq, name)(INPUTS, units).requires_grad_(False)
    x, fast = _inputs(steps, 1), sq.parallelize(cell)
    with torch.no_grad():
        twin: torch.nn.Module = copy.deepcopy(cell)
        exact = twin.double()(x.double())[0]
    return race(
        f"{name}({INPUTS}, {units}), batch 1, {steps:,} steps",
        {"seqsolve": lambda: fast(x)[0], "torch, step by step": lambda: cell(x)[0]},
        rounds=rounds, threads=1, error=lambda y: float((torch.as_tensor(y).double() - exact).abs().max()),
    )  # fmt: skip


def diagonal(steps: int, width: int, threads: int, rounds: int) -> Race:
    """affine_scan against jax.lax.associative_scan and jax.lax.scan; numpy's a + b is the floor of memory traffic."""
    rng = np.random.default_rng(SEED)
    A = rng.uniform(0.5, 0.99, (steps, width)).astype(np.float32)
    b = rng.standard_normal((steps, width)).astype(np.float32)
    contenders = {"seqsolve": lambda: sq.affine_scan(A, b), "numpy a + b (floor)": lambda: A + b}
    jax = peers.load("jax")
    absent: dict[str, str] = {}
    if jax is None:
        absent = {f"jax.lax.{name}": peers.why_absent("jax") for name in ("associative_scan", "scan")}
    else:
        data = jax.numpy.asarray(A), jax.numpy.asarray(b)
        prefix = jax.jit(
            lambda A, b: jax.lax.associative_scan(lambda p, q: (p[0] * q[0], q[0] * p[1] + q[1]), (A, b))[1]
        )
        loop = jax.jit(
            lambda A, b: jax.lax.scan(lambda h, ab: (ab[0] * h + ab[1],) * 2, jax.numpy.zeros(width), (A, b))[1]
        )
        contenders["jax.lax.associative_scan"] = lambda: np.asarray(prefix(*data))
        contenders["jax.lax.scan"] = lambda: np.asarray(loop(*data))
    exact = sq.affine_scan(A.astype(float), b.astype(float))
    judges = {name: lambda h: float(np.abs(h - exact).max()) for name in contenders if "floor" not in name}
    return race(
        f"diagonal scan, {steps:,} x {width}", contenders, rounds=rounds, threads=threads, absent=absent, error=judges
    )


def trained(steps: int, rounds: int) -> Race:
    """The trained GRU-256 of g2p_en: drop-in, torch, and windowed Newton beside them."""
    words = "a recurrence remembers what it has read and a trained one remembers for long "
    gru = sq.gallery.g2p_gru().requires_grad_(False)
    u = sq.gallery.g2p_inputs(words * (steps // 60 + 1))[:steps]
    fast, x0 = sq.parallelize(gru), torch.zeros(256)
    with torch.no_grad():
        exact = sq.gallery.g2p_gru().double()(u.double())[0]
    return race(
        f"trained GRU-256 of g2p_en, {steps} characters",
        {
            "seqsolve": lambda: fast(u)[0],
            "torch": lambda: gru(u)[0],
            "seqsolve Newton, windows of 16": lambda: sq.solve(gru, x0, u, method="newton", window=16).states,
        },
        rounds=rounds,
        error=lambda y: float((torch.as_tensor(y).double() - exact).abs().max()),
    )


def races(quick: bool) -> Iterator[Race]:
    """What ``python -m benchmarks`` shows; ours is the first of each race."""
    rounds, steps = 7, 2_000 if quick else 10_000
    for threads in sorted({1, all_threads()}):
        for kind in KINDS:
            for units in UNITS if not quick or (kind == "gru" and threads == 1) else (8,):
                if not quick or threads == 1 or kind == "gru":
                    yield drop_in(kind, units, steps if units < 256 else steps // 8, 1, threads, rounds)
        if not quick or threads > 1:
            yield drop_in("gru", 8, steps // 4, 16, threads, rounds)
    if not quick:
        for kind in KINDS:
            for units in UNITS:
                yield drop_in(kind, units, 500, 16, 1, rounds)
                yield drop_in(kind, units, 1, 1, 1, rounds)
    for name in ("LEM",) if quick else ("LEM", "CfC", "IndRNN", "MinGRU", "MinLSTM"):
        yield published(name, 32, 1000, rounds)
    for width in (1, 16) if quick else (1, 16, 256):
        yield diagonal((1 << 20 if quick else 1 << 23) // width, width, 1, rounds)
    if importlib.util.find_spec("g2p_en") is not None:  # never imported: it downloads corpora
        yield trained(200 if quick else 2000, rounds)


class DropIn:
    """Ratios to torch and jax, batch 1, one thread."""

    params = (KINDS, UNITS)
    param_names = ("kind", "units")
    timeout = 300

    def setup_cache(self):
        return {(k, u): drop_in(k, u, 10_000 if u < 256 else 2_000, 1, 1, 7) for k in KINDS for u in UNITS}

    def track_ratio_torch(self, found, kind, units):
        """Our time over torch's."""
        return found[kind, units].ratio("seqsolve", "torch").median

    def track_ratio_jax_scan(self, found, kind, units):
        """Our time over that of jax.lax.scan under jit; NaN without jax."""
        contest = found[kind, units]
        return contest.ratio("seqsolve", "jax.lax.scan").median if "jax.lax.scan" in contest.wall else float("nan")

    def track_error(self, found, kind, units):
        """Largest difference to float64."""
        return found[kind, units].error["seqsolve"]


class DiagonalScan:
    """Ratio of the diagonal scan to the floor of memory traffic."""

    params = (1, 16, 256)
    param_names = ("width",)

    def track_ratio_floor(self, width):
        """Our time over that of numpy's a + b, which moves the same bytes."""
        return diagonal((1 << 22) // width, width, 1, 7).ratio("seqsolve", "numpy a + b (floor)").median
