"""lowrank: Nystrom approximations beside the floor, the RPCholesky authors' code, scikit-learn and linear_operator.

The floor is the evaluation of k columns of the kernel and n k^2 flops of GEMM, which any method with k landmarks pays.
Errors are relative trace errors. The data are clusters of very unequal size, a face with two small eyes, an isotropic
cloud (where uniform landmarks are as good, and nothing is won by choosing) and patches of a photograph.

The authors' code has no package: clone github.com/eepperly/Randomly-Pivoted-Cholesky and name the folder in the
environment variable RPCHOLESKY_PATH; without it that row is n/a.
"""

import os
import sys
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np

import lowrank as lr
from benchmarks import peers
from benchmarks.ratios import Race, all_threads, race
from lowrank import gallery

SEED = 20261
OURS = "lowrank.nystrom"
FLOOR = "floor: evaluation and GEMM"
AUTHORS = "accelerated_rpcholesky (authors)"
SKLEARN = "scikit-learn Nystroem"
UNIFORM = 'lowrank.nystrom, "uniform"'
POINTS = {True: (8000, 160), False: (50000, 500)}
DENSE = {True: (2000, 60), False: (6000, 200)}


@cache
def _points(kind: str, quick: bool) -> tuple[np.ndarray, float]:
    """Points and bandwidth."""
    n, rng = POINTS[quick][0], np.random.default_rng(SEED)
    if kind == "cloud":
        return rng.standard_normal((n, 10)), 3.0
    if kind == "clusters":
        return gallery.clusters(n, 10, count=100, spread=0.05, rng=rng), 0.3
    if kind == "smile":
        return gallery.smile(n), 0.3
    patches = gallery.photo_patches()
    return patches[np.sort(rng.choice(len(patches), n, replace=False))], 2.0


@cache
def _authors():
    """(accelerated_rpcholesky, KernelMatrix) of the authors' repository, or None where it is not at hand."""
    folder = os.environ.get("RPCHOLESKY_PATH")
    if not folder:
        return None
    sys.path.append(folder)
    try:
        from matrix import KernelMatrix  # pyright: ignore
        from rpcholesky import accelerated_rpcholesky  # pyright: ignore
    except ImportError:
        return None
    finally:
        sys.path.remove(folder)
    return accelerated_rpcholesky, KernelMatrix


def nystrom_race(kind: str, threads: int, quick: bool) -> Race:
    """Ours by random pivots and by uniform landmarks, the floor, the authors and scikit-learn, on a Gaussian kernel."""
    k = POINTS[quick][1]
    X, h = _points(kind, quick)
    half = np.ascontiguousarray(np.random.default_rng(SEED).standard_normal((k, k // 2)))
    J = np.random.default_rng(SEED).permutation(len(X))[:k]

    def floor():
        return lr.KernelMatrix(lr.GaussianKernel(h), X).columns(J, workers=threads) @ half

    contenders: dict[str, Callable] = {
        OURS: lambda: lr.nystrom(lr.GaussianKernel(h), X, rank=k, rng=SEED),
        FLOOR: floor,
        UNIFORM: lambda: lr.nystrom(lr.GaussianKernel(h), X, rank=k, rng=SEED, selection="uniform"),
    }
    error: dict[str, Callable] = {OURS: lambda f: f.trace_error, UNIFORM: lambda f: f.trace_error}
    absent = {}
    if (authors := _authors()) is None:
        absent[AUTHORS] = "set RPCHOLESKY_PATH to a clone of eepperly/Randomly-Pivoted-Cholesky"
    else:
        pivot, kernel_matrix = authors
        contenders[AUTHORS] = lambda: pivot(kernel_matrix(X, kernel="gaussian", bandwidth=h), k)
        error[AUTHORS] = lambda found: 1 - float(found.trace()) / len(X)
    if peers.load("sklearn") is None:
        absent[SKLEARN] = peers.why_absent("sklearn")
    else:
        from sklearn.kernel_approximation import Nystroem

        gamma = 1 / (2 * h * h)
        contenders[SKLEARN] = lambda: Nystroem(gamma=gamma, n_components=k, random_state=SEED).fit_transform(X)
        error[SKLEARN] = lambda Z: 1 - float(np.sum(Z * Z)) / len(Z)
    name = f"Nystrom, Gaussian kernel, {kind}, n = {len(X)}, dim = {X.shape[1]}, k = {k}"
    return race(name, contenders, threads=threads, error=error, absent=absent)


def dense_race(threads: int, quick: bool) -> Race:
    """A precomputed kernel: ours by random and by greedy pivots beside linear_operator's pivoted Cholesky."""
    n, k = DENSE[quick]
    X = gallery.clusters(n, 10, count=100, spread=0.05, rng=SEED)
    K = lr.GaussianKernel(0.3)(X, X)
    contenders: dict[str, Callable] = {
        "lowrank.nystrom": lambda: lr.nystrom(K, rank=k, rng=SEED),
        'lowrank.nystrom, "greedy"': lambda: lr.nystrom(K, rank=k, selection="greedy"),
    }
    error: dict[str, Callable] = dict.fromkeys(contenders, lambda f: f.trace_error)
    absent = {}
    peer = "linear_operator pivoted_cholesky"
    if peers.load("linear_operator") is None:
        absent[peer] = "linear_operator is not installed (pip install linear_operator)"
    else:
        import torch
        from linear_operator import pivoted_cholesky, to_linear_operator  # pyright: ignore

        lazy = to_linear_operator(torch.from_numpy(K))
        contenders[peer] = lambda: pivoted_cholesky(lazy, rank=k, error_tol=0.0)
        error[peer] = lambda L: 1 - float((L * L).sum()) / n
    return race(f"Nystrom, precomputed kernel, clusters, n = {n}, k = {k}", contenders, threads=threads, error=error,
                absent=absent)  # fmt: skip


def races(quick: bool) -> Iterator[Race]:
    """All races of this module."""
    for threads in dict.fromkeys((1, all_threads())):
        for kind in ("clusters",) if quick else ("clusters", "smile", "cloud"):
            yield nystrom_race(kind, threads, quick)
        if not quick and peers.load("sklearn") is not None:
            yield nystrom_race("patches", threads, quick)
        yield dense_race(threads, quick)


class Nystrom:
    """Time of the Nystrom approximation over its floor and over its peers, and its trace error."""

    params = (["cloud", "clusters", "smile"], [1, all_threads()])
    param_names = ("points", "threads")
    timeout = 900

    def setup(self, points, threads):
        self.race = nystrom_race(points, threads, quick=True)

    def track_ratio_to_floor(self, points, threads):
        return self._to(FLOOR)

    def track_ratio_to_authors(self, points, threads):
        return self._to(AUTHORS)

    def track_ratio_to_sklearn(self, points, threads):
        return self._to(SKLEARN)

    def track_trace_error(self, points, threads):
        return self.race.error[OURS]

    def track_trace_error_uniform(self, points, threads):
        return self.race.error[UNIFORM]

    def _to(self, peer):
        return self.race.ratio(OURS, peer).median if peer in self.race.wall else float("nan")
