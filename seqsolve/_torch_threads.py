"""torch's own threads, held to one where they would wait for one another longer than they work."""

from contextlib import contextmanager

import torch

_WORTH = 1 << 21  # multiply-adds of one operation that pay for a second thread


@contextmanager
def few_threads(work: float = 0.0):
    """One thread for operations of about this many multiply-adds, unless they are worth more of them.

    Threads meet at the end of every operation. Where another process has one of the cores, that meeting takes
    milliseconds: chunks of 32 units were ten times slower on two threads than on one.
    """
    before = torch.get_num_threads()
    if before == 1 or work >= _WORTH:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
