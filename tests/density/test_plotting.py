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


def test_data_that_cannot_be_drawn_say_so(rng):
    p = ds.fit(rng.random(200))
    with pytest.raises(ValueError, match="data holds 1 NaN"):
        p.plot([np.nan, 1.0])
