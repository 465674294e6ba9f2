"""From what a user passes as ``sketch=`` to an embedding."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .base import Embedding
from .gaussian import GaussianSketch
from .given import GivenSketch
from .sparse_stack import SparseStack
from .trigonometric import TrigonometricSketch

#: The sketches by name: ``draw(height, m, rng)`` of each.
SKETCHES: dict[str, Callable[[int, int, np.random.Generator], Embedding]] = {
    "sparse": SparseStack.draw,
    "gaussian": GaussianSketch.draw,
    "trigonometric": TrigonometricSketch.draw,
}


def check_sketch(sketch: Any, m: int, k: int, dtype) -> "str | Embedding":
    """A name of `SKETCHES`, or the user's own sketch for m rows, which must have k rows at least."""
    if isinstance(sketch, str):
        if sketch not in SKETCHES:
            known = ", ".join(map(repr, SKETCHES))
            raise ValueError(
                f"sketch={sketch!r} is not available; pass one of {known}, or a (d, {m}) array or object with @"
            )
        return sketch
    if isinstance(sketch, Embedding):
        if sketch.shape[1] != m:
            raise ValueError(
                f"sketch has shape {sketch.shape}, but the matrix that it is applied to has {m} rows; draw it for {m}"
            )
        found = sketch
    else:
        found = GivenSketch(sketch, m)
    if isinstance(found, GivenSketch):
        found.fits(dtype)
    if found.height < k:
        raise ValueError(
            f"sketch has {found.height} rows for {k} columns; pass at least as many rows as columns wanted, "
            "and two to four times as many for good coefficients"
        )
    return found


def as_embedding(sketch: "str | Embedding", height: int, m: int, rng: np.random.Generator) -> Embedding:
    """The sketch to apply: drawn with `height` rows where it is a name."""
    return SKETCHES[sketch](height, m, rng) if isinstance(sketch, str) else sketch
