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
import struct
import sys
import tempfile
import time
import zlib
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import density as ds
from density.checksum import crc32c
from density.container import HEADER, MAGIC, MARK, RECORD
from tests.density.fuzz_rans import mutated

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
INSTRUMENTED += ("chunks", "coding", "reading")
LIMIT = 1 << 18
CORPUS = Path(__file__).resolve().parents[1] / "corpus" / "container"
GOLDEN = Path(__file__).resolve().parents[1] / "golden"


def repaired(data: bytes) -> bytes:
    """The same bytes with every length and checksum outside the payloads made to fit, as far as the layout allows."""
    b = bytearray(data)
    b[:4] = MAGIC
    if len(b) > 4:
        b[4] &= 1
    if len(b) >= HEADER.size + 4 and b[4] == 1:
        size = min(max(struct.unpack_from("<H", b, 10)[0], HEADER.size + 4), len(b))
        struct.pack_into("<H", b, 10, size)
        at = size
        while at + RECORD.size + 4 <= len(b):
            at += RECORD.size + 4 + min(struct.unpack_from("<I", b, at + 16)[0], len(b) - at - RECORD.size - 4)
        del b[at:]
        if not b[5] & 1:
            struct.pack_into("<Q", b, 12, len(b))
        seal = crc32c(bytes(b[: size - 4]))
        struct.pack_into("<I", b, size - 4, seal)
        at = size
        while at + RECORD.size + 4 <= len(b):
            b[at : at + 3] = MARK
            begin = at + RECORD.size + 4
            length = min(struct.unpack_from("<I", b, at + 16)[0], len(b) - begin)
            struct.pack_into("<II", b, at + 16, length, crc32c(bytes(b[begin : begin + length])))
            if b[at + 3] == 4 and length == 24:  # the end record says where it stands
                struct.pack_into("<Q", b, begin + 16, at)
                struct.pack_into("<I", b, at + 20, crc32c(bytes(b[begin : begin + length])))
            struct.pack_into("<I", b, at + RECORD.size, crc32c(bytes(b[at : at + RECORD.size]), seal))
            at = begin + length
    elif len(b) >= 21 and b[4] == 0:
        _repair_v0(b)
    return bytes(b)


def _repair_v0(b: bytearray) -> None:
    size = struct.unpack_from("<I", b, 5)[0]
    struct.pack_into("<Q", b, 9, len(b))
    if not 21 <= size <= len(b):
        return
    try:
        spot = 17 + 2 + b[18]
        spot += 1 + 8 * b[spot]
        table, count = struct.unpack_from("<II", b, spot + 20)
        first, begin = spot + 28 + table, size
        for i in range(min(count, 99)):
            coded, raw, _, check = struct.unpack_from("<QQII", b, first + 24 * i)
            crc = zlib.crc32(bytes(b[begin : begin + coded + raw]))
            struct.pack_into("<QQII", b, first + 24 * i, coded, raw, crc, check)
            begin += coded + raw
    except (struct.error, IndexError):
        pass
    struct.pack_into("<I", b, size - 4, zlib.crc32(bytes(b[: size - 4])))


def check(data: bytes, again: bool = True) -> str:
    """Decode once and say how it ended, "decoded" or why not; AssertionError where a law is broken."""
    try:
        found = ds.decompress(data, max_bytes=LIMIT, workers=1)
    except ds.CorruptDataError as error:
        late = "decodes to other data" in str(error)
        return "other data" if late else type(error).__name__.removesuffix("Error")
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
    rng = np.random.default_rng(seed)
    kinds, found = seeds(), {}
    for done in range(executions):
        data = mutated(kinds[int(rng.integers(0, len(kinds)))], rng)
        if done % 8:
            data = repaired(data)
        if done % 16 == 5:
            check_reader(data)
        ending = check(data, again=done % 64 == 0)
        found[ending] = found.get(ending, 0) + 1
    return dict(sorted(found.items()))


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
    processes = options.processes or os.cpu_count() or 1
    if processes == 1:
        found = mutate(options.executions, options.seed)
    else:
        shares = [options.executions // processes] * processes
        with ProcessPoolExecutor(processes) as pool:
            endings = list(pool.map(mutate, shares, range(options.seed, options.seed + processes)))
        found = dict(sum(map(Counter, endings), Counter()))
    print(f"{options.executions:,} executions in {time.perf_counter() - start:.0f} s: {found}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
