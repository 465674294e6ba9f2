"""The numbers that the gallery calls exact."""

import numpy as np
import pytest
from scipy import stats

import density as ds

SCIPY = {
    "laplace": stats.laplace(),
    "t3": stats.t(3),
    "cauchy": stats.cauchy(),
    "uniform": stats.uniform(),
    "beta25": stats.beta(2, 5),
}


@pytest.mark.parametrize("known", ds.gallery.known_densities(), ids=lambda d: d.name)
def test_functions_agree_with_one_another_and_with_scipy(known):
    u = np.linspace(1e-6, 1 - 1e-6, 1001)
    x = known.ppf(u)
    assert np.abs(known.cdf(x) - u).max() < 1e-13
    h = 1e-6 * (x[-1] - x[0]) if known.name not in ("cauchy", "t3") else 1e-6
    inner = x[100:-100]
    slope = (known.cdf(inner + h) - known.cdf(inner - h)) / (2 * h)
    assert np.allclose(slope, known.pdf(inner), rtol=1e-4, atol=1e-6)
    if known.name in SCIPY:
        peer = SCIPY[known.name]
        assert np.allclose(known.pdf(x), peer.pdf(x), atol=1e-14, rtol=1e-12)
        assert np.allclose(known.cdf(x), peer.cdf(x), atol=1e-14, rtol=1e-12)
        assert abs(known.entropy - peer.entropy()) < 1e-10
    else:
        lo, hi = known.ppf(np.array([1e-16, 1 - 1e-16]))
        t = np.linspace(lo - 1, hi + 1, 2_000_001)
        q = known.pdf(t)
        assert abs(known.entropy + np.trapezoid(q * np.log(np.maximum(q, 1e-300)), t)) < 1e-10


@pytest.mark.parametrize("known", ds.gallery.known_densities(), ids=lambda d: d.name)
def test_samples_follow_their_cdf(known):
    s = known.sample(20_000, rng=20269)
    assert np.array_equal(s, known.sample(20_000, rng=20269))
    distance = np.abs(known.cdf(np.sort(s)) - (np.arange(20_000) + 0.5) / 20_000).max()
    assert distance < 2.6 / np.sqrt(20_000)


def test_kl_of_a_density_from_itself_is_zero_and_positive_otherwise():
    known = ds.gallery.laplace()

    class Other:
        def logpdf(self, x):
            return -0.5 * np.square(x / 1.4) - np.log(1.4 * np.sqrt(2 * np.pi))

    class Same:
        def logpdf(self, x):
            return np.log(known.pdf(x))

    assert abs(known.kl(Same())) < 1e-9
    assert abs(known.kl(Other()) - (2 / (2 * 1.96) + np.log(1.4 * np.sqrt(2 * np.pi)) - known.entropy)) < 1e-6


@pytest.mark.parametrize("name", ["china.jpg", "flower.jpg"])
def test_photo_residuals_invert_exactly(name):
    pytest.importorskip("sklearn")
    pytest.importorskip("PIL")
    image, residuals = ds.gallery.photo(name), ds.gallery.photo_residuals(name)
    assert residuals.dtype == np.int16
    assert residuals.shape == image.shape == (427, 640, 3)
    assert np.array_equal(ds.gallery.photo_from_residuals(residuals), image)
    assert np.abs(residuals).mean() < np.abs(image.astype(int) - 128).mean() / 3
