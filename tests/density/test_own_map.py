"""A map that a caller brings: it must be one, and then it works as ours do."""

import pickle

import numpy as np
import pytest

import density as ds


class Gumbel:
    """F(x) = exp(-exp(-x))."""

    def forward(self, x):
        return np.exp(-np.exp(-x))

    def inverse(self, u):
        return -np.log(-np.log(u))

    def log_derivative(self, x):
        return -x - np.exp(-x)


class SquareRoot:
    """F(x) = sqrt(x) on [0, 1]."""

    def forward(self, x):
        return np.sqrt(x)

    def inverse(self, u):
        return np.square(u)

    def log_derivative(self, x):
        return -np.log(2 * np.sqrt(x))

    def complement(self, x):
        return (1 - x) / (1 + np.sqrt(x))

    def __eq__(self, other):
        return isinstance(other, SquareRoot)

    def __hash__(self):
        return 7


def test_a_map_of_the_line_keeps_the_safety_tail(rng):
    x = rng.gumbel(size=20_000)
    p = ds.fit(x, map=Gumbel())
    assert p.gap_nats <= 1e-6
    assert p.tail.mass > 0
    assert p.map_parameters == 0
    t = np.linspace(-2, 8, 400)
    exact = np.exp(-t - np.exp(-t))
    assert np.abs(p.pdf(t) - exact).max() < 0.02
    assert np.isclose(p.mean(), x.mean(), atol=0.02)
    assert np.abs(p.cdf(p.ppf([1e-4, 0.3, 0.999])) - [1e-4, 0.3, 0.999]).max() < 1e-10
    assert "own(Gumbel)" in repr(p)
    assert "own(Gumbel)" in p.explain()
    with pytest.raises(TypeError, match=r"the map own\(Gumbel\) is code.*pickle the density instead"):
        p.to_bytes()
    assert p != ds.fit(x, map="logistic")


def test_a_map_of_an_interval_is_believed(rng):
    x = rng.random(20_000) ** 2
    p = ds.fit(x, map=SquareRoot())
    assert p.support == (0, 1)
    assert p.tail.mass == 0
    assert p.order <= 3
    assert p.pdf([-0.1, 1.1]).tolist() == [0, 0]
    assert (p.cdf(0.0), p.cdf(1.0), p.sf(2.0)) == (0, 1, 0)
    assert np.abs(p.cdf(p.sample(20_000, rng=7)).mean() - 0.5) < 0.02
    copy = pickle.loads(pickle.dumps(p))
    assert copy == p
    assert hash(copy) == hash(p)


def _broken(**changes):
    return type("Broken", (Gumbel,), {name: staticmethod(f) for name, f in changes.items()})()


BAD = [
    (_broken(forward=lambda x: np.exp(np.exp(-x))), r"forward must give one number in \[0, 1\]"),
    (_broken(forward=lambda x: np.where(x > 0, 0.5, 0.2)), "forward must increase, but forward"),
    (_broken(inverse=lambda u: -u), "must be the ends of the support"),
    (_broken(inverse=lambda u: -np.log(-np.log(u)) + 0.01), "inverse must undo forward"),
    (_broken(log_derivative=lambda x: -x), "log_derivative is not the logarithm of the slope"),
    (SquareRoot(), "ends at 0 and 1, but the data run from"),
]


@pytest.mark.parametrize("given, message", BAD, ids=range(len(BAD)))
def test_what_is_no_map_says_why(rng, given, message):
    with pytest.raises(ValueError, match=message):
        ds.fit(rng.gumbel(size=500), map=given)


def test_a_map_knows_its_own_support(rng):
    with pytest.raises(ValueError, match="leave support out"):
        ds.fit(rng.random(50), map=SquareRoot(), support=(0, 1))
    with pytest.raises(TypeError, match="has no forward, inverse, log_derivative; pass a name, or an object"):
        ds.fit(rng.random(50), map=object())
