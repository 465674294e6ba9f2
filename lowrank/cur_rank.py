"""The least CUR within a tolerance, from one projection of A on columns: all ranks are arithmetic on small parts.

With ``C = Q P``, ``R^* = W T`` and ``G = Q^* A``, the optimal core is ``P^-1 M T^-*`` for ``M = G W``, and
``||A - C U R||_F^2 = ||A||_F^2 - ||M||_F^2``. Columns come in order and rows as LU picks them for the columns in this
order, so that the leading parts of P, M and T are those of every smaller CUR.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import solve_triangular

from . import coefficients as coef
from ._threads import blas_threads
from .certificate import Certificate
from .projection import Expansion
from .results import Status, dense
from .spectral_rank import POINTS, ByBounds, largest
from .tolerance import ByNorms, Found, Growing, columns_within, first, grown, rounding

AIM = 0.65  # share of the tolerance that the columns alone are to meet; a CUR loses to its rows as well
SHRINK = 0.6  # of the aim, where that was not enough
ROUGH = 0.01  # share of the tolerance that rounding in the core may be
TRIES = 6


@dataclass(frozen=True, eq=False)
class Nested:
    """Columns and rows of the CUR found, its triangles and what stands between them, and how good it is."""

    J: np.ndarray
    rows: np.ndarray
    P: np.ndarray
    M: np.ndarray
    T: np.ndarray
    rule: str
    found: Found
    certificate: Certificate | None
    met: Status


def nested(growing: Growing, judge: Any, tol: float, extra: int, selection: str, choose_rows, choices: list[str]):
    """The least `Nested` that the judge puts within `tol`; None where no rank is, or rows depend on each other."""
    aim = AIM * tol
    for _ in range(TRIES):
        said: list[str] = []
        found = columns_within(growing, judge, aim, selection, said)
        expansion = found.expansion
        if expansion is None or expansion.size == 0:
            return None
        parts = _rows(growing, expansion, extra, selection, choose_rows)
        if parts is None:
            return None
        rows, rule, M, T = parts
        start, k = growing.start, expansion.size
        before = len(rows) - k
        P = expansion.R[:k, :k]
        if isinstance(judge, ByNorms):
            e = _errors(M, before, start.sketch.squared_norm)
            j = first(e + rounding(start.operand) <= tol * tol)
            known = None if j is None else judge.known(float(e[j - 1]))
        else:
            j = _spectral(judge, expansion, rows, P, M, T, before, tol)
            known = None if j is None else judge.certificate(j)
        if j is not None and grown(expansion.coefficients(j)):
            j = k if isinstance(judge, ByNorms) and j < k and not grown(found.Z) else None  # as few are too rough
            known = None if j is None else judge.known(float(e[j - 1]))
        if j is not None and _rough(M[:j, : before + j], T[: before + j, : before + j], start) > ROUGH * tol:
            return None
        if j is not None:
            r = before + j
            choices.append(said[0])
            choices.append(
                f"{j} columns and {r} rows out of {k}, the least CUR that {judge.name} put within tol={tol:g}"
            )
            return Nested(expansion.J[:j], rows[:r], P[:j, :j], M[:j, :r], T[:r, :r], rule, found, known, judge.met)
        if found.status is Status.TOLERANCE_MISSED or k == growing.limit:
            return None
        aim *= SHRINK
    return None


def _rows(growing: Growing, expansion: Expansion, extra: int, selection: str, choose_rows):
    """(rows, rule, M, T): extra rows first, then one for each column."""
    start, k = growing.start, expansion.size
    operand, workers = start.operand, growing.workers
    C = dense(operand.keep_columns(expansion.J[:k], workers=workers))
    wanted = min(extra, len(C) - k)
    rows, rule = choose_rows(C, k, wanted, "lu" if selection == "auto" else selection, None, start.rng)
    if len(rows) < k + wanted:
        return None
    rows = np.concatenate([rows[k:], rows[:k]])
    R = dense(operand.keep_rows(rows, workers=workers))
    with blas_threads(1):
        kept, W, T = coef.independent(R.conj().T)
        if len(kept) < len(rows):
            return None
        return rows, rule, expansion.G @ W, T


def _errors(M: np.ndarray, before: int, squared_norm: float) -> np.ndarray:
    """Squared relative errors of the CURs of 1 to k columns and `before` more rows."""
    squares = np.real(M).astype(np.float64) ** 2 + np.imag(M).astype(np.float64) ** 2
    sums = np.cumsum(np.cumsum(squares, axis=0), axis=1)
    j = np.arange(len(M))
    return np.maximum(1.0 - sums[j, before + j] / squared_norm, 0.0)


def _rough(M: np.ndarray, T: np.ndarray, start) -> float:
    """What rounding in ``(M T^-*) R`` may add to the relative error: rows of R that cancel (their lengths are T's)."""
    X = solve_triangular(T, M.conj().T, check_finite=False)
    lost = float(np.linalg.norm(X, axis=1).astype(np.float64) @ np.linalg.norm(T, axis=0).astype(np.float64))
    return float(np.finfo(M.dtype).eps) * lost / float(np.sqrt(start.sketch.squared_norm))


def _spectral(judge: ByBounds, expansion: Expansion, rows, P, M, T, before: int, tol: float) -> int | None:
    """The least rank by looks at the CUR itself; first where what columns and rows lose, in quadrature, says."""
    start, workers, k = judge.growing.start, judge.growing.workers, expansion.size
    operand, J = start.operand, expansion.J
    estimate = judge._falling(expansion)
    K, at = expansion.G @ expansion.G.conj().T, np.unique(np.linspace(1, k, min(k, POINTS)).astype(int))
    lost = [largest(K[:j, :j] - M[:j, : before + j] @ M[:j, : before + j].conj().T) / judge.size for j in at]
    estimate = np.hypot(estimate, np.interp(np.arange(1, k + 1), at, lost))
    C = dense(operand.keep_columns(J[:k], workers=workers))
    R = dense(operand.keep_rows(rows, workers=workers))

    def look(j: int) -> tuple[float, float]:
        from .cur import Core

        r = before + j
        U = Core(P[:j, :j], M[:j, :r], T[:r, :r])
        left, right = C[:, :j], R[:r]
        return judge.bounds(
            lambda X: operand.matmat(X, workers=workers) - left @ U._matmat(right @ X),
            lambda X: operand.rmatmat(X, workers=workers) - right.conj().T @ U._rmatmat(left.conj().T @ X),
            tol * judge.size,
        )

    return judge.search(estimate, tol, look)
