"""density: fitting and compressing, beside kernel density estimates, Adam on the same model, zlib and lzma.

The error of a fit is its Kullback-Leibler divergence from the density that was sampled, in nats; the error of a
compressor is what it spends above the empirical entropy, as a fraction.

Adam runs twice on the same parameters: on our binned nodes in full batches, a favour that makes its problem easy, and
on mini-batches of the samples, as such models are trained.
"""

import lzma
import zlib
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np

import density as ds
from benchmarks import peers
from benchmarks.ratios import Race, all_threads, race
from density.cells import cells
from density.fourier import FourierDensity
from density.image import circle_of
from density.likelihood import Circle, minimum_phase, spectral_factor

ORDER = 50
SEED = 20262


@cache
def _mixture() -> ds.gallery.KnownDensity:
    return ds.gallery.gmm25()


@cache
def _samples(n: int) -> np.ndarray:
    return _mixture().sample(n, rng=SEED)


class Tabulated:
    """A density known on a grid, log-linear between the points."""

    def __init__(self, x, pdf):
        self.x, self.log = np.asarray(x, float), np.log(np.maximum(pdf, 1e-300))

    def logpdf(self, x):
        return np.interp(x, self.x, self.log)


@cache
def _truth() -> tuple[np.ndarray, np.ndarray]:
    """A grid on which the mixture is resolved to rounding, and its density there."""
    x = np.linspace(-1, 0.8, 100_001)
    return x, _mixture().pdf(x)


def _divergence(fitted) -> float:
    """KL by the trapezoidal rule; the kinks of tabulated peers would keep adaptive quadrature busy for long."""
    x, p = _truth()
    return float(np.trapezoid(p * (np.log(np.maximum(p, 1e-300)) - fitted.logpdf(x)), x))


def _with_coefficients(p: FourierDensity, a) -> FourierDensity:
    """The same model with other coefficients, so that both are judged by the same code."""
    return FourierDensity(p.basis, p.map, minimum_phase(np.asarray(a, float)), p.tail, p.map_parameters, p.report)


def _binned(x, p: FourierDensity) -> Circle:
    return circle_of(cells(x, None, 1), p.map, ORDER, "cosine")


def fit_ours(x):
    """Order 50 on the map of the data range."""
    return ds.fit(x, order=ORDER, map="affine")


def fit_automatic(x):
    """Order and map chosen too."""
    return ds.fit(x)


def fit_fftkde(x):
    """KDEpy's FFTKDE with the bandwidth of Botev et al. (2010), on its automatic grid."""
    from KDEpy import FFTKDE

    bandwidth: Any = "ISJ"  # annotated as a number there
    grid, pdf = FFTKDE(bw=bandwidth).fit(x).evaluate(4096)
    return Tabulated(grid, pdf)


def fit_gaussian_kde(x):
    """scipy's gaussian_kde with Scott's bandwidth, evaluated on 1024 points of the data range."""
    from scipy.stats import gaussian_kde

    grid = np.linspace(x.min() - 0.05, x.max() + 0.05, 1024)
    return Tabulated(grid, gaussian_kde(x)(grid))


def _adam(steps: int, loss):
    """Steps of torch's Adam on the coefficients; loss takes them and the number of the step."""
    import torch

    generator = torch.Generator().manual_seed(SEED)
    a = 0.01 * torch.randn(ORDER + 1, dtype=torch.float64, generator=generator)
    a[0] = 1
    a.requires_grad_()
    optimiser = torch.optim.Adam([a], lr=1e-2)
    for step in range(steps):
        optimiser.zero_grad()
        loss(a, step).backward()
        optimiser.step()
    return a.detach().numpy()


def _waves(theta):
    import torch

    angles = theta[:, None] * torch.arange(ORDER + 1, dtype=torch.float64)
    return torch.cos(angles), torch.sin(angles)


