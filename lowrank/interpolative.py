"""Interpolative decompositions: real columns or rows of A, and the coefficients that express all others by them."""

import math
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from . import coefficients as coef
from ._checks import check_choice, check_indices, check_method, check_norm, check_rank, check_tol
from ._progress import reporting
from ._tensors import takes_tensors
from ._threads import blas_threads, resolve_workers
from .certificate import Certificate, from_residuals, of_nothing, spectral
from .operands import Operand, as_operand
from .operands.sparse import Sparse
from .passes import PROBES, FirstPass, first_pass
from .results import Product, Record, Status, dense
from .selection import RANK_REVEALING, run_selection
from .selection.strong_rrqr import exchanges
from .selection.working import working
from .sketching import check_sketch
from .tolerance import columns_within, growing_for, grown

FLAT = 0.9  # relative error above which sketched coefficients are replaced by exact ones
SPARE = 16  # rows of a sketch beyond k that selections compress away


@dataclass(frozen=True, eq=False, repr=False)
class ColumnID(Product):
    """``A ~ C Z`` with C = A[:, indices]; made by `column_id`.

    indices : (k,) columns of A in order of choice;  C : (m, k), sparse where A is;  coefficients : Z, (k, n),
    with an identity at `indices`;  rank, status, certificate, entries_read, selection, notes, seconds.
    """

    indices: np.ndarray
    C: np.ndarray
    coefficients: np.ndarray
    record: Record

    kind = "column ID"
    parts = ("C", "coefficients")

    def update(self, *, columns, tol=None, rng=None, workers=None) -> "ColumnID":  # pyright: ignore[reportIncompatibleMethodOverride]
        """The column ID of ``[A, columns]``, without another look at A.

        The columns kept so far express the new ones too, as far as they can; where that leaves more than `tol`, some of
        the new columns are kept as well, as few as 20 probes allow. The coefficients of A's columns stay as they are.

        Parameters
        ----------
        columns : (m, b) matrix of any kind that `as_operand` reads, of the same dtype.
        tol : relative error of the whole, as in `column_id`; None means the upper end of this result's interval.
        rng : seed or numpy Generator. Take another seed than the one that made the result.
        workers : threads; None means all.

        Raises
        ------
        ValueError
            If `columns` has another height, `tol` is below what this result has, or the result's certificate is not one
            in the Frobenius norm with exact column norms.
        TypeError
            If the dtypes differ.

        Complexity
        ----------
        One pass over `columns` for each doubling of what is kept of them, a sketch of C, and O((k + j) d b) flops with
        d about 3 (k + j). Nothing is stored for it but p^2 numbers of the certificate.

        Examples
        --------
        >>> import numpy as np, lowrank as lr
        >>> A = np.vander(np.linspace(0, 1, 300), 40)
        >>> f = lr.column_id(A[:, :20], tol=1e-6, rng=7)
        >>> g = f.update(columns=A[:, 20:], tol=1e-6, rng=8)
        >>> g.shape, bool(g.relative_error(A) <= 1e-6)
        ((300, 40), True)
        """
        from .updating import extended

        return extended(self, columns, tol, rng, workers)


@dataclass(frozen=True, eq=False, repr=False)
class RowID(Product):
    """``A ~ X R`` with R = A[indices, :]; made by `row_id`.

    indices : (k,) rows of A in order of choice;  R : (k, n), sparse where A is;  coefficients : X, (m, k),
    with an identity at `indices`.
    """

    indices: np.ndarray
    R: np.ndarray
    coefficients: np.ndarray
    record: Record

    kind = "row ID"
    parts = ("coefficients", "R")

    def update(self, *, rows, tol=None, rng=None, workers=None) -> "RowID":  # pyright: ignore[reportIncompatibleMethodOverride]
        """The row ID of A with `rows` below it, without another look at A; as `ColumnID.update`, of the transpose."""
        from .updating import extended

        turned = ColumnID(self.indices, self.R.T, self.coefficients.T, self.record)
        f = extended(turned, as_operand(rows).T, tol, rng, workers)
        R = f.C.T if hasattr(f.C, "nnz") else np.ascontiguousarray(f.C.T)
        return RowID(f.indices, R, np.ascontiguousarray(f.coefficients.T), f.record)


