"""Columns drawn uniformly without replacement: the baseline that every other rule has to beat."""

import numpy as np

from .base import Candidates, Choice, Selection


def choose(candidates: Candidates) -> Choice:
    alive = np.flatnonzero(candidates.squared_norms > 0)  # a zero column explains nothing
    picked = candidates.rng.choice(alive, size=min(candidates.k, alive.size), replace=False)
    return Choice(picked, "uniform")


UNIFORM = Selection(
    "uniform",
    choose,
    "None on coherent matrices; fine where all columns matter about equally.",
    "Chiu and Demanet (2013), Sublinear randomized algorithms for skeleton decompositions, doi 10.1137/110852310.",
)
