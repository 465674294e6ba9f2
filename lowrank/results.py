"""Frozen results that act as linear operators: what every factorisation has in common."""

import enum
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ._tensors import like, through_host
from .certificate import Certificate


class Status(enum.Enum):
    """How a factorisation ended; the value is what the user reads."""

    RANK_REACHED = "The factorisation has the rank that was asked for."
    EXACT_RANK = (
        "The matrix has no further numerical rank, so the factorisation stopped early; it is exact to rounding."
    )
    DEPENDENT = (
        "Some of the chosen columns or rows depend on the others to rounding and were left out; the certificate says "
        'what the rest is worth, and selection="auto" may find better ones.'
    )
    REPAIRED = (
        "The probes showed that sketched coefficients would lose too much here (a flat spectrum), "
        "so they were computed exactly."
    )
    TOLERANCE_MET = "The error is within the tolerance, by the word of independent probes (99.9 % confidence)."
    TOLERANCE_EXACT = "The error is within the tolerance; it is known exactly, but for rounding."
    TOLERANCE_MISSED = (
        "The tolerance was not reached at any rank, because it is too near to rounding; the certificate says "
        "what was reached."
    )
    ZERO = "The matrix is zero; the factorisation is empty and exact."
    EMPTY = "Rank 0 was asked for, or the matrix has no entries; the factorisation is empty."


def dense(C: Any) -> np.ndarray:
    """A kept part as an array: C and R of a sparse matrix are sparse."""
    return C.toarray() if hasattr(C, "toarray") else C


