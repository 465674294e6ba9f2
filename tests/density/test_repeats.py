"""Atoms are what repeats beyond chance, whatever its share; samples of continuous laws have none."""

import numpy as np
import pytest
from scipy import stats

import density as ds
from density import repeats
from density.cells import cells
from density.repeats import repeats_in_cells, repeats_of_values, repeats_on_grid

LAWS = {
    "normal": lambda rng, n: rng.standard_normal(n),
    "cauchy": lambda rng, n: rng.standard_cauchy(n),
    "laplace": lambda rng, n: rng.laplace(size=n),
    "arcsine": lambda rng, n: np.cos(np.pi * rng.random(n)),
    "pole at 0": lambda rng, n: rng.gamma(0.2, size=n),
    "pole at 1": lambda rng, n: 1 + rng.gamma(0.5, size=n),
    "lognormal": lambda rng, n: np.exp(2 * rng.standard_normal(n)),
    "three scales": lambda rng, n: rng.choice([1, 1e-2, 1e-4], n) * rng.standard_normal(n) + rng.choice([0, 3, 5.0], n),
    "peak in a cell": lambda rng, n: np.where(rng.random(n) < 0.5, rng.normal(0, 1, n), rng.normal(100, 1e-6, n)),
    "float32": lambda rng, n: rng.standard_normal(n, dtype=np.float32),
    "float32 far from 0": lambda rng, n: (100 + rng.standard_normal(n)).astype(np.float32),
    "wide integers": lambda rng, n: np.round(rng.normal(0, 3e5, n)),
}


def atoms(x, **options):
    return cells(x, None, 1, **options).atoms


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("n", [300, 20_000, 131_073, 200_000, 1_000_000])
def test_continuous_samples_have_no_atoms(rng, law, n):
    assert not len(atoms(LAWS[law](rng, n)))  # false alarm 1e-6


@pytest.mark.parametrize("n", [131_073, 1_000_000])
@pytest.mark.parametrize("law", ["normal", "cauchy", "arcsine", "pole at 0", "float32"])
def test_sketches_of_continuous_samples_have_no_atoms(rng, law, n):
    assert not len(atoms(ds.HistogramSketch().update(LAWS[law](rng, n))))  # false alarm 1e-6


def test_even_counts_raise_no_alarm(rng):
    """Each rule errs with probability 1e-6 in all values of a data set together: 6e-4 in these 600."""
    for _ in range(200):
        counts = rng.poisson(3.0, 2000)
        low = np.arange(2000.0)
        assert not repeats._beyond_density(low, low + 1, counts)[0].any()
        assert not repeats_of_values(counts[counts > 0]).any()
        assert not repeats_on_grid(low[counts > 0], counts[counts > 0], 1.0)[0].any()


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("n", [2000, 100_000])
def test_ties_by_rounding_are_no_atoms(rng, dtype, n):
    for x in (rng.standard_normal(n), rng.random(n), rng.exponential(size=n)):
        assert not len(atoms(x.astype(dtype)))
        brain = (x.astype(np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32)  # bfloat16
        assert not len(atoms(brain))
    assert atoms(np.maximum(rng.standard_normal(n), 0).astype(dtype)).values == (0.0,)


def test_bootstrap_samples_have_no_atoms(rng):
    x = rng.standard_normal(100_000)
    for n in (50_000, 100_000, 400_000):
        assert not len(atoms(rng.choice(x, n)))


@pytest.mark.parametrize("law", ["normal", "cauchy", "lognormal", "float32", "wide integers"])
@pytest.mark.parametrize("n, times", [(2000, 12), (100_000, 20), (1_000_000, 200)])
def test_repeats_of_a_small_share_are_atoms(rng, law, n, times):
    x = LAWS[law](rng, n)
    inside, outside = x[7], np.max(np.abs(x)).astype(x.dtype)
    x[:times], x[times : 2 * times] = inside, outside
    found = atoms(x)
    assert found.values == tuple(sorted((float(inside), float(outside))))
    assert np.allclose(np.array(found.masses) * n, times, atol=6 if law == "wide integers" else 1)
    if law == "normal" and n > 131_072:
        streamed = atoms(ds.HistogramSketch().update(x))  # which knows the cells only
        assert np.allclose(streamed.values, found.values, rtol=1e-3)
        assert np.allclose(np.array(streamed.masses) * n, times, atol=40)


def test_a_small_atom_beside_a_large_one(rng):
    x = rng.standard_normal(300_000)
    x[:90_000], x[90_000:90_200] = 0.25, 0.2501
    assert atoms(x).values == (0.25, 0.2501)


@pytest.mark.parametrize("scale", [1e-280, 1e-3, 1e6, 1e300])
@pytest.mark.parametrize("n", [5000, 200_000])
def test_atoms_move_with_the_unit_of_measurement(rng, scale, n):
    x = rng.standard_normal(n)
    x[:25], x[30:80] = 0.3, -1.7
    assert atoms(scale * x).values == (scale * -1.7, scale * 0.3)
    assert len(atoms(ds.HistogramSketch().update(scale * x))) == 2


def test_the_threshold_is_the_binomial_tail():
    counts, low = np.full(100, 16), np.arange(100.0)
    for c in range(17, 80):
        counts[50] = c
        tail = stats.binom.sf(c - 1, c + 16 * 16, 1 / 17)
        heavy, expected = repeats._beyond_density(low, low + 1, counts)
        assert heavy[50] == (tail <= repeats.FALSE_ALARM / 100)
        assert heavy.sum() == heavy[50]
        assert not heavy[50] or np.isclose(expected[50], 16)
    assert heavy[50]


def test_cells_without_samples_at_hand_keep_what_the_density_puts_there(rng):
    x = rng.standard_normal(1_000_000)
    x[:5000] = 0.7
    sketch = ds.HistogramSketch().update(x)
    heavy, centres, free = repeats_in_cells(sketch, np.empty(0))
    (at,) = np.flatnonzero(heavy)
    low, high = sketch.bounds
    truth = 995_000 * np.exp(-0.245) / np.sqrt(2 * np.pi) * (high - low)[at]
    assert abs(free[at] - truth) < 6 * np.sqrt(truth / 16) + 1
    assert abs(centres[at] - 0.7) < 1e-4


@pytest.mark.parametrize(
    "fixed, share, step, least",
    [((0.3,), 5e-4, 1e-6, 0.003), ((0.0, 1.0, 2.0), 1e-3, 1e-6, 0.004), ((1000.0, 2000.0, 5000.0), 6e-4, 1e-4, 0.003)],
)
def test_held_out_bits_are_fewer_with_atoms_of_a_small_share(rng, monkeypatch, fixed, share, step, least):
    """0.05 % to 0.1 % of the samples on a few values: what the code length of new samples gains by taking them out."""
    n = 100_000
    x = rng.standard_normal(2 * n) if fixed[0] < 1000 else np.exp(rng.normal(8, 1, 2 * n))
    pinned = rng.random(2 * n) < share
    x[pinned] = rng.choice(fixed, pinned.sum())
    seen, new = x[:n], x[n:]
    p = ds.fit(seen)
    assert p.atoms.values == fixed
    monkeypatch.setattr(repeats, "FALSE_ALARM", -1.0)  # no tail is as small
    bare = ds.fit(seen)
    assert not len(bare.atoms)
    saved = bare.bits(new, step) - p.bits(new, step)
    assert saved.mean() > least
    assert saved.mean() > 4 * saved.std() / np.sqrt(n)
