"""The solver against the loop, jax.lax.scan and DEER-style Newton, over the gain of a tanh RNN and the trained GRU.

Iterations over all steps do more work than the loop; on a CPU they gain only where a step costs much more alone than
in a batch, as torch steps of a user do. The races say where they lose.
"""

import importlib.util
from collections.abc import Callable, Iterator

import numpy as np
import torch

import seqsolve as sq
from benchmarks import peers
from benchmarks.ratios import Race, race

GAINS, UNITS, SEED = (0.5, 0.9, 1.5), (2, 8, 32), 20317
OURS = ("newton", "chord", "frozen", "constant", "quasi", "elk")


def _problem(units: int, gain: float, steps: int):
    A = sq.gallery.tanh_rnn(units, gain, rng=SEED, dtype=torch.float32).get_parameter("weight_hh_l0").detach()
    u = torch.randn(steps, units, generator=torch.Generator().manual_seed(SEED))
    return A, u, torch.zeros(units)


def _jax(A: torch.Tensor, u: torch.Tensor) -> dict[str, Callable[[], np.ndarray]]:
    """jax.lax.scan, and Newton as DEER does it: jacfwd of every step and an associative scan of matrices, to 1e-4."""
    jax = peers.load("jax")
    if jax is None:
        return {}
    jnp, lax = jax.numpy, jax.lax
    M, inputs, zero = jnp.asarray(A.numpy()), jnp.asarray(u.numpy()), jnp.zeros(len(A), jnp.float32)

    def step(x, v):
        return jnp.tanh(M @ x + v)

    @jax.jit
    def ordered(inputs):
        return lax.scan(lambda x, v: (step(x, v),) * 2, zero, inputs)[1]

    def both(p, q):
        return q[0] @ p[0], (q[0] @ p[1][..., None])[..., 0] + q[1]

    @jax.jit
    def newton(inputs):
        def sweep(state):
            x, _, k = state
            before = jnp.concatenate([zero[None], x[:-1]])
            J = jax.vmap(jax.jacfwd(step))(before, inputs)
            rhs = jax.vmap(step)(before, inputs) - (J @ before[..., None])[..., 0]
            new = lax.associative_scan(both, (J.at[0].set(0), rhs))[1]
            return new, jnp.abs(new - x).max(), k + 1

        first = jnp.zeros_like(inputs), jnp.inf, 0
        return lax.while_loop(lambda s: ~(s[1] <= 1e-4) & (s[2] < 100), sweep, first)[0]

    return {
        "jax.lax.scan": lambda: np.asarray(ordered(inputs)),
        "Newton as DEER, jax": lambda: np.asarray(newton(inputs)),
    }


def step_of_the_user(units: int, gain: float, steps: int, rounds: int) -> Race:
    """A step in torch: solve("auto") and each method beside the loop in order."""
    A, u, x0 = _problem(units, gain, steps)

    def step(x, v):
        return torch.tanh(x @ A.T + v)

    def loop():
        x, out = x0, []
        for v in u:
            x = step(x, v)
            out.append(x)
        return torch.stack(out)

    exact = sq.solve(sq.gallery.tanh_rnn(units, gain, rng=SEED), x0.double(), u.double(), method="sequential").states
    contenders: dict[str, Callable[[], object]] = {"solve, auto": lambda: sq.solve(step, x0, u).states}
    for method in OURS:
        contenders[method] = lambda method=method: sq.solve(step, x0, u, method=method).states
    contenders["torch, step by step"] = loop
    found = _jax(A, u)
    absent = {} if found else {"jax.lax.scan": peers.why_absent("jax"), "Newton as DEER, jax": peers.why_absent("jax")}
    return race(
        f"tanh step in torch, n = {units}, gain {gain}, {steps} steps", {**contenders, **found}, rounds=rounds,
        absent=absent, error=lambda y: float((torch.as_tensor(np.array(y)).double() - exact.detach()).abs().max()),
    )  # fmt: skip


def trained(steps: int, rounds: int) -> Race:
    """The trained GRU-256 by every method in windows of 16, the fused loop first: what remembers is hard."""
    gru = sq.gallery.g2p_gru().requires_grad_(False)
    words = "a recurrence remembers what it has read and a trained one remembers for long "
    u, x0 = sq.gallery.g2p_inputs(words * (steps // 60 + 1))[:steps], torch.zeros(256)
    with torch.no_grad():
        exact = sq.gallery.g2p_gru().double()(u.double())[0]
    contenders: dict[str, Callable[[], object]] = {"sequential (fused loop)": lambda: sq.solve(gru, x0, u).states}
    for method in ("newton", "chord", "frozen", "constant", "quasi"):
        contenders[method] = lambda method=method: sq.solve(gru, x0, u, method=method, window=16).states
    contenders["torch nn.GRU"] = lambda: gru(u)[0]
    return race(
        f"trained GRU-256 of g2p_en by every method, {steps} characters", contenders, rounds=rounds,
        error=lambda y: float((torch.as_tensor(y).double() - exact).abs().max()),
    )  # fmt: skip


def backward(units: int, steps: int, rounds: int) -> Race:
    """Forward and the implicit gradient of a GRU beside torch's own."""
    gru = sq.gallery.torch_init("gru", 4, units, rng=SEED)
    x, x0 = torch.randn(steps, 4, generator=torch.Generator().manual_seed(SEED)), torch.zeros(units)

    def gradient(states):
        return torch.autograd.grad(states.square().sum(), gru.get_parameter("weight_hh_l0"))[0]

    twin = sq.gallery.torch_init("gru", 4, units, rng=SEED).double()
    exact = torch.autograd.grad(twin(x.double())[0].square().sum(), twin.get_parameter("weight_hh_l0"))[0]
    return race(
        f"GRU({units}), {steps} steps: forward and gradient",
        {"seqsolve": lambda: gradient(sq.solve(gru, x0, x).states), "torch nn.GRU": lambda: gradient(gru(x)[0])},
        rounds=rounds,
        error=lambda g: float((torch.as_tensor(g).double() - exact).abs().max() / exact.abs().max()),
    )


def races(quick: bool) -> Iterator[Race]:
    """What ``python -m benchmarks`` shows; ours is the first of each race."""
    rounds = 7
    for units in (2,) if quick else UNITS:
        for gain in (0.9,) if quick else GAINS:
            yield step_of_the_user(units, gain, 1000 if quick else 4000, rounds)
    yield backward(8, 500 if quick else 4000, rounds)
    if importlib.util.find_spec("g2p_en") is not None and not quick:  # never imported: it downloads corpora
        yield trained(500, rounds)


class Solver:
    """Ratios of solve("auto") and of Newton to the loop of torch steps, one thread."""

    params = (UNITS, GAINS)
    param_names = ("units", "gain")
    timeout = 600

    def setup_cache(self):
        return {(n, g): step_of_the_user(n, g, 2000, 7) for n in UNITS for g in GAINS}

    def track_ratio_loop(self, found, units, gain):
        """Time of solve("auto") over that of the loop."""
        return found[units, gain].ratio("solve, auto", "torch, step by step").median

    def track_ratio_loop_newton(self, found, units, gain):
        """Time of Newton over that of the loop."""
        return found[units, gain].ratio("newton", "torch, step by step").median

    def track_ratio_deer_newton(self, found, units, gain):
        """Time of our Newton over that of Newton as DEER does it in jax; NaN without jax."""
        contest, name = found[units, gain], "Newton as DEER, jax"
        return contest.ratio("newton", name).median if name in contest.wall else float("nan")

    def track_error(self, found, units, gain):
        """Largest difference to float64."""
        return found[units, gain].error["solve, auto"]
