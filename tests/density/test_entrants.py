"""Maps that are placed by the data: moments, close ends, skewness, atoms."""

import numpy as np
import pytest

import density as ds
from density.cells import cells
from density.entrants import entrants


def _maps(x, kind):
    data = cells(x, None, 1)
    return [m for m in entrants(data, data.quantile([0.25, 0.5, 0.75])) if m.kind == kind]


def test_the_normal_law_of_the_moments_is_tried(rng):
    x = 3 + 2 * rng.standard_normal(20_000)
    p = ds.fit(x)
    assert any(c.map == "normal" and np.isclose(c.scale, x.std(), rtol=1e-6) for c in p.report.candidates)
    u = (np.arange(2000) + 0.5) / 2000
    t = p.ppf(u)
    loss = p.logpdf(t) + 0.5 * ((t - 3) / 2) ** 2 + 0.5 * np.log(8 * np.pi)
    assert np.mean(loss) < 1.5e-3


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("shift, scale", [(0.0, 1.0), (-40.0, 1e-3), (0.0, 1e200), (0.0, 1e-200)])
def test_a_shifted_log_normal_law_is_found_from_either_side(rng, sign, shift, scale):
    x = sign * (shift + scale * np.exp(0.8 * rng.standard_normal(20_000)))
    (m,) = _maps(x, "lognormal")
    assert np.isclose(m.loc, sign * shift, atol=0.1 * scale)
    assert np.isclose(m.scale, sign * scale, rtol=0.1)
    assert np.isclose(m.shape, 1 / 0.8, rtol=0.1)
    u = m.forward(x)
    assert np.abs(np.sort(u) - (np.arange(len(x)) + 0.5) / len(x)).max() < 0.02
    assert np.isfinite(m.log_derivative(x)).all()


def test_symmetric_data_have_no_skewed_map(rng):
    half = rng.standard_normal(2000)
    assert not _maps(np.concatenate([half, -half]), "lognormal")
    x = rng.choice([0.0, 1.0], 50) + 1e-3 * rng.random(50)  # the median and an outer quantile coincide almost
    assert all(np.isfinite(m.log_derivative(x)).all() for m in _maps(x, "lognormal"))


def test_ends_where_the_density_is_infinite_are_found():
    known = ds.gallery.arcsine()
    x = known.sample(2000, rng=20294)
    (m,) = _maps(x, "arcsine")
    assert m.loc < x.min() < x.min() + 1e-3
    assert np.isclose(m.forward(x.min()), 1 / 2000, rtol=1e-3)
    p = ds.fit(x)
    assert p.map == m
    assert known.kl(p) < 2e-2


def test_half_lines_begin_at_an_atom_and_rounded_data_have_no_close_ends(rng):
    relu = rng.standard_normal(3000).clip(0)
    assert {m.loc for m in _maps(relu, "exponential")} == {0.0}
    assert not _maps(np.round(rng.random(3000), 2), "arcsine")
