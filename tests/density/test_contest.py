"""The contest of the maps: what is merged for it keeps its mass, and what is left early would not have won."""

import numpy as np
import pytest

import density as ds
from density import contest, fitting
from density.cells import cells
from density.maps import Map


def test_merged_cells_keep_mass_mean_and_ends(rng):
    x = rng.standard_cauchy(60_000)
    data = cells(x, None, 1)
    merged = contest._merged(data)
    assert len(merged.centres) < 20_000
    assert np.isclose(merged.masses.sum(), 1, atol=1e-12)
    assert np.isclose(merged.masses @ np.arctan(merged.centres), data.masses @ np.arctan(data.centres), atol=1e-6)
    assert np.allclose(merged.centres[:500], data.centres[:500], rtol=1e-14)
    assert np.allclose(merged.centres[-500:], data.centres[-500:], rtol=1e-14)
    assert np.all(np.diff(merged.centres) > 0)


def test_no_group_lies_across_a_void(rng):
    x = rng.choice([-1.0, 1.0], 50_000) + 1e-3 * rng.standard_normal(50_000)
    assert np.abs(contest._merged(cells(x, None, 1)).centres).min() > 0.9


@pytest.mark.parametrize("name", ["gmm25", "claw", "student_t3", "beta25"])
@pytest.mark.parametrize("n", [500, 8000])
def test_a_map_that_is_left_early_would_not_have_won(name, n, monkeypatch):
    x = getattr(ds.gallery, name)().sample(n, rng=20293)
    quick = ds.fit(x)
    monkeypatch.setattr(contest, "_DOUBT", np.inf)
    monkeypatch.setattr(contest, "_BEAM", 99)
    patient = ds.fit(x)
    assert quick.map == patient.map
    assert quick.order == patient.order
    assert [c.map for c in quick.report.candidates] == [c.map for c in patient.report.candidates]


@pytest.mark.parametrize("sigma", [0.5, 3.0])
def test_the_slope_of_a_map_is_that_of_the_whole_interval(rng, sigma):
    """Of five integers no density of cells is likelier than their own frequencies."""
    x = np.round(sigma * rng.standard_normal(5000))
    p = ds.fit(x)
    counts = np.unique(x, return_counts=True)[1] / len(x)
    assert max(c.worth for c in p.report.candidates) < counts @ np.log(counts)


def test_a_map_that_ends_with_the_data_pays_for_what_lies_beyond(rng):
    """A uniform law leaves little beyond its samples, a normal one more than the room of a spacing."""
    losses = []
    for x in (rng.random(3000), rng.standard_normal(3000)):
        data = cells(x, None, 1)
        tail = fitting._safety_tail(data, data.quantile([0.25, 0.5, 0.75]), 2 / 3010)
        entered = contest.Contest(data, tail, 16, "cosine")
        lo, hi = data.extent
        (climber,) = entered.enter([Map("affine", lo, hi - lo)])
        losses.append(entered._beyond(climber, np.zeros(len(x))) * len(x))
    assert 0 < losses[0] < 0.75 * losses[1]


def test_a_criterion_without_a_best_map_asks_for_peaks_only_where_waves_are_needed(rng):
    flat = ds.fit(rng.random(2000))
    wavy = ds.fit(ds.gallery.gmm25().sample(2000, rng))
    assert "mixture" not in {c.map for c in flat.report.candidates}
    assert "mixture" in {c.map for c in wavy.report.candidates}


@pytest.mark.parametrize("name, limit", [("uniform", 5e-5), ("arcsine", 2e-4), ("laplace", 2e-6), ("lognormal", 4e-6)])
def test_cells_of_many_samples_cost_no_accuracy(name, limit):
    """A law that a map has needs no waves, however many samples: ends inside a cell, and wide groups, made some."""
    known = getattr(ds.gallery, name)()
    p = ds.fit(known.sample(1_500_000, rng=20295))
    assert p.order <= 1
    assert p.map.kind == ("affine" if name == "uniform" else name)
    assert known.kl(p) < limit


def test_groups_are_no_wider_than_waves_can_tell(rng):
    data = cells(rng.laplace(size=60_000), None, 1)
    merged = contest._merged(data).centres
    lo, hi = data.ends
    inner = np.diff(merged)[contest.ENDS : -contest.ENDS]
    assert inner.max() < max(2 * (hi - lo) / 512 / 8, np.diff(data.centres)[contest.ENDS : -contest.ENDS].max())