def _log_p(a, cosine, sine):
    import torch

    return torch.log((cosine @ a) ** 2 + (sine @ a) ** 2 + 1e-300) - torch.log((a * a).sum())


def fit_adam_on_bins(x, steps: int):
    """torch's Adam on the same parameters, map, nodes and likelihood; no certificate."""
    import torch

    like = ds.fit(x, order=0, map="affine")
    circle = _binned(x, like)
    waves = _waves(torch.linspace(0, np.pi, len(circle.weights), dtype=torch.float64))
    w = torch.tensor(circle.weights)
    return _with_coefficients(like, _adam(steps, lambda a, _: -(w @ _log_p(a, *waves))))


def fit_adam_on_batches(x, steps: int, batch: int = 1024):
    """torch's Adam on mini-batches of the samples, same parameters and map."""
    import torch

    like = ds.fit(x, order=0, map="affine")
    theta = torch.tensor(np.pi * like.map.forward(x))
    rows = torch.randint(len(x), (steps, batch), generator=torch.Generator().manual_seed(SEED))
    return _with_coefficients(like, _adam(steps, lambda a, i: -_log_p(a, *_waves(theta[rows[i]])).mean()))


def fit_lbfgs(x):
    """scipy's L-BFGS-B on the same likelihood from the same start: what Newton replaces."""
    from scipy.optimize import minimize

    like = ds.fit(x, order=0, map="affine")
    circle = _binned(x, like)

    def loss(a):
        A = circle.values(a)
        gradient = 2 * circle.moments(circle.divide(A), len(a)) - 2 * a / (a @ a)
        return -circle.log_likelihood(a, A), -gradient

    start = spectral_factor(circle, circle.smoothed(ORDER), ORDER)
    options = {"maxiter": 3000, "maxcor": 30, "ftol": 1e-16, "gtol": 1e-9}
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options=options)
    return _with_coefficients(like, found.x)


def _present(contenders: dict) -> tuple[dict, dict]:
    """Contenders whose library is here, and the reasons of the others."""
    absent = {name: why for name, (library, _) in contenders.items() if library and (why := peers.why_absent(library))}
    return {name: run for name, (_, run) in contenders.items() if name not in absent}, absent


def _title(n: int) -> str:
    return f"density: fit {n:,} samples of the 25-mode mixture, order {ORDER}; error is KL in nats"


def fit_race(n: int, threads: int) -> Race:
    """Fifty parameters, beside a kernel estimate and the optimiser that Newton replaces."""
    x = _samples(n)
    contenders, absent = _present({
        "density": (None, lambda: fit_ours(x)),
        "KDEpy FFTKDE (ISJ)": ("KDEpy", lambda: fit_fftkde(x)),
        "scipy L-BFGS-B, same model": ("scipy.optimize", lambda: fit_lbfgs(x)),
    })  # fmt: skip
    return race(_title(n), contenders, threads=threads, error=_divergence, absent=absent)


def adam_race(n: int, steps: int) -> Race:
    """Fifty parameters, beside Adam on the same model."""
    x = _samples(n)
    contenders, absent = _present({
        "density": (None, lambda: fit_ours(x)),
        f"torch Adam on our bins, {steps} steps": ("torch", lambda: fit_adam_on_bins(x, steps)),
        f"torch Adam on batches, {steps} steps": ("torch", lambda: fit_adam_on_batches(x, steps)),
    })  # fmt: skip
    return race(_title(n), contenders, threads=1, error=_divergence, absent=absent)


def choosing_race(n: int, threads: int) -> Race:
    """Order and map chosen from the data, beside kernel estimates that choose their bandwidth."""
    x = _samples(n)
    contenders = {
        "density, automatic": (None, lambda: fit_automatic(x)),
        "KDEpy FFTKDE (ISJ)": ("KDEpy", lambda: fit_fftkde(x)),
    }
    if n <= 10_000:  # its time grows with samples times points
        contenders["scipy gaussian_kde, 1024 points"] = ("scipy.stats", lambda: fit_gaussian_kde(x))
    runs, absent = _present(contenders)
    name = f"density: choose and fit a density of {n:,} samples of the 25-mode mixture; error is KL in nats"
    return race(name, runs, threads=threads, error=_divergence, absent=absent)


