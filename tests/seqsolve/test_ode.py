"""Integration by `solve` beside scipy's own integrator, and the orders of the schemes."""

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

import seqsolve as sq


def truth(field, x0, times):
    def flat(t, x):
        return field(torch.from_numpy(x), torch.tensor([t]).double()).numpy()

    span = (float(times[0]), float(times[-1]))
    return solve_ivp(flat, span, x0.numpy(), "DOP853", t_eval=times[1:].numpy(), rtol=1e-12, atol=1e-12).y.T


@pytest.mark.parametrize("method", ["newton", "elk", "sequential"])
def test_van_der_pol_and_lorenz_in_windows(method):
    """A limit cycle, and a chaotic field over a time that is short enough to be determined."""
    for field, x0, end, error in (
        (sq.ode.van_der_pol(), [2.0, 0.0], 6.0, 1e-5),
        (sq.ode.lorenz(), [1.0, 1, 1], 2.0, 1e-3),
    ):
        x0, times = torch.tensor(x0).double(), torch.linspace(0, end, 301).double()
        solution = sq.ode.integrate(field, x0, times, method=method, window=30)
        assert solution.ok, solution.explain()
        assert float(np.abs(solution.states.numpy() - truth(field, x0, times)).max()) < error


@pytest.mark.parametrize("scheme, order", [("explicit_euler", 1), ("implicit_euler", 1), ("rk4", 4)])
def test_orders_of_the_schemes(scheme, order):
    field = sq.ode.van_der_pol()
    x0, errors = torch.tensor([1.0, 0.5]).double(), []
    for steps in (100, 200):
        times = torch.linspace(0, 2, steps + 1).double()
        states = sq.ode.integrate(field, x0, times, scheme=scheme, method="newton").states.numpy()
        errors.append(np.abs(states - truth(field, x0, times)).max())
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.35)


def test_a_stiff_field_needs_the_implicit_scheme():
    """x' = -2000 (x - cos t) with steps forty times too long for the explicit one."""

    def field(x, t):
        return -2000.0 * (x - torch.cos(t))

    times, x0 = torch.linspace(0, 2, 101).double(), torch.zeros(1).double()
    stiff = sq.ode.integrate(field, x0, times, scheme="implicit_euler", method="newton", window=50)
    assert stiff.ok, stiff.explain()
    assert float((stiff.states[5:, 0] - times[6:].cos()).abs().max()) < 1e-2
    explicit = sq.ode.integrate(field, x0, times, scheme="explicit_euler", method="newton", window=50)
    assert not explicit.ok


def test_times_in_any_spacing_and_a_gradient(rng):
    times = torch.from_numpy(np.sort(rng.uniform(0, 2, 200)))
    rate = torch.tensor(0.7).double().requires_grad_()
    solution = sq.ode.integrate(lambda x, t: -rate * x, torch.ones(1).double(), times, method="newton")
    length = float(times[-1] - times[0])
    assert float(solution.states[-1, 0].detach()) == pytest.approx(np.exp(-0.7 * length), rel=1e-6)
    (slope,) = torch.autograd.grad(solution.states[-1, 0], rate)
    assert float(slope) == pytest.approx(-length * np.exp(-0.7 * length), rel=1e-6)


def test_what_integrate_refuses():
    one, times = torch.ones(1).double(), torch.linspace(0, 1, 5).double()
    with pytest.raises(ValueError, match="scheme='leapfrog' is unknown; choose one of 'explicit_euler'"):
        sq.ode.integrate(lambda x, t: -x, one, times, scheme="leapfrog")
    with pytest.raises(ValueError, match=r"times has shape \(1,\); pass at least two"):
        sq.ode.integrate(lambda x, t: -x, one, times[:1])
    with pytest.raises(ValueError, match=r"x0 has shape \(2, 1\); pass one state"):
        sq.ode.integrate(lambda x, t: -x, torch.ones(2, 1), times)