class LinearResult:
    """Products, adjoints and conversions; a subclass is a frozen dataclass with `shape`, `dtype` and two products."""

    shape: tuple[int, int]
    dtype: np.dtype
    kind: ClassVar[str] = "factorisation"
    __array_ufunc__ = None  # so that ``array @ result`` reaches __rmatmul__

    # --- what a subclass defines ---

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def _rmatmat(self, X: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def factors(self) -> tuple[np.ndarray, np.ndarray]:
        """``(L, R)`` with the approximation equal to ``L @ R``, L of shape (m, r)."""
        raise NotImplementedError

    def _lines(self) -> list[str]:
        return []

    # --- products ---

    def _checked(self, X, length: int) -> np.ndarray:
        X = like(X, self)
        if X.ndim not in (1, 2) or X.shape[0] != length:
            raise ValueError(f"shapes do not fit: {self.kind} {self.shape} with an operand of shape {tuple(X.shape)}")
        return X

    def matmat(self, X) -> np.ndarray:
        """The approximation times X, a vector (n,) or a matrix (n, c)."""
        X = self._checked(X, self.shape[1])
        return self._matmat(X[:, None])[:, 0] if X.ndim == 1 else self._matmat(X)

    def rmatmat(self, X) -> np.ndarray:
        """The adjoint of the approximation times X, a vector (m,) or a matrix (m, c)."""
        X = self._checked(X, self.shape[0])
        return self._rmatmat(X[:, None])[:, 0] if X.ndim == 1 else self._rmatmat(X)

    matvec, rmatvec = matmat, rmatmat

    def __matmul__(self, X):
        return self.matmat(X)

    def __rmatmul__(self, X):
        X = like(X, self)
        if X.ndim == 1:
            return self.rmatmat(X.conj()).conj()
        return self.rmatmat(X.conj().T).conj().T

    @property
    def T(self) -> "Transpose":
        """The transpose, as an operator."""
        return Transpose(self, conjugate=False)

    @property
    def H(self) -> "Transpose":
        """The adjoint, as an operator."""
        return Transpose(self, conjugate=True)

    # --- conversions ---

    def to_dense(self) -> np.ndarray:
        """The approximation as an (m, n) array."""
        left, right = self.factors()
        return left @ right

    @through_host
    def aslinearoperator(self):
        """The approximation as a scipy LinearOperator."""
        from scipy.sparse.linalg import LinearOperator

        products = {"matvec": self.matmat, "matmat": self.matmat, "rmatvec": self.rmatmat, "rmatmat": self.rmatmat}
        return LinearOperator(shape=self.shape, dtype=self.dtype, **products)  # pyright: ignore

    @through_host
    def qb(self) -> tuple[np.ndarray, np.ndarray]:
        """(Q, B) with the approximation equal to ``Q @ B`` and orthonormal columns in Q (m, r); A is not read again.

        Rows of B are as many as the inner dimension of the factors, or m where that is less. Cost 4 m r^2 + 2 n r^2.
        """
        left, right = self.factors()
        Q, R = np.linalg.qr(left)
        return Q, R @ right

    @through_host
    def svd(self, rank: int | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(U, s, Vh) of the approximation, of its own rank or cut to `rank`, without another look at A."""
        left, right = self.factors()
        Q, R = np.linalg.qr(left)
        P, L = np.linalg.qr(right.conj().T)
        U, s, Vh = np.linalg.svd(R @ L.conj().T, full_matrices=False)
        if rank is not None:
            from ._checks import check_rank

            k = check_rank(rank, (len(s), len(s)), instead=", the singular values that there are")
            U, s, Vh = U[:, :k], s[:k], Vh[:k]
        return Q @ U, s, Vh @ P.conj().T

    @through_host
    def eigh(self) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues, largest first, and orthonormal eigenvectors of the Hermitian part of a square approximation.

        ``(B + B^H) / 2`` is what is decomposed: it is as near to a Hermitian A as B is, or nearer, in every unitarily
        invariant norm. It has up to twice the rank of B; the vectors returned span it all. No other look at A.

        Raises
        ------
        ValueError
            If the approximation is not square, or so far from Hermitian that A cannot have been: its skew part larger
            than the upper end of its certificate allows.
        """
        left, right = self.factors()
        m, n = self.shape
        if m != n:
            raise ValueError(f"the approximation has shape {self.shape}; eigenvalues need a square one, so take svd()")
        adjoint = right.conj().T
        Q, _ = np.linalg.qr(np.hstack([left, adjoint]))  # B and B^H both map into the span of Q
        core = (Q.conj().T @ left) @ (right @ Q)
        skew, size = float(np.linalg.norm(core - core.conj().T)) / 2, float(np.linalg.norm(core))
        if skew > self._skew_allowed() * size:
            raise ValueError(
                f"the approximation is not Hermitian: its skew part is {skew / size:.3g} of its norm, more than its "
                "error explains; take svd(), or approximate (A + A^H) / 2"
            )
        values, vectors = np.linalg.eigh((core + core.conj().T) / 2)
        return values[::-1], Q @ vectors[:, ::-1]

    def _skew_allowed(self) -> float:
        """The skew part, relative to the norm, that a Hermitian A leaves room for."""
        return 0.5

    def update(self, **_: Any) -> "LinearResult":
        """Only a column ID takes further columns and a row ID further rows; others say so."""
        raise NotImplementedError(
            f"a {self.kind} cannot be updated: its parts depend on all of A. Make a column_id or row_id, whose "
            "update() takes the columns or rows that arrive later, or factorise the larger matrix anew"
        )

    @through_host
    def relative_error(self, A, norm: str = "fro") -> float:
        """The true ``||A - B|| / ||A||``, by reading every entry of A.

        norm : "fro", in blocks of rows; "spectral" (largest singular value) and "trace" (sum of the singular values)
        form A and take singular values, which costs O(m n min(m, n)).
        """
        from ._checks import check_norm
        from .operands import as_operand

        check_norm(norm, trace=True)
        operand = as_operand(A)
        if operand.shape != self.shape:
            raise ValueError(f"A has shape {operand.shape}, but the factorisation has {self.shape}")
        scale = operand.largest() or 1.0
        left, right = self.factors()
        m, n = self.shape
        if norm != "fro":
            with np.errstate(under="ignore"):
                whole = operand.rows(np.arange(m)) / scale
                values = [np.linalg.svd(X, compute_uv=False) for X in (whole, whole - left / scale @ right)]
            total, wrong = (float(s.sum() if norm == "trace" else s.max(initial=0.0)) for s in values)
            return wrong / total if total > 0 else 0.0
        high = max(1, min(m, (1 << 23) // max(n, 1)))
        wrong = total = 0.0
        with np.errstate(under="ignore"):
            for i in range(0, m, high):
                block = operand.rows(np.arange(i, min(i + high, m)))
                total += float(np.linalg.norm(block / scale) ** 2)
                wrong += float(np.linalg.norm((block - left[i : i + high] @ right) / scale) ** 2)
        return float(np.sqrt(wrong / total)) if total > 0 else 0.0

    # --- for people ---

    def explain(self) -> str:
        """What was done, why, what it cost and how good it is."""
        return "\n".join(self._lines())

    def __repr__(self) -> str:
        lines = self._lines()
        return f"<{lines[0]}\n " + "\n ".join(lines[1:]) + ">" if len(lines) > 1 else f"<{self.kind} {self.shape}>"

    # --- files ---

    def save(self, path) -> Path:
        """Write the result to `path` (``.npz`` is added where it is missing); `load` reads it back, without pickle."""
        from .storage import save

        return save(self, path)


class Transpose(LinearResult):
    """The transpose or adjoint of a result; a view of it."""

    kind = "transposed factorisation"

    def __init__(self, base: LinearResult, conjugate: bool):
        self.base, self.conjugate = base, conjugate
        self.shape, self.dtype = (base.shape[1], base.shape[0]), base.dtype

    def _matmat(self, X):
        return self.base._rmatmat(X) if self.conjugate else self.base._rmatmat(X.conj()).conj()

    def _rmatmat(self, X):
        return self.base._matmat(X) if self.conjugate else self.base._matmat(X.conj()).conj()

    def factors(self):
        left, right = self.base.factors()
        return (right.conj().T, left.conj().T) if self.conjugate else (right.T, left.T)

    @property
    def T(self):
        return Transpose(self.base.H, conjugate=False) if self.conjugate else self.base

    @property
    def H(self):
        return self.base if self.conjugate else Transpose(self.base.T, conjugate=True)

    def _lines(self):
        return [f"{'adjoint' if self.conjugate else 'transpose'} of", *self.base._lines()]


@dataclass(frozen=True)
class Record:
    """How a result came about: status, choices, work and certificate, the same in every factorisation."""

    status: Status
    certificate: Certificate
    entries_read: int
    seconds: float
    selection: str = ""
    choices: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        out = [f"status: {self.status.value}", f"relative error: {self.certificate}"]
        out += [f"chosen: {choice}" for choice in self.choices]
        out += [f"note: {note}" for note in self.notes]
        return [*out, f"work: {self.entries_read:,} entries read, {self.seconds:.3g} s"]


class Recorded(LinearResult):
    """A result with a `record`, whose fields are read as if they were its own."""

    record: Record

    @property
    def status(self) -> Status:
        return self.record.status

    @property
    def certificate(self) -> Certificate:
        """Relative error with its 95 % interval, measured when the result was made."""
        return self.record.certificate

    def _skew_allowed(self) -> float:
        c = self.record.certificate
        rounding = 1e3 * float(np.finfo(self.dtype).eps)
        high = c.interval[1] if c.norm == "fro" else 0.5
        # ||skew(B)|| <= ||A - B|| for a Hermitian A, and ||B|| >= ||A|| - ||A - B||
        return high / max(1 - high, 0.1) + rounding

    @property
    def entries_read(self) -> int:
        return self.record.entries_read

    @property
    def selection(self) -> str:
        """The rule that chose the columns or rows."""
        return self.record.selection

    @property
    def notes(self) -> tuple[str, ...]:
        return self.record.notes

    @property
    def seconds(self) -> float:
        return self.record.seconds

    # --- pictures; each takes ax= and returns matplotlib Axes ---

    def plot_decay(self, *, ax: Any = None):
        """`lowrank.plot_decay` of this result: its pivots, with the certificate."""
        from .plotting import plot_decay

        return plot_decay(self, ax=ax)

    def plot_picked(self, A: Any, *, pixels: int = 400, ax: Any = None):
        """`lowrank.plot_picked` of this result: the picked rows and columns on A as an image."""
        from .plotting import plot_picked

        return plot_picked(self, A, pixels=pixels, ax=ax)


class Product(Recorded):
    """A result that is the product of the fields named by `parts`, the first and last of which may be sparse."""

    parts: ClassVar[tuple[str, ...]] = ()

    def _parts(self) -> list[Any]:
        return [getattr(self, name) for name in self.parts]

    @property
    def shape(self):
        return getattr(self, self.parts[0]).shape[0], getattr(self, self.parts[-1]).shape[1]

    @property
    def dtype(self):
        return getattr(self, self.parts[0]).dtype

    @property
    def rank(self) -> int:
        return getattr(self, self.parts[0]).shape[1]

    @property
    @through_host
    def pivots(self) -> np.ndarray:
        """(k,) distance of each kept column (of each row, for a row ID) from the span of those before it."""
        from .pivots import kept, pivots

        return pivots(kept(self))

    def factors(self):
        first, *rest = self._parts()
        right = dense(rest[-1])
        for part in rest[-2::-1]:
            right = part @ right
        return dense(first), right

    def _matmat(self, X):
        for part in reversed(self._parts()):
            X = part @ X
        return X

    def _rmatmat(self, X):
        for part in self._parts():
            X = part.H @ X if isinstance(part, LinearResult) else part.conj().T @ X
        return X

    def _head(self, counts: str) -> str:
        m, n = self.shape
        return f"{self.kind} of a {m} x {n} {self.dtype} matrix, {counts}"

    def _lines(self):
        return [self._head(f"rank {self.rank}"), *self.record.lines()]
