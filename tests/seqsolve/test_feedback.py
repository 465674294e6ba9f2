"""Attention with feedback: the plain loop's numbers and gradients, and a certificate that can refuse."""

import math
import pickle

import numpy as np
import pytest
import torch

import seqsolve as sq


def plain_loop(q, k, v, R_k, R_w, g, beta):
    """The definition, one head and one step at a time."""
    B, H, T, dk = k.shape
    dv = v.shape[-1]
    rows = []
    for b in range(B):
        for h in range(H):
            S, o = torch.zeros(dk, dv, dtype=v.dtype), torch.zeros(dv, dtype=v.dtype)
            for t in range(T):
                key = k[b, h, t] + R_k[h] @ torch.tanh(o)
                key = key / torch.sqrt(key @ key + 1e-6)
                w = torch.exp(g[b, h, t])
                S = torch.sigmoid(torch.log(w / (1 - w)) + R_w[h] @ torch.tanh(o))[:, None] * S
                S = S + beta[b, h, t] * torch.outer(key, v[b, h, t] - key @ S)
                o = q[b, h, t] @ S
                rows.append(o)
    return torch.stack(rows).reshape(B, H, T, dv)


def example(rng, B=2, H=2, T=25, dk=3, dv=2, gain=0.5):
    def draw(*shape):
        return torch.as_tensor(rng.standard_normal(shape))

    return {
        "q": draw(B, H, T, dk),
        "k": draw(B, H, T, dk),
        "v": draw(B, H, T, dv),
        "key_feedback": gain * draw(H, dk, dv),
        "decay_feedback": gain * draw(H, dk, dv),
        "log_decay": -draw(B, H, T, dk).abs() - 0.1,
        "beta": torch.sigmoid(draw(B, H, T)),
    }


@pytest.mark.parametrize("method", ["auto", "newton", "sequential", "quasi"])
def test_outputs_and_gradients_are_those_of_the_plain_loop(rng, method):
    given = {name: x.requires_grad_() for name, x in example(rng).items()}
    o, state, solution = sq.feedback_attention(**given, method=method)
    assert solution.ok
    expected = plain_loop(*given.values())
    assert (o - expected).abs().max() < 1e-12
    assert torch.equal(state.output, o[:, :, -1])
    cotangent = torch.as_tensor(rng.standard_normal(o.shape))
    ours = torch.autograd.grad((o * cotangent).sum(), given.values())
    theirs = torch.autograd.grad((expected * cotangent).sum(), given.values())
    for a, b, name in zip(ours, theirs, given):
        assert (a - b).abs().max() <= 1e-10 * b.abs().max(), name


def test_a_sequence_in_two_parts_is_the_whole(rng):
    given = example(rng)
    whole, end, _ = sq.feedback_attention(**given, method="newton")
    fixed = {name: x for name, x in given.items() if "feedback" in name}
    parts = [{n: x[:, :, cut] for n, x in given.items() if n not in fixed} for cut in (slice(11), slice(11, None))]
    first, state, _ = sq.feedback_attention(**parts[0], **fixed, method="newton")
    second, state, _ = sq.feedback_attention(**parts[1], **fixed, state=state, method="sequential")
    assert (torch.cat([first, second], 2) - whole).abs().max() < 1e-12
    assert (state.S - end.S).abs().max() < 1e-12


def test_without_feedback_it_is_gated_linear_attention(rng):
    given = {n: x for n, x in example(rng).items() if n in ("q", "k", "v", "log_decay")}
    given["k"] = given["k"] / (given["k"].square().sum(-1, keepdim=True) + 1e-6).sqrt()
    o, _, _ = sq.feedback_attention(**given)
    expected, _ = sq.linear_attention.gla(**given)
    assert (o - expected).abs().max() < 1e-5  # unit() leaves 1e-6


def test_nan_enters_at_its_step_and_nothing_before(rng):
    given = example(rng)
    clean, _, _ = sq.feedback_attention(**given, method="newton")
    given["v"] = given["v"].clone()
    given["v"][1, 0, 9, 1] = math.nan
    o, _, solution = sq.feedback_attention(**given, method="newton")
    assert solution.status.name == "NONFINITE"
    assert not solution.ok
    assert (o[:, :, :9] - clean[:, :, :9]).abs().max() < 1e-12
    assert torch.isnan(o[1, 0, 9:]).any(-1).all()
    assert torch.isfinite(o[0]).all()


def test_a_chaotic_feedback_is_not_certified(rng):
    given = example(rng, T=400, dk=4, dv=4, gain=30.0)
    given |= {"beta": torch.ones(2, 2, 400), "log_decay": torch.full((2, 2, 400, 4), -0.01), "q": 3 * given["q"]}
    _, _, solution = sq.feedback_attention(**given, method="newton")
    assert not solution.ok
    assert solution.status.name in ("CHAOTIC", "SENSITIVE")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_short_and_narrow_inputs(rng, dtype):
    given = {n: x.to(dtype) for n, x in example(rng, T=0).items()}
    o, state, solution = sq.feedback_attention(**given)
    assert o.shape == (2, 2, 0, 2)
    assert o.dtype is dtype
    assert solution.status.name == "EMPTY"
    assert torch.equal(state.S, torch.zeros(2, 2, 3, 2))
    given = {n: x.to(dtype) for n, x in example(rng, T=1).items()}
    given["log_decay"] = torch.zeros(2, 2, 1, 3, dtype=dtype)  # forgets nothing
    assert sq.feedback_attention(**given)[0].isfinite().all()


def test_the_layer_trains_and_decodes_with_one_set_of_weights():
    torch.manual_seed(5)
    layer = sq.FeedbackAttention(6, heads=2, width=3, method="newton")
    x = torch.randn(2, 30, 6)
    whole, _ = layer(x)
    assert layer.solution.ok
    whole.square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in layer.parameters())
    state, rows = None, []
    with torch.no_grad():
        for t in range(30):
            y, state = layer(x[:, t : t + 1], state)
            rows.append(y)
    assert (torch.cat(rows, 1) - whole).abs().max() < 1e-5
    again = pickle.loads(pickle.dumps(layer.state_dict()))
    assert set(again) == {n for n, _ in layer.named_parameters()}


def test_misuse_is_answered_with_a_sentence(rng):
    given = example(rng)
    with pytest.raises(ValueError, match=r"decay_feedback= shifts log_decay=, which is missing"):
        sq.feedback_attention(**{n: x for n, x in given.items() if n != "log_decay"})
    with pytest.raises(ValueError, match=r"log_decay reaches 1; pass logarithms of factors, at most 0"):
        sq.feedback_attention(**given | {"log_decay": torch.ones(1, 1, 1, 1).double()})
    with pytest.raises(ValueError, match=r"key_feedback has shape \(5, 3, 2\), which does not broadcast to"):
        sq.feedback_attention(**given | {"key_feedback": torch.zeros(5, 3, 2).double()})
    with pytest.raises(ValueError, match=r"key_feedback holds NaN"):
        sq.feedback_attention(**given | {"key_feedback": torch.full((2, 3, 2), math.nan).double()})
    with pytest.raises(ValueError, match=r"state is \(1, 2, 3, 2\); pass a FeedbackState with S of"):
        sq.feedback_attention(**given, state=sq.FeedbackState(torch.zeros(1, 2, 3, 2), torch.zeros(1, 2, 2)))
    with pytest.raises(TypeError, match=r"v is"):
        sq.feedback_attention(**given | {"v": np.zeros((2, 2, 25, 2))})
    with pytest.raises(ValueError, match=r"heads=0"):
        sq.FeedbackAttention(6, heads=0)
