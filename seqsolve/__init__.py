"""Recurrences that run fast and say how far they can be trusted: nn.RNN, nn.GRU, nn.LSTM, or any step of your own.

``import seqsolve as sq``; each name below lives in the file of the same idea.
"""

from typing import TYPE_CHECKING

from ._lazy import attach

if TYPE_CHECKING:
    from . import attention as attention
    from . import distributed as distributed
    from . import gallery as gallery
    from . import linear_attention as linear_attention
    from . import ode as ode
    from . import plotting as plotting
    from .associative import associative_scan as associative_scan
    from .diagnose import Diagnosis as Diagnosis
    from .diagnose import diagnose as diagnose
    from .feedback import FeedbackAttention as FeedbackAttention
    from .feedback import FeedbackState as FeedbackState
    from .feedback import feedback_attention as feedback_attention
    from .layers import CachedKeys as CachedKeys
    from .layers import LinearRecurrence as LinearRecurrence
    from .layers import RecurrentAttention as RecurrentAttention
    from .methods import METHODS as METHODS
    from .protocol import Cell as Cell
    from .published_cells import LEM as LEM
    from .published_cells import CfC as CfC
    from .published_cells import IndRNN as IndRNN
    from .published_cells import MinGRU as MinGRU
    from .published_cells import MinLSTM as MinLSTM
    from .recompute import Recomputation as Recomputation
    from .recompute import recompute as recompute
    from .recompute import recompute_pairs as recompute_pairs
    from .recurrent import parallelize as parallelize
    from .results import Certificate as Certificate
    from .results import Report as Report
    from .results import Solution as Solution
    from .results import Status as Status
    from .scan import affine_scan as affine_scan
    from .solve import ConvergenceError as ConvergenceError
    from .solve import solve as solve
    from .stack import CausalLayer as CausalLayer
    from .stack import CausalStack as CausalStack

__version__ = "0.1.0"

_EXPORTS = {
    "CachedKeys": "layers",
    "CausalLayer": "stack",
    "CausalStack": "stack",
    "Cell": "protocol",
    "Certificate": "results",
    "CfC": "published_cells",
    "ConvergenceError": "solve",
    "Diagnosis": "diagnose",
    "FeedbackAttention": "feedback",
    "FeedbackState": "feedback",
    "IndRNN": "published_cells",
    "LEM": "published_cells",
    "LinearRecurrence": "layers",
    "METHODS": "methods",
    "MinGRU": "published_cells",
    "MinLSTM": "published_cells",
    "Recomputation": "recompute",
    "RecurrentAttention": "layers",
    "Report": "results",
    "Solution": "results",
    "Status": "results",
    "affine_scan": "scan",
    "associative_scan": "associative",
    "attention": "attention",
    "diagnose": "diagnose",
    "distributed": "distributed",
    "feedback_attention": "feedback",
    "gallery": "gallery",
    "linear_attention": "linear_attention",
    "ode": "ode",
    "parallelize": "recurrent",
    "plotting": "plotting",
    "recompute": "recompute",
    "recompute_pairs": "recompute",
    "solve": "solve",
}
__all__ = [
    "LEM",
    "METHODS",
    "CachedKeys",
    "CausalLayer",
    "CausalStack",
    "Cell",
    "Certificate",
    "CfC",
    "ConvergenceError",
    "Diagnosis",
    "FeedbackAttention",
    "FeedbackState",
    "IndRNN",
    "LinearRecurrence",
    "MinGRU",
    "MinLSTM",
    "Recomputation",
    "RecurrentAttention",
    "Report",
    "Solution",
    "Status",
    "affine_scan",
    "associative_scan",
    "attention",
    "diagnose",
    "distributed",
    "feedback_attention",
    "gallery",
    "linear_attention",
    "ode",
    "parallelize",
    "plotting",
    "recompute",
    "recompute_pairs",
    "solve",
]
__getattr__, __dir__ = attach(__name__, _EXPORTS)
