"""One file for each sketch; `as_embedding` is the only place that turns a name or a user's matrix into one."""

from .base import Embedding, Sketch, Tabled
from .choice import SKETCHES, as_embedding, check_sketch
from .gaussian import GaussianSketch
from .given import GivenSketch
from .sparse_stack import ZETA, SparseStack
from .trigonometric import TrigonometricSketch

__all__ = [
    "SKETCHES",
    "ZETA",
    "Embedding",
    "GaussianSketch",
    "GivenSketch",
    "Sketch",
    "SparseStack",
    "Tabled",
    "TrigonometricSketch",
    "as_embedding",
    "check_sketch",
]
