"""How far from the truth: the automatic fit beside every peer, ``python -m benchmarks.bench_density_divergence``.

Divergence and held-out likelihood, both in nats, stand beside the processor time of the fit, one thread. The
divergence is a mean over equally likely points of the truth, 20,000 of them or a million for a million samples and
more; the held-out likelihood is one over as many fresh samples. Where a peer's density is 0 or below, beyond its grid
or in the ripples of fastKDE, its loss would be infinite: every peer is given the safety tail that our fit has,
``(1 - eps) p + eps Cauchy(median, quartile range)``, eps = 2 / (n + 10).
"""

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

import density as ds
from benchmarks import peers
from benchmarks.ratios import Race, race, thread_limit

POINTS = 20_000  # at which densities are compared, and as many fresh samples
LARGE, MANY = 10**6, 10**6  # samples from which on divergences fall below what POINTS resolve, and points for them
FLOOR = 1e-300
OURS = "density"


@dataclass(frozen=True)
class Peer:
    """Another way to a density: its library, its fit (samples to a function for log pdf), and where it ends."""

    library: str | None
    fit: Callable[[np.ndarray], Callable[[np.ndarray], np.ndarray]]
    most: int  # samples beyond which it takes minutes: of more it is given the first so many, and the table says so


def _tabulated(x, pdf):
    """Log-linear between the points of a grid, and of mass 1: a coarse grid across a sharp peak has more or less."""
    x, log = np.asarray(x, float), np.log(np.maximum(pdf, FLOOR))
    rise = np.diff(log)
    safe = np.where(np.abs(rise) > 1e-6, rise, 1.0)
    log -= np.log(np.sum(np.diff(x) * np.exp(log[:-1]) * np.where(np.abs(rise) > 1e-6, np.expm1(safe) / safe, 1.0)))
    return lambda t: np.interp(t, x, log, left=np.log(FLOOR), right=np.log(FLOOR))


def with_tail(logpdf, x):
    """The density with our safety tail, and nothing below 0."""
    eps, (q1, middle, q3) = 2 / (len(x) + 10), np.quantile(x, [0.25, 0.5, 0.75])

    def mixed(t):
        tail = np.log(eps / np.pi / (q3 - q1)) - np.log1p(((t - middle) / (q3 - q1)) ** 2)
        return np.logaddexp(np.log1p(-eps) + np.nan_to_num(logpdf(t), nan=-np.inf), tail)

    return mixed


def automatic(x):
    """Ours: order and map chosen."""
    return ds.fit(x).logpdf


def fftkde(x):
    """KDEpy's FFTKDE, bandwidth of Botev et al. (2010), on its automatic grid."""
    from KDEpy import FFTKDE

    bandwidth: Any = "ISJ"
    return _tabulated(*FFTKDE(bw=bandwidth).fit(x).evaluate(4096))


def fastkde(x):
    """fastKDE's self-consistent estimate (O'Brien et al. 2016) on its own grid."""
    import fastkde as library

    found: Any = library.pdf(x, var_names=["x"])
    return _tabulated(found.coords["x"].values, found.values)


def gaussian_kde(x):
    """scipy's, with Scott's bandwidth."""
    from scipy.stats import gaussian_kde as kde

    return kde(x).logpdf


def mixture(x):
    """scikit-learn's GaussianMixture, 1 to 8 components by BIC."""
    from sklearn.mixture import GaussianMixture

    column = x[:, None]
    tried = [GaussianMixture(k, random_state=7).fit(column) for k in range(1, 9)]
    best = min(tried, key=lambda m: m.bic(column))
    return lambda t: best.score_samples(t[:, None])


def kernel_density(x):
    """scikit-learn's KernelDensity with Silverman's bandwidth."""
    from sklearn.neighbors import KernelDensity

    bandwidth: Any = "silverman"  # the rule is that of unit variance
    loc, scale = x.mean(), x.std()
    fitted = KernelDensity(bandwidth=bandwidth).fit(((x - loc) / scale)[:, None])
    return lambda t: fitted.score_samples(((t - loc) / scale)[:, None]) - np.log(scale)


