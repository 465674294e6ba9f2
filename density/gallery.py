"""Known densities with exact pdf, cdf and entropy, and real data: the inputs that tour, tests and benchmarks share."""

import numpy as np

from .atoms import Atoms
from .known import KnownDensity, gaussian_mixture, von_mises_mixture
from .photographs import photo, photo_from_residuals, photo_residuals

__all__ = [
    "KnownDensity",
    "arcsine",
    "beta25",
    "cauchy",
    "claw",
    "compass",
    "gaussian_mixture",
    "gmm10",
    "gmm25",
    "known_densities",
    "laplace",
    "lognormal",
    "photo",
    "photo_from_residuals",
    "photo_residuals",
    "relu",
    "rounded_prices",
    "student_t3",
    "three_scale_peaks",
    "uniform",
    "von_mises_mixture",
]

# The uniforms behind the mixtures: jax.random.uniform(key(42), (k,)), which the authors' demonstration draws once and
# uses for means and widths alike (De la Fuente, Singh, Balle 2024, arXiv:2402.15345; demonstration of google/codex).
_DRAW_10 = (
    0.6439377069473267, 0.32251572608947754, 0.19349372386932373, 0.8864933252334595, 0.8420852422714233,
    0.19193005561828613, 0.34513092041015625, 0.25238311290740967, 0.6319013833999634, 0.6547677516937256,
)  # fmt: skip
_DRAW_25 = (
    0.8183883428573608, 0.6572232246398926, 0.4437652826309204, 0.024800777435302734, 0.2439584732055664,
    0.8597958087921143, 0.4563833475112915, 0.5481745004653931, 0.25883209705352783, 0.09001696109771729,
    0.5224989652633667, 0.9581242799758911, 0.015546917915344238, 0.05347251892089844, 0.4160670042037964,
    0.9746469259262085, 0.6532257795333862, 0.6976220607757568, 0.7393381595611572, 0.8941131830215454,
    0.4184684753417969, 0.20929086208343506, 0.3210252523422241, 0.9390954971313477, 0.11590230464935303,
)  # fmt: skip


def _demonstration(name: str, draw) -> KnownDensity:
    r, k = np.array(draw), len(draw)
    widest = 10 / (6 * k)
    return gaussian_mixture(name, np.full(k, 1 / k), -0.5 + 0.8 * r, widest * (0.25 + 0.1 * r))


def gmm10() -> KnownDensity:
    """The mixture of 10 Gaussians of the demonstration of De la Fuente, Singh and Balle (2024)."""
    return _demonstration("gmm10", _DRAW_10)


def gmm25() -> KnownDensity:
    """The same recipe with 25 Gaussians."""
    return _demonstration("gmm25", _DRAW_25)


def claw() -> KnownDensity:
    """A Gaussian with five claws: density 10 of Marron and Wand (1992), doi 10.1214/aos/1176348653."""
    return gaussian_mixture("claw", [0.5] + 5 * [0.1], [0, -1, -0.5, 0, 0.5, 1], [1] + 5 * [0.1])


def three_scale_peaks() -> KnownDensity:
    """Three Gaussian peaks, each ten times sharper than the one before."""
    return gaussian_mixture("peaks", [0.5, 0.3, 0.2], [0, 1.5, -1], [1, 0.1, 0.01])


def laplace() -> KnownDensity:
    """``exp(-|x|) / 2``."""

    def cdf(x):
        half = np.exp(-np.abs(x)) / 2
        return np.where(np.asarray(x) < 0, half, 1 - half)

    def ppf(u):
        return np.where(u < 0.5, np.log(2 * np.minimum(u, 0.5)), -np.log(2 * np.minimum(1 - u, 0.5)))

    return KnownDensity("laplace", lambda x: np.exp(-np.abs(x)) / 2, cdf, ppf, 1 + np.log(2))


def student_t3() -> KnownDensity:
    """Student's t with three degrees of freedom."""
    from scipy.special import betaln, digamma, stdtrit

    def cdf(x):
        z = np.asarray(x, float) / np.sqrt(3)
        return 0.5 + (z / (1 + z * z) + np.arctan(z)) / np.pi

    entropy = 2 * (digamma(2) - digamma(1.5)) + 0.5 * np.log(3) + betaln(1.5, 0.5)
    return KnownDensity(
        "t3",
        lambda x: 2 / (np.pi * np.sqrt(3) * (1 + np.square(x) / 3) ** 2),
        cdf,
        lambda u: stdtrit(3, np.asarray(u, float)),
        float(entropy),
    )


def cauchy() -> KnownDensity:
    """``1 / (pi (1 + x^2))``."""
    return KnownDensity(
        "cauchy",
        lambda x: 1 / (np.pi * (1 + np.square(x))),
        lambda x: np.arctan2(1, -np.asarray(x, float)) / np.pi,
        lambda u: np.where(u < 0.5, -1 / np.tan(np.pi * u), 1 / np.tan(np.pi * (1 - u))),
        float(np.log(4 * np.pi)),
    )


