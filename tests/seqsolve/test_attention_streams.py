"""Prefix scans of one query, bounded multi-states, and the network that flips back the pages."""

import numpy as np
import pytest
import torch

from seqsolve.attention import SoftmaxState, aaren, causal, page_flipping, tova

FORMS = ("step", "scan", "chunk")


def draw(rng, *shape, dtype=torch.float64):
    return torch.as_tensor(rng.standard_normal(shape)).to(dtype)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("T", [1, 2, 3, 7, 16, 33])
def test_aaren_is_causal_attention_of_a_fixed_query(rng, form, T):
    q, k, v = draw(rng, 4, 3), draw(rng, 2, 2, T, 3), draw(rng, 2, 2, T, 5)
    o, state = aaren(q, k, v, form=form)
    expected, _ = causal(q[None, :, None].expand(2, -1, T, -1), k, v)
    torch.testing.assert_close(o, expected, atol=1e-13, rtol=0)
    torch.testing.assert_close(state.output(), expected[:, :, -1:], atol=1e-13, rtol=0)


@pytest.mark.parametrize("form", FORMS)
def test_aaren_goes_on_from_a_state(rng, form):
    q, k, v = draw(rng, 2, 3), draw(rng, 1, 2, 11, 3), draw(rng, 1, 2, 11, 2)
    whole, end = aaren(q, k, v, form=form)
    first, state = aaren(q, k[:, :, :4], v[:, :, :4], form=form)
    second, state = aaren(q, k[:, :, 4:], v[:, :, 4:], state, form=form)
    torch.testing.assert_close(torch.cat((first, second), 2), whole, atol=1e-13, rtol=0)
    torch.testing.assert_close(state.logsumexp, end.logsumexp, atol=1e-13, rtol=0)
    none, same = aaren(q, k[:, :, :0], v[:, :, :0], state, form=form)
    assert none.shape == (1, 2, 0, 2)
    assert same is state


@pytest.mark.parametrize("form", FORMS)
def test_aaren_has_gradients(rng, form):
    q, k, v = (x.requires_grad_() for x in (draw(rng, 2, 2), draw(rng, 1, 1, 5, 2), draw(rng, 1, 1, 5, 2)))
    assert torch.autograd.gradcheck(lambda *x: aaren(*x, form=form)[0], (q, k, v))


@pytest.mark.parametrize("form", FORMS)
def test_a_bad_value_appears_from_its_step_on(rng, form):
    q, k, v = draw(rng, 2, 3), draw(rng, 1, 2, 11, 3), draw(rng, 1, 2, 11, 2)
    k[0, 0, 6, 1] = np.nan
    hit = torch.isnan(aaren(q, k, v, form=form)[0])
    expected = torch.zeros_like(hit)
    expected[0, 0, 6:] = True
    assert torch.equal(hit, expected)


@pytest.mark.parametrize("capacity", [12, 13, 100])
def test_tova_with_room_for_all_is_exact(rng, capacity):
    q, k, v = draw(rng, 2, 4, 12, 3), draw(rng, 2, 2, 12, 3), draw(rng, 2, 2, 12, 5)
    o, state = tova(q, k, v, capacity=capacity)
    torch.testing.assert_close(o, causal(q, k, v)[0], atol=1e-13, rtol=0)
    assert state.positions[0, 0].tolist() == list(range(12))


def by_hand(q, k, v, capacity, per_head):
    """TOVA for one batch entry with one query head a key head, in numpy."""
    H, T, d = q.shape
    kept = [[] for _ in range(H)]
    out = np.zeros((H, T, v.shape[2]))
    for t in range(T):
        weights = []
        for h in range(H):
            kept[h].append(t)
            s = k[h, kept[h]] @ q[h, t] / np.sqrt(d)
            w = np.exp(s - s.max())
            w /= w.sum()
            weights.append(w)
            out[h, t] = w @ v[h, kept[h]]
        if len(kept[0]) > capacity:
            for h in range(H):
                kept[h].pop(int(np.argmin(weights[h] if per_head else np.mean(weights, 0))))
    return out, kept


