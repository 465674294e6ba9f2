"""The example of conditional densities: normalised, equal to its own slices, better than ignoring x, and a chain."""

import numpy as np
import pytest

import density as ds
from examples.conditional import Banana, Chain, Crossing, fit_at, fit_conditional


@pytest.fixture(scope="module")
def crossing():
    y, x = Crossing.sample(1500, np.random.default_rng(20270))
    return y, x, fit_at(y, x[:, None], 8, 4)


def test_it_is_the_density_of_each_slice(crossing):
    *_, p = crossing
    y = np.linspace(-3, 3, 41)
    for x in (-1.5, 0.0, 1.9):
        slice_ = p.at([x])
        assert np.allclose(p.logpdf(y, np.full((41, 1), x)), slice_.logpdf(y), atol=1e-6)
        assert slice_.gap_nats == np.inf
        assert slice_.report.status is ds.Status.UNCERTIFIED
        assert abs(slice_.cdf(slice_.ppf(0.3)) - 0.3) < 1e-9
    t = np.linspace(-40, 40, 400_001)
    assert abs(np.trapezoid(np.exp(p.logpdf(t, np.full((len(t), 1), 0.7))), t) - 1) < 1e-4


def test_it_finds_most_of_what_x_says_about_y(crossing):
    y, _, p = crossing
    new_y, new_x = Crossing.sample(20_000, np.random.default_rng(20271))
    truth = Crossing.logpdf(new_y, new_x).mean()
    lost, alone = truth - p.logpdf(new_y, new_x[:, None]).mean(), truth - ds.fit(y).logpdf(new_y).mean()
    assert 0 < lost < alone / 2
    assert len(p.at([1.0]).modes(least=0.2)) == 2  # two branches, near 1 and -1
    assert np.abs(np.abs(p.at([1.0]).modes(least=0.2)) - np.sin(1.5)).max() < 0.3


def test_without_x_it_is_the_density_of_y(crossing):
    y, x, _ = crossing
    p = fit_at(y, x[:, None], 6, 0)
    assert np.abs(p.at([0.5]).coefficients - ds.fit(y, order=6, map="logistic").coefficients).max() < 1e-5


def test_a_chain_is_the_sum_of_its_conditionals_and_beats_a_normal_density():
    rng = np.random.default_rng(20272)
    X, new = Banana.sample(800, rng)[:, :2], Banana.sample(5000, rng)[:, :2]
    chain = Chain(ds.fit(X[:, 0]), (fit_conditional(X[:, 1], X[:, :1], orders=(6,), degrees=(2, 4)),))
    score = chain.logpdf(new)
    assert np.allclose(score, chain.first.logpdf(new[:, 0]) + chain.rest[0].logpdf(new[:, 1], new[:, :1]))
    normal = -0.5 * (np.log(np.linalg.det(2 * np.pi * np.cov(X.T))) + 2)
    assert score.mean() > normal + 0.2
    S = chain.sample(60, rng=7)
    assert S.shape == (60, 2)
    assert np.array_equal(S, chain.sample(60, rng=7))
    assert np.corrcoef(S[:, 0] ** 2, S[:, 1])[0, 1] > 0.5
