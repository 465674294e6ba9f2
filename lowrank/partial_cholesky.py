"""The partial Cholesky factor of a positive semidefinite matrix, while it grows by blocks of columns."""

import math
import threading

import numpy as np
from scipy.linalg import get_lapack_funcs

from ._threads import blas_threads, thread_map
from .operands import KernelMatrix, Operand

CHUNK = 1024  # rows of the factor that a thread works on while they are in cache
LEAF = 32  # triangles of this size are inverted; above it, forward substitution is GEMM
FIRST = 16  # proposals in the first block; the next blocks follow from the number of landmarks so far


class NotPositiveError(ValueError):
    """K has a negative direction; `value` is how far a residual fell below zero."""

    def __init__(self, message: str, value: float):
        super().__init__(message)
        self.value = value


class PartialCholesky:
    r"""``F F^* = K[:, S] K[S, S]^{-1} K[S, :]`` for landmarks S that come in blocks, and the diagonal of ``K - F F^*``.

    limit : most landmarks;  target : sum of the residual diagonal at which nothing more is wanted (below 0: never).
    Rows of ``Ft`` (capacity, n) are columns of F, so that a block is appended without moving the ones before it.
    """

    def __init__(self, operand: Operand, diagonal: np.ndarray, limit: int, workers: int, *, target: float = -1.0):
        self.operand, self.limit, self.workers, self.target = operand, limit, workers, target
        n = operand.shape[0]
        self.Ft = np.empty((limit if target < 0 else min(limit, 64), n), dtype=operand.dtype)
        self.diagonal, self.residual = diagonal, diagonal.copy()
        self.landmarks, self.pivots = np.empty(0, np.int64), np.empty(0)
        self.size = self.rounds = self.proposed = 0
        eps = float(np.finfo(operand.dtype).eps)
        self.top = float(diagonal.max(initial=0.0))
        self.unit = 8 * eps * self.top
        (self.trtri,) = get_lapack_funcs(("trtri",), (self.Ft,))
        self.own = threading.local()

    @property
    def wanted(self) -> int:
        """How many more landmarks may come: 0 once the target is met."""
        return 0 if float(self.residual.sum()) <= self.target else self.limit - self.size

    @property
    def noise(self) -> float:
        """What rounding leaves of a residual that is zero, with a margin: pivots of pure noise would grow like 2^k."""
        return self.unit * math.sqrt(max(self.size, 1))

    @property
    def wrong(self) -> float:
        """A residual this far below zero is no rounding: entries off by u, divided by the root of a pivot u."""
        return math.sqrt(self.unit * self.top)

    def block(self) -> int:
        """Size of the next block, from the number of landmarks alone.

        A size taken from the clock would make results irreproducible, and one taken from the rank would make a rank
        change all landmarks: this way those of rank r are the first r of any higher rank, with the same seed.
        """
        return min(max(FIRST, self.size // 2), max(self.operand.shape[0], 1))

    def weights(self) -> np.ndarray:
        """The residual diagonal without what is rounding."""
        return np.where(self.residual > self.noise, self.residual, 0.0)

    def add(self, landmarks: np.ndarray) -> None:
        """Append these landmarks in their order, but for those that depend on others to rounding."""
        self.propose(landmarks, np.zeros(len(landmarks)))

    def propose(self, proposals: np.ndarray, bar: np.ndarray) -> None:
        """Append, one after another, each proposal whose residual still exceeds its `bar`; one pass over F for all."""
        self.rounds += 1
        self.proposed += len(proposals)
        chosen, L = self._accept(proposals, bar)
        t = min(len(chosen), self.limit - self.size)
        if t:
            self._append(chosen[:t], L[:t, :t])

    def _accept(self, proposals: np.ndarray, bar: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The proposals kept, and the Cholesky factor of the residual block that they span.

        Left-looking: a proposal's column is made when it is kept, from the ones kept before it.
        """
        H = self.operand.entries(proposals, proposals)
        self._check_hermitian(H, proposals)
        self._measure(H, proposals)
        mine = self.Ft[: self.size, proposals]
        H = H - mine.T @ mine.conj()
        b = len(proposals)
        left = np.real(np.diagonal(H)).astype(np.float64)
        if b and left.min() < -self.wrong:
            raise self._not_psd(int(proposals[left.argmin()]), float(left.min()))
        spent = left <= self.noise  # H is made afresh, and may say less than what the down-dates have left
        self.residual[proposals[spent]] = np.maximum(left[spent], 0.0)
        keep: list[int] = []
        L = np.zeros((b, b), dtype=H.dtype, order="F")
        for i in range(b):
            if left[i] < -self.wrong:
                raise self._not_psd(int(proposals[i]), float(left[i]))
            if left[i] <= max(bar[i], self.noise):
                continue
            t = len(keep)
            column = (H[i:, i] - L[i:, :t] @ L[i, :t].conj()) / np.sqrt(left[i])
            L[i:, t] = column
            left[i:] -= column.real**2 + column.imag**2
            keep.append(i)
        return proposals[keep], L[keep][:, : len(keep)]

    def _measure(self, H: np.ndarray, at: np.ndarray) -> None:
        """What entries are worth, by those that are there twice: the diagonal, and the two triangles.

        Kernels of points far out in units of their bandwidth are off by more than eps, and what is left of a residual
        below that is noise, however K is called positive.
        """
        gap = np.abs(np.real(np.diagonal(H)) - self.diagonal[at])
        i = int(gap.argmax()) if gap.size else 0
        if gap.size and not gap[i] <= 1e-4 * self.top:
            raise ValueError(
                f"K[{at[i]}, {at[i]}] is {H[i, i]:.6g} as an entry but {self.diagonal[at[i]]:.6g} on the diagonal; "
                "the diagonal of a kernel must be kernel(x, x)"
            )
        off = max(float(gap.max(initial=0.0)), float(np.abs(H - H.conj().T).max(initial=0.0)))
        self.unit = max(self.unit, 8 * off)

    def _append(self, chosen: np.ndarray, L: np.ndarray) -> None:
        """Columns ``(K - F F*)[:, chosen] L^-*`` behind the ones of F.

        A thread evaluates, down-dates and substitutes CHUNK rows while they are in its cache, in buffers of its own.
        Floor of all calls together: n k^2 flops of GEMM, one evaluation for each of n k entries, n k numbers written
        and F read once a block. What is over it: first touch of F's pages, the exponentials' passes through L2, and the
        proposals, which one thread judges alone.
        """
        t, r, n = len(chosen), self.size, self.Ft.shape[1]
        if r == 0:
            self._check_rows(chosen)
        self._reserve(r + t)
        Ft, L = self.Ft, np.ascontiguousarray(L.conj())
        mine = Ft[:r, chosen].conj().T.copy()
        leaves = self._leaves(L)
        operand, whole = self.operand, None
        if type(operand).columns is Operand.columns:
            operand._served(n * t)
        else:  # a kind with columns of its own, whose blocks would cost more
            whole = operand.columns(chosen, workers=self.workers)

        def rows(i: int) -> None:
            stop = min(i + CHUNK, n)
            new, work = self._buffers(t, stop - i)
            if whole is None:
                operand._fill(slice(i, stop), chosen, new.T)
            else:
                new[...] = whole[i:stop].T
            with np.errstate(over="ignore", invalid="ignore"):  # what is not finite shows in the residual
                if r:
                    np.matmul(mine, Ft[:r, i:stop], out=work)
                    new -= work
                substitute(L, leaves, new, work)
                Ft[r : r + t, i:stop] = new
                self.residual[i:stop] -= np.einsum("ij,ij->j", new, new.conj()).real

        with blas_threads(1):
            thread_map(rows, range(0, n, CHUNK), self.workers)
        self.residual[chosen] = 0.0
        worst = int(self.residual.argmin())
        if not self.residual[worst] >= -self.wrong:
            if not np.isfinite(self.residual[worst]):
                raise ValueError("the chosen columns of K are not finite; lowrank needs finite entries")
            raise self._not_psd(worst, float(self.residual[worst]))
        np.maximum(self.residual, 0.0, out=self.residual)
        self.landmarks = np.concatenate([self.landmarks, chosen])
        self.pivots = np.concatenate([self.pivots, np.abs(np.diagonal(L)).astype(np.float64) ** 2])
        self.size += t

    def _buffers(self, t: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Two (t, width) arrays of this thread, kept between chunks: fresh ones would fault their pages each time."""
        need = t * CHUNK
        if getattr(self.own, "store", None) is None or self.own.store.shape[1] < need:
            self.own.store = np.empty((2, need), dtype=self.Ft.dtype)
        one, two = self.own.store
        return one[: t * width].reshape(t, width), two[: t * width].reshape(t, width)

    def _leaves(self, L: np.ndarray) -> list[np.ndarray]:
        """Inverses of the diagonal blocks at which `substitute` ends, in the order in which it reaches them."""
        return [self.trtri(L[lo:hi, lo:hi], lower=1)[0] for lo, hi in leaf_bounds(0, len(L))]

    def _reserve(self, rows: int) -> None:
        if rows > len(self.Ft):
            grown = np.empty((min(self.limit, max(rows, 2 * len(self.Ft))), self.Ft.shape[1]), self.Ft.dtype)
            grown[: self.size] = self.Ft[: self.size]
            self.Ft = grown

    def resume(self, landmarks: np.ndarray, pivots: np.ndarray, F: np.ndarray) -> None:
        """Go on from the factor F of an earlier run."""
        self.size = len(landmarks)
        self._reserve(self.size)
        self.Ft[: self.size] = F.T
        self.landmarks, self.pivots = landmarks, pivots
        self.residual -= np.einsum("ij,ij->i", F, F.conj()).real
        self.residual[landmarks] = 0.0
        worst = int(self.residual.argmin()) if self.residual.size else 0
        if self.residual.size and self.residual[worst] < -self.wrong:
            raise ValueError(
                f"the factor has more at ({worst}, {worst}) than K has, so K is not the matrix that it was made from; "
                "pass the same K and X, or start anew with nystrom"
            )
        np.maximum(self.residual, 0.0, out=self.residual)

    def trim(self) -> None:
        """Drop the last landmarks that the target does not need.

        The residual trace of the first r is that of all, plus the squared norms of the columns after r: sums of
        positive numbers, in which nothing cancels.
        """
        sizes = np.einsum("ij,ij->i", self.Ft[: self.size], self.Ft[: self.size].conj()).real.astype(np.float64)
        left = float(self.residual.sum()) + np.append(np.cumsum(sizes[::-1])[::-1], 0.0)
        self.cut(int(np.argmax(left <= self.target)) if (left <= self.target).any() else self.size)

    def cut(self, r: int) -> None:
        """Keep the first r landmarks."""
        self.residual += np.einsum("ij,ij->j", self.Ft[r : self.size], self.Ft[r : self.size].conj()).real
        self.landmarks, self.pivots, self.size = self.landmarks[:r], self.pivots[:r], r

    def factor(self) -> np.ndarray:
        """F, (n, size), column-major."""
        Ft = self.Ft if self.size == len(self.Ft) else self.Ft[: self.size].copy()
        return Ft.T

    # --- what is not a positive semidefinite matrix ---

    def _check_rows(self, chosen: np.ndarray) -> None:
        """A few rows beside the same columns: a matrix that is not Hermitian must not pass as one."""
        operand = self.operand
        if isinstance(operand, KernelMatrix) and operand.square and ours(operand.kernel):
            return
        few = chosen[: min(4, max(1, self.limit // 50))]
        rows = operand.rows(few)
        with np.errstate(invalid="ignore"):  # inf - inf: what is not finite is refused with its column
            gap = np.abs(rows - operand.columns(few).conj().T)
        if not gap.max() <= self.wrong and np.isfinite(rows).all():
            i, j = np.unravel_index(int(np.nanargmax(gap)), gap.shape)
            raise self._not_hermitian(int(few[i]), int(j))

    def _not_hermitian(self, i: int, j: int) -> ValueError:
        one, other = self.operand.entries([i], [j])[0, 0], self.operand.entries([j], [i])[0, 0]
        if i == j:
            return ValueError(f"K is not Hermitian: K[{i}, {i}] = {one:.6g} is not real; use cur")
        return ValueError(
            f"K is not Hermitian: K[{i}, {j}] = {one:.6g} but K[{j}, {i}] = {other:.6g}; symmetrise it, or use cur"
        )

    def _check_hermitian(self, H: np.ndarray, at: np.ndarray) -> None:
        with np.errstate(invalid="ignore"):
            gap = np.abs(H - H.conj().T)
        if gap.size and not gap.max() <= self.wrong:
            i, j = np.unravel_index(int(np.nanargmax(gap)) if not np.isnan(gap).all() else 0, gap.shape)
            if not np.isfinite(H).all():
                raise ValueError("K has entries that are NaN or inf; lowrank needs finite entries")
            raise self._not_hermitian(int(at[i]), int(at[j]))

    def _not_psd(self, i: int, value: float) -> NotPositiveError:
        return NotPositiveError(
            f"K is not positive semidefinite: the residual at ({i}, {i}) fell to {value:.3g} after {self.size} "
            'landmarks; pass shift="auto" or a shift of your own for its diagonal, or use cur',
            value,
        )


def ours(kernel) -> bool:
    """Whether the kernel is one of this package, which are symmetric by construction."""
    return type(kernel).__module__.partition(".")[0] == __name__.partition(".")[0]


def leaf_bounds(lo: int, hi: int):
    """Where `substitute` splits ``lo..hi``."""
    if hi - lo <= LEAF:
        yield lo, hi
    else:
        mid = (lo + hi) // 2
        yield from leaf_bounds(lo, mid)
        yield from leaf_bounds(mid, hi)


def substitute(L: np.ndarray, leaves: list[np.ndarray], B: np.ndarray, work: np.ndarray) -> None:
    """``B <- L^-1 B`` by halves: solve above, GEMM, solve below; the inverted leaves make all of it GEMM.

    OpenBLAS's own TRSM ran at a third of its GEMM's speed on these shapes. Inverting blocks of 32 loses no more
    than substitution does while a block's pivots are within 1/eps of each other, which `noise` sees to (Higham 2002,
    Accuracy and Stability of Numerical Algorithms, section 14.2, doi 10.1137/1.9780898718027).
    """
    inverses = iter(leaves)

    def solve(lo: int, hi: int) -> None:
        if hi - lo <= LEAF:
            np.matmul(next(inverses), B[lo:hi], out=work[lo:hi])
            B[lo:hi] = work[lo:hi]
            return
        mid = (lo + hi) // 2
        solve(lo, mid)
        np.matmul(L[mid:hi, lo:mid], B[lo:mid], out=work[mid:hi])
        B[mid:hi] -= work[mid:hi]
        solve(mid, hi)

    solve(0, len(L))
