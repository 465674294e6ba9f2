"""parallelize beside torch for every constructor flag and every way to call it."""

import copy
import io
import itertools
import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence

import seqsolve as sq

MODULES = {
    "rnn": (nn.RNN, {}),
    "relu": (nn.RNN, {"nonlinearity": "relu"}),
    "gru": (nn.GRU, {}),
    "lstm": (nn.LSTM, {}),
    "projected": (nn.LSTM, {"proj_size": 5}),
}
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")


@pytest.fixture
def generator(rng):
    return torch.Generator().manual_seed(int(rng.integers(2**60)))


def make(name, inputs, units, generator, **options):
    cls, more = MODULES[name]
    module = cls(inputs, units, **more, **options)
    with torch.no_grad():
        for p in module.parameters():
            p.uniform_(-(units**-0.5), units**-0.5, generator=generator)
    return module


def draw(generator, *shape, dtype=torch.float32):
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def leaves(result):
    """All tensors of (output, h) or (output, (h, c))."""
    output, state = result
    output = [output.data, output.batch_sizes] if isinstance(output, PackedSequence) else [output]
    return [*output, *(state if isinstance(state, tuple) else [state])]


def assert_same(ours, torchs, tolerance=30):
    for a, b in zip(leaves(ours), leaves(torchs), strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        if a.dtype.is_floating_point and a.numel():
            scale = max(1.0, float(b.abs().max()))
            assert float((a - b).abs().max()) / scale <= tolerance * torch.finfo(a.dtype).eps


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_flag(name, dtype, generator):
    grid = itertools.product((7, 20), (1, 2), (True, False), (True, False), (True, False))
    for units, layers, bias, batch_first, bidirectional in grid:
        module = make(
            name, 3, units, generator, num_layers=layers, bias=bias, batch_first=batch_first,
            bidirectional=bidirectional, dtype=dtype,
        )  # fmt: skip
        fast = sq.parallelize(module, method="sequential", workers=1 + units % 2)
        assert list(fast.state_dict()) == list(module.state_dict())
        with torch.no_grad():
            for shape in ((6, 3), (4, 5, 3), (5, 1, 3)):
                x = draw(generator, *shape, dtype=dtype)
                reference = module(x)
                ours = fast(x)
                assert_same(ours, reference)
                assert ours[0].stride() == reference[0].stride()
                state = reference[1]
                assert_same(fast(x, state), module(x, state))
            for order in (True, False):
                lengths = (6, 3, 2, 1) if order else (3, 1, 6, 2)
                packed = pack_sequence([draw(generator, n, 3, dtype=dtype) for n in lengths], enforce_sorted=order)
                reference = module(packed)
                assert_same(fast(packed), reference)
                assert_same(fast(packed, reference[1]), module(packed, reference[1]))
        assert fast.report.method == "sequential"


def test_the_result_is_the_class_it_replaces_and_shares_its_parameters(generator):
    gru = make("gru", 4, 8, generator)
    fast = sq.parallelize(gru)
    assert isinstance(fast, nn.GRU)
    assert all(a is b for a, b in zip(fast.parameters(), gru.parameters(), strict=True))
    assert repr(fast) == "FusedGRU(4, 8)"
    with pytest.raises(RuntimeError, match="no report before the first call"):
        fast.report
    again = sq.parallelize(fast, method="torch")
    with torch.no_grad():
        assert_same(again(x := draw(generator, 500, 1, 4)), fast(x))
    assert (again.report.method, fast.report.method) == ("torch", "sequential")


def test_changed_weights_are_seen_at_once(generator):
    gru = make("gru", 4, 8, generator)
    fast, x = sq.parallelize(gru, method="sequential"), draw(generator, 40, 2, 4)
    optimizer = torch.optim.SGD(gru.parameters(), lr=0.1)

    def train():
        with torch.enable_grad():
            fast(x)[0].square().sum().backward()
        optimizer.step()

    changes = [
        lambda: gru.weight_hh_l0.data.mul_(0.5),  # bumps no version counter
        lambda: gru.weight_ih_l0.mul_(1.1),
        lambda: gru.bias_ih_l0.data.neg_(),
        lambda: setattr(gru.weight_ih_l0, "data", gru.weight_ih_l0.data * 2),
        lambda: setattr(gru.weight_hh_l0, "data", gru.weight_hh_l0.data.T.contiguous().T.roll(1, 0)),
        train,
        lambda: gru.weight_ih_l0.detach().numpy().__imul__(1.5),
        lambda: gru.load_state_dict({k: v + 0.01 for k, v in gru.state_dict().items()}),
        lambda: setattr(fast, "bias_hh_l0", nn.Parameter(torch.full((24,), 0.2))),
    ]
    with torch.no_grad():
        before = fast(x)[0]
        for change in changes:
            change()
            after = fast(x)[0]
            assert not torch.equal(before, after)
            before = after
        gru.bias_hh_l0 = fast.bias_hh_l0
        assert_same(fast(x), gru(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("units", [9, 70])
def test_one_changed_bit_is_seen_and_a_report_keeps_its_weights(units, dtype, generator):
    gru = make("gru", 4, units, generator, dtype=dtype)
    fast, x = sq.parallelize(gru, method="sequential"), draw(generator, 40, 2, 4, dtype=dtype)
    with torch.no_grad():
        fast(x)
        kept = fast._kept
        fast(x)
        assert fast._kept is kept
        for name, weight in gru.named_parameters():
            flat = weight.data.view(-1)
            flat[-1] = torch.nextafter(flat[-1], flat[-1] + 1)
            fast(x)
            assert fast._kept is not kept, name
            kept = fast._kept
        fast(x)
        assert fast._kept is kept
        lyapunov = fast.report.certificate.lyapunov
        fast(x)
        gru.weight_hh_l0.mul_(50)
        assert fast.report.certificate.lyapunov == lyapunov
        assert "_kept" not in {k for k, v in fast.__getstate__().items() if v is not None}


def test_weights_put_in_from_outside_are_seen_by_the_loop(generator):
    gru = make("gru", 4, 8, generator)
    fast, x = sq.parallelize(gru, method="sequential"), draw(generator, 40, 2, 4)
    with torch.no_grad():
        before = fast(x)
        doubled = {k: 2 * v for k, v in gru.named_parameters()}
        for _ in range(2):
            assert_same(torch.func.functional_call(fast, doubled, (x,)), torch.func.functional_call(gru, doubled, (x,)))
            assert_same(fast(x), before, tolerance=0)


def test_copies_pickles_and_moves(generator):
    fast = sq.parallelize(make("lstm", 4, 8, generator, num_layers=2), method="sequential")
    x = draw(generator, 40, 2, 4)
    with torch.no_grad():
        expected = fast(x)
        buffer = io.BytesIO()
        torch.save(fast, buffer)
        buffer.seek(0)
        for other in (copy.deepcopy(fast), pickle.loads(pickle.dumps(fast)), torch.load(buffer, weights_only=False)):
            assert type(other) is type(fast)
            assert_same(other(x), expected, tolerance=0)
            other.weight_hh_l0.mul_(0)
            assert float(fast.weight_hh_l0.abs().max()) > 0
        double = copy.deepcopy(fast).to(torch.float64)
        assert double(x.double())[0].dtype == torch.float64
        assert_same([t.float() for t in double(x.double())[:1]] + [expected[1]], expected)
        fast.eval()
        assert not fast.training
        assert_same(fast(x), expected, tolerance=0)
    assert isinstance(fast.report, sq.Report)
    assert pickle.loads(pickle.dumps(fast.report)) == fast.report


@pytest.mark.parametrize("name", MODULES)
def test_gradients_are_those_of_torch(name, generator):
    for options in ({}, {"num_layers": 2, "bidirectional": True, "batch_first": True}):
        module = make(name, 3, 6, generator, dtype=torch.float64, **options)
        fast = sq.parallelize(module, method="sequential")
        x = draw(generator, 5, 4, 3, dtype=torch.float64).requires_grad_()
        with torch.no_grad():
            state = module(x)[1]
        states = [t.clone().requires_grad_() for t in (state if isinstance(state, tuple) else [state])]
        hx = tuple(states) if isinstance(state, tuple) else states[0]
        found = []
        for f in (fast, module):
            output, *rest = leaves(f(x, hx))
            loss = (output**2).sum() + sum((k + 2) * t.sin().sum() for k, t in enumerate(rest))
            found.append(torch.autograd.grad(loss, [x, *states, *module.parameters()]))
        for ours, theirs in zip(*found, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-13)


def test_second_derivatives_and_shared_history(generator):
    gru = make("gru", 3, 4, generator, dtype=torch.float64)
    fast = sq.parallelize(gru, method="sequential")
    x = draw(generator, 4, 2, 3, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: fast(x)[0], (x,))
    # an input that was made from a weight must not be counted twice
    found = []
    for f in (fast, gru):
        made = x.detach() * gru.weight_ih_l0.sum()
        found.append(torch.autograd.grad(f(made)[0].sum(), gru.weight_ih_l0)[0])
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_two_hundred_steps_of_training_give_the_losses_of_torch(name, generator):
    module = make(name, 3, 8, generator, dtype=torch.float64)
    x, target = draw(generator, 12, 4, 3, dtype=torch.float64), draw(generator, 12, 4, 8, dtype=torch.float64)
    curves = []
    for wrap in (lambda m: m, lambda m: sq.parallelize(m, method="sequential")):
        f = wrap(copy.deepcopy(module))
        optimizer = torch.optim.SGD(f.parameters(), lr=0.2, momentum=0.5)
        losses = []
        for _ in range(200):
            optimizer.zero_grad()
            loss = ((f(x)[0] - target) ** 2).mean()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        curves.append(losses)
    assert curves[0][-1] < 0.95 * curves[0][0]
    np.testing.assert_allclose(*curves, rtol=1e-10)


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_appears_at_its_step_and_inf_is_treated_as_torch_does(name, bad, generator):
    module = make(name, 3, 9, generator)
    fast = sq.parallelize(module, method="sequential")
    x = draw(generator, 20, 2, 3)
    x[7, 1, 0] = bad
    with torch.no_grad():
        ours, theirs = fast(x)[0], module(x)[0]
    assert torch.isfinite(ours[:7]).all()
    assert torch.isfinite(ours[:, 0]).all()
    assert torch.equal(torch.isnan(ours), torch.isnan(theirs))
    if bad != bad:
        assert torch.isnan(ours[7:, 1]).all()
        assert not fast.report.certificate.ok
        assert fast.report.status is sq.Status.NONFINITE


def test_extreme_states_and_layouts(generator):
    for name in ("rnn", "gru", "lstm"):
        module = make(name, 3, 8, generator)
        fast = sq.parallelize(module, method="sequential")
        x = draw(generator, 3, 30, 6)[..., ::2].transpose(0, 1)
        for size in (1e-30, 1.0, 1e30):
            h = torch.full((1, 3, 8), size)
            state = (h, h) if name == "lstm" else h
            with torch.no_grad():
                ours, theirs = fast(x, state), module(x, state)
            for a, b in zip(leaves(ours), leaves(theirs), strict=True):
                torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32_and_returned_as_given(dtype, generator):
    module = make("gru", 3, 8, generator)
    half = copy.deepcopy(module).to(dtype)
    x = draw(generator, 60, 2, 3).to(dtype)
    with torch.no_grad():
        ours = sq.parallelize(half, method="sequential")(x)
        exact = copy.deepcopy(half).float()(x.float())
    assert ours[0].dtype == ours[1].dtype == dtype
    assert float((ours[0].float() - exact[0]).abs().max()) <= torch.finfo(dtype).eps


def test_what_goes_to_torch_and_why(generator):
    x = draw(generator, 300, 2, 3)
    with torch.no_grad():
        fast = sq.parallelize(make("gru", 3, 8, generator, num_layers=2, dropout=0.5))
        fast(x)
        assert fast.report.method == "sequential"
        assert "faster" in fast.report.reason
        fast = sq.parallelize(make("gru", 3, 8, generator))
        fast(x[:1])
        assert "not surely faster" in fast.report.reason
        with torch.autocast("cpu", dtype=torch.bfloat16):
            fast(x)
        assert fast.report.reason == "autocast is on"
        with pytest.raises(RuntimeError, match="Batching rule not implemented"):  # as torch's own module
            torch.func.vmap(lambda u: fast(u)[0])(x.expand(2, 300, 2, 3))
    insisting = sq.parallelize(make("gru", 3, 8, generator), method="sequential")
    with (
        torch.autocast("cpu", dtype=torch.bfloat16),
        pytest.raises(ValueError, match="method='sequential' cannot run here: autocast is on"),
    ):
        insisting(x)


def test_dropout_in_training_is_that_of_torch(generator):
    module = make("lstm", 3, 8, generator, num_layers=2, dropout=0.5)
    fast, x = sq.parallelize(module), draw(generator, 50, 2, 3)
    with torch.random.fork_rng():
        torch.manual_seed(11)
        ours = fast(x)
        torch.manual_seed(11)
        for a, b in zip(leaves(ours), leaves(module(x)), strict=True):
            assert torch.allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", ["auto", "sequential"])
def test_wrong_arguments_give_the_error_of_torch(method, generator):
    module = make("gru", 3, 8, generator)
    fast = sq.parallelize(module, method=method)
    calls = [
        (torch.ones(4, 5, 2),), (torch.ones(5, 2),), (torch.ones(3),), (torch.ones(0, 5, 3),),
        (torch.ones(1, 2, 3, 3),),
        (torch.ones(400, 5, 3), torch.ones(1, 4, 8)), (torch.ones(400, 5, 3), torch.ones(5, 8)),
        (torch.ones(400, 3), torch.ones(1, 1, 8)), (torch.ones(400, 5, 3).double(),), (np.ones((400, 5, 3)),),
    ]  # fmt: skip
    for arguments in calls:
        with pytest.raises(Exception) as theirs:
            module(*arguments)
        with pytest.raises(type(theirs.value)) as ours:
            fast(*arguments)
        assert str(ours.value) == str(theirs.value)


def test_empty_batch_is_left_to_torch(generator):
    module = make("gru", 3, 8, generator)
    x = torch.ones(5, 0, 3)
    with torch.no_grad():
        assert_same(sq.parallelize(module)(x), module(x))


def test_threads_do_not_change_the_answer(generator, monkeypatch):
    monkeypatch.setattr("seqsolve.cells._WORTH_A_THREAD", 1e-9)
    module = make("lstm", 3, 20, generator, bidirectional=True)
    lengths = torch.tensor([50, 31, 31, 8, 1])
    packed = pack_padded_sequence(draw(generator, 50, 5, 3), lengths)
    outs = []
    with torch.no_grad():
        for workers in (1, 2, 3, 16):
            fast = sq.parallelize(module, method="sequential")
            fast._settings = ("sequential", None)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("torch.get_num_threads", lambda workers=workers: workers)
                outs.append(fast(packed))
    for other in outs[1:]:
        assert_same(other, outs[0], tolerance=0)


def test_reports_know_chaos(generator):
    x = 0.1 * draw(generator, 1000, 1, 32)
    verdicts = []
    with torch.no_grad():
        for gain in (0.5, 3.0):
            fast = sq.parallelize(sq.gallery.tanh_rnn(32, gain, rng=5, dtype=torch.float32))
            fast(x)
            verdicts.append(fast.report)
    calm, wild = verdicts
    assert calm.certificate.ok
    assert calm.certificate.lyapunov < 0
    assert not wild.certificate.ok
    assert wild.status is sq.Status.CHAOTIC
    assert wild.certificate.lyapunov > 0
    assert "chaotic" in wild.explain()


@pytest.mark.parametrize(
    "module, options, error, message",
    [
        (nn.Linear(2, 2), {}, TypeError, "got torch.nn.modules.linear.Linear, which has none"),
        (len, {}, TypeError, "takes a torch module, got builtin_function_or_method"),
        (
            type("Mine", (nn.GRU,), {})(2, 2),
            {},
            TypeError,
            "Mine is a subclass of nn.GRU, whose forward may be another",
        ),
        (nn.GRU(2, 2), {"method": "fast"}, ValueError, "method='fast' is unknown; parallelize takes 'auto'"),
        (nn.GRU(2, 2), {"workers": 0}, ValueError, "workers=0 asks for no thread"),
    ],
)
def test_what_parallelize_refuses(module, options, error, message):
    with pytest.raises(error, match=message):
        sq.parallelize(module, **options)
