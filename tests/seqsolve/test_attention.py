"""Softmax attention as a recurrence: exact against the plain sum, states in and out, any grouping of the keys."""

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqsolve.attention import SoftmaxState, alibi_slopes, causal, online_softmax, rotary
from tests.reference import causal_attention

TOLERANCE = {torch.float64: 1e-13, torch.float32: 1e-6, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}


def draw(rng, *shape, dtype=torch.float64):
    return torch.as_tensor(rng.standard_normal(shape)).to(dtype)


def case(rng, B=2, H=4, heads=2, Tq=9, Tk=9, d=4, dv=4, dtype=torch.float64):
    return (
        draw(rng, B, H, Tq, d, dtype=dtype),
        draw(rng, B, heads, Tk, d, dtype=dtype),
        draw(rng, B, heads, Tk, dv, dtype=dtype),
    )


def close(found, expected, dtype=torch.float64):
    found, expected = found.detach().double().numpy(), np.asarray(getattr(expected, "detach", lambda: expected)())
    with np.errstate(invalid="ignore"):
        error = np.abs(found - expected)
    error[found == expected] = 0  # also -inf
    scale = max(1.0, float(np.abs(expected[np.isfinite(expected)]).max(initial=0)))
    assert error.max(initial=0) <= TOLERANCE[dtype] * scale


RULES = {
    "plain": {},
    "window": {"window": 3},
    "window of one": {"window": 1},
    "alibi": {"alibi": True},
    "lengths": {"lengths": torch.tensor([4, 9])},
    "empty row": {"lengths": torch.tensor([0, 1])},
    "window, alibi, lengths": {"window": 4, "alibi": True, "lengths": torch.tensor([9, 5])},
    "scale": {"scale": 0.3},
}


def expected_of(q, k, v, options):
    options = dict(options)
    if options.pop("alibi", None):
        options["slopes"] = alibi_slopes(q.shape[1]).numpy()
    options = {key: x.numpy() if isinstance(x, torch.Tensor) else x for key, x in options.items()}
    return causal_attention(*(x.detach().double().numpy() for x in (q, k, v)), **options)


@pytest.mark.parametrize("options", RULES.values(), ids=RULES.keys())
@pytest.mark.parametrize("block", [None, 1, 4])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_causal_equals_the_plain_sum(rng, options, block, dtype):
    q, k, v = case(rng, dtype=dtype)
    o, state = causal(q, k, v, block=block, **options)
    expected, lse = expected_of(q, k, v, options)
    assert o.dtype == dtype
    assert state.acc.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    close(o, expected, dtype)
    inner = torch.float64 if dtype == torch.float64 else torch.float32
    fused = block is None and options.keys() <= {"scale"}  # the kernel's outputs are rounded once to the dtype
    close(state.output(), expected, dtype if fused else inner)
    close(state.logsumexp, lse, inner)


@pytest.mark.parametrize("heads,H", [(1, 1), (1, 3), (2, 6), (5, 5)])
@pytest.mark.parametrize("Tq,Tk", [(1, 1), (1, 7), (3, 7), (7, 3), (0, 4), (4, 0), (130, 130)])
@pytest.mark.parametrize("method", ["auto", "blocks"])
def test_any_lengths_and_groups(rng, heads, H, Tq, Tk, method):
    q, k, v = case(rng, H=H, heads=heads, Tq=Tq, Tk=Tk)
    q, k, v = (x[:1, :, :, :] for x in (q, k, v))
    o, state = causal(q, k, v, method=method)
    expected, lse = expected_of(q, k, v, {})
    close(o, expected)
    close(state.logsumexp, lse)


