"""``python -m density``: fit a file, ask, sample and plot the fit; compress a file, get it back, say what it is."""

import argparse
import json
import os
import sys
import time
from pathlib import Path

import numpy as np

from .files import read_array, read_tensors


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 2 where the call or the data are at fault, 130 where interrupted."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if not given.file.is_file():
        parser.error(f"there is no file {given.file}")
    if given.output is not None and not given.output.absolute().parent.is_dir():
        parser.error(f"there is no folder {given.output.parent}")
    if given.output is not None and given.output.is_dir():
        parser.error(f"{given.output} is a folder; name a file")
    try:
        report = _COMMANDS[given.command](given)
    except _MisuseError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        print("density: interrupted", file=sys.stderr)
        return 130
    except MemoryError as error:
        print(f"density {given.command}: out of memory: {error or given.file}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        raise
    except (ValueError, TypeError, ImportError, OSError, ArithmeticError) as error:
        print(f"density {given.command}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    if given.json:
        print(json.dumps({k: _finite(v) if k == "values" else v for k, v in report.items()}, allow_nan=False))
    elif "values" in report:
        sys.stdout.writelines(f"{value!r}\n" for value in report["values"])
    else:
        width = max(map(len, report))
        print("\n".join(f"{name:<{width}}  {value}" for name, value in report.items()))
    return 0


class _MisuseError(Exception):
    """The command line asks for something that cannot be."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m density", description="Densities and compression of arrays.")
    commands = parser.add_subparsers(dest="command", required=True)
    fit = commands.add_parser("fit", help="fit a density to the numbers in FILE and say what was found")
    evaluate = commands.add_parser("eval", help="evaluate the density of FILE, fitted or stored")
    evaluate.add_argument("--what", default="pdf", choices=("pdf", "logpdf", "cdf", "sf", "ppf"), help="default pdf")
    evaluate.add_argument("--at", nargs="+", type=float, metavar="X", help="points, or probabilities for ppf")
    evaluate.add_argument("--points", type=Path, metavar="ARRAY", help="a file of them: .npy, .npz, .csv")
    sample = commands.add_parser("sample", help="draw from the density of FILE, fitted or stored")
    sample.add_argument("-n", type=int, default=1, help="how many samples, default 1")
    sample.add_argument("--seed", type=int, help="an integer >= 0 that makes the samples the same again")
    draw = commands.add_parser("plot", help="a picture of the density of FILE, fitted or stored")
    draw.add_argument("--kind", default="density", choices=("density", "order", "qq", "certificate"))
    draw.add_argument("--parts", action="store_true", help="show the map and the polynomial too")
    draw.add_argument("--data", type=Path, metavar="ARRAY", help="samples to show with a stored density")
    for command in (fit, evaluate, sample, draw):
        command.add_argument("--order", default="auto", help="highest frequency, or auto (default)")
        command.add_argument("--map", default="auto", help="a map by name, or auto (default)")
        command.add_argument(
            "--support", nargs=2, type=float, metavar=("LO", "HI"), help="ends that are believed; one may be inf"
        )
        command.add_argument("--basis", default="cosine", choices=("cosine", "periodic"))
        command.add_argument(
            "--nan", default="raise", choices=("raise", "omit"), help="omit leaves NaN and inf out; default raise"
        )
    compress = commands.add_parser("compress", help="compress an array; integers exactly, floats with --step")
    compress.add_argument("--step", type=float, help="distance of the levels of floats; decoded within half of it")
    compress.add_argument("--lossless", action="store_true", help="keep every bit of floats")
    compress.add_argument("--axis", type=int, help="a table for each index of this axis")
    decompress = commands.add_parser("decompress", help="the array back, as .npy; several as .npz")
    for command in (compress, decompress):
        command.add_argument("--workers", type=int, help="threads, default all cores")
        command.add_argument("--progress", action="store_true", help="a bar on stderr")
    info = commands.add_parser("info", help="say what FILE holds: an array, a stored density or a compressed array")
    for command in (fit, evaluate, sample, draw, compress, decompress, info):
        command.add_argument(
            "file",
            type=Path,
            metavar="FILE",
            help=".npy, .npz, .csv; .safetensors to compress; or what was written",
        )
        command.add_argument("--json", action="store_true", help="print one JSON object")
        command.add_argument("-o", "--output", type=Path, help="where to write")
    for command in (fit, evaluate, sample, draw, compress, info):
        command.add_argument("--key", help="name of the array in a .npz, or number (from 0) of the column in a .csv")
    return parser


def _fitted(given, x: np.ndarray):
    from . import fit

    if given.order != "auto" and not given.order.isdecimal():
        raise _MisuseError(f"--order {given.order} is neither auto nor an integer >= 0")
    from .maps import MAPS

    if given.map not in ("auto", *MAPS):
        raise _MisuseError(f"--map {given.map} is not known; pass auto or one of {', '.join(MAPS)}")
    order = given.order if given.order == "auto" else int(given.order)
    return fit(x, order=order, map=given.map, support=given.support, basis=given.basis, nan_policy=given.nan)


def _kept(given, x: np.ndarray) -> np.ndarray:
    """The samples that a fit counted."""
    return x[np.isfinite(x)] if given.nan == "omit" and x.dtype.kind == "f" else x


def _density(given):
    """The density of a file and the samples it was fitted to, None where the file holds a density."""
    with given.file.open("rb") as file:
        stored = file.read(4) == b"TDEN"
    if not stored:
        x = read_array(given.file, given.key)
        return _fitted(given, x), _kept(given, x)
    from . import from_bytes

    if (given.order, given.map, given.support, given.basis) != ("auto", "auto", None, "cosine"):
        raise _MisuseError(f"{given.file} holds a density: --order, --map, --support and --basis are for fitting")
    if given.nan != "raise" and getattr(given, "data", None) is None:
        raise _MisuseError(f"{given.file} holds a density: --nan is for samples")
    if given.key is not None:
        raise _MisuseError(f"{given.file} holds a density: --key is for arrays")
    return from_bytes(given.file.read_bytes()), None


def _fit(given) -> dict:
    p = _fitted(given, read_array(given.file, given.key))
    report = _facts(p)
    if given.output is not None:
        given.output.write_bytes(p.to_bytes())
        report["written"] = str(given.output)
    return report


def _facts(p) -> dict:
    """What a person asks of a density; numbers that do not exist are None."""
    numbers = {"mean": p.mean(), "variance": p.var(), "entropy_nats": p.entropy(), "gap_nats": p.gap_nats}
    levels = (0.01, 0.25, 0.5, 0.75, 0.99)
    numbers |= {f"quantile_{level}": x for level, x in zip(levels, p.ppf(levels))}
    report = {"samples": p.report.n, "map": p.map.describe(), "order": p.order, "parameters": p.n_parameters}
    report |= {name: float(v) if np.isfinite(v) else None for name, v in numbers.items()}
    return report | {"modes": [float(x) for x in p.modes()], "explanation": p.explain()}


def _evaluate(given) -> dict:
    if (given.at is None) == (given.points is None):
        raise _MisuseError("say where: pass either --at with numbers or --points with a file of them")
    if given.points is not None and not given.points.is_file():
        raise _MisuseError(f"there is no file {given.points}")
    x = np.array(given.at) if given.points is None else read_array(given.points, None)
    if given.what == "ppf" and x.dtype.kind in "buif" and not ((x >= 0) & (x <= 1)).all():
        raise _MisuseError(f"ppf takes probabilities in [0, 1]; got values from {x.min():g} to {x.max():g}")
    p, _ = _density(given)
    values = getattr(p, given.what)(x)
    report = {"what": given.what, "count": int(values.size)}
    if given.what == "logpdf" and values.size and np.isfinite(values).all():
        report["mean"] = float(values.mean())  # of samples that the fit has not seen: their likelihood, nats a sample
    if given.output is None:
        return report | {"values": np.ravel(values).tolist()}
    return report | _saved(given.output, values)


def _sample(given) -> dict:
    if given.n < 0 or (given.seed is not None and given.seed < 0):
        raise _MisuseError(f"-n {given.n} and --seed {given.seed} must be integers >= 0")
    p, _ = _density(given)
    values = p.sample(given.n, rng=given.seed)
    return {"count": given.n} | (
        {"values": np.ravel(values).tolist()} if given.output is None else _saved(given.output, values)
    )


def _plot(given) -> dict:
    target = given.output or given.file.with_suffix(given.file.suffix + ".png")
    if given.data is not None and not given.data.is_file():
        raise _MisuseError(f"there is no file {given.data}")
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("plot needs matplotlib; run: pip install 'triskele[plot]'") from None
    figure = Figure(figsize=(7, 4), layout="constrained")
    known = figure.canvas.get_supported_filetypes()
    if target.suffix[1:].lower() not in known:
        raise _MisuseError(f"{target} is no picture that matplotlib writes; end it in one of {', '.join(known)}")
    p, data = _density(given)
    data = data if given.data is None else _kept(given, read_array(given.data, None))
    if given.kind in ("qq", "certificate") and data is None:
        raise _MisuseError(f"--kind {given.kind} compares with samples: pass --data")
    p.plot(data, kind=given.kind, parts=given.parts, ax=figure.add_subplot())
    figure.savefig(target, dpi=150)
    return {"written": str(target), "kind": given.kind}


def _finite(values: list[float]) -> list[float | None]:
    """What JSON can hold: null stands for infinities and NaN."""
    return [v if np.isfinite(v) else None for v in values]


def _saved(path: Path, values) -> dict:
    with path.open("wb") as file:
        np.save(file, values, allow_pickle=False)
    return {"written": str(path)}


def _compress(given) -> dict:
    from . import compress, compress_tensors
    from .shell import summary

    target = given.output or given.file.with_suffix(given.file.suffix + ".tdnz")
    start = time.perf_counter()
    if given.key is None and (tensors := read_tensors(given.file)) is not None:
        floats = [name for name, x in tensors.items() if x.dtype.kind == "f"]
        if floats and (given.step is None) != given.lossless:
            raise _MisuseError(f"{given.file} holds floats ({floats[0]!r}): pass either --step or --lossless")
        if given.axis is not None:
            raise _MisuseError(f"{given.file} holds {len(tensors)} arrays; pass --key with one of them, or no --axis")
        blob = compress_tensors(tensors, step=given.step, lossless=given.lossless, workers=given.workers)
        arrays = list(tensors.values())
    else:
        x = read_array(given.file, given.key)
        if x.dtype.kind != "f" and (given.step is not None or given.lossless):
            raise _MisuseError(f"{given.file} holds {x.dtype}, which is coded exactly; leave --step and --lossless out")
        if x.dtype.kind == "f" and (given.step is None) != given.lossless:
            raise _MisuseError(f"{given.file} holds {x.dtype}: pass either --step or --lossless")
        options = {"step": given.step, "lossless": given.lossless, "axis": given.axis, "workers": given.workers}
        blob = compress(x, progress=given.progress, **options)
        arrays = [x]
    seconds = time.perf_counter() - start
    target.write_bytes(blob)
    report = {"written": str(target), "bytes": len(blob), "bytes_before": sum(x.nbytes for x in arrays)}
    return report | summary(arrays, len(blob), given.step) | {"seconds": round(seconds, 3)}


def _decompress(given) -> dict:
    from . import decompress, decompress_tensors

    data = given.file.read_bytes()
    stem = given.file.with_suffix("") if given.file.suffix == ".tdnz" else given.file
    if data[:4] == b"TDNT":
        tensors = decompress_tensors(data, workers=given.workers)
        target = given.output or stem.with_suffix(".decoded.npz")
        with target.open("wb") as file:
            np.savez(file, allow_pickle=False, **tensors)
        return {"written": str(target), "tensors": len(tensors), "bytes": sum(x.nbytes for x in tensors.values())}
    x = decompress(data, progress=given.progress, workers=given.workers)
    target = given.output or stem.with_suffix(".decoded.npy")
    with target.open("wb") as file:
        np.save(file, x, allow_pickle=False)
    return {"written": str(target), "dtype": str(x.dtype), "shape": list(x.shape), "bytes": x.nbytes}


def _info(given) -> dict:
    if given.file.suffix.lower() in (".npy", ".npz", ".csv"):
        x = read_array(given.file, given.key)
        report = {"kind": "array", "dtype": str(x.dtype), "shape": list(x.shape)}
        if x.size and x.dtype.kind in "buif":
            finite = x[np.isfinite(x)]
            ends = (float(finite.min()), float(finite.max())) if finite.size else (None, None)
            report |= {"least": ends[0], "greatest": ends[1], "not_finite": int(x.size - finite.size)}
        return report
    data = given.file.read_bytes()
    if data[:4] == b"TDEN":
        from . import from_bytes

        return {"kind": "stored density", "bytes": len(data)} | _facts(from_bytes(data))
    from .shell import describe

    return describe(data)


_COMMANDS = {
    "fit": _fit,
    "eval": _evaluate,
    "sample": _sample,
    "plot": _plot,
    "compress": _compress,
    "decompress": _decompress,
    "info": _info,
}


def _piped() -> int:
    """`main`, where whoever reads the output, such as head, may have seen enough before the end: that is no failure."""
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
