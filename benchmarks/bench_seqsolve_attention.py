"""seqsolve: attention as a recurrence beside torch's fused attention, and the forms of a linear recurrence beside each
other and beside jax.

Errors are largest differences from float64 references, relative to the largest value. Attention is (1, 4, T, 64).
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import peers
from benchmarks.ratios import Race, all_threads, race
from seqsolve import linear_attention as la
from seqsolve.attention import aaren, causal

SEED = 20262
LENGTH = {True: 1024, False: 4096}
WINDOW = 256
GATED, PARALLEL, SEQUENTIAL = "min_gru, chunk (fused)", "jax.lax.associative_scan", "jax.lax.scan"
SDPA, NAIVE = "torch scaled_dot_product_attention", "softmax of the whole matrix"


@cache
def _qkv(T: int) -> tuple[Tensor, ...]:
    return tuple(torch.randn(3, 1, 4, T, 64, generator=torch.Generator().manual_seed(SEED)))


def _naive(q: Tensor, k: Tensor, v: Tensor, hidden: Tensor) -> Tensor:
    return torch.softmax((q @ k.mT / q.shape[-1] ** 0.5).masked_fill(hidden, -torch.inf), -1) @ v


def _sdpa(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def _judge(expected: Tensor) -> Callable[[Any], float]:
    return lambda found: float((found.detach().double() - expected).abs().max() / expected.abs().max())


@torch.no_grad()
def causal_race(threads: int, quick: bool) -> Race:
    """Exact causal attention of one sequence."""
    T = LENGTH[quick]
    q, k, v = _qkv(T)
    hidden = torch.ones(T, T, dtype=torch.bool).triu(1)
    contenders: dict[str, Callable] = {
        "seqsolve causal": lambda: causal(q, k, v)[0],
        SDPA: lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True),
        'seqsolve causal, method="blocks"': lambda: causal(q, k, v, method="blocks")[0],
    }
    if quick and threads == 1:
        contenders[NAIVE] = lambda: _naive(q, k, v, hidden)
    expected = F.scaled_dot_product_attention(q.double(), k.double(), v.double(), is_causal=True)
    return race(f"causal attention, T = {T}", contenders, threads=threads, error=_judge(expected))


@torch.no_grad()
def window_race(threads: int, quick: bool) -> Race:
    """Each query sees 256 keys; torch is given the mask, which it multiplies out."""
    T = 2 * LENGTH[quick]
    q, k, v = _qkv(T)
    gap = torch.arange(T)[:, None] - torch.arange(T)
    seen = (gap >= 0) & (gap < WINDOW)
    contenders: dict[str, Callable] = {
        "seqsolve causal, window": lambda: causal(q, k, v, window=WINDOW)[0],
        f"{SDPA}, mask": lambda: F.scaled_dot_product_attention(q, k, v, attn_mask=seen),
    }
    expected = F.scaled_dot_product_attention(q.double(), k.double(), v.double(), attn_mask=seen)
    return race(f"sliding window of {WINDOW}, T = {T}", contenders, threads=threads, error=_judge(expected))


@torch.no_grad()
def decode_race(threads: int, quick: bool) -> Race:
    """One new token against the keys of all earlier ones."""
    T = LENGTH[quick]
    q, k, v = _qkv(T)
    last = q[:, :, -1:]
    contenders: dict[str, Callable] = {
        "seqsolve causal": lambda: causal(last, k, v)[0],
        SDPA: lambda: F.scaled_dot_product_attention(last, k, v),
    }
    expected = F.scaled_dot_product_attention(last.double(), k.double(), v.double())
    return race(f"one token against {T} keys", contenders, threads=threads, error=_judge(expected))


def training_race(threads: int, quick: bool) -> Race:
    """Forward and backward."""
    T = 512 if quick else 2048
    inputs = [x.clone().requires_grad_() for x in _qkv(T)]

    def step(attention: Callable[..., Tensor]) -> Callable[[], Tensor]:
        return lambda: torch.autograd.grad(attention(*inputs).square().sum(), inputs)[1]

    contenders: dict[str, Callable] = {
        "seqsolve causal": step(lambda q, k, v: causal(q, k, v)[0]),
        SDPA: step(_sdpa),
    }
    wide = [x.detach().double().requires_grad_() for x in inputs]
    exact = _sdpa(wide[0], wide[1], wide[2]).square().sum()
    expected = torch.autograd.grad(exact, wide)[1]
    return race(f"causal attention forward and backward, T = {T}", contenders, threads=threads, error=_judge(expected))


@torch.no_grad()
def forms_race(kind: str, threads: int, quick: bool) -> Race:
    """The chunk form beside the step and scan forms of the same recurrence, and beside softmax attention."""
    T = 512 if quick else 4096
    inputs = la.TABLE[kind].example(B=1, H=4, T=T, dk=64, dv=64)
    run = la.TABLE[kind].function
    contenders: dict[str, Callable] = {
        f"{kind}, chunk": lambda: run(**inputs)[0],
        f"{kind}, step": lambda: run(**inputs, form="step")[0],
    }
    expected, _ = run(**{n: x.double() for n, x in inputs.items()}, form="step")
    error: dict[str, Callable] = dict.fromkeys(contenders, _judge(expected))
    q, k, v = _qkv(T)
    contenders["softmax attention (torch)"] = lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return race(f"forms of {kind}, T = {T}, 4 heads of 64", contenders, threads=threads, error=error)


def gates_race(threads: int, quick: bool, *, backward: bool = False) -> Race:
    """A minimal GRU of 256 channels: ours beside jax's scan and associative scan."""
    T = 2048 if quick else 16384
    inputs = la.TABLE["min_gru"].example(B=1, H=4, T=T, dk=64, dv=64)
    k, v = (inputs[name].requires_grad_(backward) for name in "kv")
    wide = tuple(x.detach().double().requires_grad_(backward) for x in (k, v))

    def run(k: Tensor, v: Tensor) -> Tensor:
        o = la.min_gru(None, k, v)[0]
        return torch.autograd.grad(o.square().sum(), (k, v))[0] if backward else o

    exact = la.min_gru(None, *wide, form="scan" if backward else "step")[0]  # each step's slice has a full gradient
    judge = _judge((torch.autograd.grad(exact.square().sum(), wide)[0] if backward else exact).detach())
    contenders: dict[str, Callable] = {GATED: lambda: run(k, v)}
    error: dict[str, Callable] = {GATED: judge}
    jax, absent = peers.load("jax"), {}
    if jax is None:
        absent[PARALLEL] = absent[SEQUENTIAL] = peers.why_absent("jax")
    else:
        given = tuple(jax.numpy.asarray(x[0].detach().numpy()) for x in (k, v))

        def parallel(gate, value):
            z = jax.nn.sigmoid(gate)
            join = lambda one, two: (one[0] * two[0], two[0] * one[1] + two[1])  # noqa: E731
            return jax.lax.associative_scan(join, (1 - z, z * value), axis=1)[1]

        def sequential(gate, value):
            z = jax.numpy.moveaxis(jax.nn.sigmoid(gate), 1, 0)
            u = jax.numpy.moveaxis(value, 1, 0)

            def step(h, now):
                h = (1 - now[0]) * h + now[0] * now[1]
                return h, h

            return jax.numpy.moveaxis(jax.lax.scan(step, 0 * u[0], (z, u))[1], 0, 1)

        def theirs(found) -> float:
            import numpy as np

            return judge(torch.as_tensor(np.asarray(found[0] if backward else found).copy())[None])

        for name, function in ((PARALLEL, parallel), (SEQUENTIAL, sequential)):
            work = function
            if backward:
                work = jax.grad(lambda *x, function=function: (function(*x) ** 2).sum(), argnums=(0, 1))
            compiled = jax.jit(work)
            contenders[name] = lambda compiled=compiled: jax.block_until_ready(compiled(*given))
            error[name] = theirs
    what = "forward and backward" if backward else "forward"
    return race(f"min_gru {what}, 256 channels, T = {T}", contenders, threads=threads, error=error, absent=absent)


