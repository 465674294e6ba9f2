"""What a rule for choosing landmarks is, and what it is given."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import get_lapack_funcs

from lowrank.partial_cholesky import PartialCholesky

BLOCK = 128  # landmarks appended in one pass over the factor
FAR = 1e-6  # pivots this far below the largest diagonal entry have lost digits that an order by size would keep


@dataclass(frozen=True, eq=False)
class Search:
    """A factor that wants landmarks, and what a rule may use to find them.

    cholesky : appends what it is given and knows how much is still wanted;  rng : the only source of chance;
    points : (n, dim) where K is a kernel of points, else None;  indices : the user's own, for "given";
    report : told the number of landmarks after each block.
    """

    cholesky: PartialCholesky
    rng: np.random.Generator
    points: np.ndarray | None
    indices: np.ndarray | None
    report: Callable[[int], None]

    def add(self, landmarks: np.ndarray) -> None:
        """Append a set of landmarks, but for those that depend on the others to rounding.

        In the order given while that is stable; where a pivot falls far below the first one, largest residual first,
        since an early small pivot would multiply the rounding of every later column (Higham 2002, section 10.3).
        """
        landmarks = self._stable(landmarks[: self.cholesky.wanted])
        for i in range(0, len(landmarks), BLOCK):
            self.cholesky.add(landmarks[i : i + BLOCK])
            self.report(self.cholesky.size)

    def _stable(self, landmarks: np.ndarray) -> np.ndarray:
        k = len(landmarks)
        H = self.cholesky.operand.entries(landmarks, landmarks)
        if k == 0 or not np.isfinite(H).all():
            return landmarks  # the factor says what is wrong with them
        top, eps = float(self.cholesky.residual.max()), float(np.finfo(H.dtype).eps)
        if in_order(H, top):
            return landmarks
        (pstrf,) = get_lapack_funcs(("pstrf",), (H,))
        _, order, rank, _ = pstrf(H, lower=1, tol=max(max(k, 100) * eps * top, self.cholesky.noise))
        order = order[:rank] - 1
        kept = np.sort(order)
        return landmarks[kept if in_order(H[np.ix_(kept, kept)], top) else order]


def in_order(H: np.ndarray, top: float) -> bool:
    """Whether Cholesky's pivots of H stay above FAR times the largest diagonal entry of all of K."""
    (potrf,) = get_lapack_funcs(("potrf",), (H,))
    L, failed = potrf(H, lower=1, clean=0)
    return not failed and float(np.real(np.diagonal(L)).min(initial=np.inf)) ** 2 > FAR * top


@dataclass(frozen=True)
class Landmarks:
    """A rule by name.

    run : adds landmarks until none are wanted;  nested : the landmarks of rank r are the first r of any higher rank, so
    that a tolerance can stop it;  guarantee, reference : what is proved, and where.
    """

    name: str
    run: Callable[[Search], str]
    nested: bool
    guarantee: str
    reference: str
