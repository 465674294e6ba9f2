"""lowrank to a tolerance: time over the floor at the rank that QR needs, rank over that rank, and the error.

The floor is one product of a (k + 10)-row Gaussian matrix with A, at the least rank k that a pivoted QR of A with exact
coefficients needs for the tolerance. The error is that of the result over the tolerance: at most 1 is the promise.
"""

from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
import scipy.linalg

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