def _selective_plain(q: Tensor, k: Tensor, v: Tensor, dt: Tensor, A: Tensor, skip: Tensor) -> Tensor:
    """Mamba as torch code is usually written: decays and inputs of all steps formed, then a loop."""
    factor = torch.exp(dt[..., None, :] * A)
    write = k[..., :, None] * (dt * v)[..., None, :]
    h, rows = torch.zeros_like(write[:, :, 0]), []
    for t in range(v.shape[2]):
        h = factor[:, :, t] * h + write[:, :, t]
        rows.append((q[:, :, t, None, :] @ h)[:, :, 0])
    return torch.stack(rows, 2) + skip * v


def _selective_jax(jax, inputs: tuple[Tensor, ...]):
    """(function of the same arguments, the arguments) for one `jax.lax.scan` with the decay made step by step."""
    q, k, v, dt, A, skip = (jax.numpy.asarray(x.detach().numpy()) for x in inputs)

    def function(q, k, v, dt, A, skip):
        def step(h, now):
            q, k, v, dt = now
            h = jax.numpy.exp(dt * A[0]) * h + k[:, None] * (dt * v)
            return h, q @ h

        return jax.lax.scan(step, 0 * A[0], (q, k, v, dt))[1] + skip[0] * v

    return function, (q[0, 0], k[0, 0], v[0, 0], dt[0, 0], A, skip)


