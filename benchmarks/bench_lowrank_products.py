"""Approximate products of column-row pairs, and pseudo-inverses, beside what numpy and scipy do exactly."""

from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
import scipy.linalg

import lowrank as lr
from benchmarks.ratios import Race, all_threads, race
from lowrank import gallery

SEED = 20261
EXACT = "numpy X @ Y"
SIZES = {True: (500, 2000, 100), False: (2000, 20000, 1000)}  # rows of X and columns of Y, pairs, rank
INVERSE = {True: (800, 200), False: (4000, 800)}
PAIRS = ("norm", "sampling", "greedy", "leverage")
METHODS = ("svd", "qr", "newton_schulz")


@cache
def _factors(quick: bool) -> tuple[np.ndarray, np.ndarray]:
    """Pairs whose sizes fall like 1/j, in random order, so that there is something to choose."""
    m, n, _ = SIZES[quick]
    rng = np.random.default_rng(SEED)
    size = rng.permutation(1 / np.arange(1.0, n + 1))
    return rng.standard_normal((m, n)) * size, rng.standard_normal((n, m))


def product_race(threads: int, quick: bool) -> Race:
    """`cr` by every method that a product's size allows, and the exact product; errors relative to ||X|| ||Y||."""
    (X, Y), k = _factors(quick), SIZES[quick][2]
    P, size = X @ Y, float(np.linalg.norm(X) * np.linalg.norm(Y))
    methods = PAIRS if quick else PAIRS[:2]
    contenders: dict[str, Callable] = {
        f'lowrank.cr, "{method}"': lambda method=method: lr.cr(X, Y, k, method=method, rng=SEED) for method in methods
    }
    error: dict[str, Callable] = dict.fromkeys(contenders, lambda f: float(np.linalg.norm(P - f.to_dense())) / size)
    contenders[EXACT] = lambda: X @ Y
    name = f"product of {X.shape} and {Y.shape} by {k} pairs (choice alone; the product stays factored)"
    return race(name, contenders, threads=threads, error=error)


def inverse_race(threads: int, quick: bool) -> Race:
    """`pinv` with its Penrose residuals beside numpy and scipy; the error is ||A P A - A|| / ||A||."""
    m, n = INVERSE[quick]
    A = gallery.with_spectrum(m, n, np.linspace(1.0, 0.1, n), basis="cheap", rng=SEED)
    contenders: dict[str, Callable] = {
        f'lowrank.pinv, "{method}"': lambda method=method: lr.pinv(A, method=method).matrix for method in METHODS
    }
    contenders["numpy.linalg.pinv"] = lambda: np.linalg.pinv(A)
    contenders["scipy.linalg.pinv"] = lambda: scipy.linalg.pinv(A)
    size = float(np.linalg.norm(A))
    name = f"pseudo-inverse of {m} x {n}, condition 10"
    return race(name, contenders, threads=threads, error=lambda P: float(np.linalg.norm(A @ P @ A - A)) / size)


def races(quick: bool) -> Iterator[Race]:
    """One thread, and beside it all of them."""
    for threads in dict.fromkeys((1, all_threads())):
        if not quick or threads == 1:
            yield product_race(threads, quick)
            yield inverse_race(threads, quick)


class Products:
    """Time of `cr` over the exact product, and its error."""

    params = (PAIRS, [1, all_threads()])
    param_names = ("method", "threads")
    timeout = 900

    def setup(self, method, threads):
        self.race = product_race(threads, quick=True)

    def track_ratio_to_exact(self, method, threads):
        return self.race.ratio(f'lowrank.cr, "{method}"', EXACT).median

    def track_error(self, method, threads):
        return self.race.error[f'lowrank.cr, "{method}"']


class PseudoInverses:
    """Time of `pinv` over numpy's, and its first Penrose residual."""

    params = (METHODS, [1, all_threads()])
    param_names = ("method", "threads")
    timeout = 900

    def setup(self, method, threads):
        self.race = inverse_race(threads, quick=True)

    def track_ratio_to_numpy(self, method, threads):
        return self.race.ratio(f'lowrank.pinv, "{method}"', "numpy.linalg.pinv").median

    def track_residual(self, method, threads):
        return self.race.error[f'lowrank.pinv, "{method}"']
