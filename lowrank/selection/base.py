"""What a selection is given, and what the registry stores of it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lowrank.coefficients import rounding
from lowrank.sketching import SparseStack


@dataclass(frozen=True, eq=False)
class Candidates:
    """A sketch of the matrix from which `k` columns are to be chosen.

    Y : (d, n) sketch S A, or A itself where `exact`;  squared_norms : (n,) of A's columns, exact;  k : columns wanted;
    indices : the user's own choice, for ``given``;  careful : a second pass over A follows, beside which a better rule
    costs little.
    """

    Y: np.ndarray
    squared_norms: np.ndarray
    k: int
    rng: np.random.Generator
    exact: bool = False
    indices: np.ndarray | None = None
    careful: bool = False

    def compressed(self, rows: int) -> np.ndarray:
        """About `rows` signed sums of all rows of Y, as a new C-ordered array.

        The first k rows of a stack of 2k rows hold half of its hash blocks only, and a row of A that hashes into the
        other half is never seen; so the blocks are folded into one another instead of being cut off.
        """
        if len(self.Y) <= rows + 3:
            return self.Y.copy()
        fold = SparseStack.draw(rows, len(self.Y), self.rng)
        if self.Y.flags.f_contiguous and self.Y.dtype.kind == "f":  # columns one by one: a GEMM reads them as they are
            return fold.to_dense().astype(self.Y.dtype) @ self.Y
        return fold @ self.Y


@dataclass(frozen=True)
class Choice:
    """Chosen columns in the order of choice, fewer than k where the sketch has no further rank; and why."""

    indices: np.ndarray
    method: str
    reason: str = ""


@dataclass(frozen=True)
class Selection:
    """One entry of `SELECTIONS`: a rule that turns candidates into a choice."""

    name: str
    choose: Callable[[Candidates], Choice]
    guarantee: str
    reference: str

    def __call__(self, candidates: Candidates) -> Choice:
        return self.choose(candidates)


def numerical_rank(diagonal: np.ndarray, n: int) -> int:
    """Leading entries of a pivot sequence that stand above rounding: the first below max(n) eps largest ends it."""
    size = np.abs(diagonal)
    if size.size == 0 or not size.max() > 0:
        return 0
    small = size <= rounding(max(n, size.size), size.dtype) * size.max()
    return int(small.argmax()) if small.any() else size.size
