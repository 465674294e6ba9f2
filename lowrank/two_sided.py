"""Two-sided ID: a block of A itself, between the coefficients of all rows and of all columns."""

import math
import time
from dataclasses import dataclass, replace

import numpy as np

from . import coefficients as coef
from ._checks import check_method
from ._tensors import takes_tensors
from ._threads import blas_threads, resolve_workers
from .certificate import Certificate
from .cur import choose_rows
from .interpolative import decompose
from .operands import as_operand
from .passes import unit
from .results import Record, Recorded, Status, dense
from .tolerance import grown


@dataclass(frozen=True, eq=False, repr=False)
class TwoSidedID(Recorded):
    """``A ~ X B Z`` with B = A[rows][:, columns]; made by `two_sided_id`.

    rows, columns : (k,) indices into A;  left : X, (m, k), with an identity at `rows`;  block : B, (k, k) entries of A;
    right : Z, (k, n), with an identity at `columns`.
    """

    rows: np.ndarray
    columns: np.ndarray
    left: np.ndarray
    block: np.ndarray
    right: np.ndarray
    record: Record

    kind = "two-sided ID"

    @property
    def shape(self):
        return self.left.shape[0], self.right.shape[1]

    @property
    def dtype(self):
        return self.block.dtype

    @property
    def rank(self) -> int:
        return len(self.columns)

    @property
    def pivots(self) -> np.ndarray:
        """(k,) distance of each kept column, as the decomposition reproduces it, from the span of those before it."""
        from .pivots import pivots

        return pivots(self.left @ self.block)

    def factors(self):
        return self.left, self.block @ self.right

    def _matmat(self, X):
        return self.left @ (self.block @ (self.right @ X))

    def _rmatmat(self, X):
        return self.right.conj().T @ (self.block.conj().T @ (self.left.conj().T @ X))

    def _lines(self):
        m, n = self.shape
        head = f"two-sided ID of a {m} x {n} {self.dtype} matrix, {len(self.rows)} rows and {len(self.columns)} columns"
        return [head, *self.record.lines()]


@takes_tensors
def two_sided_id(
    A, *, rank=None, tol=None, norm="fro", quality="fast", selection="auto", sketch="sparse",
    rng=None, workers=None, progress=False,
) -> TwoSidedID:  # fmt: skip
    r"""Express all of `A` by a block of `rank` of its rows and columns.

    .. math:: A \approx X A_{I,J} Z, \qquad X_{I,:} = I, \quad Z_{:,J} = I

    Columns J and coefficients Z are those of `column_id`; rows I and X express the chosen columns by `rank` of their
    rows, which is exact: the error is that of the column ID.

    Parameters
    ----------
    A : (m, n) matrix of any kind that `as_operand` reads.
    rank, tol, norm, quality, sketch, rng, workers, progress : as in `column_id`.
    selection : a name in `SELECTIONS` other than "given", for columns (on the sketch of A) and rows (on the columns).

    Returns
    -------
    TwoSidedID
        A linear operator; what it keeps of A are `rank` squared entries. Its certificate includes what X adds to the
        error: rounding, and more where a rule such as "uniform" took rows that do not span the others (DEPENDENT).

    Raises
    ------
    ValueError, TypeError
        As `column_id`.

    Complexity
    ----------
    That of `column_id`, and 4 m k^2 flops for the rows.

    References
    ----------
    Cheng, Gimbutas, Martinsson and Rokhlin (2005), On the compression of low rank matrices, doi 10.1137/030602678,
    section 4; Martinsson and Tropp (2020), doi 10.1017/S0962492920000021, section 13.

    Examples
    --------
    >>> import numpy as np, lowrank as lr
    >>> x = np.linspace(0, 1, 200)
    >>> A = 1 / (1 + x[:, None] + 2 * x)
    >>> f = lr.two_sided_id(A, rank=6, rng=7)
    >>> bool((f.block == A[np.ix_(f.rows, f.columns)]).all()), bool(f.certificate.interval[1] < 1e-5)
    (True, True)
    """
    began = time.perf_counter()
    check_method(selection, "selection")
    if selection == "given":
        raise ValueError('two_sided_id takes no indices; pass another selection, or column_id with selection="given"')
    operand = as_operand(A)
    generator = np.random.default_rng(rng)
    before = operand.entries_read
    options = rank, tol, norm, quality, selection, None, sketch, generator, workers, progress
    J, C, Z, record = decompose(operand, *options)
    C = dense(C)
    rows, rule = choose_rows(C, len(J), 0, selection, None, generator)
    X, added = _left(C, rows, Z, resolve_workers(workers))
    if selection == "auto" and rule != "osinsky" and grown(X):
        rows, rule = choose_rows(C, len(J), 0, "osinsky", None, generator)
        X, added = _left(C, rows, Z, resolve_workers(workers))
    status, share = record.status, _share(record.certificate, added)
    met = status in (Status.TOLERANCE_MET, Status.TOLERANCE_EXACT)
    harmless = tol is not None and met and share <= 1e-3 * tol
    if len(rows) < len(J) and not harmless:
        status = Status.DEPENDENT
    elif met and not harmless:
        status = Status.TOLERANCE_MISSED
    record = replace(
        record,
        status=status,
        certificate=_with(record.certificate, share),
        choices=(*record.choices, f"rows by {rule}, on the chosen columns"),
        entries_read=operand.entries_read - before,
        seconds=time.perf_counter() - began,
    )
    return TwoSidedID(rows, J, X, C[rows], Z, record)


def _left(C: np.ndarray, rows: np.ndarray, Z: np.ndarray, workers: int) -> tuple[np.ndarray, float]:
    """X with ``C = X C[rows]``, and what it adds to the error, ``||(C - X C[rows]) Z||_F``."""
    if C.size == 0:
        return np.empty((len(C), 0), C.dtype), 0.0
    scale = float(max(np.abs(np.real(C)).max(), np.abs(np.imag(C)).max()))
    Y = np.ascontiguousarray(C.T) * C.dtype.type(unit(scale, C.dtype))
    with blas_threads(1):
        Q, R = coef.orthogonal(Y[:, rows])
    Xt = coef.solve(Q, R, Y, workers=workers)
    Xt[:, rows] = np.eye(len(rows), dtype=Xt.dtype)
    with blas_threads(1):
        E = Y - Y[:, rows] @ Xt
        square = float(np.real(np.vdot(Z, (E.conj() @ E.T) @ Z)))  # E^T Z itself would be as large as A
        return np.ascontiguousarray(Xt.T), math.sqrt(max(square, 0.0)) / unit(scale, C.dtype)


def _share(found: Certificate, added: float) -> float:
    """`added` over ||A||, in the norm of the certificate."""
    size = found.size or (found.absolute / found.estimate if found.estimate > 0 else 0.0)
    return min(added / size, 1.0) if size > 0 else 0.0


def _with(found: Certificate, share: float) -> Certificate:
    """The certificate of the column ID, and of a further error of this share of ||A||: the ends as if these aligned."""
    if found.probes == 0 and share <= 1e-6 * found.estimate:
        return found  # known exactly but for rounding, still
    low, high = found.interval
    growth = math.hypot(1.0, share / found.estimate) if found.estimate > 0 else 1.0
    return replace(
        found,
        estimate=math.hypot(found.estimate, share),
        interval=(max(low - share, 0.0), high + share),
        absolute=found.absolute * growth if found.absolute > 0 else share * found.size,
    )
