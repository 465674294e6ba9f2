"""parallelize of whole models: a copy, the same parameters, everything recurrent replaced, a report for each part."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence

import seqsolve as sq


class Model(nn.Module):
    """A user's model: a shared GRU that a plain list also holds, an LSTM, a cell in a loop, dropout, a buffer."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(3, 8)
        self.gru = nn.GRU(8, 8, num_layers=2, bidirectional=False, dropout=0.4)
        self.again = self.gru
        self.listed = [self.gru]
        self.rnn = nn.ModuleDict({"up": nn.RNN(8, 4, bidirectional=True, batch_first=False)})
        self.cell = nn.GRUCell(8, 8)
        self.register_buffer("scale", torch.tensor(1.5))

    def forward(self, x):
        y, _ = self.gru(self.embed(x))
        y, _ = self.listed[0](y)
        y, _ = self.rnn["up"](self.scale * self.again(y)[0])
        h = torch.zeros_like(y[0])
        for step in y[-3:]:
            h = self.cell(step, h)
        return y, h


class Altered(nn.GRU):
    """A subclass whose forward is another one."""

    def forward(self, input, hx=None):
        output, state = super().forward(2 * input, hx)
        return -output, state


@pytest.fixture
def model(rng):
    generator = torch.Generator().manual_seed(int(rng.integers(2**60)))
    module = Model()
    with torch.no_grad():
        for p in module.parameters():
            p.uniform_(-0.4, 0.4, generator=generator)
    return module


@pytest.fixture
def x(rng):
    return torch.from_numpy(rng.standard_normal((120, 2, 3))).float()


def assert_equal_outputs(a, b):
    for ours, theirs in zip(a, b, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-6)


def test_a_model_is_copied_and_its_recurrent_parts_are_replaced(model, x):
    fast = sq.parallelize(model.eval())
    assert type(fast) is Model
    assert fast is not model
    assert list(fast.state_dict()) == list(model.state_dict())
    assert all(a is b for a, b in zip(fast.parameters(), model.parameters(), strict=True))
    assert all(a is b for a, b in zip(fast.buffers(), model.buffers(), strict=True))
    assert fast.gru is fast.again
    assert fast.gru is fast.listed[0]
    assert type(model.gru) is nn.GRU
    with torch.no_grad():
        assert_equal_outputs(fast(x), model(x))
    assert set(fast.report.parts) == {"gru", "rnn.up"}
    assert fast.report.parts["gru"].method == "sequential"
    assert fast.report.method == "sequential"
    assert fast.report.certificate.ok
    assert fast.report.status is sq.Status.SEQUENTIAL
    text = fast.report.explain()
    assert "rnn.up:\n  method: sequential" in text
    assert "cell: left as it is (a cell is called once a step by a loop in Python" in text


def test_training_goes_through_the_copy(model, x):
    fast = sq.parallelize(model)
    assert fast.training
    with torch.random.fork_rng():
        torch.manual_seed(19)
        ours = fast(x)
        torch.manual_seed(19)
        assert_equal_outputs(ours, model(x))
    assert fast.report.parts["gru"].method == "sequential"
    sum(y.square().sum() for y in fast.eval()(x)).backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    sum(y.square().sum() for y in model.eval()(x)).backward()
    for name, p in model.named_parameters():
        torch.testing.assert_close(found[name], p.grad, rtol=1e-4, atol=1e-4)


def test_copies_pickles_dtypes_and_state_dicts(model, x):
    fast = sq.parallelize(model.eval())
    with pytest.raises(RuntimeError, match="no report before the first call"):
        fast.report.method
    with torch.no_grad():
        expected = fast(x)
        for other in (copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))):
            assert other.report.parts == {"gru": None, "rnn.up": None}
            assert_equal_outputs(other(x), expected)
            assert other.report.method == "sequential"
            assert other.gru is other.listed[0]
            other.gru.weight_hh_l0.mul_(0)
        assert_equal_outputs(fast(x), expected)
        fast.load_state_dict({k: 0.5 * v for k, v in model.state_dict().items()})
        assert_equal_outputs(fast(x), model(x))
        double = copy.deepcopy(fast).double()
        assert double(x.double())[0].dtype == torch.float64
        again = sq.parallelize(fast, method="torch")
        again(x)
        assert again.report.method == "torch"
        assert fast.report.method == "sequential"