@takes_tensors
def column_id(
    A, *, rank=None, tol=None, norm="fro", quality="fast", selection="auto", indices=None, sketch="sparse",
    rng=None, workers=None, progress=False,
) -> ColumnID:  # fmt: skip
    r"""Express all columns of `A` by `rank` of them.

    .. math:: A \approx A_{:,J} Z, \qquad Z_{:,J} = I, \qquad Z = (S A_{:,J})^+ S A

    with S a random map of about 3 `rank` rows (``quality="fast"``), or :math:`Z = A_{:,J}^+ A`
    (``quality="best"``).

    Parameters
    ----------
    A : (m, n) matrix of any kind that `as_operand` reads; float32, float64, complex64, complex128.
    rank : columns to keep, ``0 <= rank <= min(m, n)``.
    tol : relative error ``||A - C Z||_F <= tol ||A||_F`` to reach, in place of a rank. A sketch says how many columns
        that may take, a pass over A how few: the coefficients are exact and the errors of all ranks known, and the
        least that is within is kept. Where A is a LinearOperator, or `tol` is below 2e-6 (5e-5 with a million rows,
        0.035 in single precision), 20 probes decide with 99.9 % confidence.
    norm : "fro" or "spectral", the norm of the certificate and of `tol`; the spectral one takes some six passes over A
        more.
    quality : "fast" reads A once beside the chosen columns; "best" reads it twice and gives the least error that the
        chosen columns allow.
    selection : a name in `SELECTIONS`; "auto" looks at the spectrum, and ``explain()`` says what it took and why.
    indices : the columns themselves, for ``selection="given"``.
    sketch : S, as "sparse" (4 m n additions), "gaussian" (2 d m n flops), "trigonometric" (about 2.5 m n log m flops),
        or a (d, m) array, sparse matrix, LinearOperator or object with ``.shape`` and ``@``; d at least `rank`, and
        two to four times as much for good coefficients.
    rng : seed or numpy Generator (SPEC 7).
    workers : threads; None means every core that the process may use.
    progress : False, True or ``callable(done, total)``.

    Returns
    -------
    ColumnID
        A linear operator; ``certificate`` holds its relative error, measured on 10 probes that the computation did
        not use, with a 95 % interval.

    Raises
    ------
    ValueError
        For a rank out of range, entries that are not finite, or a name that is not known.
    TypeError
        For a kind or dtype of A that is not read.

    Complexity
    ----------
    Fast: 4 m n additions, one more for the certificate (20 m n flops where A has fewer than 2560 rows, or is neither an
    array nor a file), and 6 n k^2 flops for the coefficients; m (n + k) entries of A read; memory (3 k + 336) n + m k
    numbers. Best: another m n entries and 2 m n k flops, twice that where columns are nearly dependent.

    References
    ----------
    Dong and Martinsson (2023), Simpler is better, doi 10.1007/s10444-023-10061-z;
    Dong, Chen, Martinsson and Pearce (2023), Robust blockwise random pivoting, arXiv 2309.16002, section 5
    (oversampled sketchy coefficients).

    Examples
    --------
    >>> import numpy as np, lowrank as lr
    >>> A = np.vander(np.linspace(0, 1, 300), 40)
    >>> f = lr.column_id(A, rank=10, rng=7)
    >>> f.C.shape, f.coefficients.shape
    ((300, 10), (10, 40))
    >>> bool(f.certificate.interval[1] < 1e-4)
    True
    """
    operand = as_operand(A)
    parts = decompose(operand, rank, tol, norm, quality, selection, indices, sketch, rng, workers, progress)
    return ColumnID(*parts)


@takes_tensors
def row_id(
    A, *, rank=None, tol=None, norm="fro", quality="fast", selection="auto", indices=None, sketch="sparse",
    rng=None, workers=None, progress=False,
) -> RowID:  # fmt: skip
    r"""Express all rows of `A` by `rank` of them: the column ID of the transpose.

    .. math:: A \approx X A_{I,:}, \qquad X_{I,:} = I

    Parameters
    ----------
    A, rank, tol, norm, quality, selection, indices, rng, workers, progress : as in `column_id`, with rows for columns.
    sketch : a name, or a sketch of the transpose of A, of shape (d, n).

    Returns
    -------
    RowID

    Examples
    --------
    >>> import numpy as np, lowrank as lr
    >>> A = np.vander(np.linspace(0, 1, 300), 40).T
    >>> g = lr.row_id(A, rank=10, rng=7)
    >>> bool(np.allclose(g.coefficients[g.indices], np.eye(10)))
    True
    """
    operand = as_operand(A).T
    J, C, Z, record = decompose(operand, rank, tol, norm, quality, selection, indices, sketch, rng, workers, progress)
    return RowID(J, C.T if hasattr(C, "nnz") else np.ascontiguousarray(C.T), np.ascontiguousarray(Z.T), record)


