"""Do random starts reach the certified optimum? ``python -m benchmarks.optimum_table`` prints the table.

The likelihood of the 25-mode mixture is maximised from coefficients drawn at random. `by Newton` counts the starts
that the ascent alone took to within 1e-9 nats of the certified maximum, `with escapes` those that got there once every
certificate that was not met had mixed in the top eigenvector of M; the other columns are over those.
"""

import argparse

import numpy as np

import density as ds
from density.cells import cells
from density.image import circle_of
from density.likelihood import GAP_TOLERANCE, certified_maximum, escape, maximise, optimality_gap
from density.maps import Map

SEED = 20271
NEAR = 1e-9


def ascend(circle, start):
    """(log-likelihood after Newton, after the escapes, the last certified gap, escapes)."""
    best = maximise(circle, start)
    alone, escapes = best.log_likelihood, 0
    gap = optimality_gap(circle, best.a)
    while gap > GAP_TOLERANCE and escapes < 20:
        best = maximise(circle, escape(circle, best.a))
        gap, escapes = optimality_gap(circle, best.a), escapes + 1
    return alone, best.log_likelihood, gap, escapes


def row(order: int, basis: str, starts: int, n: int) -> tuple[int, int, float, float, int]:
    """Reached by Newton, with escapes, the spread of the likelihoods, the largest gap, the most escapes."""
    x = ds.gallery.gmm25().sample(n, rng=SEED)
    lo, hi = float(x.min()), float(x.max())
    circle = circle_of(cells(x, None, 1), Map("affine", lo - 1e-3, hi - lo + 2e-3), order, basis)
    top = certified_maximum(circle, order).log_likelihood
    rng = np.random.default_rng(SEED)
    found = []
    for _ in range(starts):
        start = rng.standard_normal(order + 1) + (0 if basis == "cosine" else 1j * rng.standard_normal(order + 1))
        found.append(ascend(circle, start))
    alone, last, gap, escapes = (np.array(v) for v in zip(*found))
    reached = np.abs(last - top) < NEAR
    spread = float(np.ptp(last[reached])) if reached.any() else np.nan
    worst = float(gap[reached].max()) if reached.any() else np.nan
    return int((np.abs(alone - top) < NEAR).sum()), int(reached.sum()), spread, worst, int(escapes.max())


def main() -> None:
    """Print the table as markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=80)
    parser.add_argument("--samples", type=int, default=100_000)
    options = parser.parse_args()
    print("| basis | order | starts | by Newton | with escapes | spread, nats | largest gap | most escapes |")
    print("|---" * 8 + "|")
    for basis, order in (("cosine", 10), ("cosine", 30), ("cosine", 60), ("periodic", 10), ("periodic", 30)):
        alone, reached, spread, gap, escapes = row(order, basis, options.starts, options.samples)
        print(
            f"| {basis} | {order} | {options.starts} | {alone} | {reached} | {spread:.1e} | {gap:.1e} | {escapes} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
