"""Scans beside numpy's a + b (the floor of memory traffic), jax and torch; the cost of a gradient; peak memory.

Long series, so that memory decides. "forgets" and "remembers" are the two regimes of a diagonal: only the first can be
cut into chunks of time without a second pass.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator

import numpy as np
import torch

import seqsolve as sq
from benchmarks import peers
from benchmarks.ratios import Race, all_threads, race

SEED = 20431
LOW = {"forgets": 0.5, "remembers": 0.99999}  # |A| is uniform from here to 1
FLOOR = "numpy a + b (floor)"


def _jax(A: np.ndarray, b: np.ndarray) -> dict[str, Callable[[], np.ndarray]]:
    jax = peers.load("jax")
    if jax is None:
        return {}
    data, width = (jax.numpy.asarray(A), jax.numpy.asarray(b)), A.shape[1]
    prefix = jax.jit(lambda A, b: jax.lax.associative_scan(lambda p, q: (p[0] * q[0], q[0] * p[1] + q[1]), (A, b))[1])
    loop = jax.jit(
        lambda A, b: jax.lax.scan(lambda h, ab: (ab[0] * h + ab[1],) * 2, jax.numpy.zeros(width, A.dtype), (A, b))[1]
    )
    return {
        "jax.lax.associative_scan": lambda: np.asarray(prefix(*data)),
        "jax.lax.scan": lambda: np.asarray(loop(*data)),
    }


def _torch(A: np.ndarray, b: np.ndarray) -> dict[str, Callable[[], np.ndarray]]:
    try:
        from torch._higher_order_ops import associative_scan
    except ImportError:
        return {}
    data = torch.from_numpy(A), torch.from_numpy(b)

    def both(p, q):
        return p[0] * q[0], q[0] * p[1] + q[1]

    return {"torch associative_scan": lambda: associative_scan(both, data, 0, combine_mode="generic")[1].numpy()}


def diagonal(steps: int, width: int, regime: str, threads: int, rounds: int) -> Race:
    """affine_scan and associative_scan against the peers; A, b in float32."""
    rng = np.random.default_rng(SEED)
    A = rng.uniform(LOW[regime], 1.0, (steps, width)).astype(np.float32)
    b = rng.standard_normal((steps, width)).astype(np.float32)
    found, ours = {**_jax(A, b), **_torch(A, b)}, (torch.from_numpy(A), torch.from_numpy(b))
    contenders: dict[str, Callable[[], object]] = {
        "seqsolve": lambda: sq.affine_scan(A, b, structure="diag"),
        FLOOR: lambda: A + b,
        "seqsolve associative_scan": lambda: sq.associative_scan(
            lambda p, q: (p[0] * q[0], q[0] * p[1] + q[1]), ours
        )[1],
        **found,
    }  # fmt: skip
    names = ("jax.lax.associative_scan", "jax.lax.scan", "torch associative_scan")
    absent = {name: peers.why_absent(name.split(".")[0].split()[0]) for name in names if name not in found}
    exact = sq.affine_scan(A.astype(float), b.astype(float), structure="diag")
    judges = {n: lambda h: float(np.abs(np.asarray(h) - exact).max()) for n in contenders if n != FLOOR}
    return race(
        f"diagonal that {regime}, {steps:,} x {width}", contenders, rounds=rounds, threads=threads, absent=absent,
        error=judges,
    )  # fmt: skip


def constant(steps: int, n: int, rounds: int) -> Race:
    """One matrix: ours, its eigenvectors, and the loop of torch products."""
    rng = np.random.default_rng(SEED)
    A = rng.standard_normal((n, n))
    A = torch.from_numpy(A * 0.9 / np.abs(np.linalg.eigvals(A)).max()).float()
    b = torch.from_numpy(rng.standard_normal((steps, n))).float()

    def eigen():
        values, V = torch.linalg.eig(A)
        c = b.to(V.dtype) @ torch.linalg.inv(V).T
        return (sq.affine_scan(values.expand(c.shape), c, structure="diag") @ V.T).real

    def loop():
        h, out = torch.zeros(n), torch.empty_like(b)
        for t, row in enumerate(b):
            h = torch.addmv(row, A, h, out=out[t])
        return out

    exact = sq.affine_scan(A.double(), b.double(), structure="constant")
    return race(
        f"constant matrix, n = {n}, {steps:,} steps",
        {"seqsolve": lambda: sq.affine_scan(A, b, structure="constant"), "eigenvectors": eigen, "torch loop": loop},
        rounds=rounds, error=lambda h: float((torch.as_tensor(h).double() - exact).abs().max()),
    )  # fmt: skip


def gradient(units: int, steps: int, rounds: int) -> Race:
    """The implicit backward pass of solve beside its forward pass, in float64; error relative to autograd of torch."""
    gru = sq.gallery.torch_init("gru", 4, units, rng=SEED, dtype=torch.float64)
    x = torch.randn(steps, 4, generator=torch.Generator().manual_seed(SEED), dtype=torch.float64)
    x0, weight = torch.zeros(units, dtype=torch.float64), gru.get_parameter("weight_hh_l0")
    exact = torch.autograd.grad(gru(x)[0].square().sum(), weight)[0]
    losses = {m: sq.solve(gru, x0, x, method=m).states.square().sum() for m in ("sequential", "newton")}
    theirs = gru(x)[0].square().sum()

    def backward(loss):
        return lambda: torch.autograd.grad(loss, weight, retain_graph=True)[0]

    def forward(method):
        return lambda: sq.solve(gru, x0, x, method=method).states

    contenders = {
        "seqsolve backward": backward(losses["newton"]), "seqsolve forward, Newton": forward("newton"),
        "seqsolve forward, sequential": forward("sequential"), "torch backward": backward(theirs),
        "torch forward": lambda: gru(x)[0],
    }  # fmt: skip
    size = float(exact.abs().max())
    judges = {n: lambda g: float((g - exact).abs().max()) / size for n in contenders if "backward" in n}
    return race(f"GRU({units}), {steps:,} steps: backward alone", contenders, rounds=rounds, error=judges)


_PEAK = """
import json, resource, sys, torch, seqsolve as sq
steps, units = map(int, sys.argv[1:])
torch.set_num_threads(1)
u = torch.randn(steps, units, generator=torch.Generator().manual_seed(7))
A = sq.gallery.tanh_rnn(units, 0.8, rng=7, dtype=torch.float32).get_parameter("weight_hh_l0").detach()
with torch.no_grad():
    sol = sq.solve(lambda x, u: torch.tanh(x @ A.T + u), torch.zeros(units), u, method="newton")
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps([peak, sol.ok, sol.sweeps, sol.window, sol.certificate.residual, sol.seconds]))
"""


def peak_megabytes(steps: int, units: int) -> dict[str, float]:
    """Peak resident memory of windowed Newton on a torch step in a fresh process, torch's own import included."""
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, str(steps), str(units)], capture_output=True, text=True, check=True
    )
    return dict(zip(("megabytes", "ok", "sweeps", "window", "residual", "seconds"), json.loads(done.stdout)))


