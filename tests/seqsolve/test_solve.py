"""The solver beside the loop: exact where it says so, and never ok where the trajectory is not determined."""

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import seqsolve as sq
from seqsolve.conditioning import Growth
from seqsolve.recurrence import as_recurrence
from tests.reference import numerical_jacobian

CELLS = {
    "rnn": lambda d: nn.RNN(3, 6, dtype=d),
    "relu": lambda d: nn.RNN(3, 6, nonlinearity="relu", dtype=d),
    "gru": lambda d: nn.GRU(3, 6, dtype=d),
    "lstm": lambda d: nn.LSTM(3, 6, bias=False, dtype=d),
    "rnn cell": lambda d: nn.RNNCell(3, 6, dtype=d),
    "gru cell": lambda d: nn.GRUCell(3, 6, dtype=d),
    "lstm cell": lambda d: nn.LSTMCell(3, 6, dtype=d),
}


@pytest.fixture(autouse=True)
def no_graph():
    """These tests look at states alone; gradients have test_implicit.py."""
    with torch.no_grad():
        yield


def cell(name, rng, dtype=torch.float64):
    module = CELLS[name](dtype)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.from_numpy(rng.uniform(-0.8, 0.8, tuple(p.shape))))
    return module, (12 if "lstm" in name else 6)


def loop(step, x, inputs):
    out = []
    for u in inputs:
        x = step(x, u)
        out.append(x)
    return torch.stack(out) if out else torch.empty((0, *x.shape), dtype=x.dtype)


def by_torch(module, x0, inputs):
    """States by torch's own modules; for an LSTM h and c side by side."""
    with torch.no_grad():
        h, c = x0.chunk(2, -1) if isinstance(module, nn.LSTM | nn.LSTMCell) else (x0, None)
        rows = []
        for u in inputs:
            if isinstance(module, nn.RNNBase):
                state = h[None].contiguous() if c is None else (h[None].contiguous(), c[None].contiguous())
                state = module(u[None], state)[1]
                h, c = (state[0][0], state[1][0]) if c is not None else (state[0], None)
            elif c is None:
                h = module(u, h)
            else:
                h, c = module(u, (h.contiguous(), c.contiguous()))
            rows.append(h if c is None else torch.cat([h, c], -1))
    return torch.stack(rows)


