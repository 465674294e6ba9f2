"""How good an approximation is, measured on Gaussian probes that had no part in making it."""

import math
from dataclasses import dataclass, field, replace

import numpy as np

from ._checks import check_array, check_norm
from ._tensors import takes_tensors
from ._threads import resolve_workers
from .operands import as_operand


@dataclass(frozen=True)
class Certificate:
    """A relative error ``||A - B|| / ||A||`` with its 95 % interval.

    estimate, interval : relative to ||A||, in the norm `norm`;  absolute : the estimate times ||A||;
    probes : Gaussian vectors used, 0 where the error is known exactly (then the interval is a point);
    gram : (p, p) products of the probes' residuals over ||A||_F^2, and size : ||A||_F, which an update adds to; None
    and 0 where the norm is another or was not read.
    """

    estimate: float
    interval: tuple[float, float]
    absolute: float
    probes: int
    norm: str = "fro"
    gram: np.ndarray | None = field(default=None, compare=False, repr=False)
    size: float = field(default=0.0, compare=False, repr=False)

    def __str__(self) -> str:
        low, high = self.interval
        if self.probes == 0 and low == high:
            return f"{self.estimate:.3g} ({self.norm} norm, exact)"
        if self.probes == 0:
            return f"{self.estimate:.3g}, between {low:.3g} and {high:.3g} ({self.norm} norm)"
        return f"{self.estimate:.3g}, 95 % interval [{low:.3g}, {high:.3g}] ({self.norm} norm, {self.probes} probes)"


def from_residuals(
    residuals: np.ndarray, squared_norm: float, floor: float = 0.0, level: float = 0.05, norms=(1.0, 1.0)
) -> Certificate:
    """Certificate from the rows ``omega_i^T E`` of Gaussian probes of the error E.

    ``|omega^T E|^2`` is a mixture ``sum of s_l^2 chi^2_1`` over the singular values of E, with mean ||E||_F^2
    (Hutchinson 1989, doi 10.1080/03610918908812806) and variance 2 ||E E^T||_F^2; the interval is that of the
    chi-square with both moments (Satterthwaite 1946, doi 10.2307/3002019), whose degrees of freedom `degrees` finds.

    floor : relative error that rounding alone may cause, added to the upper end;  level : chance of an error outside;
    norms : interval of ||A|| over the square root of `squared_norm`, where that is an estimate. The ends of both
    intervals are set against each other, which covers as often as each does alone, also where both rest on one set of
    probes.
    """
    p = len(residuals)
    size = float(np.abs(residuals).max(initial=0.0))
    if size == 0.0 or squared_norm == 0.0:
        return Certificate(0.0, (0.0, floor), 0.0, p)
    R = residuals / size
    R = np.hstack([R.real, R.imag]) if R.dtype.kind == "c" else R
    gram = R.astype(np.float64) @ R.astype(np.float64).T
    error = np.sqrt(np.trace(gram) / p) * size
    less, more = spread(gram, level)
    norm = np.sqrt(squared_norm)
    interval = float(error * less / norm / norms[1]), float(error * more / norm / norms[0] + floor)
    return Certificate(float(error / norm), interval, float(error), p)


def of_nothing(found: Certificate) -> Certificate:
    """What is known of an approximation by zero: its relative error is 1, or 0 where A is zero too.

    found : a certificate of the same, for what it says of ||A||.
    """
    size = found.size or found.absolute
    relative = 1.0 if size > 0 else 0.0
    return replace(found, estimate=relative, interval=(relative, relative), absolute=size, probes=0)


def spread(gram: np.ndarray, level: float) -> tuple[float, float]:
    """Interval of the true Frobenius norm over its estimate from probes with this Gram matrix."""
    from scipy.special import chdtri

    freedom = degrees(gram)
    less, more = (float(np.sqrt(freedom / chdtri(freedom, tail))) for tail in (level / 2, 1 - level / 2))
    return less, more


