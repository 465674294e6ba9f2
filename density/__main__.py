"""``python -m density``: fit a file, compress it, get it back, say what a file is."""

import argparse
import json
import os
import sys
import time
from pathlib import Path

import numpy as np


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 1 where the data are at fault, 2 for misuse."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if not given.file.is_file():
        parser.error(f"there is no file {given.file}")
    if given.output is not None and not given.output.parent.is_dir():
        parser.error(f"there is no folder {given.output.parent}")
    try:
        report = _COMMANDS[given.command](given)
    except _MisuseError as error:
        parser.error(str(error))
    except (ValueError, TypeError, ImportError, OSError) as error:
        print(f"density: {error}", file=sys.stderr)
        return 1
    if given.json:
        print(json.dumps(report, allow_nan=False))
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
    fit.add_argument("--order", default="auto", help="highest frequency, or auto (default)")
    fit.add_argument("--map", default="auto", help="a map by name, or auto (default)")
    fit.add_argument(
        "--support", nargs=2, type=float, metavar=("LO", "HI"), help="ends that are believed; one may be inf"
    )
    fit.add_argument("--basis", default="cosine", choices=("cosine", "periodic"))
    compress = commands.add_parser("compress", help="compress an array; integers exactly, floats with --step")
    compress.add_argument("--step", type=float, help="distance of the levels of floats; decoded within half of it")
    compress.add_argument("--lossless", action="store_true", help="keep every bit of floats")
    compress.add_argument("--axis", type=int, help="a table for each index of this axis")
    decompress = commands.add_parser("decompress", help="the array back, as .npy; several as .npz")
    for command in (compress, decompress):
        command.add_argument("--workers", type=int, help="threads, default all cores")
        command.add_argument("--progress", action="store_true", help="a bar on stderr")
    info = commands.add_parser("info", help="say what FILE holds: an array, a stored density or a compressed array")
    for command in (fit, compress, decompress, info):
        command.add_argument(
            "file",
            type=Path,
            metavar="FILE",
            help=".npy, .npz, .csv; .safetensors to compress; or what was written",
        )
        command.add_argument("--json", action="store_true", help="print one JSON object")
        command.add_argument("-o", "--output", type=Path, help="where to write")
    for command in (fit, compress, info):
        command.add_argument("--key", help="name of the array in a .npz, or number (from 0) of the column in a .csv")
    return parser


def _load(path: Path, key: str | None) -> np.ndarray:
    """The array in a file; a .csv may have one line of names."""
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return np.load(path, allow_pickle=False)
    if suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            names = list(arrays)
            if key is None and len(names) != 1:
                raise _MisuseError(f"{path} holds {len(names)} arrays; pass --key with one of {names}")
            if key is not None and key not in names:
                raise _MisuseError(f"{path} has no array {key!r}; pass --key with one of {names}")
            return arrays[names[0] if key is None else key]
    if suffix == ".csv":
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        skip = int(bool(lines) and not _numeric(lines[0]))
        table = np.loadtxt(lines[skip:], delimiter=",", ndmin=2) if len(lines) > skip else np.empty((0, 1))
        if key is None:
            return table
        if not key.isdecimal() or int(key) >= table.shape[1]:
            raise _MisuseError(f"{path} has columns 0 to {table.shape[1] - 1}; there is no column {key!r}")
        return table[:, int(key)]
    raise _MisuseError(f"{path} is none of .npy, .npz, .csv")


def _numeric(line: str) -> bool:
    try:
        [float(field) for field in line.split(",")]
    except ValueError:
        return False
    return True


def _fit(given) -> dict:
    from . import fit

    if given.order != "auto" and not given.order.isdecimal():
        raise _MisuseError(f"--order {given.order} is neither auto nor an integer >= 0")
    from .maps import MAPS

    if given.map not in ("auto", *MAPS):
        raise _MisuseError(f"--map {given.map} is not known; pass auto or one of {', '.join(MAPS)}")
    order = given.order if given.order == "auto" else int(given.order)
    p = fit(_load(given.file, given.key), order=order, map=given.map, support=given.support, basis=given.basis)
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


def _compress(given) -> dict:
    from . import compress, compress_tensors
    from .shell import summary

    target = given.output or given.file.with_suffix(given.file.suffix + ".tdnz")
    start = time.perf_counter()
    if given.key is None and (tensors := _load_several(given.file)) is not None:
        floats = [name for name, x in tensors.items() if x.dtype.kind == "f"]
        if floats and (given.step is None) != given.lossless:
            raise _MisuseError(f"{given.file} holds floats ({floats[0]!r}): pass either --step or --lossless")
        blob = compress_tensors(tensors, step=given.step, lossless=given.lossless, workers=given.workers)
        arrays = list(tensors.values())
    else:
        x = _load(given.file, given.key)
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


def _load_several(path: Path) -> dict[str, np.ndarray] | None:
    """All arrays of a .safetensors, or of a .npz with more than one; else None."""
    if path.suffix.lower() == ".safetensors":
        from safetensors.numpy import load_file

        return load_file(path)
    if path.suffix.lower() == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays) if len(arrays.files) > 1 else None
    return None


def _info(given) -> dict:
    if given.file.suffix.lower() in (".npy", ".npz", ".csv"):
        x = _load(given.file, given.key)
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


_COMMANDS = {"fit": _fit, "compress": _compress, "decompress": _decompress, "info": _info}


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