@pytest.mark.parametrize("per_head", [False, True])
@pytest.mark.parametrize("capacity", [1, 3, 7])
def test_tova_drops_what_is_attended_least(rng, per_head, capacity):
    q, k, v = draw(rng, 1, 3, 20, 4), draw(rng, 1, 3, 20, 4), draw(rng, 1, 3, 20, 2)
    out, kept = by_hand(*(x[0].numpy() for x in (q, k, v)), capacity, per_head)
    o, state = tova(q, k, v, capacity=capacity, per_head=per_head)
    torch.testing.assert_close(o[0], torch.as_tensor(out), atol=1e-13, rtol=0)
    assert state.positions[0].tolist() == kept
    assert state.numel() == 3 * capacity * (4 + 2 + 1)
    first, half = tova(q[:, :, :9], k[:, :, :9], v[:, :, :9], capacity=capacity, per_head=per_head)
    rest = (x[:, :, 9:] for x in (q, k, v))
    second, whole = tova(*rest, half, capacity=capacity, per_head=per_head)
    assert torch.equal(torch.cat((first, second), 2), o)
    assert torch.equal(whole.positions, state.positions)
    assert repr(whole).startswith(f"MultiState(kept={capacity}, steps=20")


def test_tova_may_shrink(rng):
    q, k, v = draw(rng, 1, 2, 10, 4), draw(rng, 1, 2, 10, 4), draw(rng, 1, 2, 10, 4)
    _, state = tova(q[:, :, :9], k[:, :, :9], v[:, :, :9], capacity=9)
    _, state = tova(q[:, :, 9:], k[:, :, 9:], v[:, :, 9:], state, capacity=2)
    assert state.k.shape == (1, 2, 2, 4)


def test_flipping_the_pages_is_softmax_attention(rng):
    q, k, v = draw(rng, 2, 3, 8, 4), draw(rng, 2, 3, 8, 4), draw(rng, 2, 3, 8, 4)
    steps, alive = [], set()

    def step(state, now, then):
        steps.append(1)
        alive.add(state.numel())
        return state.update(now[0], then[1], then[2])

    y = page_flipping(
        (q, k, v),
        start=lambda now: SoftmaxState.empty(2, 3, 1, dv=4, dtype=torch.float64),
        step=step,
        read=lambda state, now: state.output(),
    )
    torch.testing.assert_close(y, causal(q, k, v)[0], atol=1e-13, rtol=0)
    assert len(steps) == 8 * 9 // 2
    assert alive == {2 * 3 * (1 + 1 + 4)}


BAD = {
    "form": (lambda q, k, v: aaren(q[0, :, 0], k, v, form="fast"), ValueError, r"pass one of step, scan, chunk"),
    "queries": (lambda q, k, v: aaren(q, k, v), ValueError, r"expected one query a head"),
    "chunk": (lambda q, k, v: aaren(q[0, :, 0], k, v, chunk=0), ValueError, r"chunk=0 is less than 1"),
    "state": (
        lambda q, k, v: aaren(q[0, :, 0], k, v, SoftmaxState.empty(1, dv=2)),
        ValueError,
        r"one row a head",
    ),
    "capacity": (lambda q, k, v: tova(q, k, v, capacity=0), ValueError, r"capacity=0 is less than 1"),
    "steps": (
        lambda q, k, v: tova(q[:, :, :2], k, v, capacity=2),
        ValueError,
        r"each step brings one query and one key",
    ),
    "multi-state": (
        lambda q, k, v: tova(q, k, v, tova(q[:, :1], k[:, :1], v[:, :1], capacity=2)[1], capacity=2),
        ValueError,
        r"start from state=None",
    ),
    "pages": (
        lambda q, k, v: page_flipping((q, k[:, :, :2]), lambda *x: 0, lambda *x: 0, lambda *x: q),
        ValueError,
        r"one common length",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_misuse_is_answered_with_a_sentence(rng, name):
    call, error, sentence = BAD[name]
    with pytest.raises(error, match=sentence):
        call(draw(rng, 1, 2, 5, 3), draw(rng, 1, 2, 5, 3), draw(rng, 1, 2, 5, 3))
