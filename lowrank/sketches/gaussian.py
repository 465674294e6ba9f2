"""The Gaussian sketch: independent normal entries, made tile by tile from one seed and never stored as a whole."""

from dataclasses import dataclass

import numpy as np

from .base import ROWS, Embedding, Fill, Sketch, by_panels

HIGH = 64  # rows of a tile that one stream of random numbers fills


@dataclass(frozen=True, eq=False)
class GaussianSketch(Embedding):
    r"""A (d, m) matrix of independent entries from N(0, 1/d).

    .. math:: E \|S x\|^2 = \|x\|^2, \qquad Var \|S x\|^2 = (2 / d) \|x\|^4

    for every x: no input is worse than another, which makes it the yardstick for the faster sketches.

    Parameters
    ----------
    height, columns : d and m.
    seed : integers from which the tiles of 64 x 1024 entries are made, each by a stream of its own; `draw` takes them
        from a generator.

    Complexity
    ----------
    ``S A`` costs 2 d m n flops of GEMM and d m normal numbers; memory 4 million entries of S at a time.

    References
    ----------
    Halko, Martinsson and Tropp (2011), Finding structure with randomness, doi 10.1137/090771806, section 4.1.

    Examples
    --------
    >>> import numpy as np, lowrank as lr
    >>> S = lr.GaussianSketch.draw(400, 1000, np.random.default_rng(7))
    >>> S.shape, bool(0.7 < np.linalg.norm(S @ np.eye(1000)[3]) < 1.3)
    ((400, 1000), True)
    """

    height: int
    columns: int
    seed: tuple[int, ...]

    name = "gaussian"

    @classmethod
    def draw(cls, height: int, m: int, rng: np.random.Generator) -> "GaussianSketch":
        """A random sketch of `height` rows for matrices with m rows."""
        return cls(max(int(height), 1), int(m), tuple(int(x) for x in rng.integers(0, 1 << 32, size=4)))

    @property
    def shape(self) -> tuple[int, int]:
        return self.height, self.columns

    def more(self, height: int, rng: np.random.Generator) -> "GaussianSketch":
        return type(self).draw(height, self.columns, rng)

    def _tile(self, i: int, j: int) -> np.ndarray:
        stream = np.random.Generator(np.random.SFC64([*self.seed, i, j]))
        high, wide = min(HIGH, self.height - i * HIGH), min(ROWS, self.columns - j * ROWS)
        return stream.standard_normal((high, wide)) / np.sqrt(self.height)

    def _part(self, top: int, bottom: int, left: int, right: int) -> np.ndarray:
        """``S[top:bottom, left:right]`` out of the tiles that meet it."""
        out = np.empty((bottom - top, right - left))
        for i in range(top // HIGH, -(-bottom // HIGH)):
            for j in range(left // ROWS, -(-right // ROWS)):
                tile, y, x = self._tile(i, j), i * HIGH, j * ROWS
                a, b, c, e = max(top, y), min(bottom, y + HIGH), max(left, x), min(right, x + ROWS)
                out[a - top : b - top, c - left : e - left] = tile[a - y : b - y, c - x : e - x]
        return out

    def block(self, start: int, stop: int) -> np.ndarray:
        return self._part(start, stop, 0, self.columns)

    def sweep(self, probes: np.ndarray | None, fill: Fill, n: int, dtype, *, workers: int, tile=None) -> Sketch:
        return by_panels(self.shape, lambda i, e: self._part(0, self.height, i, e), probes, fill, n, dtype, workers)