def races(quick: bool) -> Iterator[Race]:
    """What ``python -m benchmarks`` shows; ours is the first of each race."""
    rounds, elements = 7, 1 << 20 if quick else 1 << 23
    for threads in sorted({1, all_threads()}):
        for width in (1, 64) if quick else (1, 4, 16, 64, 256):
            for regime in ("forgets",) if quick and threads == 1 else LOW:
                yield diagonal(elements // width, width, regime, threads, rounds)
    for n in (8,) if quick else (2, 8, 32, 128):
        yield constant(10_000 if quick else 100_000, n, rounds)
    for units in (8,) if quick else (8, 32):
        yield gradient(units, 500 if quick else 4000, rounds)


class Diagonal:
    """Ratios of the diagonal scan, all threads, and nanoseconds a step."""

    params = ((1, 16, 256), tuple(LOW))
    param_names = ("width", "regime")
    timeout = 600

    def setup_cache(self):
        return {(w, r): diagonal((1 << 22) // w, w, r, all_threads(), 7) for w in self.params[0] for r in LOW}

    def track_ratio_floor(self, found, width, regime):
        """Our time over that of numpy's a + b, which moves the same bytes."""
        return found[width, regime].ratio("seqsolve", FLOOR).median

    def track_ratio_torch(self, found, width, regime):
        """Our time over that of torch's associative_scan; NaN without it."""
        contest, name = found[width, regime], "torch associative_scan"
        return contest.ratio("seqsolve", name).median if name in contest.wall else float("nan")

    def track_nanoseconds(self, found, width, regime):
        """Wall time a number."""
        return float(np.median(found[width, regime].wall["seqsolve"])) / (1 << 22) * 1e9

    def track_error(self, found, width, regime):
        """Largest difference to float64."""
        return found[width, regime].error["seqsolve"]


class Gradient:
    """The implicit backward pass over the forward pass, and its error to autograd."""

    params = (8, 32)
    param_names = ("units",)
    timeout = 600

    def setup_cache(self):
        return {n: gradient(n, 2000, 7) for n in self.params}

    def track_ratio_forward_newton(self, found, units):
        """Backward over forward by Newton."""
        return found[units].ratio("seqsolve backward", "seqsolve forward, Newton").median

    def track_ratio_torch_backward(self, found, units):
        """Our backward over torch's."""
        return found[units].ratio("seqsolve backward", "torch backward").median

    def track_error(self, found, units):
        """Relative to the largest entry."""
        return found[units].error["seqsolve backward"]


class Memory:
    """Peak memory of windowed Newton over a million steps of 32 numbers."""

    timeout = 1200

    def track_peak_megabytes(self):
        """Of the whole process."""
        return peak_megabytes(10**6, 32)["megabytes"]
