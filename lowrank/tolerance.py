"""Columns to a tolerance: a sketch says how many, a pass over A how few.

The columns that a rule chose on the sketch are put in order by a pivoted QR of it, whose tail estimates the error of
every rank. A is then projected on a few more columns than that promises, which gives the errors of all their ranks
exactly; the least rank within the tolerance is kept. Where A's norm is only estimated, or where a difference of squares
could not tell the error from rounding, probes judge instead.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.linalg import qr, solve_triangular

from . import coefficients as coef
from ._threads import blas_threads, thread_map
from .certificate import Certificate, from_residuals, spectral_bounds
from .operands import Operand
from .operands.operator import Operator
from .passes import PROBES, draw_probes, first_pass, sketch_height
from .projection import Expansion, Projection
from .results import Status
from .selection import RANK_REVEALING, run_selection
from .selection.strong_rrqr import exchanges
from .selection.working import working
from .sketching import Embedding, Sketch

START = 64  # columns that are looked at first, and that the first sketch is made for, unless A has many
MOST_FIRST = 256  # columns that the first sketch is made for at most
GROWN = 50.0  # a coefficient this large means that the columns were chosen badly
DECIDING = 20  # probes that choose the rank; the certificate's are others, which had no part in the choice
LEVEL = 0.002  # two-sided: an error above tol is called below it once in a thousand looks
PRODUCT = 512  # eps ||G||_F^2 by which a product in BLAS may be off; measured: 6 on noise, 480 on constant columns
DOUBT = 0.05  # share of the squared tolerance that rounding may be


def bound(residuals: np.ndarray, sketch: Sketch) -> float:
    """The relative error that the probes' residuals rule out from above, with confidence 99.9 %."""
    return from_residuals(residuals, sketch.squared_norm, level=LEVEL, norms=sketch.norm_interval(LEVEL)).interval[1]


