"""Decoding with all, some or no memory: equal logits, and costs that are counted and follow their law."""

import math
import pickle

import numpy as np
import pytest
import torch

from seqsolve.recompute import Recomputation, Status, recompute, recompute_pairs
from seqsolve.stack import CausalStack


def stack(layers, dtype=torch.float64, **options):
    with torch.random.fork_rng():
        torch.manual_seed(layers + 17)
        return CausalStack(11, 8, heads=2, layers=layers, **options).to(dtype)


def tokens(rng, *shape):
    return torch.as_tensor(rng.integers(0, 11, shape))


def exponent(count, length):
    return math.log2(count(2 * length) / count(length))


@pytest.mark.parametrize("dtype,tolerance", [(torch.float64, 1e-13), (torch.float32, 1e-5)])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("level,page", [("full", None), ("sqrt", None), ("none", None), ("none", 4), ("sqrt", 100)])
def test_logits_are_equal_at_all_levels(rng, layers, level, page, dtype, tolerance):
    model, given = stack(layers, dtype, kv_heads=1), tokens(rng, 2, 7)
    found = recompute(model, given, level, page=page)
    torch.testing.assert_close(found.logits, model(given).detach(), atol=tolerance, rtol=0)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("length", [1, 2, 5, 9, 12])
def test_pairs_without_a_cache_are_counted_as_the_law_says(rng, layers, length):
    found = recompute(stack(layers, hidden=0), tokens(rng, length), "none")
    assert found.pairs == sum(math.comb(length + s, s + 1) for s in range(1, layers + 1))
    assert found.pairs == recompute_pairs(layers, length)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("page", [1, 2, 3, 4, 20])
@pytest.mark.parametrize("length", [1, 4, 7, 12])
def test_pairs_of_pages_are_counted_without_computing(rng, layers, page, length):
    found = recompute(stack(layers, hidden=0), tokens(rng, length), "sqrt", page=page)
    assert found.pairs == recompute_pairs(layers, length, page)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_cost_grows_as_the_length_to_the_number_of_layers_plus_one(layers):
    assert exponent(lambda n: recompute_pairs(layers, n), 4000) == pytest.approx(layers + 1, abs=0.01)
    assert recompute_pairs(layers, 8000) == pytest.approx(8000 ** (layers + 1) / math.factorial(layers + 1), rel=0.01)


def test_the_counted_work_is_a_polynomial_of_that_degree(rng):
    """The counter that sits beside each product: N + 1 differences are constant, one more vanishes."""
    for layers in (1, 2, 3):
        model = stack(layers, hidden=0)
        counts = [recompute(model, tokens(rng, n), "none").pairs for n in range(1, layers + 6)]
        assert set(np.diff(counts, layers + 1)) == {1}
        cached = [recompute(model, tokens(rng, n), "full").pairs for n in range(1, layers + 6)]
        assert set(np.diff(cached, 2)) == {layers}


def test_pages_of_the_square_root_save_work_from_three_layers_on():
    def paged(n):
        return recompute_pairs(3, n, math.isqrt(n))

    assert exponent(lambda n: paged(n * n), 100) / 2 == pytest.approx(3.5, abs=0.05)
    assert recompute_pairs(2, 500, 22) == recompute_pairs(2, 500, 1)
    assert recompute_pairs(3, 500, 22) < recompute_pairs(3, 500, 1) / 10


def test_memory_is_counted(rng):
    model, lengths = stack(3, hidden=0), (8, 16)
    given = [tokens(rng, n) for n in lengths]
    full = [recompute(model, x, "full").peak_state for x in given]
    assert full[1] - full[0] == 3 * 8 * 2 * 8  # layers, steps more, keys and values, width
    bare = [recompute(model, x, "none").peak_state for x in given]
    assert bare[0] == bare[1]  # whatever the length
    assert bare[1] < recompute(model, given[1], "sqrt").peak_state < full[1]


def test_flops_follow_the_pairs(rng):
    model, given = stack(2), tokens(rng, 9)
    one, two = recompute(model, given, "none"), recompute(model, given[None].expand(3, -1), "none")
    assert two.flops == 3 * one.flops
    assert one.flops > one.pairs * 4 * 8
    assert recompute(model, given, "full").flops < one.flops


def test_the_result_explains_pickles_and_prints(rng):
    found = recompute(stack(2), tokens(rng, 9), "sqrt")
    assert found.status is Status.PAGED
    assert found.page == 3
    assert found.explain().startswith("No keys were kept; every layer re-read its history from the tokens, a page")
    assert isinstance(pickle.loads(pickle.dumps(found)), Recomputation)
    assert repr(found).startswith("Recomputation(PAGED, logits=(1, 9, 11), page=3, pairs=")
    assert recompute(stack(1), tokens(rng, 2), "none").status is Status.RECOMPUTED
    assert recompute(stack(1), tokens(rng, 2)).status is Status.CACHED


@pytest.mark.parametrize("width,threads", [(8, 1), (2048, 2)])
def test_small_products_take_one_thread_and_give_back_the_others(rng, monkeypatch, width, threads):
    model = CausalStack(11, width, heads=2, layers=1, hidden=0)
    seen, project = [], model.layers[0].project

    def spied(x, start):
        seen.append(torch.get_num_threads())
        if start == 2:
            raise KeyboardInterrupt
        return project(x, start)

    monkeypatch.setattr(model.layers[0], "project", spied)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(KeyboardInterrupt):
            recompute(model, tokens(rng, 8, 4))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert set(seen) == {threads}


BAD = {
    "level": (lambda m, x: recompute(m, x, "some"), ValueError, r"pass one of full, sqrt, none"),
    "page": (lambda m, x: recompute(m, x, "none", page=0), ValueError, r"page=0 is less than 1"),
    "page and cache": (lambda m, x: recompute(m, x, page=3), ValueError, r"a full cache has no pages"),
    "floats": (lambda m, x: recompute(m, x.float()), TypeError, r"tokens is torch.float32, expected"),
    "list": (lambda m, x: recompute(m, [3]), TypeError, r"tokens is list"),
    "empty": (lambda m, x: recompute(m, x[:0]), ValueError, r"at least one token"),
    "unknown token": (lambda m, x: recompute(m, x + 11), ValueError, r"expected 0..10"),
    "model": (lambda m, x: recompute(torch.nn.Linear(2, 2), x), TypeError, r"Linear has no embed, layers, head"),
    "layers": (lambda m, x: recompute_pairs(0, 3), ValueError, r"layers=0 is less than 1"),
    "length": (lambda m, x: recompute_pairs(1, -3), ValueError, r"length=-3 is not a number of tokens"),
}


@pytest.mark.parametrize("name", BAD)
def test_misuse_is_answered_with_a_sentence(rng, name):
    call, error, sentence = BAD[name]
    with pytest.raises(error, match=sentence):
        call(stack(1), tokens(rng, 4))


def test_a_model_without_its_parts_is_named():
    model = stack(1)
    model.layers = torch.nn.ModuleList([torch.nn.Linear(2, 2)])
    with pytest.raises(TypeError, match=r"has no layers\[\*\].project, layers\[\*\].finish"):
        recompute(model, torch.tensor([3]))
