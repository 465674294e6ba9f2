"""Layers train on whole sequences and decode from a state, with one set of weights and the same numbers."""

import copy
import pickle

import pytest
import torch

from seqsolve.attention import causal
from seqsolve.layers import ARGUMENTS, CachedKeys, LinearRecurrence, RecurrentAttention
from seqsolve.linear_attention import TABLE
from seqsolve.stack import CausalLayer


def draw(rng, *shape, dtype=torch.float64):
    return torch.as_tensor(rng.standard_normal(shape)).to(dtype)


def made(cls, *args, **kwargs):
    with torch.random.fork_rng():
        torch.manual_seed(23)
        return cls(*args, **kwargs).double()


ATTENTION = {
    "plain": {},
    "no positions": {"rotary": False},
    "groups": {"kv_heads": 2},
    "window": {"window": 3},
    "window of one": {"window": 1},
    "alibi": {"alibi": True, "rotary": False},
    "all": {"kv_heads": 1, "window": 4, "alibi": True},
}


@pytest.mark.parametrize("options", ATTENTION.values(), ids=ATTENTION.keys())
def test_attention_trains_at_once_and_decodes_step_by_step(rng, options):
    layer, x = made(RecurrentAttention, 8, 4, **options), draw(rng, 2, 9, 8)
    whole, kept = layer(x)
    assert isinstance(kept, CachedKeys)
    assert repr(kept).startswith("CachedKeys(kept=")
    rows, state, sizes = [], None, []
    for t in range(9):
        y, state = layer(x[:, t : t + 1], state)
        rows.append(y)
        sizes.append(state.numel())
    torch.testing.assert_close(torch.cat(rows, 1), whole, atol=1e-13, rtol=0)
    kept = 9 if options.get("window") is None else options["window"] - 1
    assert state.k.shape == (2, options.get("kv_heads", 4), kept, 2)
    assert state.steps == 9
    assert sizes[-1] == 2 * state.k.numel()
    first, state = layer(x[:, :5])
    second, _ = layer(x[:, 5:], state)
    torch.testing.assert_close(torch.cat((first, second), 1), whole, atol=1e-13, rtol=0)


def test_every_line_of_the_table_has_a_layer():
    assert set(ARGUMENTS) == set(TABLE)


@pytest.mark.parametrize("kind", ARGUMENTS)
def test_recurrences_train_by_chunks_and_decode_by_steps(rng, kind):
    layer, x = made(LinearRecurrence, kind, 8, 2, key_width=3, value_width=5), draw(rng, 2, 9, 8)
    whole, end = layer(x)
    state, rows, sizes = None, [], set()
    for t in range(9):
        y, state = layer.step(x[:, t], state)
        rows.append(y)
        sizes.add(state.numel())
    torch.testing.assert_close(torch.stack(rows, 1), whole, atol=1e-12, rtol=0)
    assert len(sizes) == 1  # the memory of one state, whatever the history
    assert state.numel() == end.numel()
    for form in ("step", "scan"):
        torch.testing.assert_close(layer(x, form=form)[0], whole, atol=1e-12, rtol=0)


@pytest.mark.parametrize("kind", ARGUMENTS)
def test_every_weight_learns(rng, kind):
    layer, x = made(LinearRecurrence, kind, 8, 2), draw(rng, 2, 9, 8)
    grads = {}
    for form in ("step", "chunk"):
        layer.zero_grad()
        layer(x, form=form)[0].square().sum().backward()
        grads[form] = {name: p.grad.clone() for name, p in layer.named_parameters()}
    for name, g in grads["chunk"].items():
        assert float(g.abs().max()) > 0, name
        torch.testing.assert_close(g, grads["step"][name], atol=1e-11, rtol=1e-9)


@pytest.mark.parametrize("kind", ["attention", *ARGUMENTS])
def test_weights_are_saved_and_loaded(rng, kind):
    layer = made(RecurrentAttention, 8, 2) if kind == "attention" else made(LinearRecurrence, kind, 8, 2)
    other = copy.deepcopy(layer)
    with torch.no_grad():
        for p in other.parameters():
            p.zero_()
    other.load_state_dict(pickle.loads(pickle.dumps(layer.state_dict())))
    x = draw(rng, 1, 4, 8)
    assert torch.equal(other(x)[0], layer(x)[0])


def test_float32_is_the_default(rng):
    for layer in (RecurrentAttention(8, 2), LinearRecurrence("gla", 8, 2)):
        y, _ = layer(draw(rng, 1, 4, 8, dtype=torch.float32))
        assert y.dtype == torch.float32
    assert "kind='gla'" in repr(LinearRecurrence("gla", 8, 2))


def test_a_causal_layer_is_cut_where_recompute_needs_it(rng):
    layer, x = made(CausalLayer, 8, 2, kv_heads=1), draw(rng, 2, 6, 8)
    q, k, v = layer.project(x, 0)
    assert [t.shape for t in (q, k, v)] == [(2, 2, 6, 4), (2, 1, 6, 4), (2, 1, 6, 4)]
    late = layer.project(x[:, 4:], 4)
    for part, whole in zip(late, (q, k, v)):
        torch.testing.assert_close(part, whole[:, :, 4:], atol=1e-14, rtol=0)
    whole = layer.finish(x, causal(q, k, v)[0])
    last = layer.finish(x[:, 4:], causal(late[0], k, v)[0])
    torch.testing.assert_close(last, whole[:, 4:], atol=1e-13, rtol=0)
    assert layer.flops() == (2 * 8 * 8, 2 * 2 * 8 * 4, 2 * 8 * 8 + 2 * 2 * 8 * 16, 4 * 8)
    assert made(CausalLayer, 8, 2, hidden=0).feed is None


BAD = {
    "kind": (lambda: LinearRecurrence("best", 8, 2), ValueError, r"kind='best' is unknown; pass one of delta, gated"),
    "heads": (lambda: LinearRecurrence("gla", 8, 3), ValueError, r"heads=3 does not divide d_model=8"),
    "zero": (lambda: LinearRecurrence("gla", 8, 0), ValueError, r"heads=0 is less than 1"),
    "attention heads": (lambda: RecurrentAttention(8, 3), ValueError, r"each must divide the one before"),
    "groups": (lambda: RecurrentAttention(8, 4, kv_heads=3), ValueError, r"each must divide the one before"),
    "rotary": (lambda: RecurrentAttention(6, 2), ValueError, r"an even width of a head, got d_model / heads = 3"),
    "window": (lambda: RecurrentAttention(8, 2, window=0), ValueError, r"window=0 is less than 1"),
}


@pytest.mark.parametrize("name", BAD)
def test_misuse_is_answered_with_a_sentence(name):
    call, error, sentence = BAD[name]
    with pytest.raises(error, match=sentence):
        call()
