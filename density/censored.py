"""The likelihood of rounded data: the probability of the interval that each value was rounded from.

With ``P_i = sum_j S_ij p(theta_j)`` the mean density over interval i, ``sum_i w_i log P_i`` is concave in the
autocorrelation of a like the likelihood of points is, and ``M = sum_j (S^T (w / P))_j v_j v_j^*`` bounds what is left
to gain by the same proof (`density.likelihood`). Unlike that of tied points it is bounded, by the entropy of the values
seen, so a high order has nothing to gain from the ties.
"""

from typing import Any

import numpy as np
from scipy import linalg, sparse

from .likelihood import Circle


class CensoredCircle(Circle):
    """Nodes with the weights of points, and intervals of [0, 1] with theirs.

    weights : all mass spread over the nodes, from which a first guess is made.
    points : the part of it that is known to a node.
    low, high, masses : the intervals in u and their weights; with the points they sum to the sum of `weights`.
    """

    def __init__(self, weights, basis: str, points, low, high, masses):
        super().__init__(weights, basis)
        total = float(np.sum(weights))
        points = np.asarray(points, np.float64) / total
        self.occupied = points > 0
        self.share = self.halved(points)
        self.points = points[self.occupied]
        self.masses = np.asarray(masses, np.float64) / total
        self.spread = interval_means(low, high, len(weights), basis)
        self._waves = np.empty((len(self.masses), 0))

    def observed(self, p):
        """p at the nodes of the points, then its mean over every interval."""
        return np.concatenate([p[self.occupied], self.spread @ p])

    @property
    def observations(self):
        """Weights of the points and of the intervals."""
        return np.concatenate([self.points, self.masses])

    def _cell_slopes(self, p):
        return self.halved(self.spread.T @ (self.masses / (self.spread @ p)))

    def slopes(self, p):
        """Those of the points and ``S^T (w / P)``."""
        return super().slopes(p) + self._cell_slopes(p)

    def _waves_to(self, count: int):
        """Means of e^{in theta}, |n| < count, over the intervals; of the cosines alone in the even basis."""
        known = self._waves.shape[1]
        if known < count:
            touched = np.flatnonzero(np.diff(self.spread.tocsc().indptr))
            rows, angles = self.spread[:, touched], touched[:, None] * (2 * np.pi / self.size)
            new = [self._waves]
            for n in range(known, count, 64):  # blocks, for the memory
                turns = angles * np.arange(n, min(n + 64, count))
                new.append(rows @ (np.cos(turns) if self.even else np.exp(1j * turns)))
            self._waves = np.hstack(new)
        half = self._waves[:, :count]
        return np.hstack([np.conj(half[:, :0:-1]), half])

    def newton_system(self, a, A):
        """That of the points; of intervals -2 Toeplitz(S^T (w / P)) + sum_i w_i g_i g_i^T, g_i = grad log P_i."""
        gradient, system = super().newton_system(a, A)
        count = len(a)
        squared = A.real**2 + A.imag**2
        f = self._cell_slopes(squared)
        t = self.moments(f, count)
        h = self.moments(f * np.conj(A), count)
        # conj(A) e^{ik theta} = sum_l conj(a_l) e^{i(k-l) theta}: a product with the interval means of the waves
        W = linalg.toeplitz(np.append(a[::-1], np.zeros(count - 1)), np.append(a[-1], np.zeros(count - 1)))
        waves = self._waves_to(count) @ np.conj(W)
        G = waves if self.even else np.hstack([waves.real, -waves.imag])
        G *= 2 / (self.spread @ squared)[:, None]
        system += (G * self.masses[:, None]).T @ G
        if self.even:
            return gradient + 2 * h, system - 2 * linalg.toeplitz(t)
        T: Any = linalg.toeplitz(np.conj(t), t)
        system -= 2 * np.block([[T.real, -T.imag], [T.imag, T.real]])
        return gradient + 2 * np.concatenate([h.real, -h.imag]), system


def interval_means(low, high, nodes: int, basis: str):
    """Sparse matrix from values at the nodes of [0, 1] to means over intervals, linear between the nodes.

    That is exact to (pi / 32)^2 / 12 of the highest wave on 32 nodes a half wave.
    """
    steps = nodes - 1 if basis == "cosine" else nodes
    low, high = np.asarray(low) * steps, np.asarray(high) * steps
    first = np.minimum(low.astype(np.int64), steps - 1)
    last = np.minimum(np.maximum(np.ceil(high).astype(np.int64), first + 1), steps)
    count = last - first
    row = np.repeat(np.arange(len(low)), count)
    left = first[row] + np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    start, stop = np.maximum(low[row] - left, 0), np.minimum(high[row] - left, 1)
    length, rise = stop - start, (stop - start) * (stop + start) / 2  # of the hat of the right node
    share = 1 / (high - low)[row]
    entries = np.concatenate([(length - rise) * share, rise * share])
    columns = np.concatenate([left, (left + 1) % nodes])
    return sparse.csr_array((entries, (np.concatenate([row, row]), columns)), shape=(len(low), nodes))