def uniform() -> KnownDensity:
    """1 on [0, 1]."""
    return KnownDensity(
        "uniform",
        lambda x: np.where((np.asarray(x) >= 0) & (np.asarray(x) <= 1), 1.0, 0.0),
        lambda x: np.clip(x, 0.0, 1.0),
        lambda u: np.asarray(u, float),
        0.0,
        support=(0.0, 1.0),
    )


def beta25() -> KnownDensity:
    """``30 x (1 - x)^4`` on [0, 1]."""
    from scipy.special import betainc, betaincinv, betaln, digamma

    entropy = betaln(2, 5) - digamma(2) - 4 * digamma(5) + 5 * digamma(7)

    def pdf(x):
        inside = np.clip(x, 0.0, 1.0)
        return 30 * inside * (1 - inside) ** 4

    return KnownDensity(
        "beta25",
        pdf,
        lambda x: betainc(2, 5, np.clip(x, 0.0, 1.0)),
        lambda u: betaincinv(2, 5, np.asarray(u, float)),
        float(entropy),
        support=(0.0, 1.0),
    )


def arcsine() -> KnownDensity:
    """``1 / (pi sqrt(x (1 - x)))`` on [0, 1]: where a coin-tossing walk was last level.

    Doubles next to 1 are 1.1e-16 apart, which is 7e-9 of probability there: the divergence is right to 1e-6.
    """

    def pdf(x):
        x = np.asarray(x, float)
        inside = (x > 0) & (x < 1)
        return np.where(inside, 1 / (np.pi * np.sqrt(np.where(inside, x * (1 - x), 1.0))), 0.0)

    def ppf(u):
        return np.clip(np.square(np.sin(np.pi / 2 * np.asarray(u, float))), 1e-300, 1 - 2.0**-53)

    def cdf(x):
        x = np.clip(x, 0.0, 1.0)
        return 2 / np.pi * np.arctan2(np.sqrt(x), np.sqrt(1 - x))

    return KnownDensity("arcsine", pdf, cdf, ppf, float(np.log(np.pi / 4)), support=(0.0, 1.0))


def lognormal(mean: float = 0.0, width: float = 1.0, *, name: str = "lognormal", grid=None) -> KnownDensity:
    """exp of a normal with this mean and width."""
    from scipy.special import ndtr, ndtri

    def logarithm(x):
        with np.errstate(divide="ignore"):
            return (np.log(np.maximum(x, 0.0)) - mean) / width

    def pdf(x):
        x = np.asarray(x, float)
        z = logarithm(np.where(x > 0, x, 1.0))
        return np.where(x > 0, np.exp(-0.5 * z * z) / (np.where(x > 0, x, 1.0) * width * np.sqrt(2 * np.pi)), 0.0)

    entropy = mean + 0.5 + np.log(width * np.sqrt(2 * np.pi))
    return KnownDensity(
        name,
        pdf,
        lambda x: ndtr(logarithm(x)),
        lambda u: np.exp(mean + width * ndtri(np.asarray(u, float))),
        float(entropy),
        support=(0.0, np.inf),
        grid=grid,
    )


def relu(mean: float = -0.5) -> KnownDensity:
    """What a rectifier leaves of a normal of width 1: an atom at 0 of mass ndtr(-mean), and the tail above it.

    With a = -mean and q the normal's mass above a, the entropy is
    ``-(1 - q) log(1 - q) + q log sqrt(2 pi) + (q + a phi(a)) / 2``.
    """
    from scipy.special import ndtr, ndtri

    a = -mean
    atom, above = float(ndtr(a)), float(ndtr(-a))
    height = np.exp(-0.5 * a * a) / np.sqrt(2 * np.pi)
    entropy = -atom * np.log(atom) + above * np.log(np.sqrt(2 * np.pi)) + (above + a * height) / 2

    def pdf(x):
        x = np.asarray(x, float)
        return np.where(x >= 0, np.exp(-0.5 * np.square(x + a)) / np.sqrt(2 * np.pi), 0.0)

    return KnownDensity(
        "relu",
        pdf,
        lambda x: np.where(np.asarray(x) >= 0, ndtr(np.asarray(x, float) + a), 0.0),
        lambda u: np.maximum(ndtri(np.asarray(u, float)) - a, 0.0),
        float(entropy),
        support=(0.0, np.inf),
        atoms=Atoms((0.0,), (atom,)),
    )


def rounded_prices(grid: float = 0.05) -> KnownDensity:
    """Log-normal prices about 20, given to the nearest `grid`: thousands of ties, and none of them means anything."""
    return lognormal(3.0, 0.25, name="prices", grid=grid)


def compass() -> KnownDensity:
    """Wind from two directions over a steady breeze from all: three von Mises densities on the circle."""
    return von_mises_mixture("von mises", [0.5, 0.3, 0.2], [0.4, 3.5, 5.0], [8.0, 30.0, 0.5])


def known_densities() -> tuple[KnownDensity, ...]:
    """All of them; the last three have an atom, are rounded, and lie on a circle."""
    line = (gmm25, gmm10, claw, three_scale_peaks, laplace, student_t3, cauchy, uniform, beta25, arcsine, lognormal)
    return tuple(f() for f in (*line, relu, rounded_prices, compass))
