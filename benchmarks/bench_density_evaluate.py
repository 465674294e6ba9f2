"""density: log q at a million points and more, ``python -m benchmarks.bench_density_evaluate``.

Everything returns one number a point. The floor reads the points and writes as many doubles into a new array, which is
what any evaluation has to do. The error is the largest difference from the logarithm by Horner's rule in long doubles,
at ten thousand of the points, in nats; the floor, the normal law and the kernel estimates, which are other functions,
have none. ISJ and Silverman's rule have their bandwidths from a thousand samples: they are slow as it is.
"""

import argparse
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np

import density as ds
from benchmarks import peers, report
from benchmarks.ratios import Race, all_threads, race
from density.fourier import FourierDensity

ORDER = 50
SEED = 20268
FLOOR = "floor: read and write"
TABLE, EXACT = "density, table", "density, exact"
CHECKED = 10_000


@cache
def _fitted(map_: str) -> FourierDensity:
    return ds.fit(ds.gallery.gmm25().sample(100_000, rng=SEED), order=ORDER, map=map_)


@cache
def _points(n: int) -> np.ndarray:
    return ds.gallery.gmm25().sample(n, rng=SEED + 1)


def in_long_doubles(p: FourierDensity, x) -> np.ndarray:
    """log q with the polynomial and the sum of both terms in numpy's longest floats."""
    long = np.longdouble
    angle = (np.pi if p.basis == "cosine" else 2 * np.pi) * p.map.forward(x)
    z = np.cos(angle.astype(long)) + 1j * np.sin(angle.astype(long))
    A = np.full(len(x), p.coefficients[-1], dtype=np.clongdouble)
    for a in p.coefficients[-2::-1]:
        A = A * z + a
    fitted = (A.real**2 + A.imag**2) * np.exp(p.map.log_derivative(x).astype(long))
    return np.log((1 - long(p.tail.mass)) * fitted + np.exp(p.tail.log_pdf(x).astype(long))).astype(np.float64)


def in_torch(p: FourierDensity, x):
    """The same series as a user of torch writes it: a cosine and a sine of every frequency, a million at a time."""
    import torch

    a = torch.tensor(p.coefficients)
    k = torch.arange(len(a), dtype=torch.float64)
    out = np.empty(len(x))
    for at in range(0, len(x), 1 << 14):
        part = x[at : at + (1 << 14)]
        angles = torch.tensor(np.pi * p.map.forward(part))[:, None] * k
        density = (torch.cos(angles) @ a) ** 2 + (torch.sin(angles) @ a) ** 2
        out[at : at + (1 << 14)] = torch.log(density).numpy() + p.map.log_derivative(part)
    return out


def evaluation_race(n: int, threads: int, map_: str = "logistic") -> Race:
    """Order 50, beside the floor and what else gives a log-density."""
    p, x = _fitted(map_), _points(n)
    few = x[:: max(1, n // CHECKED)]
    truth = in_long_doubles(p, few)

    def off(values) -> float:
        return float(np.abs(values[:: max(1, n // CHECKED)] - truth).max())

    contenders: dict[str, Any] = {
        TABLE: lambda: p.logpdf(x, exact=False),
        EXACT: lambda: p.logpdf(x),
        FLOOR: lambda: x * 2.0,
    }
    if n < 50_000:  # which pay for no table
        del contenders[TABLE]
    errors = {TABLE: off, EXACT: off}
    absent: dict[str, str] = {}
    for name, library, run in (
        ("scipy norm.logpdf", "scipy.stats", lambda: _normal(x)),
        ("torch, the same series", "torch", lambda: in_torch(p, x)),
    ):
        if why := peers.why_absent(library):
            absent[name] = why
        else:
            contenders[name] = run
    for name, library, fit in (
        ("gaussian_kde of 1,000 samples", "scipy.stats", _gaussian_kde),
        ("scikit-learn KernelDensity of 1,000", "sklearn", _kernel_density),
        ("scikit-learn GaussianMixture of 8", "sklearn", _mixture),
    ):
        if n > 20_000 and "Mixture" not in name:
            absent[name] = "microseconds a point: see the race of 20,000"
        elif why := peers.why_absent(library):
            absent[name] = why
        else:
            contenders[name] = _bound(fit(_points(1000)), x)
    title = f"density: log q at {n:,} points, order {ORDER}, {map_} map; error in nats"
    return race(title, contenders, threads=threads, error=errors, absent=absent)


def _bound(logpdf, x):
    return lambda: logpdf(x)


def _normal(x):
    from scipy.stats import norm

    return norm.logpdf(x)


def _gaussian_kde(samples):
    from scipy.stats import gaussian_kde

    return gaussian_kde(samples).logpdf


def _kernel_density(samples):
    from sklearn.neighbors import KernelDensity

    bandwidth: Any = "silverman"
    fitted = KernelDensity(bandwidth=bandwidth).fit(samples[:, None])
    return lambda x: fitted.score_samples(x[:, None])


def _mixture(samples):
    from sklearn.mixture import GaussianMixture

    fitted = GaussianMixture(8, random_state=7).fit(samples[:, None])
    return lambda x: fitted.score_samples(x[:, None])


def races(quick: bool) -> Iterator[Race]:
    """Few points beside the kernel estimates, then many; one thread first."""
    yield evaluation_race(20_000, 1)
    n = 200_000 if quick else 1_000_000
    for threads in sorted({1, all_threads()}):
        yield evaluation_race(n, threads)
    yield evaluation_race(n, 1, "affine")
    if not quick:
        yield evaluation_race(10_000_000, 1)


class Evaluate:
    """A million points, one thread."""

    timeout = 600

    def setup_cache(self):
        """One race for all figures."""
        return evaluation_race(1_000_000, 1)

    def track_ratio_floor_table(self, result: Race) -> float:
        """The table over the floor."""
        return result.ratio(TABLE, FLOOR, clock="cpu").median

    def track_ratio_floor_exact(self, result: Race) -> float:
        """The exact mode over the floor."""
        return result.ratio(EXACT, FLOOR, clock="cpu").median

    def track_error_table(self, result: Race) -> float:
        """Largest error of the table, nats."""
        return result.error[TABLE] or 0.0

    def track_nanoseconds_exact(self, result: Race) -> float:
        """The exact mode, processor time a point."""
        return float(np.median(result.cpu[EXACT])) * 1e3


def main() -> None:
    """Print nanoseconds a point and what they are over the floor."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    for result in races(parser.parse_args().quick):
        print("\n".join(report.lines(result)))
        n = int(result.name.split(" at ")[1].split(" points")[0].replace(",", ""))
        for name in [name for name in (TABLE, EXACT) if name in result.cpu]:
            ns = float(np.median(result.cpu[name])) / n * 1e9
            print(f"  {name}: {ns:.3g} ns of processor a point, {result.ratio(name, FLOOR, clock='cpu')} of the floor")


if __name__ == "__main__":
    main()
