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


def test_nan_and_infinities_are_an_error_or_left_out(rng):
    x = rng.standard_normal(400)
    w = rng.random(400)
    holes = np.insert(x, [0, 100, 399], [np.nan, np.inf, -np.inf])
    weights = np.insert(w, [0, 100, 399], 5.0)
    with pytest.raises(ValueError, match=r"1 NaN and 2 infinite among 403 values; .* or nan_policy='omit' to leave"):
        ds.fit(holes)
    assert ds.fit(holes, nan_policy="omit") == ds.fit(x)
    assert ds.fit(holes, weights, nan_policy="omit") == ds.fit(x, w)
    assert ds.fit(iter([holes[:200], holes[200:]]), nan_policy="omit") == ds.fit(iter([x]))
    sketch = ds.HistogramSketch()
    assert sketch.update(holes, np.full(403, 2), nan_policy="omit").n == 800
    assert sketch.update(holes, nan_policy="omit", progress=lambda *_: None).n == 1200
    with pytest.raises(ValueError, match="nan_policy='propagate' is not known; pass 'raise', or 'omit'"):
        ds.fit(x, nan_policy="propagate")
    with pytest.raises(ValueError, match="x holds no finite value; a density needs at least 5 samples"):
        ds.fit(np.full(9, np.nan), nan_policy="omit")


def test_masked_entries_are_no_samples(rng):
    x = rng.standard_normal(400)
    mask = np.arange(500) >= 400
    masked = np.ma.masked_array(np.append(x, np.full(100, -999.0)), mask)
    assert ds.fit(masked) == ds.fit(x)
    assert ds.fit(masked, np.append(np.arange(400), np.full(100, 7))) == ds.fit(x, np.arange(400))
    assert ds.HistogramSketch().update(masked) == ds.HistogramSketch().update(x)
    assert ds.HistogramSketch().update(iter([masked, masked])).n == 800
    assert ds.fit(np.ma.masked_invalid(np.append(x, np.nan))) == ds.fit(x)
    with pytest.raises(ValueError, match="weights has 400 values for 500 samples"):
        ds.fit(masked, np.ones(400))


def test_weights_that_cannot_be(rng):
    x = rng.standard_normal(300)
    for wrong in (np.full(300, 1j), ["a"] * 300, [None] * 300):
        with pytest.raises(TypeError, match=r"weights has dtype .*; pass real numbers >= 0, one a sample"):
            ds.fit(x, wrong)
    with pytest.warns(ds.FitWarning, match=r"an effective number of 1 samples, \(sum w\)\^2 / sum w\^2"):
        ds.fit(x, np.append(1e9, np.ones(299)))
    assert ds.fit(x, np.full(300, 1e308)) == ds.fit(x, np.ones(300))
    spread = np.append(np.ones(200), np.full(100, 1e-320))
    p = ds.fit(x, np.append(np.full(200, 1e300), np.full(100, 1e-320)))
    assert np.isclose(p.report.n, 200)
    assert p.order == ds.fit(x, spread).order


@pytest.mark.parametrize("offset", [1e9, -1e12, 1e13])
def test_offsets_that_doubles_resolve(rng, offset):
    x = rng.standard_normal(2000)
    p, q = ds.fit(x + offset), ds.fit(x)
    assert np.allclose(p.ppf([0.1, 0.5, 0.9]) - offset, q.ppf([0.1, 0.5, 0.9]), atol=1e-2)
    assert np.isclose(p.entropy(), q.entropy(), atol=1e-3)


def test_offsets_that_doubles_do_not_resolve_say_so(rng):
    x = rng.standard_normal(2000)
    with pytest.raises(
        ValueError, match=r"they lie 0.125 apart, which is all that doubles resolve at 1e\+15: their digits"
    ):
        ds.fit(1e15 + x)
    assert ds.fit(np.repeat(x, 3)).report.n == 6000
    near = np.append(np.repeat(x, 3), np.nextafter(x[:1], 9))  # two of them as close as doubles are
    assert np.isfinite(ds.fit(near).entropy())


@pytest.mark.parametrize("scale", [1e-300, 1e-290, 1e150, 1e299, 1e307])
def test_every_number_at_the_ends_of_the_doubles(rng, scale):
    x = rng.standard_normal(500)
    p, q, plain = ds.fit(scale * x), ds.fit(scale * (x + 0.1)), ds.fit(x)
    beyond = 1e-2 if scale > 1e306 else 1e-5 if scale > 1e298 else 1e-8  # the safety tail ends where doubles do
    assert np.isclose(p.entropy() - np.log(scale), plain.entropy(), atol=beyond)
    assert np.isfinite(p.kl(q))
    assert p.kl(p) < 1e-14
    assert np.isclose(p.wasserstein(q) / scale, 0.1, rtol=1e-3)
    assert np.allclose(p.modes() / scale, plain.modes(), atol=1e-3)
    assert np.isclose(p.characteristic_function(1 / scale), plain.characteristic_function(1.0), atol=1e-10)
    assert np.isfinite(p.sample(100, rng=7)).all()


def test_supports_and_penalties_that_cannot_be(rng):
    x = rng.standard_normal(100)
    with pytest.raises(ValueError, match="is wider than a double holds; scale the data and the support down"):
        ds.fit(x, support=(-1e308, 1e308))
    with pytest.raises(ValueError, match="roughness=True is not a number"):
        ds.fit(x, roughness=True)
