"""Compiled sketches of compressed sparse matrices: contiguous arrays and integers in, no validation, no options."""

from ._jit import kernel


@kernel
def sketch_columns(indptr, indices, data, rows, signs, table, index, first, last, Y, W, norms):
    """Sketch, probes and norms of columns ``first:last`` of a CSC matrix, into rows of the transposed results.

    indptr, indices, data : the matrix, row indices ascending in each column;  rows, signs : (m, 4) of the stack;
    table, index : row i of the (m, p) probes is ``table[index[i]]``;  Y : (n, d);  W : (n, p);  norms : (n,) float64.
    Columns share nothing: any split is safe.

    Every sum runs over the rows of A in ascending order, so that CSC, CSR and the dense kernel agree to the last bit.

    Floor: (8 + 2 p) flops an entry; one random read of 4 (index, sign) pairs an entry, which come from memory and are
    what the time goes to; a table of probes stays in L2, where one row for each of 200000 would not, and a row of Y in
    L1. On 200000 x 20000 with 393,000 entries, k = 50, on a machine with other load: 1.3 of 60 dense columns with the
    matrix, and 0.2 to bring CSR into this order; scattering CSR rows into all of Y misses the cache at every update.
    """
    for j in range(first, last):
        y = Y[j]
        w = W[j]
        total = 0.0
        for q in range(indptr[j], indptr[j + 1]):
            i = indices[q]
            x = data[q]
            at = index[i]
            for z in range(rows.shape[1]):
                y[rows[i, z]] += signs[i, z] * x
            for t in range(table.shape[1]):
                w[t] += table[at, t] * x
            re = float(x.real)
            im = float(x.imag)
            total += re * re
            total += im * im
        norms[j] = total
