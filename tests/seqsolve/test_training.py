"""The backward pass of whole modules is that of torch, for every flag and every way to call them, and is our own."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence

import seqsolve as sq

from .test_cell_gradient import largest_error
from .test_recurrent import MODULES, draw, leaves, make

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")


@pytest.fixture
def generator(rng):
    return torch.Generator().manual_seed(int(rng.integers(2**60)))


@pytest.fixture
def never_torch(monkeypatch):
    """torch's own module may not be run for a gradient."""

    def refuse(*_):
        raise AssertionError("the backward pass was left to torch")

    monkeypatch.setattr("seqsolve.calls.Call.replay", refuse)


def state_of(module, batch, generator, dtype):
    tracks = module.num_layers * (2 if module.bidirectional else 1)
    sizes = [module.proj_size or module.hidden_size, module.hidden_size][: 1 + (module.mode == "LSTM")]
    states = [draw(generator, tracks, batch, n, dtype=dtype).requires_grad_() for n in sizes]
    return states, tuple(states) if len(states) == 2 else states[0]


def weighted(result, seed=5):
    """A loss of all that a module returned, every number with a weight of its own."""
    total = 0.0
    for k, t in enumerate(t for t in leaves(result) if t.is_floating_point()):
        weight = torch.randn(t.shape, generator=torch.Generator().manual_seed(seed + k), dtype=torch.float64)
        total = total + (t.double() * weight).sum()
    return total


def gradients(run, x, hx, wanted, loss=weighted):
    result = run(x) if hx is None else run(x, hx)
    return torch.autograd.grad(loss(result), wanted, allow_unused=True, retain_graph=True)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", MODULES)
def test_every_flag(name, bias, generator, never_torch):
    dtype = torch.float64
    for units, layers, batch_first, bidirectional in itertools.product((7, 12), (1, 2), (True, False), (True, False)):
        module = make(
            name, 3, units, generator, num_layers=layers, bias=bias, batch_first=batch_first,
            bidirectional=bidirectional, dtype=dtype,
        )  # fmt: skip
        fast = sq.parallelize(module, method="sequential")
        inputs = [draw(generator, 6, 5, 3, dtype=dtype).requires_grad_()]
        pieces = [draw(generator, n, 3, dtype=dtype).requires_grad_() for n in (3, 1, 6, 2, 6)]
        inputs.append(pack_sequence(pieces, enforce_sorted=False))
        for x in inputs:
            sources = pieces if isinstance(x, PackedSequence) else [x]
            batch = 5 if isinstance(x, PackedSequence) or not batch_first else 6
            states, hx = state_of(module, batch, generator, dtype)
            for state in (None, hx):
                wanted = [*sources, *module.parameters(), *(states if state is not None else [])]
                ours, theirs = (gradients(run, x, state, wanted) for run in (fast, module))
                assert largest_error(ours, theirs) < 1e-12


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("units", [1, 20, 70])
def test_float32_against_float64(name, units, generator, never_torch):
    if name == "projected":
        units = max(units, 6)
    module = make(name, 3, units, generator, num_layers=2, dtype=torch.float64)
    x = draw(generator, 80, 3, 3, dtype=torch.float64).requires_grad_()
    truth = gradients(module, x, None, [x, *module.parameters()])
    fast, x = sq.parallelize(module.float(), method="sequential"), x.detach().float().requires_grad_()
    assert largest_error(gradients(fast, x, None, [x, *module.parameters()]), truth) < 3e-5


