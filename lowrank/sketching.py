"""The names of `lowrank.sketches` that other files use."""

from .sketches import SKETCHES, ZETA, Embedding, Sketch, SparseStack, Tabled, as_embedding, check_sketch

__all__ = ["SKETCHES", "ZETA", "Embedding", "Sketch", "SparseStack", "Tabled", "as_embedding", "check_sketch", "sweep"]


def sweep(S: Embedding, probes, fill, n: int, dtype, *, workers: int, tile=None) -> Sketch:
    """One pass over an m x n matrix by whatever sketch S is; see `Embedding.sweep`."""
    return S.sweep(probes, fill, n, dtype, workers=workers, tile=tile)
