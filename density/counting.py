"""How often each integer of an array occurs."""

from functools import reduce

import numpy as np

from . import _tally_kernels as kernels
from ._threads import thread_map
from .integers import KINDS, SPECIAL, STEPS

_DIRECT = 1 << 22  # widest range that is counted in place; beyond it values are sorted


def count_values(parts, mode: int, workers: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct plain values in order, how often each occurs, and how often each special one does.

    parts : int64 arrays, counted by several threads. O(n) where the range is below 2^22, else O(n log n).
    """
    special = np.zeros(KINDS, np.int64)
    limit = np.int64(SPECIAL if mode == STEPS else 2**63 - 1)  # the latter is never counted in place: see below
    ends = thread_map(lambda part: kernels.extent(part, limit), parts, workers)
    low = min((int(e[0]) for e in ends), default=int(limit))
    high = max((int(e[1]) for e in ends), default=-(2**63))
    top = mode != STEPS and any((part == limit).any() for part in parts)
    if low > high and not top:
        for part in parts:
            special += np.bincount(part - SPECIAL, minlength=KINDS) if part.size else 0
        return np.zeros(0, np.int64), np.zeros(0, np.int64), special
    if high - low < _DIRECT and not top:
        groups = [parts[i::workers] for i in range(min(workers, len(parts)))]

        def group(some) -> tuple[np.ndarray, np.ndarray]:
            counts, odd = np.zeros((2, high - low + 1), np.int64), np.zeros(KINDS, np.int64)
            for part in some:
                kernels.tally(part, np.int64(low), limit, counts, odd)
            return counts.sum(0), odd

        found = thread_map(group, groups, workers)
        counts = reduce(np.add, (c for c, _ in found))
        present = np.flatnonzero(counts)
        return low + present, counts[present], special + reduce(np.add, (o for _, o in found))
    plain = []
    for part in parts:
        if mode == STEPS:
            odd = part >= SPECIAL
            special += np.bincount(part[odd] - SPECIAL, minlength=KINDS)
            part = part[~odd]
        plain.append(part)
    values, counts = np.unique(np.concatenate(plain), return_counts=True)
    return values, counts, special
