"""lowrank out of core: a column ID of a memory map that need not fit into memory, beside two bare reads of the file.

Peak memory is that of a fresh process, over what it takes after the imports, pages of the file included, in units of
``3 (d + k) (m + n)`` numbers and one block: at most 1 is the aim, at most 1.3 for the time over that of two reads.
TRISKELE_OUTOFCORE_GB sets the size of the file (20, quick 2), TMPDIR where it lies. The file is dropped from the
system's cache before each run where that is possible ("cold"); otherwise reads come from memory ("warm").
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

import lowrank as lr
from benchmarks.ratios import Race, all_threads, race
from lowrank.operands.blocked import BLOCK
from lowrank.passes import sketch_height

SEED = 20261
N, K = 2500, 100
OURS, FLOOR = "lowrank.column_id", "floor: two reads of the file"
CHILD = """
import json, sys
import numpy as np, lowrank as lr

def peak():
    return 1024 * int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])

A = np.load(sys.argv[1], mmap_mode="r")
lr.column_id(np.ones((400, 40)), rank=2, rng=7)  # compiled code and BLAS are there before the count begins
open("/proc/self/clear_refs", "w").write("5")  # the peak starts anew
before = peak()
f = lr.column_id(A, rank=int(sys.argv[2]), rng=7)
print(json.dumps({"bytes": peak() - before, "estimate": f.certificate.estimate, "seconds": f.seconds}))
"""


def gigabytes(quick: bool) -> float:
    return float(os.environ.get("TRISKELE_OUTOFCORE_GB", 2 if quick else 20))


@contextmanager
def stored(size: float, order: str) -> Iterator[Path]:
    """A file of `size` GB: rank 2 K with a falling spectrum, and noise; written panel by panel."""
    m = int(size * 1e9 / (8 * N))
    rng = np.random.default_rng(SEED)
    right = np.arange(1, 2 * K + 1)[:, None] ** -1.0 * rng.standard_normal((2 * K, N))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "A.npy"
        out = np.lib.format.open_memmap(path, mode="w+", dtype=np.float64, shape=(m, N), fortran_order=order == "F")
        left = rng.standard_normal((1 << 13, 2 * K))
        step = len(left)
        if order == "C":
            for i in range(0, m, step):
                e = min(i + step, m)
                out[i:e] = (left * np.cos(i + np.arange(2 * K)))[: e - i] @ right
        else:
            tall = np.concatenate([left * np.cos(i + np.arange(2 * K)) for i in range(0, m, step)])[:m]
            for j in range(0, N, 64):
                out[:, j : j + 64] = tall @ right[:, j : j + 64]
        out.flush()
        del out
        yield path


def forget(path: Path) -> None:
    """Drop the file from the system's cache."""
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_twice(path: Path) -> int:
    """The file through one buffer of 4 MB, two times: what any method with two passes has to wait for."""
    buffer, total = bytearray(1 << 22), 0
    for _ in range(2):
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                total += count
    return total


def peak(path: Path, k: int = K) -> dict:
    """Memory and error of the column ID in a process of its own; Linux only, whose resident set counts mapped pages."""
    done = subprocess.run([sys.executable, "-c", CHILD, str(path), str(k)], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    m, n = np.load(path, mmap_mode="r").shape
    allowed = 8 * 3 * (sketch_height(k) + k) * (m + n) + BLOCK
    return found | {"over_allowed": found["bytes"] / allowed, "shape": (m, n)}


def outofcore_race(path: Path, order: str, cold: bool, rounds: int) -> Race:
    def ours():
        if cold:
            forget(path)
        return lr.column_id(np.load(path, mmap_mode="r"), rank=K, rng=SEED)

    def floor():
        if cold:
            forget(path)
        return read_twice(path)

    size = path.stat().st_size / 1e9
    name = f"out of core, {size:.1f} GB, {order} order, k = {K}, {'cold' if cold else 'warm'}"
    error = {OURS: lambda f: f.certificate.estimate}
    return race(name, {OURS: ours, FLOOR: floor}, threads=all_threads(), rounds=rounds, error=error)


def races(quick: bool) -> Iterator[Race]:
    for order in "C" if quick else "CF":
        with stored(gigabytes(quick), order) as path:
            for cold in (False,) if quick else (True, False):
                yield outofcore_race(path, order, cold, rounds=3)


class OutOfCore:
    """Peak memory over what is allowed, and time over that of two reads."""

    params = ("C", "F")
    param_names = ("order",)
    timeout = 3600

    def setup(self, order):
        self.file = stored(gigabytes(quick=True), order)
        self.path = self.file.__enter__()

    def teardown(self, order):
        self.file.__exit__(None, None, None)

    def track_peak_over_allowed(self, order):
        return peak(self.path)["over_allowed"]

    def track_ratio_to_two_reads(self, order):
        return outofcore_race(self.path, order, cold=True, rounds=7).ratio(OURS, FLOOR).median


if __name__ == "__main__":
    for order in "CF":
        with stored(gigabytes(quick=False), order) as path:
            print(order, peak(path))
            for cold in (True, False):
                found = outofcore_race(path, order, cold, rounds=3)
                print(found.name, "time over two reads:", found.ratio(OURS, FLOOR), "error:", found.error[OURS])
                print({key: [round(t, 2) for t in times] for key, times in found.wall.items()})
