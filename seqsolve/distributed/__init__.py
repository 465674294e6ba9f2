"""Time split over processes: affine scans, non-linear recurrences, exact attention in a ring, states merged over ranks.

Each rank of a ``torch.distributed`` group (gloo or NCCL) holds a consecutive part of the sequence, in the order of the
ranks; parts may differ in length. Messages are point to point, so that a rank that does not answer is named.
"""

from .affine import affine_scan
from .ranks import TIMEOUT, LostRankError
from .ring import merge, ring_attention
from .solve import solve

__all__ = ["TIMEOUT", "LostRankError", "affine_scan", "merge", "ring_attention", "solve"]
