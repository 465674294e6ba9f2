"""Many sequences through one cell at once, a vector lane each: the chunks of `shooting`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ._threads import thread_map
from .cells import _SIGMOID, GATES, Weights, _register_bytes, lane_seconds
from .pace import Pace, pace

_WORTH_A_THREAD = 2e-3  # seconds of work that pay for one more thread
PROBES = 8  # places where pairs of trajectories are followed
SHARE, BUDGET, _ENOUGH = 0.01, 0.05, 96  # of the time of all steps: for the pairs, and at most while these are so few
_REGISTER = 1e-4  # seconds of steps that are worth one more register of chunks, each of which costs calls
CALL = 9e-4  # seconds that the calls of the pairs, the chunks and the seams take beyond their steps
_READ = 1.3e-10  # seconds a byte of the inputs, which are looked through for NaN
PAYS = 0.75  # of the time of the loop that chunks must be estimated to stay below
_SOON = 16  # steps of the shortest burn-in that is hoped for
_SECOND = 0.4  # of a thread that a second one is counted as: machines are shared
_NARROW = 4  # units of a cell that two registers side by side suit even where the machine has only 16 of them
_TILES = {"rnn_tanh": (8, 4, 1), "rnn_relu": (8, 4, 1), "gru": (2, 1), "lstm": (2, 1)}


def lane_count(dtype: np.dtype) -> int:
    """Sequences that one register holds."""
    return _register_bytes() // np.dtype(dtype).itemsize


class Lanes:
    """One direction of one layer, packed for kernels in which a lane is a sequence.

    Parameters
    ----------
    weights : of a cell without projection.
    """

    def __init__(self, weights: Weights):
        from . import _lanes_kernels as kernels

        kind, dtype, H = weights.kind, weights.w_hh.dtype, weights.hidden
        self.kind, self.hidden, self.dtype = kind, H, dtype
        self.size = 2 * H if kind == "lstm" else H
        self.inputs, self.lanes = weights.w_ih.shape[1], (0,) * lane_count(dtype)
        self.registers = 2 if H <= _NARROW or _register_bytes() == 64 else 1
        self.run = {"gru": kernels.gru, "lstm": kernels.lstm}.get(kind, kernels.rnn)
        self.seconds = lane_seconds(kind, H, self.inputs, dtype.itemsize)
        gates, halves = GATES[kind], _SIGMOID[kind]
        factor = np.repeat([0.5 if half else 1.0 for half in halves], H).astype(dtype)
        bias, self.inner = np.zeros(gates * H, dtype), np.zeros(H, dtype)
        if weights.b_ih is not None and weights.b_hh is not None:
            bias[:] = weights.b_ih
            if kind == "gru":
                self.inner[:] = weights.b_hh[2 * H :]
                bias[: 2 * H] += weights.b_hh[: 2 * H]
            else:
                bias += weights.b_hh
        tiles, self.bias = _TILES[kind], (bias * factor).reshape(gates, H).T.copy().reshape(-1)
        self.W = _packed(weights.w_ih * factor[:, None], gates, tiles)
        self.U = _packed(weights.w_hh * factor[:, None], gates, tiles)

    def advance(
        self, x: np.ndarray, states: np.ndarray, out: np.ndarray | None, reads, writes, steps: int, *,
        stride: int = 1, column: int = 0, cells: bool = False, workers: int = 1,
    ) -> np.ndarray:  # fmt: skip
        """`steps` steps of sequences that start at the rows reads of x and writes of out; their states after that.

        x : (rows, K) contiguous.  states : (sequences, n), n = H, or 2 H for an LSTM (h, then c).
        out : (rows, width) contiguous; h goes to `column`.., and c behind it where `cells`. None keeps no states.
        """
        if out is None:  # rows without width: all of them are one
            out, writes, width = np.empty((1, self.size), self.dtype), np.zeros(len(states), np.int64), 0
        else:
            width = out.shape[1]
        L, H, count = len(self.lanes), self.hidden, len(states)
        reads, writes = np.asarray(reads, np.int64), np.asarray(writes, np.int64)
        span = (self.inputs, H, steps, stride, width, column, cells)
        flat, to, rectify, ends = x.reshape(-1), out.reshape(-1), self.kind == "rnn_relu", np.empty_like(states)

        def go(job):
            first, lanes = job[0] * L, self.lanes * job[1]
            last = min(first + len(lanes), count)
            full = first + len(lanes) <= count
            who = slice(first, last) if full else np.minimum(np.arange(first, first + len(lanes)), count - 1)
            both = states[who].T.flatten()
            h, c = both[: H * len(lanes)], both[H * len(lanes) :]
            self.run(
                (lanes, self.lanes), rectify, flat, self.W, self.U, self.bias, self.inner, h, c, to,
                reads[who], writes[who], span,
            )  # fmt: skip
            ends[first:last] = both.reshape(self.size, -1).T[: last - first]

        registers = -(-count // L)
        workers = min(workers, 1 + int(registers * L * steps * self.seconds / _WORTH_A_THREAD))
        thread_map(go, _shares(registers, self.registers, workers), workers)
        return ends


def _shares(registers: int, together: int, workers: int) -> list[tuple[int, int]]:
    """(first, how many) for `together` registers at a time; the same number for every thread, as far as that goes."""
    each = max(1, -(-registers // workers))
    return [
        (k, min(together, first + each - k, registers - k))
        for first in range(0, registers, each)
        for k in range(first, min(first + each, registers), together)
    ]


def probing_limit(steps: int, price: float) -> int:
    """Steps that the pairs of all probes may be followed for; `price` of one of them, in steps in order.

    A hundredth of the time of all steps, or a twentieth of it as long as these are fewer than 96.
    """
    return int(min(max(SHARE * steps / price, min(_ENOUGH, BUDGET * steps / price)), BUDGET * steps))


def pair_price(batch: int, loop: float, lane: float, lanes: int) -> float:
    """One step of all pairs in registers over one step of the loop."""
    return -(-2 * PROBES * batch // lanes) * lanes * lane / loop


class LaneFlow:
    """The `Flow` of a cell: every lane is one sequence of the batch in one chunk.

    Parameters
    ----------
    lanes : the packed cell.
    x : (T * B, K) contiguous, time first.
    out : (T * B, width) contiguous; h, and c where `cells`, go to `column`..
    batch : B.
    order : (state (B, n), first, last) -> state, the steps in order, written to out.
    seconds : one step of the batch in that loop.
    insist : do not ask whether chunks are faster than that.
    """

    def __init__(
        self, lanes: Lanes, x: np.ndarray, out: np.ndarray, batch: int,
        order: Callable[[Tensor, int, int], Tensor], seconds: float, *,
        column: int = 0, backwards: bool = False, cells: bool = False, workers: int = 1, insist: bool = False,
    ):  # fmt: skip
        self.insist = insist
        self.lanes, self.x, self.out, self.batch = lanes, x, out, batch
        self.in_order, self.seconds, self.column, self.backwards = order, seconds, column, backwards
        self.cells, self.workers, self.steps = cells, workers, len(x) // batch
        self.shape = (batch, lanes.size)
        self.width = lanes.size if cells else lanes.hidden
        self.pace = Pace(seconds, lanes.seconds)

    def chunks(self, states, places, first, spacing, steps, keep=True):
        rows = self.times(np.arange(first, first + places * spacing, spacing) if spacing else np.full(places, first))
        if len(states) > places:
            rows = np.concatenate([rows] * (len(states) // places))
        if self.batch > 1:
            rows = (rows[:, None] + np.arange(self.batch)).reshape(-1)
        done = self.lanes.advance(
            self.x, states.reshape(-1, self.lanes.size).numpy(), self.out if keep else None, rows, rows, steps,
            workers=self.workers, **self.strides(keep),
        )  # fmt: skip
        return torch.from_numpy(done).reshape(states.shape)

    def strides(self, keep: bool) -> dict[str, Any]:
        """How `Lanes.advance` goes from row to row, and what it keeps in them."""
        stride = -self.batch if self.backwards else self.batch
        return {"stride": stride, "column": self.column if keep else 0, "cells": self.cells and keep}

    def times(self, times):
        """The rows where the first sequence of the batch stands at these steps."""
        return (self.steps - 1 - times if self.backwards else times) * self.batch

    def order(self, state, first, last):
        return self.in_order(state, first, last) if last > first else state

    def rows(self, times):
        at = self.times(np.asarray(times))[:, None] + np.arange(self.batch)
        return torch.from_numpy(self.out[at, self.column : self.column + self.width])

    def put(self, times, rows):
        at = self.times(np.asarray(times, np.int64))[:, None] + np.arange(self.batch)
        self.out[at, self.column : self.column + self.width] = rows[..., : self.width].numpy()

    def limit(self):
        price = pair_price(self.batch, self.seconds, self.lanes.seconds, len(self.lanes.lanes))
        return int(BUDGET * self.steps) if self.insist else probing_limit(self.steps, price)

    def count(self, burn):
        """Up to 16 whole registers of chunks of four burn-ins or more, or shorter ones; 1 where the loop is as fast."""
        L = len(self.lanes.lanes)
        together = max(1, L // self.batch)  # chunks that fill a register
        registers = min(max(int(self.steps * self.batch * self.lanes.seconds / _REGISTER), 2), 16)
        C = min(self.steps // (4 * burn), registers * together) // together * together
        C = C or min(together, self.steps // (2 * burn))
        if C < 2:
            return 1
        return C if self.insist or self.cost(C, burn) < PAYS * self.steps * self.pace.order else 1

    def measure(self, state: Tensor) -> bool:
        """Take the pace of this machine for that of the tables; would chunks pay if pairs met at once?"""
        self.pace = pace(self, state)
        return self.count(_SOON) > 1

    def cost(self, chunks: int, burn: int) -> float:
        """Seconds that this many chunks are estimated to take."""
        L = len(self.lanes.lanes)
        registers = -(-chunks * self.batch // L)
        alone = (self.steps // chunks + burn) * registers * L * self.pace.lane
        workers = min(self.workers, registers, 1 + int(alone / _WORTH_A_THREAD))
        return CALL + _READ * self.x.nbytes + alone / (1 + _SECOND * (workers - 1))


def _packed(rows: np.ndarray, gates: int, tiles: tuple[int, ...]) -> np.ndarray:
    """Weights (gates * H, columns) in tiles of units, each in order (column, unit, gate)."""
    H = len(rows) // gates
    cube, pieces, i = rows.reshape(gates, H, -1), [], 0
    for tile in tiles:
        count = (H - i) // tile
        whole = cube[:, i : i + count * tile].reshape(gates, count, tile, rows.shape[1])
        pieces.append(whole.transpose(1, 3, 2, 0).reshape(-1))
        i += count * tile
    return np.concatenate(pieces)
