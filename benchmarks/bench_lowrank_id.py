"""lowrank: column ID and CUR beside scipy, librla, scikit-learn and the floor of one GEMM.

The floor of a column ID is one product of a (k + 10)-row Gaussian matrix with A, which every dense sketch pays before
it does anything else. Errors are in units of the best possible error at that rank (Frobenius).
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
OURS, SINGLE = "lowrank.column_id", "lowrank.column_id, float32"
FLOOR = "floor: one Gaussian GEMM"
LIBRLA = "librla id_sketch"
SIZES = {True: (3000, 600, 60), False: (20000, 2000, 200)}


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
    if with_scipy:
        peer = "scipy qr(pivoting=True), all of A"
        contenders[peer] = lambda: scipy.linalg.qr(A, mode="r", pivoting=True, check_finite=False)[-1][:k]
        error[peer] = lambda J: judge(A[:, J] @ np.linalg.lstsq(A[:, J], A, rcond=None)[0])
    if (torch := peers.load("torch")) is None:
        absent["torch.svd_lowrank"] = peers.why_absent("torch")
    else:
        T = torch.from_numpy(A)
        contenders["torch.svd_lowrank"] = lambda: torch.svd_lowrank(T, q=k)
        error["torch.svd_lowrank"] = lambda found: judge(((found[0] * found[1]) @ found[2].mT).numpy())
    interpolative = peers.load("scipy.linalg.interpolative")
    if interpolative is None:
        absent["scipy interp_decomp"] = peers.why_absent("scipy.linalg.interpolative")
    elif with_scipy:
        contenders["scipy interp_decomp"] = lambda: interpolative.interp_decomp(A, k, rand=True)
        error["scipy interp_decomp"] = lambda found: judge(
            interpolative.reconstruct_matrix_from_id(A[:, found[0][:k]], found[0], found[1])
        )
    if (librla := peers.load("librla")) is None:
        absent[LIBRLA] = peers.why_absent("librla")
    else:

        def rebuilt(found) -> float:
            rank, order, T = found
            B = np.empty_like(A)
            B[:, order[:rank]] = A[:, order[:rank]]
            B[:, order[rank:]] = B[:, order[:rank]] @ T
            return judge(B)

        contenders[LIBRLA] = lambda: librla.id_sketch(A, k, rng=np.random.default_rng(SEED))
        error[LIBRLA] = rebuilt
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


def square_race(threads: int, quick: bool) -> Race:
    """A square matrix with a spectrum in stairs, where a GEMM with A is short beside the work on the sketch."""
    n, k = (800, 60) if quick else (4000, 200)
    s = gallery.SPECTRA["stairs"](n)
    A, best = gallery.with_spectrum(n, n, s, basis="cheap", rng=SEED), gallery.optimal_error(s, k)
    G = np.random.default_rng(SEED).standard_normal((k + 10, n))
    contenders: dict[str, Callable] = {OURS: lambda: lr.column_id(A, rank=k, rng=SEED), FLOOR: lambda: G @ A}
    error = {OURS: lambda f: float(np.linalg.norm(A - f.to_dense())) / best}
    return race(f"column ID, {n} x {n}, k = {k}, devil's stairs", contenders, threads=threads, error=error)


def single_race(threads: int, quick: bool) -> Race:
    """Single beside double precision; both errors are against the matrix in double precision."""
    A, (_, _, k) = _matrix("polynomial", quick), SIZES[quick]
    B, judge = A.astype(np.float32), _over_optimum("polynomial", quick)
    contenders: dict[str, Callable] = {
        SINGLE: lambda: lr.column_id(B, rank=k, rng=SEED),
        OURS: lambda: lr.column_id(A, rank=k, rng=SEED),
    }
    name = f"column ID in single precision, {A.shape[0]} x {A.shape[1]}, k = {k}"
    return race(name, contenders, threads=threads, error=lambda f: judge(f.to_dense()))  # pyright: ignore


def races(quick: bool) -> Iterator[Race]:
    """All races of this module; scipy, which takes half a minute a run at full size, takes part in one of them."""
    for threads in dict.fromkeys((1, all_threads())):
        yield column_id_race("polynomial", threads, quick, with_scipy=threads == 1)
        if not quick or threads == 1:
            yield column_id_race("exponential", threads, quick, with_scipy=False)
        yield cur_race(threads, quick)
        if not quick:
            yield square_race(threads, quick)
            yield single_race(threads, quick)


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


class Best:
    """L3: exact coefficients, over the floor; and their error over the optimum."""

    params = ([1, all_threads()],)
    param_names = ("threads",)
    timeout = 900

    def setup(self, threads):
        self.race = column_id_race("polynomial", threads, quick=True, with_scipy=False)

    def track_ratio_to_floor(self, threads):
        return self.race.ratio('lowrank.column_id, quality="best"', FLOOR).median

    def track_error_over_optimum(self, threads):
        return self.race.error['lowrank.column_id, quality="best"']


class CUR:
    """L4: CUR over the floor, and its error over the optimum."""

    params = ([1, all_threads()],)
    param_names = ("threads",)
    timeout = 900

    def setup(self, threads):
        self.race = cur_race(threads, quick=True)

    def track_ratio_to_floor(self, threads):
        return self.race.ratio("lowrank.cur", FLOOR).median

    def track_error_over_optimum(self, threads):
        return self.race.error["lowrank.cur"]


class Square:
    """L9: a square matrix, over the floor; and its error over the optimum."""

    params = ([1, all_threads()],)
    param_names = ("threads",)
    timeout = 900

    def setup(self, threads):
        self.race = square_race(threads, quick=True)

    def track_ratio_to_floor(self, threads):
        return self.race.ratio(OURS, FLOOR).median

    def track_error_over_optimum(self, threads):
        return self.race.error[OURS]


class Single:
    """L10: time in single over time in double precision, and the ratio of the errors."""

    params = ([1, all_threads()],)
    param_names = ("threads",)
    timeout = 900

    def setup(self, threads):
        self.race = single_race(threads, quick=True)

    def track_ratio_to_double(self, threads):
        return self.race.ratio(SINGLE, OURS).median

    def track_error_over_that_of_double(self, threads):
        return self.race.error[SINGLE] / self.race.error[OURS]  # pyright: ignore
