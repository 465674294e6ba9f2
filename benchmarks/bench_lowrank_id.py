"""lowrank: column ID, CUR and Nystrom beside scipy, scikit-learn and the floor of one GEMM.

The floor of a column ID is one product of a (k + 10)-row Gaussian matrix with A, which every dense sketch pays before
it does anything else. Errors of factorisations are in units of the best possible error at that rank (Frobenius);
those of Nystrom approximations are relative trace errors.
"""

from collections.abc import Callable, Iterator
from functools import cache

import numpy as np

import lowrank as lr
from benchmarks import peers
from benchmarks.ratios import Race, all_threads, race
from lowrank import gallery

SEED = 20261
FLOOR = "floor: one Gaussian GEMM"
SIZES = {True: (3000, 600, 60), False: (20000, 2000, 200)}
POINTS = {True: (8000, 160), False: (50000, 500)}


@cache
def _matrix(spectrum: str, quick: bool) -> np.ndarray:
    m, n, _ = SIZES[quick]
    return gallery.with_spectrum(m, n, gallery.SPECTRA[spectrum](n), basis="cheap", rng=SEED)


@cache
def _gaussian(quick: bool) -> np.ndarray:
    m, _, k = SIZES[quick]
    return np.random.default_rng(SEED).standard_normal((k + 10, m))


def _over_optimum(spectrum: str, quick: bool) -> Callable[[np.ndarray], float]:
    A, (_, n, k) = _matrix(spectrum, quick), SIZES[quick]
    best = gallery.optimal_error(gallery.SPECTRA[spectrum](n), k)
    return lambda B: float(np.linalg.norm(A - B)) / best


def column_id_race(spectrum: str, threads: int, quick: bool, with_scipy: bool = True) -> Race:
    """Ours with its default and its best coefficients, the floor, and the peers."""
    A, (_, _, k), G = _matrix(spectrum, quick), SIZES[quick], _gaussian(quick)
    judge = _over_optimum(spectrum, quick)
    contenders: dict[str, Callable] = {
        "lowrank.column_id": lambda: lr.column_id(A, rank=k, rng=SEED),
        'lowrank.column_id, quality="best"': lambda: lr.column_id(A, rank=k, rng=SEED, quality="best"),
        FLOOR: lambda: G @ A,
    }
    error: dict[str, Callable] = dict.fromkeys(list(contenders)[:2], lambda f: judge(f.to_dense()))
    absent = {}
    interpolative = peers.load("scipy.linalg.interpolative")
    if interpolative is None:
        absent["scipy interp_decomp"] = peers.why_absent("scipy.linalg.interpolative")
    elif with_scipy:
        contenders["scipy interp_decomp"] = lambda: interpolative.interp_decomp(A, k, rand=True)
        error["scipy interp_decomp"] = lambda found: judge(
            interpolative.reconstruct_matrix_from_id(A[:, found[0][:k]], found[0], found[1])
        )
    if peers.load("sklearn") is None:
        absent["scikit-learn randomized_svd"] = peers.why_absent("sklearn")
    else:
        from sklearn.utils.extmath import randomized_svd

        contenders["scikit-learn randomized_svd"] = lambda: randomized_svd(A, k, random_state=SEED)
        error["scikit-learn randomized_svd"] = lambda found: judge((found[0] * found[1]) @ found[2])
    shape = f"{A.shape[0]} x {A.shape[1]}, k = {k}, {spectrum} decay"
    return race(f"column ID, {shape}", contenders, threads=threads, error=error, absent=absent)


def cur_race(threads: int, quick: bool) -> Race:
    """CUR with its default core beside the floor."""
    A, (_, _, k), G = _matrix("polynomial", quick), SIZES[quick], _gaussian(quick)
    judge = _over_optimum("polynomial", quick)
    contenders: dict[str, Callable] = {"lowrank.cur": lambda: lr.cur(A, rank=k, rng=SEED), FLOOR: lambda: G @ A}
    error = {"lowrank.cur": lambda g: judge(g.to_dense())}
    return race(f"CUR, {A.shape[0]} x {A.shape[1]}, k = {k}", contenders, threads=threads, error=error)


