"""A large matrix as a small image: each block by its largest modulus, in one pass."""

import numpy as np

from .operands import Operand


def pooled(operand: Operand, pixels: int) -> np.ndarray:
    """An image of at most pixels x pixels, whose entry (p, q) is max |a_ij| over block (p, q) of A.

    Reads strips of rows of at most four million entries; of a sparse matrix the stored entries alone.
    """
    m, n = operand.shape
    pixels = int(pixels)
    if pixels < 1:
        raise ValueError(f"pixels={pixels}; pass a positive integer")
    high, wide = min(m, pixels), min(n, pixels)
    image = np.zeros((high, wide))
    stored = getattr(operand, "A", None)
    if stored is not None and hasattr(stored, "tocoo"):
        entries = stored.tocoo()
        operand._served(entries.nnz)
        at = entries.row.astype(np.int64) * high // m, entries.col.astype(np.int64) * wide // n
        np.maximum.at(image, at, np.abs(entries.data))
        return _finite(image)
    starts = -(-np.arange(wide) * n // wide)  # the first column j with j * wide // n = q
    step = max(1, (1 << 22) // n)
    for i in range(0, m, step):
        rows = np.arange(i, min(i + step, m))
        sizes = np.maximum.reduceat(np.abs(operand.rows(rows)), starts, axis=1)
        np.maximum.at(image, rows * high // m, sizes)
    return _finite(image)


def _finite(image: np.ndarray) -> np.ndarray:
    if not np.isfinite(image).all():
        raise ValueError("A has entries that are NaN or inf; lowrank needs finite entries")
    return image
