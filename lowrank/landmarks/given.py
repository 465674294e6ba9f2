"""Landmarks that the user names."""

from .base import Landmarks, Search


def run(search: Search) -> str:
    if search.indices is not None:
        search.add(search.indices)
    return ""


GIVEN = Landmarks("given", run, False, "What the indices deserve.", "Yours.")
