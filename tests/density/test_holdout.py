"""The contest of the maps: what is merged for it keeps its mass, and what is left early would not have won."""

import numpy as np
import pytest

import density as ds
from density import holdout
from density.cells import cells


def test_merged_cells_keep_mass_mean_and_ends(rng):
    x = rng.standard_cauchy(60_000)
    data = cells(x, None, 1)
    merged = holdout._merged(data)
    assert len(merged.centres) < 20_000
    assert np.isclose(merged.masses.sum(), 1, atol=1e-12)
    assert np.isclose(merged.masses @ np.arctan(merged.centres), data.masses @ np.arctan(data.centres), atol=1e-6)
    assert np.allclose(merged.centres[:500], data.centres[:500], rtol=1e-14)
    assert np.allclose(merged.centres[-500:], data.centres[-500:], rtol=1e-14)
    assert np.all(np.diff(merged.centres) > 0)


def test_no_group_lies_across_a_void(rng):
    x = rng.choice([-1.0, 1.0], 50_000) + 1e-3 * rng.standard_normal(50_000)
    assert np.abs(holdout._merged(cells(x, None, 1)).centres).min() > 0.9


@pytest.mark.parametrize("name", ["gmm25", "claw", "student_t3", "beta25"])
@pytest.mark.parametrize("n", [500, 8000])
def test_a_map_that_is_left_early_would_not_have_won(name, n, monkeypatch):
    x = getattr(ds.gallery, name)().sample(n, rng=20293)
    quick = ds.fit(x)
    monkeypatch.setattr(holdout, "_DOUBT", np.inf)
    patient = ds.fit(x)
    assert quick.map == patient.map
    assert quick.order == patient.order
    assert [c.map for c in quick.report.candidates] == [c.map for c in patient.report.candidates]


def test_the_normal_law_of_the_moments_is_tried(rng):
    x = 3 + 2 * rng.standard_normal(20_000)
    p = ds.fit(x)
    assert any(c.map == "normal" and np.isclose(c.scale, x.std(), rtol=1e-6) for c in p.report.candidates)
    u = (np.arange(2000) + 0.5) / 2000
    t = p.ppf(u)
    loss = p.logpdf(t) + 0.5 * ((t - 3) / 2) ** 2 + 0.5 * np.log(8 * np.pi)
    assert np.mean(loss) < 1.5e-3
