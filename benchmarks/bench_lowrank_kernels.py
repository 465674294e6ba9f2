"""lowrank: columns of kernel matrices and sketches, beside scipy, scikit-learn, torch and one bare GEMM.

The floor of a block of kernel columns is one GEMM of the points and one exponential an entry. The error of a block is
its largest deviation from differences formed in extended precision, on a few columns.
"""

from collections.abc import Callable, Iterator

import numpy as np

import lowrank as lr
from benchmarks import peers
from benchmarks.ratios import Race, all_threads, race

SEED = 20261
POINTS = {True: (8000, 100), False: (50000, 500)}
KERNELS = {"gaussian": lr.GaussianKernel(3.0), "laplace": lr.LaplaceKernel(3.0), "matern 3/2": lr.MaternKernel(3.0)}
OURS = "lowrank.KernelMatrix.columns"


def _truth(kind: str, P: np.ndarray, Q: np.ndarray) -> np.ndarray:
    wide = P.astype(np.longdouble)[:, None, :] - Q.astype(np.longdouble)[None, :, :]
    r = np.sqrt((wide**2).sum(axis=2)) / 3
    a = np.sqrt(np.longdouble(3)) * r
    return {"gaussian": np.exp(-r * r / 2), "laplace": np.exp(-r), "matern 3/2": (1 + a) * np.exp(-a)}[kind]


def columns_race(kind: str, dim: int, threads: int, quick: bool, shift: float = 0.0) -> Race:
    """k columns of a kernel of n points, `shift` away from the origin."""
    n, k = POINTS[quick]
    rng = np.random.default_rng(SEED)
    X = rng.standard_normal((n, dim)) + shift
    J = rng.permutation(n)[:k]
    Q = X[J]
    K = lr.KernelMatrix(KERNELS[kind], X)
    few = np.arange(40)
    truth = _truth(kind, X[few], Q)

    def judge(block) -> float:
        return float(np.abs(np.asarray(block)[few] - truth).max())

    profile: dict[str, Callable] = {
        "gaussian": lambda d: np.exp(-0.5 * d * d),
        "laplace": lambda d: np.exp(-d),
        "matern 3/2": lambda d: (1 + np.sqrt(3) * d) * np.exp(-np.sqrt(3) * d),
    }
    Z = (X - shift) / 3

    def floor():
        out = Z @ Z[J].T
        return np.exp(out, out=out)

    contenders: dict[str, Callable] = {OURS: lambda: K.columns(J, workers=threads), "floor: one GEMM and exp": floor}
    error: dict[str, Callable] = {OURS: judge}
    absent = {}
    from scipy.spatial.distance import cdist

    contenders["scipy cdist"] = lambda: profile[kind](cdist(X / 3, Q / 3))
    error["scipy cdist"] = judge
    if peers.load("sklearn") is None:
        absent["scikit-learn"] = peers.why_absent("sklearn")
    else:
        from sklearn.gaussian_process.kernels import Matern
        from sklearn.metrics.pairwise import euclidean_distances, rbf_kernel

        made: dict[str, Callable] = {
            "gaussian": lambda: rbf_kernel(X, Q, gamma=1 / 18),
            "laplace": lambda: np.exp(-euclidean_distances(X, Q) / 3),
            "matern 3/2": lambda: Matern(3.0, nu=1.5)(X, Q),
        }
        contenders["scikit-learn"] = made[kind]
        error["scikit-learn"] = judge
    torch = peers.load("torch")
    if torch is None:
        absent["torch cdist"] = peers.why_absent("torch")
    else:
        points, few_points = torch.from_numpy(X / 3), torch.from_numpy(Q / 3)

        def of_torch():
            d = torch.cdist(points, few_points)
            a = 3**0.5 * d
            return {
                "gaussian": lambda: torch.exp(-0.5 * d * d),
                "laplace": lambda: torch.exp(-d),
                "matern 3/2": lambda: (1 + a) * torch.exp(-a),
            }[kind]()

        contenders["torch cdist"] = of_torch
        error["torch cdist"] = judge
    far = f", {shift:g} from the origin" if shift else ""
    name = f"kernel columns, {kind}, n = {n}, dim = {dim}, k = {k}{far}"
    return race(name, contenders, threads=threads, error=error, absent=absent)


def sketch_race(threads: int, quick: bool) -> Race:
    """Column IDs by each sketch beside one GEMM; the error is that of the ID over the default's."""
    m, n, k = (4000, 600, 60) if quick else (20000, 2000, 200)
    A = lr.gallery.polynomial_decay(m, n, basis="cheap", rng=SEED)
    G = np.random.default_rng(SEED).standard_normal((k + 10, m))
    made = {f'column_id, sketch="{name}"': name for name in lr.SKETCHES}
    contenders: dict[str, Callable] = {
        label: lambda name=name: lr.column_id(A, rank=k, sketch=name, rng=SEED) for label, name in made.items()
    }
    contenders["floor: one Gaussian GEMM"] = lambda: G @ A
    error: dict[str, Callable] = dict.fromkeys(made, lambda f: f.relative_error(A))
    return race(f"sketches, {m} x {n}, k = {k}", contenders, threads=threads, error=error)


def races(quick: bool) -> Iterator[Race]:
    """All races of this module."""
    for threads in dict.fromkeys((1, all_threads())):
        for kind in KERNELS:
            if not quick or (kind == "laplace" and threads == 1):
                yield columns_race(kind, 10, threads, quick)
        if not quick:
            yield columns_race("laplace", 64, threads, quick)
            yield columns_race("laplace", 64, threads, quick, shift=1e6)
        if not quick or threads == 1:
            yield sketch_race(threads, quick)


class Columns:
    """Time of a block of kernel columns over the floor and the peers."""

    params = (list(KERNELS), [10, 64], [1, all_threads()])
    param_names = ("kernel", "dim", "threads")
    timeout = 900

    def setup(self, kernel, dim, threads):
        self.race = columns_race(kernel, dim, threads, quick=True)

    def track_ratio_to_floor(self, kernel, dim, threads):
        return self.race.ratio(OURS, "floor: one GEMM and exp").median

    def track_ratio_to_scipy(self, kernel, dim, threads):
        return self.race.ratio(OURS, "scipy cdist").median

    def track_ratio_to_sklearn(self, kernel, dim, threads):
        peer = "scikit-learn"
        return self.race.ratio(OURS, peer).median if peer in self.race.wall else float("nan")

    def track_error(self, kernel, dim, threads):
        return self.race.error[OURS]


class Sketches:
    """Time of a column ID by each sketch over one Gaussian GEMM."""

    params = (list(lr.SKETCHES), [1, all_threads()])
    param_names = ("sketch", "threads")
    timeout = 900

    def setup(self, sketch, threads):
        self.race = sketch_race(threads, quick=True)

    def track_ratio_to_floor(self, sketch, threads):
        return self.race.ratio(f'column_id, sketch="{sketch}"', "floor: one Gaussian GEMM").median

    def track_relative_error(self, sketch, threads):
        return self.race.error[f'column_id, sketch="{sketch}"']
