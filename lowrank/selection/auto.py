"""The default: LU where the spectrum falls slowly, Osinsky's rule where it falls fast or costs next to nothing."""

import numpy as np

from . import osinsky, qr
from .base import Candidates, Choice, Selection, numerical_rank
from .lu import pivots

CHEAP = 4e6  # n k^2 below which Osinsky's rule takes less than 20 ms on one core (5 ms at 8e5, 9 ms at 2e6)
FAST = 3.0  # fall of the pivots over the second half; 1.8 for j^-2 at any k, 5 for e^(-j/20) at k = 100


def choose(candidates: Candidates) -> Choice:
    n, k = candidates.Y.shape[1], candidates.k
    if n * k**2 <= CHEAP:
        chosen = osinsky.choose(candidates)
        return Choice(chosen.indices, "osinsky", "the problem is small, so the most careful rule costs nothing")
    order, diagonal = pivots(candidates.compressed(k), k)
    rank = numerical_rank(diagonal, n)
    if rank == k:
        size = np.log(np.abs(diagonal))
        part = max(1, k // 8)
        middle = (k - part) // 2
        fall = float(np.exp(size[middle : middle + part].mean() - size[-part:].mean()))
        if fall <= FAST:
            if candidates.careful:
                chosen = qr.choose(candidates)
                return Choice(chosen.indices, "qr", "beside the second pass over A, pivoted QR costs little")
            return Choice(
                order, "lu", f"the pivots fall only {fall:.2g}-fold over the second half, where rules differ little"
            )
        reason = f"the pivots fall {fall:.2g}-fold over the second half, and on fast decay the rule matters"
    else:
        reason = f"the sketch has rank {rank} < {k}"
    return Choice(osinsky.choose(candidates).indices, "osinsky", reason)


AUTO = Selection(
    "auto",
    choose,
    "That of the rule it takes; explain() of a result names it and says why.",
    "Measured on slow and fast spectra; see the two rules.",
)
