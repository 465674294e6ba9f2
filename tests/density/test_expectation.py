"""The products behind expectation-maximisation against plain sums over bins and components."""

import numpy as np
import pytest

from density.expectation import Bins, ascent


def bins_of(rng, count: int, scale: float = 1.0) -> Bins:
    return Bins(
        np.sort(scale * rng.standard_normal(count)), rng.dirichlet(np.ones(count)), scale**2 * rng.random(count)
    )


@pytest.mark.parametrize("count, scale", [(2, 1.0), (64, 1.0), (64, 1e-6), (300, 1e5)])
def test_densities_are_those_of_normal_laws(rng, count, scale):
    bins = bins_of(rng, count, scale)
    weights, means, widths = rng.dirichlet(np.ones(5)), scale * rng.standard_normal(5), scale * (0.5 + rng.random(5))
    z = (bins.x - means[:, None]) / widths[:, None]
    plain = (
        (weights / widths)[:, None] * np.exp(-z * z / 2 - bins.within / (2 * widths**2)[:, None]) / np.sqrt(2 * np.pi)
    )
    share, squares = bins.densities(weights, means, widths)
    assert np.allclose(share, plain, rtol=1e-11)
    assert np.allclose(squares, z * z / 2, rtol=1e-11, atol=1e-14)


def test_far_from_every_component_is_small_and_never_zero():
    bins = Bins(np.array([0.0, 1.0, 1e9]), np.full(3, 1 / 3), np.zeros(3))
    share, _ = bins.densities(np.array([0.5, 0.5]), np.array([0.0, 1.0]), np.array([1.0, 1e-3]))
    assert np.isfinite(share).all()
    assert 0 < share[:, 2].max() < 1e-290
    assert share[1, 0] == share[1, 2]


def test_moments_are_those_of_the_samples_taken(rng):
    bins, k = bins_of(rng, 80), 4
    means, widths = rng.standard_normal(k), 0.5 + rng.random(k)
    taken = rng.random((k, 80)) * bins.w
    mass, mean, variance = (taken.sum(axis=1), taken @ bins.x, np.empty(k))
    mean = mean / mass
    for j in range(k):
        variance[j] = taken[j] @ ((bins.x - mean[j]) ** 2 + bins.within) / mass[j]
    found = bins.moments(taken, bins.densities(np.full(k, 0.25), means, widths)[1], means, widths)
    for mine, plain in zip(found, (mass, mean, variance)):
        assert np.allclose(mine, plain, rtol=1e-12)


def test_no_component_is_finer_than_the_bins_around_it():
    bins = Bins(np.array([0.0, 1.0, 2.0, 12.0]), np.full(4, 0.25), np.zeros(4))
    assert bins.finest(np.array([0.0, 1.0])).tolist() == [1.0, 1.0]
    assert bins.finest(np.array([12.0]))[0] == 100.0


def test_an_ascent_is_far_ahead_of_plain_rounds_and_ends_where_they_do(rng):
    x = np.sort(np.concatenate([rng.normal(0, 1, 3000), rng.normal(2.5, 1, 2000), rng.normal(5, 0.5, 1000)]))
    bins = Bins(x.reshape(-1, 20).mean(axis=1), np.full(300, 1 / 300), x.reshape(-1, 20).var(axis=1))
    start = np.full(3, 1 / 3), np.array([-1.0, 1.0, 3.0]), np.ones(3)
    plain = start
    likelihoods = []
    for _ in range(3000):
        share, squares = bins.densities(*plain)
        likelihoods.append(float(bins.w @ np.log(share.sum(axis=0))))
        mass, means, variances = bins.moments(share * (bins.w / share.sum(axis=0)), squares, *plain[1:])
        plain = mass / mass.sum(), means, np.sqrt(np.maximum(variances, bins.finest(means)))
    assert np.all(np.diff(likelihoods) > -1e-12)

    def free(mass, means, variances, widths):
        return np.sqrt(np.maximum(variances, bins.finest(means)))

    _, soon = ascent(bins, start, 60, enough=0.0, widths_of=free)
    parts, late = ascent(bins, start, 3000, enough=0.0, widths_of=free)
    assert soon > likelihoods[120]
    assert abs(late - likelihoods[-1]) < 1e-9
    for mine, theirs in zip(parts, plain):
        assert np.allclose(mine, theirs[np.argsort(plain[1])], atol=1e-3)


def test_an_ascent_keeps_widths_that_are_tied(rng):
    bins = bins_of(rng, 200)
    start = np.full(4, 0.25), np.linspace(-2, 2, 4), np.ones(4)

    def one(mass, means, variances, widths):
        return np.full(len(means), np.sqrt(mass @ variances / mass.sum()))

    weights, means, widths = ascent(bins, start, 40, enough=0.0, widths_of=one)[0]
    assert len(set(widths)) == 1
    assert np.isclose(weights.sum(), 1)
    assert np.all(np.diff(means) > 0)
