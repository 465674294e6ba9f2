"""Recurrences that run fast and say how far they can be trusted: nn.RNN, nn.GRU, nn.LSTM, or any step of your own.

``import seqsolve as sq``; each name below lives in the file of the same idea.
"""

from typing import TYPE_CHECKING

from ._lazy import attach

if TYPE_CHECKING:
    from .recurrent import parallelize as parallelize

__version__ = "0.1.0"

_EXPORTS = {
    "parallelize": "recurrent",
}
__all__ = [
    "parallelize",
]
__getattr__, __dir__ = attach(__name__, _EXPORTS)
