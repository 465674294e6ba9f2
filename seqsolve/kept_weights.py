"""The weights of a drop-in, packed once and compared bit for bit with torch's own in every call.

No counter of versions tells of an edit through ``.data`` or through an array that shares the memory, so the numbers
themselves are compared: two reads of the weights, about a tenth of the time of packing them.
"""

from __future__ import annotations

from operator import is_

import numpy as np
from torch import Tensor

from .cells import Packed, Weights

_COPIED = 1 << 14  # bytes


class KeptWeights:
    """Copies of all weights of a module, as they were when `tracks` was packed: one pair a layer and direction.

    arrays : the memory of `tensors` as numpy sees it, which stays alive (and its addresses taken) as long as this.
    """

    def __init__(self, kind: str, tensors: list[Tensor], arrays: list[np.ndarray], each: int, bias: bool):
        self.dtype = tensors[0].dtype
        self._tensors, self._at = list(tensors), [(t.data_ptr(), t.shape) for t in tensors]
        copies = [array.copy() for array in arrays]
        self._bits = [(_bits(now), _bits(then)) for now, then in zip(arrays, copies)]
        self.tracks: list[tuple[Weights, Packed]] = []
        for k in range(0, len(copies), each):
            part = copies[k : k + each]
            b_ih, b_hh = part[2:4] if bias else (None, None)
            projection = part[-1] if each % 2 else None
            weights = Weights(kind, part[0], part[1], b_ih, b_hh, projection)
            self.tracks.append((weights, Packed(weights)))

    def current(self, tensors: list[Tensor]) -> bool:
        """Are these the tensors that were packed, in the same memory, with every bit as it was?"""
        if len(tensors) != len(self._tensors) or not all(map(is_, tensors, self._tensors)):
            return False
        dtype = self.dtype
        for t, (address, shape) in zip(tensors, self._at):
            if t.data_ptr() != address or t.dtype is not dtype or t.shape != shape or not t.is_contiguous():
                return False
        return all(_same(now, then) for now, then in self._bits)


def _bits(array: np.ndarray) -> np.ndarray:
    return array.reshape(-1).view(np.uint64 if array.nbytes % 8 == 0 else np.uint32)


def _same(now: np.ndarray, then: np.ndarray) -> bool:
    """Bits compared by memcmp where a copy costs less than the call of a ufunc, else by vectors of integers."""
    return now.tobytes() == then.tobytes() if now.nbytes <= _COPIED else np.array_equal(now, then)
