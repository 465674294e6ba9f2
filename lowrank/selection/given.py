"""The user's own columns."""

from .base import Candidates, Choice, Selection


def choose(candidates: Candidates) -> Choice:
    if candidates.indices is None:
        raise ValueError('selection="given" needs indices=, the columns (or rows) to keep')
    return Choice(candidates.indices, "given")


GIVEN = Selection("given", choose, "What the given indices allow.", "")
