"""Nystrom approximations of positive semidefinite matrices, from k of their columns."""

import copy
import dataclasses
import math
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ._checks import check_array, check_choice, check_indices, check_rank, check_tol
from ._progress import reporting
from ._tensors import takes_tensors, through_host
from ._threads import blas_threads, resolve_workers
from .certificate import Certificate, certify
from .feature_map import FeatureMap
from .landmarks import LANDMARKS, Search
from .operands import KernelMatrix, Operand, Operator, as_operand
from .operands.shifted import Shifted
from .partial_cholesky import NotPositiveError, PartialCholesky
from .results import Record, Recorded, Status
from .semidefinite_error import within
from .tolerance import DECIDING

NORMS = ("trace", "fro", "spectral")
SAFE = {"f": 1e12, "d": 1e100}  # squares of numbers beyond this, or below its inverse, come near to the range's end


@dataclass(frozen=True, eq=False, repr=False)
class Nystrom(Recorded):
    """``K + shift I ~ F F*`` from the columns of K at `landmarks`; made by `nystrom`.

    landmarks : (k,) indices in order of choice;  pivots : (k,) residual diagonal of each when it was chosen;
    factor : F, (n, k), of which the first r columns are the approximation from the first r landmarks;
    trace_error : ``trace(K - F F*) / trace(K)``, known exactly (with K + shift I for K where a shift was asked for);
    shift : what was added to the diagonal of K, 0 unless asked for;  feature_map : for `transform`, None for matrices.
    """

    landmarks: np.ndarray
    pivots: np.ndarray
    factor: np.ndarray
    trace_error: float
    record: Record
    shift: float = 0.0
    feature_map: FeatureMap | None = None

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

    @cached_property
    def _eigen(self) -> tuple[np.ndarray, np.ndarray]:
        Q, R = np.linalg.qr(self.factor)
        U, s, _ = np.linalg.svd(R, full_matrices=False)
        return s**2, Q @ U

    def __getstate__(self):
        return {name: value for name, value in self.__dict__.items() if name != "_eigen"}

    @through_host
    def eigh(self) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues (descending) and eigenvectors (n, k) of F F*, from the singular values of F; 4 n k^2 flops once.

        An eigenvalue w is off by at most about ``2 eps k sqrt(w w_max)``, which is less than ``eps w_max``, what an
        eigensolver of the dense matrix gives.
        """
        values, vectors = self._eigen
        return values.copy(), vectors.copy()

    @through_host
    def solve(self, b: np.ndarray, shift: float) -> np.ndarray:
        """``(F F* + shift I)^-1 b`` for a positive shift, by the eigenvectors of F F*.

        Backward stable: ``|(F F* + shift I) x - b| <= c k eps (|F F* + shift I| |x| + |b|)`` with a small c, so the
        relative error of x is at most that times the condition number ``(w_max + shift) / shift``. 4 n k flops a
        right-hand side after the first, which makes the eigenvectors.
        """
        shift = _positive(shift)
        b = self._checked(b, self.shape[0])
        values, vectors = self._eigen
        values = values if b.ndim == 1 else values[:, None]
        along = vectors.conj().T @ b
        rest = b - vectors @ along
        rest -= vectors @ (vectors.conj().T @ rest)  # what rounding left along the vectors would be divided by shift
        return vectors @ (along / (values + values.dtype.type(shift))) + rest / values.dtype.type(shift)

    @through_host
    def logdet(self, shift: float) -> float:
        """``log det(F F* + shift I)`` for a positive shift.

        Off by at most ``sum of |dw_j| / (w_j + shift)`` over the errors dw_j of `eigh`.
        """
        shift = _positive(shift)
        values, _ = self._eigen
        return float(np.log1p(values.astype(float) / shift).sum() + (self.shape[0]) * math.log(shift))

    @through_host
    def preconditioner(self, shift: float):
        """``(F F* + shift I)^-1`` as a scipy LinearOperator, for conjugate gradients on ``(K + shift I) x = b``.

        With random pivots and a rank of the order of the number of eigenvalues above the shift, the preconditioned
        matrix has a condition number bounded by a constant, so that the number of iterations does not grow with n
        (Diaz, Epperly, Frangella, Tropp and Webber 2023, arXiv 2304.12465). 4 n k flops an iteration.
        """
        from scipy.sparse.linalg import LinearOperator

        shift = _positive(shift)

        def apply(b):
            return self.solve(b, shift)

        options = {"matvec": apply, "rmatvec": apply, "matmat": apply, "rmatmat": apply}
        return LinearOperator(shape=self.shape, dtype=self.dtype, **options)  # pyright: ignore

    @through_host
    def transform(self, Y, *, workers: int | None = None) -> np.ndarray:
        """Features (p, k) of the points Y (p, dim): ``transform(Y) @ transform(Z)^* ~ kernel(Y, Z)``.

        ``kernel(Y, P) L^-*`` for the landmark points P, where L is `factor` at the landmarks; of the points of the fit
        this is `factor` again (but for the landmarks' own rows where a shift was used). p k kernel entries and p k^2
        flops.
        """
        if self.feature_map is None:
            raise ValueError("a matrix has no points to transform; make the approximation with nystrom(kernel, X, ...)")
        return self.feature_map(Y, np.tril(self.factor[self.landmarks]), resolve_workers(workers))

    @through_host
    def refine(self, K, X=None, *, rank, rng=None, workers=None) -> "Nystrom":
        """The same landmarks and more, up to `rank`, by randomly pivoted Cholesky; K and X as they were given.

        Reads ``(rank - k + 1) n`` entries. The result is one that `nystrom` could have returned, in law.
        """
        began = time.perf_counter()
        operand = _operand(K, X)
        if operand.shape != self.shape:
            raise ValueError(f"K has shape {operand.shape}, but the approximation has {self.shape}; pass the same K")
        limit = check_rank(rank, operand.shape)
        if limit < self.rank:
            raise ValueError(f"rank={limit} is below the rank {self.rank} that is there already; pass a larger one")
        job = _Job(operand, limit, None, "rpcholesky", None, resolve_workers(workers), False, self)
        return job.finish(job.run(np.random.default_rng(rng), self.shift), self.shift, began)

    def save(self, path) -> Path:
        """Write the result to a ``.npz`` file; a kernel that is a Python function, and so `transform`, stay behind."""
        if self.feature_map is None:
            return super().save(path)
        return super(Nystrom, dataclasses.replace(self, feature_map=self.feature_map.portable())).save(path)

    def _lines(self):
        n, _ = self.shape
        more = [f"shift: F F* approximates K + {self.shift:.3g} I"] if self.shift else []
        title = f"Nystrom approximation of a {n} x {n} {self.dtype} matrix, rank {self.rank}"
        return [title, *more, *self.record.lines()]


def _positive(shift) -> float:
    if isinstance(shift, (int, float, np.integer, np.floating)) and np.isfinite(shift) and shift > 0:
        return float(shift)
    raise ValueError(f"shift={shift!r}; F F* is singular, so pass a positive finite shift")


@takes_tensors
def nystrom(
    K, X=None, *, rank=None, tol=None, norm="trace", selection="rpcholesky", indices=None, shift=None, rng=None,
    workers=None, progress=False,
) -> Nystrom:  # fmt: skip
    r"""Approximate a positive semidefinite matrix from `rank` of its columns.

    .. math:: K \approx K_{:,S} K_{S,S}^{-1} K_{S,:} = F F^*, \qquad 0 \preceq F F^* \preceq K

    By default columns are picked with probability proportional to the residual diagonal (randomly pivoted Cholesky), in
    blocks of proposals of which some are rejected, so that the picks follow the distribution of the one-by-one method
    exactly while the arithmetic is done by GEMM. One seed gives nested results: the landmarks of a rank, or of a
    tolerance, are the first of those of any higher rank.

    Parameters
    ----------
    K : kernel (`GaussianKernel` or any ``kernel(P, Q) -> (len(P), len(Q))``) to be used with `X`; or an (n, n)
        Hermitian positive semidefinite matrix of any kind that `as_operand` reads, such as a precomputed kernel, with
        X left out. A LinearOperator shows its diagonal only through n products.
    X : (n, dim) points, float32 or float64, for a kernel.
    rank : landmarks, ``0 <= rank <= n``.
    tol : in place of a rank, the relative error in `norm` to reach; the result has the fewest landmarks, in order,
        that do. With "rpcholesky" and "greedy".
    norm : "trace", in which the error is known exactly. "fro" and "spectral" read all n^2 entries: for the certificate,
        which `certify` measures, and once more for a `tol`, which 20 probes then put above the error with 99.9 %
        confidence. Relative errors in different norms do not bound each other.
    selection : "rpcholesky"; "uniform"; "kmeans" (nearest to the centres of k clusters of points, or of the rows of a
        partial factor where K has no points); "leverage" (ridge leverage scores by recursive sampling); "greedy"
        (largest residual first); or "given", with `indices`.
    indices : the landmarks, for "given".
    shift : None: a K that shows itself to be indefinite is an error. A number: approximate ``K + shift I``. "auto": 0,
        and where K shows itself to be indefinite, twice the depth that was seen, until none is seen any more.
    rng, workers, progress : as in `column_id`; progress is counted in landmarks.

    Returns
    -------
    Nystrom
        A linear operator; ``trace_error`` is the relative error in the trace norm, known exactly from the diagonal.

    Raises
    ------
    ValueError
        If K is not square, not Hermitian or not positive semidefinite (seen on the pivots), or not finite. A matrix
        whose indefiniteness shows in no residual passes: only all n pivots would prove it.

    Complexity
    ----------
    (k + 1) n entries of K and the squares of the blocks; n k^2 flops in GEMM and n k kernel evaluations; memory n k.
    "kmeans" adds 2 n k dim flops a sweep (at most 30), and without points (k + 1) n entries; "leverage" reads about
    3 k n entries; "greedy" does the same arithmetic as the default one column at a time, bound by memory.

    References
    ----------
    Epperly, Tropp and Webber (2024), Embrace rejection: kernel matrix approximation by accelerated randomly pivoted
    Cholesky, arXiv 2410.03969, algorithms 2.1 and 2.2; Chen, Epperly, Tropp and Webber (2025), doi 10.1002/cpa.22234;
    Musco and Musco (2017), arXiv 1605.07583; Zhang, Tsang and Kwok (2008), doi 10.1145/1390156.1390311; Harbrecht,
    Peters and Schneider (2012), doi 10.1016/j.apnum.2011.10.001.

    Examples
    --------
    >>> import numpy as np, lowrank as lr
    >>> X = np.random.default_rng(7).standard_normal((500, 2))
    >>> K = lr.nystrom(lr.GaussianKernel(bandwidth=3.0), X, rank=40, rng=7)
    >>> K.factor.shape, bool(K.trace_error < 1e-4)
    ((500, 40), True)
    >>> L = lr.nystrom(lr.GaussianKernel(bandwidth=3.0), X, tol=1e-4, rng=7)
    >>> bool(L.rank < 40), bool(L.trace_error <= 1e-4), bool((L.landmarks == K.landmarks[: L.rank]).all())
    (True, True, True)
    >>> K.transform(np.zeros((3, 2))).shape
    (3, 40)
    """
    began = time.perf_counter()
    operand = _operand(K, X)
    n = operand.shape[0]
    check_choice(selection, LANDMARKS, "selection")
    check_choice(norm, NORMS, "norm")
    if tol is not None:
        tol = check_tol(tol, rank, selection)
        _check_nested(selection)
    limit = n if tol is not None else check_rank(rank, operand.shape, instead=", or tol=")
    indices = check_indices(indices, n, limit, selection)
    added = _check_shift(shift)
    generator = np.random.default_rng(rng)
    job = _Job(operand, limit, tol, selection, indices, resolve_workers(workers), progress, None, norm)
    if shift != "auto":
        return job.finish(job.run(generator, added), added, began, norm, generator)
    state = generator.bit_generator.state
    while True:
        try:
            return job.finish(job.run(generator, added), added, began, norm, generator)
        except NotPositiveError as problem:  # the least shift that could have saved this run, doubled
            added = max(2 * added, added - 2 * problem.value)
            generator.bit_generator.state = state


def _check_nested(selection: str) -> None:
    if not LANDMARKS[selection].nested:
        names = ", ".join(repr(name) for name, rule in LANDMARKS.items() if rule.nested)
        raise ValueError(
            f"selection={selection!r} chooses all landmarks at once, so pass rank= with it; tol= works with {names}"
        )


def _probes(n: int, rng: np.random.Generator) -> np.ndarray:
    """Gaussian probes that take nothing from the stream that landmarks are drawn from: these stay nested."""
    seeds = copy.deepcopy(rng).integers(0, 1 << 32, size=4)
    return np.random.default_rng([DECIDING, *(int(seed) for seed in seeds)]).standard_normal((n, DECIDING))


def _check_shift(shift) -> float:
    if shift is None or (isinstance(shift, str) and shift == "auto"):
        return 0.0
    if isinstance(shift, bool) or not isinstance(shift, (int, float, np.integer, np.floating)):
        raise TypeError(f'shift={shift!r}; pass None, a number to add to the diagonal of K, or "auto"')
    if not (np.isfinite(shift) and shift >= 0):
        raise ValueError(f'shift={shift!r} is not a finite number >= 0; pass such a number, None, or "auto"')
    return float(shift)


def _operand(K, X) -> Operand:
    if callable(K) and not (isinstance(K, Operand) or Operator.accepts(K)):  # scipy's operators can be called, too
        if X is None:
            raise TypeError("a kernel needs points: pass nystrom(kernel, X, rank=...)")
        return KernelMatrix(
            K, np.ascontiguousarray(check_array(X, "X"))
        )  # in another memory order sums round otherwise
    if X is not None:
        raise TypeError("X goes with a kernel; a matrix K already has its entries, so leave X out")
    operand = as_operand(K)
    if operand.shape[0] != operand.shape[1]:
        raise ValueError(f"K has shape {operand.shape}; a Nystrom approximation needs a square matrix, so try cur")
    return operand


def _diagonal(operand: Operand) -> np.ndarray:
    diagonal = np.asarray(operand.diagonal())
    if not np.isfinite(diagonal).all():
        i = int(np.flatnonzero(~np.isfinite(diagonal))[0])
        raise ValueError(f"K[{i}, {i}] is {diagonal[i]}; lowrank needs finite entries")
    diagonal = np.real(diagonal).astype(np.float64)
    if diagonal.size and diagonal.min() < 0:
        i = int(diagonal.argmin())
        raise NotPositiveError(
            f"K[{i}, {i}] is {diagonal[i]:.3g}, so K is not positive semidefinite; "
            'pass shift="auto" or a shift of your own for its diagonal, or use cur',
            float(diagonal[i]),
        )
    return diagonal


@dataclass
class _Job:
    """What was asked for; `run` may be called again with a larger shift."""

    operand: Operand
    limit: int
    tol: float | None
    selection: str
    indices: np.ndarray | None
    workers: int
    progress: Any
    start: Nystrom | None
    norm: str = "trace"

    def __post_init__(self):
        self.before = self.operand.entries_read

    def run(self, rng: np.random.Generator, shift: float) -> PartialCholesky:
        operand = Shifted(self.operand, shift) if shift else self.operand
        diagonal = _diagonal(operand)
        self.exponent = _exponent(diagonal, operand.dtype)
        if self.exponent:  # by a power of 4, which changes no digit of F
            operand, diagonal = operand.scaled(2.0**-self.exponent), np.ldexp(diagonal, -self.exponent)
        self.trace = float(diagonal.sum())
        measured = self.tol is not None and self.norm != "trace" and self.trace > 0
        target = -1.0 if self.tol is None else self.tol * self.trace
        if self.tol is not None and measured:
            target = min(self.tol, 1.0) ** 0.5 * self.trace  # where to begin; halved until the probes are content
        cholesky = PartialCholesky(operand, diagonal, self.limit, self.workers, target=target)
        if self.start is not None and self.start.rank:
            scale = 2.0 ** -(self.exponent // 2)
            cholesky.resume(
                self.start.landmarks, np.ldexp(self.start.pivots, -self.exponent), self.start.factor * scale
            )
        base = self.operand
        points = base.X if isinstance(base, KernelMatrix) and base.square else None
        with reporting(self.progress, self.limit, "landmark") as report, blas_threads(1):
            search = Search(cholesky, rng, points, self.indices, report)
            probes = _probes(operand.shape[0], rng) if measured else None
            self.said = LANDMARKS[self.selection].run(search) if self.trace > 0 else ""
            if self.tol is not None and probes is not None:

                def more() -> None:
                    self.said = LANDMARKS[self.selection].run(search)

                self.met = within(cholesky, self.tol, self.norm, probes, more)
                return cholesky
        self.met = cholesky.residual.sum() <= target
        if self.met:
            cholesky.trim()
        return cholesky

    def finish(self, cholesky: PartialCholesky, shift: float, began: float, norm="trace", rng=None) -> Nystrom:
        size, trace = cholesky.size, self.trace
        left = float(cholesky.residual.sum())
        error = left / trace if trace > 0 else 0.0
        certificate = Certificate(error, (error, error), math.ldexp(left, self.exponent), 0, "trace")
        factor = cholesky.factor()
        if self.exponent:
            factor *= np.real(factor).dtype.type(2.0 ** (self.exponent // 2))
        pivots = np.ldexp(cholesky.pivots, self.exponent)
        said = f"landmarks by {self.selection}" + (f": {self.said}" if self.said else "")
        record = Record(
            self._status(size), certificate, self.operand.entries_read - self.before, time.perf_counter() - began,
            self.selection, (said,), self.operand.notes,
        )  # fmt: skip
        base, feature_map = self.operand, None
        if isinstance(base, KernelMatrix) and base.square:
            feature_map = FeatureMap(base.kernel, base.X[cholesky.landmarks])
        found = Nystrom(cholesky.landmarks, pivots, factor, error, record, shift, feature_map)
        if norm == "trace":
            return found
        operand = Shifted(self.operand, shift) if shift else self.operand
        measured = certify(operand, found, norm=norm, rng=rng, workers=self.workers)
        entries, seconds = self.operand.entries_read - self.before, time.perf_counter() - began
        record = dataclasses.replace(record, certificate=measured, entries_read=entries, seconds=seconds)
        return dataclasses.replace(found, record=record)

    def _status(self, size: int) -> Status:
        if self.trace == 0:
            return Status.ZERO if self.operand.shape[0] and self.limit else Status.EMPTY
        if self.tol is not None:
            met = Status.TOLERANCE_EXACT if self.norm == "trace" else Status.TOLERANCE_MET
            return met if self.met else Status.TOLERANCE_MISSED
        if size == self.limit:
            return Status.RANK_REACHED if size else Status.EMPTY
        return Status.DEPENDENT if self.indices is not None or self.selection == "uniform" else Status.EXACT_RANK


def _exponent(diagonal: np.ndarray, dtype: np.dtype) -> int:
    """An even e such that ``2^-e K`` has its largest entry near 1, or 0 where K's own range will do."""
    top = float(diagonal.max(initial=0.0))
    safe = SAFE[np.dtype(dtype).char.lower()]
    if top == 0 or 1 / safe < top < safe:
        return 0
    most = 120 if safe == SAFE["f"] else 1000
    return min(max(2 * (math.frexp(top)[1] // 2), -most), most)
