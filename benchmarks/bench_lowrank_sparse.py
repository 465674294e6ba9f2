"""Column ID of a sparse matrix beside scipy, scikit-learn and the floor of k + 10 dense columns times A.

The floor is the faster order of scipy's product: ``A.T @ G`` with a C-ordered Gaussian G of k + 10 columns. Errors are
over the optimal error (Frobenius). The values are spread evenly, so that the spectrum is flat: sketched coefficients
do worse than zero here, and every method is near 1.
"""

from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import aslinearoperator, svds

import lowrank as lr
from benchmarks import peers
from benchmarks.ratios import Race, all_threads, race

SEED = 20261
OURS, FLOOR = "lowrank.column_id", "floor: sparse times Gaussian"
SIZES = {True: (40000, 4000, 80000, 20), False: (200000, 20000, 393000, 50)}  # rows, columns, entries, rank


@cache
def _matrix(quick: bool):
    m, n, entries, _ = SIZES[quick]
    return sp.random_array((m, n), density=entries / (m * n), rng=np.random.default_rng(SEED), format="csr")


@cache
def _squares(quick: bool) -> tuple[float, float]:
    """(||A||_F^2, its part beyond the k leading singular values)."""
    A, k = _matrix(quick), SIZES[quick][3]
    s = svds(A, k=k, return_singular_vectors=False, rng=np.random.default_rng(SEED))
    total = float(A.power(2).sum())
    return total, total - float(np.sum(np.square(s)))  # pyright: ignore


def over_optimum(C, Z: np.ndarray, quick: bool) -> float:
    """``||A - C Z||_F`` over the optimum, from products with k columns alone."""
    A, (total, rest) = _matrix(quick), _squares(quick)
    cross = np.vdot((A.T @ C).T, Z)
    return float(np.sqrt(max(total - 2 * cross + np.vdot(Z, (C.T @ C) @ Z), 0.0) / rest))


def sparse_race(threads: int, quick: bool) -> Race:
    A, k = _matrix(quick), SIZES[quick][3]
    G = np.random.default_rng(SEED).standard_normal((A.shape[0], k + 10))  # pyright: ignore
    contenders: dict[str, Callable] = {OURS: lambda: lr.column_id(A, rank=k, rng=SEED), FLOOR: lambda: A.T @ G}
    by_rows = np.ascontiguousarray(G.T)
    contenders["the same as G @ A"] = lambda: by_rows @ A
    error: dict[str, Callable] = {OURS: lambda f: over_optimum(f.C.toarray(), f.coefficients, quick)}
    absent = {}
    interpolative = peers.load("scipy.linalg.interpolative")
    if interpolative is None:
        absent["scipy interp_decomp"] = peers.why_absent("scipy.linalg.interpolative")
    else:
        peer = "scipy interp_decomp"
        contenders[peer] = lambda: interpolative.interp_decomp(aslinearoperator(A), k, rand=True)

        def scipy_error(found):
            J, P = found[0], interpolative.reconstruct_interp_matrix(*found)
            return over_optimum(A[:, J[:k]].toarray(), P, quick)

        error[peer] = scipy_error
    if peers.load("sklearn") is None:
        absent["scikit-learn randomized_svd"] = peers.why_absent("sklearn")
    else:
        from sklearn.utils.extmath import randomized_svd

        peer = "scikit-learn randomized_svd"
        contenders[peer] = lambda: randomized_svd(A, k, random_state=SEED)
        error[peer] = lambda found: over_optimum(found[0] * found[1], found[2], quick)  # pyright: ignore
    name = f"column ID, sparse {A.shape[0]} x {A.shape[1]}, {A.nnz} entries, k = {k}, flat spectrum"  # pyright: ignore
    return race(name, contenders, threads=threads, error=error, absent=absent)


def races(quick: bool) -> Iterator[Race]:
    """One thread, and beside it all of them."""
    for threads in dict.fromkeys((1, all_threads())):
        if not quick or threads == 1:
            yield sparse_race(threads, quick)


class Sparse:
    """L8: time over the floor and over the peers, and the error over the optimum."""

    params = ([1, all_threads()],)
    param_names = ("threads",)
    timeout = 900

    def setup(self, threads):
        self.race = sparse_race(threads, quick=True)

    def track_ratio_to_floor(self, threads):
        return self.race.ratio(OURS, FLOOR).median

    def track_ratio_to_scipy(self, threads):
        peer = "scipy interp_decomp"
        return self.race.ratio(OURS, peer).median if peer in self.race.wall else float("nan")

    def track_error_over_optimum(self, threads):
        return self.race.error[OURS]
