"""Columns that arrive later: expressed by those that are kept, and more kept where the probes ask for it."""

import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.linalg import qr, solve_triangular

from . import coefficients as coef
from ._checks import check_tol
from ._threads import blas_threads, resolve_workers
from .certificate import Certificate, from_residuals
from .operands import as_operand
from .passes import PROBES, first_pass, sketch_height
from .results import Record, Status
from .tolerance import DECIDING, START, bound

if TYPE_CHECKING:
    from .interpolative import ColumnID


def extended(f: "ColumnID", columns, tol, rng, workers) -> "ColumnID":
    """The column ID of ``[A, B]`` from that of A and the matrix B."""
    from .interpolative import ColumnID, ledger

    began = time.perf_counter()
    operand, old = as_operand(columns), f.record.certificate
    _check(f, operand, old)
    tol = old.interval[1] if tol is None else check_tol(tol, None, "auto")
    generator, workers, n, k = np.random.default_rng(rng), resolve_workers(workers), f.shape[1], f.rank
    room = START
    while True:
        omega = generator.standard_normal((DECIDING + PROBES, f.shape[0]))
        height = sketch_height(k + min(room, operand.shape[1]))
        start = first_pass(operand, 0, generator, probes=0, workers=workers, omega=omega, height=height)
        sketch, factor = start.sketch, float(getattr(start.operand, "factor", 1.0))
        allowed = _allowed(old, math.sqrt(sketch.squared_norm) / factor, tol)
        kept = as_operand(f.C).scaled(factor) if factor != 1.0 else as_operand(f.C)
        if start.embedding is None:
            SC = kept.rows(np.arange(f.shape[0]))
            WC = omega.astype(np.real(SC).dtype) @ SC
        else:
            both = kept.sketch(start.embedding, omega, workers=workers)
            SC, WC = both.Y, both.W
        with blas_threads(1):
            J, X, Z, met = _express(SC, WC[:DECIDING], start, allowed, min(room, len(sketch.Y) - k))
        if met or len(J) < room or room >= min(operand.shape):
            break
        room *= 2
    W = sketch.W[DECIDING:]
    residual = W - WC[DECIDING:] @ X - W[:, J] @ Z
    new = ledger(start, residual, from_residuals(residual, sketch.squared_norm)) if sketch.squared_norm > 0 else None
    C: Any = _joined(f.C, operand.keep_columns(J, workers=workers))
    table = np.zeros((k + len(J), n + operand.shape[1]), dtype=f.dtype)
    table[:k, :n], table[:k, n:], table[k:, n:] = f.coefficients, X, Z
    said = f"{operand.shape[1]} columns that arrived later: {len(J)} of them kept, for an error within {tol:.3g}"
    record = Record(
        Status.TOLERANCE_MET if met else Status.TOLERANCE_MISSED, _combined(old, new),
        f.entries_read + operand.entries_read, f.seconds + time.perf_counter() - began, f.selection,
        (*f.record.choices, said), tuple(dict.fromkeys((*f.notes, *operand.notes))),
    )  # fmt: skip
    return ColumnID(np.concatenate([f.indices, n + J]), C, table, record)


def _check(f: "ColumnID", operand, old: Certificate) -> None:
    if not isinstance(f.coefficients, np.ndarray):
        raise TypeError(
            f"update works on arrays and sparse matrices, but this result holds {type(f.coefficients).__name__}s; make "
            "it from an array"
        )
    if operand.shape[0] != f.shape[0]:
        raise ValueError(
            f"what arrives has {operand.shape[0]} entries in each column (or row), but those of the {f.kind} have "
            f"{f.shape[0]}; they must agree"
        )
    if operand.dtype != f.dtype:
        raise TypeError(
            f"what arrives has dtype {operand.dtype}, but the factorisation has {f.dtype}; convert it first"
        )
    if operand.kind == "LinearOperator" or (old.gram is None and old.estimate > 0):
        raise ValueError(
            'an update adds up Frobenius errors over exact column norms: make the factorisation with norm="fro" from a '
            "matrix with entries (no LinearOperator), and pass such columns; a file of format 1 does not keep what it "
            "adds to, so make that factorisation anew"
        )


