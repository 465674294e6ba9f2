"""What a picture shows: one curve, one histogram, on the Axes that were given."""

import numpy as np
import pytest

import density as ds

pytest.importorskip("matplotlib")


def test_the_curve_is_the_density_and_the_bars_are_the_data(rng):
    from matplotlib.figure import Figure

    x = rng.standard_normal(2000)
    p = ds.fit(x, order=4, map="logistic")
    ax = Figure().add_subplot()
    assert p.plot(x, ax=ax) is ax
    (line,) = ax.get_lines()
    t, y = line.get_data()
    assert np.array_equal(y, p.pdf(t))
    assert np.all(np.diff(t) > 0)
    (bars,) = ax.patches
    heights, edges, _ = bars.get_data()
    assert np.isclose(heights @ np.diff(edges), 0.996, atol=0.01)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels[0] == "2000 samples"
    assert "logistic map" in labels[1]


def test_without_axes_and_without_data(rng):
    ax = ds.fit(rng.random(200), support=(0, 1)).plot()
    assert not ax.patches
    ax.figure.savefig(__import__("io").BytesIO(), format="png")


def test_parts_atoms_and_rounding_cells(rng):
    x = np.where(rng.random(900) < 0.4, 0.0, rng.exponential(size=900))
    p = ds.fit(x)
    ax = p.plot(x, parts=True)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert "map alone" in labels
    assert "polynomial (right axis)" in labels
    assert f"atom at 0, mass {p.atoms.mass:.3g} (height: of the axis)" in labels
    counts = rng.poisson(6, 900)
    bars = ds.fit(counts).plot(counts).patches[0].get_data()
    assert np.allclose(np.mod(bars.edges, 1), 0.5)
    heavy = np.concatenate([np.zeros(9990), rng.random(10)])
    ds.fit(heavy).plot(heavy).figure.savefig(__import__("io").BytesIO(), format="png")


def test_the_path_of_orders_ends_at_the_one_that_was_chosen(rng):
    p = ds.fit(ds.gallery.claw().sample(900, rng), map="normal")
    ax = p.plot(kind="order")
    score, _, chosen = ax.get_lines()
    x, y = score.get_data()
    assert x[np.argmin(y)] == p.order == chosen.get_xdata()[0]
    assert y.min() == 0
    with pytest.raises(ValueError, match="this density keeps no path of orders"):
        ds.from_bytes(p.to_bytes()).plot(kind="order")


def test_quantiles_of_good_fits_lie_in_their_band(rng):
    x = rng.standard_normal(800)
    ax = ds.fit(x).plot(x, kind="qq")
    points = ax.get_lines()[1].get_xydata()
    assert np.abs(points[:, 0] - points[:, 1])[5:-5].max() < 0.3


def test_no_eigenvalue_exceeds_one_at_the_maximum(rng):
    x = rng.standard_normal(800)
    for p in (ds.fit(x, order=6, map="normal"), ds.fit(x, order=6, map="normal", roughness=1e-3)):
        ax = p.plot(x, kind="certificate")
        values = ax.get_lines()[1].get_ydata()
        assert len(values) == 7
        assert values.max() < 1.1
    assert np.isclose(
        ds.fit(x, order=6, map="normal").plot(x, kind="certificate").get_lines()[1].get_ydata()[0], 1, atol=1e-4
    )


def test_kinds_that_cannot_be_drawn_say_so(rng):
    p = ds.fit(rng.random(200))
    with pytest.raises(
        ValueError, match="kind='pie' is not known; pass one of 'density', 'order', 'qq', 'certificate'"
    ):
        p.plot(kind="pie")
    for kind in ("qq", "certificate"):
        with pytest.raises(ValueError, match=f"kind='{kind}' compares the density with samples; pass them as data"):
            p.plot(kind=kind)


def test_data_that_cannot_be_drawn_say_so(rng):
    p = ds.fit(rng.random(200))
    with pytest.raises(ValueError, match="data holds 1 NaN"):
        p.plot([np.nan, 1.0])
