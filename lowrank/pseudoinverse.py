"""The pseudo-inverse by five methods, each verified by the four equations of Penrose."""

import enum
import sys
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._checks import check_array, check_choice
from .direct_inverse import by_plain_qr, by_qr, by_svd, by_tikhonov
from .hyperpower import iterate

METHODS = ("svd", "qr", "newton_schulz", "chebyshev", "tikhonov")
EQUATIONS = ("A P A = A", "P A P = P", "A P Hermitian", "P A Hermitian")


class InverseStatus(enum.Enum):
    """How a pseudo-inverse came out; the value is what the user reads."""

    VERIFIED = "All four Penrose residuals are below the square root of the rounding unit."
    TRUNCATED = (
        "The Penrose residuals are at rounding level, but for what rcond counted as zero on purpose in A P A - A."
    )
    ILL_CONDITIONED = (
        "The matrix is so ill-conditioned that the Penrose residuals stay above the square root of the rounding unit; "
        "raise rcond, or use method='tikhonov'."
    )
    REGULARISED = "A ridge was added on purpose; the Penrose residuals say how far that is from the pseudo-inverse."
    NOT_CONVERGED = (
        "The iteration did not reach the pseudo-inverse: the condition number is too large for products alone (about "
        "1e5 in double, 200 in single precision), or max_iterations is too small. "
        "Use method='svd' with rcond=, or method='tikhonov'."
    )
    ZERO = "The matrix is zero or empty, and so is its pseudo-inverse."


@dataclass(frozen=True, eq=False, repr=False)
class PseudoInverse:
    """``P = A^+``, made by `pinv`; multiplies like the array that it holds.

    matrix : (..., n, m), an array of the kind that was given;  residuals : (..., 4) float64, relative, in the order
    ``||A P A - A|| / ||A||``, ``||P A P - P|| / ||P||``, and how far A P and P A are from Hermitian over their norms;
    rank : trace of P A, rounded (to one decimal for "tikhonov": the effective degrees of freedom), the largest of a
    batch;  iterations : steps taken, 0 for direct methods;  status, method, notes, seconds.
    """

    matrix: Any
    residuals: np.ndarray
    rank: float
    iterations: int
    status: InverseStatus
    method: str
    seconds: float
    notes: tuple[str, ...] = ()

    __array_ufunc__ = None  # so that ``array @ result`` reaches __rmatmul__

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.matrix.shape)

    @property
    def dtype(self) -> Any:
        return self.matrix.dtype

    def to_dense(self) -> Any:
        """The pseudo-inverse as an array of the kind that was given."""
        return self.matrix

    def __array__(self, dtype=None, copy=None):
        return np.array(_host(self.matrix), dtype=dtype, copy=copy)

    def __matmul__(self, X):
        return self.matrix @ X

    def __rmatmul__(self, X):
        return X @ self.matrix

    @property
    def T(self) -> Any:
        """The transpose, as an array."""
        return self.matrix.swapaxes(-1, -2)

    @property
    def H(self) -> Any:
        """The adjoint, as an array."""
        return self.matrix.swapaxes(-1, -2).conj()

    def aslinearoperator(self):
        """The pseudo-inverse of one matrix as a scipy LinearOperator."""
        from scipy.sparse.linalg import aslinearoperator

        return aslinearoperator(np.asarray(self))

    def _lines(self) -> list[str]:
        worst = self.residuals.reshape(-1, 4).max(axis=0, initial=0.0)
        work = f"{self.iterations} steps, " if self.iterations else ""
        return [
            f"pseudo-inverse {self.shape}, {self.dtype}, by {self.method}, rank {self.rank:g}",
            f"status: {self.status.value}",
            "Penrose residuals: " + ", ".join(f"{name} {value:.1e}" for name, value in zip(EQUATIONS, worst)),
            *(f"note: {note}" for note in self.notes),
            f"work: {work}{self.seconds:.3g} s",
        ]

    def explain(self) -> str:
        """What was done, and how well the result satisfies Penrose's equations."""
        return "\n".join(self._lines())

    def __repr__(self) -> str:
        return "<" + "\n ".join(self._lines()) + ">"