@pytest.mark.parametrize("shape", [(2, 4, 9, 9), (1, 1, 9, 9), (9, 9), (9,), (2, 1, 1, 9), (4, 9, 1)])
@pytest.mark.parametrize("kind", ["boolean", "additive", "additive with -inf"])
def test_masks_broadcast(rng, shape, kind):
    q, k, v = case(rng)
    mask = draw(rng, *shape)
    if kind == "boolean":
        mask = mask > -0.5
    elif kind == "additive with -inf":
        mask = mask.masked_fill(mask > 0.5, -torch.inf)
    o, state = causal(q, k, v, mask=mask, block=4)
    full = np.broadcast_to(mask.numpy(), (2, 4, 9, 9))
    expected, lse = expected_of(q, k, v, {"mask": torch.as_tensor(full.copy())})
    close(o, expected)
    close(state.logsumexp, lse)


def test_each_sequence_may_stand_at_its_own_position(rng):
    q, k, v = case(rng, Tq=2)
    offset = torch.tensor([1, 6])
    for options in ({}, {"window": 3}, {"lengths": torch.tensor([3, 8])}):
        o, _ = causal(q, k, v, offset=offset, block=3, **options)
        close(o, expected_of(q, k, v, {"offset": offset, **options})[0])
    turned, _ = causal(q, k, v, offset=offset, rotary=True)
    for b in range(2):
        one, _ = causal(q[b : b + 1], k[b : b + 1], v[b : b + 1], offset=int(offset[b]), rotary=True)
        close(turned[b : b + 1], one)


def test_width_of_values_may_differ(rng):
    q, k, v = case(rng, dv=3)
    close(causal(q, k, v)[0], expected_of(q, k, v, {})[0])


@pytest.mark.parametrize("layout", ["strided", "transposed", "expanded"])
def test_memory_layout_does_not_matter(rng, layout):
    q, k, v = case(rng, H=2)
    plain, _ = causal(q, k, v)
    if layout == "strided":
        q, k, v = (x.repeat_interleave(2, 3)[..., ::2] for x in (q, k, v))
    elif layout == "transposed":
        q, k, v = (x.transpose(1, 2).contiguous().transpose(1, 2) for x in (q, k, v))
    else:
        k = k[:, :1].expand(-1, 2, -1, -1)
        plain, _ = causal(q, k.contiguous(), v)
    close(causal(q, k, v)[0], plain)
    close(causal(q, k, v, method="blocks")[0], plain)


# --- the state ---


@given(cuts=st.lists(st.integers(0, 12), min_size=2, max_size=2), order=st.permutations([0, 1, 2]), huge=st.booleans())
def test_states_over_any_parts_of_the_keys_merge_to_the_whole(cuts, order, huge):
    rng = np.random.default_rng([3, *cuts, *order])
    q, k, v = case(rng, Tq=3, Tk=12)
    q = q * 100 if huge else q
    low, high = sorted(cuts)
    _, whole = online_softmax(q, k, v)
    parts = [online_softmax(q, k[:, :, a:b], v[:, :, a:b])[1] for a, b in ((0, low), (low, high), (high, 12))]
    first, second, third = (parts[i] for i in order)
    left, right = first.merge(second).merge(third), first.merge(second.merge(third))
    for state in (left, right):
        close(state.output(), whole.output())
        close(state.logsumexp, whole.logsumexp)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_merging_is_exact_to_rounding(rng, dtype):
    q, k, v = case(rng, B=1, Tq=64, Tk=256, d=16, dv=16, dtype=dtype)
    whole = expected_of(q, k, v, {"mask": torch.zeros(1, 1, 1, 1, dtype=torch.float64), "offset": 256})[0]
    state = SoftmaxState.empty(1, 4, 64, dv=16, dtype=dtype)
    for j in range(0, 256, 8):
        state = state.merge(online_softmax(q, k[:, :, j : j + 8], v[:, :, j : j + 8])[1])
    close(state.output(), whole, dtype)


def test_the_empty_state_is_the_identity(rng):
    q, k, v = case(rng)
    _, state = causal(q, k, v)
    empty = SoftmaxState.empty(2, 4, 9, dv=4, dtype=torch.float64)
    for merged in (state.merge(empty), empty.merge(state)):
        assert torch.equal(merged.acc, state.acc)
        assert torch.equal(merged.m, state.m)
        assert torch.equal(merged.l, state.l)
    nothing = empty.merge(empty)
    assert torch.equal(nothing.output(), torch.zeros(2, 4, 9, 4, dtype=torch.float64))
    assert bool((nothing.logsumexp == -torch.inf).all())


