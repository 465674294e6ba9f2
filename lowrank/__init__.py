"""Factorisations of large matrices that keep real rows and columns: ID, CUR, Nystrom.

``import lowrank as lr``; each name below lives in the file of the same idea.
"""

from typing import TYPE_CHECKING

from ._lazy import attach

if TYPE_CHECKING:
    from . import gallery as gallery
    from . import testing as testing
    from .attention import AttentionStatus as AttentionStatus
    from .attention import LandmarkAttention as LandmarkAttention
    from .attention import landmark_attention as landmark_attention
    from .batch import Batch as Batch
    from .certificate import Certificate as Certificate
    from .certificate import certify as certify
    from .column_row import ColumnRow as ColumnRow
    from .column_row import PairStatus as PairStatus
    from .column_row import cr as cr
    from .cur import CUR as CUR
    from .cur import cur as cur
    from .estimators import ColumnSelector as ColumnSelector
    from .estimators import CURTransformer as CURTransformer
    from .estimators import InterpolativeDecomposition as InterpolativeDecomposition
    from .estimators import NystromFeatures as NystromFeatures
    from .interpolative import ColumnID as ColumnID
    from .interpolative import RowID as RowID
    from .interpolative import column_id as column_id
    from .interpolative import row_id as row_id
    from .nystrom import Nystrom as Nystrom
    from .nystrom import nystrom as nystrom
    from .operands import CosineKernel as CosineKernel
    from .operands import GaussianKernel as GaussianKernel
    from .operands import KernelMatrix as KernelMatrix
    from .operands import LaplaceKernel as LaplaceKernel
    from .operands import MaternKernel as MaternKernel
    from .operands import NumbaKernel as NumbaKernel
    from .operands import PolynomialKernel as PolynomialKernel
    from .operands import as_operand as as_operand
    from .plotting import plot_decay as plot_decay
    from .plotting import plot_error_against_rank as plot_error_against_rank
    from .plotting import plot_picked as plot_picked
    from .pseudoinverse import InverseStatus as InverseStatus
    from .pseudoinverse import PseudoInverse as PseudoInverse
    from .pseudoinverse import pinv as pinv
    from .results import Status as Status
    from .retrieval import SearchIndex as SearchIndex
    from .retrieval import SearchResult as SearchResult
    from .retrieval import SearchStatus as SearchStatus
    from .retrieval import search_index as search_index
    from .selection import SELECTIONS as SELECTIONS
    from .selection import select_columns as select_columns
    from .selection import select_rows as select_rows
    from .sketches import SKETCHES as SKETCHES
    from .sketches import GaussianSketch as GaussianSketch
    from .sketches import SparseStack as SparseStack
    from .sketches import TrigonometricSketch as TrigonometricSketch
    from .storage import load as load
    from .two_sided import TwoSidedID as TwoSidedID
    from .two_sided import two_sided_id as two_sided_id

__version__ = "0.1.0"

_EXPORTS = {
    "AttentionStatus": "attention",
    "Batch": "batch",
    "CUR": "cur",
    "CURTransformer": "estimators",
    "Certificate": "certificate",
    "ColumnID": "interpolative",
    "ColumnRow": "column_row",
    "ColumnSelector": "estimators",
    "CosineKernel": "operands",
    "GaussianKernel": "operands",
    "GaussianSketch": "sketches",
    "InterpolativeDecomposition": "estimators",
    "InverseStatus": "pseudoinverse",
    "KernelMatrix": "operands",
    "LandmarkAttention": "attention",
    "LaplaceKernel": "operands",
    "MaternKernel": "operands",
    "NumbaKernel": "operands",
    "Nystrom": "nystrom",
    "NystromFeatures": "estimators",
    "PairStatus": "column_row",
    "PolynomialKernel": "operands",
    "PseudoInverse": "pseudoinverse",
    "RowID": "interpolative",
    "SELECTIONS": "selection",
    "SKETCHES": "sketches",
    "SearchIndex": "retrieval",
    "SearchResult": "retrieval",
    "SearchStatus": "retrieval",
    "SparseStack": "sketches",
    "Status": "results",
    "TrigonometricSketch": "sketches",
    "TwoSidedID": "two_sided",
    "as_operand": "operands",
    "certify": "certificate",
    "column_id": "interpolative",
    "cr": "column_row",
    "cur": "cur",
    "gallery": "gallery",
    "landmark_attention": "attention",
    "load": "storage",
    "nystrom": "nystrom",
    "pinv": "pseudoinverse",
    "plot_decay": "plotting",
    "plot_error_against_rank": "plotting",
    "plot_picked": "plotting",
    "row_id": "interpolative",
    "search_index": "retrieval",
    "select_columns": "selection",
    "select_rows": "selection",
    "testing": "testing",
    "two_sided_id": "two_sided",
}
__all__ = [
    "CUR",
    "SELECTIONS",
    "SKETCHES",
    "AttentionStatus",
    "Batch",
    "CURTransformer",
    "Certificate",
    "ColumnID",
    "ColumnRow",
    "ColumnSelector",
    "CosineKernel",
    "GaussianKernel",
    "GaussianSketch",
    "InterpolativeDecomposition",
    "InverseStatus",
    "KernelMatrix",
    "LandmarkAttention",
    "LaplaceKernel",
    "MaternKernel",
    "NumbaKernel",
    "Nystrom",
    "NystromFeatures",
    "PairStatus",
    "PolynomialKernel",
    "PseudoInverse",
    "RowID",
    "SearchIndex",
    "SearchResult",
    "SearchStatus",
    "SparseStack",
    "Status",
    "TrigonometricSketch",
    "TwoSidedID",
    "as_operand",
    "certify",
    "column_id",
    "cr",
    "cur",
    "gallery",
    "landmark_attention",
    "load",
    "nystrom",
    "pinv",
    "plot_decay",
    "plot_error_against_rank",
    "plot_picked",
    "row_id",
    "search_index",
    "select_columns",
    "select_rows",
    "testing",
    "two_sided_id",
]
__getattr__, __dir__ = attach(__name__, _EXPORTS)
