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


def figure():
    from matplotlib.figure import Figure

    return Figure(figsize=(7, 4), layout="constrained")


def test_tails_and_poles_leave_the_middle_to_be_seen(rng):
    x = rng.standard_cauchy(2000)
    ax = ds.fit(x, map="cauchy", order=0).plot(x, ax=figure().add_subplot())
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels[1].startswith("cauchy map, 2 parameters, gap")
    assert max(map(abs, ax.get_xlim())) < 25  # quartiles are -1 and 1; 99.6 % of the mass would be within 160
    share = 100 * (np.abs(x) > 16).mean()
    assert float(labels[0].split()[2]) == pytest.approx(share, abs=1.5)
    x = rng.beta(0.5, 0.5, 2000)
    p = ds.fit(x, support=(0, 1), map="arcsine", order=0)
    assert p.plot().get_ylim()[1] < p.pdf(p.ppf(0.002)) / 2


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("scale", [1e-300, 1e-150, 1e150, 1e300])
def test_scales_beyond_those_of_matplotlib_are_drawn_in_units(rng, scale):
    x = rng.standard_normal(400) * scale
    p = ds.fit(x, map="normal", order=0)
    for kind in ("density", "qq"):
        ax = p.plot(x, kind=kind, ax=figure().add_subplot())
        ax.figure.canvas.draw()
        assert f" / {scale:.0e}".replace("+", "") in ax.get_xlabel() or ax.get_xlabel().endswith(
            f"e{np.log10(scale):.0f}"
        )
        points = ax.get_lines()[0].get_xydata()
        assert 1 < np.abs(points).max() < 50
    area = np.trapezoid(*p.plot(ax=figure().add_subplot()).get_lines()[0].get_data()[::-1])
    assert area == pytest.approx(0.996, abs=0.01)


def test_no_curve_bar_or_atom_stands_behind_the_legend(rng):
    skewed = np.where(rng.random(900) < 0.2, 5.0, rng.exponential(size=900))
    for x, options in (
        (rng.standard_normal(900), {}), (rng.random(900), {"support": (0, 1)}),
        (skewed, {"map": "exponential", "support": (0, np.inf)}),
        (ds.gallery.claw().sample(900, rng), {"map": "mixture"}), (np.r_[np.zeros(990), rng.random(10)], {}),
    ):  # fmt: skip
        p = ds.fit(x, order=2, **options)
        for parts in (False, True):
            ax = p.plot(x, parts=parts, ax=figure().add_subplot())
            ax.figure.canvas.draw()
            legend = ax.get_legend().get_window_extent()
            for twin in ax.figure.axes:
                for line in twin.get_lines():
                    points = line.get_transform().transform(line.get_xydata())
                    atom = line.get_marker() == "o"
                    assert atom or not legend.count_contains(points), (p, parts, line.get_label())


def test_the_components_of_a_mixture_add_up_to_the_map(rng):
    x = ds.gallery.claw().sample(1500, rng)
    p = ds.fit(x, map="mixture")
    ax = p.plot(parts=True, ax=figure().add_subplot())
    lines = {line.get_label(): line for line in ax.get_lines()}
    assert f"its {len(p.map.weights)} components" in lines
    bells = [line.get_ydata() for line in ax.get_lines() if line.get_linewidth() == 0.6]
    assert len(bells) == len(p.map.weights)
    np.testing.assert_allclose(np.sum(bells, axis=0), lines["map alone"].get_ydata(), rtol=1e-9, atol=1e-14)


@pytest.mark.filterwarnings("error")
def test_few_samples_and_one_order(rng):
    p = ds.fit(rng.standard_normal(5), order=0, map="normal")
    for kind, data in (("qq", [0.5]), ("density", [0.5]), ("density", []), ("certificate", rng.standard_normal(5))):
        p.plot(data, kind=kind, ax=figure().add_subplot()).figure.canvas.draw()
    ax = p.plot([0.5], kind="qq", ax=figure().add_subplot())
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["1 sample", "99 % of 1 sample of the density"]


def test_quantiles_of_far_tails_are_drawn_on_a_scale_that_shows_all(rng):
    x = rng.standard_cauchy(3000)
    ax = ds.fit(x, map="cauchy", order=0).plot(x, kind="qq", ax=figure().add_subplot())
    assert ax.get_xscale() == ax.get_yscale() == "symlog"
    lo, hi = ax.get_ylim()
    assert lo < x.min() <= x.max() < hi
    assert 3 <= len(ax.get_yticks()) <= 9
    x = rng.standard_normal(300)
    assert ds.fit(x).plot(x, kind="qq", ax=figure().add_subplot()).get_xscale() == "linear"
