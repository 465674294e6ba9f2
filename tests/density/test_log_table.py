"""The table of log q keeps its promise, and says where it cannot."""

import pickle

import numpy as np
import pytest

import density as ds
from density.log_table import TOLERANCE, build

LAWS = {
    "wavy": ({"order": 50, "map": "logistic"}, lambda rng, n: ds.gallery.gmm25().sample(n, rng)),
    "cauchy": ({}, lambda rng, n: rng.standard_cauchy(n)),
    "kink": ({"map": "laplace", "order": 6}, lambda rng, n: rng.laplace(size=n)),
    "poles": ({"map": "arcsine", "order": 20}, lambda rng, n: rng.random(n)),
    "far": ({}, lambda rng, n: 1e9 + rng.standard_normal(n)),
    "tiny": ({}, lambda rng, n: 1e-250 * rng.standard_normal(n)),
    "half": ({"support": (0, np.inf)}, lambda rng, n: rng.gamma(0.7, size=n)),
    "circular": (
        {"support": (-4, 4), "basis": "periodic", "order": 9},
        lambda rng, n: np.clip(rng.normal(size=n), -4, 4),
    ),
    "gap": ({"order": 40, "map": "affine"}, lambda rng, n: rng.choice([-3, 3], n) + 0.2 * rng.standard_normal(n)),
}


@pytest.mark.parametrize("law", sorted(LAWS))
def test_the_table_is_within_its_tolerance_everywhere(rng, law):
    kwargs, draw = LAWS[law]
    x = draw(rng, 30_000)
    p = ds.fit(x, **kwargs)
    lo, hi = np.quantile(x, [0, 1])
    t = np.concatenate([x, p.sample(40_000, rng=9), np.linspace(lo - (hi - lo), hi + (hi - lo), 60_001)])
    with np.errstate(invalid="ignore"):
        off = np.abs(p.logpdf(t, exact=False) - p.logpdf(t))
    same = p.logpdf(t, exact=False) == p.logpdf(t)  # -inf outside of a support
    assert np.where(same, 0, off).max() <= TOLERANCE
    assert np.allclose(p.pdf(t, exact=False), p.pdf(t), rtol=1.1e-8, atol=0)
    assert len(p._table.rows) <= (1 << 15) + 2
    column = 2**p._table.finest / p._table.per_unit
    inside = (t >= p._table.lo) & (t <= p._table.lo + 1024 * column)
    out = np.empty_like(t)
    assert p._table.fill(t, out, exponentiate=False) == np.isnan(out).any()
    assert np.isnan(out[inside]).mean() < 0.01


def test_workers_chunks_layout_and_exact(rng):
    p = ds.fit(rng.standard_normal(3000), order=9, map="logistic")
    t = 3 * rng.standard_normal((500, 400))
    for exact in (True, False):
        first = p.logpdf(t, exact=exact, workers=1)
        assert first.shape == t.shape
        for workers in (2, 3, None):
            assert np.array_equal(p.logpdf(t, exact=exact, workers=workers), first)
        assert np.array_equal(p.logpdf(np.asfortranarray(t), exact=exact), first)
        assert np.allclose(p.logpdf(t[::-1, ::2], exact=exact), first[::-1, ::2], rtol=1e-13, atol=1e-13)
    few = t[:2]
    assert np.array_equal(p.pdf(few, exact=False), p.pdf(few))  # too few points to pay for a table
    with pytest.raises(ValueError, match="asks for no thread"):
        p.pdf(t, workers=0)


@pytest.mark.parametrize("dtype", ["f4", "f8", ">f8", ">f4", "f2", "i4"])
def test_dtypes(rng, dtype):
    p = ds.fit(rng.standard_normal(3000), order=9, map="logistic")
    t = (3 * rng.standard_normal(60_000)).astype(dtype)
    out = p.logpdf(t, exact=False)
    assert out.dtype == p.logpdf(t[:5]).dtype
    assert np.allclose(out, p.logpdf(t.astype(float)), atol={"f2": 2e-2}.get(dtype, 2e-6 if "f4" in dtype else 1e-8))


def test_nan_stays_nan(rng):
    p = ds.fit(rng.standard_normal(3000), order=9, map="logistic")
    t = np.concatenate([rng.standard_normal(60_000), [np.nan, np.inf, -np.inf, 1e300]])
    out = p.pdf(t, exact=False)
    assert np.isnan(out[-4])
    assert out[-3:-1].tolist() == [0, 0]
    assert np.isfinite(out[-1])


def test_the_table_is_not_pickled(rng):
    p = ds.fit(rng.standard_normal(3000), order=9, map="logistic")
    before = len(pickle.dumps(p))
    p.logpdf(rng.standard_normal(60_000), exact=False)
    p.ppf(0.3)
    assert len(pickle.dumps(p)) == before


def test_a_function_without_a_good_cell_is_left_alone():
    table = build(lambda x: np.where(np.floor(x * 1e9) % 2 == 0, 0.0, 1.0), 0.0, 1.0)
    assert np.isnan(table.rows[:, 1:]).all()