def degrees(gram: np.ndarray) -> float:
    """Degrees of freedom ``p ||E||_F^4 / ||E E^T||_F^2`` of the mean of p squared probes, from their Gram matrix.

    Products of two different probes estimate numerator and denominator without bias. Their ratio is noisy, and an
    interval from it as it stands covers 88 to 95 %; lowered by one jackknife standard error of its logarithm (Efron and
    Stein 1981, doi 10.1214/aos/1176345462) it covers 94 to 98 % on thirteen spectra. One singular value alone gives p
    degrees, the fewest possible.
    """
    p = len(gram)
    if p < 4:
        return float(p)
    t = np.diag(gram)
    pairs = gram**2
    np.fill_diagonal(pairs, 0.0)
    above, below = t.sum() ** 2 - t @ t, pairs.sum()
    rest = t.sum() - t
    above_without = rest**2 - (t @ t - t**2)
    below_without = below - 2 * pairs.sum(axis=1)
    if not (below > 0 and below_without.min() > 0):
        return 1e6 if below == 0 else float(p)
    logs = np.log(above_without / below_without)
    error = np.sqrt((p - 1) / p * np.sum((logs - logs.mean()) ** 2))
    return min(float(p * max(1.0, above / below * np.exp(-error))), 1e6)


@takes_tensors
def certify(A, approximation, *, probes=10, norm="fro", rng=None, workers=None) -> Certificate:
    r"""Estimate the relative error of any approximation of `A`, with an interval.

    .. math:: \frac{1}{p} \sum_{i=1}^p \|\omega_i^T (A - B)\|^2 \approx \|A - B\|_F^2, \quad \omega_i \sim N(0, I)

    Parameters
    ----------
    A : (m, n) matrix of any kind that `as_operand` reads.
    approximation : B, as a result of this package, an array, or anything with ``X @ B`` or ``B.rmatmat``.
    probes : number of Gaussian vectors; the width of the interval falls with its square root.
    norm : "fro"; "spectral", by Golub-Kahan steps from a Gaussian block; or "trace", exact from the diagonals, for a
        positive semidefinite A and an approximation from below, such as one of `nystrom`.
    rng : seed or numpy Generator. Take another seed than the one that made the approximation.
    workers : threads; None means all.

    Returns
    -------
    Certificate

    Raises
    ------
    ValueError
        If the shapes differ, A has entries that are not finite, or A - B is not positive semidefinite for "trace".

    Complexity
    ----------
    "fro": one pass over A, 2 p m n flops, and p products with the approximation. "spectral": about six passes of
    4 p m n flops (at most 34). "trace": two passes, and the diagonal of A.

    References
    ----------
    Martinsson and Tropp (2020), Randomized numerical linear algebra, doi 10.1017/S0962492920000021, section 12;
    Hochstenbach (2013), Probabilistic upper bounds for the matrix two-norm, doi 10.1007/s10915-013-9716-x.

    Examples
    --------
    >>> import numpy as np, lowrank as lr
    >>> A = np.diag([3.0, 2.0, 1.0])
    >>> B = np.diag([3.0, 2.0, 0.0])
    >>> c = lr.certify(A, B, rng=7)
    >>> c.interval[0] < 1 / 14**0.5 < c.interval[1]
    True
    """
    from .passes import first_pass

    check_norm(norm, trace=True)
    probes = int(probes)
    if probes < 1:
        raise ValueError(f"probes={probes}; pass at least 1, and 10 for an interval worth having")
    operand = as_operand(A)
    if isinstance(approximation, (list, tuple, np.ndarray)):
        approximation = check_array(approximation, "the approximation")
    shape = getattr(approximation, "shape", None)
    if shape != operand.shape:
        raise ValueError(f"A has shape {operand.shape}, but the approximation has {shape}; they must agree")
    generator = np.random.default_rng(rng)
    m = operand.shape[0]
    workers = resolve_workers(workers)
    omega = generator.standard_normal((probes, m))
    start = first_pass(operand, 0, generator, probes=0, workers=workers, omega=omega)
    factor = getattr(start.operand, "factor", 1.0)

    def adjoint(X: np.ndarray) -> np.ndarray:
        if isinstance(approximation, np.ndarray) or not hasattr(approximation, "rmatmat"):
            return np.asarray(X.conj().T @ approximation).conj().T
        return np.asarray(approximation.rmatmat(X))

    # the factor goes to the probes and not to the product, which may leave the range of floating point
    residual = start.sketch.W - adjoint(factor * omega.T).conj().T
    if not np.isfinite(residual).all():
        raise ValueError("the approximation gives NaN or inf when it is multiplied; there is nothing to certify")
    if norm == "trace":
        return _trace(operand, approximation, residual / factor, omega, workers)
    if norm == "spectral":
        return spectral(start.operand, lambda X: np.asarray(approximation @ X), adjoint, generator, workers, probes)
    found = from_residuals(residual, start.sketch.squared_norm, norms=start.sketch.norm_interval())
    return Certificate(found.estimate, found.interval, found.absolute / factor, probes, norm)


