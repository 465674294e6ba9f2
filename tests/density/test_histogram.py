"""Laws of the sketch: merging is exact whatever the split and the order."""

import pickle

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import density as ds
from density.histogram import from_ordered_bits, natural_unit, ordered_bits

finite = st.floats(allow_nan=False, allow_infinity=False, width=64)


@given(hnp.arrays(np.float64, st.integers(0, 60), elements=finite))
def test_ordered_bits_keep_the_order_and_come_back(x):
    v = ordered_bits(x)
    assert np.array_equal(from_ordered_bits(v), x)
    assert np.array_equal(x[:, None] < x, v[:, None] < v)


@given(st.data(), hnp.arrays(np.float64, st.integers(0, 400), elements=finite))
def test_any_split_in_any_order_gives_the_same_sketch(data, x):
    whole = ds.HistogramSketch(cells=1024).update(x)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(x)), max_size=4)))
    parts = data.draw(st.permutations(np.split(x, cuts)))
    merged = ds.HistogramSketch(cells=1024)
    for part in parts:
        merged |= ds.HistogramSketch(cells=1024).update(part)
    assert merged == whole
    assert merged.n == len(x)


@pytest.mark.parametrize("source", ["normal", "shifted", "cauchy", "f32", "two scales"])
def test_coarsened_sketches_do_not_depend_on_split_order_or_workers(rng, source):
    n = 400_000
    x = {
        "normal": lambda: rng.standard_normal(n),
        "shifted": lambda: 1e9 + rng.standard_normal(n),
        "cauchy": lambda: rng.standard_cauchy(n),
        "f32": lambda: rng.standard_normal(n).astype(np.float32),
        "two scales": lambda: np.where(rng.random(n) < 0.5, 1e-6, 1e3) * rng.standard_normal(n),
    }[source]()
    whole = ds.HistogramSketch(cells=4096).update(x, workers=1)
    assert not whole.exact
    assert len(whole.counts) <= 4096
    for workers in (2, 3):
        assert ds.HistogramSketch(cells=4096).update(x, workers=workers) == whole
    shuffled = rng.permutation(x)
    pieces = ds.HistogramSketch(cells=4096)
    for part in np.array_split(shuffled, [17, 1000, 200_000]):
        pieces.update(part)
    assert pieces == whole
    assert whole.counts.sum() == n


@pytest.mark.parametrize("source", ["one range of pages", "pages found by hashing"])
def test_the_kernels_count_as_sorting_does(rng, source):
    x = rng.standard_normal(300_000)
    if source == "pages found by hashing":
        x = np.where(x < 0, 1 + 1e-9 * x, 1e9 + x)
    sketch = ds.HistogramSketch().update(x)
    cells, counts = np.unique(ordered_bits(x) >> sketch._shift, return_counts=True)
    assert np.array_equal(cells, sketch._ids)
    assert np.array_equal(counts, sketch.counts)


def test_few_values_are_kept_exactly(rng):
    x = rng.integers(-300, 300, 200_000)
    sketch = ds.HistogramSketch().update(x)
    assert sketch.exact
    values, counts = np.unique(x, return_counts=True)
    assert np.array_equal(sketch.centres, values)
    assert np.array_equal(sketch.counts, counts)


def test_weights_are_multiplicities(rng):
    x, w = rng.standard_normal(500), rng.integers(0, 5, 500)
    assert ds.HistogramSketch().update(x, w) == ds.HistogramSketch().update(np.repeat(x, w))


def test_strided_read_only_and_big_endian_input(rng):
    x = rng.standard_normal(1000)
    whole = ds.HistogramSketch().update(x)
    wide = np.zeros((1000, 2))
    wide[:, 0] = x
    frozen = x.copy()
    frozen.setflags(write=False)
    for same in (wide[:, 0], frozen, x.astype(">f8"), x.reshape(10, 100), x.reshape(10, 100, order="F").T):
        sketch = ds.HistogramSketch().update(same)
        assert np.array_equal(np.sort(sketch.centres), whole.centres)


def test_zeros_of_both_signs_and_subnormals():
    sketch = ds.HistogramSketch().update([0.0, -0.0, 5e-324, -5e-324])
    assert sketch.centres.tolist() == [-5e-324, 0.0, 5e-324]
    assert sketch.counts.tolist() == [1, 2, 1]


