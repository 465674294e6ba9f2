"""Known densities with exact pdf, cdf and entropy, and real data: the inputs that tour, tests and benchmarks share."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

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


@dataclass(frozen=True)
class KnownDensity:
    """A density whose every number is known.

    Attributes
    ----------
    name : as in tables and plots.
    pdf, cdf, ppf : functions of an array.
    entropy : nats, to 1e-10.
    """

    name: str
    pdf: Callable[[np.ndarray], np.ndarray]
    cdf: Callable[[np.ndarray], np.ndarray]
    ppf: Callable[[np.ndarray], np.ndarray]
    entropy: float
    draw: Callable[[np.random.Generator, int], np.ndarray] | None = None  # faster than inversion, where there is a way

    def sample(self, n: int, rng=None) -> np.ndarray:
        """`n` independent samples; `rng` as in SPEC 7."""
        rng = np.random.default_rng(rng)
        return self.ppf(rng.random(n)) if self.draw is None else self.draw(rng, n)

    def kl(self, fitted) -> float:
        """``E log(self / fitted)`` in nats, for anything with a ``logpdf``; quadrature, error below 1e-9."""
        from .quadrature import integrate, panels

        def loss(u):
            x = self.ppf(np.minimum(u, 1 - 2.0**-53))
            return np.log(self.pdf(x)) - fitted.logpdf(x)

        # what was fitted may end, and fall off a cliff, anywhere beyond the sample's extremes
        return integrate(loss, panels(256, graded=True), tolerance=1e-10, rounds=24)[0]


def gaussian_mixture(name: str, weights, means, widths) -> KnownDensity:
    """A mixture of Gaussians; its quantiles by bisection, its entropy by quadrature."""
    from scipy.special import ndtr

    from .quadrature import integrate

    weights, means, widths = (np.asarray(v, float) for v in (weights, means, widths))

    def pdf(x):
        z = (np.asarray(x, float)[..., None] - means) / widths
        return np.exp(-0.5 * z * z) @ (weights / (widths * np.sqrt(2 * np.pi)))

    def cdf(x):
        return ndtr((np.asarray(x, float)[..., None] - means) / widths) @ weights

    lo, hi = float((means - 12 * widths).min()), float((means + 12 * widths).max())
    knots = np.linspace(lo, hi, 8193)
    mass = cdf(knots)

    def ppf(u):
        u = np.atleast_1d(np.asarray(u, float))
        right = np.clip(np.searchsorted(mass, u), 1, len(knots) - 1)
        a, b = knots[right - 1], knots[right]
        x = a + (b - a) / 2
        live = np.arange(u.size)
        for _ in range(60):  # Newton inside a bracket
            at = x[live]
            wrong = cdf(at) - u[live]
            a, b = np.where(wrong < 0, at, a), np.where(wrong < 0, b, at)
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                newton = at - wrong / pdf(at)
            x[live] = np.where((newton > a) & (newton < b), newton, a + (b - a) / 2)
            open_ = np.abs(x[live] - at) > 4e-16 * np.maximum(np.abs(at), 1e-3)
            live, a, b = live[open_], a[open_], b[open_]
            if not len(live):
                break
        return x

    def draw(rng, n):
        part = rng.choice(len(weights), size=n, p=weights / weights.sum())
        return means[part] + widths[part] * rng.standard_normal(n)

    def minus_p_log_p(u):
        p = pdf(lo + (hi - lo) * u)
        return -p * np.log(np.maximum(p, 1e-300)) * (hi - lo)

    return KnownDensity(name, pdf, cdf, ppf, integrate(minus_p_log_p, 512)[0], draw)


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
    )


def known_densities() -> tuple[KnownDensity, ...]:
    """All of them."""
    return tuple(f() for f in (gmm25, gmm10, claw, three_scale_peaks, laplace, student_t3, cauchy, uniform, beta25))


# --- real data ---


def photo(name: str = "china.jpg") -> np.ndarray:
    """A photograph that scikit-learn ships ("china.jpg" or "flower.jpg"), uint8 of shape (427, 640, 3)."""
    try:
        from sklearn.datasets import load_sample_image
    except ImportError:
        raise ImportError("the photographs come with scikit-learn; run: pip install scikit-learn pillow") from None
    return np.array(load_sample_image(name))


def photo_residuals(name: str = "china.jpg") -> np.ndarray:
    """What the median edge detector fails to predict of a photograph, int16 of the photo's shape.

    Each channel is predicted from its left, upper and upper-left neighbours as in JPEG-LS; `photo_from_residuals`
    inverts it exactly.

    References
    ----------
    Weinberger, Seroussi, Sapiro (2000), The LOCO-I lossless image compression algorithm, doi 10.1109/83.855427.
    """
    pixels = photo(name).astype(np.int16)
    padded = np.pad(pixels, ((1, 0), (1, 0), (0, 0)))
    left, up, corner = padded[1:, :-1], padded[:-1, 1:], padded[:-1, :-1]
    guess = _median_edge(left, up, corner)
    guess[:, 0], guess[0] = up[:, 0], left[0]
    return pixels - guess


def photo_from_residuals(residuals) -> np.ndarray:
    """The photograph whose residuals these are: pixels of one anti-diagonal depend only on the two before it."""
    residuals = np.asarray(residuals, np.int16)
    height, width = residuals.shape[:2]
    pixels = np.zeros_like(residuals)
    for d in range(height + width - 1):
        row = np.arange(max(0, d - width + 1), min(height, d + 1))
        column = d - row
        left = np.where((column > 0)[:, None], pixels[row, column - 1], 0)
        up = np.where((row > 0)[:, None], pixels[row - 1, column], 0)
        corner = np.where(((row > 0) & (column > 0))[:, None], pixels[row - 1, column - 1], 0)
        guess = _median_edge(left, up, corner)
        guess = np.where((row == 0)[:, None], left, np.where((column == 0)[:, None], up, guess))
        pixels[row, column] = residuals[row, column] + guess
    return pixels.astype(np.uint8)


def _median_edge(left, up, corner):
    """The median of left, up and left + up - corner (Weinberger et al. 2000, eq. 1)."""
    return np.clip(left + up - corner, np.minimum(left, up), np.maximum(left, up))
