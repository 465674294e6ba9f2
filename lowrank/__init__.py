"""Factorisations of large matrices that keep real rows and columns: ID, CUR, Nystrom.

``import lowrank as lr``; each name below lives in the file of the same idea.
"""

from typing import TYPE_CHECKING

from ._lazy import attach

if TYPE_CHECKING:
    from .interpolative import column_id as column_id

__version__ = "0.1.0"

_EXPORTS = {
    "column_id": "interpolative",
}
__all__ = [
    "column_id",
]
__getattr__, __dir__ = attach(__name__, _EXPORTS)
