"""Factorisations of large matrices that keep real rows and columns: ID, CUR, Nystrom.

``import lowrank as lr``; each name below lives in the file of the same idea.
"""

from typing import TYPE_CHECKING

from ._lazy import attach

if TYPE_CHECKING:
    from . import gallery as gallery
    from .certificate import Certificate as Certificate
    from .certificate import certify as certify
    from .cur import CUR as CUR
    from .cur import cur as cur
    from .interpolative import ColumnID as ColumnID
    from .interpolative import RowID as RowID
    from .interpolative import column_id as column_id
    from .interpolative import row_id as row_id
    from .nystrom import Nystrom as Nystrom
    from .nystrom import nystrom as nystrom
    from .operands import GaussianKernel as GaussianKernel
    from .operands import KernelMatrix as KernelMatrix
    from .operands import as_operand as as_operand
    from .results import Status as Status
    from .results import load as load
    from .selection import SELECTIONS as SELECTIONS
    from .selection import select_columns as select_columns
    from .selection import select_rows as select_rows

__version__ = "0.1.0"

_EXPORTS = {
    "CUR": "cur",
    "SELECTIONS": "selection",
    "Certificate": "certificate",
    "ColumnID": "interpolative",
    "GaussianKernel": "operands",
    "KernelMatrix": "operands",
    "Nystrom": "nystrom",
    "RowID": "interpolative",
    "Status": "results",
    "as_operand": "operands",
    "certify": "certificate",
    "column_id": "interpolative",
    "cur": "cur",
    "gallery": "gallery",
    "load": "results",
    "nystrom": "nystrom",
    "row_id": "interpolative",
    "select_columns": "selection",
    "select_rows": "selection",
}
__all__ = [
    "CUR",
    "SELECTIONS",
    "Certificate",
    "ColumnID",
    "GaussianKernel",
    "KernelMatrix",
    "Nystrom",
    "RowID",
    "Status",
    "as_operand",
    "certify",
    "column_id",
    "cur",
    "gallery",
    "load",
    "nystrom",
    "row_id",
    "select_columns",
    "select_rows",
]
__getattr__, __dir__ = attach(__name__, _EXPORTS)
