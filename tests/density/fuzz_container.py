"""Throw containers at `decompress` and at the streaming reader and hold every answer against the laws of the format.

    python tests/density/fuzz_container.py --executions 1000000           our own mutations, the same ones each time
    python tests/density/fuzz_container.py --engine atheris [corpus ...]  coverage-guided, if atheris is installed

Most mutants have their lengths and checksums repaired, as somebody who means harm would; without that, nothing behind
the checksums would ever be reached.

Laws: no exception but CorruptDataError; no array above the limit; an array that is returned comes back when it is
compressed again; the reader never returns from a file what `decompress` refuses, except whole chunks and named.
"""

import argparse
import importlib
import io
import os
import sys
import tempfile
import time
import zlib
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from warnings import catch_warnings, simplefilter

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import density as ds
from density import chunks
from density.checksum import crc32c
from tests.density.container_mutants import Mutator, forged, repaired

SEED = 20261
INSTRUMENTED = (
    "varint",
    "integers",
    "integer_list",
    "tables",
    "fourier_table",
    "container",
    "table_v0",
    "container_v0",
)
INSTRUMENTED += ("chunks", "coding", "salvage", "window", "reading")
LIMIT = 1 << 18
CORPUS = Path(__file__).resolve().parents[1] / "corpus" / "container"
GOLDEN = Path(__file__).resolve().parents[1] / "golden"


class _Summed:
    """The checksum that the decoder computed last: what a forger has to claim."""

    value = 0


def _recorded(data, value: int = 0) -> int:
    _Summed.value = crc32c(data, value)
    return _Summed.value


@contextmanager
def recorded_checksums():
    """While this lasts, `check` can forge."""
    chunks.crc32c = _recorded
    try:
        yield
    finally:
        chunks.crc32c = crc32c


def check(data: bytes, again: bool = True) -> str:
    """Decode once and say how it ended, "decoded" or why not; AssertionError where a law is broken.

    Where all that is wrong is the checksum of what was decoded, the checksum is forged and the array looked at as well.
    """
    try:
        found = ds.decompress(data, max_bytes=LIMIT, workers=1)
    except ds.CorruptDataError as error:
        if "decodes to other data" not in str(error):
            return type(error).__name__.removesuffix("Error")
        if data[4] == 1 and chunks.crc32c is _recorded:
            chunk = str(error).split()[1]
            check(forged(data, int(chunk), _Summed.value), again)
        return "other data"
    if found.nbytes > LIMIT:
        raise AssertionError("an array above the limit")
    if again:
        back = ds.decompress(ds.compress(found, lossless=found.dtype.kind == "f", workers=1), workers=1)
        if back.dtype != found.dtype or back.shape != found.shape or back.tobytes() != found.tobytes():
            raise AssertionError("a decoded array does not come back")
    return "decoded"


def check_reader(data: bytes) -> None:
    """What a reader salvages of a damaged file are whole chunks, and it says when something is missing."""
    try:
        found = ds.CompressedReader(io.BytesIO(data), max_bytes=LIMIT).salvage()
    except ds.CorruptDataError:
        return
    if found.complete and check(data, again=False) != "decoded":
        raise AssertionError("the reader calls complete what decompress refuses")


def seeds() -> list[bytes]:
    """Small containers of every kind: the corpus."""
    return [path.read_bytes() for path in sorted([*CORPUS.iterdir(), *GOLDEN.glob("*.tdnz")]) if path.suffix != ".npy"]


def mutate(executions: int, seed: int = SEED) -> dict[str, int]:
    """`executions` mutants; returns how many ended how."""
    with recorded_checksums(), catch_warnings():
        simplefilter("error")
        mutant, found = Mutator(seeds(), seed), Counter[str]()
        for done in range(executions):
            data = mutant()
            if done % 16 == 5:
                check_reader(data)
            found[check(data, again=done % 512 == 0)] += 1
    return dict(sorted(found.items()))


def mutate_by_processes(executions: int, processes: int, seed: int = SEED) -> dict[str, int]:
    """The same by several processes, each with a seed of its own and its share in pieces."""
    piece = min(100_000, -(-executions // processes))
    shares = [min(piece, executions - at) for at in range(0, executions, piece)]
    if processes == 1:
        endings = [mutate(share, seed + i) for i, share in enumerate(shares)]
    else:
        with ProcessPoolExecutor(processes, get_context("spawn")) as pool:  # a fork would inherit threads' locks
            endings = list(pool.map(mutate, shares, range(seed, seed + len(shares))))
    return dict(sorted(sum(map(Counter, endings), Counter()).items()))


def with_atheris(arguments: list[str]) -> None:
    """Coverage-guided: atheris proposes bytes, lengths and checksums are repaired, one proposal in eight is left."""
    import atheris

    # Read the modules of the format again, with coverage; the kernels stay, for numba compiles no instrumented code.
    names = [f"density.{name}" for name in INSTRUMENTED]
    for name in names:
        sys.modules.pop(name, None)
    with atheris.instrument_imports(include=names):
        for name in names:
            importlib.import_module(name)
    for name in ("decompress", "compress", "CompressedReader"):
        vars(ds)[name] = getattr(sys.modules[f"density.{ds._EXPORTS[name]}"], name)

    def one(data: bytes) -> None:
        check(data if zlib.crc32(data) % 8 == 0 else repaired(data), again=False)
        check_reader(data)

    def custom(data: bytes, most: int, _: int) -> bytes:
        return repaired(bytes(atheris.Mutate(data, most)))

    atheris.Setup([sys.argv[0], *arguments], one, custom_mutator=custom)
    atheris.Fuzz()


def main() -> int:
    """Parse, run, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("mutate", "atheris", "best"), default="mutate")
    parser.add_argument("--executions", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--processes", type=int, default=1, help="0: one a core; each has a seed of its own")
    options, rest = parser.parse_known_args()
    if options.engine != "mutate":
        try:
            import atheris  # noqa: F401
        except ImportError:
            if options.engine == "atheris":
                raise
        else:
            with_atheris([*(rest or [tempfile.mkdtemp(), str(CORPUS)]), f"-runs={options.executions}"])
            return 0
    start = time.perf_counter()
    found = mutate_by_processes(options.executions, options.processes or os.cpu_count() or 1, options.seed)
    print(f"{options.executions:,} executions in {time.perf_counter() - start:.0f} s: {found}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
