"""Softmax attention as a recurrent network: one state (m, l, acc), read token by token, in blocks, or merged."""

from .exact import causal as causal
from .multistate import MultiState as MultiState
from .multistate import tova as tova
from .page import page_flipping as page_flipping
from .positions import alibi_slopes as alibi_slopes
from .positions import rotary as rotary
from .prefix import aaren as aaren
from .state import SoftmaxState as SoftmaxState
from .state import online_softmax as online_softmax

__all__ = [
    "MultiState",
    "SoftmaxState",
    "aaren",
    "alibi_slopes",
    "causal",
    "online_softmax",
    "page_flipping",
    "rotary",
    "tova",
]
