"""Every method beside the loop; what each is, in sizes where the answer is known."""

import numpy as np
import pytest
import torch

import seqsolve as sq
from seqsolve import _structure_kernels as kernels
from seqsolve.driver import adapted

ITERATIVE = [name for name, method in sq.METHODS.items() if not (method.exact or method.chunked)]


def tensor(rng, *shape):
    return torch.from_numpy(rng.standard_normal(shape))


def loop(step, x, inputs):
    out = []
    for u in inputs:
        x = step(x, u)
        out.append(x)
    return torch.stack(out)


def coupled(gain, n, rng):
    A = tensor(rng, n, n)
    A *= gain / torch.linalg.matrix_norm(A, 2)
    return A, lambda x, u: torch.tanh(x @ A.T + u)


@pytest.mark.parametrize("gain", [0.5, 3.0])
@pytest.mark.parametrize("method", ITERATIVE)
def test_every_method_gives_the_states_of_the_loop(method, gain, rng):
    """After k sweeps k steps are exact, so that each one ends whatever the gain, and nothing is repaired."""
    _, step = coupled(gain, 5, rng)
    x0, u = tensor(rng, 2, 5), tensor(rng, 61, 2, 5)
    truth = loop(step, x0, u)
    for window in ("auto", 20):
        solution = sq.solve(step, x0, u, method=method, window=window)
        assert solution.repaired == 0
        assert solution.certificate.met, solution.explain()
        if solution.ok:
            assert float((solution.states - truth).abs().max()) < 1e-9
        history = solution.history
        for k in np.unique(history["window"]):
            mine = history[history["window"] == k]
            assert (np.diff(mine["frontier"]) >= 0).all()
            assert (mine["frontier"] >= np.minimum(mine["sweep"], mine["frontier"][-1])).all()
    assert solution.ok or gain == 3.0


@pytest.mark.parametrize("method", ITERATIVE)
def test_known_cells_by_every_method(method, rng):
    for kind, size in (("rnn", 6), ("gru", 6), ("lstm", 12)):
        module = sq.gallery.torch_init(kind, 3, 6, rng=rng, dtype=torch.float64).requires_grad_(False)
        x0, u = torch.zeros(size).double(), tensor(rng, 70, 3)
        truth = sq.solve(module, x0, u, method="sequential").states
        solution = sq.solve(module, x0, u, method=method, window=35)
        assert solution.ok, solution.explain()
        assert float((solution.states - truth).abs().max()) < 1e-12


def test_a_linear_recurrence_takes_one_update_of_the_right_matrix(rng):
    A, _ = coupled(0.8, 4, rng)

    def step(x, u):
        return x @ A.T + u

    x0, u = tensor(rng, 4), tensor(rng, 50, 4)
    for options in (
        {"method": "constant", "matrix": A},
        {"method": "constant"},
        {"method": "frozen"},
        {"method": "chord"},
        {"method": "newton"},
        {"method": "elk", "damping": 0.0},
    ):
        assert sq.solve(step, x0, u, window=50, **options).sweeps <= 2, options
    for method in ("jacobi", "picard", "quasi"):
        assert sq.solve(step, x0, u, window=50, method=method).sweeps > 5
    shifted = {"method": "newton", "damping": 1.0, "window": 50}  # no Jacobian left: Jacobi
    jacobi = sq.solve(step, x0, u, method="jacobi", window=50)
    np.testing.assert_allclose(
        sq.solve(step, x0, u, **shifted).history["residual"], jacobi.history["residual"], atol=1e-15
    )


def test_picard_is_made_for_small_steps_of_an_ode(rng):
    u = torch.zeros(200, 1).double()
    options = {"method": "picard", "window": 200}
    solution = sq.solve(lambda x, u: x + 1e-3 * (torch.sin(x) - x), torch.ones(1).double(), u, **options)
    assert solution.ok
    assert solution.sweeps < 8


def test_a_matrix_that_cannot_be_diagonalised(rng):
    A = torch.tensor([[0.5, 1.0], [0.0, 0.5]]).double()
    x0, u = tensor(rng, 2), tensor(rng, 80, 2)
    solution = sq.solve(lambda x, u: x @ A.T + 0.1 * x.sin() + u, x0, u, method="constant", matrix=A, window=80)
    assert solution.ok
    assert solution.sweeps < 25