def test_token_by_token_holds_one_state_a_query(rng):
    q, k, v = case(rng, Tq=2, Tk=40)
    state = SoftmaxState.empty(2, 4, 2, dv=4, dtype=torch.float64)
    sizes = set()
    for j in range(40):
        state = state.update(q, k[:, :, j : j + 1], v[:, :, j : j + 1])
        sizes.add(state.numel())
    assert sizes == {2 * 4 * 2 * (1 + 1 + 4)}
    close(state.output(), online_softmax(q, k, v)[0])


def test_states_go_in_and_come_out(rng):
    q, k, v = case(rng, Tq=4, Tk=10)
    whole, final = causal(q, k, v)
    _, early = causal(q, k[:, :, :6], v[:, :, :6], offset=6)
    late, merged = causal(q, k[:, :, 6:], v[:, :, 6:], early)
    close(late, whole)
    close(merged.logsumexp, final.logsumexp)


def test_a_state_pickles_and_prints_on_a_line(rng):
    q, k, v = case(rng)
    _, state = causal(q, k, v)
    again = pickle.loads(pickle.dumps(state))
    assert torch.equal(again.acc, state.acc)
    assert repr(state) == "SoftmaxState(queries=(2, 4, 9), dv=4, dtype=torch.float64, device=cpu)"
    assert state[:, :, -1:].acc.shape == (2, 4, 1, 4)
    assert state.to(torch.float32).detach().m.dtype == torch.float32


# --- gradients ---


def output_and_sum(**options):
    def function(q, k, v, *rest):
        o, state = causal(q, k, v, **options, **dict(zip(("mask", "alibi"), rest)))
        return o, state.logsumexp

    return function


@pytest.mark.parametrize("options", [{}, {"block": 2}, {"block": 2, "window": 3}, {"rotary": True}], ids=str)
def test_gradients_and_second_derivatives(rng, options):
    q, k, v = (x.requires_grad_() for x in case(rng, B=1, H=2, heads=1, Tq=4, Tk=5, d=2, dv=2))
    assert torch.autograd.gradcheck(output_and_sum(**options), (q, k, v))
    assert torch.autograd.gradgradcheck(output_and_sum(**options), (q, k, v))


def test_gradients_reach_a_learned_mask_and_slopes(rng):
    q, k, v = (x.requires_grad_() for x in case(rng, B=2, H=2, heads=1, Tq=3, Tk=4, d=2, dv=3))
    mask, slopes = draw(rng, 1, 2, 1, 4).requires_grad_(), draw(rng, 2).abs().requires_grad_()
    assert torch.autograd.gradcheck(output_and_sum(block=2), (q, k, v, mask, slopes))
    assert torch.autograd.gradgradcheck(output_and_sum(block=2), (q, k, v, mask, slopes))


def test_gradients_flow_through_merged_states(rng):
    q, k, v = (x.requires_grad_() for x in case(rng, B=1, H=2, heads=2, Tq=2, Tk=5, d=2, dv=2))

    def merged(q, k, v):
        _, early = causal(q, k[:, :, :2], v[:, :, :2], offset=3)
        return causal(q, k[:, :, 2:], v[:, :, 2:], early, offset=1)[0]

    close(merged(q, k, v), causal(q, k, v)[0])
    assert torch.autograd.gradcheck(merged, (q, k, v))
    one = torch.autograd.grad(merged(q, k, v).square().sum(), (q, k, v))
    two = torch.autograd.grad(causal(q, k, v)[0].square().sum(), (q, k, v))
    for a, b in zip(one, two):
        close(a, b.numpy())


