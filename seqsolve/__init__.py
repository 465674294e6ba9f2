"""Recurrences that run fast and say how far they can be trusted: nn.RNN, nn.GRU, nn.LSTM, or any step of your own.

``import seqsolve as sq``; each name below lives in the file of the same idea.
"""

from typing import TYPE_CHECKING

from ._lazy import attach

if TYPE_CHECKING:
    from . import gallery as gallery
    from .diagnose import Diagnosis as Diagnosis
    from .diagnose import diagnose as diagnose
    from .methods import METHODS as METHODS
    from .recurrent import parallelize as parallelize
    from .results import Certificate as Certificate
    from .results import Report as Report
    from .results import Solution as Solution
    from .results import Status as Status
    from .scan import affine_scan as affine_scan
    from .solve import ConvergenceError as ConvergenceError
    from .solve import solve as solve

__version__ = "0.1.0"

_EXPORTS = {
    "Certificate": "results",
    "ConvergenceError": "solve",
    "Diagnosis": "diagnose",
    "METHODS": "methods",
    "Report": "results",
    "Solution": "results",
    "Status": "results",
    "affine_scan": "scan",
    "diagnose": "diagnose",
    "gallery": "gallery",
    "parallelize": "recurrent",
    "solve": "solve",
}
__all__ = [
    "METHODS",
    "Certificate",
    "ConvergenceError",
    "Diagnosis",
    "Report",
    "Solution",
    "Status",
    "affine_scan",
    "diagnose",
    "gallery",
    "parallelize",
    "solve",
]
__getattr__, __dir__ = attach(__name__, _EXPORTS)
