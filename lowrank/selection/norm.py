"""The k columns of largest norm: exact norms, which the sketching pass measures anyway."""

import numpy as np

from .base import Candidates, Choice, Selection


def choose(candidates: Candidates) -> Choice:
    order = np.argsort(-candidates.squared_norms, kind="stable")[: candidates.k]
    return Choice(order[candidates.squared_norms[order] > 0], "norm")


NORM = Selection(
    "norm",
    choose,
    "None: parallel columns of large norm are all taken.",
    "Frieze, Kannan and Vempala (2004), Fast Monte-Carlo algorithms for finding low-rank approximations, "
    "doi 10.1145/1039488.1039494 (norms as importance; here the largest rather than a sample).",
)
