"""Compiled inner loops of the selections: contiguous arrays and integers in, no validation, no options."""

from typing import Any

import numpy as np

from ._jit import kernel

FLAGS: Any = {"reassoc", "contract", "nsz"}


@kernel(fastmath=FLAGS)
def exchange(Z, p, drop, add, new, residual, dual, taken):
    """Exchange the p-th chosen column for another one, and find the best exchange that is left, in one pass.

    ``Z[j, i] -= drop[i] Z[j, p] + add[i] new[j]`` for i != p, ``Z[j, p] = new[j]``; then the largest
    ``|Z[j, i]|^2 + residual[j] dual[i]`` over the columns j that are not taken: (value, j, i).

    Z : (n, k) coefficients of all columns in the chosen ones;  drop, add : (k,);  new, residual : (n,);  dual : (k,);
    taken : (n,) bool.

    Floor: n k numbers read and written once, 6 n k flops. In numpy the update (two outer products) and the search
    pass over n k numbers seven times.
    """
    n, k = Z.shape
    best, where_j, where_i = -1.0, -1, -1
    for j in range(n):
        row = Z[j]
        old, fresh = row[p], new[j]
        for i in range(k):
            row[i] -= drop[i] * old + add[i] * fresh
        row[p] = fresh
        if not taken[j]:
            r = residual[j]
            for i in range(k):
                z = row[i]
                value = z.real * z.real + z.imag * z.imag + r * dual[i]
                if value > best:
                    best, where_j, where_i = value, j, i
    return best, where_j, where_i


@kernel(fastmath=FLAGS)
def deflate(E, q, along, gathered):
    """Take the direction q out of every row of E, and gather what the next scores need, in one pass.

    ``along[j] = q^* E[j]``, ``E[j] -= along[j] q``, ``gathered = sum_j E[j] conj(along[j])`` with the new E.

    E : (n, d), one column of the sketch in each row;  q, gathered : (d,);  along : (n,).

    Floor: n d numbers read and written once, 6 n d flops. As three BLAS-2 calls the same reads E three times.
    """
    n, d = E.shape
    for a in range(d):
        gathered[a] = 0.0
    for j in range(n):
        row = E[j]
        c = q[0].conjugate() * row[0]
        for a in range(1, d):
            c += q[a].conjugate() * row[a]
        along[j] = c
        back = c.conjugate()
        for a in range(d):
            row[a] -= c * q[a]
            gathered[a] += row[a] * back


@kernel(fastmath=FLAGS)
def advance(V, u, E, pivot, weight, error, score, noise, tiny):
    """One step of Osinsky's rule in one pass: take the pivot's direction and its share out, and find the next column.

    ``along = V u``, ``weight[j] -= |along[j]|^2``, ``E[j] -= E[pivot] along[j] / along[pivot]``,
    ``error[j] = ||E[j]||^2``; returned is the column with the least ``(error[j] + noise) / weight[j]``, and among
    equals the one with the largest weight. Columns of weight `tiny` or less are out, and so is the pivot from now on.

    V : (n, k) and E : (n, r), one column of the matrix in each row;  u : (k,);  weight, error, score : (n,) float64.

    Floor: n k numbers read, n r read and written once, 2 n k + 4 n r flops. For n = 2000, k = 200 the 3.2 MB of V come
    from L3 at each step and are all of the time.
    """
    n, r = E.shape
    k = u.size
    own = V[pivot, 0] * u[0]
    for a in range(1, k):
        own += V[pivot, a] * u[a]
    inverse = 1.0 / own
    gone = E[pivot].copy()
    best = np.inf
    for j in range(n):
        row = V[j]
        c = row[0] * u[0]
        for a in range(1, k):
            c += row[a] * u[a]
        w = weight[j] - (c.real * c.real + c.imag * c.imag)
        if w < 0.0 or j == pivot:
            w = 0.0
        weight[j] = w
        share = c * inverse
        rest = E[j]
        total = 0.0
        for a in range(r):
            x = rest[a] - share * gone[a]
            rest[a] = x
            total += x.real * x.real + x.imag * x.imag
        error[j] = total
        score[j] = (total + noise) / w if w > tiny else np.inf
        best = min(best, score[j])
    where = 0
    found = -1.0
    for j in range(n):
        if score[j] <= best * (1.0 + tiny) and weight[j] > found:
            where, found = j, weight[j]
    return where
