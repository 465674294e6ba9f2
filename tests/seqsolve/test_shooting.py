"""Chunks beside the loop: the same states where the recurrence forgets, and no claim where it does not."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import seqsolve as sq
from seqsolve import shooting
from seqsolve.pace import Pace
from seqsolve.recurrence import as_recurrence


@pytest.fixture(autouse=True)
def no_graph():
    with torch.no_grad():
        yield


def tensor(rng, *shape, dtype=torch.float64):
    return torch.from_numpy(rng.standard_normal(shape)).to(dtype)


def coupled(rng, n, gain, dtype=torch.float64):
    A = tensor(rng, n, n, dtype=dtype)
    A *= gain / torch.linalg.matrix_norm(A, 2)
    return lambda x, u: torch.tanh(x @ A.T + u)


def loop(step, x, inputs):
    out = []
    for u in inputs:
        x = step(x, u)
        out.append(x)
    return torch.stack(out) if out else torch.empty((0, *x.shape), dtype=x.dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch", [(), (3,), (2, 2)])
def test_a_step_that_forgets(batch, dtype, rng):
    step = coupled(rng, 4, 0.4, dtype)
    x0, u = 5 * tensor(rng, *batch, 4, dtype=dtype), tensor(rng, 1203, *batch, 4, dtype=dtype)
    solution = sq.solve(step, x0, u, method="shooting")
    assert solution.ok
    assert solution.status is sq.Status.CONVERGED
    assert solution.certificate.kind == "seam"
    assert 0 <= solution.certificate.seam <= 32 * torch.finfo(dtype).eps
    assert "chunks of" in solution.explain()
    assert solution.sweeps == 2
    error = float((solution.states - loop(step, x0, u)).abs().max())
    assert error <= 2 * solution.certificate.bound + torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("batch", [(), (3,), (2, 9)])
def test_known_cells(kind, batch, dtype, rng):
    module = sq.gallery.torch_init(kind, 3, 5, rng=rng, dtype=dtype).requires_grad_(False)
    n = 10 if kind == "lstm" else 5
    x0, u = tensor(rng, *batch, n, dtype=dtype), tensor(rng, 1900, *batch, 3, dtype=dtype)
    solution = sq.solve(module, x0, u, method="shooting")
    ordered = sq.solve(module, x0, u, method="sequential")
    assert solution.ok
    if batch != (2, 9):  # a batch fills the registers without chunks
        assert solution.certificate.kind == "seam"
    slack = 1e-6 if dtype == torch.float32 else 0.0
    assert float((solution.states - ordered.states).abs().max()) <= solution.certificate.bound + slack
    assert solution.repaired == 0


@pytest.mark.parametrize("T", [0, 1, 2, 3, 7, 40, 161])
def test_short_sequences_are_made_in_order(T, rng):
    step = coupled(rng, 3, 0.2)
    x0, u = tensor(rng, 3), tensor(rng, T, 3)
    for window in ("auto", 1, 5, 1000):
        solution = sq.solve(step, x0, u, method="shooting", window=window)
        assert solution.ok
        ended = ("EMPTY",) if T == 0 else ("SEQUENTIAL", "CONVERGED", "REPAIRED")
        assert solution.status.name in ended
        assert torch.equal(solution.states, loop(step, x0, u)) or solution.status.name in ended[1:]
        assert torch.allclose(solution.states, loop(step, x0, u), rtol=0, atol=1e-13)
    empty = sq.solve(step, tensor(rng, 0, 3), tensor(rng, T, 0, 3), method="shooting")
    assert empty.states.shape == (T, 0, 3)


def test_what_does_not_forget_is_made_in_order(rng):
    """Multistable, conservative and chaotic recurrences: pairs do not meet, and nothing else is tried."""
    u = torch.zeros(3000, 2).double()
    turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]]).double()
    for step in (lambda x, u: torch.tanh(2 * x + u), lambda x, u: x @ turn.T, lambda x, u: 3.99 * x * (1 - x) + u):
        x0 = torch.tensor([0.3, 0.4]).double()
        solution = sq.solve(step, x0, u, method="shooting")
        assert solution.certificate.kind == "exact sequential"
        assert "did not promise to meet within 150 steps" in solution.reason
        assert torch.equal(solution.states, loop(step, x0, u))
        kept = sq.solve(step, x0, u, method="shooting", on_fail="return")
        assert not kept.ok
        assert kept.status is sq.Status.DIVERGED
        with pytest.raises(sq.ConvergenceError, match="did not meet the tolerance"):
            sq.solve(step, x0, u, method="shooting", on_fail="raise")


def latch(x, u):
    """Forgets while u[0] is 0; remembers which of two states it is in while u[0] is 1."""
    return torch.tanh(torch.where(u[..., :1] > 0.5, 3.0, 0.2) * x + u[..., 1:])


@pytest.mark.parametrize("begin", [260, 735, 1690])
def test_a_stretch_that_remembers_is_found_and_repaired(begin):
    """The probes are placed where it forgets; the seams inside the latch are not closed, which each seam tells."""
    u = torch.zeros(4000, 2).double()
    u[begin + 10 : begin + 310, 0] = 1
    u[begin + 5 : begin + 10, 1] = 2.0 if begin != 735 else -2.0
    x0 = torch.zeros(1).double()
    truth = loop(latch, x0, u)
    assert float(truth[begin + 200].abs()) > 0.9
    solution = sq.solve(latch, x0, u, method="shooting", window=50)
    assert solution.certificate.kind == "seam", solution.explain()
    assert solution.repaired >= 3
    assert solution.status is sq.Status.REPAIRED
    assert solution.ok
    assert float((solution.states - truth).abs().max()) < 1e-12


def test_both_attractors_are_never_mixed():
    """A latch that starts from zero stays at zero: only the true end of the chunk before tells which side it is on."""
    u = torch.zeros(2000, 2).double()
    u[950:1050, 0] = 1
    u[940:950, 1] = -1.0
    problem = as_recurrence(latch, torch.zeros(1).double(), u)
    states = torch.empty(2000, 1).double()
    flow = shooting.flow_of(problem, states, 1)
    found = shooting.shoot(flow, problem.x0, 1e-14, length=100)
    truth = loop(latch, problem.x0, u)
    assert not found.abandoned
    assert found.repaired == 1
    assert max(found.gaps) > 0.5
    assert found.seam <= 1e-14
    assert float((states - truth).abs().max()) < 1e-13
    open_seams = shooting.shoot(flow, problem.x0, 1e-14, length=100, repair=False)
    assert open_seams.failed >= 1
    assert open_seams.seam > 0.5


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", [0, 555, 1999])
def test_bad_numbers_appear_from_exactly_their_step_on(bad, where, rng):
    A = 0.3 * torch.eye(3).double()
    x0, u = tensor(rng, 3), tensor(rng, 2000, 3)
    u[where, 1] = bad
    cells = {"rnn": 6, "gru": 6, "lstm": 12}
    steps = [(lambda x, u: x @ A.T + u, x0), (lambda x, u: torch.tanh(x @ A.T + u), x0)]
    steps += [
        (sq.gallery.torch_init(k, 3, 6, rng=rng, dtype=torch.float64).requires_grad_(False), torch.zeros(n).double())
        for k, n in cells.items()
    ]
    for step, start in steps:
        solution = sq.solve(step, start, u, method="shooting")
        ordered = sq.solve(step, start, u, method="sequential")
        assert torch.equal(torch.isfinite(solution.states), torch.isfinite(ordered.states))
        good = torch.isfinite(ordered.states)
        assert torch.allclose(solution.states[good], ordered.states[good], rtol=0, atol=1e-12)
        assert solution.ok == ordered.ok


def test_a_guess_starts_the_chunks(rng):
    step = coupled(rng, 4, 0.9)
    x0, u = tensor(rng, 4), tensor(rng, 4000, 4)
    truth = loop(step, x0, u)
    solution = sq.solve(step, x0, u, method="shooting", window=100, guess=truth)
    assert solution.ok
    assert solution.certificate.seam < 1e-14
    assert solution.repaired == 0
    assert float((solution.states - truth).abs().max()) < 1e-13


def test_the_gradient_is_the_implicit_one(rng):
    x0, u = tensor(rng, 3), tensor(rng, 900, 3)
    with torch.enable_grad():
        grads = []
        for method in ("sequential", "shooting"):
            A = (0.2 * torch.eye(3).double() + 0.1).requires_grad_()
            start = x0.clone().requires_grad_()
            solution = sq.solve(lambda x, u, A=A: torch.tanh(x @ A.T + u), start, u, method=method)
            grads.append(torch.autograd.grad(solution.states.square().sum(), (A, start)))
    for one, other in zip(*grads):
        assert torch.allclose(one, other, rtol=1e-11, atol=1e-13)


def test_half_precision_and_numpy(rng):
    step = coupled(rng, 3, 0.4, torch.float32)
    x0, u = tensor(rng, 3, dtype=torch.bfloat16), tensor(rng, 900, 3, dtype=torch.bfloat16)
    solution = sq.solve(step, x0, u, method="shooting")
    assert solution.states.dtype == torch.bfloat16
    assert solution.certificate.kind == "seam"
    arrays = sq.solve(step, x0.float().numpy(), u.float().numpy(), method="shooting")
    assert isinstance(arrays.states, np.ndarray)


def test_one_answer_for_any_number_of_threads(rng):
    module = sq.gallery.torch_init("gru", 3, 6, rng=rng).requires_grad_(False)
    u, found, before = tensor(rng, 9000, 3, dtype=torch.float32), [], torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(sq.solve(module, torch.zeros(6), u, method="shooting").states)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_shooting_has_no_sweeps_to_count(rng):
    with pytest.raises(ValueError, match="makes no sweeps that model_sweeps= could count"):
        sq.solve(coupled(rng, 3, 0.4), tensor(rng, 3), tensor(rng, 90, 3), method="shooting", model_sweeps=2)


def test_the_diagnosis_predicts_it_and_auto_takes_it(rng, monkeypatch):
    monkeypatch.setattr("seqsolve.lanes.pace", lambda flow, _: Pace(flow.seconds, flow.seconds / 8))
    step, x0, u = coupled(rng, 4, 0.3), tensor(rng, 4), tensor(rng, 3000, 4)
    d = sq.diagnose(step, x0, u)
    assert d.predictions["shooting"].complete
    assert d.predictions["shooting"].seconds < d.predictions["sequential"].seconds
    slow = sq.diagnose(lambda x, u: 0.999 * x + u, x0, u)
    assert not slow.predictions["shooting"].complete
    module = sq.gallery.torch_init("gru", 4, 4, rng=rng, dtype=torch.float64).requires_grad_(False)
    assert sq.solve(module, x0, u[:300]).method == "sequential"
    long = sq.solve(module, x0, tensor(rng, 60_000, 4))
    assert long.method == "shooting"
    assert long.ok


@given(st.floats(0.1, 4), st.integers(1, 5), st.integers(0, 900), st.booleans(), st.integers(1, 2**32 - 1))
def test_never_ok_and_wrong(gain, n, T, single, seed):
    rng = np.random.default_rng(seed)
    dtype = torch.float32 if single else torch.float64
    module = sq.gallery.tanh_rnn(n, gain, rng=seed, dtype=dtype).requires_grad_(False)
    exact = sq.gallery.tanh_rnn(n, gain, rng=seed).double().requires_grad_(False)
    x0, u = tensor(rng, n), 0.5 * tensor(rng, T, n)
    A = exact.get_parameter("weight_hh_l0")
    if dtype == torch.float32:
        A = module.get_parameter("weight_hh_l0").double()
        exact.load_state_dict({"weight_ih_l0": torch.eye(n), "weight_hh_l0": A})
    truth = sq.solve(exact, x0.to(dtype).double(), u.to(dtype).double(), method="sequential").states
    user = A.to(dtype)
    for step in (module, lambda x, v: torch.tanh(x @ user.T + v)):
        solution = sq.solve(step, x0.to(dtype), u.to(dtype), method="shooting", window=[60, "auto"][seed % 2])
        if T and solution.ok:
            assert float((solution.states.double() - truth).abs().max()) < 1e-4


@pytest.mark.parametrize("options", [{}, {"bidirectional": True}, {"num_layers": 2, "batch_first": True}])
@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
def test_drop_ins_in_chunks(kind, options, rng):
    module = sq.gallery.torch_init(kind, 3, 5, rng=rng, **options).requires_grad_(False)
    x = tensor(rng, 2, 1500, 3, dtype=torch.float32)
    x = x if "batch_first" in options else x.transpose(0, 1)
    tracks = 2 if options else 1
    h = 0.5 * tensor(rng, tracks, 2, 5, dtype=torch.float32)
    h = (h, -h) if kind == "lstm" else h
    fast = sq.parallelize(module, method="shooting")
    for state in (None, h):
        y, end = fast(x, state)
        wanted, last = module(x, state)
        assert float((y - wanted).abs().max()) < 2e-6
        for one, other in zip(*(e if kind == "lstm" else (e,) for e in (end, last))):
            assert float((one - other).abs().max()) < 4e-6
        report = fast.report
        assert report.method == "shooting"
        assert report.certificate.kind == "seam"
        assert report.certificate.ok
        assert report.certificate.seam <= 8 * 1.2e-7
        assert report.status is sq.Status.CONVERGED
        assert "chunks of" in report.explain()


def test_drop_ins_that_remember_or_cannot_be_cut(rng):
    module = sq.gallery.multistable_rnn(5, rng=rng, dtype=torch.float32).requires_grad_(False)
    x = 0.1 * tensor(rng, 1500, 5, dtype=torch.float32)
    fast = sq.parallelize(module, method="shooting")
    assert torch.equal(fast(x)[0], sq.parallelize(module, method="sequential")(x)[0])
    assert fast.report.method == "sequential"
    assert fast.report.certificate.kind == "exact sequential"
    assert "did not promise to meet" in fast.report.reason
    gru = sq.gallery.torch_init("gru", 5, 4, rng=rng).requires_grad_(False)
    packed = torch.nn.utils.rnn.pack_sequence([x, x[:900]])
    fast = sq.parallelize(gru, method="shooting")
    assert float((fast(packed)[0].data - gru(packed)[0].data).abs().max()) < 1e-6
    assert fast.report.method == "sequential"
    x[700, 2] = float("nan")
    assert torch.equal(torch.isnan(fast(x)[0]), torch.isnan(gru(x)[0]))
    assert not fast.report.certificate.ok
    for steps in (1, 2, 30):
        assert float((fast(x[:steps])[0] - gru(x[:steps])[0]).abs().max()) < 1e-6
    with (
        torch.autocast("cpu", dtype=torch.bfloat16),
        pytest.raises(ValueError, match="method='shooting' cannot run here: autocast is on"),
    ):
        fast(x)


def test_drop_ins_take_chunks_by_themselves(rng, monkeypatch):
    """auto: with the fused loop, instead of it, and given up for torch where it remembers."""
    from seqsolve import chunked_layers, lanes, recurrent

    monkeypatch.setattr(chunked_layers, "_WORTH", 1e-4)
    monkeypatch.setattr(lanes, "pace", lambda flow, _: Pace(flow.seconds, flow.seconds / 8))
    monkeypatch.setattr(lanes, "CALL", 0.0)  # so short a call would not pay for the chunks
    gru = sq.gallery.torch_init("gru", 3, 4, rng=rng).requires_grad_(False)
    fast, x = sq.parallelize(gru), tensor(rng, 20_000, 3, dtype=torch.float32)
    assert float((fast(x)[0] - gru(x)[0]).abs().max()) < 2e-6
    assert fast.report.method == "shooting"
    fast(x[:500])
    assert fast.report.method == "sequential"
    monkeypatch.setattr(recurrent, "choose", lambda *sizes, **options: (False, "torch by the table"))
    monkeypatch.setattr(recurrent, "chunks_may_win", lambda *sizes, **options: True)
    fast(x)
    assert fast.report.method == "shooting"
    keeper = sq.parallelize(sq.gallery.multistable_rnn(4, rng=rng, dtype=torch.float32).requires_grad_(False))
    keeper(torch.zeros(20_000, 4))
    assert keeper.report.method == "torch"


def test_training_through_chunks(rng):
    x = tensor(rng, 1200, 2, 3, dtype=torch.float32)
    with torch.enable_grad():
        module = sq.gallery.torch_init("gru", 3, 4, rng=rng)
        fast, grads = sq.parallelize(module, method="shooting"), []
        for run in (fast, module):
            grads.append(torch.autograd.grad(run(x)[0].square().sum(), list(module.parameters())))
    for one, other in zip(*grads):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-4 * float(other.abs().max()))
