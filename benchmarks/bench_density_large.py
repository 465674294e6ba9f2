"""density: ten million samples and less, choice included, ``python -m benchmarks.bench_density_large``.

Three jobs: choose and fit (beside what chooses its own bandwidth, and a histogram), fit at a stated order once the data
are binned, and the sketch itself, in one pass and as the sum of eight shards. The error of a fit is its divergence from
the density that was sampled, the mean over 20,000 equally likely points of it; that of a sketch is the number of cells
that differ from the single pass.
"""

import argparse
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np

import density as ds
from benchmarks import peers, report
from benchmarks.bench_density_divergence import OURS, automatic, fastkde, fftkde, histogram, with_tail
from benchmarks.ratios import Race, all_threads, race

SEED = 20269
POINTS = 20_000
SHARDS = 8


@cache
def _known(name: str) -> ds.gallery.KnownDensity:
    return getattr(ds.gallery, name)()


def samples(name: str, n: int) -> np.ndarray:
    """Of the gallery, or of the normal law."""
    return np.random.default_rng(SEED).standard_normal(n) if name == "normal" else _known(name).sample(n, rng=SEED)


def _truth(name: str):
    """Equally likely points and the log-density there."""
    y = (np.arange(POINTS) + 0.5) / POINTS
    if name == "normal":
        from scipy.stats import norm

        t = norm.ppf(y)
        return t, norm.logpdf(t)
    t = _known(name).ppf(y)
    return t, np.log(_known(name).pdf(t))


def choosing_race(name: str, n: int, threads: int) -> Race:
    """Order and map chosen too."""
    x = samples(name, n)
    t, log = _truth(name)
    every = {OURS: (None, automatic), "KDEpy ISJ": ("KDEpy", fftkde), "histogram": (None, histogram)}
    if n <= 1_000_000:
        every["fastKDE"] = ("fastkde", fastkde)
    absent = {k: why for k, (library, _) in every.items() if library and (why := peers.why_absent(library))}
    runs: dict[str, Any] = {k: (lambda fit=fit: fit(x)) for k, (_, fit) in every.items() if k not in absent}
    if n > 1_000_000:
        absent["fastKDE"] = "four seconds and more: see a million"

    def off(logpdf) -> float:
        return float(np.mean(log - logpdf(t)))

    errors = {k: off if k == OURS else (lambda f: off(with_tail(f, x))) for k in runs}
    title = f"density: choose and fit {n:,} samples of {name}; error is KL in nats"
    return race(title, runs, threads=threads, error=errors, absent=absent)


def stated_race(n: int, order: int) -> Race:
    """The order and the map stated, the data binned: what is left is the optimiser and the certificate."""
    sketch = ds.HistogramSketch().update(samples("gmm25", n))
    found = ds.fit(sketch, order=order, map="affine")
    title = (
        f"density: order {order} from the cells of {n:,} samples; error is the certified gap, {found.gap_nats:.1e} nats"
    )
    run = {"density": lambda: ds.fit(sketch, order=order, map="affine")}
    return race(title, run, error=lambda p: getattr(p, "gap_nats"))  # noqa: B009


def sketch_race(n: int, threads: int) -> Race:
    """One pass, eight shards added, and numpy's histogram of as many bins on a stated range."""
    x = samples("gmm25", n)
    whole = ds.HistogramSketch().update(x)

    def shards():
        total = ds.HistogramSketch()
        for part in np.array_split(x, SHARDS):
            total |= ds.HistogramSketch().update(part)
        return total

    def differing(sketch) -> float:
        if sketch == whole:
            return 0.0
        mine = dict(zip(whole.centres, whole.counts))
        theirs = dict(zip(sketch.centres, sketch.counts))
        return float(sum(mine.get(c) != theirs.get(c) for c in mine.keys() | theirs.keys()))

    lo, hi = float(x.min()), float(x.max())
    runs: dict[str, Any] = {
        "HistogramSketch": lambda: ds.HistogramSketch().update(x),
        f"{SHARDS} shards, merged": shards,
        "numpy.histogram, range known": lambda: np.histogram(x, bins=1 << 17, range=(lo, hi)),
        "floor: read": lambda: x.sum(),
    }
    errors = dict.fromkeys(list(runs)[:2], differing)
    title = f"density: the sketch of {n:,} samples; error is the number of cells that differ from one pass"
    return race(title, runs, threads=threads, error=errors)


def races(quick: bool) -> Iterator[Race]:
    """Choice, stated order, sketch."""
    n = 200_000 if quick else 10_000_000
    for threads in sorted({1, all_threads()}):
        for name in ("gmm25", "normal"):
            yield choosing_race(name, n, threads)
        yield sketch_race(n, threads)
    yield choosing_race("gmm25", 1000, 1)
    if not quick:
        yield choosing_race("gmm25", 1_000_000, 1)
    for order in (100, 256):
        yield stated_race(min(n, 1_000_000), order)


class Large:
    """Ten million samples, one thread."""

    timeout = 1200

    def setup_cache(self):
        """One race of each kind."""
        return choosing_race("gmm25", 10_000_000, 1), sketch_race(10_000_000, 1)

    def track_ratio_kdepy(self, results) -> float:
        """Our processor time over KDEpy's."""
        peer = "KDEpy ISJ"
        return results[0].ratio(OURS, peer, clock="cpu").median if peer in results[0].cpu else float("nan")

    def track_ratio_histogram(self, results) -> float:
        """The sketch over numpy's histogram."""
        return results[1].ratio("HistogramSketch", "numpy.histogram, range known", clock="cpu").median

    def track_cells_that_differ(self, results) -> float:
        """Of the merged shards: 0."""
        return results[1].error[f"{SHARDS} shards, merged"]


def main() -> None:
    """Print the races."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    for result in races(parser.parse_args().quick):
        print("\n".join(report.lines(result)), flush=True)
        for name, seconds in result.cpu.items():
            print(f"  {name}: {float(np.median(seconds)) * 1e3:.4g} ms of processor")


if __name__ == "__main__":
    main()
