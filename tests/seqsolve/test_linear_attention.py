"""Each linear recurrence against the step of its paper, and the laws that all of them share."""

import math

import numpy as np
import pytest
import torch

from seqsolve import linear_attention as la
from seqsolve.testing import FORMS, LinearRecurrenceLaws, scaled_error


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def outer(k, v):
    return np.outer(k, v)


class TestLinear(LinearRecurrenceLaws):
    name = "linear"

    def plain(self, S, q, k, v):
        f = [np.where(x > 0, x + 1, np.exp(np.minimum(x, 0))) for x in (q, k)]
        S = (0 if S is None else S) + outer(f[1], v)
        return S, f[0] @ S


class TestRetnet(LinearRecurrenceLaws):
    name = "retnet"

    def inputs(self, dtype=torch.float64, **sizes):
        given = super().inputs(dtype, **sizes)
        return {**given, "log_decay": torch.log(torch.linspace(0.5, 0.9, given["k"].shape[1], dtype=dtype))}

    def plain(self, S, q, k, v, log_decay):
        S = (0 if S is None else np.exp(log_decay) * S) + outer(k, v)
        return S, q @ S


class TestGla(LinearRecurrenceLaws):
    name = "gla"

    def plain(self, S, q, k, v, log_decay):
        S = (0 if S is None else np.exp(log_decay)[:, None] * S) + outer(k, v)
        return S, q @ S


class TestRwkv4(LinearRecurrenceLaws):
    name = "rwkv4"

    def plain(self, S, q, k, v, log_decay, bonus):
        num, den = (0, 0) if S is None else S
        wkv = (num + np.exp(bonus + k) * v) / (den + np.exp(bonus + k))
        w = np.exp(log_decay)
        return (w * num + np.exp(k) * v, w * den + np.exp(k)), sigmoid(q) * wkv


class TestRwkv6(LinearRecurrenceLaws):
    name = "rwkv6"

    def plain(self, S, q, k, v, log_decay, bonus):
        S = np.zeros((k.size, v.size)) if S is None else S
        o = q @ (S + np.diag(bonus) @ outer(k, v))
        return np.diag(np.exp(log_decay)) @ S + outer(k, v), o


class TestRwkv7(LinearRecurrenceLaws):
    name = "rwkv7"

    def plain(self, S, q, k, v, log_decay, removal, rate):
        S = np.zeros((k.size, v.size)) if S is None else S
        n = removal / np.linalg.norm(removal)
        S = (np.diag(np.exp(log_decay)) - outer(rate * n, n)) @ S + outer(k, v)
        return S, q @ S


class TestDelta(LinearRecurrenceLaws):
    name = "delta"

    def plain(self, S, q, k, v, beta):
        S = np.zeros((k.size, v.size)) if S is None else S
        S = (np.eye(k.size) - beta * outer(k, k)) @ S + beta * outer(k, v)
        return S, q @ S


class TestGatedDelta(LinearRecurrenceLaws):
    name = "gated_delta"

    def plain(self, S, q, k, v, beta, log_decay):
        S = np.zeros((k.size, v.size)) if S is None else S
        S = np.exp(log_decay) * (np.eye(k.size) - beta * outer(k, k)) @ S + beta * outer(k, v)
        return S, q @ S


class TestMamba2(LinearRecurrenceLaws):
    name = "mamba2"

    def plain(self, S, q, k, v, dt, A, skip):
        S = (0 if S is None else np.exp(dt * A) * S) + dt * outer(k, v)
        return S, q @ S + skip * v


class TestMamba1(LinearRecurrenceLaws):
    name = "mamba1"

    def plain(self, S, q, k, v, dt, A, skip):
        S = (0 if S is None else np.exp(dt * A) * S) + outer(k, dt * v)
        return S, q @ S + skip * v


