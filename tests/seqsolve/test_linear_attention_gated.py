"""The compiled minimal GRU and LSTM: gates to their last digits, and whatever lies outside the laws of the table."""

import numpy as np
import pytest
import torch

from seqsolve import linear_attention as la
from seqsolve.linear_attention import gated
from seqsolve.testing import scaled_error

KINDS = ("min_gru", "min_lstm")
SHAPES = [(2, 3, 40, 5), (1, 1, 700, 130), (1, 2, 1100, 9), (1, 1, 3, 1040), (3, 1, 1, 1)]


def draw(rng, *shape, dtype=torch.float64):
    return torch.as_tensor(rng.standard_normal(shape)).to(dtype)


def call(kind, q, k, v, forget, **options):
    return la.min_gru(q, k, v, **options) if kind == "min_gru" else la.min_lstm(q, k, v, forget, **options)


def gates(dtype, k, forget=None):
    """(a, z) of one step: what becomes of a state 1 and of a candidate 1."""
    k = torch.as_tensor(k, dtype=dtype)[None, None, None]
    forget = None if forget is None else torch.as_tensor(forget, dtype=dtype)[None, None, None]
    kind = "min_gru" if forget is None else "min_lstm"
    one, zero = torch.ones_like(k), torch.zeros_like(k)
    kept, _ = call(kind, None, k, zero, forget, state=one[:, :, 0])
    taken, _ = call(kind, None, k, one, forget)
    return kept.numpy().ravel(), taken.numpy().ravel()


@pytest.mark.parametrize("dtype,limit", [(torch.float32, 86.9), (torch.float64, 707.9)])
def test_gates_are_right_to_the_last_digits_however_small_they_are(rng, dtype, limit):
    k = torch.as_tensor(np.r_[np.linspace(-limit, limit, 5001), rng.standard_normal(500), 0.0]).to(dtype)
    eps = torch.finfo(dtype).eps
    exact = k.numpy().astype(np.longdouble)
    for found, x in zip(gates(dtype, k), (-exact, exact)):
        expected = 1 / (1 + np.exp(-x))
        assert np.abs(found / expected - 1).max() < 5 * eps
    f = torch.as_tensor(rng.uniform(-limit / 2, limit / 2, k.numel())).to(dtype)
    wide = f.numpy().astype(np.longdouble)
    for found, (x, y) in zip(gates(dtype, k, f), ((exact, wide), (wide, exact))):
        expected = 1 / (1 + (1 + np.exp(-y)) / (1 + np.exp(-x)))
        good = expected > np.finfo(found.dtype).tiny
        # the difference of two logits is rounded, which no order of operations on given numbers can avoid
        assert (np.abs(found / expected - 1) / (8 + np.abs(exact) + np.abs(wide)))[good].max() < eps


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gates_that_are_closed_open_or_beyond_the_exponential(dtype):
    a, z = gates(dtype, [torch.inf, -torch.inf, 1e30, -1e30, -5000.0])
    assert a.tolist() == [0, 1, 0, 1, 1]
    assert z.tolist() == [1, 0, 1, 0, 0]
    a, z = gates(dtype, [-torch.inf, 2.0, -3000.0, -3001.0, -1e30, torch.inf], [1.0, -torch.inf, -3000.0, -3000, 0, -9])
    expected = np.array([1, 0, 0.5, np.e / (1 + np.e), 1, np.exp(-9) / (1 + 2 * np.exp(-9))])
    assert np.allclose(a, expected, rtol=1e-6, atol=0)
    assert np.allclose(z, 1 - expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_both_passes_are_those_of_the_steps(rng, kind, shape, dtype):
    k, v, f, weight = (x * draw(rng, *shape, dtype=dtype) for x in (3, 1, 3, 1))
    S, end = (draw(rng, *shape[:2], shape[3], dtype=dtype) for _ in range(2))
    found = []
    for form in ("chunk", "step"):
        wide = torch.float64 if form == "step" else dtype
        given = [x.to(wide).requires_grad_() for x in (k, v, S, f)[: 4 if kind == "min_lstm" else 3]]
        o, state = call(kind, None, given[0], given[1], given[-1], state=given[2], form=form)
        loss = (o * weight).sum() + (state * end).sum()
        alone = torch.autograd.grad((state * end).sum(), given[:2], retain_graph=True)
        found.append([o.detach(), state.detach(), *torch.autograd.grad(loss, given), *alone])
    for one, other in zip(*found, strict=True):
        assert scaled_error(one, other.to(dtype)) < 100
    with torch.no_grad():
        assert torch.equal(call(kind, None, k, v, f, state=S)[0], found[0][0])


@pytest.mark.parametrize("kind", KINDS)
def test_answers_do_not_depend_on_threads_or_strides(rng, kind, monkeypatch):
    q, k, v, f = (draw(rng, 1, 2, 90, 50, dtype=torch.float32) for _ in range(4))
    monkeypatch.setattr(gated, "SHARED", 1)
    found = []
    for workers in (1, 2, 3, 9):
        monkeypatch.setattr(gated, "resolve_workers", lambda _, workers=workers: workers)
        given = [x.clone().requires_grad_() for x in (q, k, v, f)]
        if workers == 3:  # time outermost in memory
            given = [x.transpose(1, 2).contiguous().transpose(1, 2).detach().requires_grad_() for x in given]
        o, state = call(kind, *given)
        grads = torch.autograd.grad(o.square().sum(), given[: 3 + (kind == "min_lstm")])
        found.append([o, state, *grads])
    for other in found[1:]:
        assert all(torch.equal(x, y) for x, y in zip(found[0], other))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["chunk", "step"])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_bad_number_stays_from_its_step_on(rng, kind, form, bad):
    k, v, f = (draw(rng, 1, 2, 70, 3) for _ in range(3))
    clean, _ = call(kind, None, k, v, f, form=form)
    spoilt = [("v", v), ("k", k), ("forget", f)] if np.isnan(bad) else [("v", v)]
    for name, x in spoilt[: 2 + (kind == "min_lstm")]:
        given = {"k": k, "v": v, "forget": f, name: x.clone()}
        given[name][0, 1, 33, 2] = bad
        o, state = call(kind, None, **given, form=form)
        assert torch.isnan(o)[0].flatten(1).sum(1).tolist() == [0, 37 * 3]
        assert torch.isnan(state)[0].sum(1).tolist() == [0, 3]
        good = ~torch.isnan(o)
        assert scaled_error(o[good], clean[good]) < 100
    o, _ = call(kind, None, k, torch.where(v == v[0, 1, 33, 2], bad, v), f, check_finite=False)
    assert torch.isfinite(o).logical_not()[0, 1, :, 2].nonzero().ravel().tolist() == list(range(33, 70))