@pytest.mark.parametrize("size", [10, 300_000])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_data_leave_the_sketch_as_it_was(rng, size, bad):
    sketch = ds.HistogramSketch().update([1.0, 2.0])
    x = rng.standard_normal(size)
    x[size // 3] = bad
    with pytest.raises(ValueError, match=r"1 NaN and 0 infinite|0 NaN and 1 infinite"):
        sketch.update(x)
    assert sketch == ds.HistogramSketch().update([1.0, 2.0])


def test_what_cannot_be_merged_or_counted_says_so():
    sketch = ds.HistogramSketch().update([1.0])
    with pytest.raises(ValueError, match="merge sketches of equal cells"):
        sketch |= ds.HistogramSketch(cells=2048)
    with pytest.raises(TypeError, match="cannot merge a list"):
        sketch.merge([1.0])
    with pytest.raises(ValueError, match="integer >= 1024"):
        ds.HistogramSketch(cells=3)
    with pytest.raises(TypeError, match="weights must be integers"):
        sketch.update([1.0], weights=[0.5])
    with pytest.raises(ValueError, match="pass one weight a sample"):
        sketch.update([1.0], weights=[1, 2])
    with pytest.raises(ValueError, match="weights must be >= 0"):
        sketch.update([1.0], weights=[-1])
    with pytest.raises(TypeError, match="densities are fitted to real numbers"):
        sketch.update([1j])
    with pytest.raises(TypeError, match="dtype object"):
        sketch.update([None])
    with pytest.raises(ValueError, match="sketch is empty"):
        ds.HistogramSketch().quantile(0.5)


def test_pickle_repr_or_and_equality(rng):
    a, b = ds.HistogramSketch().update(rng.standard_normal(50)), ds.HistogramSketch().update(rng.standard_normal(70))
    both = a | b
    assert both.n == 120
    assert a.n == 50
    assert pickle.loads(pickle.dumps(a)) == a
    assert "n=50, 50 exact values" in repr(a)
    assert repr(ds.HistogramSketch()) == "HistogramSketch(empty)"
    assert (a == 3) is False


@pytest.mark.parametrize("factor", [1e6, 1e-9, -3.7, 2.0, 0.1])
@pytest.mark.parametrize("source", ["normal", "grid", "f32"])
def test_cells_of_the_natural_unit_move_with_the_data(rng, factor, source):
    n = 300_000
    x = {
        "normal": lambda: rng.standard_normal(n),
        "grid": lambda: rng.integers(-(1 << 20), 1 << 20, n) * 0.01,
        "f32": lambda: rng.standard_normal(n).astype(np.float32).astype(float),
    }[source]()
    a = ds.HistogramSketch(unit=natural_unit(x)).update(x)
    b = ds.HistogramSketch(unit=natural_unit(factor * x)).update(factor * x)
    assert not a.exact
    turn = slice(None, None, 1 if factor > 0 else -1)
    assert np.array_equal(a.counts, b.counts[turn])
    assert np.allclose(a.centres * factor, b.centres[turn], rtol=1e-14)
    parts = ds.HistogramSketch(unit=a.unit).update(x[:1000])
    parts |= ds.HistogramSketch(unit=a.unit).update(x[1000:])
    assert parts == a


def test_units_are_checked(rng):
    assert natural_unit(np.zeros(3)) == 1.0
    assert 1 <= natural_unit(np.array([5e-324, 0.0])) < 2
    with pytest.raises(ValueError, match=r"must lie in \[1, 2\)"):
        ds.HistogramSketch(unit=3.0)
    with pytest.raises(ValueError, match="merge sketches of equal unit"):
        ds.HistogramSketch(unit=1.5).merge(ds.HistogramSketch())


def test_cells_end_with_the_samples(rng):
    x = 1 - rng.random(400_000)
    sketch = ds.HistogramSketch().update(x[:100]).update(x[100:350_000]) | ds.HistogramSketch().update(x[350_000:])
    low, high = sketch.bounds
    assert (low[0], high[-1]) == (x.min(), x.max())
    assert np.all(low <= high)
    assert np.all(high[:-1] < low[1:])
    where = sketch.cell_of(x)
    assert np.all((low[where] <= x) & (x <= high[where]))
    assert np.all((low <= sketch.centres) & (sketch.centres <= high))
    again = ds.HistogramSketch().update(x[::-1])
    assert again == sketch
    assert np.array_equal(again.bounds, sketch.bounds)
    exact = ds.HistogramSketch().update([3.0, 1.0, 3.0])
    assert np.array_equal(exact.bounds, [[1.0, 3.0], [1.0, 3.0]])


def test_a_stated_end_may_be_a_sample(rng):
    """The middle of the last cell may lie beyond the support that all samples keep to."""
    x = np.append(rng.random(300_000), [0.0, 1.0])
    p = ds.fit(x, support=(0, 1))
    assert p.cdf(1.0) == 1
    with pytest.raises(ValueError, match=r"outside support=\(0, 0.9999\)"):
        ds.fit(x, support=(0, 0.9999))