def _allowed(old: Certificate, size: float, tol: float) -> float:
    """The relative error of the new columns alone that keeps that of the whole within `tol`.

    It is `tol` itself at least, which keeps what was within: the upper end of an interval may lie above a tolerance
    that was met. Where the error so far is surely smaller, the new columns may use what it leaves.
    """
    low, high = old.interval
    if low > tol:
        raise ValueError(
            f"tol={tol:.3g} cannot be met: the error so far is {low:.3g} at least, and an update does not lower it; "
            "pass a larger tol, or factorise the whole matrix anew"
        )
    if size == 0.0:
        return 1.0
    share = old.size / size
    return math.sqrt(max(tol * tol * (1.0 + share * share) - (high * share) ** 2, tol * tol))


def _express(SC: np.ndarray, WC: np.ndarray, start, allowed: float, room: int):
    """(J, X, Z, met): ``B ~ C X + B[:, J] Z`` with as few columns J of B as the probes allow, `room` at most."""
    Y, W, squared = start.sketch.Y, start.sketch.W[:DECIDING], start.sketch.squared_norm
    b = Y.shape[1]
    at, Q, R = coef.independent(SC)
    G = Q.conj().T @ Y
    whole = np.zeros((SC.shape[1], b), dtype=Y.dtype)
    whole[at] = solve_triangular(R, G, check_finite=False) if len(at) else G[:0]
    E = W - WC @ whole
    nothing = np.empty(0, np.int64), whole, np.empty((0, b), Y.dtype)
    if squared == 0.0 or allowed >= 1.0 or bound(E, start.sketch) <= allowed:
        return *nothing, True
    rest = Y - Q @ G
    rest -= Q @ (Q.conj().T @ rest)
    found: tuple[Any, ...] = qr(rest, mode="economic", pivoting=True, check_finite=False)
    P, T, order = found
    diagonal = np.abs(np.diagonal(T))
    noise = 4 * max(Y.shape) * float(np.finfo(Y.dtype).eps) * float(np.linalg.norm(Y, axis=0).max())
    most = min(room, int((diagonal > noise).sum()))
    J, T = order[:most].astype(np.int64), T[:most, :most]
    H = P[:, :most].conj().T @ rest
    new = solve_triangular(T, E[:, J].T, trans=1, check_finite=False).T if most else E[:, J]
    j, met = 0, False
    while j < most and not met:
        E = E - new[:, j : j + 1] * H[j]
        j += 1
        met = bound(E, start.sketch) <= allowed
    if j == 0:
        return *nothing, False
    J = J[:j]
    Z = solve_triangular(T[:j, :j], H[:j], check_finite=False)
    Z[:, J] = np.eye(j, dtype=Z.dtype)
    X = whole - whole[:, J] @ Z
    X[:, J] = 0
    return J, X, Z, met


def _joined(C, new):
    if not hasattr(C, "nnz"):
        return np.hstack([C, new.toarray() if hasattr(new, "toarray") else new])
    import scipy.sparse

    return scipy.sparse.hstack([C, new if hasattr(new, "nnz") else scipy.sparse.csc_array(new)], format=C.format)


def _combined(old: Certificate, new: Certificate | None) -> Certificate:
    """Of ``[A, B]``, from independent probes of each: Gram matrices add up, as of a block diagonal error."""
    if new is None or new.gram is None:
        return old
    size = math.hypot(old.size, new.size)
    share = old.size / size, new.size / size
    gram = share[1] ** 2 * new.gram + (0.0 if old.gram is None else share[0] ** 2 * old.gram)
    # rows whose products are `gram` stand for the residuals
    values, vectors = np.linalg.eigh(gram)
    found = from_residuals(vectors * np.sqrt(np.maximum(values, 0.0)), 1.0)
    return replace(found, absolute=found.estimate * size, gram=gram, size=size)
