"""scipy LinearOperators: matrices that are known by their products alone, asked for in blocks."""

import sys
from typing import Any

import numpy as np

from lowrank.sketching import Embedding, Sketch

from .base import Counter, Operand
from .dense import readable

BLOCK = 64  # vectors in one product
LEADING = 10  # directions in which the norm of A is measured and not estimated


class Operator(Operand):
    """A scipy LinearOperator; every verb is made of products with up to 64 vectors at a time.

    `entries_read` counts the numbers that the products returned: vectors times rows of A (times columns of A for
    products with the adjoint). Entries are products with unit vectors. Norms of columns are those of their sketches,
    and the norm of A is exact in ten leading directions and estimated from the probes in the others; a note says so.
    """

    kind = "LinearOperator"
    reads = "scipy LinearOperators with matmat and rmatmat"

    def __init__(self, A: Any, counter: Counter | None = None, transposed: bool = False, factor: float = 1.0):
        self.A, self.transposed, self.factor = A, transposed, factor
        m, n = (int(x) for x in A.shape)
        self.shape = (n, m) if transposed else (m, n)
        self.dtype, notes = readable(np.dtype(np.float64 if A.dtype is None else A.dtype))
        self.notes = (*notes, "The norm of A is estimated: a LinearOperator shows products and no entries.")
        self.counter = counter or Counter()

    @classmethod
    def accepts(cls, A) -> bool:
        linalg = sys.modules.get("scipy.sparse.linalg")
        return linalg is not None and isinstance(A, linalg.LinearOperator)

    @property
    def T(self) -> "Operator":
        return Operator(self.A, self.counter, not self.transposed, self.factor)

    def scaled(self, factor: float) -> "Operator":
        return Operator(self.A, self.counter, self.transposed, factor * self.factor)

    # --- products ---

    def _product(self, X: np.ndarray, adjoint: bool) -> np.ndarray:
        """``A X`` or ``A^H X``, block by block; the transpose is ``conj(A^H conj(X))``."""
        rows = self.shape[1] if adjoint else self.shape[0]
        dtype = np.result_type(self.dtype, X.dtype)
        out = np.empty((rows, X.shape[1]), dtype=dtype)
        for j in range(0, X.shape[1], BLOCK):
            part = X[:, j : j + BLOCK]
            out[:, j : j + BLOCK] = self._block(part.conj() if self.transposed else part, adjoint != self.transposed)
            self._served(rows * part.shape[1])
        if self.transposed:
            np.conjugate(out, out=out)
        if self.factor != 1.0:
            out *= out.dtype.type(self.factor)
        return out

    def _block(self, X: np.ndarray, adjoint: bool) -> np.ndarray:
        name = "rmatmat" if adjoint else "matmat"
        try:
            found = np.asarray(self.A.rmatmat(X) if adjoint else self.A.matmat(X))
        except (NotImplementedError, TypeError) as problem:
            if not adjoint or self._has_adjoint():
                raise
            raise NotImplementedError(
                "A is a LinearOperator without rmatmat, and this needs products with the adjoint of A: define rmatmat "
                "or rmatvec; without them only select_rows works"
            ) from problem
        expected = self.A.shape[1] if adjoint else self.A.shape[0], X.shape[1]
        if found.shape != expected:
            raise ValueError(f"A.{name}(X) returned shape {found.shape} for X of shape {X.shape}; expected {expected}")
        if found.dtype.kind == "c" and self.dtype.kind != "c" and X.dtype.kind != "c":
            raise ValueError(
                f"A.{name}(X) is complex for a real X, but A.dtype is {self.A.dtype}; give the operator dtype=complex"
            )
        if not np.isfinite(found).all():
            row, column = (int(x) for x in np.argwhere(~np.isfinite(found))[0])
            raise ValueError(
                f"A.{name}(X)[{row}, {column}] is {found[row, column]} for a finite X; lowrank needs finite products"
            )
        return found

    def _has_adjoint(self) -> bool:
        """Asked after rmatmat failed: scipy's own error depends on how the operator was made."""
        try:
            self.A.rmatvec(np.zeros(self.A.shape[0], dtype=self.dtype))
        except NotImplementedError:
            return False
        return True

    # --- verbs ---

    def matmat(self, X: np.ndarray, *, workers: int = 1) -> np.ndarray:
        return self._product(X, adjoint=False)

    def rmatmat(self, X: np.ndarray, *, workers: int = 1) -> np.ndarray:
        return self._product(X, adjoint=True)

    def columns(self, J: np.ndarray, *, workers: int = 1) -> np.ndarray:
        return self._product(self._unit(self.shape[1], J), adjoint=False)

    def rows(self, J: np.ndarray, *, workers: int = 1) -> np.ndarray:
        return np.ascontiguousarray(self._product(self._unit(self.shape[0], J), adjoint=True).conj().T)

    def entries(self, rows, columns) -> np.ndarray:
        if len(columns) <= len(rows):
            return self.columns(columns)[np.asarray(rows)]
        return self.rows(rows)[:, np.asarray(columns)]

    def diagonal(self) -> np.ndarray:
        n = min(self.shape)
        return np.concatenate(
            [self.columns(np.arange(i, min(i + BLOCK, n)))[i : i + BLOCK].diagonal() for i in range(0, n, BLOCK)]
            or [np.empty(0, self.dtype)]
        )

    def _fill(self, rows, columns, out: np.ndarray) -> None:
        at = [np.arange(s.start, s.stop) if isinstance(s, slice) else s for s in (rows, columns)]
        np.copyto(out, self.entries(*at))

    def _unit(self, n: int, J: np.ndarray) -> np.ndarray:
        E = np.zeros((n, len(J)), dtype=self.dtype)
        E[J, np.arange(len(J))] = 1.0
        return E

    def largest(self) -> float:
        """The largest part of a few products with signs: the scale of A, where its entries cannot be looked at."""
        m, n = self.shape
        if m == 0 or n == 0:
            return 0.0
        signs = 1.0 - 2.0 * (np.random.default_rng(20261).integers(0, 2, size=(m, 4)))
        found = self.rmatmat(signs.astype(self.dtype))
        return max(float(np.abs(np.real(found)).max()), float(np.abs(np.imag(found)).max()))

    def sketch(self, S: Embedding, probes: np.ndarray | None = None, *, workers: int = 1) -> Sketch:
        if S.shape[1] != self.shape[0]:
            raise ValueError(f"the sketch is for {S.shape[1]} rows, but A has shape {self.shape}")
        n = self.shape[1]
        Y = np.empty((S.height, n), dtype=self.dtype)
        for i in range(0, S.height, BLOCK):
            stop = min(i + BLOCK, S.height)
            Y[i:stop] = self.rmatmat(S.block(i, stop).conj().T.astype(self.dtype, order="C")).conj().T
        if probes is None or len(probes) == 0:
            W = np.zeros((0, n), self.dtype)
        else:
            W = self.rmatmat(probes.T.astype(self.dtype)).conj().T
        return Sketch(Y, np.ascontiguousarray(W), *self._norms(Y, W))

    def _norms(self, Y: np.ndarray, W: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Squared column norms of the sketch, scaled so that they add up to the best estimate of ||A||_F^2; `loose`.

        With Q the leading right singular vectors of Y, ``||A||^2 = ||A Q||^2 + ||A - A Q Q^H||^2``: the first part is
        a product, and the second is small or spread over many directions, where few independent probes suffice
        (Meyer, Musco, Musco and Woodruff 2021, Hutch++, doi 10.1137/1.9781611976496.16).
        """
        with np.errstate(over="ignore", invalid="ignore"):
            wide = np.abs(Y).astype(np.float64)
            norms = (wide * wide).sum(axis=0)
        total = norms.sum()
        if len(W) == 0 or not np.isfinite(total) or not total > 0:
            return norms, None
        Q = np.linalg.svd(Y, full_matrices=False)[2][:LEADING].conj().T
        with np.errstate(over="ignore", under="ignore"):
            known = float(np.linalg.norm(self.matmat(Q)) ** 2)
            left = W - (W @ Q) @ Q.conj().T
            left = (np.hstack([np.real(left), np.imag(left)]) if left.dtype.kind == "c" else left).astype(np.float64)
            loose = left @ left.T
            rest = float(np.trace(loose)) / len(W)
            return norms * ((known + rest) / total), loose
