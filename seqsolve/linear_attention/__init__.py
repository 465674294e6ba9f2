"""Linear recurrences with one signature and three equal forms: ``o, state = name(q, k, v, ..., form="chunk")``.

Each line of `TABLE` says what is forgotten, written and read; ``form="step"`` runs it one token after the other in the
memory of one state, "scan" takes all prefixes at once, "chunk" turns it into matrix products.
"""

from .channels import lru as lru
from .channels import mamba1 as mamba1
from .channels import min_gru as min_gru
from .channels import min_lstm as min_lstm
from .channels import rwkv4 as rwkv4
from .channels import s5 as s5
from .heads import delta as delta
from .heads import gated_delta as gated_delta
from .heads import gla as gla
from .heads import linear as linear
from .heads import mamba2 as mamba2
from .heads import retnet as retnet
from .heads import rwkv6 as rwkv6
from .heads import rwkv7 as rwkv7
from .matrix import MatrixParts as MatrixParts
from .table import TABLE as TABLE
from .table import Recurrence as Recurrence
from .table import recurrence as recurrence

__all__ = [
    "TABLE",
    "MatrixParts",
    "Recurrence",
    "delta",
    "gated_delta",
    "gla",
    "linear",
    "lru",
    "mamba1",
    "mamba2",
    "min_gru",
    "min_lstm",
    "recurrence",
    "retnet",
    "rwkv4",
    "rwkv6",
    "rwkv7",
    "s5",
]
