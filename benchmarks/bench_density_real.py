"""density on real data that ship with statsmodels and scikit-learn: held-out likelihood beside the peers.

``python -m benchmarks.bench_density_real`` prints the table: the mean over five shuffled folds of
``log(P(cell) / step)``, nats a sample, higher is better. All of these data are rounded, so what is compared is the
probability of the rounding cell of each held-out value; for peers that know nothing of cells it is the integral of
their density over the cell. A peer that gives a held-out value probability 0 has minus infinity.
"""

import argparse
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np

import density as ds
from benchmarks import peers
from benchmarks.ratios import Race, race

SEED, FOLDS = 20266, 5
PIXELS = 20_000  # residuals of the photograph, drawn from its 819,840
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(8)


@cache
def samples() -> dict[str, np.ndarray]:
    """Every data set whose library is here."""
    found = {}
    if not peers.why_absent("statsmodels"):
        from statsmodels import datasets as shipped

        datasets: Any = shipped  # annotated as possibly without a frame
        found["sunspots a year"] = datasets.sunspots.load_pandas().data["SUNACTIVITY"].to_numpy(float)
        found["Nile, volume"] = datasets.nile.load_pandas().data["volume"].to_numpy(float)
        found["El Nino, temperature"] = datasets.elnino.load_pandas().data.iloc[:, 1:].to_numpy(float).ravel()
    if not peers.why_absent("sklearn"):
        from sklearn.datasets import load_diabetes

        table: Any = load_diabetes(scaled=False)
        columns = dict(zip(table.feature_names, table.data.T, strict=True)) | {"progression": table.target}
        found |= {f"diabetes, {name}": x for name, x in columns.items() if name != "sex"}
        if not peers.why_absent("PIL"):
            residuals = ds.gallery.photo_residuals().ravel()
            found["photo residuals"] = (
                np.random.default_rng(SEED).choice(residuals, PIXELS, replace=False).astype(float)
            )
    return found


def step_of(x) -> float:
    """The rounding of the data: the power of ten, one at most, of which all are multiples."""
    return next(10.0**-k for k in range(9) if k == 8 or np.allclose(x, np.round(x, k), rtol=0, atol=1e-9))


class Smooth:
    """A density that is known at points."""

    def __init__(self, logpdf: Callable[[np.ndarray], np.ndarray]):
        self.logpdf = logpdf

    def bits(self, x, step):
        """``-log2`` of the integral over the cell, by Gauss's rule with eight nodes."""
        from scipy.special import logsumexp

        at = (x[:, None] + step / 2 * _NODES).ravel()
        with np.errstate(divide="ignore"):
            logs = self.logpdf(at).reshape(-1, len(_NODES))
            return -logsumexp(logs, b=_WEIGHTS * step / 2, axis=1) / np.log(2)


def ours(x):
    """Nothing chosen."""
    return ds.fit(x)


def kdepy(x) -> Smooth:
    """KDEpy's kernel estimate with the bandwidth of Botev et al. (2010), summed exactly."""
    from KDEpy.bw_selection import improved_sheather_jones

    values, counts = np.unique(x, return_counts=True)
    width = float(improved_sheather_jones(x[:, None]))
    return Smooth(_kernel_sum(values, counts / len(x), width))


def scipy_kde(x) -> Smooth:
    """scipy's gaussian_kde as it comes: Scott's bandwidth."""
    from scipy.stats import gaussian_kde

    values, counts = np.unique(x, return_counts=True)
    return Smooth(_kernel_sum(values, counts / len(x), float(np.sqrt(gaussian_kde(x).covariance[0, 0]))))


def _kernel_sum(values, masses, width: float):
    """Log of a weighted sum of normal kernels, at points however far out."""
    from scipy.special import logsumexp

    def logpdf(at):
        out = np.empty(len(at))
        for i in range(0, len(at), 4096):
            z = (at[i : i + 4096, None] - values) / width
            out[i : i + 4096] = logsumexp(-0.5 * z * z, b=masses / (width * np.sqrt(2 * np.pi)), axis=1)
        return out

    return logpdf


def fastkde(x) -> Smooth:
    """fastKDE on its own grid, linear between the points; 0 beyond, and where it is negative."""
    import fastkde as library

    found: Any = library.pdf(x)
    grid, pdf = found.coords["var0"].values, np.maximum(found.values, 0.0)
    return Smooth(lambda at: np.log(np.interp(at, grid, pdf, left=0.0, right=0.0)))


def mixture(x) -> Smooth:
    """scikit-learn's GaussianMixture, one to eight components by BIC."""
    from sklearn.mixture import GaussianMixture

    X = x[:, None]
    found = [GaussianMixture(k, random_state=7).fit(X) for k in range(1, 9)]
    best = min(found, key=lambda g: g.bic(X))
    return Smooth(lambda at: best.score_samples(at[:, None]))


