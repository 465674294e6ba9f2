"""Throw bytes at the decoders and hold every answer against the laws of the format.

    python tests/density/fuzz_rans.py --executions 2000000             our own mutations, the same ones each time
    python tests/density/fuzz_rans.py --engine atheris [corpus ...]    coverage-guided, if atheris is installed

The kernels are compiled, so that a coverage-guided engine sees only the Python round them. With NUMBA_DISABLE_JIT=1 it
sees inside the decoder, and the law that needs the encoder is left out. NUMBA_BOUNDSCHECK=1, with a NUMBA_CACHE_DIR of
its own, makes every index outside an array an error.

Laws: no exception but StreamError and none for single streams; nothing written beside the output; a stream that decodes
is the one that the encoder writes for these values, unless an escape holds a value that has a symbol of its own; and
then the values still come back.
"""

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from density import _rans_kernels as kernels
from density import rans
from density.conditional import decode_each, encode_each
from density.frozen import freeze_density
from density.rans import ESCAPE, FrequencyTables, StreamError, StreamStatus, encode, integer_frequencies

SEED = 20260
CANARY = 0x5A5A5A5A5A5A5A5B
COMPILED = os.environ.get("NUMBA_DISABLE_JIT", "0") == "0"
COUNTS = (0, 1, 2, 7, 40, 300, 2**15, 2**15 + 3)


def tables() -> list[FrequencyTables]:
    """Small and large precisions, raw bits of every width, escapes, several tables at once."""
    first = [-(2**63), -(2**41), -8, 0, 1, 2, 3, 10, 2**34, 0]
    raw = [61, 40, 3, 0, 0, 0, 0, 33, 40, ESCAPE]
    weights = [1, 1, 2, 9, 8, 7, 5, 2, 1, 1]
    rich = [FrequencyTables(integer_frequencies(weights, n), first, raw, precision=n) for n in (5, 16, 24)]
    bell = np.rint(2e6 * np.exp(-0.5 * (np.arange(-60, 61) / 15.0) ** 2)).astype(np.int64)
    plain = FrequencyTables(integer_frequencies(bell, 16), np.arange(-60, 61), precision=16)
    certain = FrequencyTables([2**24], [7])
    whole = FrequencyTables([2**24], [-(2**63)], [64])
    return [*rich, plain, certain, whole, FrequencyTables.stack([rich[1], plain])]


