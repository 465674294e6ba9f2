"""Structured Jacobians: each scan beside dense matrices, and what a wrong structure does."""

import numpy as np
import pytest
import torch

import seqsolve as sq
from seqsolve.linearization import Block, Constant, Dense, Diagonal, LowRank, restructure
from seqsolve.recurrence import as_recurrence


def tensor(rng, *shape):
    return torch.from_numpy(rng.standard_normal(shape))


def linears(rng):
    T, n = 9, 4
    yield Dense(tensor(rng, T, 3, n, n)), False
    yield Diagonal(tensor(rng, T, 3, n)), False
    yield Block(tensor(rng, T, 3, 2, 2, 2)), False
    yield LowRank(tensor(rng, T, 3, n, 2), tensor(rng, T, 3, n, 2)), False
    yield Constant(0.4 * tensor(rng, n, n)), True
    yield Constant(torch.diag(torch.ones(3), 1).double()), True  # nilpotent: it has no basis of eigenvectors
    for kind in ("rnn", "gru", "lstm"):
        size = 2 if kind == "lstm" else 4
        module = sq.gallery.torch_init(kind, 3, size, rng=rng, dtype=torch.float64)
        problem = as_recurrence(module, torch.zeros(3, 4).double(), tensor(rng, T, 3, 3))
        with torch.no_grad():
            yield problem.linearize(tensor(rng, T, 3, 4), 0)[1], False