def entropy_bytes(x) -> float:
    """``n H`` of the values that occur, in bytes."""
    _, counts = np.unique(x, return_counts=True)
    return float(-(counts * np.log2(counts / counts.sum())).sum() / 8)


@cache
def _integers(source: str, n: int) -> np.ndarray:
    if source == "photo residuals":
        return ds.gallery.photo_residuals().reshape(-1)[:n]
    rng = np.random.default_rng(SEED)
    return np.rint(rng.laplace(0, 20, n)).astype(np.int16)


def coding_race(source: str, n: int, threads: int) -> Race:
    """Small integers to bytes."""
    x = _integers(source, n)
    floor = entropy_bytes(x)

    def overhead(blob) -> float:
        return len(blob) / floor - 1

    contenders, absent = _present({
        "density": ("constriction", lambda: ds.compress(x)),
        "zlib 6": (None, lambda: zlib.compress(x.tobytes(), 6)),
        "lzma 6": (None, lambda: lzma.compress(x.tobytes(), preset=6)),
    })  # fmt: skip
    name = f"density: compress {len(x):,} {source}; error is size over empirical entropy, less one"
    return race(name, contenders, threads=threads, error=overhead, absent=absent)


def races(quick: bool) -> Iterator[Race]:
    """Every race, single thread first."""
    yield adam_race(100_000, 200 if quick else 3000)
    for threads in sorted({1, all_threads()}):
        yield fit_race(100_000, threads)
        if quick and threads > 1:
            continue
        yield choosing_race(10_000 if quick else 1_000_000, threads)
        yield coding_race("Laplace integers", 50_000 if quick else 1_000_000, threads)
        if not peers.why_absent("sklearn") and not peers.why_absent("PIL"):
            yield coding_race("photo residuals", 50_000 if quick else 819_840, threads)


class Fit:
    """Fits of the 25-mode mixture, one thread."""

    timeout = 600

    def setup_cache(self):
        """One race with each kind of peer."""
        return fit_race(100_000, 1), adam_race(100_000, 1000)

    def track_ratio_kdepy(self, results) -> float:
        """Our time over KDEpy's."""
        return _ratio(results[0], "density", "KDEpy FFTKDE (ISJ)")

    def track_ratio_lbfgs(self, results) -> float:
        """Our time over that of L-BFGS on the same likelihood."""
        return _ratio(results[0], "density", "scipy L-BFGS-B, same model")

    def track_ratio_adam_on_bins(self, results) -> float:
        """Our time over that of 1000 steps of Adam on our binned nodes."""
        return _ratio(results[1], "density", "torch Adam on our bins, 1000 steps")

    def track_ratio_adam_on_batches(self, results) -> float:
        """Our time over that of 1000 steps of Adam on mini-batches."""
        return _ratio(results[1], "density", "torch Adam on batches, 1000 steps")

    def track_kl(self, results) -> float:
        """Our divergence from the truth, nats."""
        return results[0].error["density"]


class Coding:
    """Compression of a million Laplace integers, one thread."""

    timeout = 600

    def setup_cache(self):
        """One race for all figures."""
        return coding_race("Laplace integers", 1_000_000, 1)

    def track_ratio_zlib(self, result: Race) -> float:
        """Our time over zlib's."""
        return _ratio(result, "density", "zlib 6")

    def track_overhead(self, result: Race) -> float:
        """What we spend above the empirical entropy, as a fraction."""
        return result.error["density"] or 0.0


def _ratio(result: Race, ours: str, peer: str) -> float:
    return result.ratio(ours, peer).median if peer in result.wall and ours in result.wall else float("nan")
