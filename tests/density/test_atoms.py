"""Point masses: found, taken out, and present in everything that is a probability."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import density as ds
from density.atoms import Atoms
from density.cells import cells
from density.repeats import smooth_counts


@pytest.fixture(scope="module")
def relu():
    """51 % zeros, the rest half-normal."""
    rng = np.random.default_rng(20301)
    return np.where(rng.random(4000) < 0.51, 0.0, np.abs(rng.standard_normal(4000)))


@pytest.fixture(scope="module")
def p(relu):
    return ds.fit(relu)


def test_zeros_of_a_relu_become_one_atom_and_a_smooth_rest(p, relu):
    (value,), (mass,) = p.atoms.values, p.atoms.masses
    assert value == 0
    assert mass == np.mean(relu == 0)
    assert p.report.atoms == ((0.0, mass),)
    assert p.report.n == 4000
    assert "Atoms, which the pdf leaves out and the cdf holds: 0 (" in p.explain()
    t = np.linspace(1e-6, 4, 4001)
    truth = 0.49 * np.sqrt(2 / np.pi) * np.exp(-t * t / 2)
    assert np.trapezoid(truth * np.log(truth / p.pdf(t)), t) < 0.03  # 0.022 of it is the estimate of the zeros' share
    assert p.order <= 8


def test_cdf_jumps_by_the_mass_and_sf_is_its_complement(p):
    v, m = p.atoms.values[0], p.atoms.masses[0]
    below, at = p.cdf(np.nextafter(v, -1)), p.cdf(v)
    assert np.isclose(at - below, m, atol=1e-12)
    t = np.linspace(-1, 5, 601)
    assert np.abs(p.cdf(t) + p.sf(t) - 1).max() < 1e-14
    assert np.isclose(np.trapezoid(p.pdf(np.linspace(1e-9, 30, 300_001)), dx=1e-4), 1 - m, atol=2e-3)
    assert (p.cdf(np.inf), p.cdf(-np.inf), p.sf(np.inf)) == (1, 0, 0)


def test_ppf_is_the_least_x_that_reaches_y(p):
    y = np.concatenate([np.linspace(0, 1, 401)[1:-1], [1e-9, 1 - 1e-9, p.cdf(0.0), np.nextafter(p.cdf(0.0), 1)]])
    x = p.ppf(y)
    assert (p.cdf(x) >= y - 1e-13).all()
    on = x == 0
    assert 200 <= on.sum() <= 215
    assert np.abs(p.cdf(x[~on]) - y[~on]).max() < 1e-12
    assert (np.diff(p.ppf(np.sort(y))) >= 0).all()


def test_samples_moments_and_waves_hold_both_parts(p, relu):
    s = p.sample(60_000, rng=7)
    assert abs(np.mean(s == 0) - p.atoms.mass) < 5 * 0.5 / np.sqrt(60_000)  # false alarm 6e-7
    grid = np.linspace(0.05, 3, 60)
    assert np.abs(np.mean(s[:, None] <= grid, axis=0) - p.cdf(grid)).max() < 2.6 / np.sqrt(60_000)
    assert np.isclose(p.mean(), relu.mean(), rtol=0.01)
    assert np.isclose(p.var(), relu.var(), rtol=0.02)
    assert np.isclose(p.moment(3, central=True), np.mean((relu - relu.mean()) ** 3), rtol=0.05)
    t = np.array([0.0, 0.5, 3.0])
    assert np.abs(p.characteristic_function(t) - np.exp(1j * relu[:, None] * t).mean(0)).max() < 0.02
    assert p.sample(0, rng=7).shape == (0,)


def test_entropy_and_kl_count_atoms_as_the_page_says(p, relu):
    m = p.atoms.mass
    free = ds.fit(relu[relu > 0], order=p.order, map="affine")
    assert np.isclose(p.entropy(), -m * np.log(m) + (1 - m) * (free.entropy() - np.log(1 - m)), atol=0.02)
    assert p.kl(p) < 1e-14
    assert p.kl(free) == np.inf  # it gives the atom no mass
    assert np.isfinite(free.kl(p))
    other = ds.fit(np.where(relu > 1, 0.0, relu))
    assert p.kl(other) > 0.1
    h = 2.0**-12  # nats of a fine quantiser: entropy less log step of what is no atom
    s = p.sample(40_000, rng=11)
    cost = p.bits(np.where(s == 0, 0, (np.floor(s / h) + 0.5) * h), h) * np.log(2) + np.log(h) * (s != 0)
    assert abs(cost.mean() - p.entropy()) < 6 * cost.std() / np.sqrt(40_000)


def test_bytes_pickles_and_equality_keep_atoms(p):
    data = p.to_bytes()
    q = ds.from_bytes(data)
    assert q == p
    assert q.atoms == p.atoms
    assert q.report.atoms == p.report.atoms
    assert q.to_bytes() == data
    assert pickle.loads(pickle.dumps(p)) == p
    assert data[4] == 1  # the version that has atoms
    for size in range(len(data)):
        with pytest.raises(ds.CorruptDataError):
            ds.from_bytes(data[:size])
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ds.CorruptDataError):
            ds.from_bytes(bytes(flipped))
    with pytest.raises(TypeError, match="scipy's continuous distributions have no atoms, and this one has 1"):
        p.to_scipy()


@pytest.mark.parametrize("n", [1000, 300_000])
def test_99_9_percent_zeros_with_a_tail(rng, n):
    tail = rng.exponential(size=n // 1000 if n > 1000 else 20)
    p = ds.fit(np.concatenate([np.zeros(n - len(tail)), tail]))
    assert p.atoms == Atoms((0.0,), (1 - len(tail) / n,)) or np.isclose(p.atoms.mass, 1 - len(tail) / n, rtol=1e-12)
    assert p.ppf(0.5) == 0
    assert np.isclose(p.mean(), tail.sum() / n, rtol=0.2)
    assert p.pdf(0.5) < 0.05


def test_many_equal_values_and_a_few_others_say_what_is_left():
    x = np.concatenate([np.full(1000, 3.5), [1.0, 2.7, 9.1]])
    with pytest.raises(ValueError, match=r"the value 3.5 holds 1000 of 1003 samples, and the other 3 are too few"):
        ds.fit(x)
    with pytest.raises(ValueError, match=r"all 10000000 samples equal 3.5: a density does not exist"):
        ds.fit(np.full(10**7, 3.5, np.float32))


def test_atoms_inside_the_data_on_a_sketch_and_at_ends(rng):
    x = rng.standard_normal(300_000)
    x[:30_000], x[30_000:33_000] = 0.25, -1.5
    p = ds.fit(x)
    assert p.atoms.values == (-1.5, 0.25)
    assert np.allclose(p.atoms.masses, (0.01, 0.1), rtol=1e-6)
    t = np.linspace(-4, 4, 801)
    truth = 0.89 * np.exp(-t * t / 2) / np.sqrt(2 * np.pi)
    assert np.abs(p.pdf(t) - truth).max() < 0.02
    assert p.order < 40
    small = ds.HistogramSketch().update(x[:60_000])
    assert ds.fit(small).atoms.values == (-1.5, 0.25)
    missing = np.where(rng.random(5000) < 0.1, -999.0, rng.standard_normal(5000))
    q = ds.fit(missing)
    assert q.atoms.values == (-999.0,)
    assert np.isclose(q.ppf(0.55), 0, atol=0.1)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_an_atom_at_the_end_of_many_samples(rng, sign):
    x = sign * np.maximum(rng.standard_normal(300_000), 0)
    p = ds.fit(x)
    assert p.atoms == Atoms((0.0,), (float(np.mean(x == 0)),))
    t = np.linspace(0.01, 3, 301)
    assert np.abs(p.pdf(sign * t) - np.exp(-t * t / 2) / np.sqrt(2 * np.pi)).max() < 0.025
    assert p.order < 30


def test_integers_among_decimals_are_atoms_where_they_are_heaped(rng):
    """Ratios that most people round: each integer that was met often stands alone, the decimals do not."""
    x = np.concatenate(
        [rng.choice([2.0, 3.0, 4.0, 5.0], 200, p=[0.1, 0.4, 0.4, 0.1]), np.round(rng.normal(4, 1, 200), 2)]
    )
    p = ds.fit(x)
    assert p.atoms.values == (2.0, 3.0, 4.0, 5.0)
    assert np.isclose(p.report.grid, 0.01)


@pytest.mark.parametrize("n", [60, 400, 5000])
def test_integers_of_smooth_laws_have_no_atoms(n):
    rng = np.random.default_rng(20295)
    for x in (rng.poisson(3, n), rng.poisson(40, n), np.round(rng.laplace(0, 10, n)), rng.geometric(0.3, n)):
        assert not len(cells(np.asarray(x, float), None, 1).atoms)


def test_free_data_have_no_atoms(rng):
    for x in (rng.standard_normal(5000), rng.choice(rng.standard_normal(3000), 3000), rng.standard_cauchy(300_000)):
        assert not len(cells(x, None, 1).atoms)


def test_weighted_atoms_hold_their_weight(rng):
    x = np.where(np.arange(3000) % 3 == 0, 0.0, rng.exponential(size=3000))
    w = np.where(x == 0, 2.0, 1.0)
    p = ds.fit(x, weights=w)
    assert np.isclose(p.atoms.mass, 0.5)
    assert np.isclose(p.report.n, w.sum() ** 2 / (w @ w))


@given(st.lists(st.integers(1, 50), min_size=3, max_size=40))
def test_smooth_counts_know_geometric_laws(counts):
    values = np.arange(len(counts), dtype=float)
    most, guess = smooth_counts(values, np.array(counts), 1.0)
    for i in range(len(counts)):
        left, right = (counts[i - 1] if i else 0), (counts[i + 1] if i + 1 < len(counts) else 0)
        assert most[i] >= max(left, right)
        if left and right:
            assert guess[i] == (left + right) / 2
    geometric = 2.0 ** np.arange(12, 0, -1)
    assert smooth_counts(np.arange(12.0), geometric, 1.0)[0][0] == geometric[0]


@given(st.lists(st.floats(-5, 5), max_size=5, unique=True), st.floats(-6, 6))
def test_masses_below_and_above_add_up(values, x):
    values = tuple(sorted(values))
    a = Atoms(values, tuple(0.5 / len(values) for _ in values))
    assert np.isclose(a.below(x) + a.above(x), a.mass)
    assert np.isclose(a.below(x) - a.below(x, strictly=True), sum(m for v, m in zip(a.values, a.masses) if v == x))
    assert len(a) == len(values)
    assert np.isclose(a.expect(np.square), sum(m * v * v for v, m in zip(a.values, a.masses)))