@cache
def _points(kind: str, quick: bool) -> tuple[np.ndarray, float]:
    """Points and bandwidth: an isotropic cloud, clusters of very unequal size, or patches of a photograph."""
    n, rng = POINTS[quick][0], np.random.default_rng(SEED)
    if kind == "cloud":
        return rng.standard_normal((n, 10)), 3.0
    if kind == "clusters":
        return gallery.clusters(n, 10, count=100, spread=0.05, rng=rng), 0.3
    patches = gallery.photo_patches()
    return patches[np.sort(rng.choice(len(patches), n, replace=False))], 2.0


def nystrom_race(kind: str, threads: int, quick: bool) -> Race:
    """Ours, the floor (k columns of the kernel and n k^2 flops of GEMM), and scikit-learn's Nystroem."""
    k = POINTS[quick][1]
    X, h = _points(kind, quick)
    half = np.ascontiguousarray(np.random.default_rng(SEED).standard_normal((k, k // 2)))
    J = np.random.default_rng(SEED).permutation(len(X))[:k]

    def floor():
        return lr.KernelMatrix(lr.GaussianKernel(h), X).columns(J, workers=threads) @ half

    contenders: dict[str, Callable] = {
        "lowrank.nystrom": lambda: lr.nystrom(lr.GaussianKernel(h), X, rank=k, rng=SEED),
        "floor: evaluation and GEMM": floor,
    }
    error: dict[str, Callable] = {"lowrank.nystrom": lambda f: f.trace_error}
    absent = {}
    if peers.load("sklearn") is None:
        absent["scikit-learn Nystroem"] = peers.why_absent("sklearn")
    else:
        from sklearn.kernel_approximation import Nystroem

        gamma = 1 / (2 * h * h)
        peer = "scikit-learn Nystroem"
        contenders[peer] = lambda: Nystroem(gamma=gamma, n_components=k, random_state=SEED).fit_transform(X)
        error[peer] = lambda Z: 1 - float(np.sum(Z * Z)) / len(Z)
    name = f"Nystrom, Gaussian kernel, {kind}, n = {len(X)}, dim = {X.shape[1]}, k = {k}"
    return race(name, contenders, threads=threads, error=error, absent=absent)


def races(quick: bool) -> Iterator[Race]:
    """All races of this module; scipy, which takes half a minute a run at full size, takes part in one of them."""
    for threads in dict.fromkeys((1, all_threads())):
        yield column_id_race("polynomial", threads, quick, with_scipy=threads == 1)
        if not quick or threads == 1:
            yield column_id_race("exponential", threads, quick, with_scipy=False)
        yield cur_race(threads, quick)
        yield nystrom_race("clusters", threads, quick)
        if not quick:
            yield nystrom_race("cloud", threads, quick)
            if peers.load("sklearn") is not None:
                yield nystrom_race("patches", threads, quick)


class ColumnID:
    """Time of the default column ID over one Gaussian GEMM and over the peers, and its error over the optimum."""

    params = (["polynomial", "exponential"], [1, all_threads()])
    param_names = ("spectrum", "threads")
    timeout = 900

    def setup(self, spectrum, threads):
        self.race = column_id_race(spectrum, threads, quick=True)

    def track_ratio_to_floor(self, spectrum, threads):
        return self.race.ratio("lowrank.column_id", FLOOR).median

    def track_ratio_to_scipy(self, spectrum, threads):
        return self._to("scipy interp_decomp")

    def track_ratio_to_sklearn(self, spectrum, threads):
        return self._to("scikit-learn randomized_svd")

    def track_error_over_optimum(self, spectrum, threads):
        return self.race.error["lowrank.column_id"]

    def _to(self, peer):
        return self.race.ratio("lowrank.column_id", peer).median if peer in self.race.wall else float("nan")


class Nystrom:
    """Time of the Nystrom approximation over its floor and over scikit-learn, and its trace error."""

    params = (["cloud", "clusters"], [1, all_threads()])
    param_names = ("points", "threads")
    timeout = 900

    def setup(self, points, threads):
        self.race = nystrom_race(points, threads, quick=True)

    def track_ratio_to_floor(self, points, threads):
        return self.race.ratio("lowrank.nystrom", "floor: evaluation and GEMM").median

    def track_ratio_to_sklearn(self, points, threads):
        peer = "scikit-learn Nystroem"
        return self.race.ratio("lowrank.nystrom", peer).median if peer in self.race.wall else float("nan")

    def track_trace_error(self, points, threads):
        return self.race.error["lowrank.nystrom"]