class TestMamba1InTilesAndChunks(TestMamba1):
    """More channels than a tile, more steps than a chunk of the backward pass, and enough work for two threads."""

    dv, T, roundings = 70, 71, 2000.0

    def test_second_derivatives_are_those_of_the_steps(self):
        found = []
        for form in ("chunk", "step"):
            inputs = {name: x.requires_grad_() for name, x in self.inputs(B=1, H=1, T=40).items()}
            o, state = self.call(inputs, form=form)
            names = list(inputs)
            first = torch.autograd.grad(o.square().sum() + state.square().sum(), inputs.values(), create_graph=True)
            found.append(torch.autograd.grad(sum(x.square().sum() for x in first), [inputs[n] for n in names]))
        for one, other in zip(*found):
            assert scaled_error(one, other) < self.roundings

    test_a_second_derivative_exists = None
    test_a_bad_number_appears_from_exactly_its_step_on = None


class TestLru(LinearRecurrenceLaws):
    name = "lru"

    def plain(self, S, q, k, v, log_decay, phase, skip):
        lam = np.exp(log_decay + 1j * phase)
        S = (0 if S is None else lam * S) + np.sqrt(1 - np.abs(lam) ** 2) * (k @ v)
        return S, (q @ S).real + skip * v


class TestS5(LinearRecurrenceLaws):
    name = "s5"

    def plain(self, S, q, k, v, A, dt, skip):
        S = (0 if S is None else np.exp(A * dt) * S) + (np.exp(A * dt) - 1) / A * (k @ v)
        return S, (q @ S).real + skip * v


class TestMinGru(LinearRecurrenceLaws):
    name = "min_gru"

    def plain(self, S, q, k, v):
        z = sigmoid(k)
        S = (0 if S is None else (1 - z) * S) + z * v
        return S, q * S


class TestMinLstm(LinearRecurrenceLaws):
    name = "min_lstm"

    def plain(self, S, q, k, v, forget):
        f, i = sigmoid(forget), sigmoid(k)
        S = (0 if S is None else f / (f + i) * S) + i / (f + i) * v
        return S, q * S


def test_every_line_of_the_table_is_tested():
    tested = {c.name for c in globals().values() if isinstance(c, type) and c.__name__.startswith("Test")}
    assert tested == set(la.TABLE)


# --- what the laws do not say ---


def draw(rng, *shape, dtype=torch.float64):
    return torch.as_tensor(rng.standard_normal(shape)).to(dtype)