def test_an_unseen_query_has_no_gradient(rng):
    q, k, v = (x.requires_grad_() for x in case(rng, B=1, H=2, heads=2, Tq=3, Tk=3))
    mask = torch.tensor([[False, False, False], [True, True, True], [True, True, True]])
    o, _ = causal(q, k, v, mask=mask)
    grads = torch.autograd.grad(o.square().sum(), (q, k, v))
    assert all(bool(torch.isfinite(g).all()) for g in grads)
    assert torch.equal(grads[0][:, :, 0], torch.zeros_like(grads[0][:, :, 0]))


# --- positions ---


def test_rotary_scores_see_distances_only(rng):
    q, k, v = case(rng, H=2, Tq=5, Tk=5, d=6, dv=6)
    o, _ = causal(q, k, v, rotary=True)
    by_hand, _ = causal(rotary(q, 1000), rotary(k, 1000), v)
    close(o, by_hand)
    last, _ = causal(q[:, :, 3:], k, v, rotary=True)  # the queries are the last steps
    close(last, o[:, :, 3:])
    places = torch.arange(5) + 1000
    close(rotary(q, places), rotary(q, 1000))


def test_alibi_slopes_are_those_of_the_paper():
    assert alibi_slopes(8).tolist() == [2.0**-n for n in range(1, 9)]
    assert alibi_slopes(3).tolist() == [2**-4, 2**-8, 2**-2]


# --- what is not ordinary ---


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["k", "v"])
@pytest.mark.parametrize("options", [{}, {"block": 3}, {"window": 3}, {"mask": torch.zeros(9, 9)}], ids=str)
def test_a_bad_number_reaches_exactly_the_queries_that_see_it(rng, bad, where, options):
    q, k, v = case(rng)
    clean, _ = causal(q, k, v, **options)
    (k if where == "k" else v)[1, 1, 4, 2] = bad
    o, state = causal(q, k, v, **options)
    hit = torch.isnan(o)
    expected = torch.zeros_like(hit)
    stop = 7 if "window" in options else 9
    expected[1, 2:, 4:stop, :] = True
    if where == "v":  # other features of the value are fine
        expected[..., [0, 1, 3]] = False
    assert torch.equal(hit, expected)
    close(o[~hit], clean[~hit].numpy())
    assert torch.equal(torch.isnan(state.logsumexp), expected.all(-1))


def test_a_bad_query_spoils_itself_alone(rng):
    q, k, v = case(rng)
    q[0, 1, 3, 0] = np.nan
    hit = torch.isnan(causal(q, k, v)[0])
    assert int(hit.sum()) == 4
    assert bool(hit[0, 1, 3].all())


@pytest.mark.parametrize("method", ["fused", "blocks"])
def test_finite_inputs_that_overflow_raise(rng, method):
    q, k, v = case(rng, dtype=torch.float32)
    with pytest.raises(FloatingPointError, match=r"finite inputs overflow torch.float32: largest \|q\|"):
        causal(q * 1e25, k * 1e25, v, method=method)
    o, _ = causal(q.double() * 1e25, k.double() * 1e25, v.double(), method=method)
    assert bool(torch.isfinite(o).all())


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_tiny_and_huge_values(rng, scale):
    q, k, v = case(rng, dtype=torch.float32)
    expected = causal(q, k, v)[0] * scale
    close(causal(q, k, v * scale)[0] / scale, expected / scale, torch.float32)
    tiny, _ = causal(q * 1e-30, k * 1e-30, v)
    close(tiny, expected_of(q * 0, k, v, {})[0], torch.float32)