def decompose(operand: Operand, rank, tol, norm, quality, selection, indices, sketch, rng, workers, progress):
    """Indices, C, Z and the record of a column ID of `operand`."""
    began = time.perf_counter()
    check_norm(norm)
    check_choice(quality, ("fast", "best"), "quality")
    check_method(selection, "selection")
    if tol is None:
        k = check_rank(rank, operand.shape, instead=", or tol=")
        indices = check_indices(indices, operand.shape[1], k, selection)
    else:
        tol, k = check_tol(tol, rank, selection), 0
        check_indices(indices, operand.shape[1], k, selection)
    sketch = check_sketch(sketch, operand.shape[0], k, operand.dtype)
    workers = resolve_workers(workers)
    before = operand.entries_read
    choices: list[str] = []
    sparse = isinstance(operand, Sparse) and tol is None
    C: Any = None
    known: Certificate | None = None

    def exactly(start: FirstPass, J: np.ndarray, workers: int) -> tuple[np.ndarray, np.ndarray]:
        """Independent ones of the columns J, and all columns of A itself expressed by them."""
        nonlocal C
        with blas_threads(1):
            J = J[coef.independent(start.sketch.Y[:, J])[0]]
        C = operand.keep_columns(J, workers=workers)
        return J, _exactly(start, C, J, workers)

    # Small products would wake BLAS's own threads, which then spin for tens of milliseconds on the cores that our pool
    # needs for the next pass over A: 168 against 110 ms for calls in a row on two cores.
    with blas_threads(1), reporting(progress, 4, "stage", operand) as report:
        generator = np.random.default_rng(rng)
        if tol is None:
            height = k + SPARE if sparse else None  # coefficients that are exact anyway need no rows of the sketch
            start = first_pass(operand, k, generator, probes=PROBES, workers=workers, height=height, sketch=sketch)
            sparse = sparse and not start.exact
            report(1)
            exact = sparse or (quality == "best" and not start.exact)
            express = _sparse_coefficients if sparse else exactly if exact else _coefficients
            J, Z, method, status = choose_columns(
                start, k, selection, indices, workers, choices, express, careful=quality == "best"
            )
        else:
            growing, judge = growing_for(operand, generator, workers, sketch, norm, tol)
            report(1)
            found = columns_within(growing, judge, tol, selection, choices)
            start, J, Z, method, status = growing.start, found.J, found.Z, found.method, found.status
            exact, known = found.best and not start.exact, found.certificate
        report(2)
        if C is None:
            C = operand.keep_columns(J, workers=workers)
        report(3)
        certificate = known or _certify(start, J, Z)
        rough = len(J) > 0 and not (exact or start.exact)
        source = f"coefficients from {start.source}"
        if exact and len(J):
            how = "by products of sparse matrices" if sparse else "from a second pass over A"
            source = f"exact coefficients, {how}"
        poor = rough and certificate.interval[1] > FLAT
        if rough and norm == "spectral" and not poor and quality == "fast":
            certificate = _spectral(start, C, Z, workers)
            poor = certificate.interval[1] > 1  # small squares, but one direction where zero may be nearer to A
        if rough and (quality == "best" or poor):
            if quality == "fast" and status is Status.RANK_REACHED:
                status = Status.REPAIRED
            Z, rough = _exactly(start, C, J, workers), False
            certificate = _certify(start, J, Z)
            source = "exact coefficients, from a second pass over A"
        choices.append(source)
        if status is Status.EXACT_RANK and not certificate.estimate <= 1e4 * np.finfo(C.dtype).eps:
            status = Status.DEPENDENT  # the probes disagree that nothing is left
        if norm == "spectral" and not known and not rough:
            certificate = _spectral(start, C, Z, workers)
        if not len(J):
            certificate = of_nothing(certificate)
        report(4)
    record = Record(
        status, certificate, operand.entries_read - before, time.perf_counter() - began, method, tuple(choices),
        operand.notes,
    )  # fmt: skip
    return J, C, Z, record


