"""Newton's method inside a trust region, solved by a Kalman smoother.

Gonzalez, Warrington, Smith, Linderman (2024), "Towards scalable and stable parallelization of nonlinear RNNs",
arXiv:2407.19115, section 4: the Levenberg-Marquardt step

    min over d of  sum_t |d_t - J_t d_{t-1} - r_t|^2 + damping |d_t|^2,   r_t = f(x_{t-1}) - x_t

is the posterior mean of a linear Gaussian state-space model. There the damping is a hyperparameter; here the driver
adapts it, as Levenberg and Marquardt do.
"""

import torch

from .state import Iteration


class Elk(Iteration):
    """The smoother with the whole Jacobians: O(T n^3) a sweep."""

    damping = 0.1

    def sweep(self, problem, state):
        from seqsolve import _structure_kernels as kernels

        n, T = state.x.shape[-1], len(state.tail)
        J, r = finite_part(state.jacobians.matrices(), state.values - state.tail)
        J, r = J.reshape(T, -1, n, n), r.reshape(T, -1, n)
        d = torch.empty_like(r)
        for i in range(r.shape[1]):
            mine = torch.empty(T, n, dtype=r.dtype)
            one, rhs = J[:, i].contiguous().numpy(), r[:, i].contiguous().numpy()
            kernels.kalman_smoother(one, rhs, rhs.dtype.type(state.damping), mine.numpy())
            d[:, i] = mine
        return state.tail + d.reshape(state.tail.shape)


class QuasiElk(Iteration):
    """The smoother with the diagonals of the Jacobians: O(T n) a sweep."""

    damping = 0.1

    def sweep(self, problem, state):
        from seqsolve import _structure_kernels as kernels

        T = len(state.tail)
        a, r = finite_part(state.jacobians.diagonal(), state.values - state.tail)
        rhs = r.reshape(T, -1).contiguous().numpy()
        d = torch.empty(rhs.shape, dtype=r.dtype)
        kernels.kalman_smoother_diag(
            a.reshape(T, -1).contiguous().numpy(), rhs, rhs.dtype.type(state.damping), d.numpy()
        )
        return state.tail + d.reshape(state.tail.shape)


def finite_part(J, r):
    """Both without NaN, inf and what overflows when squared: a smoother would carry them back in time too."""
    limits = torch.finfo(J.dtype)
    return torch.where(J.abs() < limits.max**0.25, J, 0.0), torch.where(r.abs() < limits.max * 1e-4, r, 0.0)
