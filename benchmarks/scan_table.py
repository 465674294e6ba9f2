"""Diagonal scans beside the traffic of memory, jax and torch: ``python -m benchmarks.scan_table [--quick]``.

STREAM is a loop over A * c + b without a recurrence, compiled as ours is, which moves the same bytes. Each of both runs
with memory that it is given and with fresh memory. Time is CPU time on one thread, wall time on two.
"""

import sys
from collections.abc import Callable

import numpy as np

import seqsolve as sq
from benchmarks.bench_seqsolve_scan import LOW, SEED, _jax, _torch
from benchmarks.ratios import Race, all_threads, race
from seqsolve._jit import kernel

GIVEN, FRESH = "seqsolve, given memory", "seqsolve, fresh memory"
STREAM_GIVEN, STREAM_FRESH = "STREAM, given memory", "STREAM, fresh memory"


@kernel(fastmath={"contract"})
def stream(A, b, factor, out):
    """factor * A + b, three numbers moved a number."""
    for i in range(b.size):
        out[i] = factor * A[i] + b[i]


def contest(elements: int, width: int, regime: str, threads: int, rounds: int) -> Race:
    """One width: ours and STREAM with given and with fresh memory, then the peers; errors to float64."""
    rng = np.random.default_rng(SEED)
    A = rng.uniform(LOW[regime], 1.0, (elements // width, width)).astype(np.float32)
    b = rng.standard_normal(A.shape).astype(np.float32)
    ours, theirs, half = np.zeros_like(b), np.zeros(b.size, np.float32), np.float32(0.5)
    flat = A.reshape(-1), b.reshape(-1), half

    def fresh() -> np.ndarray:
        out = np.empty(b.size, np.float32)
        stream(*flat, out)
        return out

    contenders: dict[str, Callable[[], object]] = {
        GIVEN: lambda: sq.affine_scan(A, b, structure="diag", out=ours),
        FRESH: lambda: sq.affine_scan(A, b, structure="diag"),
        STREAM_GIVEN: lambda: stream(*flat, theirs),
        STREAM_FRESH: fresh,
        **_jax(A, b),
        **_torch(A, b),
    }
    exact = sq.affine_scan(A.astype(float), b.astype(float), structure="diag")
    judges = {name: lambda h: float(np.abs(np.asarray(h) - exact).max()) for name in contenders if "STREAM" not in name}
    return race(
        f"diagonal that {regime}, D = {width}, {elements // width:,} steps", contenders, rounds=rounds, threads=threads,
        error=judges,
    )  # fmt: skip


def main(quick: bool) -> None:
    """Print every contest."""
    elements = 1 << 21 if quick else 1 << 23
    for threads in sorted({1, all_threads()}):
        for width in (1, 16, 64, 256):
            for regime in LOW:
                found = contest(elements, width, regime, threads, 5 if quick else 9)
                clock = "cpu" if threads == 1 else "wall"
                seconds = getattr(found, clock)
                print(f"\n{found.name}, {threads} thread(s), {clock} time")
                for name, times in seconds.items():
                    peer = STREAM_GIVEN if "given" in name else STREAM_FRESH
                    share = found.ratio(peer, name, clock).median
                    each = np.median(times) * width / elements * 1e9
                    error = found.error.get(name)
                    tail = "" if error is None else f"  error {error:.1e}"
                    print(f"  {name:26s} {each:9.2f} ns a step  {share:5.2f} of {peer}{tail}", flush=True)


if __name__ == "__main__":
    main("--quick" in sys.argv[1:])
