"""The likelihood of a trigonometric square on the circle: its global maximum and the proof that it is one.

Nodes theta_j carry weights w_j >= 0, sum w = 1, and the model is p = |A|^2 / ||a||^2 with
``A(theta) = sum_{k=0..K} a_k exp(i k theta)``. The mean log-likelihood is concave in the autocorrelation of a, and with

    M = sum_j w_j v_j v_j^* / p(theta_j),   v = (1, e^{i theta}, ..., e^{i K theta}),

every other model p' of the same order obeys ``mean log(p'/p) <= log mean(p'/p) = log <M, G'> <= log lambda_max(M)``,
because p' = v^* G' v with a positive G' of trace 1: ``log lambda_max(M)`` bounds what any optimiser could still gain.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft as _scipy_fft
from scipy import linalg

# scipy annotates its transforms with uarray's dispatcher, which no array operation accepts.
_transforms: Any = _scipy_fft
fft, ifft, rfft, irfft = _transforms.fft, _transforms.ifft, _transforms.rfft, _transforms.irfft

GAP_TOLERANCE = 1e-6  # nats per sample; a fit whose certified gap is larger says so
STALL = 1e-14  # Newton's predicted gain below which rounding decides
_INTERIOR = 1e-9  # sum of what a row of M holds beside the diagonal, up to which that is the certificate
_SHARPER = 4  # times its own order: that of the Fejer means whose factor, cut off, is a first guess


class Circle:
    """Weights on equispaced nodes of the circle and the two transforms that the likelihood needs.

    cosine : nodes theta_j = pi j / m, j = 0..m, of a density that is even in theta; coefficients are real.
    periodic : nodes theta_j = 2 pi j / m, j = 0..m-1; coefficients are complex.
    """

    def __init__(self, weights, basis: str):
        weights = np.asarray(weights, dtype=np.float64)
        self.basis = basis
        self.even = basis == "cosine"
        self.size = 2 * (len(weights) - 1) if self.even else len(weights)  # nodes on the whole circle
        self.weights = weights / weights.sum()
        self.occupied = self.weights > 0
        self.share = self.halved(self.weights)

    def halved(self, f):
        """f as the transforms want it: an rfft sees each inner node of an even function twice, at theta and -theta."""
        f = f.copy()
        if self.even:
            f[1:-1] *= 0.5
        return f

    def values(self, a):
        """A at the nodes."""
        if self.even:
            return np.conj(rfft(a, self.size))
        return ifft(a, self.size, norm="forward")

    def moments(self, f, count: int):
        """``sum_j f_j exp(i k theta_j)`` for k < count; f already holds the share of each node."""
        if self.even:
            return irfft(f, self.size, norm="forward")[:count]
        return ifft(f, self.size, norm="forward")[:count]

    def divide(self, A, power: int = 1):
        """share / A^power where there is data; empty nodes may sit on a zero of A."""
        out = np.zeros(len(A), dtype=A.dtype)
        np.divide(self.share, A if power == 1 else A**power, out=out, where=self.occupied)
        return out

    def density(self, a):
        """p at the nodes."""
        A = self.values(a)
        return (A.real**2 + A.imag**2) / np.vdot(a, a).real

    def observed(self, p):
        """What the likelihood takes logarithms of, given p (or anything linear in it) at the nodes."""
        return p[self.occupied]

    @property
    def observations(self):
        """The weight of each of those logarithms."""
        return self.weights[self.occupied]

    def slopes(self, p):
        """Derivatives of the likelihood with respect to p at the nodes, as the transforms want them."""
        f = np.zeros(len(p))
        np.divide(self.share, p, out=f, where=self.occupied)
        return f

    def log_likelihood(self, a, A=None) -> float:
        """``sum_j w_j log p(theta_j)`` in nats."""
        A = self.values(a) if A is None else A
        seen = self.observed(A.real**2 + A.imag**2)
        if seen.min(initial=np.inf) <= 0:
            return -np.inf
        return float(self.observations @ np.log(seen) - np.log(np.vdot(a, a).real))

    def objective(self, a, A=None) -> float:
        """What `maximise` maximises: the likelihood, less what a kind of circle asks for its smoothness."""
        return self.log_likelihood(a, A)

    def newton_system(self, a, A):
        """Gradient and negated Hessian of the objective in the real coordinates of a, at ||a|| = 1.

        With h_n = sum_j w_j e^{i n theta_j} / A_j^2 the Hessian of sum w log|A|^2 is -2 Re(da^T [h_{k+l}] da),
        a Hankel matrix, one more FFT. That is why Newton costs little more here than a gradient step.
        """
        count = len(a)
        g = self.moments(self.divide(A), count)
        h = self.moments(self.divide(A, 2), 2 * count - 1)
        H = linalg.hankel(h[:count], h[count - 1 :])
        if self.even:
            # The scale of a is free: -4 a a^T of the norm and +4 a a^T that pins it cancel.
            system = 2 * H
            system[np.diag_indices(count)] += 2
            return 2 * g - 2 * a, system
        gradient = 2 * np.concatenate([np.real(g) - np.real(a), -np.imag(g) - np.imag(a)])
        real, imag = np.real(H), np.imag(H)
        system = 2 * np.block([[real, -imag], [-imag, -real]])
        system[np.diag_indices(2 * count)] += 2
        phase = np.concatenate([-np.imag(a), np.real(a)])  # a -> e^{i phi} a changes nothing
        system += 4 * np.outer(phase, phase)
        return gradient, system

    def gap_column(self, a):
        """First column of the Hermitian Toeplitz matrix M, so that M[k, l] = column[k - l]."""
        return self.moments(self.slopes(self.density(a)), len(a))

    def gap(self, largest: float, a) -> float:
        """The bound on what is left to gain, from the largest eigenvalue of M."""
        return float(np.log(largest))

    def smoothed(self, order: int):
        """Fejer means of the weights: a non-negative trigonometric polynomial of this order, at the nodes."""
        return self._fejer(self.moments(self.halved(self.weights), order + 1))

    def promises(self, orders) -> dict[int, float]:
        """Likelihood of the Fejer means of each order: a lower bound for that of the fit, one FFT cheap."""
        c = self.moments(self.halved(self.weights), max(orders) + 1)
        w = self.observations
        return {K: float(w @ np.log(np.maximum(self.observed(self._fejer(c[: K + 1])), 1e-300))) for K in orders}

    def _fejer(self, c):
        c = c * (1 - np.arange(len(c)) / len(c))
        if self.even:  # the sum over both signs of n: twice the real part, but for n = 0
            c[1:] *= 2
            return rfft(c, self.size).real
        return fft(np.concatenate([c, np.zeros(self.size - 2 * len(c) + 1), np.conj(c[:0:-1])])).real


def spectral_factor(circle: Any, p, order: int, floor: float = 1e-4):
    """Coefficients of the minimum-phase A with |A|^2 = p, cut at `order` (Kolmogorov's cepstral method).

    ``log p = sum_n l_n e^{i n theta}``; keeping l_0 / 2 and the l_n of n > 0 gives log A, analytic inside the circle.
    """
    N = circle.size
    if circle.even:
        return even_factor(p, order, N, floor)
    cepstrum = fft(np.log(np.maximum(p, floor * np.mean(p))), norm="forward")
    cepstrum[0] /= 2
    cepstrum[N // 2] /= 2
    cepstrum[N // 2 + 1 :] = 0
    a = fft(np.exp(ifft(cepstrum, norm="forward")), norm="forward")[: order + 1]
    return a / np.linalg.norm(a)


def even_factor(p, order: int, size: int, floor: float = 1e-4):
    """`spectral_factor` of even functions at the nodes of a half circle, one or a row each."""
    log_p = np.log(np.maximum(p, floor * np.mean(p, axis=-1, keepdims=True)))
    cepstrum = irfft(log_p, size)
    cepstrum[..., 0] /= 2
    cepstrum[..., size // 2] /= 2
    cepstrum[..., size // 2 + 1 :] = 0
    a = irfft(np.exp(rfft(cepstrum)), size)[..., : order + 1]
    return a / np.linalg.norm(a, axis=-1, keepdims=True)


def smoothed_order(order: int, size: int) -> int:
    """That of the Fejer means whose factor is a first guess of this order, on a circle of so many nodes."""
    return max(order, min(_SHARPER * order, size // 4))


def first_factor(circle: Any, order: int):
    """A first guess: the factor of Fejer means of four times the order, cut at `order`.

    Those of the order itself have an exact factor, but one of peaks twice as wide: Newton then takes a step more.
    """
    return spectral_factor(circle, circle.smoothed(smoothed_order(order, circle.size)), order)


@dataclass(frozen=True)
class Maximum:
    """Where an ascent ended; the likelihood is that of the data, without what was asked for smoothness."""

    a: np.ndarray
    log_likelihood: float
    steps: int


def maximise(circle: Any, a, *, precision: float = STALL, max_steps: int = 300) -> Maximum:
    """Newton's method with Levenberg damping, from `a`, until a step promises to gain less than `precision` nats.

    Newton rather than L-BFGS because the Hessian is one FFT away: on the 25-mode mixture it took 7-9 steps where L-BFGS
    took 44-1434, and it still reached the optimum at K = 200, where L-BFGS stalled 0.15 nats short of a certificate.
    """
    a = np.asarray(a, dtype=np.float64 if circle.even else np.complex128)
    a = a / np.linalg.norm(a)
    A = circle.values(a)
    L = circle.objective(a, A)
    (posv,) = linalg.get_lapack_funcs(("posv",), (a.real,))  # copies what it overwrites
    damping, steps = 0.0, 0
    for steps in range(1, max_steps + 1):
        gradient, system = circle.newton_system(a, A)
        diagonal = np.diag(system).copy()
        for _ in range(60):
            np.fill_diagonal(system, diagonal + damping)
            _, step, failed = posv(system, gradient)
            if failed:
                damping = max(5 * damping, 1e-3)
                continue
            gain = float(gradient @ step)
            b = a + (step if circle.even else step[: len(a)] + 1j * step[len(a) :])
            b /= np.linalg.norm(b)
            B = circle.values(b)
            L_new = circle.objective(b, B)
            if L_new - L >= 0.1 * gain - STALL * max(1.0, abs(L)):
                break
            damping = max(5 * damping, 1e-3)
        else:
            return Maximum(a, circle.log_likelihood(a, A), steps)
        a, A, L = b, B, L_new
        damping = damping / 5 if damping > 1e-6 else 0.0
        if gain < precision:
            break
    return Maximum(a, circle.log_likelihood(a, A), steps)


def optimality_gap(circle: Any, a) -> float:
    """Certified bound, in nats per sample, on what any model of this order could still gain over `a`.

    Where the optimum is interior M = I, and no eigenvalue is larger than the sum of a row's absolute values. Elsewhere,
    where p has zeros on the circle, LAPACK's largest eigenvalue plus its backward error. A Lanczos value would be no
    certificate: it bounds lambda_max from below. Divide and conquer, because MRRR breaks down close to M = I. At O(K^3)
    this costs no more than a few Newton steps.
    """
    column = circle.gap_column(a)
    rounding = 4 * len(a) * np.finfo(np.float64).eps
    beside = 2 * float(np.abs(column[1:]).sum())
    largest = float(np.real(column[0])) + beside
    if not beside <= _INTERIOR:
        values = np.linalg.eigvalsh(linalg.toeplitz(column))
        largest, rounding = float(values[-1]), rounding * float(np.abs(values).max())
    return max(0.0, circle.gap(largest + rounding, a))


def escape(circle: Any, a):
    """Leave a stationary point that is not the maximum: mix in the top eigenvector of M and factor again.

    Along p_t = (1 - t) p + t |V|^2 the slope of the likelihood at t = 0 is lambda_max - 1 > 0, and it is concave in t.
    """
    v = np.linalg.eigh(linalg.toeplitz(circle.gap_column(a)))[1][:, -1]
    p, extra = circle.density(a), circle.density(np.conj(v))
    w, here, there = circle.observations, circle.observed(p), circle.observed(extra)
    lo, hi = 0.0, 1.0
    for _ in range(40):
        t = (lo + hi) / 2
        slope = w @ ((there - here) / np.maximum((1 - t) * here + t * there, 1e-300))
        lo, hi = (t, hi) if slope > 0 else (lo, t)
    mixed = (1 - lo) * p + lo * extra
    return spectral_factor(circle, mixed, len(a) - 1, floor=1e-10)


def minimum_phase(a, *, margin: float = 1e-7):
    """The coefficients with the same |A| on the circle and no zero inside it, first coefficient positive.

    Each zero r inside the circle is moved to 1 / conj(r) by a Blaschke factor applied on the circle, where it has
    modulus one: nothing is amplified. Zeros within `margin` of the circle are their own reflection.
    """
    a = np.asarray(a)
    if len(a) > 1 and _zeros_inside(a, 1 - margin):
        roots = np.roots(a[::-1])
        inside = roots[np.abs(roots) < 1 - margin]
        z = np.exp(2j * np.pi * np.arange(4 * len(a)) / (4 * len(a)))
        A = ifft(a, len(z), norm="forward")
        for r in inside:
            A = A * (1 - np.conj(r) * z) / (z - r)
        moved = fft(A, norm="forward")[: len(a)]
        a = moved if np.iscomplexobj(a) else moved.real
    a = a * (np.abs(a[0]) / a[0]) if a[0] != 0 else a
    return a / np.linalg.norm(a)


def _zeros_inside(a, radius: float) -> int:
    """How many zeros of sum a_k z^k lie inside the circle of this radius: the winding number of its image."""
    n = 1 << int(np.ceil(np.log2(32 * len(a))))
    A = ifft(a * radius ** np.arange(len(a)), n, norm="forward")
    turns = np.angle(np.roll(A, -1) * np.conj(A)).sum() / (2 * np.pi)
    return round(float(turns))


@dataclass(frozen=True)
class Certified:
    """Coefficients of one order with the bound on what they leave unexplained."""

    a: np.ndarray
    log_likelihood: float
    gap_nats: float
    steps: int


def ranked_maximum(circle: Any, order: int, start=None, *, precision: float, promise: float = np.inf) -> Maximum:
    """The maximum to `precision` nats, uncertified: enough to compare orders and maps.

    promise : likelihood of the Fejer means of this order, where it is known; a likelier start is taken at once.
    """
    return maximise(circle, _first_guess(circle, order, start, promise), precision=precision)


def _first_guess(circle: Any, order: int, start, promise: float = np.inf):
    """`start` padded with zeros where that is likelier than the spectral factor of the Fejer means."""
    if start is None:
        return first_factor(circle, order)
    start = np.concatenate([start, np.zeros(order + 1 - len(start), dtype=np.asarray(start).dtype)])
    reached = circle.objective(start)
    if reached >= promise:
        return start
    a = first_factor(circle, order)
    return start if reached > circle.objective(a) else a


def certified_maximum(circle: Any, order: int, start=None, *, tolerance: float = GAP_TOLERANCE) -> Certified:
    """Maximise from the spectral factor (or from `start`, if likelier), reflect, certify; escape while not met."""
    a, steps = _reflected_maximum(circle, _first_guess(circle, order, start))
    gap = optimality_gap(circle, a)
    for _ in range(4):
        if gap <= tolerance:
            break
        b, more = _reflected_maximum(circle, escape(circle, a))
        steps += more
        b_gap = optimality_gap(circle, b)
        if b_gap >= gap:
            break
        a, gap = b, b_gap
    return Certified(a, circle.log_likelihood(a), gap, steps)


def _reflected_maximum(circle: Any, a):
    """Minimum-phase coefficients of the maximum that Newton reaches from `a`, and the number of its steps."""
    best = maximise(circle, a)
    return minimum_phase(best.a), best.steps
