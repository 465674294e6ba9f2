"""The numbers that the gallery calls exact."""

import numpy as np
import pytest
from scipy import stats

import density as ds

ALL = ds.gallery.known_densities()
SCIPY = {
    "laplace": stats.laplace(),
    "t3": stats.t(3),
    "cauchy": stats.cauchy(),
    "uniform": stats.uniform(),
    "beta25": stats.beta(2, 5),
    "arcsine": stats.arcsine(),
    "lognormal": stats.lognorm(1),
    "prices": stats.lognorm(0.25, scale=np.exp(3)),
}
POINTS, WEIGHTS = np.polynomial.legendre.leggauss(16)


@pytest.fixture(params=ALL, ids=lambda d: d.name)
def known(request):
    return request.param


def free(known, u):
    """Those u whose quantile is no atom."""
    return u[~np.isin(known.ppf(u), known.atoms.values)]


def test_there_are_fourteen_of_different_names():
    assert len({known.name for known in ALL}) == len(ALL) == 14


def test_quantiles_invert_the_distribution_function(known):
    u = free(known, np.linspace(1e-6, 1 - 1e-6, 1001))
    x = known.ppf(u)
    assert np.all(np.diff(x) > 0)
    assert np.all(np.abs(known.cdf(x) - u) < 1e-13 + 4e-16 * np.abs(x) * known.pdf(x))
    lo, hi = known.support
    assert lo <= x[0] <= x[-1] <= hi
    if known.atoms.values:
        assert known.ppf(np.array([1e-9, 0.3])).tolist() == [0.0, 0.0]
        assert known.cdf(np.array([-1e-9, 0.0])).tolist() == [0.0, known.atoms.masses[0]]


def test_pdf_integrates_to_the_cdf_and_to_one(known):
    """Gauss's rule between quantiles: cdf' = pdf on each of 2000 pieces, and together they hold everything."""
    tail = 0.5 ** np.arange(2, 34)
    u = np.unique(np.concatenate([np.linspace(0, 1, 2001)[1:-1], tail, 1 - tail]))
    knots = np.unique(np.concatenate([known.ppf(u), [v for v in known.support if np.isfinite(v) and len(known.atoms)]]))
    half = np.diff(knots) / 2
    x = knots[:-1, None] + half[:, None] * (1 + POINTS)
    pieces = half * (known.pdf(x) @ WEIGHTS)
    step = np.diff(known.cdf(knots))
    assert np.all(np.abs(pieces - step) < 1e-10 + 1e-6 * step)
    assert np.all(np.abs(pieces - step)[5:-40] < 1e-9)
    assert abs(pieces.sum() + known.atoms.mass - 1) < 1e-8


def test_entropy_by_quadrature(known):
    """``-int log p(Q(u)) du`` on panels that shrink towards both ends, and the atoms' share."""
    edge = known.atoms.mass
    v = np.unique(np.concatenate([np.linspace(0, 1, 1001), 0.5 ** np.arange(1, 50), 1 - 0.5 ** np.arange(1, 50)]))
    u = edge + (1 - edge) * v
    half = np.diff(u) / 2
    at = np.minimum(u[:-1, None] + half[:, None] * (1 + POINTS), 1 - 2.0**-53)
    value = -(half[:, None] * WEIGHTS * np.log(known.pdf(known.ppf(at.ravel())).reshape(at.shape))).sum()
    value -= sum(m * np.log(m) for m in known.atoms.masses)
    assert abs(value - known.entropy) < (1e-8 if known.name != "arcsine" else 1e-6)


@pytest.mark.parametrize("name", SCIPY)
def test_scipy_agrees_where_it_has_the_same(name):
    known, peer = next(d for d in ALL if d.name == name), SCIPY[name]
    x = known.ppf(np.linspace(1e-6, 1 - 1e-6, 1001))
    assert np.allclose(known.pdf(x), peer.pdf(x), atol=1e-14, rtol=1e-10 if known.name == "arcsine" else 1e-12)
    assert np.allclose(known.cdf(x), peer.cdf(x), atol=1e-14, rtol=1e-12)
    assert abs(known.entropy - peer.entropy()) < 1e-10


