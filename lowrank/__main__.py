"""``python -m lowrank``: real columns, rows or landmarks of a matrix in a file, and what to expect of it."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from .files import SUFFIXES, read_matrix

EXAMPLES = """examples:
  python -m lowrank info A.npy                           what A is, how fast its spectrum falls, what to run next
  python -m lowrank id A.npy --tol 1e-3 --json           the fewest columns that give all others within 0.1 %
  python -m lowrank cur A.mtx --rank 50 --plot picked.png --output A_cur.npz
  python -m lowrank nystrom points.npy --bandwidth 2.0 --rank 200
"""
KEPT = ("columns", "rows", "indices", "landmarks")
KERNELS = {"gaussian": "GaussianKernel", "laplace": "LaplaceKernel", "matern": "MaternKernel"}
SHOWN = 12  # indices printed for people; --json has them all


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 2 where the call or the data are at fault, 130 where interrupted."""
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        _check(given)
        report = _COMMANDS[given.command](given)
    except KeyboardInterrupt:
        print("lowrank: interrupted; nothing was written", file=sys.stderr)
        return 130
    except (ValueError, TypeError, IndexError, ImportError, OSError, NotImplementedError, ArithmeticError) as error:
        sentence = " ".join(str(error).split())
        print(f"lowrank {given.command}: {sentence}", file=sys.stderr)
        return 2
    except MemoryError:
        print(f"lowrank {given.command}: {given.file} does not fit in memory; pass a smaller --rank", file=sys.stderr)
        return 2
    if given.json:
        print(json.dumps(report, allow_nan=False))
    else:
        width = max(map(len, report))
        print("\n".join(f"{name:<{width}}  {_text(value)}" for name, value in report.items()))
    return 0


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_text(item)}" for name, item in value.items())
    if isinstance(value, list) and len(value) > SHOWN:
        return " ".join(map(str, value[:SHOWN])) + f" ... ({len(value)} in all; --json has them)"
    if isinstance(value, list):
        return " ".join(_text(item) for item in value)
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else "unknown" if value is None else str(value)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lowrank",
        description="Factorisations of a matrix by its own rows and columns.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    sentences = {
        "id": "columns (or rows) that give all others",
        "cur": "columns, rows and a core between them",
        "nystrom": "landmarks of a positive semidefinite matrix, or of a kernel over points",
        "info": "what the matrix is, and what to run next",
    }
    made = {
        name: commands.add_parser(
            name, help=sentence, description=sentence.capitalize() + ".", epilog=EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        for name, sentence in sentences.items()
    }  # fmt: skip
    for command in made.values():
        command.add_argument("file", type=Path, metavar="FILE", help=f"{', '.join(SUFFIXES)}; .npy is memory-mapped")
        command.add_argument("--key", help="name of the array in a .npz that holds several")
        command.add_argument("--seed", type=int, default=0, help="the same seed gives the same answer (default 0)")
        command.add_argument("--workers", type=int, help="threads (default: every core that the process may use)")
        command.add_argument("--json", action="store_true", help="print one JSON object on stdout and nothing else")
    for name in ("id", "cur", "nystrom"):
        command = made[name]
        command.add_argument("--rank", type=int, help="how many to keep")
        command.add_argument("--tol", type=float, help="relative error to reach, in place of a rank")
        command.add_argument("--selection", default="rpcholesky" if name == "nystrom" else "auto", help="rule by name")
        command.add_argument("--output", "-o", type=Path, metavar="RESULT.npz", help="for lowrank.load")
        command.add_argument("--plot", type=Path, metavar="OUT.png", help="draw the pivots and the picks (matplotlib)")
        command.add_argument("--progress", action="store_true", help="a progress bar on stderr")
    made["id"].add_argument("--rows", "--row-id", action="store_true", help="rows that give all others")
    made["id"].add_argument("--quality", choices=("fast", "best"), default="fast", help="best reads the file twice")
    made["nystrom"].add_argument("--kernel", default="gaussian", help=f"{', '.join(KERNELS)}; where FILE holds points")
    made["nystrom"].add_argument(
        "--bandwidth", type=float, help="of the kernel over the points in FILE; without it FILE is the matrix itself"
    )
    return parser


def _check(given: argparse.Namespace) -> None:
    """What can be known before anything is read."""
    if not given.file.is_file():
        raise ValueError(f"there is no file {given.file}")
    if given.workers is not None and given.workers < 1:
        raise ValueError(f"--workers {given.workers} is not a positive integer")
    if given.seed < 0:
        raise ValueError(f"--seed {given.seed} is negative; pass an integer from 0")
    if given.command == "info":
        return
    if given.selection == "given":
        raise ValueError("--selection given needs the indices themselves; call lowrank from Python for that")
    if (given.rank is None) == (given.tol is None):
        raise ValueError("pass --rank or --tol" + (", not both" if given.rank is not None else ""))
    for target, suffixes in ((given.output, (".npz",)), (given.plot, (".png", ".svg", ".pdf"))):
        if target is not None and not target.absolute().parent.is_dir():
            raise ValueError(f"there is no folder {target.parent}")
        if target is not None and target.suffix.lower() not in suffixes:
            raise ValueError(f"{target} should end in {' or '.join(suffixes)}")


def _id(given: argparse.Namespace) -> dict:
    from . import column_id, row_id

    A = read_matrix(given.file, given.key)
    make = row_id if given.rows else column_id
    return _finished(given, A, make(A, quality=given.quality, **_options(given)))


def _cur(given: argparse.Namespace) -> dict:
    from . import cur

    A = read_matrix(given.file, given.key)
    return _finished(given, A, cur(A, **_options(given)))


def _nystrom(given: argparse.Namespace) -> dict:
    import lowrank

    A = read_matrix(given.file, given.key)
    if given.bandwidth is None:
        if given.kernel != "gaussian":
            raise ValueError(f"--kernel {given.kernel} needs --bandwidth, in the unit of the points")
        if A.shape[0] != A.shape[1]:
            raise ValueError(
                f"{given.file} holds a matrix of shape {A.shape}, which is not square; "
                "pass --bandwidth if its rows are points"
            )
        return _finished(given, A, lowrank.nystrom(A, **_options(given)))
    if given.kernel not in KERNELS:
        raise ValueError(f"--kernel {given.kernel} is not known; pass one of {', '.join(KERNELS)}")
    if hasattr(A, "toarray"):
        A = A.toarray()
    kernel = getattr(lowrank, KERNELS[given.kernel])(given.bandwidth)
    result = lowrank.nystrom(kernel, A, **_options(given))
    return _finished(given, lowrank.KernelMatrix(kernel, A), result) | {"kernel": repr(kernel)}


def _options(given: argparse.Namespace) -> dict:
    wanted = {"rank": given.rank} if given.tol is None else {"tol": given.tol}
    return wanted | {
        "selection": given.selection, "rng": given.seed, "workers": given.workers, "progress": given.progress,
    }  # fmt: skip


def _finished(given: argparse.Namespace, A: Any, result: Any) -> dict:
    """Files as asked for, and what a person or a program wants to know of the result."""
    c = result.certificate
    report: dict[str, Any] = {
        "result": result.kind, "shape": list(result.shape), "dtype": str(result.dtype), "rank": int(result.rank),
        "status": result.status.name, "meaning": result.status.value, "error": _finite(c.estimate),
        "interval": [_finite(end) for end in c.interval], "norm": c.norm, "selection": result.selection,
    }  # fmt: skip
    report |= {name: [int(i) for i in getattr(result, name)] for name in KEPT if hasattr(result, name)}
    if given.command == "id":
        report["rows" if given.rows else "columns"] = report.pop("indices")
    report |= {"entries_read": int(result.entries_read), "seconds": result.seconds, "notes": list(result.notes)}
    written = []
    if given.output is not None:
        written.append(str(result.save(given.output)))
    if given.plot is not None:
        _plot(result, A, given.plot)
        written.append(str(given.plot))
    return report | ({"written": written} if written else {})


def _finite(number: float) -> float | None:
    """JSON has no infinity."""
    return float(number) if np.isfinite(number) else None


def _plot(result: Any, A: Any, target: Path) -> None:
    """The pivots beside the picks; large kernel matrices are drawn by their pivots alone."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("--plot needs matplotlib; run: pip install 'triskele[plot]'") from None
    both = min(result.shape) > 0 and not (result.kind.startswith("Nystrom") and result.shape[0] > 20_000)
    figure = Figure(figsize=(12 if both else 6.4, 4.6), layout="constrained")
    axes = figure.subplots(1, 2 if both else 1, squeeze=False)[0]
    result.plot_decay(ax=axes[0])
    if both:
        result.plot_picked(A, ax=axes[1])
    figure.savefig(target, dpi=150)


def _info(given: argparse.Namespace) -> dict:
    from .spectrum import survey

    A = read_matrix(given.file, given.key)
    found = survey(A, rng=given.seed, workers=given.workers)
    stored = int(A.nnz) if hasattr(A, "nnz") else None
    size = A.shape[0] * A.shape[1]
    nonzero = stored if stored is not None else found.nonzero
    report: dict[str, Any] = {
        "file": str(given.file), "kind": "sparse" if stored is not None else "dense", "shape": list(A.shape),
        "dtype": str(A.dtype), "density": nonzero / size if size else None,
        "bytes": int(A.nbytes) if stored is None else int(A.data.nbytes + A.indices.nbytes + A.indptr.nbytes),
        "largest_entry": found.largest, "frobenius_norm": found.norm, "spectral_norm_estimate": found.spectral,
        "numerical_rank": found.rank if found.rank is not None else f"above {found.seen}",
        "rank_for_error": {f"{tol:g}": k if k is not None else f"above {found.seen}" for tol, k in found.ranks.items()},
        "decay": found.decay, "notes": list(found.notes),
    }  # fmt: skip
    if report["bytes"] and isinstance(report["rank_for_error"]["0.01"], int):
        k = report["rank_for_error"]["0.01"]
        item = np.dtype(found.dtype).itemsize
        report["bytes_of_an_id_within_1_percent"] = k * sum(A.shape) * item
    return report | {"next": _next(given, found, A.shape)}


def _next(given: argparse.Namespace, found: Any, shape: tuple[int, int]) -> str:
    """The command that fits the spectrum, with the reason as a comment of the shell."""
    call = f"python -m lowrank {{}} {given.file}" + (f" --key {given.key}" if given.key else "")
    if min(shape) == 0 or found.norm == 0:
        return "nothing: the matrix is empty or zero"
    command = "nystrom" if found.semidefinite else "id"
    if found.rank is not None and found.rank < min(shape) // 2:
        return call.format(command) + f" --rank {max(1, found.rank)}  # its numerical rank"
    for tol in (0.001, 0.01, 0.1):
        k = found.ranks[tol]
        if k is not None and k < min(shape) // 2:
            wanted = f"--rank {max(1, k)}" if command == "nystrom" else f"--tol {tol:g}"
            return call.format(command) + f" {wanted}  # about {k} of {min(shape)} for an error of {tol:g}"
    return call.format(command) + f" --rank {max(1, min(shape) // 10)}  # the spectrum is flat: expect little"


_COMMANDS = {"id": _id, "cur": _cur, "nystrom": _nystrom, "info": _info}


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
