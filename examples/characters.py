"""A tiny character model on Python's own documentation: three equal forms to train, one state to decode.

``python examples/characters.py`` trains a stack of linear recurrences on the text of Python's help system, once in
each form from the same weights and the same batches, and shows that the losses are equal; trains on in the fastest
form; then writes text token by token from a state of constant size. ``--quick`` takes some seconds.
"""

import argparse
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]  # runs from a clone, installed or not

import seqsolve as sq  # noqa: E402

FORMS = ("step", "scan", "chunk")


def text() -> str:
    """What ``help()`` knows of the language, as it ships with Python; else the source of a module that always does."""
    try:
        from pydoc_data import topics

        return "\n".join(topics.topics[name] for name in sorted(topics.topics))
    except ImportError:
        import inspect

        return inspect.getsource(argparse)


class Model(nn.Module):
    """Embedding, blocks of a linear recurrence and a feed-forward part, logits."""

    def __init__(self, symbols: int, kind: str, width: int = 64, layers: int = 2, heads: int = 4):
        super().__init__()
        self.embed = nn.Embedding(symbols, width)
        self.mix = nn.ModuleList(sq.LinearRecurrence(kind, width, heads) for _ in range(layers))
        self.feed = nn.ModuleList(
            nn.Sequential(nn.RMSNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
            for _ in range(layers)
        )
        self.norms = nn.ModuleList(nn.RMSNorm(width) for _ in range(layers))
        self.out = nn.Linear(width, symbols)

    def forward(self, tokens: Tensor, states: list | None = None, form: str = "chunk") -> tuple[Tensor, list]:
        """Logits (B, T, symbols) and one state a layer."""
        x, after = self.embed(tokens), []
        for n, (mix, norm, feed) in enumerate(zip(self.mix, self.norms, self.feed)):
            y, state = mix(norm(x), None if states is None else states[n], form=form)
            x = x + y
            x = x + feed(x)
            after.append(state)
        return self.out(x), after


def train(model: Model, data: Tensor, steps: int, form: str, length: int, batch: int) -> list[float]:
    """Losses in nats a character; the same batches for every form."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(11)
    losses = []
    for _ in range(steps):
        starts = torch.randint(len(data) - length - 1, (batch,), generator=generator)
        rows = torch.stack([data[s : s + length + 1] for s in starts])
        logits, _ = model(rows[:, :-1], form=form)
        loss = F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses


@torch.no_grad()
def write(model: Model, prompt: Tensor, count: int) -> tuple[Tensor, list[int], float]:
    """`count` symbols after the prompt; numbers that the states held after each; largest gap to the parallel form."""
    generator = torch.Generator().manual_seed(5)
    logits, states = model(prompt[None])
    said, rows, held = [int(t) for t in prompt], [logits[0, -1]], []
    for _ in range(count):
        said.append(int(torch.multinomial(torch.softmax(rows[-1] / 0.7, -1), 1, generator=generator)))
        logits, states = model(torch.tensor([[said[-1]]]), states, form="step")
        rows.append(logits[0, -1])
        held.append(sum(state.numel() for state in states))
    again, _ = model(torch.tensor([said]))
    gap = float((again[0, len(prompt) - 1 :] - torch.stack(rows)).abs().max())
    return torch.tensor(said), held, gap


def picture(curves: dict[str, list[float]], long: list[float], path: Path) -> None:
    """Loss curves of the forms, and the whole training."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    looks = ({"color": "0.75", "linewidth": 7}, {"linewidth": 3}, {"color": "black", "linestyle": ":"})
    for (form, losses), look in zip(curves.items(), looks):
        left.plot(losses, label=form, **look)
    left.legend(title="form", frameon=False)
    left.set(title="the same loss in every form", xlabel="training step", ylabel="nats a character")
    right.plot(long, color="0.75")
    smooth = [sum(long[max(0, i - 9) : i + 1]) / len(long[max(0, i - 9) : i + 1]) for i in range(len(long))]
    right.plot(smooth)
    right.set(title="trained by chunks", xlabel="training step")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main(arguments: list[str] | None = None) -> int:
    """Train in all forms, train on, write; 0 if the forms agree."""
    parser = argparse.ArgumentParser(prog="python examples/characters.py", description=__doc__)
    parser.add_argument("--kind", default="gated_delta", choices=sorted(sq.linear_attention.TABLE))
    parser.add_argument("--quick", action="store_true", help="few steps, some seconds")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "characters" / "loss.png")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    compared, steps, length, batch = (8, 12, 48, 4) if options.quick else (40, 600, 128, 16)

    corpus = text()
    symbols = sorted(set(corpus))
    data = torch.tensor([symbols.index(c) for c in corpus[:400_000]])
    print(f"{len(data)} characters of {len(symbols)} kinds; {options.kind}, {compared} steps in each form")

    curves, models = {}, {}
    for form in FORMS:
        torch.manual_seed(7)
        models[form] = Model(len(symbols), options.kind)
        clock = time.perf_counter()
        curves[form] = train(models[form], data, compared, form, length, min(batch, 8))
        seconds = (time.perf_counter() - clock) / compared
        print(f"  {form:<6} last loss {curves[form][-1]:.6f}   {1e3 * seconds:6.0f} ms a training step")
    gap = max(abs(a - b) for form in FORMS[1:] for a, b in zip(curves["step"], curves[form]))
    print(f"  largest difference of the losses: {gap:.1e} nats")

    model = models["chunk"]
    long = train(model, data, steps, "chunk", length, batch)
    print(f"{steps} steps more by chunks: {long[0]:.3f} -> {sum(long[-10:]) / 10:.3f} nats a character")
    prompt = torch.tensor([symbols.index(c) for c in "The function is called " if c in symbols])
    said, held, off = write(model, prompt, 60 if options.quick else 400)
    constant = len(set(held)) == 1
    print(f"decoded {len(held)} characters; the state holds {held[0]} numbers, {'constant' if constant else 'GROWING'}")
    print(f"  largest difference to the logits of the parallel form: {off:.1e}")
    print("  " + "".join(symbols[int(t)] for t in said).replace("\n", "\n  "))
    picture(curves, long, options.output)
    print(f"curves: {options.output}")
    return 0 if gap < 1e-3 and off < 1e-3 and constant else 1


if __name__ == "__main__":
    sys.exit(main())
