"""Samples that do not stand in memory as one array: files read by blocks, iterators of chunks, dask arrays."""

import sys
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from ._checks import as_array
from .progress import reporting

_BLOCK = 1 << 22  # samples that are read at once where the chunks of the file are smaller
FAN = 8  # sketches that one dask task adds


def is_stream(x) -> bool:
    """Whether x gives its samples chunk by chunk: an iterator, or a generator."""
    return hasattr(x, "__next__")


def is_dask(x) -> bool:
    """Whether x is a dask array; dask is not imported for the question."""
    array = sys.modules.get("dask.array")
    return array is not None and isinstance(x, array.Array)


def is_stored(x) -> bool:
    """Whether x is read by slices: zarr arrays, h5py datasets, memory maps that would have to be converted."""
    if isinstance(x, np.ndarray):
        return isinstance(x, np.memmap) and x.dtype not in (np.float32, np.float64)
    return all(hasattr(x, name) for name in ("chunks", "shape", "dtype", "__getitem__"))


def is_source(x) -> bool:
    """Whether x is any of them."""
    return is_stream(x) or is_dask(x) or is_stored(x)


def blocks(x) -> tuple[Iterator[Any], int | None]:
    """The chunks of a stream, or the blocks of anything with a shape; and how many samples those are, if known."""
    if is_stream(x):
        return iter(x), None
    shape = tuple(int(extent) for extent in x.shape)
    total = 1
    for extent in shape:
        total *= extent
    if not total:
        return iter(()), 0
    chunks = getattr(x, "chunks", None) or (1,) * len(shape)
    steps = _steps(shape, [int(np.max(c)) for c in chunks])
    starts = product(*(range(0, extent, step) for extent, step in zip(shape, steps)))
    cuts = (tuple(slice(a, a + step) for a, step in zip(at, steps)) for at in starts)
    return (as_array(x[cut]) for cut in cuts), total


def _steps(shape, chunks) -> list[int]:
    """Multiples of the chunks' extents that hold up to about `_BLOCK` samples, the last axis grown first."""
    steps = [max(1, min(chunk, extent)) for chunk, extent in zip(chunks, shape)]
    for axis in reversed(range(len(shape))):
        held = 1
        for step in steps:
            held *= step
        steps[axis] = min(shape[axis], steps[axis] * max(1, _BLOCK // held))
    return steps


def sketch_of_dask(x, empty, progress: Any = False, nan_policy: str = "raise"):
    """Sum of the sketches of the blocks of a dask array, one task a block, added in a tree; shapes may be unknown.

    `empty` makes an empty sketch; it is sent to the workers. Counts are integers, so the order of the tree is of no
    consequence for any bit. `progress` is told of every block that was counted, on the scheduler that is set.
    """
    import dask

    count, add = dask.delayed(_Count(empty, nan_policy), pure=False), dask.delayed(_Sum(empty), pure=False)
    parts = [count(block) for block in x.to_delayed().ravel()]
    total = int(x.size) if np.isfinite(x.size) else None
    with reporting(progress, total, "sample") as advance:
        client = _client()
        if client is None:
            with _watched({part.key for part in parts}, advance):
                return dask.compute(_tree(parts, add))[0] if parts else empty()
        from distributed import as_completed

        futures = client.compute(parts)
        if progress is not False and progress is not None:
            sizes = {size.key: size for size in (client.submit(_size, f) for f in futures)}
            for done in as_completed(list(sizes.values())):
                advance(done.result())
        return client.compute(_tree(futures, add)).result() if futures else empty()


def _tree(parts, add):
    while len(parts) > 1:
        parts = [add(parts[at : at + FAN]) for at in range(0, len(parts), FAN)]
    return parts[0]


def _size(sketch) -> int:
    return sketch.n


def _client():
    """The client of the cluster that dask would use, or None for its schedulers in this process and beside it."""
    from dask.base import get_scheduler

    distributed = sys.modules.get("distributed")
    owner = getattr(get_scheduler(), "__self__", None)
    return owner if distributed is not None and isinstance(owner, distributed.Client) else None


def _watched(keys: set, advance):
    """A callback of dask that counts the samples of these tasks as they end."""
    from dask.callbacks import Callback

    def after(key, result, *_):
        if key in keys:
            advance(result.n)

    return Callback(posttask=after)


class _Count:
    """Task: the sketch of one block, in the thread that the scheduler gave it."""

    def __init__(self, empty, nan_policy: str = "raise"):
        self.empty, self.nan_policy = empty, nan_policy

    def __call__(self, block):
        return self.empty().update(as_array(block), workers=1, nan_policy=self.nan_policy)


class _Sum(_Count):
    """Task: the sum of some sketches; a new one, because a task may run twice on the same input."""

    def __call__(self, parts):
        total = self.empty()
        for part in parts:
            total.merge(part)
        return total
