"""The registry of selections: one strategy a file, each of which works on a sketch of any operand."""

from .aca import ACA
from .arp import ARP
from .auto import AUTO
from .base import Candidates, Choice, Selection
from .column_sampling import COLUMN_SAMPLING
from .deim import DEIM, QDEIM
from .given import GIVEN
from .greedy_error import GREEDY_ERROR
from .kmeans import KMEANS
from .leverage import LEVERAGE, RIDGE_LEVERAGE
from .lu import LU
from .maxvol import MAXVOL, RECT_MAXVOL
from .norm import NORM
from .norm_sampling import NORM_SAMPLING
from .osinsky import OSINSKY
from .qr import QR
from .rbrp import RBRP
from .select import run_selection, select_columns, select_rows
from .strong_rrqr import STRONG_RRQR
from .uniform import UNIFORM

__all__ = [
    "RANK_REVEALING",
    "SELECTIONS",
    "Candidates",
    "Choice",
    "Selection",
    "run_selection",
    "select_columns",
    "select_rows",
]

SELECTIONS: dict[str, Selection] = {
    entry.name: entry
    for entry in (
        *(AUTO, LU, QR, OSINSKY, NORM, UNIFORM, GIVEN),
        *(ARP, RBRP, STRONG_RRQR, MAXVOL, RECT_MAXVOL, DEIM, QDEIM),
        *(LEVERAGE, RIDGE_LEVERAGE, NORM_SAMPLING, COLUMN_SAMPLING, KMEANS, GREEDY_ERROR, ACA),
    )
}

#: Rules that stop early only where the sketch has no further rank; the others may stop at columns that depend.
RANK_REVEALING = frozenset(
    rule.name
    for rule in (
        *(LU, QR, OSINSKY, ARP, RBRP, STRONG_RRQR, MAXVOL, RECT_MAXVOL),
        *(DEIM, QDEIM, GREEDY_ERROR, COLUMN_SAMPLING, ACA),
    )
)