def spectral(operand, forward, adjoint, rng, workers: int, probes: int = 10, level: float = 0.05) -> Certificate:
    """The spectral error of B, given by its products, with ||A||_2 itself between bounds; six passes or so over A.

    The ends of the interval set the bounds of one norm against those of the other. Lower bounds always hold and each
    upper one fails with probability ``level / 2`` at most, so that the interval covers the truth whatever the spectra
    are. The estimate is the ratio of the geometric means. A scaled operand stands for A times its factor.
    """
    bounds = spectral_bounds(operand, forward, adjoint, rng, workers, probes, level)
    (low, high), (least, most) = bounds
    if most == 0.0:
        return Certificate(0.0, (0.0, 0.0), 0.0, probes, "spectral")
    error, size = math.sqrt(low * high), math.sqrt(least * most)
    factor = getattr(operand, "factor", 1.0)
    return Certificate(error / size, (low / most, high / least), error / factor, probes, "spectral")


def spectral_bounds(operand, forward, adjoint, rng, workers: int, probes: int, level: float):
    """((low, high) of ||A - B||_2, (low, high) of ||A||_2), both times the factor of a scaled operand."""
    from .spectral_norm import TIGHT, Bidiagonal, norms

    (m, n), dtype = operand.shape, operand.dtype
    if m == 0 or n == 0:
        return (0.0, 0.0), (0.0, 0.0)
    factor = np.real(np.empty(0, dtype)).dtype.type(getattr(operand, "factor", 1.0))
    starts = [Bidiagonal(rng.standard_normal((m, probes)).astype(dtype)) for _ in range(2)]
    runs = [(starts[0], lambda X: forward(factor * X), lambda X: adjoint(factor * X)), (starts[1], None, None)]
    return norms(
        lambda X: operand.matmat(X, workers=workers), lambda X: operand.rmatmat(X, workers=workers), runs, probes,
        level / 2,
        lambda found: all(high <= TIGHT * low for low, high in found),
    )  # fmt: skip


def _trace(operand, approximation, residual: np.ndarray, omega: np.ndarray, workers: int) -> Certificate:
    """``trace(A - B) / trace(A)``, which is the error in the trace norm where A and A - B are positive semidefinite.

    That they are is tried on the diagonal and on the probes: ``Omega E`` beside ``(E Omega^T)^H``, and the eigenvalues
    of ``Omega E Omega^T``.
    """
    m, n = operand.shape
    if m != n:
        raise ValueError(f"A has shape {operand.shape}, but the trace norm needs a square positive semidefinite A")
    diagonal = np.asarray(operand.diagonal())
    scale = float(np.abs(diagonal).max(initial=0.0))
    if scale == 0.0:
        return Certificate(0.0, (0.0, 0.0), 0.0, 0, "trace")
    if hasattr(approximation, "factors"):
        left, right = approximation.factors()
        own = np.einsum("ij,ji->i", left, right)
    else:
        own = np.asarray(as_operand(approximation).diagonal())
    other = operand.matmat(omega.T.astype(operand.dtype), workers=workers) - np.asarray(approximation @ omega.T)
    gap, one, two = diagonal / scale - own / scale, residual / scale, other.conj().T / scale
    slack = 1e3 * float(np.finfo(operand.dtype).eps) * n
    middle = one @ omega.T
    wrong = float(np.linalg.norm(one - two)) > slack * np.sqrt(omega.size) + 1e-6 * float(np.linalg.norm(one))
    least = min(float(np.real(gap).min()), float(np.linalg.eigvalsh((middle + middle.conj().T) / 2).min()) / n)
    if wrong or least < -slack or float(np.real(diagonal).min()) < 0:
        raise ValueError(
            "A - B is not positive semidefinite, so its trace says nothing about the trace norm; approximate A from "
            'below with nystrom, or pass norm="fro" or norm="spectral"'
        )
    error = float(np.maximum(np.real(gap), 0.0).sum())
    relative = error / float(np.real(diagonal / scale).sum())
    return Certificate(relative, (relative, relative), error * scale, 0, "trace")
