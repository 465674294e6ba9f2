"""density: the torch module beside a Deep Factorized model, CompressAI's and one in plain torch.

The error of an entropy model is its rate above the empirical entropy of the same rounded latents, bits a value: ours
after `init_from_data`, the peers, which have no such thing, after 100 steps of Adam. That of a coder is what its
strings hold above that entropy, in the same unit.
"""

import importlib
import sys
import warnings
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from itertools import pairwise
from types import ModuleType
from typing import Any

import numpy as np

from benchmarks import peers
from benchmarks.ratios import Race, all_threads, race

SEED = 20267
SMALL, EQUAL = "density, K = 16", "density, K = 55"  # 19 and 58 parameters a channel
PLAIN, COMPRESSAI = "Deep Factorized, plain torch", "Deep Factorized, CompressAI"  # 58 each, quantiles not counted


def latents(batch: int, channels: int, side: int):
    """Laplace, with a scale of its own for each channel; about 3 bits a value."""
    import torch

    rng = np.random.default_rng(SEED)
    scales = np.exp(0.7 * rng.normal(size=(channels, 1, 1)))
    return torch.tensor(rng.laplace(size=(batch, channels, side, side)) * scales, dtype=torch.float32)


def models(channels: int) -> tuple[dict[str, Any], dict[str, str]]:
    """Contenders, ours first, and the absent with the reason; (y) -> (y_hat, bits) each."""
    from density.entropy_model import FourierEntropyModel

    found: dict[str, Any] = {SMALL: FourierEntropyModel(channels, 16), EQUAL: FourierEntropyModel(channels, 55)}
    found[PLAIN] = deep_factorized(channels)
    bottleneck, reason = entropy_bottleneck()
    if bottleneck is None:
        return found, {COMPRESSAI: reason}
    return found | {COMPRESSAI: _with_bits(bottleneck(channels))}, {}


def entropy_bottleneck():
    """CompressAI's class, or None and why not.

    CompressAI imports torchvision for its data sets, of which the class uses nothing: where there is no torchvision
    that starts, an empty module stands in for it.
    """
    stand_in = None
    if peers.load("torchvision") is None:
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        stand_in = _Empty()
        sys.meta_path.insert(0, stand_in)  # type: ignore[arg-type]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module("compressai.entropy_models").EntropyBottleneck, ""
    except ImportError:
        return None, "compressai is not installed (pip install compressai)"
    except Exception as error:  # a peer that is broken on this machine must not take our figures with it
        return None, f"compressai does not start here: {type(error).__name__}"
    finally:
        if stand_in is not None:
            sys.meta_path.remove(stand_in)  # type: ignore[arg-type]
            for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
                del sys.modules[name]


class _Empty:
    """An import hook: torchvision and its parts are modules whose every attribute is an empty class."""

    class Module(ModuleType):
        def __getattr__(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            return type(name, (), {})

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] != "torchvision":
            return None
        return ModuleSpec(name, self, is_package=True)  # type: ignore[arg-type]

    def create_module(self, spec):
        return self.Module(spec.name)

    def exec_module(self, module):
        pass


def _with_bits(bottleneck):
    import torch
    from torch import nn

    class WithBits(nn.Module):
        def __init__(self):
            super().__init__()
            self.bottleneck = bottleneck

        def forward(self, y):
            y_hat, likelihood = self.bottleneck(y)
            return y_hat, -torch.log2(likelihood)

    return WithBits()


def deep_factorized(channels: int):
    """Univariate network of Balle et al. (2018), appendix 6.1, filters (3, 3, 3, 3), in plain torch."""
    import torch
    from torch import nn
    from torch.nn import functional

    class DeepFactorized(nn.Module):
        def __init__(self):
            super().__init__()
            widths, generator = (1, 3, 3, 3, 3, 1), torch.Generator().manual_seed(SEED)
            scale = 10 ** (1 / 5)
            pairs = list(pairwise(widths))
            init = [float(np.log(np.expm1(1 / scale / after))) for _, after in pairs]
            self.weights = nn.ParameterList(torch.full((channels, b, a), v) for (a, b), v in zip(pairs, init))
            self.biases = nn.ParameterList(torch.rand(channels, b, 1, generator=generator) - 0.5 for _, b in pairs)
            self.gates = nn.ParameterList(torch.zeros(channels, b, 1) for _, b in pairs[:-1])

        def logits(self, x):
            for i, (weight, bias) in enumerate(zip(self.weights, self.biases)):
                x = torch.matmul(functional.softplus(weight), x) + bias
                if i < len(self.gates):
                    x = x + torch.tanh(self.gates[i]) * torch.tanh(x)
            return x

        def forward(self, y):
            y_hat = y + torch.rand_like(y) - 0.5 if self.training else torch.round(y)
            x = y_hat.transpose(0, 1).reshape(channels, 1, -1)
            low, high = self.logits(x - 0.5), self.logits(x + 0.5)
            sign = -torch.sign(low + high).detach()
            mass = (torch.sigmoid(sign * high) - torch.sigmoid(sign * low)).abs().clamp_min(1e-9)
            bits = -torch.log2(mass).reshape(channels, y.shape[0], *y.shape[2:]).transpose(0, 1)
            return y_hat, bits

    return DeepFactorized()


