"""``python -m seqsolve``: what a saved recurrent module is like on given inputs, and its outputs with a certificate."""

import argparse
import json
import math
import os
import sys
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

EXAMPLES = """examples:
  python -m seqsolve diagnose gru.pt inputs.npy                    does it forget, is it chaotic, which method fits
  python -m seqsolve run gru.pt inputs.npy --output states.npy     all outputs, with a certificate
  python -m seqsolve run model.pt inputs.npy --name encoder.gru --compare --json
"""
HELP = {
    "diagnose": "what a recurrent module is like on these inputs, layer by layer",
    "run": "the outputs by parallelize, and how far they can be trusted",
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 2 where the call or the data are at fault, 130 where interrupted."""
    given = _parser().parse_args(arguments)
    try:
        _check(given)
        report = {"diagnose": _diagnose, "run": _run}[given.command](given)
    except KeyboardInterrupt:
        print("seqsolve: interrupted", file=sys.stderr)
        return 130
    except (ValueError, TypeError, ImportError, OSError, RuntimeError, ArithmeticError, MemoryError) as error:
        print(f"seqsolve {given.command}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(json.dumps(report, allow_nan=False) if given.json else _text(report))
    return 0


def _parser() -> argparse.ArgumentParser:
    shape: dict[str, Any] = {"epilog": EXAMPLES, "formatter_class": argparse.RawDescriptionHelpFormatter}
    parser = argparse.ArgumentParser(
        prog="python -m seqsolve", description="Recurrences that run fast and say how far they can be trusted.", **shape
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, sentence in HELP.items():
        command = commands.add_parser(name, help=sentence, description=sentence.capitalize() + ".", **shape)
        command.add_argument("model", type=Path, metavar="MODEL.pt", help="torch.save of a module or of its state_dict")
        command.add_argument("inputs", type=Path, metavar="INPUTS.npy", help="(T, m) or (T, B, m), time first; or .npz")
        command.add_argument("--name", help="the recurrent part of a larger model, such as encoder.gru")
        command.add_argument("--trust", action="store_true", help="unpickle a whole module: this can run any code")
        command.add_argument("--relu", action="store_true", help="a state_dict of an nn.RNN with nonlinearity='relu'")
        command.add_argument("--key", help="name of the array in a .npz that holds several")
        command.add_argument("--json", action="store_true", help="print one JSON object on stdout and nothing else")
        command.add_argument("--plot", type=Path, metavar="OUT.png", help="draw it (matplotlib)")
        if name == "run":
            command.add_argument("--method", default="auto", help="auto, or what parallelize takes by name")
            command.add_argument("--workers", type=int, help="threads (default: those of torch)")
            command.add_argument("--output", "-o", type=Path, metavar="OUT.npy", help="write the outputs")
            command.add_argument("--compare", action="store_true", help="run torch, too: largest difference, and ratio")
    return parser


def _check(given: argparse.Namespace) -> None:
    """What can be known before anything is read."""
    for path in (given.model, given.inputs):
        if not path.is_file():
            raise ValueError(f"there is no file {path}")
    for target, suffixes in ((given.plot, (".png", ".svg", ".pdf")), (getattr(given, "output", None), (".npy",))):
        if target is not None and target.suffix.lower() not in suffixes:
            raise ValueError(f"{target} should end in {' or '.join(suffixes)}")
        if target is not None and not target.absolute().parent.is_dir():
            raise ValueError(f"there is no folder {target.parent}")
        if target is not None and target.is_dir():
            raise ValueError(f"{target} is a folder; name a file")


def _read(given: argparse.Namespace):
    """The module and its inputs in its dtype, time first."""
    import torch

    from .files import read_inputs, read_module

    options: dict[str, Any] = {"trust": given.trust, "name": given.name}
    module = read_module(given.model, nonlinearity="relu" if given.relu else "tanh", **options)
    x = read_inputs(given.inputs, given.key)
    weight = next(module.parameters(), None)
    if weight is None:
        raise ValueError(f"{given.model} holds a {type(module).__name__} without parameters")
    wanted = getattr(module, "input_size", x.shape[-1])
    if x.shape[-1] != wanted:
        raise ValueError(f"{given.inputs} has {x.shape[-1]} numbers a step, and the module takes {wanted}")
    if isinstance(module, torch.nn.RNNBase):
        module.batch_first = False
    warnings.filterwarnings("ignore", message="LSTM with projections is not supported with oneDNN")
    return module, x.to(weight.dtype)


def _diagnose(given: argparse.Namespace) -> dict:
    import torch

    from .diagnose import diagnose

    module, x = _read(given)
    if not isinstance(module, torch.nn.RNNBase | torch.nn.RNNCellBase):
        raise ValueError(
            f"{given.model} holds a {type(module).__name__}; name the recurrent part that is meant by --name"
        )
    if x.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"{given.model} has weights of {x.dtype}: diagnose takes float32 or float64, run takes these too"
        )
    found = {}
    for name, layer, inputs in _layers(module, x):
        size = layer.hidden_size * (2 if isinstance(layer, torch.nn.LSTM | torch.nn.LSTMCell) else 1)
        found[name] = diagnose(layer, inputs.new_zeros((*inputs.shape[1:-1], size)), inputs)
    report = {
        "model": repr(module), "steps": len(x), "dtype": str(x.dtype).removeprefix("torch."),
        "layers": {
            name: {
                "verdict": d.method, "reason": d.reason, "lyapunov": _finite(d.lyapunov),
                "forgetting_length": _finite(d.forgetting_length),
                "jacobian_norms": [_finite(n) for n in d.jacobian_norms],
                "predictions": {
                    method: {"sweeps": _finite(p.sweeps), "seconds": _finite(p.seconds), "complete": p.complete}
                    for method, p in d.predictions.items()
                },
                "sample": d.sample, "seconds": d.seconds,
            }
            for name, d in found.items()
        },
    }  # fmt: skip
    if not given.json:
        report["layers"] = "\n" + "\n".join(
            f"{name}:\n  " + d.explain().replace("\n", "\n  ") for name, d in found.items()
        )
    if given.plot is not None:
        from .plotting import plot_predictions

        _drawn(
            given.plot,
            [lambda ax, n=n, d=d: plot_predictions(d, ax=ax).set_title(f"{n}: {d.method}") for n, d in found.items()],
        )
        report["written"] = [str(given.plot)]
    return report


def _layers(module, x):
    """(name, a module of one layer in one direction, its inputs) for every layer and direction."""
    import torch

    if getattr(module, "proj_size", 0):
        raise ValueError(f"diagnose takes an LSTM without projections, got {module}; run takes this one")
    if isinstance(module, torch.nn.RNNCellBase) or (module.num_layers == 1 and not module.bidirectional):
        yield "layer 0", module, x
        return
    options: dict[str, Any] = {"bias": module.bias, "dtype": x.dtype}
    if isinstance(module, torch.nn.RNN):
        options["nonlinearity"] = module.nonlinearity
    for k in range(module.num_layers):
        outputs = []
        for reverse in range(1 + module.bidirectional):
            layer: Any = type(module)(x.shape[-1], module.hidden_size, **options).eval()
            suffix = f"_l{k}" + "_reverse" * reverse
            with torch.no_grad():
                for name, p in layer.named_parameters():
                    p.copy_(getattr(module, name.removesuffix("_l0") + suffix))
                inputs = x.flip(0) if reverse else x
                y = layer(inputs)[0]
            outputs.append(y.flip(0) if reverse else y)
            yield f"layer {k}" + ", backwards" * reverse, layer, inputs
        x = torch.cat(outputs, -1)


def _run(given: argparse.Namespace) -> dict:
    import numpy as np
    import torch

    from . import parallelize

    module, x = _read(given)
    fast = parallelize(module, method=given.method, workers=given.workers)
    with torch.inference_mode():
        if given.method != "torch":
            with suppress(ValueError):  # where the fused loop cannot run, there is nothing to compile
                parallelize(module, method="sequential")(x[:2])
        clock = time.perf_counter()
        y = _output(fast(x))
        seconds = time.perf_counter() - clock
        report: dict[str, Any] = {
            "model": repr(module), "steps": len(x), "dtype": str(x.dtype).removeprefix("torch."),
            "outputs": list(y.shape), "seconds": seconds,
        }  # fmt: skip
        told = fast.report
        certificate = told.certificate
        report |= {
            "method": told.method, "explanation": told.explain(), "status": told.status.name, "ok": certificate.ok,
            "bound": _finite(certificate.bound), "lyapunov": _finite(certificate.lyapunov),
            "largest": _finite(float(y.abs().max())),
        }  # fmt: skip
        if given.compare:
            theirs: Any = parallelize(module, method="torch")
            theirs(x[:2])
            clock = time.perf_counter()
            reference = _output(theirs(x))
            other = time.perf_counter() - clock
            gap = float((y - reference).abs().max())
            report |= {"torch_seconds": other, "faster_than_torch": other / seconds, "largest_difference": _finite(gap)}
    written = []
    if given.output is not None:
        with given.output.open("wb") as file:
            np.save(file, y.float().numpy() if y.dtype == torch.bfloat16 else y.numpy())
        written.append(str(given.output))
    if given.plot is not None:
        from .plotting import plot_states

        _drawn(given.plot, [lambda ax: plot_states(y.float().numpy(), ax=ax)])
        written.append(str(given.plot))
    return report | ({"written": written} if written else {})


def _output(result):
    """The outputs of a recurrent module, or of a larger one that ends in one."""
    import torch

    y = result[0] if isinstance(result, tuple) else result
    if not isinstance(y, torch.Tensor):
        raise ValueError(f"the model returned {type(y).__name__}; name the recurrent part that is meant by --name")
    return y


def _drawn(target: Path, drawings: list) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("--plot needs matplotlib; run: pip install 'triskele[plot]'") from None
    figure = Figure(figsize=(7, 1 + 3.4 * len(drawings)), layout="constrained")
    for draw, ax in zip(drawings, figure.subplots(len(drawings), 1, squeeze=False)[:, 0], strict=True):
        draw(ax)
    figure.savefig(target, dpi=150)


def _finite(number: float | None) -> float | None:
    """JSON has no infinity."""
    return None if number is None or not math.isfinite(number) else float(number)


def _text(report: dict) -> str:
    width = max(map(len, report))
    lines = []
    for name, value in report.items():
        if isinstance(value, float):
            value = f"{value:.4g}"
        elif isinstance(value, list):
            value = " ".join(map(str, value))
        value = "unknown" if value is None else str(value)
        lines.append(f"{name:<{width}}  " + value.replace("\n", "\n" + " " * (width + 2)))
    return "\n".join(lines)


def _piped() -> int:
    """`main`, for which a reader that has seen enough, such as head, is no failure."""
    try:
        try:
            return main()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what the buffer still holds goes nowhere
        return 0


if __name__ == "__main__":
    sys.exit(_piped())