def pinv(A, *, method="svd", rcond=None, ridge=None, max_iterations=None, throw=True) -> PseudoInverse:
    r"""Pseudo-inverse of `A`, verified by Penrose's four equations.

    .. math:: APA = A, \quad PAP = P, \quad (AP)^* = AP, \quad (PA)^* = PA

    Parameters
    ----------
    A : (m, n) or (..., m, n) numpy array or torch tensor, which stays on its device; float32, float64, complex64,
        complex128 (numpy integers and bool become float64).
    method : how to compute it.
        "svd", singular values up to `rcond` times the largest counted as zero;
        "qr", two QRs, the first pivoted: no SVD, nearly the same answer, and no faster on a CPU (torch has no pivoted
        QR: there A must have full rank);
        "newton_schulz" and "chebyshev", matrix products alone, two and three a step, until they converge, which is
        checked: for condition numbers up to about 1e5 in double and 200 in single precision, singular values below
        about eps^(2/3) of the largest counting as zero;
        "tikhonov", :math:`(A^*A + \lambda I)^{-1} A^*`.
    rcond : cut-off for "svd" and "qr"; None means ``max(m, n) * eps``.
    ridge : :math:`\lambda > 0` for "tikhonov", in the square of A's unit; None means
        ``eps^(2/3) * ||A||_F^2``.
    max_iterations : for the iterative methods; None means as many as the smallest singular value that counts can need.
    throw : raise where an iteration did not converge; False returns it with its status.

    Returns
    -------
    PseudoInverse
        ``matrix``, and the four relative ``residuals``. With torch, ``matrix`` is differentiable (twice): all methods
        but "tikhonov", whose graph is torch's own, share the exact derivative of the pseudo-inverse, which needs no
        graph through the iteration.

    Raises
    ------
    ValueError
        For an entry that is not finite, a shape or name that does not fit, or a pseudo-inverse that would overflow.
    TypeError
        For a kind or dtype that is not read.
    numpy.linalg.LinAlgError
        If an iteration did not converge, or "qr" with torch met a matrix without full rank.

    Complexity
    ----------
    With k = min(m, n): about 20 m n k flops for "svd", 8 m n k for "qr" and "tikhonov", 4 m n k a step for
    "newton_schulz", 4 m n k + 2 k^3 for "chebyshev"; about 2 log2(condition) + 8 and 1.3 log2(condition) + 5 steps.
    The residuals take 8 m n k.

    References
    ----------
    Penrose (1955), A generalized inverse for matrices, doi 10.1017/S0305004100030401; Ben-Israel and Cohen (1966),
    doi 10.1137/0703035; Golub and Pereyra (1973), doi 10.1137/0710036.

    Examples
    --------
    >>> import numpy as np, lowrank as lr
    >>> A = np.array([[2.0, 0.0], [0.0, 0.0], [0.0, 4.0]])
    >>> P = lr.pinv(A, method="newton_schulz")
    >>> np.round(P.matrix, 12).tolist()
    [[0.5, 0.0, 0.0], [0.0, 0.0, 0.25]]
    >>> bool(P.residuals.max() < 1e-12), P.rank
    (True, 2)
    """
    began = time.perf_counter()
    check_choice(method, METHODS, "method")
    _check_options(method, rcond, ridge, max_iterations)
    notes: list[str] = []
    A, xp = _array(A, notes)
    m, n = A.shape[-2:]
    eps = float(xp.finfo(A.dtype).eps)
    if 0 in A.shape:
        P = xp.zeros((*A.shape[:-2], n, m), dtype=A.dtype, **_where(A))
        none = np.zeros((*A.shape[:-2], 4))
        return PseudoInverse(P, none, 0, 0, InverseStatus.ZERO, method, time.perf_counter() - began, tuple(notes))
    plain = A if method == "tikhonov" or not _tracked(A) else A.detach()
    exponent = _exponent(plain, xp)
    B = _times_power(plain, -exponent, xp)
    converged, steps = True, 0
    rcond = max(m, n) * eps if rcond is None else float(rcond)
    if method == "svd":
        P = by_svd(B, xp, rcond)
    elif method == "qr":
        P = _full_rank_qr(B, xp, eps) if _is_torch(B) else by_qr(B, rcond)
    elif method == "tikhonov":
        P = by_tikhonov(B, xp, _ridge(ridge, B, exponent, eps ** (2 / 3), xp))
    else:
        order = 2 if method == "newton_schulz" else 3
        needed = int(np.ceil(4 / 3 * np.log2(1 / eps) / np.log2(order))) + 20
        P, done, steps = iterate(B, xp, order, eps, needed if max_iterations is None else max_iterations)
        converged = bool(xp.all(done))
    residuals, rank = _penrose(B, P, xp)
    status = _judge(method, residuals, converged, eps, rcond * min(m, n) ** 0.5, bool(xp.all(B == 0)))
    if throw and status is InverseStatus.NOT_CONVERGED:
        worst = float(residuals.max())
        raise np.linalg.LinAlgError(f"{status.value} ({steps} steps, largest Penrose residual {worst:.1e})")
    P = _times_power(P, -exponent, xp)
    if not bool(xp.all(xp.isfinite(P))):
        raise ValueError("the pseudo-inverse leaves the range of its dtype, because A is too small; scale A up first")
    if plain is not A:
        from .differential import Attach

        P = Attach.apply(A, P)
    rank = round(rank, 1) if method == "tikhonov" else round(rank)
    return PseudoInverse(P, residuals, rank, steps, status, method, time.perf_counter() - began, tuple(notes))


