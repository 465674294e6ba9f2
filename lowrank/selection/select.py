"""`select_columns` and `select_rows`: a name of the registry, run on a sketch of any operand."""

import numpy as np

from lowrank._checks import check_indices, check_method, check_rank
from lowrank._tensors import takes_tensors
from lowrank._threads import blas_threads, resolve_workers
from lowrank.operands import as_operand
from lowrank.passes import first_pass
from lowrank.sketching import check_sketch

from .base import Candidates, Choice


def run_selection(method: str, candidates: Candidates) -> Choice:
    """The registry's rule, on one BLAS thread: an answer must not depend on how many there are."""
    from . import SELECTIONS

    with blas_threads(1), np.errstate(under="ignore"):  # what underflows is nothing beside the pivots
        return SELECTIONS[method](candidates)


@takes_tensors
def select_columns(A, k, *, method="auto", indices=None, sketch="sparse", rng=None, workers=None) -> np.ndarray:
    r"""Choose `k` columns of `A` that explain the others.

    Wanted is a set J of k columns with small :math:`\|A - A_J A_J^+ A\|`; the rules of `SELECTIONS` differ in how near
    they come to the best such set and in what they cost.

    Parameters
    ----------
    A : (m, n) matrix of any kind that `as_operand` reads.
    k : number of columns, ``0 <= k <= min(m, n)``.
    method : a name in `SELECTIONS`.
    indices : the columns themselves, for ``method="given"``.
    sketch : the map that the rules see A through, as in `column_id`.
    rng : seed or numpy Generator (SPEC 7); the same seed gives the same columns for any `workers` and memory order.
    workers : threads; None means every core that the process may use.

    Returns
    -------
    (k,) int64 array in the order of choice; shorter where A has numerical rank below k.

    Raises
    ------
    ValueError
        For an unknown method, a rank out of range, or entries that are not finite.

    Complexity
    ----------
    One pass over A (4 m n additions), then 2 n k^2 flops (``lu``) to about 6 n k^2 (``osinsky``).

    Examples
    --------
    >>> import numpy as np, lowrank as lr
    >>> A = np.outer(np.arange(1.0, 7), [1, 0, 2, 0]) + np.outer(np.ones(6), [0, 5, 0, 0])
    >>> sorted(lr.select_columns(A, 2, method="qr", rng=7).tolist())
    [1, 2]
    """
    operand = as_operand(A)
    check_method(method)
    k = check_rank(k, operand.shape, name="k")
    indices = check_indices(indices, operand.shape[1], k, method)
    sketch = check_sketch(sketch, operand.shape[0], k, operand.dtype)
    generator, workers = np.random.default_rng(rng), resolve_workers(workers)
    start = first_pass(operand, k, generator, probes=0, workers=workers, sketch=sketch)
    return run_selection(method, start.candidates(k, indices)).indices


@takes_tensors
def select_rows(A, k, *, method="auto", indices=None, sketch="sparse", rng=None, workers=None) -> np.ndarray:
    """Choose `k` rows of `A` that explain the others: `select_columns` of the transpose.

    Parameters
    ----------
    A, k, method, indices, sketch, rng, workers : as in `select_columns`, with rows for columns.

    Returns
    -------
    (k,) int64 array in the order of choice; shorter where A has numerical rank below k.

    Examples
    --------
    >>> import numpy as np, lowrank as lr
    >>> lr.select_rows(np.diag([1.0, 5.0, 3.0]), 1, method="norm", rng=7).tolist()
    [1]
    """
    return select_columns(as_operand(A).T, k, method=method, indices=indices, sketch=sketch, rng=rng, workers=workers)
