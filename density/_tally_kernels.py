"""Kernels that count integers: one pass for their ends, one for how often each occurs."""

import numpy as np

from ._jit import kernel


@kernel
def extent(values, limit):
    """Least and greatest of the values below `limit`; (limit, -2^63) where there are none. Floor: 8 bytes a value."""
    low, high = np.int64(limit), np.int64(-(2**63))
    for i in range(values.size):
        v = values[i]
        if v < limit:
            low = min(low, v)
            high = max(high, v)
    return low, high


@kernel
def tally(values, low, limit, counts, special):
    """Add up counts[v - low] for v < limit and special[v - limit] for the others.

    Floor: 8 bytes and one read, add and write of a counter a value, which wait for one another where values repeat: two
    counters a value, in turn, halve that.
    """
    for i in range(values.size):
        v = values[i]
        if v >= limit:
            special[v - limit] += 1
        else:
            counts[i & 1, v - low] += 1