def _full_rank_qr(A: Any, xp: Any, eps: float) -> Any:
    """`by_plain_qr` where it is right: torch has no pivoted QR, so the answer is checked instead."""
    refusal = "method='qr' needs full rank with torch, which has no pivoted QR; use method='svd'"
    try:
        P = by_plain_qr(A, xp)
    except RuntimeError as problem:  # torch found an exact zero on the diagonal of R
        raise np.linalg.LinAlgError(refusal) from problem
    residuals, rank = _penrose(A, P, xp)
    if not (residuals.max() <= eps**0.5 and round(rank) == min(A.shape[-2:])):
        raise np.linalg.LinAlgError(f"{refusal} (largest Penrose residual {float(residuals.max()):.1e})")
    return P


def _judge(method: str, residuals: np.ndarray, converged: bool, eps: float, cut: float, zero: bool) -> InverseStatus:
    if zero:
        return InverseStatus.ZERO
    if method == "tikhonov":
        return InverseStatus.REGULARISED
    good = bool(residuals.max() <= eps**0.5)  # False for NaN
    if method in ("newton_schulz", "chebyshev"):
        return InverseStatus.VERIFIED if good and converged else InverseStatus.NOT_CONVERGED
    if not good and residuals[..., 0].max() <= cut and residuals[..., 1:].max() <= eps**0.5:
        return InverseStatus.TRUNCATED
    return InverseStatus.VERIFIED if good else InverseStatus.ILL_CONDITIONED


def _penrose(A: Any, P: Any, xp: Any) -> tuple[np.ndarray, float]:
    """The four relative residuals (..., 4), and the largest trace of P A."""
    if _tracked(A) or _tracked(P):
        A, P = A.detach(), P.detach()
    AP, PA = A @ P, P @ A

    def norm(X):
        return np.asarray(_host(xp.sqrt(xp.sum(xp.abs(X) ** 2, axis=(-2, -1)))), dtype=np.float64)

    def ratio(error, scale):
        return np.divide(norm(error), norm(scale), out=np.zeros(A.shape[:-2]), where=norm(scale) != 0)

    with np.errstate(invalid="ignore", over="ignore"):
        residuals = [
            ratio(AP @ A - A, A),
            ratio(P @ AP - P, P),
            ratio(AP - AP.swapaxes(-1, -2).conj(), AP),
            ratio(PA - PA.swapaxes(-1, -2).conj(), PA),
        ]
        trace = np.real(_host(xp.sum(xp.linalg.diagonal(PA), axis=-1)))
    return np.stack(residuals, axis=-1), float(np.max(trace)) if np.isfinite(trace).all() else 0.0