def selective_race(threads: int, quick: bool, *, backward: bool = False) -> Race:
    """The selective state-space model of Mamba: 256 channels of 16 states, one sequence."""
    T = 256 if quick else 2048
    example = la.TABLE["mamba1"].example(B=1, H=1, T=T, dk=16, dv=256)
    inputs = tuple(x.requires_grad_(backward) for x in example.values())
    wide = tuple(x.detach().double().requires_grad_(backward) for x in inputs)

    def ours(*given: Tensor) -> Tensor:
        return la.mamba1(*given)[0]

    def run(function: Callable[..., Tensor], given: tuple[Tensor, ...]) -> Tensor:
        o = function(*given)
        return torch.autograd.grad(o.square().sum(), given)[3] if backward else o

    fused, plain, scan = "mamba1, chunk (fused)", "torch, written out", "jax.lax.scan"
    contenders: dict[str, Callable] = {fused: lambda: run(ours, inputs), plain: lambda: run(_selective_plain, inputs)}
    judge = _judge(run(_selective_plain, wide).detach())
    error: dict[str, Callable] = dict.fromkeys(contenders, judge)
    jax, absent = peers.load("jax"), {}
    if jax is None:
        absent[scan] = peers.why_absent("jax")
    else:
        function, given = _selective_jax(jax, inputs)
        work = function
        if backward:
            work = jax.grad(lambda *x: (function(*x) ** 2).sum(), argnums=tuple(range(6)))
        compiled = jax.jit(work)
        contenders[scan] = lambda: jax.block_until_ready(compiled(*given))

        def theirs(found) -> float:
            import numpy as np

            return judge(torch.as_tensor(np.asarray(found[3] if backward else found).copy())[None, None])

        error[scan] = theirs
    what = "forward and backward" if backward else "forward"
    return race(f"Mamba-1 {what}, T = {T}, 256 x 16 states", contenders, threads=threads, error=error, absent=absent)


@torch.no_grad()
def aaren_race(threads: int, quick: bool) -> Race:
    """One query a head over every prefix: the scan beside quadratic attention of the repeated query."""
    T = LENGTH[quick]
    _, k, v = _qkv(T)
    query = _qkv(T)[0][0, :, 0]
    repeated = query[None, :, None].expand(1, -1, T, -1).contiguous()
    contenders: dict[str, Callable] = {
        "seqsolve aaren, chunk": lambda: aaren(query, k, v, form="chunk")[0],
        "seqsolve aaren, scan": lambda: aaren(query, k, v)[0],
        f"{SDPA}, query repeated": lambda: F.scaled_dot_product_attention(repeated, k, v, is_causal=True),
    }
    expected = F.scaled_dot_product_attention(repeated.double(), k.double(), v.double(), is_causal=True)
    return race(
        f"attention of a fixed query over every prefix, T = {T}", contenders, threads=threads, error=_judge(expected)
    )