def step(model, y):
    """One training step but for the optimiser: bits and latents forward, every gradient backward."""
    x = y.detach().clone().requires_grad_()
    y_hat, bits = model(x)
    (bits.sum() + y_hat.sum()).backward()
    return bits


def train(model, y, steps: int = 100, rate: float = 0.02) -> None:
    """Equal steps of Adam on the bits alone."""
    import torch

    optimiser = torch.optim.Adam(model.parameters(), lr=rate)
    for _ in range(steps):
        optimiser.zero_grad()
        model(y)[1].mean().backward()
        optimiser.step()


def empirical_bits(rounded) -> float:
    """Mean over the channels of the empirical entropy, bits a value."""
    total = 0.0
    for channel in rounded.transpose(0, 1).reshape(rounded.shape[1], -1).numpy():
        counts = np.unique(channel, return_counts=True)[1]
        total += float(counts @ np.log2(channel.size / counts))
    return total / rounded.numel()


def step_race(batch: int, channels: int, side: int, threads: int) -> Race:
    """Forward and backward at K = 16, and at parameters equal to those of the peers."""
    import torch

    y = latents(batch, channels, side)
    found, absent = models(channels)
    rounded = torch.round(y)
    entropy, excess = empirical_bits(rounded), {}
    for name, model in found.items():
        torch.manual_seed(SEED)
        if name in (SMALL, EQUAL):
            model.init_from_data(y)
        else:
            train(model, y[:2])
        model.eval()
        with torch.no_grad():
            rate = model.bits(rounded) if hasattr(model, "bits") else model(rounded)[1]
        excess[name] = float(rate.mean()) - entropy
        model.train()
    contenders = {name: lambda model=model: step(model, y) for name, model in found.items()}
    error = {name: lambda _, value=value: value for name, value in excess.items()}
    name = f"entropy model, forward + backward, {batch} x {channels} x {side} x {side}"
    return race(name, contenders, threads=threads, error=error, absent=absent)  # type: ignore[arg-type]


def coding_race(job: str, batch: int, channels: int, side: int) -> Race:
    """Latents to strings and back; the peer is trained on the same latents, ours is set by `init_from_data`."""
    import torch

    from density.entropy_model import FourierEntropyModel

    y = torch.round(latents(batch, channels, side))
    ours = FourierEntropyModel(channels, 16).init_from_data(y).eval()
    strings = {"density": ours.compress(y)}
    pack: dict[str, Any] = {"density": lambda: ours.compress(y)}
    unpack: dict[str, Any] = {"density": lambda: ours.decompress(strings["density"], y.shape[2:])}
    bottleneck, reason = entropy_bottleneck()
    if bottleneck is not None:
        torch.manual_seed(SEED)
        theirs = bottleneck(channels)
        train(_with_bits(theirs), y, 200)
        theirs.eval().update(force=True, update_quantiles=True)
        strings["CompressAI"] = theirs.compress(y)
        pack["CompressAI"] = lambda: theirs.compress(y)
        unpack["CompressAI"] = lambda: theirs.decompress(strings["CompressAI"], y.shape[2:])
    entropy = empirical_bits(y)
    excess = {name: 8 * sum(map(len, s)) / y.numel() - entropy for name, s in strings.items()}
    error = {name: lambda _, value=value: value for name, value in excess.items()}
    name = f"entropy model, {job}, {batch} x {channels} x {side} x {side}"
    absent = {} if bottleneck is not None else {"CompressAI": reason}
    return race(name, pack if job == "compress" else unpack, error=error, absent=absent)  # type: ignore[arg-type]


def races(quick: bool) -> Iterator[Race]:
    """Every race, single thread first."""
    for threads in sorted({1, all_threads()}):
        yield step_race(2 if quick else 16, 64 if quick else 192, 16, threads)
        yield step_race(16, 64, 4, threads)
    for job in ("compress", "decompress"):
        yield coding_race(job, 2, 16 if quick else 192, 16)


class EntropyModel:
    """One training step beside a Deep Factorized model."""

    timeout = 600

    def setup_cache(self):
        """One race for each order."""
        return step_race(16, 192, 16, 1)

    def track_ratio_deep_factorized(self, result) -> float:
        """Our time at K = 16 over that of the plain one."""
        return _ratio(result, SMALL, PLAIN)

    def track_ratio_equal_parameters(self, result) -> float:
        """Our time at 58 parameters a channel over that of the plain one, which has as many; the target is 1.5."""
        return _ratio(result, EQUAL, PLAIN)

    def track_ratio_compressai(self, result) -> float:
        """Our time at 58 parameters a channel over CompressAI's; the target is 1.5."""
        return _ratio(result, EQUAL, COMPRESSAI)

    def track_excess(self, result) -> float:
        """Bits a value above the empirical entropy after 100 steps at K = 16."""
        return result.error[SMALL]


def _ratio(result: Race, ours: str, peer: str) -> float:
    return result.ratio(ours, peer).median if peer in result.wall else float("nan")