def _check_options(method: str, rcond, ridge, max_iterations) -> None:
    for name, value, methods in (
        ("rcond", rcond, ("svd", "qr")),
        ("ridge", ridge, ("tikhonov",)),
        ("max_iterations", max_iterations, ("newton_schulz", "chebyshev")),
    ):
        if value is not None and method not in methods:
            raise ValueError(f"{name}= goes with {' and '.join(map(repr, methods))}, not with method={method!r}")
    if rcond is not None and not 0 <= rcond < 1:
        raise ValueError(
            f"rcond={rcond} must be at least 0 and below 1: it is a fraction of the largest singular value"
        )
    if ridge is not None and not 0 < ridge < np.inf:
        raise ValueError(f"ridge={ridge} must be positive and finite; for none, use method='svd'")
    if max_iterations is not None and (isinstance(max_iterations, bool) or int(max_iterations) != max_iterations):
        raise TypeError(f"max_iterations={max_iterations!r} is not an integer")
    if max_iterations is not None and max_iterations < 1:
        raise ValueError(f"max_iterations={max_iterations} must be at least 1")


def _array(A, notes: list[str]) -> tuple[Any, Any]:
    """`A` as an array of at least two dimensions with finite floating-point entries, and its namespace."""
    from array_api_compat import array_namespace

    if not _is_torch(A):
        if not isinstance(A, (np.ndarray, list, tuple)):
            kind = f"{type(A).__module__}.{type(A).__qualname__}"
            raise TypeError(f"A is a {kind}; pinv reads numpy arrays and torch tensors, so convert it first")
        A = check_array(A)
        if A.dtype.kind in "iub":
            notes.append(f"A converted from {A.dtype} to float64")
            A = A.astype(np.float64)
    xp = array_namespace(A)
    if A.dtype not in (xp.float32, xp.float64, xp.complex64, xp.complex128):
        raise TypeError(f"A has dtype {A.dtype}; pinv reads float32, float64, complex64, complex128; convert it first")
    if A.ndim < 2:
        raise ValueError(f"A has shape {tuple(A.shape)}; pinv needs a matrix or a batch of them, so reshape it")
    finite = xp.isfinite(A)
    if not bool(xp.all(finite)):
        where = tuple(int(i) for i in np.argwhere(~np.asarray(_host(finite)))[0])
        place = ", ".join(map(str, where))
        raise ValueError(f"A[{place}] is {A[where].item()}; pinv needs finite entries, so remove or impute them first")
    return A, xp


def _is_torch(A) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(A, torch.Tensor)


def _tracked(A) -> bool:
    return _is_torch(A) and A.requires_grad


def _host(x):
    return x.detach().cpu().resolve_conj().numpy() if _is_torch(x) else x


def _real_kind(A, xp) -> type:
    return np.float32 if A.dtype in (xp.float32, xp.complex64) else np.float64


def _where(A) -> dict:
    return {"device": A.device} if _is_torch(A) else {}


def _exponent(A: Any, xp: Any) -> np.ndarray:
    """Binary exponent of the largest entry of each matrix, (...) on the host; 0 for a zero matrix."""
    parts = [xp.real(A), xp.imag(A)] if xp.isdtype(A.dtype, "complex floating") else [A]
    largest = np.max([_host(xp.max(xp.abs(part), axis=(-2, -1))) for part in parts], axis=0)
    return np.frexp(largest)[1].astype(np.int64)


def _times_power(A: Any, exponent: np.ndarray, xp: Any) -> Any:
    """``A * 2**exponent`` matrix by matrix, in two halves, so that the power itself does not overflow."""
    half = exponent // 2
    with np.errstate(over="ignore", under="ignore"):
        for part in (half, exponent - half):
            power = np.ldexp(np.ones((), _real_kind(A, xp)), part)[..., None, None]
            A = A * xp.asarray(power, **_where(A))
    return A


def _ridge(ridge, B: Any, exponent: np.ndarray, relative: float, xp: Any) -> Any:
    """The ridge for each scaled matrix B; 1 for a zero one, whose answer is zero with any."""
    squared = np.asarray(_host(xp.sum(xp.abs(B) ** 2, axis=(-2, -1))), dtype=np.float64)
    with np.errstate(over="ignore", under="ignore"):
        wanted = relative * squared if ridge is None else np.ldexp(float(ridge), -2 * exponent)
    kind = _real_kind(B, xp)
    info = np.finfo(kind)
    wanted = np.clip(np.where(squared > 0, wanted, 1.0), float(info.tiny), float(info.max))
    return xp.asarray(wanted.astype(kind), **_where(B))