def races(quick: bool) -> Iterator[Race]:
    """All races of this module."""
    for threads in dict.fromkeys((1, all_threads())):
        yield causal_race(threads, quick)
        if quick and threads > 1:
            continue
        yield window_race(threads, quick)
        yield decode_race(threads, quick)
        yield training_race(threads, quick)
        yield aaren_race(threads, quick)
        yield gates_race(threads, quick)
        yield gates_race(threads, quick, backward=True)
        yield selective_race(threads, quick)
        yield selective_race(threads, quick, backward=True)
        kinds = ("retnet", "gated_delta") if quick else ("linear", "retnet", "gla", "rwkv7", "delta", "gated_delta")
        for kind in kinds:
            yield forms_race(kind, threads, quick)


class CausalAttention:
    """Time of ours over torch's fused kernel, and the error, at T = 4096."""

    params: ClassVar = [1, all_threads()]
    param_names = ("threads",)
    timeout = 300

    def track_ratio_to_sdpa(self, threads: int) -> float:
        return causal_race(threads, quick=False).ratio("seqsolve causal", SDPA).median

    def track_ratio_window_to_sdpa(self, threads: int) -> float:
        found = window_race(threads, quick=False)
        return found.ratio("seqsolve causal, window", f"{SDPA}, mask").median

    def track_ratio_decode_to_sdpa(self, threads: int) -> float:
        return decode_race(threads, quick=False).ratio("seqsolve causal", SDPA).median

    def track_ratio_training_to_sdpa(self, threads: int) -> float:
        return training_race(threads, quick=False).ratio("seqsolve causal", SDPA).median

    def track_error(self, threads: int) -> float:
        return float(causal_race(threads, quick=True).error["seqsolve causal"] or 0.0)


class LinearForms:
    """Time of the chunk form over the step form and over softmax attention, at T = 4096."""

    params = (["linear", "retnet", "gla", "rwkv7", "delta", "gated_delta"], [1, all_threads()])
    param_names = ("kind", "threads")
    timeout = 300

    def track_ratio_to_step(self, kind: str, threads: int) -> float:
        return forms_race(kind, threads, quick=False).ratio(f"{kind}, chunk", f"{kind}, step").median

    def track_ratio_to_softmax(self, kind: str, threads: int) -> float:
        return forms_race(kind, threads, quick=False).ratio(f"{kind}, chunk", "softmax attention (torch)").median


class Selective:
    """Time of the fused selective scan over torch's written-out form and over jax's scan."""

    params = ([False, True], [1, all_threads()])
    param_names = ("backward", "threads")
    timeout = 300

    def track_ratio_to_torch(self, backward: bool, threads: int) -> float:
        found = selective_race(threads, quick=False, backward=backward)
        return found.ratio("mamba1, chunk (fused)", "torch, written out").median

    def track_ratio_to_jax(self, backward: bool, threads: int) -> float:
        if peers.load("jax") is None:
            return float("nan")
        found = selective_race(threads, quick=False, backward=backward)
        return found.ratio("mamba1, chunk (fused)", "jax.lax.scan").median


class Gates:
    """Time of min_gru over jax's associative scan and over its sequential scan."""

    params = ([False, True], [1, all_threads()])
    param_names = ("backward", "threads")
    timeout = 300

    def track_ratio_to_jax(self, backward: bool, threads: int) -> float:
        return self._ratio(backward, threads, PARALLEL)

    def track_ratio_to_jax_scan(self, backward: bool, threads: int) -> float:
        return self._ratio(backward, threads, SEQUENTIAL)

    def _ratio(self, backward: bool, threads: int, to: str) -> float:
        if peers.load("jax") is None:
            return float("nan")
        return gates_race(threads, quick=False, backward=backward).ratio(GATED, to).median
