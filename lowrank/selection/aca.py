"""Adaptive cross approximation: k rows and k columns are all that is ever read."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .base import Candidates, Choice, Selection
from .working import working


@dataclass(frozen=True, eq=False)
class Cross:
    """``A ~ U V`` with U (m, r), V (r, n), built from rows and columns of A alone.

    rows, columns : the crosses in the order of choice;  entries_read : entries of A that were asked for;
    estimate : the last cross's Frobenius norm over that of ``U V``, which is what `tol` was compared with.
    """

    rows: np.ndarray
    columns: np.ndarray
    U: np.ndarray
    V: np.ndarray
    entries_read: int
    estimate: float


def cross(
    row: Callable[[int], np.ndarray],
    column: Callable[[int], np.ndarray],
    shape: tuple[int, int],
    k: int,
    *,
    tol: float = 0.0,
    start: int = 0,
) -> Cross:
    """Partially pivoted cross approximation of a matrix that is known by its rows and columns only.

    Bebendorf (2000), section 4. Reads (m + n) r entries, plus n for every row that turns out to be explained already;
    2 (m + n) r^2 flops.

    Parameters
    ----------
    row, column : ``row(i)`` is A[i, :] and ``column(j)`` is A[:, j].
    shape : (m, n) of A.
    k : the most crosses to take.
    tol : stop when a cross is this small beside the approximation (Frobenius); 0 goes on to k or to a zero residual.
    start : the first row.

    Notes
    -----
    The estimate looks at the cross it just took, not at all of A: a block that no row or column taken so far touches is
    invisible to it. Rows whose residual vanishes are passed over, and if all do, the residual is zero.
    """
    m, n = shape
    U: list[np.ndarray] = []
    V: list[np.ndarray] = []
    rows: list[int] = []
    columns: list[int] = []
    fresh, open_columns = np.ones(m, dtype=bool), np.ones(n, dtype=bool)
    entries, square, estimate, scale, largest, spread = 0, 0.0, 1.0, 0.0, 0.0, 1.0
    i = start
    while len(rows) < min(k, m, n) and fresh.any():
        # step 1: the residual of row i
        fresh[i] = False
        a = np.asarray(row(i))
        entries += n
        r = a - sum((u[i] * v for u, v in zip(U, V)), np.zeros(n, dtype=a.dtype))
        largest = max(largest, float(np.abs(a).max(initial=0.0)))
        size = np.where(open_columns, np.abs(r), 0.0)
        # step 2: its largest entry is the pivot
        j = int(size.argmax())
        floor = 8 * max(m, n) * np.finfo(r.dtype).eps * largest * spread
        if not size[j] > floor:
            i = int(fresh.argmax())  # this row is explained: go on with the first that was not looked at
            continue
        # step 3: the residual of column j
        b = np.asarray(column(j))
        entries += m
        c = b - sum((u * v[j] for u, v in zip(U, V)), np.zeros(m, dtype=b.dtype))
        largest = max(largest, float(np.abs(b).max(initial=0.0)))
        spread = max(spread, float(np.abs(c).max() / size[j]))  # by which a cross multiplies the rounding of its row
        v = r / r[j]
        U.append(c)
        V.append(v)
        rows.append(i)
        columns.append(j)
        open_columns[j] = False
        # step 4: ||U V||_F^2 by recurrence, in units of the first column, so that it cannot overflow
        scale = scale or float(np.abs(c).max())
        w = c / scale
        inner = sum((np.vdot(U[s] / scale, w) * np.vdot(V[s], v) for s in range(len(U) - 1)), 0.0)
        here = float(np.linalg.norm(w) * np.linalg.norm(v))
        square += 2 * float(np.real(inner)) + here**2
        estimate = here / np.sqrt(square) if square > 0 else 1.0
        if estimate <= tol:
            break
        # step 5: the next row is where the column's residual is largest
        i = int(np.where(fresh, np.abs(c), -1.0).argmax())
    dtype = np.result_type(*U) if U else np.float64
    return Cross(
        np.array(rows, dtype=np.int64),
        np.array(columns, dtype=np.int64),
        np.stack(U, axis=1) if U else np.zeros((m, 0), dtype),
        np.stack(V) if V else np.zeros((0, n), dtype),
        entries,
        estimate if U else 0.0,
    )


def choose(candidates: Candidates) -> Choice:
    Y = working(candidates.Y if candidates.exact else candidates.compressed(candidates.k + 8))
    found = cross(lambda i: Y[i], lambda j: Y[:, j], Y.shape, candidates.k)
    return Choice(found.columns, "aca")


ACA = Selection(
    "aca",
    choose,
    "None on general matrices; exponential convergence on kernels that are smooth away from their diagonal.",
    "Bebendorf (2000), Approximation of boundary element matrices, doi 10.1007/PL00005410, section 4.",
)