def test_autocast_and_compile_are_those_of_torch(model, x):
    fast = sq.parallelize(model.eval())
    with torch.no_grad():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert all(torch.equal(a, b) for a, b in zip(fast(x), model(x), strict=True))
        assert fast.report.parts["gru"].reason == "autocast is on"
        compiled = torch.compile(fast, backend="eager")
        assert_equal_outputs(compiled(x), model(x))
        single = torch.compile(sq.parallelize(model.gru), backend="eager")
        assert_equal_outputs(single(model.embed(x)), model.gru(model.embed(x)))


def test_hooks_and_packed_sequences_reach_the_replacement(rng):
    whole = nn.Sequential(nn.GRU(2, 8))
    calls = []
    whole[0].register_forward_hook(lambda module, args, output: calls.append(type(module).__name__))
    fast = sq.parallelize(whole, method="sequential")
    packed = pack_sequence([torch.ones(n, 2) for n in (1, 4, 1)], enforce_sorted=False)
    with torch.no_grad():
        ours, theirs = fast(packed), whole(packed)
    torch.testing.assert_close(ours[0].data, theirs[0].data, rtol=0, atol=1e-6)
    assert calls == ["FusedGRU", "GRU"]


def test_subclasses_are_left_alone_and_the_report_says_so(x):
    whole = nn.ModuleDict({"mine": Altered(3, 4), "plain": nn.GRU(4, 4)})
    fast = sq.parallelize(whole)
    assert type(fast["mine"]) is Altered
    assert type(fast["plain"]).__name__ == "FusedGRU"
    with torch.no_grad():
        fast["plain"](fast["mine"](x)[0])
    assert "Altered is a subclass of nn.GRU, whose forward may be another one" in fast.report.left["mine"]
    assert "mine: left as it is" in fast.report.explain()
    assert repr(fast.report) == "Parts({'plain': 'sequential'}, left=['mine'])"


def test_the_worst_part_decides_about_the_whole(rng):
    calm = sq.gallery.torch_init("gru", 3, 32, rng=9)
    wild = sq.gallery.tanh_rnn(32, 3.0, rng=5, dtype=torch.float32)
    fast = sq.parallelize(nn.ModuleList([calm, wild]), method="sequential")
    with torch.no_grad():
        fast[1](0.3 * fast[0](torch.from_numpy(rng.standard_normal((400, 1, 3))).float())[0])
    assert fast.report.parts["0"].certificate.ok
    assert not fast.report.parts["1"].certificate.ok
    assert not fast.report.certificate.ok
    assert fast.report.status is fast.report.parts["1"].status


def test_a_report_of_the_users_own_stays():
    class Reporting(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru = nn.GRU(2, 2)

        def report(self):
            return "mine"

    fast = sq.parallelize(Reporting())
    assert fast.report() == "mine"


@pytest.mark.parametrize(
    "module, message",
    [
        (nn.Sequential(nn.Linear(2, 2)), "or a module that contains them, got torch.nn.modules.container.Sequential"),
        (nn.Sequential(nn.GRUCell(2, 2)), "0: a cell is called once a step by a loop in Python"),
        (nn.Sequential(Altered(2, 2)), "0: Altered is a subclass of nn.GRU"),
    ],
)
def test_what_holds_nothing_to_replace_is_refused(module, message):
    with pytest.raises(TypeError, match=message):
        sq.parallelize(module)


def test_what_cannot_be_copied_is_refused():
    module = nn.Sequential(nn.GRU(2, 2))
    module.stream = (k for k in range(3))
    with pytest.raises(TypeError, match=r"holds something that cannot be copied .*module\.gru = parallelize"):
        sq.parallelize(module)
