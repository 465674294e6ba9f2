"""The exact likelihood of the samples themselves, where they are few: the last Newton steps without any binning."""

import importlib.util

import numpy as np

from .cells import Cells
from .image import AnyMap
from .likelihood import Certified, Circle, maximise, minimum_phase, optimality_gap
from .roughness import SmoothedCircle

_DIRECT = 1 << 21  # samples times waves that are summed directly, 32 MB
_MOST = 20_000  # distinct samples; of more the binning is below any noise


class PointCircle(Circle):
    """Weights at any angles: sums over all pairs of sample and wave, or finufft's transforms where that is too long.

    Barnett, Magland, af Klinteberg (2019), doi 10.1137/18M120885X.
    """

    def __init__(self, u, weights, basis: str, waves: int, *, direct: bool):
        weights = np.asarray(weights, np.float64)
        self.basis, self.even = basis, basis == "cosine"
        self.weights = self.share = weights / weights.sum()
        self.occupied = np.ones(len(weights), bool)
        self.angles = np.asarray(u, np.float64) * (np.pi if self.even else 2 * np.pi)
        self.waves = np.exp(1j * self.angles[:, None] * np.arange(waves)) if direct else None

    def values(self, a):
        """A at the samples."""
        if self.waves is not None:
            return self.waves[:, : len(a)] @ a
        import finufft

        modes = np.concatenate([np.zeros(len(a) - 1), a]).astype(complex)
        return finufft.nufft1d2(self.angles, modes, isign=1, eps=1e-14)

    def moments(self, f, count: int):
        """``sum_j f_j exp(i k theta_j)`` for k < count, its even part in the cosine basis."""
        if self.waves is not None:
            out = self.waves[:, :count].T @ f
        else:
            import finufft

            out = finufft.nufft1d1(self.angles, f.astype(complex), 2 * count - 1, isign=1, eps=1e-14)[count - 1 :]
        return np.real(out) if self.even else out


def polished(data: Cells, m: AnyMap, basis: str, best: Certified, gamma: float) -> tuple[Certified, str | None]:
    """`best` after Newton steps on the exact samples, and how they were summed: "direct", "finufft", or None.

    None, with `best` as it was, for many samples and for rounded ones, whose likelihood is that of intervals.
    """
    K, n = len(best.a) - 1, len(data.centres)
    if data.widths is not None or n > _MOST:
        return best, None
    direct = n * (2 * K + 1) <= _DIRECT
    if not direct and importlib.util.find_spec("finufft") is None:
        return best, None
    circle = PointCircle(m.forward(data.centres), data.masses, basis, 2 * K + 1, direct=direct)
    objective = SmoothedCircle(circle, gamma) if gamma else circle
    found = maximise(objective, best.a)
    a = minimum_phase(found.a)
    if not np.isfinite(found.log_likelihood):
        return best, None
    exact = Certified(a, circle.log_likelihood(a), optimality_gap(objective, a), best.steps + found.steps)
    return exact, "direct" if direct else "finufft"