def context_of(table: FrequencyTables, count: int) -> np.ndarray:
    several = len(table) > 1
    return (np.arange(count) * 7 // 3 % len(table)).astype(np.int32) if several else np.empty(0, np.int32)


def check(data: bytes, count: int, table: FrequencyTables) -> StreamStatus:
    """Decode into the middle of a canary, then hold the answer against the laws."""
    guarded = np.full(count + 16, CANARY, np.int64 if COMPILED else np.uint64)
    out, contexts = guarded[8 : 8 + count], context_of(table, count)
    status = rans._decode(data, table, contexts, out)
    if (guarded[:8] != CANARY).any() or (guarded[8 + count :] != CANARY).any():
        raise AssertionError("the decoder wrote beside its output")
    if status is StreamStatus.OK and COMPILED:
        again = rans.encode(out, table, contexts=contexts if contexts.size else None)
        if again != data and not any(table.raw_bits[end - 1] == ESCAPE for end in table.offsets[1:]):
            raise AssertionError("a stream that no encoder writes was decoded")
        back = np.empty(count, np.int64)
        if rans._decode(again, table, contexts, back) is not StreamStatus.OK or not np.array_equal(back, out):
            raise AssertionError("decoded values do not come back")
    return status


def check_each(data: bytes, density) -> None:
    """The framed streams of a conditional model."""
    try:
        values = decode_each(data, density, workers=1)
    except StreamError:
        return
    if len(values) != len(density.ratios):
        raise AssertionError("decode_each returned another number of values")


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """One to four edits: a bit, a byte, a word, a cut, an insertion, a swap, a run of zeros or ones."""
    edited = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        at = int(rng.integers(0, len(edited) + 1))
        kind = int(rng.integers(0, 9))
        if kind == 0 and edited:
            edited[at % len(edited)] ^= 1 << int(rng.integers(0, 8))
        elif kind == 1 and edited:
            edited[at % len(edited)] = int(rng.integers(0, 256))
        elif kind == 2:
            edited[at : at + 4] = rng.bytes(4)
        elif kind == 3:
            del edited[at:]
        elif kind == 4:
            del edited[at : at + 4]
        elif kind == 5:
            edited[at:at] = rng.bytes(int(rng.choice([1, 4, 8, 32])))
        elif kind == 6 and len(edited) >= 8:
            edited[:4], edited[4:8] = edited[4:8], edited[:4]
        elif kind == 7:
            edited[at : at + 8] = bytes([0 if rng.integers(0, 2) else 255]) * 8
        else:
            edited += edited[at : at + 8]
    return bytes(edited)


def values_for(table: FrequencyTables, count: int, rng: np.random.Generator) -> np.ndarray:
    """Values of random symbols of the table that holds at each place."""
    contexts = context_of(table, count) if len(table) > 1 else np.zeros(count, np.int64)
    low, high = table.offsets[contexts], table.offsets[contexts + 1]
    symbols = low + rng.integers(0, 2**31, count) % (high - low)
    width = np.minimum(table.raw_bits[symbols], 62).astype(np.int64)
    spread = rng.integers(0, 2**62, count) & ((np.int64(1) << width) - 1)
    return np.where(table.raw_bits[symbols] == ESCAPE, 5 - spread, table.first_values[symbols] + spread)


def mutate(executions: int, seed: int = SEED) -> dict[str, int]:
    """`executions` mutated streams, short ones mostly; returns how often each status occurred."""
    rng = np.random.default_rng(seed)
    kinds, found = tables(), dict.fromkeys((s.name for s in StreamStatus), 0)
    density = freeze_density(rng.normal(size=(9, 4)), np.exp(rng.normal(size=9)), np.ones(9), 1e-4)
    framed = encode_each(rng.integers(-3, 4, 9), density)
    done = 0
    while done < executions:
        table = kinds[int(rng.integers(0, len(kinds)))]
        count = COUNTS[int(rng.integers(0, 6))] if rng.integers(0, 2000) else COUNTS[int(rng.integers(6, 8))]
        data = encode(
            values_for(table, count, rng), table, contexts=context_of(table, count) if len(table) > 1 else None
        )
        if check(data, count, table) is not StreamStatus.OK:
            raise AssertionError("a stream of the encoder was refused")
        for _ in range(20):
            found[check(mutated(data, rng), count, table).name] += 1
        found[check(rng.bytes(int(rng.integers(0, 120))), count, table).name] += 1
        check_each(mutated(framed, rng), density)
        done += 23
    return found


def with_atheris(arguments: list[str]) -> None:
    import atheris

    kinds = tables()
    rans._decode = atheris.instrument_func(rans._decode)
    if not COMPILED:
        kernels.decode = atheris.instrument_func(kernels.decode)

    def one(data: bytes) -> None:
        if len(data) >= 2:
            check(data[2:], COUNTS[data[0] % len(COUNTS)], kinds[data[1] % len(kinds)])

    atheris.Setup([sys.argv[0], *arguments], one)
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("mutate", "atheris"), default="mutate")
    parser.add_argument("--executions", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=SEED)
    options, rest = parser.parse_known_args()
    if options.engine == "atheris":
        with_atheris([*rest, f"-runs={options.executions}"])
        return 0
    start = time.perf_counter()
    found = mutate(options.executions, options.seed)
    print(f"{options.executions:,} executions in {time.perf_counter() - start:.0f} s: {found}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
