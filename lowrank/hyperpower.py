"""Pseudo-inverses by matrix products alone: Newton-Schulz and Chebyshev, orders 2 and 3 of the hyperpower family.

Works on numpy arrays and torch tensors alike, with any leading batch dimensions; `xp` is the array namespace.

References
----------
Ben-Israel and Cohen (1966), On iterative computation of generalized inverses, doi 10.1137/0703035 (order 2 from A^*);
Soderstrom and Stewart (1974), On the numerical properties of an iterative method for computing the Moore-Penrose
generalized inverse, doi 10.1137/0711008 (rounding, and how many steps); Altman (1960), An optimum cubically convergent
iterative method of inverting a linear bounded operator, Pacific J. Math. 10, 1107-1113 (order 3).
"""

from typing import Any

CAP = 1e-2  # a step this large is never taken for rounding


def iterate(A: Any, xp: Any, order: int, eps: float, limit: int) -> tuple[Any, Any, int]:
    """Pseudo-inverse (..., n, m) of A (..., m, n), which of the batch converged, and the steps taken.

        X_0 = A^* / (||A||_1 ||A||_inf)
        order 2:  X <- (2 I - X A) X                        error  E = P A - X A  ->  E^2
        order 3:  X <- (3 I - X A (3 I - X A)) X                                  ->  E^3

    The largest entry of A should be near 1. A singular value s needs about ``2 log2(s_1 / s)`` steps of order 2.

    It has converged when a step changes X by less than ``max(sqrt(eps) / 10, 1000 eps ||X|| ||A||)``: the first,
    because the step just taken squares (cubes) what was left; the second, because rounding in X outside the row and
    column spaces of A doubles in each step and so arrives at about 64 eps times the condition number (Soderstrom and
    Stewart, section 4). A singular value below about eps^(2/3) of the largest counts as zero.

    X A comes out to about eps cond(A), A X to eps cond(A)^2 only: each step corrects one side. So condition numbers end
    at about eps^(-1/3), 1e5 in double and 200 in single precision; the residuals that `pinv` measures find out.

    Cost ``2 m n^2`` flops a product for m >= n (A wide is turned round), `order` products a step: all GEMM.
    """
    if A.shape[-2] < A.shape[-1]:
        X, done, steps = iterate(_adjoint(A), xp, order, eps, limit)
        return _adjoint(X), done, steps
    B = _adjoint(A)
    size = _frobenius(A, xp)
    # ||A||_1 ||A||_inf bounds the square of the largest singular value
    bound = xp.max(xp.sum(xp.abs(A), axis=-1), axis=-1) * xp.max(xp.sum(xp.abs(A), axis=-2), axis=-1)
    X = B / xp.where(bound > 0, bound, xp.ones_like(bound))[..., None, None]
    unit = xp.eye(A.shape[-1], dtype=A.dtype, **({} if isinstance(A.device, str) else {"device": A.device}))
    done = bound <= 0
    steps = 0
    while steps < limit and not bool(xp.all(done)):
        Y = X @ A
        new = (2 * unit - Y) @ X if order == 2 else (3 * unit - Y @ (3 * unit - Y)) @ X
        before = _frobenius(X, xp)
        change = _frobenius(new - X, xp) / xp.where(before > 0, before, xp.ones_like(before))
        X = xp.where(done[..., None, None], X, new)  # what has converged would only gather rounding
        steps += 1
        rounding = 1000 * eps * before * size
        floor = xp.where(rounding > CAP, xp.full_like(rounding, CAP), rounding)
        least = 0.1 * eps**0.5
        done = done | (change <= xp.where(floor > least, floor, xp.full_like(floor, least)))
    return X, done, steps


def _adjoint(A: Any) -> Any:
    return A.swapaxes(-1, -2).conj()


def _frobenius(A: Any, xp: Any) -> Any:
    return xp.sqrt(xp.sum(xp.abs(A) ** 2, axis=(-2, -1)))