@pytest.mark.parametrize("form", FORMS)
def test_normalised_linear_attention_is_an_average(rng, form):
    q, k, v = draw(rng, 2, 3, 9, 4), draw(rng, 2, 3, 9, 4), draw(rng, 2, 3, 9, 5)
    o, state = la.linear(q, k, v, normalize=True, form=form)
    f = [torch.nn.functional.elu(x) + 1 for x in (q, k)]
    weights = (f[0] @ f[1].mT).tril()
    expected = weights @ v / weights.sum(-1, keepdim=True)
    assert scaled_error(o, expected) < 200
    assert state.shape == (2, 3, 4, 6)
    constant, _ = la.linear(q, k, torch.ones_like(v), normalize=True, form=form)
    assert scaled_error(constant, torch.ones_like(v)) < 50


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("strength", [-1e-4, -300.0, -1e30, -torch.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["gla", "rwkv6", "rwkv7", "gated_delta", "retnet", "rwkv4"])
def test_decays_of_any_strength_neither_overflow_nor_cancel(name, form, strength, dtype):
    inputs = la.TABLE[name].example(T=40, dtype=dtype)
    shape = {"retnet": (2,), "rwkv4": (2, 4), "gated_delta": (1, 2, 40)}.get(name, (1, 2, 40, 4))
    log_decay = torch.full(shape, strength, dtype=dtype)
    if log_decay.ndim > 2:
        log_decay[:, :, ::7] = -1e-3  # strong and weak side by side
    inputs["log_decay"] = log_decay.requires_grad_()
    o, _ = la.TABLE[name].function(**inputs, form=form)
    expected, _ = la.TABLE[name].function(**{n: x.double() for n, x in inputs.items()}, form="step")
    assert scaled_error(o, expected.to(dtype)) < 500
    (grad,) = torch.autograd.grad(o.sum(), log_decay)
    assert bool(torch.isfinite(grad).all())


def test_keys_of_any_size_are_safe_in_rwkv4(rng):
    q, k, v = draw(rng, 1, 1, 30, 2), 1e4 * draw(rng, 1, 1, 30, 2), draw(rng, 1, 1, 30, 2)
    slow, bonus = torch.full((1, 2), -0.1, dtype=torch.float64), torch.zeros(1, 2, dtype=torch.float64)
    one = la.rwkv4(q, k, v, slow, bonus, form="step")[0]
    assert bool(torch.isfinite(one).all())
    for form in ("scan", "chunk"):
        assert scaled_error(la.rwkv4(q, k, v, slow, bonus, form=form)[0], one) < 500


def test_softmax_of_rwkv4_without_decay_is_aaren(rng):
    from seqsolve.attention import aaren

    k, v = draw(rng, 1, 3, 12, 1), draw(rng, 1, 3, 12, 1)
    zero = torch.zeros(3, 1, dtype=torch.float64)
    o, state = la.rwkv4(torch.full_like(v, 40.0), k, v, zero, zero)
    expected, other = aaren(torch.ones(3, 1, dtype=torch.float64), k, v, scale=1.0)
    assert scaled_error(o, expected) < 100
    assert scaled_error(state.logsumexp, other.logsumexp) < 100


def test_retnet_has_the_decays_of_its_paper(rng):
    q, k, v = (torch.ones(1, 3, 2, 1, dtype=torch.float64) for _ in range(3))
    o, _ = la.retnet(q, k, v)
    assert [float(x) for x in o[0, :, 1, 0]] == pytest.approx([2 - 2.0**-5, 2 - 2.0**-6, 2 - 2.0**-7], abs=1e-15)


def test_the_delta_rule_recalls_what_it_stored(rng):
    keys = torch.linalg.qr(draw(rng, 1, 2, 4, 4)).Q
    values, ones = draw(rng, 1, 2, 4, 3), torch.ones(1, 2, 4, dtype=torch.float64)
    _, state = la.delta(keys, keys, values, ones)
    assert scaled_error(keys @ state, values) < 50
    _, state = la.delta(keys, keys, 2 * values, ones, state=state)  # the same keys again: overwritten, not added
    assert scaled_error(keys @ state, 2 * values) < 50


@pytest.mark.parametrize("name", ["delta", "gated_delta"])
def test_unit_keys_are_normalised(rng, name):
    inputs = la.TABLE[name].example(dtype=torch.float64)
    inputs["q"] = torch.nn.functional.normalize(inputs["q"], dim=-1)
    scaled = {**inputs, "k": 5 * inputs["k"], "q": 3 * inputs["q"]}
    one, _ = la.TABLE[name].function(**scaled, unit_keys=True)
    assert scaled_error(one, la.TABLE[name].function(**inputs)[0]) < 100


def test_heads_of_keys_are_shared(rng):
    q, k, v = draw(rng, 1, 1, 7, 4), draw(rng, 1, 2, 7, 4), draw(rng, 1, 4, 7, 3)
    o, _ = la.linear(q, k, v)
    full, _ = la.linear(q.repeat_interleave(4, 1), k.repeat_interleave(2, 1), v)
    assert torch.equal(o, full)


def test_s5_at_a_rate_of_zero_is_an_integrator(rng):
    v = draw(rng, 1, 1, 6, 1)
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    for rate in (0.0, -1e-9, -1e-3):
        o, _ = la.s5(
            one, one, v, torch.full((1, 1), rate, dtype=torch.float64), torch.tensor([0.5], dtype=torch.float64)
        )
        assert float((o - 0.5 * v.cumsum(2)).abs().max()) < 1e-13 + abs(20 * rate)
    z = torch.tensor([0.0099, 0.0101, 1e-9 + 1e-3j, 2.0 + 1j, 1e-2j], dtype=torch.complex128)
    from seqsolve.linear_attention.inputs import discretised_gap

    exact = [complex(sum(x**n / math.factorial(n + 1) for n in range(40))) for x in z.tolist()]
    assert np.allclose(discretised_gap(z).numpy(), exact, rtol=1e-13, atol=0)


@pytest.mark.parametrize("name", la.TABLE)
def test_page_flipping_gives_the_same_answers_with_quadratic_work(name):
    """Any of them may re-read its history for each token: one state at a time, T (T + 1) / 2 steps."""
    from seqsolve.attention import page_flipping

    entry = la.TABLE[name]
    inputs = entry.example(B=2, H=3, T=5, dk=4, dv=4, dtype=torch.float64)
    timed = [n for n, x in inputs.items() if x.ndim >= 3 and x.shape[2] == 5]
    fixed = {n: x for n, x in inputs.items() if n not in timed}
    steps = []

    def step(pair, now, then):
        steps.append(1)
        return entry.function(**dict(zip(timed, then)), **fixed, state=pair and pair[1], form="step")

    y = page_flipping([inputs[n] for n in timed], lambda now: None, step, lambda pair, now: pair[0])
    assert scaled_error(y, entry.function(**inputs)[0]) < 200
    assert len(steps) == 15


@pytest.mark.parametrize("dtype,limit", [(torch.float32, 88.0), (torch.float64, 709.0)])
def test_decays_of_a_selective_scan_are_exponentials_to_the_last_digits(dtype, limit):
    from seqsolve._selective_kernels import selective_scan

    z = torch.linspace(-limit + 1.5, limit, 5001, dtype=dtype)
    special = torch.tensor([0.0, -1e-30, 1e-30, -2 * limit, -torch.inf, limit + 1.0, torch.inf], dtype=dtype)
    z = torch.cat((z, special))[None, None]
    one, none = np.ones((1, 1, 1), z.numpy().dtype), np.zeros((0,) * 4, z.numpy().dtype)
    S, y = np.ones(z.shape, z.numpy().dtype), np.empty(z.shape, z.numpy().dtype)
    zero = np.zeros_like(y)
    selective_scan(one, 0 * one, zero, np.ones_like(y), z.numpy(), S, y, none, 1, 0, 0, z.shape[2])
    expected = np.exp(z.numpy().astype(np.longdouble))
    good = z.numpy() <= limit
    assert np.all(np.isinf(S[~good]))
    error = np.abs(S[good] - expected[good]) / np.maximum(expected[good], np.finfo(S.dtype).tiny)
    assert error.max() < 4 * np.finfo(S.dtype).eps


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")  # torch's own first jvp
def test_torch_func_sees_through_the_selective_scan(rng):
    inputs = la.TABLE["mamba1"].example(T=6, dtype=torch.float64)
    direction = draw(rng, *inputs["dt"].shape)

    def function(dt):
        return la.mamba1(**{**inputs, "dt": dt})[0]

    _, tangent = torch.func.jvp(function, (inputs["dt"],), (direction,))
    near = (function(inputs["dt"] + 1e-6 * direction) - function(inputs["dt"] - 1e-6 * direction)) / 2e-6
    assert float((tangent - near).abs().max()) < 1e-7


def test_overflow_names_its_step(rng):
    q = k = v = torch.ones(1, 1, 60, 1)
    for form in FORMS:
        with pytest.raises(
            FloatingPointError, match=r"mamba1: finite inputs overflow torch.float32 at step 9: the state"
        ):
            la.mamba1(q, k, v, q, torch.full((1, 1), 10.0), form=form)
        with pytest.raises(FloatingPointError, match=r"gla: finite inputs overflow torch.float32 at step 9: the state"):
            la.gla(q, k, v, 10 * q, form=form)
        with pytest.raises(FloatingPointError, match=r"at step 19: .* beta \|k\|\^2 must stay below 2"):
            la.delta(q, 10 * k, v, q[..., 0], form=form)
        with pytest.raises(FloatingPointError, match=r"min_gru: finite inputs overflow torch.float32 at step 0"):
            la.min_gru(4e19 * q, -50 * k, 3e38 * v, state=torch.full((1, 1, 1), 2e38), form=form)
    with pytest.raises(FloatingPointError, match="a normaliser is 0"):
        la.linear(0 * q, k, v, normalize=True, feature_map=None)


def test_a_bad_query_spoils_its_own_output_only(rng):
    for name in ("gla", "mamba1", "delta"):
        inputs = la.TABLE[name].example(H=1, T=6, dtype=torch.float64)
        inputs["q"][0, 0, 2, 1] = np.nan
        hit = torch.isnan(la.TABLE[name].function(**inputs)[0])[0, 0]
        assert hit.any(-1).tolist() == [False, False, True, False, False, False]


def inputs_of(name):
    return la.TABLE[name].example(B=2, H=3, T=11, dtype=torch.float64)


def test_a_missing_argument_is_named():
    x = torch.ones(1, 1, 2, 1)
    with pytest.raises(TypeError, match=r"gated_delta: missing a required argument: 'beta'; it takes \(q"):
        la.gated_delta(x, x, x)


BAD = {
    "form": ("linear", {}, {"form": "fast"}, ValueError, r"form='fast' is unknown; pass one of step, scan, chunk"),
    "chunk": ("linear", {}, {"chunk": 0}, ValueError, r"chunk=0 is less than 1"),
    "feature map": ("linear", {}, {"feature_map": "exp"}, ValueError, r"pass 'elu', None or a function"),
    "state": ("linear", {}, {"state": torch.zeros(2, 3, 4, 9)}, ValueError, r"expected \(2, 3, 4, 4\)"),
    "softmax state": ("rwkv4", {}, {"state": torch.zeros(2)}, ValueError, r"expected SoftmaxState"),
    "time": ("linear", {"q": lambda x: x[:, :, :5]}, {}, ValueError, r"batch and time must be the same"),
    "axes": ("linear", {"k": lambda x: x[0]}, {}, ValueError, r"k has shape \(3, 11, 4\), expected 4 axes"),
    "width": ("linear", {"k": lambda x: x[..., :2]}, {}, ValueError, r"q has width 4, k has width 2"),
    "no width": ("linear", {"v": lambda x: x[..., :0]}, {}, ValueError, r"a head of width 0 holds nothing"),
    "heads": ("linear", {"k": lambda x: x[:, :2]}, {}, ValueError, r"must divide 3"),
    "dtype": ("linear", {"k": lambda x: x.float()}, {}, TypeError, r"use one dtype and one device"),
    "integers": ("linear", {"v": lambda x: x.long()}, {}, TypeError, r"v has dtype torch.int64"),
    "numpy": ("linear", {"v": lambda x: x.numpy()}, {}, TypeError, r"v is a numpy.ndarray"),
    "decay shape": ("gla", {"log_decay": lambda x: x[..., :3]}, {}, ValueError, r"does not broadcast to"),
    "decay type": ("gla", {"log_decay": lambda x: 0.5}, {}, TypeError, r"log_decay is a float"),
    "beta": ("delta", {"beta": lambda x: x.long()}, {}, TypeError, r"beta has dtype torch.int64"),
    "bonus": ("rwkv6", {"bonus": lambda x: x * np.nan}, {}, ValueError, r"bonus holds NaN or infinity"),
    "skip": ("mamba2", {"skip": lambda x: x * np.nan}, {}, ValueError, r"skip holds NaN or infinity"),
    "complex": ("mamba2", {"dt": lambda x: x + 1j}, {}, TypeError, r"dt is complex"),
    "modes": ("lru", {"log_decay": lambda x: -x}, {}, ValueError, r"needs log_decay <= 0"),
    "maps": ("lru", {"q": lambda x: x[0]}, {}, ValueError, r"expected a map of 3 axes"),
    "widths": ("min_gru", {"k": lambda x: x[..., :2]}, {}, ValueError, r"channel by channel and needs one width"),
}


@pytest.mark.parametrize("case", BAD)
def test_misuse_is_answered_with_a_sentence(case):
    name, changes, options, error, sentence = BAD[case]
    inputs = inputs_of(name)
    for key, change in changes.items():
        inputs[key] = change(inputs[key])
    with pytest.raises(error, match=sentence):
        la.TABLE[name].function(**inputs, **options)


def test_long_heads_are_scanned_one_by_one_with_the_same_numbers():
    given = la.TABLE["min_gru"].example(B=2, H=2, T=300, dk=64, dv=64, dtype=torch.float64)
    found, state = la.min_gru(**given)
    followed, _ = la.min_gru(given["q"], given["k"], given["v"].clone().requires_grad_())
    expected, last = la.min_gru(**given, form="step")
    for o in (found, followed.detach()):
        torch.testing.assert_close(o, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(state, last, rtol=1e-12, atol=1e-12)
