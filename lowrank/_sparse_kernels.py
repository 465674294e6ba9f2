"""Compiled sketches of compressed sparse matrices: contiguous arrays and integers in, no validation, no options."""

from ._jit import kernel


@kernel
def sketch_columns(indptr, indices, data, rows, signs, omega, first, last, Y, W, norms):
    """Sketch, probes and norms of columns ``first:last`` of a CSC matrix, into rows of the transposed results.

    indptr, indices, data : the matrix, row indices ascending in each column;  rows, signs : (m, 4) of the stack;
    omega : (m, p) probes;  Y : (n, d);  W : (n, p);  norms : (n,) float64. Columns share nothing: any split is safe.

    Every sum runs over the rows of A in ascending order, so that CSC, CSR and the dense kernel agree to the last bit.

    Floor: (8 + 2 p) flops an entry; one random read of 4 (index, sign) pairs and p probes an entry, which come from
    L2 or memory and are what the time goes to; a row of Y stays in L1.
    """
    for j in range(first, last):
        y = Y[j]
        w = W[j]
        total = 0.0
        for q in range(indptr[j], indptr[j + 1]):
            i = indices[q]
            x = data[q]
            for z in range(rows.shape[1]):
                y[rows[i, z]] += signs[i, z] * x
            for t in range(omega.shape[1]):
                w[t] += omega[i, t] * x
            re = float(x.real)
            im = float(x.imag)
            total += re * re
            total += im * im
        norms[j] = total


@kernel
def scatter_rows(indptr, indices, data, rows, signs, block, Y):
    """Hash block `block` of the sketch of a CSR matrix, added into the transposed sketch Y (n, d).

    A block writes to rows of its own, so that the four of them may run at the same time. Sums over rows ascend.

    Floor: 2 flops and one random read and write of Y an entry.
    """
    for i in range(indptr.size - 1):
        r = rows[i, block]
        s = signs[i, block]
        for q in range(indptr[i], indptr[i + 1]):
            Y[indices[q], r] += s * data[q]


@kernel
def probe_rows(indptr, indices, data, omega, W, norms):
    """Probes W (n, p) and squared column norms (n,) of a CSR matrix; `omega` is (m, p). Sums over rows ascend."""
    for i in range(indptr.size - 1):
        for q in range(indptr[i], indptr[i + 1]):
            j = indices[q]
            x = data[q]
            for t in range(omega.shape[1]):
                W[j, t] += omega[i, t] * x
            re = float(x.real)
            im = float(x.imag)
            norms[j] += re * re
            norms[j] += im * im
