"""Short calls are those of torch bit for bit, with the report of any other, and whatever changes is seen."""

import itertools

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.utils import parametrizations

import seqsolve as sq
from seqsolve.handover import Handed

MODULES = [
    (nn.RNN, {}),
    (nn.RNN, {"nonlinearity": "relu"}),
    (nn.GRU, {}),
    (nn.LSTM, {}),
    (nn.LSTM, {"proj_size": 3}),
]
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")


def leaves(result):
    output, state = result
    return [output, *(state if isinstance(state, tuple) else [state])]


def assert_equal(ours, torchs):
    for a, b in zip(leaves(ours), leaves(torchs), strict=True):
        assert a.stride() == b.stride()
        assert torch.equal(a, b)


@pytest.fixture
def generator(rng):
    return torch.Generator().manual_seed(int(rng.integers(2**60)))


@pytest.mark.parametrize("cls, more", MODULES)
def test_short_calls_are_those_of_torch(cls, more, generator, monkeypatch):
    monkeypatch.setattr("seqsolve.handover.shortest", lambda *_: 2)
    for layers, bias, batch_first, both in itertools.product((1, 2), *[(True, False)] * 3):
        module = cls(4, 8, layers, bias=bias, batch_first=batch_first, bidirectional=both, **more)
        fast = sq.parallelize(module)
        x = torch.randn(1, 2, 4, generator=generator).transpose(0, int(batch_first))
        ours, theirs = fast(x), module(x)
        assert isinstance(fast._record, Handed)
        assert_equal(ours, theirs)
        assert_equal(fast(x, ours[1]), module(x, theirs[1]))
        assert isinstance(fast._record, Handed)
        assert fast.report.method == "torch"
        assert "about" in fast.report.explain()


@pytest.mark.parametrize("cls, more", MODULES)
def test_gradients_of_short_calls_are_those_of_torch(cls, more, generator):
    module = cls(4, 8, **more)
    x = torch.randn(2, 3, 4, generator=generator)
    found = []
    for m in (sq.parallelize(module), module):
        loss = sum(t.square().sum() for t in leaves(m(x)))
        found.append(torch.autograd.grad(loss, list(module.parameters())))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_every_change_of_the_weights_is_seen(generator):
    gru = nn.GRU(4, 8)
    fast, x = sq.parallelize(gru), torch.randn(2, 2, 4, generator=generator)
    optimizer = torch.optim.SGD(gru.parameters(), lr=0.1)
    other = {k: v + 0.01 for k, v in gru.state_dict().items()}

    def step():
        optimizer.zero_grad()
        gru(x)[0].sum().backward()
        optimizer.step()

    changes = [
        lambda: gru.weight_hh_l0.data.mul_(0.5),
        lambda: gru.load_state_dict(other),
        step,
        lambda: [setattr(m, "bias_hh_l0", nn.Parameter(torch.full((24,), 0.2))) for m in (gru, fast)],
        lambda: [m._parameters.update(bias_ih_l0=nn.Parameter(torch.full((24,), 0.3))) for m in (gru, fast)],
    ]
    before = fast(x)[0]
    for change in changes:
        change()
        after = fast(x)[0]
        assert not torch.equal(before, after)
        assert_equal(fast(x), gru(x))
        before = after
    doubled = {k: 2 * v for k, v in gru.named_parameters()}
    assert_equal(functional_call(fast, doubled, (x,)), functional_call(gru, doubled, (x,)))
    parametrizations.orthogonal(fast, "weight_hh_l0")
    assert_equal(fast(x), nn.GRU.forward(fast, x))


def test_hooks_autocast_and_transforms_are_those_of_torch(generator):
    gru = nn.GRU(4, 8)
    fast, x, seen = sq.parallelize(gru), torch.randn(1, 2, 4, generator=generator), []
    fast.register_forward_hook(lambda *call: seen.append(call))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_equal(fast(x), gru(x))
    assert len(seen) == 1
    meta = nn.GRU(4, 8, device="meta")
    assert sq.parallelize(meta)(x.to("meta"))[0].shape == (1, 2, 8)


def test_the_report_says_why():
    fast = sq.parallelize(nn.GRU(4, 8))
    fast(torch.ones(1, 2, 4))
    assert isinstance(fast._record, Handed)
    assert "not surely faster here: about" in fast.report.explain()
    assert fast.report.status is sq.Status.TORCH


def test_not_finite_is_reported(generator):
    fast, x = sq.parallelize(nn.LSTM(4, 8)), torch.randn(1, 2, 4, generator=generator)
    fast(x.fill_(torch.nan))
    assert isinstance(fast._record, Handed)
    assert fast.report.status is sq.Status.NONFINITE
    assert not fast.report.certificate.ok


@pytest.mark.parametrize("cls", [nn.RNN, nn.GRU, nn.LSTM])
def test_wrong_arguments_give_the_error_of_torch(cls):
    module = cls(3, 8)
    fast, one = sq.parallelize(module), torch.ones(1, 5, 3)
    bad = torch.ones(1, 4, 8)
    calls = [
        (one[..., :2],), (one.double(),), (one[:0],), (one, (bad, bad) if cls is nn.LSTM else bad),
        (one, bad[0]), (one.long(),), (None,),
    ]  # fmt: skip
    for arguments in calls:
        with pytest.raises(Exception) as theirs:
            module(*arguments)
        with pytest.raises(type(theirs.value)) as ours:
            fast(*arguments)
        assert str(ours.value) == str(theirs.value)