BAD = {
    "numpy": (lambda q, k, v: causal(q.numpy(), k, v), TypeError, r"q is a numpy.ndarray, expected a torch tensor"),
    "axes": (lambda q, k, v: causal(q[0], k, v), ValueError, r"q has shape \(4, 9, 4\), expected 4 axes"),
    "integers": (lambda q, k, v: causal(q.long(), k, v), TypeError, r"q has dtype torch.int64"),
    "mixed": (lambda q, k, v: causal(q.float(), k, v), TypeError, r"cast them to one dtype"),
    "widths": (lambda q, k, v: causal(q[..., :3], k, v), ValueError, r"q has width 3, k has width 4"),
    "heads": (lambda q, k, v: causal(q[:, :3], k, v), ValueError, r"q has 3 heads, k and v have 2"),
    "batch": (lambda q, k, v: causal(q[:1], k, v), ValueError, r"q has batch 1"),
    "values": (lambda q, k, v: causal(q, k, v[:, :, :5]), ValueError, r"give each key one value"),
    "empty": (lambda q, k, v: causal(q[..., :0], k[..., :0], v), ValueError, r"the width of a head is 0"),
    "window": (lambda q, k, v: causal(q, k, v, window=0), ValueError, r"window=0 is less than 1"),
    "window type": (lambda q, k, v: causal(q, k, v, window=2.5), TypeError, r"window=2.5 is not an integer"),
    "block": (lambda q, k, v: causal(q, k, v, block=0), ValueError, r"block=0 is less than 1"),
    "method": (lambda q, k, v: causal(q, k, v, method="best"), ValueError, r"pass one of auto, blocks, fused"),
    "fused": (lambda q, k, v: causal(q, k, v, method="fused", window=2), ValueError, r"plain causal attention"),
    "mask shape": (lambda q, k, v: causal(q, k, v, mask=torch.ones(8, 9)), ValueError, r"does not broadcast"),
    "mask type": (lambda q, k, v: causal(q, k, v, mask=torch.ones(9, 9).int()), TypeError, r"True: seen"),
    "mask NaN": (lambda q, k, v: causal(q, k, v, mask=torch.full((9, 9), torch.nan)), ValueError, r"NaN or \+inf"),
    "lengths": (lambda q, k, v: causal(q, k, v, lengths=torch.tensor([3, 10])), ValueError, r"expected 0..9"),
    "lengths shape": (lambda q, k, v: causal(q, k, v, lengths=torch.tensor([3])), ValueError, r"expected 2 integers"),
    "alibi": (lambda q, k, v: causal(q, k, v, alibi=torch.ones(3)), ValueError, r"each of the 4 query heads"),
    "offset": (lambda q, k, v: causal(q, k, v, offset=1.5), TypeError, r"offset=1.5 is not an integer"),
    "offset tensor": (lambda q, k, v: causal(q, k, v, offset=torch.ones(3)), ValueError, r"expected 2 integers"),
    "scale": (lambda q, k, v: causal(q, k, v, scale=np.inf), ValueError, r"scale=inf is not finite"),
    "state": (
        lambda q, k, v: causal(q, k, v, SoftmaxState.empty(2, 4, 3, dv=4)),
        ValueError,
        r"one row for each query of this call",
    ),
    "merge": (lambda q, k, v: SoftmaxState.empty(2, dv=4).merge(3), TypeError, r"merges with another one"),
    "merge shapes": (
        lambda q, k, v: SoftmaxState.empty(2, dv=4).merge(SoftmaxState.empty(3, dv=4)),
        ValueError,
        r"merge states of the same queries",
    ),
    "parts": (lambda q, k, v: SoftmaxState(q[0], q[0], q[0]), ValueError, r"do not fit"),
    "rotary odd": (lambda q, k, v: rotary(q[..., :3]), ValueError, r"an even d"),
    "rotary base": (lambda q, k, v: rotary(q, base=-1), ValueError, r"base=-1 is not positive"),
}


@pytest.mark.parametrize("name", BAD)
def test_misuse_is_answered_with_a_sentence(rng, name):
    call, error, sentence = BAD[name]
    with pytest.raises(error, match=sentence):
        call(*case(rng))


@pytest.mark.gpu
@pytest.mark.parametrize("options", [{}, {"window": 3}, {"alibi": True}], ids=str)
def test_the_same_numbers_on_a_gpu(rng, options):
    q, k, v = case(rng)
    here, _ = causal(q, k, v, **options)
    there, state = causal(q.cuda(), k.cuda(), v.cuda(), **options)
    assert state.acc.is_cuda
    close(there.cpu(), here.numpy())