@pytest.mark.parametrize("kind", KINDS)
def test_extreme_candidates_and_states_come_out_finite(kind):
    huge = torch.finfo(torch.float32).max
    k = f = torch.full((1, 1, 50, 2), -3.0)
    v = torch.full_like(k, 0.999 * huge) * torch.tensor([1.0, -1.0])
    o, _ = call(kind, None, k, v, f, state=-v[:, :, 0])
    expected, _ = call(kind, None, k.double(), v.double(), f.double(), state=-v[:, :, 0].double(), form="step")
    assert scaled_error(o, expected.float()) < 100
    with pytest.raises(FloatingPointError, match=rf"{kind}: finite inputs overflow torch.float32 at step 0"):
        call(kind, None, k, v, f, state=torch.full((1, 1, 2), torch.inf))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(rng, kind, dtype):
    q, k, v, f = (draw(rng, 2, 1, 60, 4, dtype=dtype).requires_grad_() for _ in range(4))
    o, state = call(kind, q, k, v, f)
    expected, last = call(kind, *(x.float() for x in (q, k, v, f)))
    assert o.dtype == dtype
    assert torch.equal(o, expected.to(dtype))
    assert torch.equal(state, last)
    assert torch.autograd.grad(o.float().sum(), v)[0].dtype == dtype


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")  # torch's own first jvp
def test_transforms_and_second_derivatives_see_through(rng, kind):
    k, v, f, along = (draw(rng, 1, 1, 9, 20) for _ in range(4))

    def function(k):
        return call(kind, None, k, v, f)[0].square().sum()

    slope = torch.func.grad(function)(k)
    near = (function(k + 1e-6 * along) - function(k - 1e-6 * along)) / 2e-6
    assert float((torch.func.jvp(function, (k,), (along,))[1] - near).abs()) < 1e-7
    assert float(((slope * along).sum() - near).abs()) < 1e-7
    given = k.clone().requires_grad_()
    (first,) = torch.autograd.grad(function(given), given, create_graph=True)
    torch.testing.assert_close(first.detach(), slope, rtol=1e-12, atol=1e-12)
    (second,) = torch.autograd.grad((first * along).sum(), given)
    expected = torch.func.jvp(torch.func.grad(function), (k,), (along,))[1]
    torch.testing.assert_close(second, expected, rtol=1e-11, atol=1e-11)
    both = torch.stack([k, along])
    many = torch.func.vmap(lambda k: call(kind, None, k, v, f, check_finite=False)[0])(both)
    torch.testing.assert_close(many, torch.stack([call(kind, None, k, v, f)[0] for k in both]))
