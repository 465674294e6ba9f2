"""What a step of a cell takes on this machine, in order and in vector lanes: measured once a process for every size.

Tables are of one machine, and which of two ways is faster hangs on the ratio of two of their entries. A few steps of
either, in CPU time of this thread, tell it: less than a millisecond the first time a size is met.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

_GOES = 3  # each of two calls
_SHARE, _LEAST = 1e-3, 3e-4  # of the time of all steps, and seconds, that one go is to last
_FEW = 4  # steps of the call that is taken off, for the difference


@dataclass(frozen=True)
class Pace:
    """Seconds: order, one step of the batch in order; lane, one step of one sequence where every lane is one."""

    order: float
    lane: float


_measured: dict[tuple, Pace] = {}


def pace(flow: Any, state: Tensor) -> Pace:
    """Of a `lanes.LaneFlow`, some of whose rows are written over; `state` is any to start from."""
    lanes, size = flow.lanes, (flow.x.nbytes + flow.out.nbytes).bit_length()
    key = lanes.kind, lanes.hidden, lanes.inputs, lanes.dtype.str, flow.batch, flow.cells, size
    found = _measured.get(key)
    if found is None:
        together = max(1, len(lanes.lanes) * lanes.registers // flow.batch)
        length = flow.steps // together
        states, share = np.zeros((together * flow.batch, lanes.size), lanes.dtype), _SHARE * flow.steps * flow.seconds

        def side_by_side(first: int, steps: int) -> None:
            rows = (flow.times(first + length * np.arange(together))[:, None] + np.arange(flow.batch)).reshape(-1)
            flow.lanes.advance(flow.x, states, flow.out, rows, rows, steps, workers=1, **flow.strides(True))

        def in_order(first: int, steps: int) -> None:
            flow.in_order(state, first, first + steps)

        # in doubt for the loop, which needs nothing of the recurrence: its fastest go, and the middle one of lanes
        order = min(_a_step(in_order, flow.seconds, share, flow.steps))
        lane = float(np.median(_a_step(side_by_side, len(states) * lanes.seconds, share, length))) / len(states)
        found = _measured[key] = Pace(order, lane)
    return found


def _a_step(call: Callable[[int, int], object], estimate: float, share: float, most: int) -> list[float]:
    """Seconds that each further step of a call (first, steps) takes, in each go, at steps which no cache knows."""
    room = most // (_GOES + 1)
    few = min(_FEW, max(room // 2, 1))
    more = min(max(int(max(share, _LEAST) / estimate), 2 * few), max(room - 2 * few, 1))
    call(0, few)  # compiles what has to be compiled
    seconds = []
    for go in range(1, _GOES + 1):
        begin = time.thread_time()
        call(go * room, few)
        between = time.thread_time()
        call(go * room + few, few + more)
        seconds.append(max((time.thread_time() - between) - (between - begin), 1e-9) / more)
    return seconds
