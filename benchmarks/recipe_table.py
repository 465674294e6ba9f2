"""The 25-mode mixture with a stated number of real parameters: ``python -m benchmarks.recipe_table`` prints the table.

Three million samples of the recipe of De la Fuente, Singh and Balle (2024), arXiv:2402.15345. The map of the data's
range spends its waves on the empty stretch that a few extreme samples open at either end. A map of one's own can do
better: a uniform law whose ends are smeared by a normal one, its three numbers taken from the data by likelihood and
counted.
"""

import argparse
import time
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_ndtr, ndtr

import density as ds

SEED, ORDERS = 20262, (28, 40, 60)
ENDS = 0.002  # of the data beyond each end of the uniform law that the search begins with


@dataclass(frozen=True)
class SmearedBox:
    """The law of ``v + width * z``, v uniform on [low, high] and z normal.

    Its distribution function is ``w (I(t - low) - I(t - high))`` over the length, I(t) = t Phi(t) + phi(t), in units of
    the width.
    """

    low: float
    high: float
    width: float

    def _depth(self, x):
        """Distances from the nearer end, inwards, and from the farther one, in widths."""
        middle, half = (self.low + self.high) / 2, (self.high - self.low) / 2
        away = np.abs(np.asarray(x, float) - middle)
        return (half - away) / self.width, (-half - away) / self.width

    def _tail(self, x):
        """Mass beyond x on its side of the middle."""
        near, far = self._depth(x)
        mass = near * ndtr(near) + np.exp(-0.5 * near * near) / np.sqrt(2 * np.pi)
        mass -= far * ndtr(far) + np.exp(-0.5 * far * far) / np.sqrt(2 * np.pi)
        return np.maximum(mass * self.width / (self.high - self.low), 0.0)

    def forward(self, x):
        """u = F(x)."""
        tail = self._tail(x)
        return np.where(np.asarray(x) < (self.low + self.high) / 2, tail, 1 - tail)

    def complement(self, x):
        """1 - u, with the digits of a small upper tail."""
        tail = self._tail(x)
        return np.where(np.asarray(x) < (self.low + self.high) / 2, 1 - tail, tail)

    def inverse(self, u):
        """x with forward(x) = u, by bisection."""
        u = np.asarray(u, float)
        lo = np.full(u.shape, self.low - 40 * self.width)
        hi = np.full(u.shape, self.high + 40 * self.width)
        for _ in range(100):
            middle = (lo + hi) / 2
            below = self.forward(middle) < u
            lo, hi = np.where(below, middle, lo), np.where(below, hi, middle)
        return np.where(u <= 0, -np.inf, np.where(u >= 1, np.inf, hi))

    def log_derivative(self, x):
        """log du/dx."""
        near, far = (log_ndtr(t) for t in self._depth(x))
        return near + np.log1p(-np.exp(np.minimum(far - near, -1e-300))) - np.log(self.high - self.low)


def likeliest(sketch: ds.HistogramSketch, order: int) -> ds.FourierDensity:
    """The fit of this order on the smeared box of the highest likelihood."""
    counts, x = sketch.counts / sketch.n, sketch.centres
    low, high = sketch.quantile([ENDS, 1 - ENDS])
    length = high - low

    def fitted(v) -> ds.FourierDensity:
        box = SmearedBox(low + length * v[0], high + length * v[1], length * float(np.exp(v[2])))
        return ds.fit(sketch, order=order, map=box)

    def loss(v) -> float:
        return -float(counts @ fitted(v).logpdf(x))

    start = np.array([0.0, 0.0, np.log(0.01)])
    simplex = start + np.vstack([np.zeros(3), np.diag([0.02, -0.02, 0.7])])
    options = {"initial_simplex": simplex, "maxfev": 90, "xatol": 1e-4, "fatol": 1e-7}
    return fitted(minimize(loss, start, method="Nelder-Mead", options=options).x)


def rows(n: int = 3_000_000, orders=ORDERS):
    """(numbers fitted, the map, order, divergence, certified gap, processor seconds)."""
    known = ds.gallery.gmm25()
    sketch = ds.HistogramSketch().update(known.sample(n, rng=SEED))
    for P in orders:
        for name, K in (("affine", P), ("affine", P - 2), ("smeared box", P - 3)):
            start = time.process_time()
            p = ds.fit(sketch, order=K, map="affine") if name == "affine" else likeliest(sketch, K)
            counted = K + (3 if name == "smeared box" else 2)
            yield counted, name, K, known.kl(p), p.gap_nats, time.process_time() - start


def main() -> None:
    """Print the table as markdown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recipe_table", description=__doc__)
    parser.add_argument("--samples", type=float, default=3e6)
    parser.add_argument("--orders", type=int, nargs="+", default=list(ORDERS))
    options = parser.parse_args()
    print("| real numbers, the map's with them | map | order | KL, nats | certified gap | CPU s |\n" + "|---" * 6 + "|")
    for counted, name, K, divergence, gap, seconds in rows(int(options.samples), options.orders):
        print(f"| {counted} | {name} | {K} | {divergence:.2e} | {gap:.1e} | {seconds:.2f} |", flush=True)


if __name__ == "__main__":
    main()
