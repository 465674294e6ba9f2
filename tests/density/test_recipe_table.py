"""The smeared box is a map, and beats the data's range at as many real numbers."""

import numpy as np
import pytest

import density as ds
from benchmarks.recipe_table import SmearedBox, likeliest, rows


@pytest.mark.parametrize("width", [1e-3, 0.05, 0.5])
def test_the_smeared_box_is_a_distribution_function(width):
    box = SmearedBox(-0.5, 0.4, width)
    u = np.concatenate([[1e-12], np.linspace(0, 1, 201)[1:-1]])
    x = box.inverse(u)
    assert np.allclose(box.forward(x), u, rtol=1e-9)
    assert np.allclose(box.forward(x) + box.complement(x), 1, atol=1e-15)
    assert box.inverse(np.array([0.0, 1.0])).tolist() == [-np.inf, np.inf]
    h = 1e-5 * width
    slope = (box.forward(x[1:] + h) - box.forward(x[1:] - h)) / (2 * h)
    assert np.allclose(np.exp(box.log_derivative(x[1:])), slope, rtol=1e-5)
    assert np.isfinite(box.log_derivative(np.array([-0.5 - 30 * width, 0.4 + 30 * width]))).all()


def test_uniform_and_normal_are_its_limits(rng):
    x = rng.random(200)
    assert np.allclose(SmearedBox(0.0, 1.0, 1e-6).forward(x), x, atol=1e-6)
    from scipy.special import ndtr

    assert np.allclose(SmearedBox(-1e-3, 1e-3, 1.0).forward(x), ndtr(x), atol=1e-6)


def test_it_beats_the_range_of_the_data_at_as_many_numbers():
    found = {(counted, name): (kl, gap) for counted, name, _, kl, gap, _ in rows(100_000, (28,))}
    assert found[28, "smeared box"][0] < 0.7 * found[28, "affine"][0]
    assert all(gap < 1e-6 for _, gap in found.values())


def test_it_is_fitted_by_likelihood(rng):
    x = np.concatenate([rng.random(20_000), [-0.5, 1.6]])  # two strays that the range of the data would reach to
    p = likeliest(ds.HistogramSketch().update(x), 2)
    assert p.map.kind == "own"
    assert abs(p.map.given.low) < 0.02
    assert abs(p.map.given.high - 1) < 0.02
