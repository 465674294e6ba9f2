"""A layer of a drop-in by `shooting`: chunks of time as vector lanes, where that is expected to beat the fused loop."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ._threads import thread_map
from .cells import _PIECE, Layout, Track, Weights, lane_seconds
from .dispatch import fused_seconds
from .lanes import LaneFlow, Lanes, lane_count, pair_price, probing_limit
from .shooting import Outcome, burn_in, shoot

SEAM = 8  # units of eps that a seam of a drop-in may have: its users compare with torch's own outputs
_SHORTEST = 16  # steps of a pair: no use in fewer
_READ = 1 << 23  # bytes that pay for one more thread
_WORTH = 6e-3  # seconds of the fused loop from which on the burn-in is measured


def shoot_track(
    track: Track,
    weights: Weights,
    x: np.ndarray,
    layout: Layout,
    out: np.ndarray,
    workers: int,
    *,
    insist: bool = False,
) -> Outcome | None:
    """One direction of one layer in chunks; None, and nothing done, where that cannot be or is not expected to pay.

    An `Outcome` that was abandoned has done nothing, too: the recurrence does not forget. `insist` tries however
    little there is to gain.
    """
    batch, steps = layout.batch, layout.steps
    if weights.w_hr is not None or int(layout.lengths[-1]) < steps or not weights.hidden:
        return None
    seconds = fused_seconds(weights, batch)
    if not insist and seconds * steps < _WORTH:
        return None
    lane = lane_seconds(weights.kind, weights.hidden, weights.w_ih.shape[1], out.itemsize)
    few = probing_limit(steps, pair_price(batch, seconds, lane, lane_count(out.dtype))) < _SHORTEST
    if not insist and few:
        return None
    H, lstm = weights.hidden, weights.kind == "lstm"
    start = torch.from_numpy(np.concatenate(track.final(), axis=1) if lstm else track.final()[0].copy())

    def place(state: Tensor) -> None:
        track.h[:, :H] = state[:, :H]
        if lstm:
            track.c[:, :H] = state[:, H:]

    def order(state: Tensor, first: int, last: int) -> Tensor:
        place(state)
        low, high = (steps - last, steps - first) if track.backwards else (first, last)
        piece = max(1, _PIECE // (track.bias.nbytes * batch))
        cuts = [(a, min(a + piece, high)) for a in range(low, high, piece)]
        for a, b in reversed(cuts) if track.backwards else cuts:
            part, rows = Layout.padded(b - a, batch), slice(a * batch, b * batch)
            track.advance(track.gates(x[rows], part, 0, b - a, workers), part, 0, b - a, 0, batch, out[rows])
        return torch.from_numpy(np.concatenate(track.final(), axis=1) if lstm else track.final()[0].copy())

    if track.packed.sequences is None:
        track.packed.sequences = Lanes(weights)
    flow = LaneFlow(
        track.packed.sequences, x, out, batch, order, seconds,
        column=track.column, backwards=track.backwards, workers=workers, insist=insist,
    )  # fmt: skip
    if not insist:
        promising = flow.measure(start)
        place(start)
        if not promising:
            return None
    tol = SEAM * float(np.finfo(out.dtype).eps)
    burn = burn_in(flow, start, tol)
    if burn is None:
        return Outcome(length=steps, abandoned="pairs of trajectories did not promise to meet, so no chunks were made")
    if not (_finite(x, workers) and bool(torch.isfinite(start).all())):
        return None  # what is not finite never meets anything
    found = shoot(flow, start, tol, order=False, burn=burn)
    if not found.abandoned:
        place(found.state)
    return found


def _finite(x: np.ndarray, workers: int) -> bool:
    """Whether the sum of x is finite; as fast as it can be read, which is what it costs."""
    parts = min(workers, 1 + x.nbytes // _READ)
    with np.errstate(all="ignore"):
        return bool(np.isfinite(sum(thread_map(np.sum, np.array_split(x, parts), parts))))
