"""CUR: real columns, real rows, and a small core that is kept factored and never formed by an inverse."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import coefficients as coef
from ._checks import check_choice, check_indices, check_method, check_norm, check_rank, check_tol
from ._progress import reporting
from ._tensors import identity, solve_triangular, takes_tensors
from ._threads import blas_threads, resolve_workers
from .certificate import Certificate, from_residuals, of_nothing, spectral
from .cur_rank import nested
from .interpolative import FLAT, choose_columns
from .operands import Operand, as_operand
from .passes import PROBES, FirstPass, first_pass, squared_norms, unit
from .results import LinearResult, Product, Record, Status, dense
from .selection import Candidates, run_selection
from .selection.auto import CHEAP
from .selection.working import pivot_order
from .sketching import check_sketch
from .spectral_rank import ByBounds
from .tolerance import ByProbes, Growing, bound, columns_within, growing_for

CORES = ("auto", "sketched", "optimal", "cross")


@dataclass(frozen=True, eq=False, repr=False)
class Core(LinearResult):
    """``U = P^-1 M Q^-*`` with P and Q upper triangular: the core of a CUR as an operator.

    P : (c, c);  M : (c, r);  Q : (r, r). Products solve with P and Q; U itself may be badly conditioned and is
    formed by ``to_dense()`` alone.
    """

    P: np.ndarray
    M: np.ndarray
    Q: np.ndarray

    kind = "core"

    @property
    def shape(self):
        return self.M.shape

    @property
    def dtype(self):
        return self.M.dtype

    def _matmat(self, X):
        inner = solve_triangular(self.Q, X, trans=2) if len(self.Q) else X
        return solve_triangular(self.P, self.M @ inner) if len(self.P) else self.M @ inner

    def _rmatmat(self, X):
        inner = solve_triangular(self.P, X, trans=2) if len(self.P) else X
        inner = self.M.conj().T @ inner
        return solve_triangular(self.Q, inner) if len(self.Q) else inner

    def factors(self):
        return self._matmat(identity(self.shape[1], self.M)), identity(self.shape[1], self.M)

    def _lines(self):
        return [f"core of shape {self.shape}", "U = P^-1 M Q^-*, P and Q triangular"]


@dataclass(frozen=True, eq=False, repr=False)
class CUR(Product):
    """``A ~ C U R`` with C = A[:, columns] and R = A[rows, :]; made by `cur`.

    columns : (k,);  rows : (k + oversample,);  C : (m, k) and R : (k + oversample, n), sparse where A is;
    core : U as an operator.
    """

    columns: np.ndarray
    rows: np.ndarray
    C: np.ndarray
    R: np.ndarray
    core: Core
    record: Record

    kind = "CUR"
    parts = ("C", "core", "R")

    def _lines(self):
        return [self._head(f"{len(self.columns)} columns and {len(self.rows)} rows"), *self.record.lines()]


@takes_tensors
def cur(
    A, *, rank=None, tol=None, norm="fro", core="auto", oversample=0, selection="auto", indices=None,
    sketch="sparse", rng=None, workers=None, progress=False,
) -> CUR:  # fmt: skip
    r"""Approximate `A` by some of its columns and rows.

    .. math:: A \approx C U R, \qquad C = A_{:,J},\; R = A_{I,:}

    with the core :math:`U = (S C)^+ (S A) R^+` from a sketch of A (``core="sketched"``), :math:`U = C^+ A R^+`
    (``"optimal"``) or :math:`U = A_{I,J}^+` (``"cross"``). Each is kept as two triangular factors with a matrix between
    them, so that an ill-conditioned C or R does no harm.

    Parameters
    ----------
    A : (m, n) matrix of any kind that `as_operand` reads.
    rank : columns, ``0 <= rank <= min(m, n)``; the rows are as many and `oversample` more.
    tol : relative error of the CUR itself to reach, in place of a rank. With the optimal core, which "auto" takes
        here, the errors of all ranks are known from one projection of A, as in `column_id`; with the others, for a
        LinearOperator, blocks or a very small `tol`, 20 probes put it below `tol` with 99.9 % confidence.
    norm : "fro" or "spectral", the norm of the certificate and of `tol`.
    core : "auto" takes the sketched core, and the optimal one where the probes show that it is needed. "sketched" and
        "cross" are left for the optimal core only where the probes cannot rule out that zero would be nearer to A.
    oversample : rows beyond `rank`.
    selection : a name in `SELECTIONS`, for columns (on the sketch of A) and rows (on the chosen columns).
    indices : the pair (columns, rows), for ``selection="given"``.
    sketch, rng, workers, progress : as in `column_id`.

    Returns
    -------
    CUR
        A linear operator; ``certificate`` holds its relative error with a 95 % interval.

    Raises
    ------
    ValueError, TypeError
        As `column_id`; also for an unknown core.

    Complexity
    ----------
    That of `column_id`, and 2 m k^2 flops for the rows, 4 n k^2 for the core; ``"optimal"`` reads A once more
    (2 m n k flops). Entries read: m n + k (m + n).

    References
    ----------
    Nakatsukasa and Park (2025), Accuracy and stability of CUR decompositions with oversampling, doi
    10.1137/24M1660749; Voronin and Martinsson (2017), doi 10.1007/s10444-016-9494-8;
    Sorensen and Embree (2016), A DEIM induced CUR factorization, doi 10.1137/140978430 (the optimal core).

    Examples
    --------
    >>> import numpy as np, lowrank as lr
    >>> x = np.linspace(0, 1, 200)
    >>> A = 1 / (1 + x[:, None] + 2 * x)
    >>> g = lr.cur(A, rank=6, rng=7)
    >>> bool((g.C == A[:, g.columns]).all() and (g.R == A[g.rows]).all())
    True
    >>> bool(g.certificate.interval[1] < 1e-5)
    True
    """
    began = time.perf_counter()
    operand = as_operand(A)
    check_norm(norm)
    check_choice(core, CORES, "core")
    check_method(selection, "selection")
    if tol is None:
        k = check_rank(rank, operand.shape, instead=", or tol=")
    else:
        tol, k = check_tol(tol, rank, selection), 0
        check_indices(indices, operand.shape[1], k, selection)
    extra = check_rank(oversample, (operand.shape[0] - k, operand.shape[0]), name="oversample", most="the rows left")
    sketch = check_sketch(sketch, operand.shape[0], k, operand.dtype)
    J, rows = _given(indices, operand.shape, k, extra, selection)
    workers = resolve_workers(workers)
    before = operand.entries_read
    choices: list[str] = []
    known: Certificate | None = None
    generator = np.random.default_rng(rng)
    with reporting(progress, 5, "stage", operand) as report:
        if tol is None:
            start = first_pass(operand, k, generator, probes=PROBES, workers=workers, sketch=sketch)
            report(1)
            J, _, method, status = choose_columns(start, k, selection, J, workers, choices)
            report(2)
            parts = _parts(operand, start, J, extra, selection, rows, core, workers)
            if parts.repaired and status is Status.RANK_REACHED:
                status = Status.REPAIRED
        else:
            start, J, parts, method, status, known = _within(
                operand, tol, norm, extra, selection, core, sketch, generator, workers, choices
            )
        report(4)
        certificate = known or _certify(start, J, parts.core, parts.R)
        choices.append(f"rows by {parts.rule}, on the chosen columns")
        if status is Status.EXACT_RANK and not certificate.estimate <= 1e4 * np.finfo(parts.C.dtype).eps:
            status = Status.DEPENDENT  # the probes disagree that nothing is left
        choices.append(f"core {parts.found}")
        if norm == "spectral" and not known:
            certificate = spectral(start.operand, *_products(parts), start.rng, workers)
        if not len(J):
            certificate = of_nothing(certificate)
        if parts.spanned < len(J) and status in (Status.RANK_REACHED, Status.EXACT_RANK, Status.REPAIRED):
            status = Status.DEPENDENT
        report(5)
    record = Record(
        status, certificate, operand.entries_read - before, time.perf_counter() - began, method, tuple(choices),
        operand.notes,
    )  # fmt: skip
    return CUR(J, parts.rows, parts.C, parts.R, parts.core, record)


@dataclass(frozen=True, eq=False)
class _Parts:
    """What a choice of columns leads to: rows, of which `spanned` are independent, and the core of the kind `found`."""

    rows: np.ndarray
    C: Any
    R: Any
    core: Core
    spanned: int
    rule: str
    found: str
    repaired: bool


def _parts(operand: Operand, start: FirstPass, J, extra: int, selection: str, rows, core: str, workers: int) -> _Parts:
    """Rows for the columns J, and the core; the optimal one where probes show that the other one loses too much."""
    C = operand.keep_columns(J, workers=workers)
    rows, rule = choose_rows(dense(C), len(J), extra if len(J) else 0, selection, rows, start.rng)
    R = operand.keep_rows(rows, workers=workers)
    kind = "sketched" if core == "auto" else core
    made, spanned = _core(start, dense(C), dense(R), J, kind, workers)
    repaired = len(J) > 0 and kind != "optimal" and _poor(start, J, made, R, core == "auto")
    if repaired:
        kind = "optimal"
        made, spanned = _core(start, dense(C), dense(R), J, kind, workers)
    return _Parts(rows, C, R, made, spanned, rule, kind, repaired)


def _within(
    operand: Operand,
    tol: float,
    norm: str,
    extra: int,
    selection: str,
    core: str,
    sketch,
    rng,
    workers: int,
    choices: list[str],
):
    """(first pass, columns, parts, rule, status, certificate) of the least CUR whose own error is within `tol`.

    With the optimal core, which "auto" takes here, `nested` finds it. Otherwise the deciding probes judge, and columns
    that are enough for an ID are the fewest that may do; a sixteenth more at a time until the CUR is within, and then
    halves of the last step.
    """
    if core in ("auto", "optimal") and tol < 1:
        growing, judge = growing_for(operand, rng, workers, sketch, norm, tol)
        best = None
        if not isinstance(judge, ByProbes):
            best = nested(growing, judge, tol, extra, selection, choose_rows, choices)
        if best is not None:
            factor = best.M.dtype.type(getattr(growing.start.operand, "factor", 1.0))
            C, R = operand.keep_columns(best.J, workers=workers), operand.keep_rows(best.rows, workers=workers)
            middle = Core(best.P, factor * best.M, best.T)
            parts = _Parts(best.rows, C, R, middle, len(best.J), best.rule, "optimal", False)
            return growing.start, best.J, parts, best.found.method, best.met, best.certificate
    growing = Growing(operand, rng, workers, sketch)
    judge = ByBounds(growing) if norm == "spectral" else ByProbes(growing)
    found = columns_within(growing, judge, tol, selection, choices)
    status, method = found.status, found.method

    def made(J: np.ndarray) -> _Parts:
        return _parts(operand, growing.start, J, min(extra, operand.shape[0] - len(J)), selection, None, core, workers)

    def met(J: np.ndarray, parts: _Parts) -> bool:
        if norm == "spectral":
            return growing.spectral_error(*_products(parts)) <= tol
        W = growing.deciding
        return growing.bound(W - W[:, J] @ parts.core._matmat(dense(parts.R))) <= tol

    J, parts = found.J, made(found.J)
    if status is not Status.TOLERANCE_MET or tol >= 1 or met(J, parts):
        return growing.start, J, parts, method, status, None
    few, enough, tries = len(J), 0, 1
    k = few + max(1, few // 16)
    while k > few:
        growing.grow(min(k, growing.limit))
        wider, _, rule, _ = choose_columns(growing.start, min(k, growing.limit), selection, None, workers, [])
        candidate = made(wider)
        tries += 1
        if len(wider) > few and met(wider, candidate):
            J, parts, method, enough = wider, candidate, rule, len(wider)
        elif enough:
            few = k
        elif len(wider) <= few:  # no further column that does not depend on the others
            status = Status.TOLERANCE_MISSED
            break
        else:
            J, parts, method, few = wider, candidate, rule, len(wider)
        if enough:
            k = (few + enough) // 2 if enough - few > max(1, enough // 64) else few
        else:
            k = few + max(1, few // 16)
    choices.append(f"{len(J)} columns and {len(parts.rows)} rows after {tries} tries, the least CUR that is within")
    return growing.start, J, parts, method, status, None


def _products(parts: _Parts):
    """Products with the CUR of these parts, and with its adjoint."""
    U, C, R = parts.core, parts.C, parts.R
    return lambda X: C @ U._matmat(R @ X), lambda X: R.conj().T @ U._rmatmat(C.conj().T @ X)


def _given(indices, shape, k: int, extra: int, selection: str):
    if indices is None:
        check_indices(None, shape[1], k, selection, name="indices")
        return None, None
    if not isinstance(indices, (tuple, list)) or len(indices) != 2:
        raise TypeError("indices must be a pair (columns, rows)")
    J = check_indices(indices[0], shape[1], k, selection, name="indices[0]")
    return J, check_indices(indices[1], shape[0], k + extra, selection, name="indices[1]")


def choose_rows(C: np.ndarray, k: int, extra: int, selection: str, given, rng) -> tuple[np.ndarray, str]:
    """k rows that span the others of C, and `extra` more with the largest coefficients in them."""
    if given is not None:
        return given, "given"
    if k == 0:
        return np.empty(0, dtype=np.int64), selection
    rule = selection if selection != "auto" else ("osinsky" if C.shape[0] * k**2 <= CHEAP else "lu")
    Y = np.array(C.T, order="C")  # a copy: C itself belongs to the result
    scale = float(np.abs(Y).max())
    if not 1e-9 < scale < 1e9:
        Y *= C.dtype.type(unit(scale, C.dtype))
    rows = run_selection(rule, Candidates(Y, squared_norms(Y), k, rng, exact=True)).indices
    with blas_threads(1):
        rows = rows[coef.independent(Y[:, rows])[0]]
        if len(rows) < k:
            rows = _filled(Y, rows)
            rule += ", and by qr where these depended on each other"
        if extra:
            weights = np.linalg.norm(np.linalg.lstsq(Y[:, rows], Y, rcond=None)[0], axis=0)
            weights[rows] = -1.0
            rows = np.concatenate([rows, np.argsort(-weights, kind="stable")[:extra]])
    return rows, rule


def _filled(Y: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """`rows` (independent columns of Y), and by pivoted QR of what these leave as many more as Y has rank for.

    A row that comes late may be so much longer than the first ones that some of these are nothing beside it: then
    others take their places, until all are as many as wanted or none is left.
    """
    for _ in range(len(Y)):
        Q, _ = coef.orthogonal(Y[:, rows])
        E = Y - Q @ (Q.conj().T @ Y)
        E[:, rows] = 0.0
        more = np.setdiff1d(pivot_order(E)[1], rows, assume_unique=True)[: len(Y) - len(rows)]
        if not len(more):
            break
        rows = np.concatenate([rows, more])
        rows = rows[coef.independent(Y[:, rows])[0]]
        if len(rows) == len(Y):
            break
    return rows


def _core(start: FirstPass, C, R, J, kind: str, workers: int) -> tuple[Core, int]:
    """The core of the kind asked for, and how many rows it has a use for; the others depend on these to rounding."""
    dtype = C.dtype
    factor = dtype.type(getattr(start.operand, "factor", 1.0))
    kept = np.empty(0, np.int64)
    with blas_threads(1):
        if len(J) == 0 or len(R) == 0:
            made = Core(np.eye(len(J), dtype=dtype), np.zeros((len(J), len(R)), dtype), np.eye(len(R), dtype=dtype))
        elif kind == "cross":
            kept, W, T = coef.independent((factor * R)[:, J])
            M = np.zeros((len(J), len(R)), dtype)
            M[kept] = factor * W.conj().T
            made = Core(_bordered(T, kept, len(J)), M, np.eye(len(R), dtype=dtype))
        else:
            kept, Qr, T = coef.independent((factor * R).conj().T)  # rows beyond the rank of R add nothing to its span
            M = np.zeros((len(J), len(R)), dtype)
            if kind == "optimal":
                Z = coef.exact(factor * C, start.sketch.Y[:, J], start.operand, workers=workers)
                P, M[:, kept] = np.eye(len(J), dtype=dtype), factor * (Z @ Qr)
            else:
                Y = start.sketch.Y
                Qc, P = coef.orthogonal(Y[:, J])
                M[:, kept] = factor * ((Qc.conj().T @ Y) @ Qr)
            made = Core(P, M, _bordered(T, kept, len(R)))
    if not all(np.isfinite(part).all() for part in (made.P, made.M, made.Q)):
        raise ValueError("the entries of A are too large for a core in this dtype; scale A first")
    return made, len(kept)


def _bordered(T: np.ndarray, kept: np.ndarray, size: int) -> np.ndarray:
    """The triangle T at the ascending positions `kept` of an identity of order `size`: a triangle again."""
    out = np.eye(size, dtype=T.dtype)
    out[np.ix_(kept, kept)] = T
    return out


def _poor(start: FirstPass, J, core: Core, R, free: bool) -> bool:
    """Whether a core loses too much: one that was asked for may lose all but what zero would."""
    if free:
        return _certify(start, J, core, R).interval[1] > FLAT
    W = start.sketch.W
    return bound(W - W[:, J] @ core._matmat(dense(R)), start.sketch) > 1


def _certify(start: FirstPass, J, core: Core, R) -> Certificate:
    """By the probes of the first pass, which had no part in making the CUR."""
    W = start.sketch.W
    with blas_threads(1):
        residual = W - W[:, J] @ core._matmat(dense(R))
    found = from_residuals(residual, start.sketch.squared_norm, norms=start.sketch.norm_interval())
    scale = float(getattr(start.operand, "factor", 1.0))
    size = float(np.sqrt(start.sketch.squared_norm)) / scale
    return Certificate(found.estimate, found.interval, found.absolute / scale, found.probes, size=size)
