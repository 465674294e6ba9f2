"""The affine scan as one operator of torch's own, for those who trace: torch.compile, torch.export, torch.jit.trace.

They would look for operators inside the compiled kernels, or keep the numbers of one call as constants.
"""

# no __future__ annotations: torch reads the types of the operator from the function

import math

import torch
from torch import Tensor

from ._affine import Settings, pulled_back, run
from ._threads import resolve_workers


@torch.library.custom_op("seqsolve::affine_scan", mutates_args=())
def _scan(
    A: Tensor, b: Tensor, h0: Tensor, kind: str, reverse: bool, workers: int | None, limit: float | None
) -> Tensor:
    bound = math.inf if limit is None else limit
    return run(A, b, h0, Settings(kind, reverse, resolve_workers(workers), bound))


@_scan.register_fake
def _(A, b, h0, kind, reverse, workers, limit):
    return torch.empty_like(b, memory_format=torch.contiguous_format)


def _setup(ctx, inputs, output):
    A, _, h0, kind, reverse, workers, _ = inputs
    ctx.save_for_backward(A, h0, output)
    ctx.settings = Settings(kind, reverse, workers)


def _backward(ctx, g):
    A, h0, h = ctx.saved_tensors
    return *pulled_back(traced_scan, A, h0, h, g, ctx.settings), None, None, None, None


_scan.register_autograd(_backward, setup_context=_setup)


def traced_scan(A: Tensor, b: Tensor, h0: Tensor, settings: Settings) -> Tensor:
    """`AffineScan.apply` where what happens is written down and not done; workers=None are all cores of that day."""
    kind, reverse, workers, limit = settings
    return _scan(A, b, h0, kind, reverse, workers, None if limit == math.inf else limit)
