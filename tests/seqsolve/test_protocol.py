"""A cell of one's own: what it may say of itself, what is checked, what is refused."""

import numba
import numpy as np
import pytest
import torch
from torch import nn

import seqsolve as sq


class Pairs(sq.Cell):
    """Pairs of units that see one another: blocks of two on the diagonal, with a step for numba in plain Python."""

    structure = ("block", 2)

    def __init__(self, pairs, dtype=torch.float64):
        super().__init__()
        self.state_size = 2 * pairs
        self.w = nn.Parameter(torch.linspace(-0.6, 0.7, 4 * pairs, dtype=dtype).reshape(pairs, 2, 2))

    def step_parameters(self):
        return (self.w,)

    def step(self, x, a, params):
        apart = x.unflatten(-1, (-1, 2))
        return torch.tanh((params[0] @ apart[..., None])[..., 0].flatten(-2) + a)

    @staticmethod
    def kernel(x, a, params, new):
        (w,) = params
        for k in range(len(w)):
            for i in range(2):
                new[2 * k + i] = np.tanh(a[2 * k + i] + w[k, i, 0] * x[2 * k] + w[k, i, 1] * x[2 * k + 1])


class InTorch(sq.Cell):
    """Neither kernel nor linear form."""

    state_size = 3

    def step(self, x, a, params):
        return torch.tanh(0.5 * x.roll(1, -1) + a)


def inputs(rng, *shape):
    return torch.from_numpy(rng.standard_normal(shape))


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_kernel_in_plain_python_is_compiled_into_one_loop(workers, rng, monkeypatch):
    monkeypatch.setattr("seqsolve.protocol._WORTH_A_THREAD", 1e-12)
    cell, u = Pairs(3), inputs(rng, 50, 4, 6)
    fast = sq.parallelize(cell, method="sequential", workers=workers)
    with torch.no_grad():
        torch.testing.assert_close(fast(u)[0], cell(u)[0], rtol=1e-13, atol=1e-13)
        given = u.clone()
        fast(u)
    assert torch.equal(u, given)
    assert fast.report.method == "sequential"
    assert fast.report.certificate.lyapunov < 0


def test_a_kernel_that_numba_has_compiled_already(rng):
    class Compiled(Pairs):
        kernel = numba.njit(Pairs.kernel)

    cell, u = Compiled(2, torch.float32), inputs(rng, 40, 4).float()
    with torch.no_grad():
        torch.testing.assert_close(sq.parallelize(cell, method="sequential")(u)[0], cell(u)[0], rtol=1e-5, atol=1e-6)


def test_the_measured_choice_is_remembered_and_reported(rng):
    cell, u = sq.parallelize(Pairs(3)), inputs(rng, 60, 1, 6)
    with torch.no_grad():
        cell(u)
        known = dict(cell._measured)
        cell(u)
    assert cell._measured == known
    assert "us a step against" in cell.report.reason
    assert cell.report.method == "sequential"


@pytest.mark.parametrize("method", ["newton", "quasi", "chord", "jacobi", "auto"])
def test_the_solver_knows_the_structure(method, rng):
    cell, u = Pairs(3), inputs(rng, 80, 2, 6)
    solution = sq.solve(cell, torch.zeros(2, 6, dtype=torch.float64), u, method=method)
    assert solution.ok
    with torch.no_grad():
        torch.testing.assert_close(solution.states, cell(u)[0], rtol=1e-10, atol=1e-10)


def test_a_structure_that_the_step_does_not_have_costs_nothing_but_sweeps(rng):
    class Wrong(InTorch):
        structure = "diag"

    u = inputs(rng, 100, 3)
    solution = sq.solve(Wrong(), torch.zeros(3, dtype=torch.float64), u, method="newton")
    exact = sq.solve(InTorch(), torch.zeros(3, dtype=torch.float64), u, method="newton")
    assert solution.ok
    torch.testing.assert_close(solution.states, exact.states, rtol=1e-11, atol=1e-11)
    assert solution.certificate.amplification == pytest.approx(exact.certificate.amplification, rel=1e-6)


def test_a_wrong_jacobian_is_refused(rng):
    class Wrong(sq.IndRNN):
        def jacobian(self, x, a, params):
            return 2 * super().jacobian(x, a, params)

    cell = Wrong(3, 4, nonlinearity="tanh", dtype=torch.float64)
    with pytest.raises(ValueError, match="that Wrong gives in closed form differs from the derivative of its step"):
        sq.solve(cell, torch.zeros(4, dtype=torch.float64), inputs(rng, 50, 3), method="newton")


def test_what_has_no_kernel_stays_in_torch(rng):
    cell, u = InTorch(), inputs(rng, 20, 2, 3)
    fast = sq.parallelize(cell)
    assert torch.equal(fast(u)[0], cell(u)[0])
    assert fast.report.method == "torch"
    assert fast.report.reason == "InTorch has neither a kernel nor a linear form"
    assert sq.solve(cell, torch.zeros(2, 3, dtype=torch.float64), u).ok
    with pytest.raises(ValueError, match="method='sequential' cannot run here: InTorch has neither"):
        sq.parallelize(cell, method="sequential")(u)


def test_other_dtypes_autocast_and_compile_go_through_torch(rng):
    cell = Pairs(2, torch.float32)
    fast, u = sq.parallelize(cell), inputs(rng, 20, 2, 4).float()
    with torch.no_grad():
        half = sq.parallelize(Pairs(2, torch.bfloat16))
        half(u.bfloat16())
        assert "float32 or float64" in half.report.reason
        with torch.autocast("cpu", dtype=torch.bfloat16):
            fast(u)
        assert fast.report.reason == "autocast is on"
        torch.testing.assert_close(torch.compile(fast, backend="eager")(u)[0], cell(u)[0])
        assert fast(u[:, :0])[0].shape == (20, 0, 4)


def test_second_derivatives(rng):
    fast, u = sq.parallelize(Pairs(1), method="sequential"), inputs(rng, 4, 1, 2).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda u: fast(u)[0], (u,))


@pytest.mark.parametrize(
    "run, error, message",
    [
        (lambda: sq.Cell()(torch.zeros(3, 2)), ValueError, "Cell.state_size is None; set it"),
        (lambda: InTorch()(torch.zeros(3)), ValueError, r"the inputs are \(3,\); pass a tensor \(T, ..., m\)"),
        (lambda: InTorch()(torch.zeros(0, 3)), ValueError, "T of at least 1"),
        (lambda: InTorch()(torch.zeros(5, 2, 3), torch.zeros(3)), ValueError, r"pass one of shape \(2, 3\)"),
        (lambda: InTorch()(torch.zeros(5, 4)), RuntimeError, "size"),
        (lambda: sq.solve(Pairs(1), torch.zeros(2), torch.zeros(5, 2)), TypeError, "the weights are torch.float64"),
        (lambda: sq.solve(InTorch(), torch.zeros(4), torch.zeros(5, 3)), ValueError, r"needs x0 \(..., 3\)"),
    ],
)
def test_wrong_arguments(run, error, message):
    with pytest.raises(error, match=message):
        run()


def test_a_step_must_be_there_and_keep_its_shape():
    class Nothing(sq.Cell):
        state_size = 2

    class Grows(Nothing):
        def step(self, x, a, params):
            return torch.cat([x, a], -1)

    with pytest.raises(NotImplementedError, match="Nothing does not say what a step is"):
        Nothing()(torch.zeros(3, 2))
    with pytest.raises(ValueError, match=r"Grows.step returned shape \(4,\) for a state of shape \(2,\)"):
        Grows()(torch.zeros(3, 2))
