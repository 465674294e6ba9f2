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