def histogram(x):
    """numpy's histogram of the Freedman-Diaconis width, at most 100,000 bins, half a count in each."""
    spread = np.subtract(*np.quantile(x, [0.75, 0.25]))
    bins = int(np.clip((x.max() - x.min()) / (2 * spread / np.cbrt(len(x))), 1, 100_000))
    counts, edges = np.histogram(x, bins=bins)
    log = np.log((counts + 0.5) / (len(x) + 0.5 * bins) / np.diff(edges))

    def logpdf(t):
        at = np.searchsorted(edges, t, side="right") - 1
        inside = (at >= 0) & (at < bins)
        return np.where(inside, log[np.clip(at, 0, bins - 1)], np.log(FLOOR))

    return logpdf


CONTENDERS = {
    OURS: Peer(None, automatic, 10**9),
    "KDEpy ISJ": Peer("KDEpy", fftkde, 10**9),
    "fastKDE": Peer("fastkde", fastkde, 10**7),
    "mixture, BIC": Peer("sklearn", mixture, 10**5),
    "gaussian_kde": Peer("scipy.stats", gaussian_kde, 10**4),
    "KernelDensity": Peer("sklearn", kernel_density, 10**4),
    "histogram": Peer(None, histogram, 10**9),
}


@dataclass(frozen=True)
class Figure:
    """One fit: divergence, held-out likelihood, processor seconds."""

    divergence: float
    held_out: float
    seconds: float
    of: int = 0  # samples that it was given


@cache
def densities() -> tuple[ds.gallery.KnownDensity, ...]:
    """Those of the gallery that have a density everywhere: no atom, no rounding, no circle."""
    g = ds.gallery
    known = (g.gmm25, g.gmm10, g.claw, g.three_scale_peaks, g.laplace, g.student_t3, g.cauchy, g.uniform, g.beta25)
    return tuple(f() for f in (*known, g.arcsine, g.lognormal))


@cache
def _quantiles(known: ds.gallery.KnownDensity, count: int) -> np.ndarray:
    return known.ppf((np.arange(count) + 0.5) / count)


def measure(known: ds.gallery.KnownDensity, fit, n: int, seed: int, most: int = 10**9) -> Figure:
    """Fit the first `most` of n samples and compare with the truth; NaN where the peer raises."""
    count = MANY if n >= LARGE and most >= 10**5 else POINTS  # a kernel at each of 10^4 samples would take minutes
    x, fresh = known.sample(n, rng=seed)[:most], known.sample(count, rng=seed + 1000)
    t = _quantiles(known, count)
    start = time.process_time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logpdf = fit(x)
            seconds = time.process_time() - start
            logpdf = logpdf if fit is automatic else with_tail(logpdf, x)
            at, new = logpdf(t), logpdf(fresh)
    except Exception:  # a bandwidth that does not converge is a result too
        return Figure(np.nan, np.nan, np.nan, len(x))
    return Figure(float(np.mean(np.log(known.pdf(t)) - at)), float(new.mean()), seconds, len(x))


def table(n: int, seeds: int) -> dict[str, dict[str, Figure]]:
    """Medians over the seeds, by density and contender; the seeds of one density are shared by all."""
    rows: dict[str, dict[str, Figure]] = {}
    with thread_limit(1):
        for peer in CONTENDERS.values():  # what is loaded on the first call is not the fit's
            if not (peer.library and peers.why_absent(peer.library)):
                measure(densities()[0], peer.fit, 500, 3)
        for known in densities():
            rows[known.name] = {}
            for name, peer in CONTENDERS.items():
                if peer.library and peers.why_absent(peer.library):
                    continue
                every = [measure(known, peer.fit, n, 20290 + s, peer.most) for s in range(seeds)]
                columns = np.array([(f.divergence, f.held_out, f.seconds) for f in every])
                middle = [float(v) for v in np.median(columns, axis=0)]
                rows[known.name][name] = Figure(middle[0], middle[1], middle[2], every[0].of)
    return rows