@pytest.mark.parametrize("name", ["rnn", "gru", "lstm", "projected"])
def test_dropout_draws_as_torch_does(name, generator):
    module = make(name, 3, 8, generator, num_layers=3, dropout=0.4, bidirectional=True, dtype=torch.float64)
    fast = sq.parallelize(module, method="sequential")
    packed = pack_sequence([draw(generator, n, 3, dtype=torch.float64) for n in (7, 5, 1)])
    for x in (draw(generator, 12, 4, 3, dtype=torch.float64), packed):
        found, second = [], []
        for run in (fast, module):
            with torch.random.fork_rng():
                torch.manual_seed(11)
                first = torch.autograd.grad(weighted(run(x)), list(module.parameters()), create_graph=True)
                torch.manual_seed(11)
                found.append(torch.autograd.grad(weighted(run(x)), list(module.parameters())))
            assert largest_error(found[-1], [g.detach() for g in first]) < 1e-12
            second.append(torch.autograd.grad(sum(g.square().sum() for g in first), list(module.parameters())))
        assert largest_error(*found) < 1e-12
        assert largest_error(*second) < 1e-11
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(12)
            ours = fast(x)
            torch.manual_seed(12)
            assert largest_error(leaves(ours), leaves(module(x))) < 1e-13
            assert largest_error(leaves(fast.eval()(x)), leaves(module.eval()(x))) < 1e-13
        fast.train(), module.train()


@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
def test_a_loop_over_a_cell(kind, rng, never_torch):
    cell = {"rnn": nn.RNNCell, "gru": nn.GRUCell, "lstm": nn.LSTMCell}[kind](3, 6, dtype=torch.float64)
    fast = sq.parallelize(cell, method="sequential")
    x = torch.from_numpy(rng.standard_normal((20, 4, 3))).requires_grad_()
    h = torch.from_numpy(rng.standard_normal((4, 6))).requires_grad_()
    c = torch.from_numpy(rng.standard_normal((4, 6))).requires_grad_()
    states, hx = ([h, c], (h, c)) if kind == "lstm" else ([h], h)
    weight = torch.from_numpy(rng.standard_normal((20, 4, 6)))
    found = []
    for loop in (False, True):
        output, last = [], hx
        if loop:
            for u in x:
                last = cell(u, last)
                output.append(last[0] if kind == "lstm" else last)
            output = torch.stack(output)
        else:
            output, last = fast(x, hx)
        ends = sum((k + 1) * t.sin().sum() for k, t in enumerate(last if kind == "lstm" else [last]))
        found.append(torch.autograd.grad((output * weight).sum() + ends, [x, *states, *cell.parameters()]))
    assert largest_error(*found) < 1e-12


@pytest.mark.parametrize("name", MODULES)
def test_threads_and_windows_change_nothing(name, generator, monkeypatch):
    module = make(name, 3, 9, generator, num_layers=2, bidirectional=True, dtype=torch.float64)
    x = draw(generator, 40, 11, 3, dtype=torch.float64).requires_grad_()
    wanted, found = [x, *module.parameters()], []
    monkeypatch.setattr("seqsolve.cell_gradient._WORTH_A_THREAD", 1e-12)
    monkeypatch.setattr("seqsolve.cells._WORTH_A_THREAD", 1e-12)
    for workers in (1, 2, 3):
        fast = sq.parallelize(module, method="sequential", workers=workers)
        found.append(gradients(fast, x, None, wanted))
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))
    monkeypatch.setattr("seqsolve.cell_gradient._WINDOW", 500)
    monkeypatch.setattr("seqsolve.cell_gradient._FEWEST", 30)  # a few steps each
    assert largest_error(gradients(fast, x, None, wanted), found[0]) < 1e-13


