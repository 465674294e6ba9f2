"""Pictures show the history as it is; the ladder of `constant`, `frozen` and `newton` has the rungs it should have."""

import numpy as np
import pytest
import torch

import seqsolve as sq

pytest.importorskip("matplotlib")


@torch.no_grad()
def ladder():
    """x = tanh(A x + u) at spectral norm 0.5, 300 steps at once."""
    module = sq.gallery.spectral_rnn(16, 0.5, rng=20314)
    u = torch.from_numpy(np.random.default_rng(20315).standard_normal((300, 16)))
    return {
        method: sq.solve(module, torch.zeros(16).double(), u, method=method, window=300, tol=1e-14)
        for method in ("constant", "frozen", "newton")
    }


def test_the_ladder():
    """The matrix alone contracts, the Jacobian at zero contracts faster, Newton squares."""
    solutions = ladder()
    sweeps = {method: solution.sweeps for method, solution in solutions.items()}
    assert sweeps["newton"] <= 5 < sweeps["frozen"] <= sweeps["constant"] <= 40
    assert all(solution.ok for solution in solutions.values())
    for method in ("constant", "frozen"):  # linear convergence: at least the contraction of A, which halves
        residual = solutions[method].history["residual"]
        assert (residual[1:-1] < 0.75 * residual[:-2]).all()
    residual = solutions["newton"].history["residual"]
    assert residual[2] < residual[1] ** 1.5
    ax = sq.plotting.plot_ladder(solutions)
    assert [len(line.get_xdata()) for line in ax.lines] == [len(s.history) for s in solutions.values()]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == [f"{m}: {int(k)} sweeps" for m, k in sweeps.items()]


def test_convergence_of_every_window(rng):
    u = torch.from_numpy(rng.standard_normal((90, 2)))
    solution = sq.solve(lambda x, u: torch.tanh(0.9 * x + u), torch.zeros(2).double(), u, method="newton", window=30)
    ax = solution.plot_convergence()
    assert len(ax.lines) == 3
    mine = solution.history[solution.history["window"] == 1]
    np.testing.assert_array_equal(ax.lines[1].get_xdata(), mine["sweep"])
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), np.maximum(mine["residual"], 1e-18))
    assert ax.get_yscale() == "log"
    assert solution.plot_convergence(ax=ax) is ax
    ordered = sq.solve(lambda x, u: x + u, torch.zeros(2).double(), u, method="sequential")
    for plot in (sq.plotting.plot_convergence, lambda s: sq.plotting.plot_ladder({"a": s})):
        with pytest.raises(ValueError, match="method='sequential' makes no sweeps"):
            plot(ordered)


def test_states_and_predictions(rng):
    from seqsolve.plotting import plot_predictions, plot_states

    few, many = plot_states(rng.standard_normal((30, 2, 3))), plot_states(np.full((5000, 9), np.nan))
    assert len(few.lines) == 3
    assert many.images[0].get_array().shape == (9, 5000)
    with pytest.raises(ValueError, match=r"states has shape \(4,\); pass \(T, n\)"):
        plot_states(np.ones(4))
    d = sq.diagnose(sq.gallery.torch_init("gru", 2, 3, rng=5), torch.zeros(3), torch.zeros(200, 2))
    ax = plot_predictions(d)
    assert ax.get_title() == "verdict: sequential"
    assert {t.get_text() for t in ax.get_yticklabels()} == set(d.predictions)


@pytest.mark.filterwarnings("error")
def test_what_is_not_finite_is_marked_and_names_are_wrapped(rng):
    from dataclasses import replace

    u = torch.from_numpy(rng.standard_normal((60, 2)))
    solution = sq.solve(lambda x, u: torch.tanh(0.9 * x + u), torch.zeros(2).double(), u, method="newton", window=60)
    history = solution.history.copy()
    history["residual"][0], history["residual"][1] = np.nan, 1e300
    lost = replace(solution, history=history)
    name = "a long name of a model with its settings " * 4
    for ax in (sq.plotting.plot_convergence(lost), sq.plotting.plot_ladder({name: lost})):
        ax.figure.canvas.draw()
        texts = [t.get_text() for t in ax.get_legend().get_texts()]
        assert texts[-1] == "inf or NaN"
        assert max(len(line) for text in texts for line in text.split("\n")) <= 44
        assert ax.get_lines()[-1].get_xdata().tolist() == [history["sweep"][0]]
        assert np.nanmax(ax.get_lines()[0].get_ydata()) == 1e18
    assert sq.plotting.plot_convergence(lost).get_title() == "newton: 1 window of up to 60 steps"
    one = sq.plotting.plot_convergence(replace(solution, history=history[2:3]))
    assert one.get_lines()[0].get_marker() == "."  # a line of one point cannot be seen
    with pytest.raises(ValueError, match="solutions is empty; pass label -> solution, at least one"):
        sq.plotting.plot_ladder({})


@pytest.mark.filterwarnings("error")
def test_states_say_which_sequence_which_unit_and_what_is_missing(rng):
    from seqsolve.plotting import plot_states

    x = rng.standard_normal((30, 2, 3))
    ax = plot_states(x)
    assert ax.get_ylabel() == "state, the first of 2 sequences"
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["unit 0", "unit 1", "unit 2"]
    x[3] = np.nan
    assert plot_states(x[:, 0]).get_title() == "gaps: not finite"
    wide = rng.standard_normal((30, 12)) * 1e307
    wide[4, 5] = np.inf
    ax = plot_states(wide)
    ax.figure.canvas.draw()
    assert ax.figure.axes[1].get_ylabel() == "state / 1e307 (grey: not finite)"
    assert np.ma.count_masked(ax.images[0].get_array()) == 1
