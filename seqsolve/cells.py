"""The cells that have a fused kernel: their weights, and a whole layer run in order, step by step.

A layer of torch's own loop spends microseconds a step on dispatch. Here the input part W x + b is one product outside
the loop (in pieces that stay in cache) and the rest of a step is one kernel that keeps everything in registers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

from ._threads import thread_map

GATES = {"rnn_tanh": 1, "rnn_relu": 1, "gru": 3, "lstm": 4}
_SIGMOID = {"rnn_tanh": (False,), "rnn_relu": (False,), "gru": (True, True, False), "lstm": (True, True, False, True)}
KEPT = {"rnn_tanh": 1, "rnn_relu": 1, "gru": 4, "lstm": 6}  # of `kept` in `_kernels.py`, beside the state before
_PIECE = 1 << 20  # bytes of gates at a time: enough to amortise a GEMM call, and they stay in the L2 cache
_PROJECT = 2e11  # bytes of multiply-adds a second of the input product
_SHORT = 1024  # steps and sequences of a layout that is worth keeping for the next call
_INLINE = 8  # inputs whose product the loops of one register take in: the time for it is there
# seconds of work that pay for one more thread: starting one costs about 1e-4, and milliseconds where torch's threads,
# which spin for a while after their last product, hold the cores
_WORTH_A_THREAD = 2e-3


@dataclass(frozen=True)
class Weights:
    """One direction of one layer, as torch stores it; a missing bias is zero.

    w_ih : (gates * H, inputs).  w_hh : (gates * H, R).  b_ih, b_hh : (gates * H,) or None.
    w_hr : (R, H) projection of an LSTM, or None, and then R = H.
    """

    kind: str
    w_ih: np.ndarray
    w_hh: np.ndarray
    b_ih: np.ndarray | None = None
    b_hh: np.ndarray | None = None
    w_hr: np.ndarray | None = None

    @property
    def hidden(self) -> int:
        """H, the units of the cell."""
        return self.w_hh.shape[0] // GATES[self.kind]

    @property
    def recurrent(self) -> int:
        """R, the size of the output and of what is fed back."""
        return self.w_hh.shape[1]


class Layout:
    """Where step t of sequence b lies: row start[t] + b. start has T + 1 entries; lengths are descending.

    steps, batch : T, and how many sequences there are. Both arrays are made when they are asked for: chunks of time
        can do without, and they would take as long as a fifth of their steps.
    """

    def __init__(self, steps: int, batch: int):
        self.steps, self.batch = steps, batch

    @cached_property
    def start(self) -> np.ndarray:
        return np.arange(self.steps + 1) * self.batch

    @cached_property
    def lengths(self) -> np.ndarray:
        return np.full(self.batch, self.steps)

    def rows(self, first: int, last: int) -> np.ndarray:
        """start[first:last]."""
        return self.start[first:last] if "start" in self.__dict__ else np.arange(first, last) * self.batch

    @classmethod
    def padded(cls, steps: int, batch: int) -> Layout:
        return _short_padded(steps, batch) if steps + batch <= _SHORT else cls(steps, batch)

    @classmethod
    def packed(cls, batch_sizes: np.ndarray) -> Layout:
        """The layout of a PackedSequence: batch_sizes[t] sequences are still running at step t."""
        sizes = np.asarray(batch_sizes, dtype=np.int64)
        made = cls(len(sizes), int(sizes[0]))
        made.start = np.concatenate([[0], np.cumsum(sizes)])
        made.lengths = np.searchsorted(-sizes, -np.arange(sizes[0]), side="left")
        return made


_short_padded = lru_cache(256)(Layout)


@cache
def _register_bytes() -> int:
    """64 where the machine has 512-bit registers, else 32."""
    from llvmlite import binding

    return 64 if binding.get_host_cpu_features().get("avx512f") else 32


def lanes_for(units: int, dtype: np.dtype) -> tuple[int, ...]:
    """A tuple as long as a vector register is wide: the narrowest that does not leave more padding than it must."""
    widest = _register_bytes() // dtype.itemsize
    if units <= 4:
        return (0,) * 4
    half = widest // 2
    if half >= 4 and units <= 4 * widest and -(-units // half) % 2:
        return (0,) * half
    return (0,) * widest


def step_seconds(kind: str, H: int, R: int, dtype: np.dtype) -> float:
    """About how long one step of one sequence takes in the fused loop: latency, then the matrix from cache."""
    return 5e-8 + GATES[kind] * H * R * dtype.itemsize / 1e11


def lane_seconds(kind: str, H: int, inputs: int, itemsize: int) -> float:
    """About how long one step of one sequence takes where every vector lane is one, in two registers or more of them.

    Moving the numbers, then the multiply-adds and a tanh for each gate. Off by a fifth at most from what
    ``python -m benchmarks.dispatch_table --lanes`` measures.
    """
    start, state, rate, gate = (4.5e-10, 3.2e-10, 9.5e10, 2.3e-10) if itemsize == 4 else (1.4e-9, 3.5e-10, 4.5e10, 1e-9)
    return start + inputs * 2.3e-10 + H * state + GATES[kind] * H * ((inputs + H) / rate + gate)


class Packed:
    """One direction of one layer, packed as the kernels read it; nothing here changes afterwards.

    sequences : the same as `lanes.Lanes` packs it, from the first call in chunks on.
    """

    sequences: Any = None

    def __init__(self, weights: Weights):
        from . import _kernels, _tile_kernels

        self.project = _kernels.project
        kind, H, R = weights.kind, weights.hidden, weights.recurrent
        dtype, gates, halves = weights.w_hh.dtype, GATES[kind], _SIGMOID[kind]
        self.hidden, self.recurrent, self.relu = H, R, kind == "rnn_relu"
        self.seconds = step_seconds(kind, H, R, dtype)
        self.lanes: tuple = lanes_for(H, dtype)
        L = len(self.lanes)
        tiles, outputs = -(-H // L), -(-R // L)
        self.columns, self.cells = outputs * L, tiles * L
        self.kept_numbers = KEPT[kind] * self.cells + self.columns
        N = tiles * gates * L
        one = tiles == 1 and R == H and weights.w_hr is None  # then the state stays in one register
        name = kind.partition("_")[0]

        self.inputs = K = weights.w_ih.shape[1]
        self.inline = one and 0 < K <= _INLINE
        gate, column = (L, gates * L) if self.inline else (K * L, L)
        self.W = _kernels.aligned(weights.w_hh, N * K)
        _kernels.pack(self.lanes, weights.w_ih, halves, gates * K * L, gate, column, self.W)
        self.bias = np.zeros(N, dtype)
        self.inner = np.zeros(tiles * L, dtype)  # b_hn of a GRU, which the reset gate multiplies
        if weights.b_ih is not None and weights.b_hh is not None:
            outer = weights.b_hh
            if kind == "gru":
                self.inner[:H] = outer[2 * H :]
                outer = outer.copy()
                outer[2 * H :] = 0
            _kernels.pack(self.lanes, (weights.b_ih + outer)[:, None], halves, gates * L, L, N, self.bias)
        self.span_lanes = self.lanes
        if one:
            self.run = getattr(_tile_kernels, f"{name}_tile")
            self.span_lanes = (self.lanes, (0,) * (1 << (H - 1).bit_length()))
            self.U = _kernels.aligned(weights.w_hh, N * len(self.span_lanes[1]))
            _tile_kernels.pack_diagonals(self.span_lanes, weights.w_hh, halves, self.U)
        else:
            self.run = getattr(_kernels, name)
            self.U = _kernels.aligned(weights.w_hh, N * R)
            _kernels.pack(self.lanes, weights.w_hh, halves, gates * R * L, L, gates * L, self.U)
        self.W_hr = np.zeros(0, dtype)
        if weights.w_hr is not None:
            self.W_hr = np.zeros(outputs * L * H, dtype)
            _kernels.pack(self.lanes, weights.w_hr, (False,), H * L, 0, L, self.W_hr)


class Track:
    """One direction of one layer with its state, which advances piece by piece; `packed` spares the packing."""

    def __init__(
        self, weights: Weights, h: np.ndarray, c: np.ndarray | None, *, backwards=False, column=0, packed=None
    ):
        self.packed: Packed = Packed(weights) if packed is None else packed
        pack = self.packed
        self.bias, self.hidden, self.recurrent, self.seconds = pack.bias, pack.hidden, pack.recurrent, pack.seconds
        self.variant, self.column, self.backwards = (backwards, pack.relu), column, backwards
        dtype = pack.bias.dtype
        self.h = np.zeros((len(h), pack.columns), dtype)
        self.h[:, : pack.recurrent] = h
        self.c = np.zeros((len(h), pack.cells), dtype)
        if c is not None:
            self.c[:, : pack.hidden] = c
        self.kept: np.ndarray | None = None  # set to `kept_numbers` a row, it receives what a backward pass asks for
        self.scratch = np.empty(0, dtype)  # one piece of gates, used again by every piece: fresh pages cost more

    def gates(self, x: np.ndarray, layout: Layout, first: int, last: int, workers: int) -> np.ndarray:
        """W x + b for the rows of steps first..last of the input, flat; x itself where the loop works it out."""
        flat, pack = x.reshape(-1), self.packed
        if pack.inline:
            return flat
        low, high = int(layout.start[first]), int(layout.start[last])
        N, K = pack.bias.size, pack.inputs
        if self.scratch.size < (high - low) * N:
            self.scratch = np.empty((high - low) * N, x.dtype)
        gates = self.scratch
        seconds = (high - low) * N * K * x.itemsize / _PROJECT
        workers = min(workers, 1 + int(seconds / _WORTH_A_THREAD))
        cuts = [low + (high - low) * k // workers // 6 * 6 for k in range(workers)] + [high]

        def go(rows):
            at = (rows[0] - low) * N
            pack.project(pack.lanes, flat, K, pack.W, pack.bias, gates[at:], *rows)

        thread_map(go, pairwise(cuts), workers)
        return gates

    def advance(self, gates, layout: Layout, first: int, last: int, low: int, high: int, out: np.ndarray) -> None:
        """Steps first..last of the sequences low..high; the new states go to their rows of `out`."""
        pack = self.packed
        base, K = (0, pack.inputs) if pack.inline else (int(layout.start[first]), 0)
        span = (first, last, base, low, high, out.shape[1], self.column, self.recurrent, K)
        pack.run(
            pack.span_lanes, self.variant, gates, layout.start, layout.lengths,
            pack.W, pack.bias, pack.U, pack.inner, self.h, self.c, pack.W_hr, out.reshape(-1), self.kept, span,
        )  # fmt: skip

    def final(self) -> tuple[np.ndarray, np.ndarray]:
        """h and c where each sequence ended."""
        return self.h[:, : self.recurrent], self.c[:, : self.hidden]


def run_layer(tracks: list[Track], x: np.ndarray, layout: Layout, out: np.ndarray, workers: int) -> None:
    """Advance every track (one, or two of a bidirectional layer) over the rows of x, threads over sequences.

    Memory: one piece of gates for each track, whatever T is.
    """
    batch, rows = len(layout.lengths), len(x)
    seconds = rows * len(tracks) * tracks[0].seconds
    if min(workers, len(tracks) * batch, 1 + int(seconds / _WORTH_A_THREAD)) <= 1:
        for track in tracks:
            pieces = _pieces(layout, rows, track.bias.nbytes, _PIECE)
            for first, last in reversed(pieces) if track.backwards else pieces:
                gates = track.gates(x, layout, first, last, workers)
                track.advance(gates, layout, first, last, 0, batch, out)
        return
    pieces = _pieces(layout, rows, tracks[0].bias.nbytes, max(_PIECE, _PIECE * rows // 8))
    cuts = [batch * k // workers for k in range(workers + 1)]

    def go(job):
        track, gates, first, last, low, high = job
        track.advance(gates, layout, first, last, low, high, out)

    for k in range(len(pieces)):
        jobs = []
        for track in tracks:
            first, last = pieces[-1 - k] if track.backwards else pieces[k]
            gates = track.gates(x, layout, first, last, workers)
            jobs += [(track, gates, first, last, low, high) for low, high in pairwise(cuts) if low < high]
        thread_map(go, jobs, workers)


def _pieces(layout: Layout, rows: int, bytes_a_row: int, size: int) -> list[tuple[int, int]]:
    """Cut time so that a piece of gates has about `size` bytes."""
    steps = len(layout.start) - 1
    count = min(steps, -(-rows * bytes_a_row // size))
    if count <= 1:
        return [(0, steps)]
    inner = np.searchsorted(layout.start, np.linspace(0, rows, count + 1)[1:-1])
    cuts = sorted({0, steps, *inner.tolist()})
    return list(pairwise(cuts))