@pytest.mark.parametrize("name", ["gru", "lstm", "projected"])
def test_only_what_is_wanted_and_asked(name, generator, never_torch):
    module = make(name, 3, 6, generator, num_layers=2, bidirectional=True, dtype=torch.float64)
    fast = sq.parallelize(module, method="sequential")
    x = draw(generator, 9, 4, 3, dtype=torch.float64).requires_grad_()
    states, hx = state_of(module, 4, generator, torch.float64)
    everything = [x, *states, *module.parameters()]
    parts = [  # of the result: the output alone, the last h alone, the last c alone
        lambda r: weighted((*r[:1], torch.zeros(0))),
        lambda r: weighted((torch.zeros(0), leaves(r)[1])),
        lambda r: weighted((torch.zeros(0), leaves(r)[-1])),
    ]
    for loss in parts:
        truth = gradients(module, x, hx, everything, loss)
        assert largest_error(gradients(fast, x, hx, everything, loss), truth) < 1e-12
    whole = gradients(module, x, hx, everything)
    for leaf, known in zip(everything, whole, strict=True):
        for other in everything:
            other.requires_grad_(other is leaf)
        assert largest_error(gradients(fast, x, hx, [leaf]), [known]) < 1e-12


def test_twice_through_one_graph(generator, never_torch):
    module = make("lstm", 3, 5, generator, dtype=torch.float64)
    loss = weighted(sq.parallelize(module, method="sequential")(draw(generator, 9, 2, 3, dtype=torch.float64)))
    first, second = (torch.autograd.grad(loss, list(module.parameters()), retain_graph=k == 0) for k in (0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        loss.backward()


@pytest.mark.parametrize("scale", [1e-200, 1e200])
@pytest.mark.parametrize("name", MODULES)
def test_losses_of_any_scale(name, scale, generator, never_torch):
    module = make(name, 3, 6, generator, dtype=torch.float64)
    fast, x = sq.parallelize(module, method="sequential"), draw(generator, 9, 2, 3, dtype=torch.float64)
    wanted = list(module.parameters())
    found = [gradients(run, x, None, wanted, lambda r: scale * weighted(r)) for run in (fast, module)]
    assert all(torch.isfinite(g).all() for g in found[0])
    assert largest_error(*([g / scale for g in part] for part in found)) < 1e-12


@pytest.mark.parametrize("name", MODULES)
def test_what_is_not_finite_has_the_gradient_of_torch(name, generator):
    module = make(name, 3, 6, generator, dtype=torch.float64)
    fast, x = sq.parallelize(module, method="sequential"), draw(generator, 9, 2, 3, dtype=torch.float64)
    x[5, 1, 0] = float("nan")
    x.requires_grad_()
    ours, theirs = (gradients(run, x, None, [x, *module.parameters()]) for run in (fast, module))
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(torch.isnan(a), torch.isnan(b))
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-13, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_differentiated_in_float32(dtype, generator, never_torch):
    module = make("lstm", 3, 8, generator, num_layers=2).to(dtype)
    x = draw(generator, 30, 2, 3).to(dtype).requires_grad_()
    ours = gradients(sq.parallelize(module, method="sequential"), x, None, [x, *module.parameters()])
    assert all(g.dtype == dtype for g in ours)
    exact = module.float()
    x = x.detach().float().requires_grad_()
    truth = gradients(exact, x, None, [x, *exact.parameters()])
    assert largest_error([g.float() for g in ours], truth) < 8 * torch.finfo(dtype).eps


def test_frozen_weights_and_tied_ones(generator, never_torch):
    module = make("gru", 5, 5, generator, num_layers=2, dtype=torch.float64)
    fast, x = sq.parallelize(module, method="sequential"), draw(generator, 9, 2, 5, dtype=torch.float64)
    module.weight_ih_l1 = module.weight_ih_l0  # one matrix in both layers
    fast.weight_ih_l1 = fast.weight_ih_l0
    module.bias_hh_l0.requires_grad_(False)
    wanted = [p for p in module.parameters() if p.requires_grad]
    assert largest_error(*(gradients(run, x, None, wanted) for run in (fast, module))) < 1e-12


def test_an_input_that_changes_before_the_backward_pass_is_an_error(generator):
    module = make("gru", 3, 5, generator, dtype=torch.float64)
    x = draw(generator, 9, 2, 3, dtype=torch.float64)
    loss = weighted(sq.parallelize(module, method="sequential")(x))
    x.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
