"""The sub-sampled trigonometric sketch: random signs, a cosine transform, and a few of its rows."""

from dataclasses import dataclass
from math import sqrt

import numpy as np

from .base import Embedding, Fill, Sketch, by_columns


@dataclass(frozen=True, eq=False)
class TrigonometricSketch(Embedding):
    r"""A (d, m) map that flips signs at random, takes an orthogonal cosine transform and keeps d of its rows.

    .. math:: S = \sqrt{M / d}\; P\, F\, D

    with D random signs, F the orthogonal discrete cosine transform (type II) of length M >= m, the next length that
    it is fast for, and P d of its M rows, drawn without replacement. :math:`E \|S x\|^2 = \|x\|^2` for every x; the
    signs spread what stands in few rows of A over all of them, so that no sampled row is without it.

    Parameters
    ----------
    signs : (m,) of +-1.
    order : (M,) a permutation of the rows of the transform; the sketch takes ``order[first : first + height]``.
    first, height : where its rows start, and how many there are.

    Complexity
    ----------
    ``S A`` costs about 2.5 m n log2(m) flops whatever d is; memory of a few columns of A. On operands that are known
    by products (or sparse) the rows of S are formed, 64 at a time.

    References
    ----------
    Tropp (2011), Improved analysis of the subsampled randomized Hadamard transform, doi 10.1142/S1793536911000787;
    Woolfe, Liberty, Rokhlin and Tygert (2008), doi 10.1016/j.acha.2007.12.002;
    Martinsson and Tropp (2020), doi 10.1017/S0962492920000021, section 9.3 (cosine transforms).

    Examples
    --------
    >>> import numpy as np, lowrank as lr
    >>> S = lr.TrigonometricSketch.draw(400, 1000, np.random.default_rng(7))
    >>> S.shape, bool(0.7 < np.linalg.norm(S @ np.ones(1000)) / 1000**0.5 < 1.3)
    ((400, 1000), True)
    """

    signs: np.ndarray
    order: np.ndarray
    first: int
    height: int

    name = "trigonometric"

    @classmethod
    def draw(cls, height: int, m: int, rng: np.random.Generator) -> "TrigonometricSketch":
        """A random sketch of `height` rows (of all rows of the transform where these are fewer)."""
        from scipy.fft import next_fast_len

        length = int(next_fast_len(max(int(m), 1), real=True) or 1)
        signs = 1 - 2 * rng.integers(0, 2, size=m, dtype=np.int8)
        return cls(signs, rng.permutation(length), 0, min(max(int(height), 1), length))

    @property
    def shape(self) -> tuple[int, int]:
        return self.height, len(self.signs)

    def more(self, height: int, rng: np.random.Generator) -> "TrigonometricSketch":
        """The next rows of the same transform: together with the old ones a sketch that was drawn at once."""
        first = self.first + self.height
        if first + height > len(self.order):
            return type(self).draw(height, len(self.signs), rng)
        return type(self)(self.signs, self.order, first, height)

    @property
    def _kept(self) -> np.ndarray:
        return self.order[self.first : self.first + self.height]

    def block(self, start: int, stop: int) -> np.ndarray:
        from scipy.fft import idct

        units = np.zeros((stop - start, len(self.order)))
        units[np.arange(stop - start), self._kept[start:stop]] = sqrt(len(self.order) / self.height)
        rows = np.asarray(idct(units, axis=1, norm="ortho", overwrite_x=True))
        return rows[:, : len(self.signs)] * self.signs

    def sweep(self, probes: np.ndarray | None, fill: Fill, n: int, dtype, *, workers: int, tile=None) -> Sketch:
        from scipy.fft import dct

        length, kept, scale = len(self.order), self._kept, sqrt(len(self.order) / self.height)

        def apply(flat: np.ndarray) -> np.ndarray:
            flat *= self.signs[:, None].astype(flat.dtype)
            found = np.asarray(dct(flat, n=length, axis=0, norm="ortho", overwrite_x=True))[kept]
            found *= found.dtype.type(scale)
            return found

        return by_columns(self.shape, apply, probes, fill, n, dtype, workers)
