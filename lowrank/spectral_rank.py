"""The least rank within a tolerance in the spectral norm: bounds of the error at a rank or two, and no others.

With G = Q^* A for k columns, of which j are kept, ``E_j^* E_j = G[j:]^* G[j:] + E_k^* E_k``: the rows of G that are
left out bound the error of rank j from below, closely where k lies well above j. That says where to look; a look bounds
the error there from both sides by Golub-Kahan steps. ``||G||_2`` bounds ``||A||_2`` from below, and with the error from
above.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from .certificate import Certificate
from .passes import PROBES
from .projection import Expansion
from .results import Status
from .spectral_norm import TIGHT, Bidiagonal, norms

if TYPE_CHECKING:
    from .tolerance import Growing

LOOKS = 8  # at ranks, for one choice of columns
AIM = 0.95  # share of the tolerance at which to look first: bounds that near each other take few steps
NEAR = 1.02  # ratio of the bounds at which a look ends undecided
SEEN = 0.8  # share of the k columns up to which the rows of G left out say what the error is
POINTS = 16  # ranks at which the estimate is made, the others interpolated
STEPS = 6  # of the subspace iteration of an estimate


class ByBounds:
    """The spectral error by bounds that hold on each look with probability 99.9 %; a judge, as `tolerance.ByNorms`."""

    name, met, spare = "bounds of the spectral norm", Status.TOLERANCE_MET, (1.25, 4)

    def __init__(self, growing: "Growing"):
        self.growing, self.curve = growing, np.empty(0)
        self.found: dict[int, tuple[float, float]] = {}  # bounds of the error by rank
        self.size = 0.0  # lower bound of ||A||_2

    def estimate(self, expansion: Expansion, rows: int | None) -> np.ndarray:
        """Of the sketch: ``||G[j:]||_2 / ||G||_2``, without the share j / d that a projection takes from d rows."""
        k = expansion.size
        self.curve = self._falling(expansion)
        if rows is not None:
            self.curve = self.curve / np.sqrt(1.0 - np.minimum(np.arange(1, k + 1) / rows, 0.95))
        out = self.curve.copy()
        if k < self.growing.limit:
            out[math.ceil(SEEN * k) :] = math.inf
        return out

    def _falling(self, expansion: Expansion) -> np.ndarray:
        """Largest singular value of ``G[j:]`` over that of G for j = 1 to k, at a few j and between them."""
        k = expansion.size
        if k == 0:
            return np.empty(0)
        G = expansion.G.astype(np.result_type(expansion.G, np.float64), copy=False)
        K = G @ G.conj().T
        at = np.unique(np.linspace(0, k - 1, min(k, POINTS)).astype(int))
        sizes = np.array([largest(K[j:, j:]) for j in at])
        self.size = math.sqrt(float(np.linalg.eigvalsh(K)[-1]))
        logs = np.log(np.maximum(sizes, 1e-300 * max(self.size, 1e-300)))
        curve = np.exp(np.interp(np.arange(1, k + 1), at, logs)) / max(self.size, 1e-300)
        curve[-1] = min(curve[-1], curve[-2]) if k > 1 else curve[-1]
        return curve

    def least(self, expansion: Expansion, tol: float) -> int | None:
        estimate = self._falling(expansion)
        return self.search(estimate, tol, lambda j: self._bounds(expansion, j, tol * self.size))

    def search(self, estimate: np.ndarray, tol: float, look: Callable[[int], tuple[float, float]]) -> int | None:
        """The least rank up to ``len(estimate)`` that a look puts within the tolerance; `estimate` says where first."""
        k, allowed, self.found = len(estimate), tol * self.size, {}
        self.curve = estimate
        fails, passes, ratio = 0, k + 1, 1.0 / AIM
        for _ in range(LOOKS):
            within = estimate * ratio <= tol
            j = min(max(int(np.argmax(within)) + 1 if within.any() else k, fails + 1), passes - 1)
            if j <= fails:
                break
            low, high = self.found[j] = look(j)
            if high <= allowed:
                passes = j
                if high > AIM * AIM * allowed or j - fails <= max(1, j // 32):
                    break
                ratio = max(high / (self.size * float(estimate[j - 1])), 1.0)
            else:
                fails = j
                ratio = max(low / (self.size * float(estimate[j - 1])), ratio) * 1.01
        if fails:  # the next size is to follow from what was seen
            low, high = self.found[fails]
            self.curve = estimate * (max(high, low) / (self.size * float(estimate[fails - 1])))
        return passes if passes <= k else None

    def _bounds(self, expansion: Expansion, j: int, allowed: float) -> tuple[float, float]:
        """Bounds of the norm of ``A - A[:, J] Z = A (I - P_J Z)`` until they say on which side of `allowed` it is."""
        operand, workers = self.growing.start.operand, self.growing.workers
        J, Z = expansion.J[:j], expansion.coefficients(j)

        def matmat(X: np.ndarray) -> np.ndarray:
            X = X.copy()
            X[J] -= Z @ X
            return operand.matmat(X, workers=workers)

        def rmatmat(X: np.ndarray) -> np.ndarray:
            X = operand.rmatmat(X, workers=workers)
            return X - Z.conj().T @ X[J]

        return self.bounds(matmat, rmatmat, allowed)

    def bounds(self, matmat, rmatmat, allowed: float) -> tuple[float, float]:
        """Bounds of the norm of what these products are of, until they say on which side of `allowed` it is."""
        start = self.growing.start
        operand = start.operand

        def decided(found: list[tuple[float, float]]) -> bool:
            low, high = found[0]
            return (high <= allowed and high <= TIGHT * low) or low > allowed or high <= NEAR * low

        run = Bidiagonal(start.rng.standard_normal((operand.shape[0], PROBES)).astype(operand.dtype))
        return norms(matmat, rmatmat, [(run, None, None)], PROBES, 0.001, decided)[0]

    def certificate(self, j: int) -> Certificate | None:
        """Of a rank that was looked at: bounds that fail once in a thousand looks serve as an interval of 95 %."""
        factor = float(getattr(self.growing.start.operand, "factor", 1.0))
        if j == 0:
            e = float(self.growing.start.sketch.squared_norm > 0)
            return Certificate(e, (e, e), e * self.size / factor, 0, "spectral") if not e else None
        if j not in self.found:
            return None
        low, high = self.found[j]
        least, most = self.size, math.hypot(self.size, high)
        error, size = math.sqrt(low * high), math.sqrt(least * most)
        return Certificate(error / size, (low / most, high / least), error / factor, PROBES, "spectral")


def largest(K: np.ndarray) -> float:
    """About the square root of the largest eigenvalue of a positive semidefinite K, from below."""
    if len(K) <= 4:
        return math.sqrt(max(float(np.linalg.eigvalsh(K)[-1]), 0.0))
    V = K[:, np.argsort(-np.real(np.diagonal(K)))[:4]]
    for _ in range(STEPS):
        V = K @ np.linalg.qr(V)[0]
    return math.sqrt(float(np.linalg.norm(V, 2)))