def test_all_verbs_beside_dense_matrices(rng):
    b, start = tensor(rng, 9, 3, 4), tensor(rng, 3, 4)
    for linear, constant in linears(rng):
        J = linear.matrices().expand(9, 3, 4, 4)
        for mine, matrices, rhs in (
            (linear, J, b),
            (linear.tail(4), J[4:], b[4:]),
            (linear.damped(0.5), 0.5 * J, b),
            (linear.damped(0.5).damped(0.5), 0.25 * J, b),
        ):
            x, wanted = start, []
            for t in range(len(rhs)):
                x = (matrices[t] @ x[..., None])[..., 0] + rhs[t]
                wanted.append(x)
            torch.testing.assert_close(mine.scan(rhs, start), torch.stack(wanted), rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(
                mine.diagonal().expand(len(rhs), 3, 4), matrices.diagonal(dim1=-2, dim2=-1), rtol=1e-12, atol=1e-12
            )
        if not constant:
            for kind, size in (("dense", 1), ("diag", 1), ("block", 2), ("low-rank", 4)):
                part = restructure(linear, kind, size).matrices()
                mask = {"dense": 1, "low-rank": 1, "diag": np.eye(4), "block": np.kron(np.eye(2), np.ones((2, 2)))}[
                    kind
                ]
                torch.testing.assert_close(part, J * torch.as_tensor(mask), rtol=1e-9, atol=1e-9)


def steps(rng):
    a, M, N = 0.5 * tensor(rng, 6), 0.4 * tensor(rng, 3, 2, 2), 0.3 * tensor(rng, 6, 2)
    yield "diag", lambda x, u: torch.tanh(a * x + u)
    yield (
        ("block", 2),
        lambda x, u: torch.tanh(torch.einsum("kij,...kj->...ki", M, x.unflatten(-1, (3, 2))).flatten(-2) + u),
    )
    yield ("low-rank", 2), lambda x, u: torch.tanh((x @ N) @ N.T + u)


def test_a_structure_that_holds_costs_no_sweep_and_serves_the_certificate(rng):
    x0, u = tensor(rng, 2, 6), tensor(rng, 80, 2, 6)
    for linearization, step in steps(rng):
        dense = sq.solve(step, x0, u, method="newton", window=40)
        mine = sq.solve(step, x0, u, method="newton", window=40, linearization=linearization)
        assert mine.ok, mine.explain()
        assert mine.sweeps == dense.sweeps
        assert torch.allclose(mine.states, dense.states, rtol=0, atol=1e-13)
        assert mine.certificate.bound == pytest.approx(dense.certificate.bound, rel=1e-3)


def test_a_structure_that_does_not_hold_costs_sweeps_never_accuracy(rng):
    A = tensor(rng, 6, 6) * 0.35
    x0, u = tensor(rng, 6), tensor(rng, 80, 6)

    def step(x, u):
        return torch.tanh(x @ A.T + u)

    def hidden(x, u):
        return torch.tanh(x.detach() @ A.T + u)

    dense = sq.solve(step, x0, u, method="newton", window=40)
    for f in (step, hidden):
        for linearization in ("diag", ("block", 3), ("low-rank", 2)):
            mine = sq.solve(f, x0, u, method="newton", window=40, linearization=linearization)
            assert mine.ok, mine.explain()
            assert mine.sweeps > dense.sweeps
            assert torch.allclose(mine.states, dense.states, rtol=0, atol=1e-12)
            assert mine.certificate.bound == pytest.approx(dense.certificate.bound, rel=0.5)
    gru = sq.gallery.torch_init("gru", 3, 6, rng=rng, dtype=torch.float64).requires_grad_(False)
    for linearization in ("dense", "diag", ("block", 2), ("low-rank", 3)):
        assert sq.solve(gru, x0, u[:, :3], method="newton", linearization=linearization).ok


def passes(step, n, T=200, **options):
    """Rows that the step was given, over the steps, and the solution."""
    rows = 0

    def counted(x, u):
        nonlocal rows
        rows += x.numel() // n
        return step(x, u)

    u = torch.linspace(0, 40, T * n).double().sin().reshape(T, n)
    found = sq.solve(counted, torch.zeros(n).double(), u, window=T, **options)
    return rows / T, found


def test_units_that_act_on_themselves_alone_are_recognised():
    n = 24
    a = torch.linspace(-0.9, 0.9, n).double()
    rows, found = passes(lambda x, u: torch.tanh(a * x + u), n, method="newton")
    assert found.ok
    assert rows < 3 * (found.sweeps + 2)  # the values and two backward passes a sweep, not n
    exact = passes(lambda x, u: torch.tanh(a * x + u), n, method="sequential")[1]
    assert torch.allclose(found.states, exact.states, rtol=0, atol=1e-12)


@pytest.mark.parametrize("start", [0, 60])
def test_a_coupling_that_shows_later_ends_the_belief(start):
    """Diagonal at first, so it is believed; from step `start` on the neighbours act, which every probe may show."""
    n = 12
    a, C = torch.linspace(-0.6, 0.6, n).double(), 0.3 * torch.eye(n).double().roll(1, 0)

    def step(x, u):
        late = (u[..., :1] > 0).to(x.dtype)
        return torch.tanh(a * x + late * (x @ C.T) + 0.5 * u)

    u = torch.linspace(0, 40, 200 * n).double().sin().reshape(200, n)
    u[:, 0] = torch.where(torch.arange(200) < start, -0.5, 0.5)
    zero = torch.zeros(n).double()
    newton, exact = (sq.solve(step, zero, u, method=method, window=50) for method in ("newton", "sequential"))
    assert newton.ok
    assert newton.sweeps < 8  # of Newton with the whole Jacobians
    assert torch.allclose(newton.states, exact.states, rtol=0, atol=1e-12)
    assert newton.certificate.amplification == pytest.approx(exact.certificate.amplification, rel=1e-6)


def test_the_gradient_through_recognised_units_is_that_of_the_loop():
    n = 8
    a = torch.linspace(-0.9, 0.9, n).double().requires_grad_()
    u, zero = torch.linspace(0, 9, 40 * n).double().sin().reshape(40, n), torch.zeros(n).double()

    def step(x, v):
        return torch.tanh(a * x + v)

    x, total = zero, 0
    for v in u:
        x = step(x, v)
        total = total + x.square().sum()
    (wanted,) = torch.autograd.grad(total, a)
    (found,) = torch.autograd.grad(sq.solve(step, zero, u, method="newton").states.square().sum(), a)
    assert torch.allclose(found, wanted, rtol=1e-11)
