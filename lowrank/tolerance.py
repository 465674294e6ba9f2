"""Columns to a tolerance: a sketch that doubles until independent probes are content, then the least rank."""

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import qr, solve_triangular

from ._threads import blas_threads, thread_map
from .certificate import from_residuals
from .coefficients import STRIP
from .operands import Operand
from .passes import PROBES, first_pass, sketch_height
from .results import Status
from .selection import run_selection
from .sketching import Embedding

START = 64  # columns that the first sketch is made for
DECIDING = 20  # probes that choose the rank; the certificate's are others, which had no part in the choice
LEVEL = 0.002  # two-sided: an error above tol is called below it once in a thousand looks


def bound(residuals: np.ndarray, squared_norm: float) -> float:
    """The relative error that the probes' residuals rule out from above, with confidence 99.9 %."""
    return from_residuals(residuals, squared_norm, level=LEVEL).interval[1]


class Growing:
    """A first pass over A whose sketch can be made larger; new rows join the old, which keep their part.

    ``[a S_1; b S_2] A`` with a^2 + b^2 = 1 keeps norms in expectation if both sketches do; with weights as the square
    roots of their shares of the rows, all rows count alike. The probes `deciding` are kept from the certificate's.
    """

    def __init__(self, operand: Operand, rng: np.random.Generator, workers: int, sketch: "str | Embedding" = "sparse"):
        self.limit, self.workers = min(operand.shape), workers
        self.k = min(START, self.limit, self.limit if isinstance(sketch, str) else sketch.height)
        start = first_pass(operand, self.k, rng, probes=DECIDING + PROBES, workers=workers, sketch=sketch)
        self.deciding = start.sketch.W[:DECIDING]
        self.start = replace(start, sketch=replace(start.sketch, W=start.sketch.W[DECIDING:]))

    def grow(self, k: int) -> None:
        """Room for `k` columns at least, by one more pass over A unless the sketch is A itself."""
        self.k = min(max(k, self.k), self.limit)
        start, sketch = self.start, self.start.sketch
        operand, (m, _) = start.operand, start.operand.shape
        more = sketch_height(self.k) - len(sketch.Y)
        if start.exact or more <= 0:
            return
        embedding = start.embedding
        if embedding is None or m <= sketch_height(self.k):
            Y, exact, embedding = operand.rows(np.arange(m), workers=self.workers), True, None
        else:
            embedding = embedding.more(more, start.rng)
            new, old = operand.sketch(embedding, workers=self.workers).Y, sketch.Y
            share = len(new) / (len(new) + len(old))
            weights = [Y.dtype.type(math.sqrt(x)) for Y, x in ((old, 1 - share), (new, share))]
            Y, exact = np.concatenate([weights[0] * old, weights[1] * new]), False
        self.start = replace(start, sketch=replace(sketch, Y=Y), exact=exact, embedding=embedding)

    def error(self, J: np.ndarray, Z: np.ndarray) -> float:
        """Upper bound of the relative error of ``A[:, J] Z``, by the deciding probes."""
        W = self.deciding
        return bound(W - W[:, J] @ Z, self.start.sketch.squared_norm)


@dataclass(frozen=True, eq=False)
class Found:
    """Columns, their coefficients from the sketch, the rule that chose them, and how it ended."""

    J: np.ndarray
    Z: np.ndarray
    method: str
    status: Status


def columns_within(growing: Growing, tol: float, selection: str, choices: list[str]) -> Found:
    """The fewest columns, in the order of a pivoted QR of what the rule chose, that the probes put within `tol`."""
    while True:
        start = growing.start
        Y = start.sketch.Y
        if start.sketch.squared_norm == 0.0 or tol >= 1:
            status = Status.EMPTY if Y.size == 0 else Status.ZERO if tol < 1 else Status.TOLERANCE_MET
            return Found(np.empty(0, np.int64), np.empty((0, Y.shape[1]), Y.dtype), selection, status)
        choice = run_selection(selection, start.candidates(growing.k))
        J, Z, met = _trim(growing, choice.indices, tol)
        if met or len(choice.indices) < growing.k or growing.k == growing.limit:
            choices.append(f"columns by {choice.method}" + (f", because {choice.reason}" if choice.reason else ""))
            choices.append(
                f"rank {len(J)} out of {len(choice.indices)} columns, "
                + (f"the least that {DECIDING} probes put within tol={tol:g}" if met else f"none within tol={tol:g}")
            )
            return Found(J, Z, choice.method, Status.TOLERANCE_MET if met else Status.TOLERANCE_MISSED)
        growing.grow(2 * growing.k)


def _trim(growing: Growing, J: np.ndarray, tol: float) -> tuple[np.ndarray, np.ndarray, bool]:
    """Columns of J by falling pivots, as few as the deciding probes allow, with their coefficients; or all of them.

    With ``Y[:, J] = Q R`` and ``G = Q^H Y``, j columns leave ``W - (W[:, J] R^-1)[:, :j] G[:j]`` of the probes W: each
    further column is a rank-one change, so that all ranks cost no more than the last one alone.
    """
    sketch, W = growing.start.sketch, growing.deciding
    with blas_threads(1):
        Q, R, order = _pivoted(sketch.Y[:, J])
        J = J[order]
        G = _project(Q, sketch.Y, growing.workers)
        T = solve_triangular(R, W[:, J].T, trans=1, check_finite=False).T if len(J) else W[:, J]
        allowed = len(W) * sketch.squared_norm * tol**2
        E = W.copy()
        for j in range(1, len(J) + 1):
            E -= T[:, j - 1 : j] * G[j - 1]
            if np.vdot(E, E).real <= allowed and bound(E, sketch.squared_norm) <= tol:
                Z = _coefficients(R, G, J, j)
                if growing.error(J[:j], Z) <= tol:
                    return J[:j], Z, True
        Z = _coefficients(R, G, J, len(J))
        return J, Z, growing.error(J, Z) <= tol


def _pivoted(C: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pivoted QR of C without the columns that depend on others to rounding."""
    if C.shape[1] == 0:
        return C, C[:0], np.empty(0, np.int64)
    found: tuple = qr(C, mode="economic", pivoting=True, check_finite=False)
    Q, R, order = found
    size = np.abs(np.diagonal(R))
    keep = int((size > 4 * max(C.shape) * np.finfo(C.dtype).eps * size[0]).sum())
    return Q[:, :keep], R[:keep, :keep], order[:keep].astype(np.int64)


def _project(Q: np.ndarray, Y: np.ndarray, workers: int) -> np.ndarray:
    """``Q^H Y`` in strips of columns."""
    Qh = Q.conj().T
    out = np.empty((Q.shape[1], Y.shape[1]), dtype=Y.dtype)

    def strip(j: int) -> None:
        np.matmul(Qh, Y[:, j : j + STRIP], out=out[:, j : j + STRIP])

    thread_map(strip, range(0, Y.shape[1], STRIP), workers)
    return out


def _coefficients(R: np.ndarray, G: np.ndarray, J: np.ndarray, j: int) -> np.ndarray:
    Z = solve_triangular(R[:j, :j], G[:j], check_finite=False) if j else G[:0].copy()
    Z[:, J[:j]] = np.eye(j, dtype=Z.dtype)
    return np.ascontiguousarray(Z)
