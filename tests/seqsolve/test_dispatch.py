"""The rule is monotone where it must be, and its table is whole."""

import itertools

import pytest
import torch

from seqsolve import dispatch


def test_table_is_complete_and_positive():
    assert len(dispatch.STEP) == 3 * 2 * 2 * 2
    for table in dispatch.STEP.values():
        assert len(table) == len(dispatch.UNITS)
        assert all(len(row) == len(dispatch.BATCHES) and min(row) > 0 for row in table)


def test_interpolation_meets_the_entries_and_stays_between_them():
    table = dispatch.STEP["gru", "float32", "torch"]
    assert dispatch._step("gru", False, "torch", 8, 16) == pytest.approx(table[1][2] * 1e-6)
    assert dispatch._step("gru", False, "torch", 512, 256) == pytest.approx(table[-1][-1] * 1e-6)
    assert dispatch._step("gru", False, "torch", 1024, 256) == pytest.approx(4 * table[-1][-1] * 1e-6)
    between = dispatch._step("gru", False, "torch", 100, 10)
    corners = [table[i][j] * 1e-6 for i in (3, 4) for j in (1, 2)]
    assert min(corners) < between < max(corners)


@pytest.mark.parametrize("kind", ["rnn_tanh", "rnn_relu", "gru", "lstm"])
def test_more_steps_never_turn_a_win_into_a_loss(kind):
    for units in (1, 8, 64, 256):
        chosen = [dispatch.choose(kind, units, 1, steps, double=False)[0] for steps in (1, 10, 100, 1000, 10000)]
        assert chosen == sorted(chosen)
    assert chosen is not None


def test_training_has_entries_of_its_own():
    """A GRU of many units and sequences gains in training what it does not in inference."""
    for training, wanted in ((False, True), (True, True)):
        assert dispatch.choose("gru", 8, 1, 1000, double=False, training=training)[0] is wanted
    assert not dispatch.choose("lstm", 512, 64, 100, double=False, training=True)[0]
    assert not dispatch.choose("gru", 8, 1, 1, double=False, training=True)[0]


def test_the_rule_says_why():
    fused, reason = dispatch.choose("gru", 8, 1, 10_000, double=False)
    assert fused
    assert reason.startswith("one fused loop is faster here: about ")
    fused, reason = dispatch.choose("lstm", 256, 64, 100, double=False)
    assert not fused
    assert reason.startswith("the fused loop is not surely faster here: about ")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["rnn_tanh", "gru", "lstm"])
def test_below_the_shortest_call_nothing_but_torch_is_ever_chosen(kind, dtype):
    double = dtype == torch.float64
    sizes = itertools.product((1, 20, 300, 700), (1, 6, 300), (1, 4), (1, 2), (False, True))
    for units, batch, layers, threads, training in sizes:
        least = dispatch.shortest(kind.upper(), units, layers, dtype, batch, threads, training)
        for steps in {1, least // 2, least - 1} - {0, least}:
            if steps < least < 1e9:
                options = {"double": double, "layers": layers, "threads": threads, "training": training}
                assert not dispatch.choose(kind, units, batch, steps, **options)[0]
                assert not dispatch.chunks_may_win(kind, units, batch, steps, 1, double=double)
    assert dispatch.shortest("GRU", 8, 1, torch.float32, 0, 1) == float("inf")
    assert dispatch.shortest("GRU", 8, 1, torch.float32, 1, 1) < 64