class Growing:
    """A first pass over A whose sketch can be made larger; new rows join the old, which keep their part.

    ``[a S_1; b S_2] A`` with a^2 + b^2 = 1 keeps norms in expectation if both sketches do; with weights as the square
    roots of their shares of the rows, all rows count alike. The probes `deciding` are kept from the certificate's;
    without them there are none of either kind.
    """

    def __init__(
        self,
        operand: Operand,
        rng: np.random.Generator,
        workers: int,
        sketch: "str | Embedding" = "sparse",
        deciding: int = DECIDING,
        projecting: bool = False,
    ):
        self.limit, self.workers, self.projecting = min(operand.shape), workers, projecting
        first = max(START, min(operand.shape[1] // 8, MOST_FIRST)) if projecting else START
        self.k = min(first, self.limit, self.limit if isinstance(sketch, str) else sketch.height)
        probes = deciding + PROBES if deciding else 0
        start = first_pass(operand, self.k, rng, probes=probes, workers=workers, sketch=sketch)
        self.deciding = start.sketch.W[:deciding]
        self.start = replace(start, sketch=replace(start.sketch, W=start.sketch.W[deciding:]))

    @property
    def room(self) -> int:
        """Columns that the sketch is good for: half of its rows where only their choice comes from it."""
        if self.start.exact:
            return self.limit
        return min(self.limit, max(self.k, len(self.start.sketch.Y) // 2)) if self.projecting else self.k

    def make_room(self, k: int) -> None:
        """A sketch that is good for `k` columns."""
        if k > self.room:
            self.grow(math.ceil(2 * k / 3) if self.projecting else k)

    def grow(self, k: int) -> None:
        """Rows for the coefficients of `k` columns at least, by one more pass over A unless the sketch is A itself."""
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

    def probe(self) -> None:
        """Probes for a certificate, by one more pass, where the first one took none."""
        start = self.start
        if len(start.sketch.W):
            return
        omega = draw_probes(PROBES, start.operand.shape[0], start.rng).astype(np.real(start.sketch.Y).dtype)
        with blas_threads(1):
            if start.exact:
                W = omega @ start.sketch.Y
            else:
                turned = np.ascontiguousarray(omega.T).astype(start.operand.dtype)
                W = start.operand.rmatmat(turned, workers=self.workers).conj().T
        self.start = replace(start, sketch=replace(start.sketch, W=W))

    def bound(self, residuals: np.ndarray) -> float:
        """The relative error that the residuals of the deciding probes rule out from above."""
        return bound(residuals, self.start.sketch)

    def spectral_error(self, forward, adjoint) -> float:
        """An upper bound of the relative spectral error of what these products are of, with a start of its own."""
        start = self.start
        error, size = spectral_bounds(start.operand, forward, adjoint, start.rng, self.workers, PROBES, LEVEL)
        return error[1] / size[0] if size[0] > 0 else 0.0


class ByNorms:
    """The Frobenius error as ``||A||^2 - ||Q^* A||^2``: exact but for rounding, for every rank at once.

    A judge has an `estimate` (k,) of the relative errors of ranks 1 to k, from an expansion of the sketch with `rows`
    rows or (None) of A; `least`, the least rank within a tolerance or None, and `curve`, the errors that it saw; and
    what it knows of the error of rank j, if that is enough for a `certificate`. `spare` columns more than the estimate
    asks for are worth projecting on.
    """

    name, met, spare = "the exact errors", Status.TOLERANCE_EXACT, (1.04, 3)

    def __init__(self, growing: Growing):
        self.growing, self.curve = growing, np.empty(0)

    def estimate(self, expansion: Expansion, rows: int | None) -> np.ndarray:
        return tail_of_sketch(expansion, rows, self.growing)

    def least(self, expansion: Expansion, tol: float) -> int | None:
        left = expansion.tails(self.growing.start.sketch.squared_norm)
        self.curve = np.sqrt(left)
        within = left + rounding(self.growing.start.operand) <= tol * tol
        return int(np.argmax(within)) + 1 if within.any() else None

    def certificate(self, j: int) -> Certificate | None:
        """None where the error is lost in the rounding of the norms: probes see it there."""
        start = self.growing.start
        if j == 0:  # nothing of A, or there is nothing of it
            return exactly(float(start.sketch.squared_norm > 0), 0.0, start)
        return self.known(float(self.curve[j - 1]) ** 2)

    def known(self, squared: float) -> Certificate | None:
        """The certificate of a squared error, if that stands out of the rounding; else probes are taken for one."""
        slack = rounding(self.growing.start.operand)
        if squared > slack:
            return exactly(squared, slack, self.growing.start)
        self.growing.probe()
        return None


def exactly(squared: float, slack: float, start: Any) -> Certificate:
    """The certificate of a squared relative error that is known up to `slack`.

    What an update adds to it are the products of ten probes' residuals: uncorrelated ones of the same length stand for
    an error that leaves no doubt.
    """
    size = math.sqrt(start.sketch.squared_norm) / float(getattr(start.operand, "factor", 1.0))
    low, high = math.sqrt(max(squared - slack, 0.0)), math.sqrt(squared + slack)
    e = math.sqrt(squared)
    return Certificate(e, (low, high), e * size, 0, gram=squared * np.eye(PROBES), size=size)


def rounding(operand: Operand) -> float:
    """What ``||A||_F^2 - ||Q^* A||_F^2`` over ||A||_F^2 may be off by.

    Column norms are sums of m squares in double precision, one after another, which errs by m eps / 2 at most; 0.1 of
    that is reached on columns of equal entries, and all of it where one large entry comes first.
    """
    eps, double = float(np.finfo(operand.dtype).eps), float(np.finfo(np.float64).eps)
    return PRODUCT * eps + operand.shape[0] * double / 2


class ByProbes:
    """The Frobenius error by the residuals of probes that had no part in choosing the columns."""

    name, met, spare = f"{DECIDING} probes", Status.TOLERANCE_MET, (1.1, 3)

    def __init__(self, growing: Growing):
        self.growing, self.curve = growing, np.empty(0)

    def estimate(self, expansion: Expansion, rows: int | None) -> np.ndarray:
        return tail_of_sketch(expansion, rows, self.growing)

    def least(self, expansion: Expansion, tol: float) -> int | None:
        """``W - (W[:, J] R^-1)[:, :j] G_j`` is left of the probes W: each column more is a change of rank one."""
        sketch, W, k = self.growing.start.sketch, self.growing.deciding, expansion.size
        J = expansion.J[:k]
        with blas_threads(1):
            T = solve_triangular(expansion.R, W[:, J].T, trans=1, check_finite=False).T if k else W[:, :0]
            E, self.curve = W.copy(), np.zeros(k)
            for j in range(1, k + 1):
                E -= T[:, j - 1 : j] * expansion.G[j - 1]
                self.curve[j - 1] = math.sqrt(np.vdot(E, E).real / (len(W) * sketch.squared_norm))
                if not (self.curve[j - 1] <= tol and bound(E, sketch) <= tol):
                    continue
                if bound(W - W[:, J[:j]] @ expansion.coefficients(j), sketch) <= tol:  # what down-dates round away
                    return j
        return None

    def certificate(self, j: int) -> None:
        """None: ten further probes measure it."""


def tail_of_sketch(expansion: Expansion, rows: int | None, growing: Growing) -> np.ndarray:
    """Relative Frobenius errors of the first j columns from the tail of a sketch of d rows.

    A projection on j columns takes j of the d dimensions from the sketch of the residual, and with them the share j / d
    of its squared norm; sketched coefficients add as much as that to the error once more.
    """
    Y = growing.start.sketch.Y
    left = expansion.tails(float(np.vdot(Y, Y).real))
    if rows is not None:
        share = 1.0 - np.minimum(np.arange(1, len(left) + 1) / rows, 0.95)
        left = left / share ** (1 if growing.projecting else 2)
    return np.sqrt(left)


@dataclass(frozen=True, eq=False)
class Found:
    """Columns, their coefficients, the rule that chose them, how it ended, and the error where it is known."""

    J: np.ndarray
    Z: np.ndarray
    method: str
    status: Status
    certificate: Certificate | None = None
    best: bool = False  # whether the coefficients are the best ones
    expansion: Expansion | None = None


def growing_for(operand: Operand, rng, workers: int, sketch, norm: str, tol: float) -> tuple[Growing, Any]:
    """The first pass and the judge that a tolerance asks for."""
    by_norms = not isinstance(operand, Operator) and rounding(operand) <= DOUBT * tol * tol
    deciding = 0 if by_norms or norm == "spectral" else DECIDING
    growing = Growing(operand, rng, workers, sketch, deciding, projecting=True)
    if norm == "spectral":
        from .spectral_rank import ByBounds

        return growing, ByBounds(growing)
    return growing, ByNorms(growing) if by_norms else ByProbes(growing)


def columns_within(growing: Growing, judge: Any, tol: float, selection: str, choices: list[str]) -> Found:
    """The fewest columns, in the order of a pivoted QR of what the rule chose, that the judge puts within `tol`."""
    sketch = growing.start.sketch
    if sketch.squared_norm == 0.0 or tol >= 1:
        status = Status.EMPTY if sketch.Y.size == 0 else Status.ZERO if tol < 1 else Status.TOLERANCE_EXACT
        nothing = np.empty((0, sketch.Y.shape[1]), sketch.Y.dtype)
        return Found(np.empty(0, np.int64), nothing, selection, status, judge.certificate(0))
    k = growing.k
    while True:
        growing.make_room(k)
        start = growing.start
        chosen, method, reason = _candidates(growing, k, selection)
        J, R, G = ordered(start.sketch.Y, chosen, growing.workers)
        expansion = Expansion(J, R, G, start.exact)
        last = len(chosen) < k or k == growing.limit
        estimate = judge.estimate(expansion, None if start.exact else len(start.sketch.Y))
        guess = first(estimate <= tol)
        j = None
        if guess is not None or last:
            if growing.projecting and not start.exact:
                expansion = Projection(start.operand, J, R, growing.workers)
            wanted = len(J) if guess is None else math.ceil(judge.spare[0] * guess) + judge.spare[1]
            while True:
                expansion.extend(wanted)
                j = judge.least(expansion, tol)
                if j is not None or expansion.size >= len(expansion.J):
                    break
                wanted = _further(expansion.size, judge.curve, estimate, tol)
        else:
            judge.curve = estimate
        if j is not None or last:
            break
        k = min(max(next_size(judge.curve, tol, k), math.ceil(1.25 * k)), growing.limit)
    choices.append(f"columns by {method}" + (f", because {reason}" if reason else ""))
    choices.append(
        f"rank {expansion.size if j is None else j} out of {len(J)} columns, "
        + (f"the least that {judge.name} put within tol={tol:g}" if j is not None else f"none within tol={tol:g}")
    )
    rank = expansion.size if j is None else j
    Z, status = expansion.coefficients(rank), Status.TOLERANCE_MISSED if j is None else judge.met
    if grown(Z) and (selection == "auto" or selection in RANK_REVEALING):
        better = _exchanged(growing, judge, expansion, rank, tol)
        if better is not None:
            expansion, rank, Z, within = better
            status = judge.met if within else Status.TOLERANCE_MISSED
            choices.append(f"{rank} columns after exchanges as in strong_rrqr, since coefficients grew")
    known = judge.certificate(rank)
    if isinstance(judge, ByNorms) and known is not None and grown(Z):
        known, status = None, _by_word_of_probes(growing, expansion.J[:rank], Z, tol)
    return Found(expansion.J[:rank], Z, method, status, known, expansion.exact, expansion)


def grown(Z: np.ndarray) -> bool:
    """Whether coefficients are so large that rounding in C Z may show, as no difference of squares tells."""
    return bool(np.abs(Z).max(initial=0.0) > GROWN)


def _exchanged(growing: Growing, judge: Any, expansion: Expansion, rank: int, tol: float):
    """(expansion, rank, Z, whether within) with columns exchanged as in a strong RRQR, a few more if needed; or None.

    Pivoted QR may leave coefficients as large as 2^rank (Kahan's matrix), and C Z is then nothing but rounding.
    """
    start, candidates, k = growing.start, expansion.J, rank
    Y = working(start.sketch.Y)
    while True:
        J, R, G = ordered(start.sketch.Y, exchanges(Y, candidates[:k])[0], growing.workers)
        projecting = growing.projecting and not start.exact
        expansion = Projection(start.operand, J, R, growing.workers) if projecting else Expansion(J, R, G, start.exact)
        expansion.extend(k)
        j = judge.least(expansion, tol)
        if j is not None or k >= len(candidates):
            for rank in (j or expansion.size, expansion.size):  # all, where fewer have large coefficients again
                Z = expansion.coefficients(rank)
                if not grown(Z):
                    return expansion, rank, Z, j is not None
            return None
        k = min(max(k + 2, math.ceil(1.06 * k)), len(candidates))


def _by_word_of_probes(growing: Growing, J: np.ndarray, Z: np.ndarray, tol: float) -> Status:
    """Whether the error is within the tolerance where rounding in C Z is part of it."""
    growing.probe()
    W = growing.start.sketch.W
    return Status.TOLERANCE_MET if growing.bound(W - W[:, J] @ Z) <= tol else Status.TOLERANCE_MISSED


def first(true: np.ndarray) -> int | None:
    """One more than the first position that holds."""
    return int(np.argmax(true)) + 1 if true.any() else None


def _candidates(growing: Growing, k: int, selection: str) -> tuple[np.ndarray, str, str]:
    """k columns that the rule chose on the sketch, more than will be kept; the rule; and why it."""
    candidates, n = growing.start.candidates(k), len(growing.start.sketch.squared_norms)
    if selection != "auto":
        choice = run_selection(selection, candidates)
        return choice.indices, choice.method, choice.reason
    if n <= 2 * k:
        return np.arange(n), "qr", "so few columns can all be put in order"
    choice = run_selection("lu", candidates)
    return choice.indices, "lu", "more are chosen than kept, by a pivoted QR of these"


def _further(size: int, curve: np.ndarray, estimate: np.ndarray, tol: float) -> int:
    """Columns to go on to, where the estimate was too low by the factor that the last rank shows."""
    factor = curve[-1] / max(float(estimate[size - 1]), 1e-300) if len(curve) else 1.0
    at = first(estimate * max(factor, 1.0) <= tol)
    return max(size + max(2, size // 16), len(estimate) if at is None else at + 1)


def next_size(curve: np.ndarray, tol: float, k: int) -> int:
    """Columns that the fall of the error so far promises to be enough, as a power or an exponential of the rank.

    Of the two that which fits the second half of the curve better, with 15 % to spare; doubling blindly costs a pass
    more or twice the columns.
    """
    e = curve[curve > 0]
    if len(e) < 16:
        return 2 * k
    j, y = np.arange(1.0, len(e) + 1)[len(e) // 2 :], np.log(e[len(e) // 2 :])
    best = (math.inf, 2.0 * k)
    for x, back in ((np.log(j), np.exp), (j, float)):
        slope, start = np.polyfit(x, y, 1)
        misfit = float(np.sum((start + slope * x - y) ** 2))
        if slope < 0 and misfit < best[0]:
            with np.errstate(over="ignore"):
                best = misfit, float(back((math.log(tol) - start) / slope))
    return int(1.15 * min(best[1], 7.0 * k))


def ordered(Y: np.ndarray, J: np.ndarray, workers: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(J, R, G): the columns J of Y by falling pivots, ``Y[:, J] = Q R`` and ``G = Q^* Y``, without dependent ones."""
    with blas_threads(1):
        Q, R, order = _pivoted(Y[:, J])
        return J[order], R, _project(Q, Y, workers)


def _pivoted(C: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pivoted QR of C without the columns that depend on others to rounding."""
    if C.shape[1] == 0:
        return C, C[:0], np.empty(0, np.int64)
    found: tuple = qr(C, mode="economic", pivoting=True, check_finite=False)
    Q, R, order = found
    size = np.abs(np.diagonal(R))
    keep = int((size > coef.cut(C) * size[0]).sum())
    return Q[:, :keep], R[:keep, :keep], order[:keep].astype(np.int64)


def _project(Q: np.ndarray, Y: np.ndarray, workers: int) -> np.ndarray:
    """``Q^H Y`` in strips of columns."""
    Qh = Q.conj().T
    out = np.empty((Q.shape[1], Y.shape[1]), dtype=Y.dtype)

    def strip(j: int) -> None:
        np.matmul(Qh, Y[:, j : j + coef.STRIP], out=out[:, j : j + coef.STRIP])

    thread_map(strip, range(0, Y.shape[1], coef.STRIP), workers)
    return out