def tensor(rng, *shape, dtype=torch.float64):
    return torch.from_numpy(rng.standard_normal(shape)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", CELLS)
def test_known_cells_by_both_methods(name, dtype, rng):
    module, n = cell(name, rng, dtype)
    x0, u = tensor(rng, 2, n, dtype=dtype), tensor(rng, 50, 2, 3, dtype=dtype)
    expected = by_torch(module, x0, u)
    scale = max(1.0, float(expected.abs().max()))
    for options in ({"method": "sequential"}, {"method": "newton"}, {"method": "newton", "window": 7}, {}):
        solution = sq.solve(module, x0, u, **options)
        assert solution.ok, solution.explain()
        error = float((solution.states - expected).abs().max()) / scale
        assert error <= max(solution.certificate.bound, 50 * torch.finfo(dtype).eps)
        assert error < 3e-5 if dtype == torch.float32 else error < 1e-12
    assert solution.method == "sequential"


@pytest.mark.parametrize("name", CELLS)
def test_linearisations_of_known_cells(name, rng):
    module, n = cell(name, rng)
    x, u, v = rng.standard_normal(n), tensor(rng, 1, 3), tensor(rng, 1, n)
    problem = as_recurrence(module, torch.from_numpy(x), u)
    values, linear = problem.linearize(torch.from_numpy(x)[None], 0)

    def step(x):
        return problem.evaluate(torch.from_numpy(x)[None], 0)[0].detach().numpy()

    np.testing.assert_array_equal(values[0].detach().numpy(), step(x))
    J = numerical_jacobian(step, x)
    moved = linear.scan(torch.zeros_like(v), v[0]).detach().numpy()[0]
    np.testing.assert_allclose(moved, J @ v[0].numpy(), rtol=1e-6, atol=1e-8)


def coupled(gain, n, rng):
    """A tanh recurrence written by a user."""
    A = tensor(rng, n, n) * gain / n**0.5
    return lambda x, u: torch.tanh(x @ A.T + u)


@pytest.mark.parametrize("window", [1, 5, 64, "auto"])
@pytest.mark.parametrize("batch", [(), (3,), (2, 2)])
def test_user_steps_by_newton(window, batch, rng):
    step, x0, u = coupled(0.9, 4, rng), tensor(rng, *batch, 4), tensor(rng, 70, *batch, 4)
    solution = sq.solve(step, x0, u, method="newton", window=window)
    assert solution.ok, solution.explain()
    assert solution.status is sq.Status.CONVERGED
    assert float((solution.states - loop(step, x0, u)).abs().max()) < 1e-13


@given(
    st.floats(0.1, 6), st.integers(1, 6), st.integers(0, 60), st.booleans(), st.sampled_from([None, 3, 16]),
    st.integers(1, 2**32 - 1),
)  # fmt: skip
def test_never_ok_and_wrong(gain, n, T, single, window, seed):
    rng = np.random.default_rng(seed)
    dtype = torch.float32 if single else torch.float64
    step = coupled(gain, n, rng)
    x0, u = tensor(rng, n), 0.3 * tensor(rng, T, n)
    module = sq.gallery.tanh_rnn(n, gain, rng=seed, dtype=dtype)
    exact = sq.gallery.tanh_rnn(n, gain, rng=seed).double()
    for f, reference, kind in ((step, step, torch.float64), (module, exact, dtype)):
        a, b = x0.to(kind), u.to(kind)
        solution = sq.solve(f, a, b, method="newton", window=window or "auto")
        truth = loop(step, x0, u) if f is step else sq.solve(reference, a.double(), b.double()).states
        if not T:
            assert solution.status is sq.Status.EMPTY
        elif solution.ok:
            assert float((solution.states.double() - truth).abs().max()) < 1e-4
        else:
            assert solution.status in (sq.Status.CHAOTIC, sq.Status.SENSITIVE)


def test_chaos_is_never_certified_whatever_the_method(rng):
    step, u = sq.gallery.logistic(3.99), torch.zeros(400, 1, dtype=torch.float64)
    x0 = torch.tensor([0.3], dtype=torch.float64)
    for method in ("sequential", "newton", "auto"):
        solution = sq.solve(step, x0, u, method=method)
        assert not solution.ok
        assert solution.status is sq.Status.CHAOTIC
        assert solution.certificate.lyapunov == pytest.approx(0.64, abs=0.08)
        assert solution.certificate.residual < 1e-12  # a tiny residual, and still not the trajectory
        assert "chaotic" in solution.explain()
    few = sq.solve(step, x0, u[:10], method="newton")  # ten steps amplify too little to matter
    assert few.ok
    settled = sq.solve(sq.gallery.logistic(2.5), x0, u, method="newton")
    assert settled.ok
    assert settled.certificate.lyapunov < 0


def test_steps_that_autograd_cannot_look_into(rng):
    A = tensor(rng, 4, 4) * 0.4

    def detached(x, u):
        return torch.tanh(x.detach() @ A.T + u)

    def numpy(x, u):
        return torch.from_numpy(np.tanh(x.detach().numpy() @ A.numpy().T + u.numpy()))

    x0, u = tensor(rng, 4), tensor(rng, 50, 4)
    truth = loop(detached, x0, u)
    for step in (detached, numpy):
        solution = sq.solve(step, x0, u, method="newton", window=25)
        assert solution.ok, solution.explain()
        assert solution.sweeps < 9
        assert float((solution.states - truth).abs().max()) < 1e-11
        assert solution.certificate.amplification > 1.05
    with torch.inference_mode():
        assert sq.solve(detached, x0, u, method="newton").ok
        assert sq.solve(coupled(0.9, 4, rng), x0 * 1, u * 1, method="newton").ok


def test_the_estimate_of_the_error_is_near_the_error(rng):
    for gain in (0.9, 1.5):
        module = sq.gallery.tanh_rnn(12, gain, rng=rng, dtype=torch.float32)
        x0, u = torch.zeros(12), 0.1 * tensor(rng, 400, 12, dtype=torch.float32)
        solution = sq.solve(module, x0, u, method="newton", window=16)
        truth = sq.solve(module.double(), x0.double(), u.double(), method="sequential").states
        error = float((solution.states - truth).abs().max())
        assert error < 3 * solution.certificate.bound
        assert solution.certificate.bound < 1e3 * max(error, 1e-6)


def test_certificates_carry_errors_over_windows(rng):
    """A linear recurrence x <- a x + u + noise: the growth of errors is known in closed form."""
    a, T = 0.99, 3000
    problem = as_recurrence(lambda x, u: a * x + u, torch.zeros(1, dtype=torch.float64), torch.zeros(T, 1).double())
    growth = Growth(problem, 1e-16)
    growth.run(torch.full((T, 1), 1e-3, dtype=torch.float64), 0, T)
    assert growth.lyapunov == pytest.approx(np.log(a), rel=1e-6)
    # the gap of every step is (1 - a) * 1e-3, carried along: 1e-3 in the end; over a scale of 1e-3
    assert growth.gaps.largest == pytest.approx(1e-3 * (1 - a**T), rel=0.02)
    assert 2 / (1 - a * a) ** 0.5 > growth.amplification / 2.5 > 0.3 / (1 - a * a) ** 0.5


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("method", sq.METHODS)
def test_nan_appears_at_its_step(method, bad, rng):
    x0, u = tensor(rng, 2, 4), tensor(rng, 60, 2, 4)
    u[23, 1, 2] = float("nan") if bad != bad else 0.0
    step = coupled(0.8, 4, rng)
    if bad == bad:
        inner = step

        def step(x, u):
            return torch.where(u == 0.0, bad, inner(x, u)) * 1.0

    solution = sq.solve(step, x0, u, method=method, window=16)
    finite = torch.isfinite(solution.states).flatten(1).all(1)
    assert finite[:23].all()
    assert not finite[23]
    torch.testing.assert_close(solution.states, loop(step, x0, u), equal_nan=True, rtol=1e-12, atol=1e-12)
    assert solution.status is sq.Status.NONFINITE
    assert not solution.ok
    assert "NaN or inf" in solution.explain()


def test_overflow_of_an_iterate_is_seen_and_survived(rng):
    """x <- x^2 / 4 + u: Newton from a bad guess overshoots, the frontier brings it home."""
    x0, u = torch.tensor([1.9], dtype=torch.float64), 0.9 + 0.05 * tensor(rng, 300, 1)

    def step(x, u):
        return x * x * x / 4 + u * (x < 1e100) - 0.5 * x

    solution = sq.solve(step, x0, u, method="newton", window=100)
    assert float((solution.states - loop(step, x0, u)).abs().max()) < 1e-10
    assert solution.ok, solution.explain()


def test_the_frontier_only_grows_and_newton_ends_within_the_window(rng):
    step, x0, u = coupled(4.0, 3, rng), tensor(rng, 3), tensor(rng, 96, 3)
    solution = sq.solve(step, x0, u, method="newton", window=12)
    history = solution.history
    assert history.dtype.names[0] == "window"
    assert solution.sweeps == len(history) / 8
    for k in range(8):
        mine = history[history["window"] == k]
        assert (mine["start"] == 12 * k).all()
        assert (np.diff(mine["frontier"]) >= 0).all()
        assert (mine["frontier"] >= np.minimum(mine["sweep"], 12)).all()
        assert len(mine) <= 12
        assert (mine["sweep"] == np.arange(1, len(mine) + 1)).all()
    assert solution.repaired == 0
    assert float((solution.states - loop(step, x0, u)).abs().max()) < 1e-6


def test_what_happens_when_sweeps_run_out(rng):
    step, x0, u = coupled(1.2, 5, rng), tensor(rng, 5), tensor(rng, 60, 5)
    options = {"method": "newton", "window": 30, "max_sweeps": 1}
    truth = loop(step, x0, u)
    repaired = sq.solve(step, x0, u, **options)
    assert repaired.status is sq.Status.REPAIRED
    assert repaired.ok
    assert repaired.repaired == 2
    assert float((repaired.states - truth).abs().max()) < 1e-12
    returned = sq.solve(step, x0, u, on_fail="return", **options)
    assert returned.status is sq.Status.DIVERGED
    assert not returned.ok
    assert "tolerance was not met" in returned.explain()
    with pytest.raises(sq.ConvergenceError, match="did not meet the tolerance") as raised:
        sq.solve(step, x0, u, on_fail="raise", **options)
    assert not raised.value.solution.ok


def test_a_loose_tolerance_is_what_it_says(rng):
    step, x0, u = coupled(0.9, 5, rng), tensor(rng, 5), tensor(rng, 60, 5)
    loose, tight = (sq.solve(step, x0, u, method="newton", window=60, tol=t) for t in (1e-2, 1e-13))
    assert loose.sweeps < tight.sweeps
    assert loose.certificate.residual < 1e-2


@pytest.mark.parametrize("T", [0, 1, 2])
@pytest.mark.parametrize("method", [*sq.METHODS, "auto"])
def test_short_sequences(T, method, rng):
    step, x0, u = coupled(0.9, 5, rng), tensor(rng, 5), tensor(rng, T, 5)
    solution = sq.solve(step, x0, u, method=method)
    assert solution.states.shape == (T, 5)
    assert solution.ok
    assert torch.allclose(solution.states, loop(step, x0, u), rtol=0, atol=1e-14)
    empty = sq.solve(step, tensor(rng, 0, 5), tensor(rng, T, 0, 5), method=method)
    assert empty.status is sq.Status.EMPTY
    assert empty.states.shape == (T, 0, 5)


def test_scales_far_from_one(rng):
    A = tensor(rng, 3, 3) * 0.3
    for size in (1e-120, 1e120):
        step, x0, u = (lambda x, u: x @ A.T + u), size * tensor(rng, 3), size * tensor(rng, 80, 3)
        solution = sq.solve(step, x0, u, method="newton")
        assert solution.ok, solution.explain()
        assert float((solution.states - loop(step, x0, u)).abs().max()) < 1e-13 * size
    zero = sq.solve(lambda x, u: x @ A.T + u, torch.zeros(3).double(), torch.zeros(9, 3).double(), method="newton")
    assert zero.ok
    assert not zero.states.any()


def test_array_kinds_and_results(rng):
    module, n = cell("gru", rng, torch.float32)
    x0, u = rng.standard_normal(n).astype(np.float32), rng.standard_normal((40, 3)).astype(np.float32)
    u.flags.writeable = False
    solution = sq.solve(module, x0, u, method="newton")
    assert isinstance(solution, sq.Solution)
    assert isinstance(solution.certificate, sq.Certificate)
    assert isinstance(solution.states, np.ndarray)
    assert solution.states.dtype == np.float32
    again = pickle.loads(pickle.dumps(solution))
    np.testing.assert_array_equal(again.states, solution.states)
    assert again.explain() == solution.explain()
    assert len(repr(solution)) < 200
    assert solution.certificate
    half = sq.solve(lambda x, u: torch.tanh(x + u), torch.zeros(2).half(), torch.ones(5, 2).half(), method="newton")
    assert half.states.dtype == torch.float16
    pair = sq.solve(cell("lstm", rng)[0], (tensor(rng, 6), tensor(rng, 6)), tensor(rng, 9, 3))
    assert pair.states.shape == (9, 12)


def test_one_answer_for_one_input(rng):
    module, n = cell("lstm", rng)
    x0, u = tensor(rng, n), tensor(rng, 50, 3)
    a, b = (sq.solve(module, x0, u, method="newton") for _ in range(2))
    assert torch.equal(a.states, b.states)
    assert a.certificate == b.certificate


def test_methods_are_a_registry():
    assert list(sq.METHODS) == [
        "sequential", "jacobi", "picard", "constant", "frozen", "chord", "newton", "quasi", "elk", "quasi_elk",
        "shooting",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"step": 3}, TypeError, r"step is int; pass a torch recurrent module, a cell, or step\(x, u\)"),
        ({"step": lambda x, u: x[..., :2]}, ValueError, r"step returned shape \(2,\) for a state of shape \(3,\)"),
        ({"step": lambda x, u: x.numpy()}, TypeError, "step returned ndarray; it must return a torch tensor"),
        ({"step": lambda x, u: x.sum() + x}, ValueError, "another result when states are stacked on a leading axis"),
        ({"step": nn.GRU(3, 3, 2)}, ValueError, "solve takes one layer in one direction"),
        ({"step": nn.GRU(3, 5).double()}, ValueError, r"needs x0 \(..., 5\) and inputs \(T, ..., 3\)"),
        ({"step": nn.GRU(3, 3)}, TypeError, r"the weights are torch\.float32 and the data torch\.float64"),
        ({"method": "euler"}, ValueError, "method='euler' is unknown; choose one of 'sequential', 'jacobi'"),
        ({"window": 0}, ValueError, "window=0 must be at least 1"),
        ({"window": 2.5}, TypeError, "window=2.5 is not an integer"),
        ({"max_sweeps": 0}, ValueError, "max_sweeps=0 must be at least 1"),
        ({"tol": 2.0}, ValueError, "tol=2.0 must lie between 0 and 1"),
        ({"on_fail": "shrug"}, ValueError, "on_fail='shrug' is unknown; choose one of 'sequential', 'raise', 'return'"),
        ({"x0": 1.0}, ValueError, "x0 is a single number"),
        ({"x0": torch.zeros(3, dtype=torch.complex128)}, TypeError, "solve takes real states"),
        ({"damping": -0.1}, ValueError, r"damping=-0.1 must lie between 0 \(the method itself\) and 1 \(Jacobi\)"),
        ({"damping": "some"}, TypeError, "damping='some' is not a number; pass one, or 'auto'"),
        ({"damping": float("inf"), "method": "elk"}, ValueError, "damping=inf must be a finite number of at least 0"),
        ({"linearization": "sparse"}, ValueError, "linearization='sparse' is unknown; pass 'auto', 'dense', 'diag'"),
        ({"linearization": ("block", 2)}, ValueError, "does not divide a state of 3 numbers into blocks"),
        ({"linearization": "low-rank"}, ValueError, r"needs a whole number: \('low-rank', 2\)"),
        ({"matrix": torch.eye(3)}, ValueError, "matrix= is the A of method='constant', but method='auto'"),
        ({"matrix": torch.eye(2), "method": "constant"}, ValueError, r"matrix has shape \(2, 2\)"),
        ({"matrix": [[np.nan] * 3] * 3, "method": "constant"}, ValueError, "matrix holds NaN or inf"),
        ({"guess": torch.ones(9, 2)}, ValueError, r"guess has shape \(9, 2\); pass states of shape \(9, 3\)"),
        ({"model_sweeps": 0}, ValueError, "model_sweeps=0 must be at least 1"),
        ({"model_sweeps": 2, "guess": torch.ones(9, 3)}, ValueError, "leave guess= out"),
        ({"inputs": "abc"}, TypeError, "inputs is str"),
    ],
)
def test_what_solve_refuses(change, error, message):
    arguments = {
        "step": lambda x, u: torch.tanh(x + u),
        "x0": torch.zeros(3).double(),
        "inputs": torch.ones(9, 3).double(),
    }
    arguments |= change
    with pytest.raises(error, match=message):
        sq.solve(arguments.pop("step"), arguments.pop("x0"), arguments.pop("inputs"), **arguments)
