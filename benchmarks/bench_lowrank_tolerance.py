"""lowrank to a tolerance: time over the floor at the rank that QR needs, rank over that rank, and the error.

``python -m benchmarks.bench_lowrank_tolerance --trials 500`` counts how often the true error is within the tolerance.

The floor is one product of a (k + 10)-row Gaussian matrix with A, at the least rank k that a pivoted QR of A with exact
coefficients needs for the tolerance. The error is that of the result over the tolerance: at most 1 is the promise.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import scipy.linalg
import scipy.sparse

import lowrank as lr
from benchmarks import peers
from benchmarks.ratios import Race, all_threads, race
from lowrank import gallery

SEED = 20261
FLOOR = "floor: one Gaussian GEMM"
OURS = "lowrank.column_id, tol"
PEER = "scipy interp_decomp, eps"
SIZES = {True: (3000, 600), False: (20000, 2000)}
JOBS = {"polynomial": 3e-3, "exponential": 3e-2}


@cache
def _job(spectrum: str, quick: bool) -> tuple[np.ndarray, int, float]:
    """A, the least rank of its pivoted QR within the tolerance, and the tolerance."""
    m, n = SIZES[quick]
    A = gallery.with_spectrum(m, n, gallery.SPECTRA[spectrum](n), basis="cheap", rng=SEED)
    tol = JOBS[spectrum] if quick else JOBS[spectrum] / 10
    R = np.linalg.qr(A, mode="r")
    pivoted: np.ndarray = scipy.linalg.qr(R, mode="r", pivoting=True)[0]  # pyright: ignore
    tails = np.sqrt(np.cumsum(np.sum(pivoted**2, axis=1)[::-1])[::-1])
    return A, int(np.argmax(tails <= tol * tails[0])), tol


def tolerance_race(spectrum: str, threads: int, quick: bool, with_scipy: bool = True) -> tuple[Race, float]:
    """The race, and the rank of ours over the least."""
    A, least, tol = _job(spectrum, quick)
    G = np.random.default_rng(SEED).standard_normal((least + 10, len(A)))
    found = lr.column_id(A, tol=tol, rng=SEED)
    size = float(np.linalg.norm(A))
    contenders: dict[str, Callable] = {
        OURS: lambda: lr.column_id(A, tol=tol, rng=SEED),
        'lowrank.column_id, tol, norm="spectral"': lambda: lr.column_id(A, tol=tol, rng=SEED, norm="spectral"),
        "lowrank.cur, tol": lambda: lr.cur(A, tol=tol, rng=SEED),
        FLOOR: lambda: G @ A,
    }
    error: dict[str, Callable] = {
        OURS: lambda f: f.relative_error(A) / tol,
        "lowrank.cur, tol": lambda f: f.relative_error(A) / tol,
    }
    absent = {}
    interpolative = peers.load("scipy.linalg.interpolative")
    if interpolative is None:
        absent[PEER] = peers.why_absent("scipy.linalg.interpolative")
    elif with_scipy:
        contenders[PEER] = lambda: interpolative.interp_decomp(A, tol)
        error[PEER] = lambda out: (
            float(np.linalg.norm(A - interpolative.reconstruct_matrix_from_id(A[:, out[1][: out[0]]], out[1], out[2])))
            / (tol * size)
        )
    shape = f"{A.shape[0]} x {A.shape[1]}, tol = {tol:g}, {spectrum} decay"
    name = f"column ID to a tolerance, {shape}: rank {found.rank}, QR needs {least}"
    return race(name, contenders, threads=threads, error=error, absent=absent), found.rank / max(least, 1)


def races(quick: bool) -> Iterator[Race]:
    for threads in dict.fromkeys((1, all_threads())):
        for spectrum in JOBS:
            if not quick or spectrum == "polynomial":
                yield tolerance_race(spectrum, threads, quick, with_scipy=quick)[0]


class Tolerance:
    """Time over the floor and over scipy, rank over the least that QR needs, error over the tolerance."""

    params = (list(JOBS), [1, all_threads()])
    param_names = ("spectrum", "threads")
    timeout = 900

    def setup(self, spectrum, threads):
        self.race, self.rank = tolerance_race(spectrum, threads, quick=True)

    def track_ratio_to_floor(self, spectrum, threads):
        return self.race.ratio(OURS, FLOOR).median

    def track_ratio_to_scipy(self, spectrum, threads):
        return self.race.ratio(OURS, PEER).median if PEER in self.race.wall else float("nan")

    def track_rank_over_qr(self, spectrum, threads):
        return self.rank

    def track_error_over_tolerance(self, spectrum, threads):
        return self.race.error[OURS]


@dataclass(frozen=True)
class Trial:
    """One seeded matrix: whether the true error was within the tolerance, and the rank beside that of a pivoted QR."""

    kind: str
    tol: float
    error: float
    rank: int
    least: int

    @property
    def within(self) -> bool:
        return self.error <= self.tol


def trials(count: int, norm: str, seed: int = SEED) -> Iterator[Trial]:
    """Column IDs of random shapes, spectra and kinds, coherent ones among them, each to a random tolerance."""
    for i in range(count):
        rng = np.random.default_rng([seed, i])
        m, n = int(rng.integers(80, 700)), int(rng.integers(30, 160))
        r, low = min(m, n), -4.0
        s = [
            gallery.polynomial_spectrum(r, 1.0), gallery.polynomial_spectrum(r), gallery.stairs_spectrum(r),
            gallery.exponential_spectrum(r, r / 12), np.r_[1, np.full(r - 1, 1e-2)],
        ][i % 5]  # fmt: skip
        A = gallery.with_spectrum(m, n, s, rng=rng)
        kind = ["float64", "coherent rows", "float32", "complex128", "Fortran", "sparse"][(i // 5) % 6]
        if kind == "coherent rows":
            A = A * np.exp(-8 * rng.random(m))[:, None]
        elif kind == "float32":
            A, low = A.astype(np.float32), -3.0
        elif kind == "complex128":
            A = A * np.exp(2j * np.pi * rng.random(n))
        elif kind == "Fortran":
            A = np.asfortranarray(A)
        elif kind == "sparse":
            A = A * (rng.random((m, n)) < 0.1)
        tol = float(10 ** rng.uniform(low, -0.3))
        f = lr.column_id(scipy.sparse.csr_array(A) if kind == "sparse" else A, tol=tol, norm=norm, rng=rng, workers=1)
        wide = A.astype(np.result_type(A, np.float64))
        order = 2 if norm == "spectral" else None
        left = wide - wide[:, f.indices] @ f.coefficients.astype(wide.dtype)
        error = float(np.linalg.norm(left, order) / np.linalg.norm(wide, order))
        R: np.ndarray = scipy.linalg.qr(wide, mode="r", pivoting=True)[0]  # pyright: ignore
        R, size = R[:r], np.linalg.norm(wide, order)
        if norm == "spectral":
            few, least = 0, r
            while few < least:
                j = (few + least) // 2
                few, least = (few, j) if np.linalg.norm(R[j:, j:], 2) <= tol * size else (j + 1, least)
        else:
            tails = np.sqrt(np.cumsum(np.sum(np.abs(R) ** 2, axis=1)[::-1])[::-1])
            least = int(np.argmax(np.append(tails, 0.0) <= tol * size))
        yield Trial(kind, tol, error, f.rank, least)


def main() -> None:
    parser = argparse.ArgumentParser(description="How often the true error of a tolerance is within it.")
    parser.add_argument("--trials", type=int, default=500)
    count = parser.parse_args().trials
    for norm in ("fro", "spectral"):
        found = list(trials(count, norm))
        ratios = np.array([t.rank / max(t.least, 1) for t in found])
        kept = sum(t.within for t in found)
        quartiles = ", ".join(f"{x:.3f}" for x in np.quantile(ratios, [0.25, 0.5, 0.75, 0.99]))
        print(
            f"{norm}: {kept} of {count} true errors within the tolerance ({100 * kept / count:.1f} %), "
            f"error over tolerance {max(t.error / t.tol for t in found):.4f} at most; "
            f"rank over that of QR at 25, 50, 75, 99 %: {quartiles}"
        )


if __name__ == "__main__":
    main()
