"""A forward with its backward pass: drop-ins against torch's own modules, and cells against their steps in torch.

``python -m benchmarks.bench_seqsolve_training`` prints the ratios with the error of the gradient beside them.
"""

import argparse
import copy
from collections.abc import Callable, Iterator

import torch

import seqsolve as sq
from benchmarks.ratios import Race, all_threads, race

KINDS = ("rnn", "gru", "lstm")
SHAPES = ((8, 1, 2000), (32, 16, 200), (64, 1, 1000), (128, 64, 40), (256, 16, 40))  # units, batch, steps
SEED = 20339


def _gradient(run: Callable, x: torch.Tensor, leaves: list[torch.Tensor], weight: torch.Tensor) -> Callable:
    return lambda: torch.autograd.grad((run(x)[0] * weight).sum(), leaves)


def _error(exact) -> Callable:
    """The largest difference of any gradient, relative to its largest entry."""
    return lambda found: max(float((a.double() - b).abs().max() / b.abs().max()) for a, b in zip(found, exact))


def module(
    kind: str, units: int, batch: int, steps: int, rounds: int, *, dtype=torch.float32, threads: int = 1, **options
) -> Race:
    """Gradients by the inputs and all parameters, weights that stay: ``parallelize(module)`` beside the module."""
    generator = torch.Generator().manual_seed(SEED)
    inputs = min(units, 64)
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        layer = getattr(torch.nn, kind.upper())(inputs, units, dtype=dtype, **options)
    fast, double = sq.parallelize(layer), copy.deepcopy(layer).double()
    x = torch.randn(steps, batch, inputs, generator=generator, dtype=dtype).requires_grad_()
    size = units * (2 if options.get("bidirectional") else 1)
    weight = torch.randn(steps, batch, size, generator=generator, dtype=dtype)
    wide = x.detach().double().requires_grad_()
    exact = _gradient(double, wide, [wide, *double.parameters()], weight.double())()
    leaves = [x, *layer.parameters()]
    more = "".join(f", {name} {value}" for name, value in options.items())
    return race(
        f"training nn.{kind.upper()}({inputs}, {units}{more}), {str(dtype)[6:]}, batch {batch}, {steps:,} steps",
        {"seqsolve": _gradient(fast, x, leaves, weight), "torch": _gradient(layer, x, leaves, weight)},
        rounds=rounds, threads=threads, error=_error(exact), min_seconds=1e-2,
    )  # fmt: skip


def cell(name: str, units: int, batch: int, steps: int, rounds: int) -> Race:
    """A cell of the literature through `parallelize` beside autograd through its steps."""
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        layer = getattr(sq, name)(4, units)
    generator = torch.Generator().manual_seed(SEED)
    x = torch.randn(steps, batch, 4, generator=generator).requires_grad_()
    weight = torch.randn(steps, batch, units, generator=generator)
    double, wide = copy.deepcopy(layer).double(), x.detach().double().requires_grad_()
    exact = _gradient(double, wide, [wide, *double.parameters()], weight.double())()
    leaves = [x, *layer.parameters()]
    contenders = {
        "seqsolve": _gradient(sq.parallelize(layer), x, leaves, weight),
        "torch, step by step": _gradient(layer, x, leaves, weight),
    }
    title = f"training {name}(4, {units}), batch {batch}, {steps:,} steps"
    return race(title, contenders, rounds=rounds, threads=1, error=_error(exact))


def races(quick: bool) -> Iterator[Race]:
    """What ``python -m benchmarks`` shows; ours is the first of each race."""
    rounds = 7
    for kind in KINDS:
        for units, batch, steps in SHAPES[:2] if quick else SHAPES:
            yield module(kind, units, batch, steps, rounds)
        if not quick:
            yield module(kind, 32, 4, 200, rounds, dtype=torch.float64)
            yield module(kind, 32, 16, 200, rounds, threads=all_threads())
    yield module("gru", 16, 8, 100, rounds, num_layers=2, bidirectional=True)
    yield module("lstm", 16, 8, 100, rounds, num_layers=2, bidirectional=True, dtype=torch.float64)
    for name in ("LEM", "IndRNN", "CfC"):
        yield cell(name, 16, 4, 300, rounds)


class Training:
    """Ratios of a forward with its backward pass to torch's own, one thread."""

    params = (KINDS, SHAPES)
    param_names = ("kind", "shape")
    timeout = 300

    def setup_cache(self):
        return {(kind, shape): module(kind, *shape, 7) for kind in KINDS for shape in SHAPES}

    def track_ratio_torch(self, found, kind, shape):
        """Our time over torch's."""
        return found[kind, tuple(shape)].ratio("seqsolve", "torch").median

    def track_error(self, found, kind, shape):
        """Largest relative difference of a gradient to float64."""
        return found[kind, tuple(shape)].error["seqsolve"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two shapes of each cell")
    print(f"{'job':78}{'CPU time, ours / theirs':>26}{'our error':>11}{'theirs':>10}")
    for found in races(parser.parse_args().quick):
        ours, theirs = found.wall
        ratio = found.ratio(ours, theirs, "cpu")
        print(f"{found.name:78}{format(ratio):>26}{found.error[ours]:>11.1e}{found.error[theirs]:>10.1e}", flush=True)


if __name__ == "__main__":
    main()