CONTENDERS: dict[str, tuple[str | None, Callable]] = {
    "density": (None, ours),
    "KDEpy, ISJ": ("KDEpy", kdepy),
    "scipy gaussian_kde": ("scipy.stats", scipy_kde),
    "fastKDE": ("fastkde", fastkde),
    "GaussianMixture, BIC": ("sklearn", mixture),
}


def held_out(fit: Callable, x) -> np.ndarray:
    """``log(P(cell) / step)`` of each sample under the fit of the four folds that it is not in; NaN where one fails."""
    step, place = step_of(x), np.random.default_rng(SEED).permutation(len(x)) % FOLDS
    score = np.empty(len(x))
    for fold in range(FOLDS):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                found = fit(x[place != fold])
                score[place == fold] = -found.bits(x[place == fold], step) * np.log(2) - np.log(step)
            except (ValueError, RuntimeError):
                return np.full(len(x), np.nan)
    return score


def table(names=None) -> dict[str, dict[str, np.ndarray]]:
    """Held-out log-likelihood of each sample under each contender that is here, by data set."""
    present = {name: fit for name, (library, fit) in CONTENDERS.items() if not library or not peers.why_absent(library)}
    chosen = {name: x for name, x in samples().items() if names is None or name in names}
    return {data: {name: held_out(fit, x) for name, fit in present.items()} for data, x in chosen.items()}


def lead(row: dict[str, np.ndarray]) -> tuple[float, float]:
    """Mean of ours minus that of the best peer, and the standard error of their paired difference."""
    means = {name: float(np.mean(score)) for name, score in row.items() if name != "density"}
    best = max(means, key=lambda name: -np.inf if np.isnan(means[name]) else means[name])
    difference = row["density"] - row[best]
    return float(np.mean(difference)), float(np.std(difference) / np.sqrt(len(difference)))


def lines(rows: dict[str, dict[str, np.ndarray]]) -> list[str]:
    """The table as text, the best of each row marked, and how far ours is from the best peer."""
    columns = list(next(iter(rows.values())))
    out = ["| data | n | step | " + " | ".join(columns) + " | ours - best peer |"]
    out.append("|---" * (len(columns) + 4) + "|")
    for data, row in rows.items():
        x, means = samples()[data], [float(np.mean(score)) for score in row.values()]
        cells = [f"**{v:.4f}**" if v == np.nanmax(means) else f"{v:.4f}" for v in means]
        ahead = "{:+.4f} ± {:.4f}".format(*lead(row)) if len(columns) > 1 else ""
        out.append(f"| {data} | {len(x)} | {step_of(x):g} | " + " | ".join(cells) + f" | {ahead} |")
    return out


def real_race(data: str) -> Race:
    """Fits of four fifths of one data set; the error is minus the held-out likelihood of the rest."""
    x = samples()[data]
    step, place = step_of(x), np.random.default_rng(SEED).permutation(len(x)) % FOLDS
    train, rest = x[place != 0], x[place == 0]
    absent = {name: why for name, (library, _) in CONTENDERS.items() if library and (why := peers.why_absent(library))}
    runs = {name: lambda fit=fit: _quietly(fit, train) for name, (_, fit) in CONTENDERS.items() if name not in absent}

    def loss(found) -> float:
        return float("nan") if found is None else float(np.mean(found.bits(rest, step)) * np.log(2) + np.log(step))

    title = f"density: {data}, {len(train)} samples; error is minus the held-out log-likelihood, nats"
    return race(title, runs, error=loss, absent=absent)


def _quietly(fit, x):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return fit(x)
        except (ValueError, RuntimeError):
            return None


def races(quick: bool) -> Iterator[Race]:
    """One race a data set; three of them in quick runs."""
    for data in list(samples())[: 3 if quick else None]:
        yield real_race(data)


class Real:
    """Held-out likelihood of real data, five folds, beside the best peer."""

    timeout = 900

    def setup_cache(self):
        """The table."""
        return table()

    def track_lead(self, rows) -> float:
        """Mean over the data of ours minus the best peer's, nats a sample."""
        return float(np.mean([lead(row)[0] for row in rows.values()]))

    def track_ratio_not_behind(self, rows) -> float:
        """Fraction of the data sets on which no peer is better by more than two standard errors."""
        return float(np.mean([ahead > -2 * error for ahead, error in map(lead, rows.values())]))


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_density_real", description=__doc__)
    parser.add_argument("names", nargs="*", help="only data whose name contains one of these words")
    given = parser.parse_args(arguments)
    names = [d for d in samples() if not given.names or any(word in d for word in given.names)]
    if not names:
        parser.error(f"no data match {given.names}; there are {', '.join(samples())}")
    print("\n".join(lines(table(names))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
