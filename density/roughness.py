"""The paper's regulariser: gamma times the integral of p'^2 over the unit interval of u, and a certificate with it.

On p(u) = sum_k c_k e^{ik omega u} it is ``R = omega^2 sum_k k^2 |c_k|^2``, convex in c, so the penalised likelihood is
concave where the likelihood is. With ``M' = M - 2 gamma omega^2 Toeplitz(k^2 conj(c_k))`` the derivative of the
objective in G' (see `density.likelihood`), every other model gains at most ``lambda_max(M') - <M', G>``, and
``<M', G> = 1 - 2 gamma R``.

De la Fuente, Singh, Balle (2024), arXiv:2402.15345, section 2: the penalty on the derivative.
"""

import numpy as np
from scipy import linalg

from .likelihood import Circle


class SmoothedCircle:
    """A circle whose objective is its likelihood less gamma R; everything else is the circle's own."""

    def __init__(self, circle: Circle, gamma: float):
        self.circle, self.gamma = circle, gamma
        self.omega = np.pi if circle.even else 2 * np.pi

    def __getattr__(self, name: str):
        return getattr(self.circle, name)

    def objective(self, a, A=None) -> float:
        """Likelihood less gamma R."""
        return self.circle.log_likelihood(a, A) - self.gamma * roughness(a, self.omega)

    def newton_system(self, a, A):
        """That of the circle, and the derivatives of gamma R."""
        gradient, system = self.circle.newton_system(a, A)
        slope, curve = derivatives(a, self.omega)
        return gradient - self.gamma * slope, system + self.gamma * curve

    def gap_column(self, a):
        """First column of M'."""
        c, k = autocorrelation(a), np.arange(len(a))
        return self.circle.gap_column(a) - 2 * self.gamma * (self.omega * k) ** 2 * np.conj(c)

    def gap(self, largest: float, a) -> float:
        """``lambda_max(M') - <M', G>``."""
        return largest - 1 + 2 * self.gamma * roughness(a, self.omega)


def autocorrelation(a):
    """c_k = sum_j a_{j+k} conj(a_j) / ||a||^2, k = 0..K."""
    return np.correlate(a, a, mode="full")[len(a) - 1 :] / np.vdot(a, a).real


def roughness(a, omega: float) -> float:
    """R = int_0^1 p'(u)^2 du."""
    k = np.arange(len(a))
    return float(2 * omega**2 * (k * k @ np.abs(autocorrelation(a)) ** 2))


def derivatives(a, omega: float):
    """Gradient and Hessian of R in the real coordinates of a (real parts, then imaginary ones), at ||a|| = 1.

    R = omega^2 Q / ||a||^4 with Q = 2 sum_k k^2 |r_k|^2; each r_k is a quadratic form whose gradient is a row of D.
    """
    a = np.asarray(a)
    K = len(a) - 1
    x, y = np.real(a), np.imag(a)
    r = autocorrelation(a)[1:]
    weight = 4 * np.arange(1, K + 1, dtype=np.float64) ** 2
    ahead, behind = _shifts(x)
    D, E = ahead + behind, np.zeros((K, K + 1))
    lags = np.concatenate([[0], weight * np.real(r)])
    H = linalg.toeplitz(lags)
    point = x
    if np.iscomplexobj(a):
        ahead_y, behind_y = _shifts(y)
        D = np.hstack([D, ahead_y + behind_y])  # gradients of Re r_k
        E = np.hstack([ahead_y - behind_y, behind - ahead])  # and of Im r_k
        skew = np.concatenate([[0], weight * np.imag(r)])
        V = linalg.toeplitz(-skew, skew)
        H = np.block([[H, V], [-V, H]])
        point = np.concatenate([x, y])
    Q = float(weight @ np.abs(r) ** 2) / 2
    H = H + (D * weight[:, None]).T @ D
    slope = (weight * np.real(r)) @ D
    if np.iscomplexobj(a):
        H = H + (E * weight[:, None]).T @ E
        slope = slope + (weight * np.imag(r)) @ E
    outer = np.outer(slope, point)
    H = H - 4 * (outer + outer.T) + Q * (24 * np.outer(point, point) - 4 * np.eye(len(point)))
    return omega**2 * (slope - 4 * Q * point), omega**2 * H


def _shifts(x):
    """Rows k = 1..K of x[l + k] and of x[l - k]."""
    K = len(x) - 1
    if K == 0:
        return np.zeros((0, 1)), np.zeros((0, 1))
    ahead = linalg.hankel(x[1:], np.zeros(K + 1))
    return ahead, linalg.toeplitz(np.zeros(K), np.concatenate([[0], x[:K]]))
