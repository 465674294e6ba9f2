"""Columns to a tolerance: a sketch that doubles until independent probes are content, then the least rank."""

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import qr, solve_triangular

from ._threads import blas_threads, thread_map
from .certificate import from_residuals, spectral_bounds
from .coefficients import STRIP
from .operands import Operand
from .passes import PROBES, first_pass, sketch_height
from .results import Status
from .selection import run_selection
from .sketching import Embedding, Sketch
from .spectral_norm import Bidiagonal, norms

START = 64  # columns that the first sketch is made for
DECIDING = 20  # probes that choose the rank; the certificate's are others, which had no part in the choice
NEAR = 1.06  # ratio of the spectral bounds at which a look ends
LOOKS = 6  # at ranks, in the spectral norm
LEVEL = 0.002  # two-sided: an error above tol is called below it once in a thousand looks


def bound(residuals: np.ndarray, sketch: Sketch) -> float:
    """The relative error that the probes' residuals rule out from above, with confidence 99.9 %."""
    return from_residuals(residuals, sketch.squared_norm, level=LEVEL, norms=sketch.norm_interval(LEVEL)).interval[1]


class Growing:
    """A first pass over A whose sketch can be made larger; new rows join the old, which keep their part.

    ``[a S_1; b S_2] A`` with a^2 + b^2 = 1 keeps norms in expectation if both sketches do; with weights as the square
    roots of their shares of the rows, all rows count alike. The probes `deciding` are kept from the certificate's.
    """

    def __init__(
        self,
        operand: Operand,
        rng: np.random.Generator,
        workers: int,
        sketch: "str | Embedding" = "sparse",
        norm: str = "fro",
    ):
        self.norm, self.curve = norm, np.empty(0)
        self.size = 0.0  # lower bound of the spectral norm, once it is needed
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

    def next_size(self, tol: float) -> int:
        """Columns that the fall of the error so far promises to be enough, as a power or an exponential of the rank.

        Of the two that which fits the second half of the curve better, with 15 % to spare; doubling blindly costs a
        pass more or twice the columns.
        """
        e = self.curve[self.curve > 0]
        doubled = 2 * self.k
        if len(e) < 16:
            return doubled
        j = np.arange(1.0, len(e) + 1)[len(e) // 2 :]
        rows = len(self.start.sketch.Y)
        shrink = (
            0.0 if self.start.exact else 1.0
        )  # coefficients from d rows cost a factor (1 - j / d)^-1/2, which grows
        y = np.log(e[len(e) // 2 :]) + 0.5 * shrink * np.log1p(-np.minimum(j / rows, 0.9))
        best = (math.inf, float(doubled))
        for x, back in ((np.log(j), np.exp), (j, float)):
            slope, start = np.polyfit(x, y, 1)
            misfit = float(np.sum((start + slope * x - y) ** 2))
            if slope < 0 and misfit < best[0]:
                with np.errstate(over="ignore"):
                    best = misfit, float(back((math.log(tol) - start) / slope))
        wanted = 1.15 * min(best[1], 8.0 * self.k)
        return int(min(max(wanted, 1.25 * self.k), 8 * self.k))

    def error(self, J: np.ndarray, Z: np.ndarray) -> float:
        """Upper bound of the relative error of ``A[:, J] Z``, by the deciding probes."""
        W = self.deciding
        return self.bound(W - W[:, J] @ Z)

    def bound(self, residuals: np.ndarray) -> float:
        """The relative error that the residuals of the deciding probes rule out from above."""
        return bound(residuals, self.start.sketch)

    def spectral_error(self, forward, adjoint) -> float:
        """An upper bound of the relative spectral error of what these products are of, with a start of its own."""
        start = self.start
        error, size = spectral_bounds(start.operand, forward, adjoint, start.rng, self.workers, PROBES, LEVEL)
        return error[1] / size[0] if size[0] > 0 else 0.0


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
            judges = f"{DECIDING} probes" if growing.norm == "fro" else "bounds of the spectral norm"
            choices.append(
                f"rank {len(J)} out of {len(choice.indices)} columns, "
                + (f"the least that {judges} put within tol={tol:g}" if met else f"none within tol={tol:g}")
            )
            return Found(J, Z, choice.method, Status.TOLERANCE_MET if met else Status.TOLERANCE_MISSED)
        growing.grow(growing.next_size(tol))


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
        if growing.norm == "spectral":
            return SpectralTrim(growing, J, R, G, tol).run(T)
        growing.curve = np.zeros(len(J))
        for j in range(1, len(J) + 1):
            E -= T[:, j - 1 : j] * G[j - 1]
            left = np.vdot(E, E).real
            growing.curve[j - 1] = math.sqrt(left / (len(W) * sketch.squared_norm))
            if left <= allowed and bound(E, sketch) <= tol:
                Z = _coefficients(R, G, J, j)
                if growing.error(J[:j], Z) <= tol:
                    return J[:j], Z, True
        Z = _coefficients(R, G, J, len(J))
        return J, Z, growing.error(J, Z) <= tol


class SpectralTrim:
    """The least rank that Golub-Kahan bounds put within the tolerance, found by a few looks.

    A probe's largest singular value is no bound, but it falls with the rank as the error does: each look at one rank
    says how far the two are apart, and so where to look next. Each look has a start of its own, and errs once in a
    thousand times; ||A||_2 stands in as its lower bound, which always holds.
    """

    def __init__(self, growing: Growing, J: np.ndarray, R: np.ndarray, G: np.ndarray, tol: float):
        self.growing, self.J, self.R, self.G, self.tol = growing, J, R, G, tol
        self.operand, self.workers = growing.start.operand, growing.workers

    def norm(self, Z: np.ndarray | None, J: np.ndarray) -> tuple[float, float]:
        """Bounds of the norm of ``A - A[:, J] Z = A (I - P_J Z)``, or of A."""
        m, dtype = self.operand.shape[0], self.operand.dtype

        def matmat(X: np.ndarray) -> np.ndarray:
            if Z is not None:
                X = X.copy()
                X[J] -= Z @ X
            return self.operand.matmat(X, workers=self.workers)

        def rmatmat(X: np.ndarray) -> np.ndarray:
            X = self.operand.rmatmat(X, workers=self.workers)
            return X if Z is None else X - Z.conj().T @ X[J]

        run = Bidiagonal(self.growing.start.rng.standard_normal((m, PROBES)).astype(dtype))
        return norms(
            matmat, rmatmat, [(run, None, None)], PROBES, LEVEL / 2, lambda found: found[0][1] <= NEAR * found[0][0]
        )[0]

    def run(self, T: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
        W, J = self.growing.deciding, self.J
        if self.growing.size == 0.0:
            self.growing.size = self.norm(None, J)[0]
        size, E = self.growing.size, W.copy()
        curve = np.empty(len(J) + 1)
        for j in range(len(J) + 1):
            if j:
                E -= T[:, j - 1 : j] * self.G[j - 1]
            curve[j] = math.sqrt(float(np.linalg.eigvalsh(E @ E.conj().T)[-1]) / len(W))
        self.growing.curve = curve[1:] / size
        curve = np.minimum.accumulate(curve)
        fails, passes, ratio, found = -1, len(J) + 1, 1.0, np.empty((0, 0))
        for _ in range(LOOKS):
            reaches = curve * ratio <= self.tol * size
            guess = int(np.argmax(reaches)) if reaches.any() else len(J)
            j = min(max(guess, fails + 1), passes - 1, len(J))
            if j <= fails:
                break
            Z = _coefficients(self.R, self.G, J, j)
            high = self.norm(Z, J[:j])[1]
            ratio = 1.01 * high / max(curve[j], 1e-300)
            if high <= self.tol * size:
                passes, found = j, Z
                if j - fails <= max(1, j // 32) or guess >= j:
                    break
            else:
                fails = j
                if fails == len(J):
                    break
        if passes <= len(J):
            return J[:passes], found, True
        return J, _coefficients(self.R, self.G, J, len(J)), False


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