def choose_columns(
    start: FirstPass, k: int, selection: str, indices, workers: int, choices: list[str], express=None,
    careful: bool = False,
):  # fmt: skip
    """Columns and coefficients: (J, Z, name of the rule, status); appends to `choices` what was decided.

    ``express(start, J, workers)`` gives the independent ones of the columns J, and Z; without it the sketch does.
    """
    express = express or _coefficients
    Y = start.sketch.Y
    if start.sketch.squared_norm == 0.0 or k == 0:
        status = Status.EMPTY if k == 0 or Y.size == 0 else Status.ZERO
        return np.empty(0, np.int64), np.empty((0, Y.shape[1]), Y.dtype), selection, status
    choice = run_selection(selection, start.candidates(k, indices, careful))
    J, Z = express(start, choice.indices, workers)
    reason = choice.reason
    if selection == "auto" and choice.method != "osinsky" and grown(Z):
        reason = f"the rule {choice.method} left coefficients up to {np.abs(Z).max():.3g}, a sign of a bad choice"
        choice = run_selection("osinsky", start.candidates(k))
        J, Z = express(start, choice.indices, workers)
    choices.append(f"columns by {choice.method}" + (f", because {reason}" if reason else ""))
    if start.exact and choice.method in RANK_REVEALING and grown(Z):
        J, Z = _exchanged(start, J, Z, workers, choices)
    if len(J) == k:
        status = Status.RANK_REACHED
    else:
        status = Status.EXACT_RANK if selection == "auto" or selection in RANK_REVEALING else Status.DEPENDENT
    return J, Z, choice.method, status


def _coefficients(start: FirstPass, J: np.ndarray, workers: int) -> tuple[np.ndarray, np.ndarray]:
    """Independent ones of the columns J, and all columns of the sketch expressed by them."""
    Y = start.sketch.Y
    with blas_threads(1):
        kept, Q, R = coef.independent(Y[:, J])
    J = J[kept]
    Z = coef.solve(Q, R, Y, workers=workers)
    Z[:, J] = np.eye(len(J), dtype=Z.dtype)
    return J, Z


def _exactly(start: FirstPass, C, J: np.ndarray, workers: int) -> np.ndarray:
    """``C^+ A`` by a second pass, with an identity at J."""
    factor = getattr(start.operand, "factor", 1.0)
    scaled = dense(C if factor == 1.0 else C * C.dtype.type(factor))
    Z = coef.direct(scaled, J, start.sketch, start.operand, start.rng, workers=workers)
    if Z is None:
        Z = coef.exact(scaled, start.sketch.Y[:, J], start.operand, workers=workers)
    Z[:, J] = np.eye(len(J), dtype=Z.dtype)
    return Z


def _sparse_coefficients(start: FirstPass, J: np.ndarray, workers: int) -> tuple[np.ndarray, np.ndarray]:
    """Independent ones of the columns J, and all columns of the sparse A itself expressed by them."""
    SC = start.sketch.Y[:, J]
    with blas_threads(1):
        kept = coef.independent(SC)[0]
        J = J[kept]
        Z = coef.normal(start.operand.keep_columns(J), SC[:, kept], start.operand)
    Z[:, J] = np.eye(len(J), dtype=Z.dtype)
    return J, Z


def _exchanged(start: FirstPass, J: np.ndarray, Z: np.ndarray, workers: int, choices: list[str]):
    """J and Z after the exchanges of a strong RRQR, where Y is A itself and these lower the error."""
    with blas_threads(1), np.errstate(under="ignore"):
        A = working(start.sketch.Y)
        better, _ = exchanges(A, J)
        K, X = _coefficients(start, better, workers)
        before, after = (float(np.linalg.norm(A - A[:, chosen] @ B)) for chosen, B in ((J, Z), (K, X)))
    if len(K) < len(J) or not after < before:
        return J, Z
    count = len(np.setdiff1d(J, K))
    choices.append(f"{count} of them exchanged as in strong_rrqr, since coefficients grew to {np.abs(Z).max():.3g}")
    return K, X


def ledger(start: FirstPass, residual: np.ndarray, found: Certificate) -> Certificate:
    """`found` in A's own units, with what an update needs to go on from it."""
    factor, sketch = float(getattr(start.operand, "factor", 1.0)), start.sketch
    gram = None
    if sketch.loose is None and sketch.squared_norm > 0:
        R = residual / np.sqrt(sketch.squared_norm)
        R = (np.hstack([np.real(R), np.imag(R)]) if R.dtype.kind == "c" else R).astype(np.float64)
        gram = R @ R.T
    return replace(found, absolute=found.absolute / factor, gram=gram, size=math.sqrt(sketch.squared_norm) / factor)


def _certify(start: FirstPass, J: np.ndarray, Z: np.ndarray) -> Certificate:
    W = start.sketch.W
    residual = W - W[:, J] @ Z
    found = from_residuals(residual, start.sketch.squared_norm, norms=start.sketch.norm_interval())
    return ledger(start, residual, found)


def _spectral(start: FirstPass, C, Z: np.ndarray, workers: int) -> Certificate:
    """By Golub-Kahan steps from a start of their own."""
    return spectral(start.operand, lambda X: C @ (Z @ X), lambda X: Z.conj().T @ (C.conj().T @ X), start.rng, workers)
