"""The harness itself: ratios are formed round by round, an absent peer is shown, the page stands alone."""

import re
import time

import pytest

from benchmarks import peers, report
from benchmarks.__main__ import main
from benchmarks.ratios import Quartiles, Race, race, thread_limit


def made_up() -> Race:
    wall = {"ours": [1.0, 2.0, 4.0], "peer <1>": [3.0, 6.0, 8.0]}
    return Race("a & b", 1, wall, wall, {"ours": 1e-9, "peer <1>": None}, {"other": "not installed"})


def test_the_ratio_is_formed_within_a_round():
    """Medians of the two columns would give 3.0 as well only by accident; here they would give 6 / 2, not 8 / 4."""
    ratio = made_up().ratio("peer <1>", "ours")
    assert (ratio.median, ratio.lower, ratio.upper) == (3.0, 2.5, 3.0)
    assert f"{ratio}" == "3 [2.5, 3]"


def test_a_race_runs_everyone_once_a_round_and_judges_the_result():
    calls = []

    def contender(name, seconds):
        def run():
            calls.append(name)
            time.sleep(seconds)
            return seconds

        return run

    result = race(
        "sleep", {"ours": contender("a", 0.003), "peer": contender("b", 0.006)}, rounds=3, error=lambda r: 10 * r
    )
    assert result.error == {"ours": 0.03, "peer": 0.06}
    assert [len(v) for v in result.wall.values()] == [3, 3]
    assert calls.count("a") == calls.count("b") == 5  # two to warm up, three that count
    assert calls[4:] in (list("abbaab"), list("abbaab")[::-1])


def test_quartiles_order():
    q = Quartiles.of([5.0, 1.0, 3.0])
    assert q.lower <= q.median <= q.upper


def test_thread_limit_restores_what_it_changed():
    import os

    import torch

    before, torch_before = os.sched_getaffinity(0), torch.get_num_threads()
    with thread_limit(1):
        assert len(os.sched_getaffinity(0)) == 1
        assert torch.get_num_threads() == 1
    assert os.sched_getaffinity(0) == before
    assert torch.get_num_threads() == torch_before


def test_an_absent_peer_says_why():
    assert peers.load("no_such_peer") is None
    assert "not installed" in peers.why_absent("no_such_peer")
    assert peers.why_absent("numpy") == ""


def test_the_page_is_self_contained_and_escaped(tmp_path):
    path = report.write([made_up()], tmp_path / "deep" / "index.html")
    text = path.read_text()
    assert "peer &lt;1&gt;" in text
    assert "a &amp; b" in text
    assert "n/a: not installed" in text
    assert not re.search(r'(src|href)\s*=\s*"?https?:|@import|url\(', text)
    assert (tmp_path / "deep" / "races.json").exists()


def test_asv_results_are_read(tmp_path):
    folder = tmp_path / "results" / "machine"
    folder.mkdir(parents=True)
    (folder / "abc.json").write_text(
        '{"result_columns": ["result", "params"], "results": {"bench.track_ratio": [[0.5, null], [["1", "2"]]]}}'
    )
    assert report.asv_rows(tmp_path / "results") == [("bench.track_ratio", "1", 0.5), ("bench.track_ratio", "2", None)]


def test_misuse_exits_with_2(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["no_such_benchmark"])
    assert stop.value.code == 2
    assert "no module matches" in capsys.readouterr().err


def test_held_out_likelihood_of_cells_is_that_of_the_density(rng):
    """A normal density, given: the score of every fold is its own probability of the cell, over the step."""
    import numpy as np
    from scipy import stats

    from benchmarks.bench_density_real import Smooth, held_out, lead, step_of

    x = np.round(rng.normal(2, 3, 200), 1)
    assert step_of(x) == pytest.approx(0.1)
    assert step_of(np.arange(5.0) * 3) == 1
    known = stats.norm(2, 3)
    score = held_out(lambda _: Smooth(known.logpdf), x)
    assert np.allclose(score, np.log((known.cdf(x + 0.05) - known.cdf(x - 0.05)) / 0.1), atol=1e-9)

    def refuses(_):
        raise ValueError

    assert np.isnan(held_out(refuses, x)).all()
    ahead, error = lead({"density": score + 0.5, "peer": score, "other": score - 1, "failed": score * np.nan})
    assert (ahead, error) == (pytest.approx(0.5), pytest.approx(0, abs=1e-9))
