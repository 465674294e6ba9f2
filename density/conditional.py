"""The linear head of a conditional entropy model in integers, and streams in which each value has its own table."""

import math
import struct
from dataclasses import dataclass

import numpy as np

from . import _frozen_kernels as kernels
from ._threads import resolve_workers, thread_map
from .frozen import FrozenDensity
from .rans import StreamError, StreamStatus, decode, encode

FEATURE_ONE = 2**12  # features count in units of 2^-12 and weights in units of 2^-16: sums are Q28
WEIGHT_ONE = 2**16
SUM_ONE = FEATURE_ONE * WEIGHT_ONE
_MOST = 2.0**61  # of a sum, in units of 2^-28
_SYMBOLS = 2**20  # of all tables of one block


@dataclass(frozen=True, eq=False)
class FrozenHead:
    """Integers of a linear map from F features to shift, log2 ratio and K + 1 coefficients of each of C channels.

    Parameters
    ----------
    weight : (C, K + 3, F) int64, units of 2^-16.
    bias : (C, K + 3) int64, units of 2^-28.
    tail : as in `FrozenDensity`.
    """

    weight: np.ndarray
    bias: np.ndarray
    tail: int

    def predict(self, features) -> tuple[np.ndarray, FrozenDensity]:
        """Shifts in steps, float64 multiples of 2^-28, and the densities of (F, L) features: both C L long, C first.

        The features are rounded to 2^-12 and all that follows is integer arithmetic, so that two machines agree if
        their features do: decoded symbols always, outputs of a floating-point network only if it is the same to 2^-13.
        """
        features = np.asarray(features, dtype=np.float64)
        largest = np.abs(features).max(initial=0.0)
        reach = float(np.abs(self.weight).sum(-1, dtype=np.float64).max()) * largest * FEATURE_ONE
        if reach + float(np.abs(self.bias).max()) >= _MOST:
            raise ValueError(f"features reach {largest:.3g}, too far for 64-bit sums; scale them to about 1")
        units = np.ascontiguousarray(np.rint(features * FEATURE_ONE).astype(np.int64).T)
        C, L, K = len(self.bias), len(units), self.bias.shape[1] - 3
        shifts, ratios = np.empty((C, L), np.int64), np.empty((C, L), np.int32)
        coefficients = np.empty((C, L, K + 1), np.int32)
        kernels.predict(self.weight, self.bias, units, shifts, ratios, coefficients)
        return shifts.ravel() / SUM_ONE, FrozenDensity(coefficients.reshape(-1, K + 1), ratios.ravel(), self.tail)


def freeze_head(weight, bias, log_ratios, coefficients, tail: int) -> FrozenHead:
    """Round a float head to integers.

    Parameters
    ----------
    weight, bias : (C, K + 3, F) and (C, K + 3) floats for shift, natural log of scale, and coefficients.
    log_ratios : (C,) log2(step / (2 scale)) to which the head adds.  coefficients : (C, K + 1) likewise.
    """
    weight, bias = np.array(weight, dtype=np.float64), np.array(bias, dtype=np.float64)
    weight[:, 1] /= -math.log(2)
    bias[:, 1] = log_ratios - bias[:, 1] / math.log(2)
    bias[:, 2:] += coefficients
    largest = max(np.abs(weight).max(), np.abs(bias).max())
    if not largest < 2**20:
        raise ValueError("the weights of the head must be finite and below 2^20")
    return FrozenHead(np.rint(weight * WEIGHT_ONE).astype(np.int64), np.rint(bias * SUM_ONE).astype(np.int64), tail)


def encode_each(values: np.ndarray, density: FrozenDensity, workers: int | None = None) -> bytes:
    """`values`, one a density, as blocks with tables of their own: a length in four bytes, then the stream, each."""

    def one(block: slice) -> bytes:
        stream = encode(values[block], _part(density, block).tables(), contexts=np.arange(block.stop - block.start))
        return struct.pack("<I", len(stream)) + stream

    return b"".join(thread_map(one, _blocks(density), resolve_workers(workers)))


def decode_each(data: bytes, density: FrozenDensity, workers: int | None = None) -> np.ndarray:
    """The values of `encode_each`; StreamError if the bytes are not whole."""
    blocks, streams, at = _blocks(density), [], 0
    for _ in blocks:
        length = struct.unpack_from("<I", data, at)[0] if at + 4 <= len(data) else len(data)
        if at + 4 + length > len(data):
            raise StreamError(StreamStatus.TRUNCATED)
        streams.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    if at < len(data):
        raise StreamError(StreamStatus.TRAILING)

    def one(j: int) -> np.ndarray:
        count = blocks[j].stop - blocks[j].start
        return decode(streams[j], count, _part(density, blocks[j]).tables(), contexts=np.arange(count))

    parts = thread_map(one, range(len(blocks)), resolve_workers(workers))
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def _blocks(density: FrozenDensity) -> list[slice]:
    """Runs of values whose tables have at most `_SYMBOLS` symbols together; they follow from the integers alone."""
    count = len(density.ratios)
    offsets = np.empty(count + 1, np.int64)
    kernels.layout(density.ratios, np.empty(count, np.int64), np.empty(count, np.int64), offsets)
    blocks, begin = [], 0
    while begin < count:
        end = int(np.searchsorted(offsets, offsets[begin] + _SYMBOLS, side="right")) - 1
        blocks.append(slice(begin, max(end, begin + 1)))
        begin = blocks[-1].stop
    return blocks


def _part(density: FrozenDensity, block: slice) -> FrozenDensity:
    return FrozenDensity(density.coefficients[block], density.ratios[block], density.tail)
