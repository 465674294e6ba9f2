"""lowrank's certificates: time over one Gaussian GEMM, and how often the 95 % intervals cover the true error.

``python -m benchmarks.bench_lowrank_certificate`` prints the coverage of 1000 seeded trials for each spectrum and norm.
"""

import time
from collections.abc import Iterator
from functools import cache

import numpy as np

import lowrank as lr
from benchmarks.ratios import Race, all_threads, race
from lowrank import gallery
from lowrank.certificate import from_residuals
from lowrank.spectral_norm import TIGHT, Bidiagonal, norms

SEED = 20261
FLOOR = "floor: one Gaussian GEMM"
OURS = "certificate inside column_id: ten probes"
SIZES = {True: (3000, 600, 60), False: (20000, 2000, 200)}
SPECTRA = {
    "spike": np.r_[1.0, np.full(299, 0.01)],
    "hidden spike": np.r_[1.3, np.ones(299)],
    "flat": np.ones(300),
    "j^-2": gallery.polynomial_spectrum(300),
    "j^-1/2": gallery.polynomial_spectrum(300, 0.5),
    "e^(-j/20)": gallery.exponential_spectrum(300),
    "tail of j^-2": gallery.polynomial_spectrum(500)[200:],
}


@cache
def _job(quick: bool):
    m, n, k = SIZES[quick]
    A = gallery.polynomial_decay(m, n, basis="cheap", rng=SEED)
    return A, lr.column_id(A, rank=k, rng=SEED), np.random.default_rng(SEED).standard_normal((k + 10, m))


def certificate_race(threads: int, quick: bool) -> Race:
    """What the certificate adds to a column ID (probes of A, residuals, interval), and the calls that do it alone."""
    A, f, G = _job(quick)
    omega = np.random.default_rng(SEED).standard_normal((10, len(A)))

    def alone():
        W = omega @ A
        return from_residuals(W - W[:, f.indices] @ f.coefficients, 1.0)

    contenders = {
        OURS: alone,
        "lowrank.certify": lambda: lr.certify(A, f, rng=SEED),
        'lowrank.certify, norm="spectral"': lambda: lr.certify(A, f, rng=SEED, norm="spectral"),
        FLOOR: lambda: G @ A,
    }
    name = f"certificate, {A.shape[0]} x {A.shape[1]}, rank {f.rank}"
    return race(name, contenders, threads=threads)


def races(quick: bool) -> Iterator[Race]:
    for threads in dict.fromkeys((1, all_threads())):
        yield certificate_race(threads, quick)


def coverage(spectrum: str, norm: str, trials: int = 1000) -> float:
    """Share of seeded trials in which the 95 % interval of ||E|| covers it."""
    s = SPECTRA[spectrum]
    rng = np.random.default_rng(SEED)
    covered = 0

    def product(X):
        return s[:, None] * X

    for _ in range(trials):
        omega = rng.standard_normal((len(s), 10))
        if norm == "fro":
            truth = float(np.linalg.norm(s))
            low, high = from_residuals(omega.T * s, 1.0).interval
        else:
            truth, run = float(s.max()), (Bidiagonal(omega), None, None)
            ((low, high),) = norms(product, product, [run], 10, 0.025, lambda found: found[0][1] <= TIGHT * found[0][0])
        covered += low * (1 - 1e-12) <= truth <= high * (1 + 1e-12)
    return covered / trials


class Certificate:
    """Time of a certificate over one Gaussian GEMM, and the coverage of its interval."""

    params = ([1, all_threads()],)
    param_names = ("threads",)
    timeout = 900

    def setup(self, threads):
        self.race = certificate_race(threads, quick=True)

    def track_ratio_to_floor(self, threads):
        return self.race.ratio(OURS, FLOOR).median

    def track_ratio_of_certify_to_floor(self, threads):
        return self.race.ratio("lowrank.certify", FLOOR).median

    def track_least_coverage(self, threads):
        return min(coverage(name, norm, 200) for name in SPECTRA for norm in ("fro", "spectral"))


if __name__ == "__main__":
    began = time.perf_counter()
    for chosen in ("fro", "spectral"):
        for key in SPECTRA:
            print(f"{chosen:9} {key:14} covered {coverage(key, chosen):.3f}")
    print(f"{time.perf_counter() - began:.0f} s")
