"""Landmarks drawn uniformly, without replacement."""

from .base import Landmarks, Search


def run(search: Search) -> str:
    search.add(search.rng.permutation(search.cholesky.operand.shape[0])[: search.cholesky.limit])
    return ""


UNIFORM = Landmarks(
    "uniform",
    run,
    False,
    "Good where the leading eigenvectors are spread over all rows (low coherence); small clusters are missed.",
    "Gittens and Mahoney (2016), Revisiting the Nystrom method for improved large-scale machine learning, "
    "JMLR 17(117), 1-65, theorem 3.",
)
