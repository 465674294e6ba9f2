"""Compiled inner loops of the selections: contiguous arrays and integers in, no validation, no options."""

from typing import Any

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
def downdate(E, pivot, along, weight, error):
    """One step of Osinsky's rule: take the pivot's share out of every column of the residual, and score it anew.

    ``weight[j] -= |along[j]|^2``, ``E[j] -= E[pivot] along[j] / along[pivot]``, ``error[j] = ||E[j]||^2``.

    E : (n, r), one column of the residual in each row;  along : (n,);  weight, error : (n,) float64.

    Floor: n r numbers read and written once, 4 n r flops: 0.06 ms for 2000 columns of 64 numbers, which stay in L2.
    In numpy the same is six passes and a temporary of n r numbers.
    """
    n, r = E.shape
    gone = E[pivot].copy()
    inverse = 1.0 / along[pivot]
    for j in range(n):
        c = along[j]
        w = weight[j] - (c.real * c.real + c.imag * c.imag)
        weight[j] = w if w > 0.0 else 0.0
        share = c * inverse
        row = E[j]
        total = 0.0
        for a in range(r):
            x = row[a] - share * gone[a]
            row[a] = x
            total += x.real * x.real + x.imag * x.imag
        error[j] = total
