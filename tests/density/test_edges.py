"""Inputs at the edge of what a density is: each gives a sound fit or a sentence that says what to do."""

import warnings

import numpy as np
import pytest

import density as ds

MAPS = ("normal", "logistic", "laplace", "cauchy", "affine", "arcsine", "mixture")
HALF = ("exponential", "loglogistic", "lognormal")


def _sound(p, x):
    """Finite where the data are, of mass 1, and invertible."""
    assert np.isfinite(p.logpdf(x)).all()
    assert (p.cdf(np.inf), p.sf(-np.inf)) == (1, 1)
    y = np.linspace(0.01, 0.99, 31)
    x = p.ppf(y)
    assert (p.cdf(x + 8 * np.spacing(x)) >= y - 1e-9).all()
    assert p.gap_nats <= 1e-6


@pytest.mark.parametrize("name", MAPS + HALF + ("auto",))
def test_data_times_a_million_give_the_pdf_over_a_million(rng, name):
    x = np.exp(0.5 * rng.standard_normal(700)) if name in HALF else rng.standard_normal(700)
    kwargs = {"map": name, "support": (0, np.inf) if name in HALF else None}
    kwargs |= {} if name == "auto" else {"order": 9}
    p, q = ds.fit(x, **kwargs), ds.fit(1e6 * x, **kwargs)
    t = np.linspace(0.05, 4, 301)
    assert np.abs(q.pdf(1e6 * t) * 1e6 - p.pdf(t)).max() <= 1e-12 * p.pdf(t).max()
    assert np.allclose(q.ppf([0.1, 0.9]) / 1e6, p.ppf([0.1, 0.9]), rtol=1e-11)


@pytest.mark.parametrize("kind", ["atoms", "rounded", "integers"])
def test_atoms_and_steps_scale_with_the_data(rng, kind):
    x = rng.standard_normal(3000)
    x = np.where(x < 0, 0, x) if kind == "atoms" else np.round(8 * x) / (4 if kind == "rounded" else 1)
    p, q = ds.fit(x), ds.fit(1e6 * x)
    t = np.linspace(0.1, 3, 101)
    assert np.abs(q.pdf(1e6 * t) * 1e6 - p.pdf(t)).max() <= 1e-9 * p.pdf(t).max()
    assert q.atoms.masses == p.atoms.masses
    if kind != "atoms":
        assert np.isclose(q.report.grid, 1e6 * p.report.grid, rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble, np.int8, np.uint64, bool])
def test_every_dtype(rng, dtype):
    x = np.clip(20 + 5 * rng.standard_normal(900), 0, 100)
    x = (x > 20) if dtype is bool else x.astype(dtype)
    p = ds.fit(x)
    _sound(p, x.astype(float))
    if np.dtype(dtype).kind in "bui":
        assert p.report.grid == 1
        assert np.isclose((2.0 ** -p.bits(np.arange(-200, 400))).sum(), 1, atol=2e-3)


@pytest.mark.parametrize(
    "make",
    {
        "mean 1e9": lambda r: 1e9 + r.standard_normal(2000),
        "scales 1e4": lambda r: np.concatenate([r.standard_normal(2000), 1e-4 * r.standard_normal(2000)]),
        "scales 1e8": lambda r: np.concatenate([r.standard_normal(1000), 1e8 * r.standard_normal(1000)]),
        "n = 5": lambda r: r.standard_normal(5),
        "two clusters": lambda r: np.concatenate([r.standard_normal(500), 1e6 + r.standard_normal(500)]),
        "one outlier": lambda r: np.append(r.standard_normal(2000), 1e12),
        "tiny steps": lambda r: r.integers(0, 1000, 900) * 1e-299,
        "huge": lambda r: 1e300 * r.standard_normal(900),
        "weights": lambda r: r.standard_normal(900),
        "every value thrice": lambda r: np.repeat(r.standard_normal(400), 3),
        "log-rounded": lambda r: np.array([float(f"{v:.2g}") for v in r.lognormal(0, 2, 3000)]),
        "two values": lambda r: np.where(r.random(500) < 0.3, 1.7, -2.2),
        "three irrational values": lambda r: r.choice(np.sqrt([2, 3, 11]), 600),
    }.items(),
    ids=lambda item: item[0],
)
def test_odd_data_give_sound_fits(rng, make):
    name, draw = make
    x = draw(rng)
    weights = np.where(rng.random(len(x)) < 0.5, 0.0, rng.random(len(x))) if name == "weights" else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ds.FitWarning)
        p = ds.fit(x, weights)
    _sound(p, x)


def test_more_frequencies_than_samples(rng):
    x = rng.standard_normal(12)
    for basis in ("cosine", "periodic"):
        p = ds.fit(x, order=60, basis=basis, map="affine", support=(-9, 9))
        assert np.isfinite(p.logpdf(x)).all()


@pytest.mark.parametrize(
    "x, message",
    [
        (np.full(50, 2.5), "all 50 samples equal 2.5: a density does not exist; add the rounding noise"),
        (np.zeros(3), "3 samples are too few; a density needs at least 5"),
        (np.array([np.nan] * 9), r"x holds 9 NaN and 0 infinite among 9 values"),
        (np.array([0.0, 1, 2, 3, -np.inf]), "0 NaN and 1 infinite among 5 values"),
        (np.arange(50) * 5e-324, "less than doubles divide with full precision; scale them up"),
        (
            np.concatenate([np.zeros(40), [1.234, 7.77]]),
            "the value 0 holds 40 of 42 samples, and the other 2 are too few",
        ),
    ],
    ids=range(6),
)
def test_data_without_a_density_say_why(x, message):
    with pytest.raises(ValueError, match=message):
        ds.fit(x)


def test_atoms_outside_of_a_support_are_data_outside_of_it(rng):
    x = np.concatenate([np.full(500, -1.0), rng.random(500)])
    with pytest.raises(ValueError, match=r"the data run from -1 to .*, outside support=\(0, 1\)"):
        ds.fit(x, support=(0, 1))
    p = ds.fit(x, support=(-1, 1))
    assert p.atoms.values == (-1.0,)
    assert p.cdf(-1.0) >= 0.5
    assert p.support == (-1, 1)


def test_what_samples_and_quantiles_are_asked_for(rng):
    p = ds.fit(rng.standard_normal(500), order=4, map="logistic")
    with pytest.raises(ValueError, match="n=-1 asks for fewer than no samples; pass integers >= 0"):
        p.sample(-1)
    with pytest.raises(TypeError, match="n='a' is neither a number of samples nor a shape"):
        p.sample("a")
    with pytest.raises(TypeError, match=r"n=2.5 is neither"):
        p.sample(2.5)
    assert p.sample(()).shape == ()
    assert np.isnan(p.ppf(np.nan))
    assert np.array_equal(np.isnan(p.ppf([0.2, np.nan, 1.0])), [False, True, False])
    with pytest.raises(ValueError, match="got values from 2 to 2"):
        p.ppf([np.nan, 2.0])
    assert p.moment(400) == np.inf  # beyond the range of doubles, without a warning
