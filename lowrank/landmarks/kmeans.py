"""Landmarks nearest to the centres of k clusters: of the points, or of the rows of a partial factor."""

import numpy as np

from lowrank._threads import blas_threads
from lowrank.partial_cholesky import PartialCholesky
from lowrank.selection.kmeans import representatives

from . import rpcholesky
from .base import Landmarks, Search


def run(search: Search) -> str:
    """k-means++ and Lloyd in the space of the points; without points, in a feature space of rank `limit`.

    Rows of a partial factor F0 have ``|f_i - f_j|^2 ~ k_ii + k_jj - 2 Re k_ij``, so that k-means of them is kernel
    k-means of K up to the trace error of F0 (Wang, Gittens and Mahoney 2019); it reads (k + 1) n entries more.
    Fewer than k clusters are alive where points coincide; randomly pivoted Cholesky then supplies what is missing.
    """
    cholesky = search.cholesky
    k = cholesky.limit
    if k == 0 or not cholesky.wanted:
        return ""
    if search.points is not None:
        space, where = np.asarray(search.points, dtype=np.float64), "of the points"
    else:
        start = PartialCholesky(cholesky.operand, cholesky.residual, k, cholesky.workers)
        rpcholesky.run(Search(start, search.rng, None, None, lambda done: None))
        F = np.ascontiguousarray(start.factor())
        space, where = F.view(np.real(F).dtype).astype(np.float64), f"of the rows of a factor of rank {start.size}"
    with blas_threads(cholesky.workers):
        heads = representatives(space, k, search.rng)[0]
    search.add(heads[search.rng.permutation(len(heads))])
    found = cholesky.size
    if cholesky.wanted:
        rpcholesky.run(search)
    more = cholesky.size - found
    return f"nearest to {len(heads)} centres {where}" + (f", and {more} by rpcholesky" if more else "")


KMEANS = Landmarks(
    "kmeans",
    run,
    False,
    "A bound by the clusters' squared radius, for kernels that are Lipschitz in the points; none by the best rank-k "
    "error.",
    "Zhang, Tsang and Kwok (2008), Improved Nystrom low-rank approximation and error analysis, "
    "doi 10.1145/1390156.1390311; without points: Wang, Gittens and Mahoney (2019), Scalable kernel k-means "
    "clustering with Nystrom approximation, JMLR 20(12), 1-49.",
)