def test_the_circular_one_is_a_sum_of_scipys():
    known, x = ds.gallery.compass(), np.linspace(0.01, 6.27, 300)
    parts = [(0.5, stats.vonmises(8, 0.4)), (0.3, stats.vonmises(30, 3.5)), (0.2, stats.vonmises(0.5, 5.0))]
    assert np.allclose(known.pdf(x), sum(w * p.pdf(x) for w, p in parts), rtol=1e-12)
    assert np.allclose(known.cdf(x), sum(w * (p.cdf(x) - p.cdf(0)) for w, p in parts), atol=1e-12)
    assert known.pdf(np.array([0.0])) == pytest.approx(known.pdf(np.array([2 * np.pi])), rel=1e-12)


def test_samples_follow_their_cdf(known):
    s = known.sample(20_000, rng=20269)
    assert np.array_equal(s, known.sample(20_000, rng=20269))
    if known.grid is None:
        s = np.sort(s[~np.isin(s, known.atoms.values)])
        left = (known.cdf(s) - known.atoms.mass) / (1 - known.atoms.mass)
        distance = np.abs(left - (np.arange(len(s)) + 0.5) / len(s)).max()
        assert distance < 2.6 / np.sqrt(len(s))  # Kolmogorov: exceeded once in 370,000
        assert abs(len(s) / 20_000 - 1 + known.atoms.mass) < 5 * 0.5 / np.sqrt(20_000)
    else:
        assert np.allclose(s / known.grid, np.round(s / known.grid), atol=1e-9)
        x, mass = known.cells()
        assert abs(mass.sum() - 1) < 1e-11
        seen = np.searchsorted(np.sort(s), x + known.grid / 2) / len(s)
        assert np.abs(seen - np.cumsum(mass)).max() < 2.6 / np.sqrt(len(s))


def test_fits_of_what_is_not_smooth_on_the_line_are_close():
    for name, limit in (("relu", 2e-3), ("prices", 2e-3), ("von mises", 2e-3), ("arcsine", 3e-2)):
        known = next(d for d in ALL if d.name == name)
        options = {"basis": "periodic", "support": known.support} if known.circular else {}
        p = ds.fit(known.sample(20_000, rng=20271), **options)
        assert p.gap_nats <= 1e-6
        assert 0 <= known.kl(p) < limit, name
        assert (p.report.grid is None) == (known.grid is None)
        assert p.atoms.values == known.atoms.values


def test_kl_of_a_density_from_itself_is_zero_and_positive_otherwise():
    known = ds.gallery.laplace()

    class Other:
        def logpdf(self, x):
            return -0.5 * np.square(x / 1.4) - np.log(1.4 * np.sqrt(2 * np.pi))

    assert abs(known.kl(Other()) - (2 / (2 * 1.96) + np.log(1.4 * np.sqrt(2 * np.pi)) - known.entropy)) < 1e-6


def test_kl_of_each_from_itself_is_zero(known):
    class Same:
        atoms = known.atoms

        def logpdf(self, x):
            return np.log(known.pdf(x))

        def bits(self, x, step):
            return -np.log2(known.cdf(x + step / 2) - known.cdf(x - step / 2))

    class Heavier(Same):
        atoms = type(known.atoms)((0.0,), (known.atoms.mass / 2,))

        def logpdf(self, x):
            return np.log(known.pdf(x)) - 1

        def bits(self, x, step):
            return super().bits(x, step) + 1

    assert abs(known.kl(Same())) < 1e-9
    lost = known.atoms.mass * np.log(2) + (1 - known.atoms.mass)
    assert known.kl(Heavier()) == pytest.approx(np.log(2) if known.grid else lost, rel=1e-6)


def test_a_missing_atom_is_an_infinite_divergence_and_cells_need_a_grid():
    assert ds.gallery.relu().kl(ds.fit(ds.gallery.laplace().sample(500, rng=7), order=0, map="laplace")) == np.inf
    with pytest.raises(ValueError, match="claw is not rounded: it has no cells"):
        ds.gallery.claw().cells()


@pytest.mark.parametrize("name", ["china.jpg", "flower.jpg"])
def test_photo_residuals_invert_exactly(name):
    pytest.importorskip("sklearn")
    pytest.importorskip("PIL")
    image, residuals = ds.gallery.photo(name), ds.gallery.photo_residuals(name)
    assert residuals.dtype == np.int16
    assert residuals.shape == image.shape == (427, 640, 3)
    assert np.array_equal(ds.gallery.photo_from_residuals(residuals), image)
    assert np.abs(residuals).mean() < np.abs(image.astype(int) - 128).mean() / 3
