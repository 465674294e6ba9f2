"""Which of the two is faster, the fused loop or torch's own: a measured rule."""

import numpy as np

from .cells import step_seconds

_TORCH = {"rnn_tanh": 2.4e-6, "rnn_relu": 2.4e-6, "gru": 6.5e-6, "lstm": 4e-7}


def choose(kind, hidden, batch, steps, dtype, threads):
    """Whether to take the fused loop, and the reason."""
    fused = 8e-5 + steps * batch * step_seconds(kind, hidden, hidden, np.dtype("f4"))
    torch_seconds = 5e-5 + steps * _TORCH[kind]
    if fused < torch_seconds:
        return True, "the fused loop is estimated faster than torch's operators"
    return False, "torch is estimated faster"