@pytest.mark.parametrize("weight", [0.0, 0.3, 50.0])
def test_the_smoother_is_the_least_squares_solution(weight, rng):
    """min sum |d_t - J_t d_{t-1} - r_t|^2 + weight |d_t|^2, beside lstsq on the whole of it."""
    T, n = 7, 3
    J, r = rng.standard_normal((T, n, n)), rng.standard_normal((T, n))
    for diagonal in (False, True):
        if diagonal:
            J = J * np.eye(n)
        L = np.eye(T * n)
        for t in range(1, T):
            L[t * n : t * n + n, (t - 1) * n : t * n] = -J[t]
        rows = np.concatenate([L, np.sqrt(weight) * np.eye(T * n)])
        wanted = np.linalg.lstsq(rows, np.concatenate([r.ravel(), np.zeros(T * n)]))[0].reshape(T, n)
        out = np.empty((T, n))
        kernels.kalman_smoother(J, r, weight, out)
        np.testing.assert_allclose(out, wanted, rtol=1e-10, atol=1e-12)
        if diagonal:
            a = np.ascontiguousarray(np.diagonal(J, axis1=1, axis2=2))
            kernels.kalman_smoother_diag(a, r, weight, out)
            np.testing.assert_allclose(out, wanted, rtol=1e-10, atol=1e-12)


def test_damping_follows_the_residuals():
    assert adapted(0.1, 1.0, 2.0, 0, trust=True) < 0.1 < adapted(0.1, 2.0, 1.0, 0, trust=True)
    assert adapted(0.1, 1.0, 2.0, 3, trust=True) > 0.1
    assert adapted(0.0, 1.0, 2.0, 0, trust=False) == 0.0
    assert adapted(0.0, 1.0, 2.0, 1, trust=False) == 0.5
    assert adapted(0.5, 1e9, 1.0, 0, trust=False) == 0.75
    assert adapted(0.75, 0.5, 1.0, 0, trust=False) < 0.75
    assert adapted(1e12, 2.0, 1.0, 0, trust=True) == 1e12


def test_damping_is_recorded_and_can_be_set(rng):
    _, step = coupled(2.0, 5, rng)
    x0, u = tensor(rng, 5), tensor(rng, 40, 5)
    fixed = sq.solve(step, x0, u, method="elk", damping=0.25, window=40)
    assert (fixed.history["damping"] == 0.25).all()
    assert len(np.unique(sq.solve(step, x0, u, method="elk", window=40).history["damping"])) > 2
    truth = loop(step, x0, u)
    for method in ("newton", "quasi", "chord", "picard", "constant", "frozen"):
        solution = sq.solve(step, x0, u, method=method, damping=0.5, window=20)
        assert solution.certificate.met
        assert float((solution.states - truth).abs().max()) < 1e-9


def test_a_guess_saves_sweeps(rng):
    _, step = coupled(1.2, 5, rng)
    x0, u = tensor(rng, 5), tensor(rng, 90, 5)
    cold = sq.solve(step, x0, u, method="newton", window=45)
    warm = sq.solve(step, x0, u + 1e-4, method="newton", window=45, guess=cold.states)
    assert warm.ok
    assert warm.sweeps < cold.sweeps
    again = sq.solve(step, x0, u, method="newton", window=45, guess=cold.states.numpy())
    assert again.sweeps == 1
    wild = sq.solve(step, x0, u, method="newton", window=45, guess=torch.full((90, 5), float("nan")))
    assert torch.allclose(wild.states, cold.states, atol=1e-12)


def test_a_large_start_does_not_excuse_errors_in_small_states(rng):
    """The tolerance is relative to the states, not to an x0 that they forget at once."""
    x0, u = 100 * torch.ones(4), 0.05 * tensor(rng, 300, 4).float()
    for method in ("jacobi", "chord", "newton"):
        solution = sq.solve(lambda x, u: torch.tanh(0.2 * x.sin() + u), x0, u, method=method, window=100)
        assert solution.status is sq.Status.CONVERGED, solution.explain()