def markdown(n: int, seeds: int) -> str:
    """The table of one size: divergence, held-out likelihood, milliseconds; the least divergence in bold."""
    rows = table(n, seeds)
    lines = [
        f"n = {n:,}, median of {seeds}: KL nats / held-out nats / CPU ms of the fit",
        "",
        "| density | " + " | ".join(CONTENDERS) + " |",
        "|---" * (len(CONTENDERS) + 1) + "|",
    ]
    for density, row in rows.items():
        least = np.nanmin([f.divergence for f in row.values()])
        cells = []
        for name in CONTENDERS:
            f = row.get(name)
            if f is None or np.isnan(f.divergence):
                cells.append("n/a")
                continue
            shown = f"{f.divergence:.1e}"
            shown = f"**{shown}**" if f.divergence == least else shown
            part = f" ({f.of:,} samples)" if f.of < n else ""
            cells.append(f"{shown} / {f.held_out:.4f} / {f.seconds * 1e3:.3g}{part}")
        lines.append(f"| {density} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def recipe(n: int = 3_000_000, orders=(28, 40, 60)) -> dict[int, tuple[float, float]]:
    """The 25-mode mixture at stated numbers of coefficients: divergence and certified gap."""
    known, found = ds.gallery.gmm25(), {}
    sketch = ds.HistogramSketch().update(known.sample(n, rng=20262))
    for K in orders:
        p = ds.fit(sketch, order=K, map="affine")
        found[K] = known.kl(p), p.gap_nats
    return found


def choosing_race(known: ds.gallery.KnownDensity, n: int) -> Race:
    """The automatic fit beside its peers, one thread."""
    x = known.sample(n, rng=20290)
    present = {k: p for k, p in CONTENDERS.items() if n <= p.most}
    absent = {k: why for k, p in present.items() if p.library and (why := peers.why_absent(p.library))}
    t = known.ppf((np.arange(POINTS) + 0.5) / POINTS)

    def divergence(logpdf) -> float:
        return float(np.mean(np.log(known.pdf(t)) - logpdf(t)))

    errors = {k: divergence if k == OURS else (lambda f: divergence(with_tail(f, x))) for k in present}
    runs = {k: (lambda fit=p.fit: fit(x)) for k, p in present.items() if k not in absent}
    name = f"density: choose and fit {n:,} samples of {known.name}; error is KL in nats"
    return race(name, runs, threads=1, error=errors, absent=absent)


def races(quick: bool) -> Iterator[Race]:
    """A smooth, a heavy-tailed and a sharp density."""
    g = ds.gallery
    for known in (g.beta25(), g.student_t3(), g.three_scale_peaks()):
        yield choosing_race(known, 1000)
        if not quick:
            yield choosing_race(known, 100_000)


class Divergence:
    """The automatic fit at a thousand samples, over the best peer of each density."""

    timeout = 900

    def setup_cache(self):
        """One table for all figures."""
        return table(1000, 3)

    def track_ratio_of_divergence(self, rows) -> float:
        """Median over the densities of our divergence over the best peer's."""
        return float(np.median([_over_best(row) for row in rows.values()]))

    def track_wins(self, rows) -> float:
        """Share of the densities on which no peer comes closer."""
        return float(np.mean([_over_best(row) <= 1 for row in rows.values()]))


def _over_best(row: dict[str, Figure]) -> float:
    return row[OURS].divergence / np.nanmin([f.divergence for name, f in row.items() if name != OURS])


def main() -> None:
    """Print the tables as markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=float, nargs="+", default=[1e3, 1e5], help="samples; 1e7 takes minutes")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--recipe", action="store_true", help="the 25-mode mixture at 28, 40 and 60 coefficients")
    options = parser.parse_args()
    for n in options.sizes:
        print(markdown(int(n), options.seeds), flush=True)
    if options.recipe:
        print("\n| order | KL | gap |\n|---|---|---|")
        for K, (divergence, gap) in recipe().items():
            print(f"| {K} | {divergence:.2e} | {gap:.1e} |")


if __name__ == "__main__":
    main()
