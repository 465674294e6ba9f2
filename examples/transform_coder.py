"""A small transform coder on photographs, trained end to end, with two entropy models: rate against distortion.

``python examples/transform_coder.py`` trains a learned 8 x 8 block transform on three quarters of the two photographs
that scikit-learn ships, for several trade-offs, once with a `FourierEntropyModel` and once with a Deep Factorized model
(CompressAI's where it starts, else one in plain torch whose tables our coder writes). The rest of the photographs is
compressed to real bytes, which are held against the estimate, and decoded again. ``--quick`` takes some seconds.
"""

import argparse
import math
import sys
import time
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]  # runs from a clone, installed or not

import density as ds  # noqa: E402
from density.rans import ESCAPE, FrequencyTables, decode, encode, integer_frequencies  # noqa: E402

BLOCK, CROP = 8, 64
OURS, PEER = "Fourier", "Deep Factorized"


def photographs() -> tuple[list[Tensor], list[Tensor]]:
    """Training and held-out parts, (3, H, W) in 0..255 about 0: the right quarter of each photograph is held out."""
    photos = [
        torch.tensor(ds.gallery.photo(name)).movedim(2, 0).float() - 127.5 for name in ("china.jpg", "flower.jpg")
    ]
    photos = [p[:, : p.shape[1] // BLOCK * BLOCK] for p in photos]
    return [p[..., :480] for p in photos], [p[..., 480:] for p in photos]


class DeepFactorized(nn.Module):
    """Balle et al. (2018), arXiv:1802.01436, appendix 6.1, filters (3, 3, 3, 3), with strings from our coder."""

    def __init__(self, channels: int):
        super().__init__()
        pairs = list(pairwise((1, 3, 3, 3, 3, 1)))
        init = [math.log(math.expm1(1 / 10 ** (1 / len(pairs)) / after)) for _, after in pairs]
        self.weights = nn.ParameterList(torch.full((channels, b, a), v) for (a, b), v in zip(pairs, init))
        self.biases = nn.ParameterList(torch.rand(channels, b, 1) - 0.5 for _, b in pairs)
        self.gates = nn.ParameterList(torch.zeros(channels, b, 1) for _, b in pairs[:-1])

    def mass(self, values: Tensor) -> Tensor:
        """Of the unit bins at (C, 1, n) values."""
        ends = []
        for x in (values - 0.5, values + 0.5):
            for i, (weight, bias) in enumerate(zip(self.weights, self.biases)):
                x = torch.matmul(functional.softplus(weight), x) + bias
                if i < len(self.gates):
                    x = x + torch.tanh(self.gates[i]) * torch.tanh(x)
            ends.append(x)
        sign = -torch.sign(ends[0] + ends[1]).detach()
        return (torch.sigmoid(sign * ends[1]) - torch.sigmoid(sign * ends[0])).abs().clamp_min(1e-9)

    def forward(self, y: Tensor) -> tuple[Tensor, Tensor]:
        y_hat = y + torch.rand_like(y) - 0.5 if self.training else torch.round(y)
        columns = y_hat.transpose(0, 1)
        mass = self.mass(columns.reshape(y.shape[1], 1, -1)).reshape(columns.shape).transpose(0, 1)
        return y_hat, -torch.log2(mass)

    @torch.no_grad()
    def tables(self) -> FrequencyTables:
        """Integer frequencies of -1023..1023 for each channel, and an escape."""
        levels = torch.arange(-1023.0, 1024.0)
        mass = self.mass(levels.expand(len(self.biases[0]), 1, -1))[:, 0].double().numpy()
        count = len(levels) + 1
        frequencies = [integer_frequencies(np.rint(np.append(row, 1e-9) * 2**40).astype(np.int64)) for row in mass]
        values, raw = np.append(levels.numpy(), 0).astype(np.int64), np.append(np.zeros(count - 1, np.int64), ESCAPE)
        offsets = np.arange(len(mass) + 1) * count
        return FrequencyTables(
            np.concatenate(frequencies), np.tile(values, len(mass)), np.tile(raw, len(mass)), offsets
        )

    def compress(self, y: Tensor) -> list[bytes]:
        tables = self.tables()
        contexts = np.repeat(np.arange(y.shape[1]), math.prod(y.shape[2:]))
        return [encode(torch.round(item).long().numpy().ravel(), tables, contexts=contexts) for item in y]

    def decompress(self, strings: list[bytes], size) -> Tensor:
        tables, channels = self.tables(), len(self.biases[0])
        contexts = np.repeat(np.arange(channels), math.prod(size))
        rows = [decode(string, contexts.size, tables, contexts=contexts) for string in strings]
        return torch.tensor(np.stack(rows), dtype=torch.float32).reshape(len(rows), channels, *size)


def entropy_bottleneck():
    """CompressAI's class behind the interface of ours, or None where it is not installed or does not start."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from compressai.entropy_models import EntropyBottleneck
    except Exception:
        return None

    class Bottleneck(EntropyBottleneck):
        def forward(self, y: Tensor) -> tuple[Tensor, Tensor]:
            y_hat, likelihood = super().forward(y)
            return y_hat, -torch.log2(likelihood)

        def compress(self, y: Tensor) -> list[bytes]:
            self.update(force=True)
            return super().compress(y)

    return Bottleneck


class Coder(nn.Module):
    """A linear transform of 8 x 8 colour blocks, its inverse, and an entropy model between them."""

    def __init__(self, model: nn.Module, basis: Tensor, step: float):
        super().__init__()
        channels = len(basis)
        kernel = basis.reshape(channels, 3, BLOCK, BLOCK)
        self.analysis = nn.Conv2d(3, channels, BLOCK, BLOCK)
        self.synthesis = nn.ConvTranspose2d(channels, 3, BLOCK, BLOCK)
        with torch.no_grad():  # the Karhunen-Loeve transform, one step of the entropy model being `step` grey levels
            self.analysis.weight.copy_(kernel / step)
            self.synthesis.weight.copy_(kernel * step)
            for layer in (self.analysis, self.synthesis):
                nn.init.zeros_(layer.bias)  # pyright: ignore[reportArgumentType]
        self.model: Any = model

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y_hat, bits = self.model(self.analysis(x))
        return self.synthesis(y_hat), bits


def karhunen_loeve(parts: list[Tensor], channels: int) -> Tensor:
    """The leading principal directions of the blocks, (channels, 192); the mean stays in, the first of them is flat."""
    blocks = torch.cat([functional.unfold(p[None], BLOCK, stride=BLOCK)[0].T for p in parts])
    return torch.linalg.eigh(blocks.T @ blocks)[1].flip(1).T[:channels]


def crops(parts: list[Tensor], count: int, generator: torch.Generator) -> Tensor:
    """Random (count, 3, 64, 64) pieces."""
    found = []
    for _ in range(count):
        part = parts[int(torch.randint(len(parts), (), generator=generator))]
        top, left = (int(torch.randint(n - CROP + 1, (), generator=generator)) for n in part.shape[1:])
        found.append(part[:, top : top + CROP, left : left + CROP])
    return torch.stack(found)


def train(coder: Coder, parts: list[Tensor], step: float, steps: int) -> None:
    """Minimise bits + lambda squared error; at high rates lambda = 6 / (step^2 ln 2) has its optimum at that step."""
    price = 6 / (step**2 * math.log(2))
    slow = [*coder.analysis.parameters(), *coder.synthesis.parameters()]
    groups = [{"params": list(coder.model.parameters()), "lr": 1e-2}]
    groups += [{"params": [p], "lr": 5e-3 * float(p.detach().square().mean().sqrt().clamp_min(1e-2))} for p in slow]
    optimiser = torch.optim.Adam(groups)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps, 0.0)
    generator = torch.Generator().manual_seed(23)
    coder.train()
    for _ in range(steps):
        x = crops(parts, 8, generator)
        x_hat, bits = coder(x)
        loss = (bits.sum() + price * (x_hat - x).square().sum()) / (len(x) * CROP * CROP)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    coder.eval()


def start(name: str, coder: Coder, parts: list[Tensor], steps: int) -> None:
    """The entropy model alone on the first latents: ours in closed form, the peer by `steps` steps of its own."""
    with torch.no_grad():
        y = coder.analysis(crops(parts, 64, torch.Generator().manual_seed(29)))
    if name == OURS:
        coder.model.init_from_data(y)
        return
    optimiser = torch.optim.Adam(coder.model.parameters(), lr=2e-2)
    for n in range(steps):
        optimiser.zero_grad()
        coder.model(y[n % 8 :: 8])[1].mean().backward()
        optimiser.step()
    if hasattr(coder.model, "update"):  # CompressAI rounds about its medians
        coder.model.update(force=True, update_quantiles=True)


@torch.no_grad()
def measure(coder: Coder, parts: list[Tensor]) -> dict[str, float]:
    """Held-out bits a pixel, written and estimated, PSNR of what was decoded, and whether the latents came back."""
    promised = written = squares = pixels = 0.0
    equal = True
    for part in parts:
        y = coder.analysis(part[None])
        y_hat, bits = coder.model(y)
        strings = coder.model.compress(y)
        decoded = coder.model.decompress(strings, y.shape[2:])
        equal = equal and bool(torch.equal(decoded, y_hat))
        pixels += part[0].numel()
        promised += float(bits.double().sum())
        written += 8 * sum(map(len, strings))
        shown = coder.synthesis(decoded)[0].round().clamp(-128, 127)
        squares += float((shown - part).square().sum())
    psnr = 10 * math.log10(255**2 * 3 * pixels / squares)
    return {"bpp": written / pixels, "estimate": promised / pixels, "psnr": psnr, "equal": equal}


def jpeg(parts: list[Tensor], qualities) -> list[tuple[float, float]]:
    """Bits a pixel and PSNR of JPEG without chroma subsampling, for scale."""
    import io

    from PIL import Image

    curve = []
    for quality in qualities:
        bits = squares = pixels = 0.0
        for part in parts:
            image, file = (part + 127.5).byte().movedim(0, 2).numpy(), io.BytesIO()
            Image.fromarray(image).save(file, "JPEG", quality=quality, subsampling=0, optimize=True)
            bits += 8 * file.tell()
            back = np.asarray(Image.open(file)).astype(float)
            squares, pixels = squares + float(((back - image) ** 2).sum()), pixels + image[..., 0].size
        curve.append((bits / pixels, 10 * math.log10(255**2 * 3 * pixels / squares)))
    return curve


def picture(curves: dict[str, list[tuple[float, float]]], photo: Tensor, decoded: Tensor, path: Path) -> None:
    """Rate against distortion, and a held-out piece before and after."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    plot, before, after = figure.subplots(1, 3, width_ratios=(2.2, 1, 1))
    looks = ({"color": "C0", "marker": "o"}, {"color": "C1", "marker": "s", "linestyle": "--"}, {"color": "0.6"})
    for (name, points), look in zip(curves.items(), looks):
        plot.plot(*zip(*sorted(points)), label=name, **look)
    plot.set(title="held-out rate and distortion", xlabel="bits a pixel, as written", ylabel="PSNR, dB")
    plot.grid(alpha=0.3)
    plot.legend(frameon=False)
    for axes, image, title in ((before, photo, "held out"), (after, decoded, "decoded")):
        axes.imshow((image + 127.5).round().clamp(0, 255).byte().movedim(0, 2).numpy())
        axes.set(title=title, xticks=[], yticks=[])
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main(arguments: list[str] | None = None) -> int:
    """Train, write, decode, plot; 0 if every string decodes to its latents and is as long as was estimated."""
    parser = argparse.ArgumentParser(prog="python examples/transform_coder.py", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two trade-offs and few steps, some seconds")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "transform_coder" / "rate_distortion.png")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    grid, steps, channels = ((40.0, 20.0), 10, 24) if options.quick else ((96.0, 56.0, 32.0, 18.0, 10.0), 250, 96)

    parts, held = photographs()
    basis = karhunen_loeve(parts, channels)
    bottleneck = entropy_bottleneck()
    print(
        f"Deep Factorized: {'plain torch' if bottleneck is None else 'CompressAI'}, {channels} channels, {steps} steps"
    )
    curves: dict[str, list[tuple[float, float]]] = {OURS: [], PEER: []}
    fine, seconds, shown = True, dict.fromkeys(curves, 0.0), held[0]
    for step in grid:
        for name in curves:
            torch.manual_seed(17)
            if name == OURS:
                model: nn.Module = ds.FourierEntropyModel(channels, order=16)
            else:
                model = (bottleneck or DeepFactorized)(channels)
            coder, clock = Coder(model, basis, step), time.perf_counter()
            start(name, coder, parts, steps)
            train(coder, parts, step, steps)
            seconds[name] += time.perf_counter() - clock
            if name == PEER and bottleneck is not None:
                coder.model.update(force=True, update_quantiles=True)
            found = measure(coder, held)
            curves[name].append((found["bpp"], found["psnr"]))
            off = found["bpp"] / found["estimate"] - 1
            fine = fine and (name == PEER or (bool(found["equal"]) and abs(off) < 0.01))
            state = "decoded exactly" if found["equal"] else "DECODED DIFFERENTLY"
            print(
                f"  step {step:3.0f}  {name:<16} {found['psnr']:6.2f} dB  {found['bpp']:.4f} bits a pixel written, "
                f"{found['estimate']:.4f} estimated ({100 * off:+.2f} %), {state}"
            )
            if name == OURS and step == grid[len(grid) // 2]:
                with torch.no_grad():
                    shown = coder(held[0][None])[0][0]
    print("  " + ", ".join(f"{name} trained in {value:.0f} s" for name, value in seconds.items()))
    try:
        curves["JPEG 4:4:4"] = jpeg(held, (5, 10, 20, 40, 60, 80, 90, 95))
        piece = (slice(None), slice(120, 280), slice(None))
        picture(curves, held[0][piece], shown[piece], options.output)
        print(f"curves: {options.output}")
    except ImportError as error:
        print(f"no picture: {error}")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
