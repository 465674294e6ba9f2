"""Columns drawn by their squared norms."""

import numpy as np

from .base import Candidates, Choice, Selection
from .working import draw_distinct


def choose(candidates: Candidates) -> Choice:
    weights = np.asarray(candidates.squared_norms, dtype=np.float64)
    return Choice(draw_distinct(weights, candidates.k, candidates.rng), "norm_sampling")


NORM_SAMPLING = Selection(
    "norm_sampling",
    choose,
    "E ||A - C C^+ A||_F^2 <= ||A - A_r||_F^2 + (r / k) ||A||_F^2 for every r: an additive error.",
    "Frieze, Kannan and Vempala (2004), Fast Monte-Carlo algorithms for finding low-rank approximations, "
    "doi 10.1145/1039488.1039494, theorem 2.",
)
