"""Nystrom approximations of positive semidefinite matrices, from k of their columns."""

import time
from dataclasses import dataclass

import numpy as np
from scipy.linalg import get_blas_funcs

from ._checks import check_choice, check_indices, check_rank
from ._progress import reporting
from ._threads import blas_threads, resolve_workers, thread_map
from .certificate import Certificate
from .operands import GaussianKernel, KernelMatrix, Operand, Operator, as_operand
from .results import Record, Recorded, Status

LANDMARKS = ("rpcholesky", "uniform", "given")
CHUNK = 1024


@dataclass(frozen=True, eq=False, repr=False)
class Nystrom(Recorded):
    """``K ~ F F*`` from the columns of K at `landmarks`; made by `nystrom`.

    landmarks : (k,) indices in order of choice;  pivots : (k,) residual diagonal of each when it was chosen;
    factor : F, (n, k);  trace_error : ``trace(K - F F*) / trace(K)``, known exactly.
    """

    landmarks: np.ndarray
    pivots: np.ndarray
    factor: np.ndarray
    trace_error: float
    record: Record

    kind = "Nystrom approximation"

    @property
    def shape(self):
        return (len(self.factor),) * 2

    @property
    def dtype(self):
        return self.factor.dtype

    @property
    def rank(self) -> int:
        return len(self.landmarks)

    def factors(self):
        return self.factor, self.factor.conj().T

    def _matmat(self, X):
        return self.factor @ (self.factor.conj().T @ X)

    _rmatmat = _matmat

    def eigh(self) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues (descending) and eigenvectors (n, k) of F F*."""
        Q, R = np.linalg.qr(self.factor)
        U, s, _ = np.linalg.svd(R, full_matrices=False)
        return s**2, Q @ U

    def solve(self, b: np.ndarray, shift: float) -> np.ndarray:
        """``(F F* + shift I)^-1 b`` for a positive shift, by the eigenvectors of F F*."""
        if not (np.isfinite(shift) and shift > 0):
            raise ValueError(f"shift={shift!r}; F F* is singular, so pass a positive finite shift")
        b = self._checked(b, self.shape[0])
        values, vectors = self.eigh()
        along = vectors.conj().T @ b
        damp = values / (values + shift)
        return (b - vectors @ (along * (damp if b.ndim == 1 else damp[:, None]))) / shift

    def logdet(self, shift: float) -> float:
        """``log det(F F* + shift I)`` for a positive shift."""
        if not (np.isfinite(shift) and shift > 0):
            raise ValueError(f"shift={shift!r}; F F* is singular, so pass a positive finite shift")
        values, _ = self.eigh()
        return float(np.log1p(values.astype(float) / shift).sum() + self.shape[0] * np.log(shift))

    def _lines(self):
        n, _ = self.shape
        return [f"Nystrom approximation of a {n} x {n} {self.dtype} matrix, rank {self.rank}", *self.record.lines()]


def nystrom(
    K, X=None, *, rank=None, tol=None, selection="rpcholesky", indices=None, rng=None, workers=None, progress=False
) -> Nystrom:
    r"""Approximate a positive semidefinite matrix from `rank` of its columns.

    .. math:: K \approx K_{:,S} K_{S,S}^{-1} K_{S,:} = F F^*, \qquad 0 \preceq F F^* \preceq K

    Columns are picked with probability proportional to the residual diagonal (randomly pivoted Cholesky), in blocks of
    ``rank / 4`` proposals of which some are rejected, so that the picks follow the distribution of the one-by-one
    method exactly while the arithmetic is done by GEMM.

    Parameters
    ----------
    K : kernel (`GaussianKernel` or any ``kernel(P, Q) -> (len(P), len(Q))``) to be used with `X`; or an (n, n)
        Hermitian positive semidefinite matrix, or a `KernelMatrix`, with X left out.
    X : (n, dim) points, float32 or float64, for a kernel.
    rank : landmarks, ``0 <= rank <= n``.
    tol : not available yet.
    selection : "rpcholesky"; "uniform"; or "given", with `indices`.
    indices : the landmarks, for "given".
    rng, workers, progress : as in `column_id`; progress is counted in landmarks.

    Returns
    -------
    Nystrom
        A linear operator; ``trace_error`` is the relative error in the trace norm, known exactly from the diagonal.

    Raises
    ------
    ValueError
        If K is not square, not Hermitian or not positive semidefinite (seen on the pivots), or not finite.

    Complexity
    ----------
    (k + 1) n entries of K and at most a few (k/4)^2 blocks; n k^2 flops in GEMM and n k kernel evaluations; memory n k.

    References
    ----------
    Epperly, Tropp and Webber (2024), Embrace rejection: kernel matrix approximation by accelerated randomly pivoted
    Cholesky, arXiv 2410.03969, algorithms 2.1 and 2.2; Chen, Epperly, Tropp and Webber (2025), doi 10.1002/cpa.22234.

    Examples
    --------
    >>> import numpy as np, lowrank as lr
    >>> X = np.random.default_rng(7).standard_normal((500, 2))
    >>> K = lr.nystrom(lr.GaussianKernel(bandwidth=3.0), X, rank=40, rng=7)
    >>> K.factor.shape, bool(K.trace_error < 1e-4)
    ((500, 40), True)
    """
    began = time.perf_counter()
    operand = _operand(K, X)
    n = operand.shape[0]
    k = check_rank(rank, operand.shape, tol=tol)
    check_choice(selection, LANDMARKS, "selection")
    given = check_indices(indices, n, k, selection)
    workers = resolve_workers(workers)
    generator = np.random.default_rng(rng)
    if selection == "uniform":
        given = generator.permutation(n)[:k]
    before = operand.entries_read
    diagonal = _diagonal(operand)
    trace = float(diagonal.sum())
    with reporting(progress, k, "landmark") as report:
        run = _Cholesky(operand, diagonal, k, workers)
        if given is None:
            run.random(generator, report)
        else:
            run.fixed(given, report)
    error = float(run.residual.sum()) / trace if trace > 0 else 0.0
    certificate = Certificate(error, (error, error), error * trace, 0, "trace")
    if trace == 0:
        status = Status.ZERO if n and k else Status.EMPTY
    elif run.size == k:
        status = Status.RANK_REACHED if k else Status.EMPTY
    else:
        status = Status.EXACT_RANK if given is None else Status.DEPENDENT
    choices = (f"landmarks by {selection}" + (f", in {run.rounds} rounds of {run.block}" if given is None else ""),)
    record = Record(
        status, certificate, operand.entries_read - before, time.perf_counter() - began, selection, choices,
        operand.notes,
    )  # fmt: skip
    size = run.size
    factor = run.F if size == k else np.asfortranarray(run.F[:, :size])
    return Nystrom(run.landmarks[:size], run.pivots[:size], factor, error, record)


def _operand(K, X) -> Operand:
    if callable(K) and not (isinstance(K, Operand) or Operator.accepts(K)):  # scipy's operators can be called, too
        if X is None:
            raise TypeError("a kernel needs points: pass nystrom(kernel, X, rank=...)")
        return KernelMatrix(K, X)
    if X is not None:
        raise TypeError("X goes with a kernel; a matrix K already has its entries, so leave X out")
    operand = as_operand(K)
    if operand.shape[0] != operand.shape[1]:
        raise ValueError(f"K has shape {operand.shape}; a Nystrom approximation needs a square matrix, so try cur")
    return operand


def _diagonal(operand: Operand) -> np.ndarray:
    diagonal = operand.diagonal()
    if not np.isfinite(diagonal).all():
        i = int(np.flatnonzero(~np.isfinite(diagonal))[0])
        raise ValueError(f"K[{i}, {i}] is {diagonal[i]}; lowrank needs finite entries")
    diagonal = np.real(diagonal).astype(np.float64)
    if diagonal.size and diagonal.min() < 0:
        i = int(diagonal.argmin())
        raise ValueError(
            f"K[{i}, {i}] is {diagonal[i]:.3g}, so K is not positive semidefinite; "
            "add a shift to its diagonal, or use cur"
        )
    return diagonal


class _Cholesky:
    """The partial Cholesky factor of K while it grows: F, the residual diagonal, and the landmarks so far."""

    def __init__(self, operand: Operand, diagonal: np.ndarray, k: int, workers: int):
        n = operand.shape[0]
        self.operand, self.k, self.workers = operand, k, workers
        self.block = max(1, -(-k // 4))  # fixed by k: a size taken from the clock would make results irreproducible
        self.F = np.empty((n, k), dtype=operand.dtype, order="F")
        self.residual = diagonal.copy()
        self.landmarks, self.pivots = np.empty(k, dtype=np.int64), np.empty(k)
        self.size = self.rounds = 0
        eps = float(np.finfo(operand.dtype).eps)
        top = float(diagonal.max(initial=0.0))
        self.noise = 8 * eps * top  # what rounding leaves of a residual that is zero
        self.wrong = np.sqrt(eps) * top  # a residual this negative is no rounding
        (self.trsm,) = get_blas_funcs(("trsm",), (self.F,))

    def random(self, rng: np.random.Generator, report) -> None:
        """Rejection-sampled blocks (Epperly, Tropp and Webber 2024, algorithm 2.2)."""
        while self.size < self.k:
            weights = np.where(self.residual > self.noise, self.residual, 0.0)
            heap = np.cumsum(weights)
            if heap.size == 0 or heap[-1] <= 0:
                return  # nothing is left but rounding
            # step 1: propose by the residual diagonal, with replacement
            draws = np.searchsorted(heap, rng.random(self.block) * heap[-1], side="right")
            proposals = np.minimum(draws, np.flatnonzero(weights)[-1])
            # step 2: accept each with the share of its residual that the accepted ones before it have left
            accepted, L = self._accept(proposals, rng.random(self.block) * weights[proposals])
            self._append(accepted[: self.k - self.size], L)
            self.rounds += 1
            report(self.size)

    def fixed(self, landmarks: np.ndarray, report) -> None:
        """The landmarks that the caller wants, but for those that depend on the others to rounding."""
        for i in range(0, len(landmarks), self.block):
            part = landmarks[i : i + self.block]
            accepted, L = self._accept(part, np.zeros(len(part)))
            self._append(accepted, L)
            self.rounds += 1
            report(self.size)

    def _accept(self, proposals: np.ndarray, bar: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Proposals whose residual exceeds `bar`, and the Cholesky factor of the residual block they span."""
        H = self.operand.entries(proposals, proposals)
        self._check_hermitian(H, proposals)
        mine = self.F[proposals, : self.size]
        H = H - mine @ mine.conj().T
        b = len(proposals)
        keep: list[int] = []
        L = np.zeros((b, b), dtype=H.dtype)
        for i in range(b):
            pivot = float(H[i, i].real)
            if pivot < -self.wrong:
                raise self._not_psd(int(proposals[i]), pivot)
            if pivot <= max(bar[i], self.noise):
                continue
            t = len(keep)
            column = H[i:, i] / np.sqrt(pivot)
            L[i:, t] = column
            H[i:, i:] -= np.multiply.outer(column, column.conj())
            keep.append(i)
        return proposals[keep], L[keep][:, : len(keep)]

    def _append(self, chosen: np.ndarray, L: np.ndarray) -> None:
        """Columns ``(K - F F*)[:, chosen] L^-*`` behind the ones of F, in one pass over its rows.

        A thread evaluates, down-dates and solves CHUNK rows while they are in cache. Floor of all passes together:
        n k^2 flops of GEMM and TRSM, one evaluation for each of n k entries, F read k / t times.
        """
        t, r, n = len(chosen), self.size, len(self.F)
        if t == 0:
            return
        L = np.asfortranarray(L[:t, :t])
        if r == 0:
            self._check_rows(chosen)
        Ft = self.F.T
        mine = Ft[:r, chosen].conj().T.copy()
        self.operand._served(n * t)

        def rows(i: int) -> None:
            stop = min(i + CHUNK, n)
            new = np.empty((t, stop - i), dtype=Ft.dtype)
            self.operand._fill(slice(i, stop), chosen, new.T)
            if r:
                new -= mine @ Ft[:r, i:stop]
            self.trsm(1.0, L, new.T, side=1, lower=1, trans_a=2, overwrite_b=True)
            Ft[r : r + t, i:stop] = new
            self.residual[i:stop] -= np.einsum("ij,ij->j", new, new.conj()).real

        with blas_threads(1):
            thread_map(rows, range(0, n, CHUNK), self.workers)
        self.residual[chosen] = 0.0
        worst = int(self.residual.argmin())
        if not self.residual[worst] >= -self.wrong:
            if np.isnan(self.residual[worst]):
                raise ValueError("the chosen columns of K are not finite; lowrank needs finite entries")
            raise self._not_psd(worst, float(self.residual[worst]))
        np.maximum(self.residual, 0.0, out=self.residual)
        self.landmarks[r : r + t] = chosen
        self.pivots[r : r + t] = np.abs(np.diagonal(L)) ** 2
        self.size += t

    def _check_rows(self, chosen: np.ndarray) -> None:
        """A few rows beside the same columns: a matrix that is not Hermitian must not pass as one."""
        if isinstance(self.operand, KernelMatrix) and isinstance(self.operand.kernel, GaussianKernel):
            return
        few = chosen[: min(4, max(1, self.k // 20))]
        rows = self.operand.rows(few)
        gap = np.abs(rows - self.operand.columns(few).conj().T)
        if not gap.max() <= self.wrong and np.isfinite(rows).all():
            i, j = np.unravel_index(int(np.nanargmax(gap)), gap.shape)
            raise self._not_hermitian(int(few[i]), int(j))

    def _not_hermitian(self, i: int, j: int) -> ValueError:
        one, other = self.operand.entries([i], [j])[0, 0], self.operand.entries([j], [i])[0, 0]
        return ValueError(
            f"K is not Hermitian: K[{i}, {j}] = {one:.6g} but K[{j}, {i}] = {other:.6g}; symmetrise it, or use cur"
        )

    def _check_hermitian(self, H: np.ndarray, at: np.ndarray) -> None:
        gap = np.abs(H - H.conj().T)
        if gap.size and not gap.max() <= self.wrong:
            i, j = np.unravel_index(int(np.nanargmax(gap)) if not np.isnan(gap).all() else 0, gap.shape)
            if not np.isfinite(H).all():
                raise ValueError("K has entries that are NaN or inf; lowrank needs finite entries")
            raise self._not_hermitian(int(at[i]), int(at[j]))

    def _not_psd(self, i: int, value: float) -> ValueError:
        return ValueError(
            f"K is not positive semidefinite: the residual at ({i}, {i}) fell to {value:.3g} after {self.size} "
            "landmarks; add a shift to its diagonal, or use cur"
        )
