"""The members of a process group, and messages between them that name the rank which does not answer."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from seqsolve.attention import _checks as checks

TIMEOUT = 60.0  # seconds


class LostRankError(RuntimeError):
    """A rank did not answer in time, or its connection closed."""


@dataclass(frozen=True)
class Ranks:
    """The members of a process group, and how long to wait for one of them."""

    group: Any
    rank: int
    size: int
    timeout: float

    @classmethod
    def of(cls, group, timeout: float) -> "Ranks":
        """Checked; `group` None is the default group."""
        if not (isinstance(timeout, (int, float)) and timeout > 0):
            raise ValueError(f"timeout={timeout!r} is not a positive number of seconds")
        if not dist.is_available() or not dist.is_initialized():
            raise RuntimeError("no process group: call torch.distributed.init_process_group on every rank first")
        return cls(group, dist.get_rank(group), dist.get_world_size(group), float(timeout))

    def _peer(self, rank: int) -> int:
        return rank if self.group is None else dist.get_global_rank(self.group, rank)

    def messages(self, sent: Iterable[tuple[int, Tensor]], received: Iterable[tuple[int, Tensor]], doing: str) -> None:
        """Send and receive at once; a rank that is silent for `timeout` seconds raises `LostRankError` here."""
        sent, received = list(sent), list(received)
        ops, peers = [], []
        for call, pairs in ((dist.isend, sent), (dist.irecv, received)):
            for peer, x in pairs:
                ops.append(dist.P2POp(call, x, self._peer(peer), self.group))
                peers.append(peer)
        if not ops:
            return
        deadline = time.monotonic() + self.timeout
        lost: dict[int, str] = {}
        try:
            requests = dist.batch_isend_irecv(ops)
        except RuntimeError as error:
            raise self._lost({p: str(error) for p in peers}, doing) from error
        for n, request in enumerate(requests):
            peer = peers[n] if len(requests) == len(peers) else -1  # NCCL returns one request for the batch
            try:
                left = max(deadline - time.monotonic(), 0.05)
                request.wait(timedelta(seconds=left))
            except RuntimeError as error:
                lost[peer] = str(error)
        if lost:
            raise self._lost(lost, doing)

    def _lost(self, lost: dict[int, str], doing: str) -> LostRankError:
        names = ", ".join(str(p) for p in sorted(lost) if p >= 0) or "unknown"
        first = next(iter(lost.values())).strip().splitlines()
        return LostRankError(
            f"rank {self.rank} of {self.size} lost rank {names} while {doing} (timeout {self.timeout:g} s): "
            f"{first[0][:160] if first else 'no answer'}. "
            "The group is unusable now: destroy it and start all ranks again."
        )

    def all(self, x: Tensor, doing: str) -> list[Tensor]:
        """`x` of every rank, in order; equal shapes."""
        x = x.detach().resolve_conj().contiguous()
        if x.is_complex():
            return [torch.view_as_complex(y) for y in self.all(torch.view_as_real(x), doing)]
        gathered = [x if r == self.rank else torch.empty_like(x) for r in range(self.size)]
        others = [r for r in range(self.size) if r != self.rank]
        self.messages([(r, x) for r in others], [(r, gathered[r]) for r in others], doing)
        return gathered

    def agree(self, x: Tensor, free: int, what: str) -> list[int]:
        """The size of axis `free` on every rank, once dtype and all other axes are found equal."""
        codes = {d: n for n, d in enumerate((*checks.FLOATS, torch.complex64, torch.complex128))}
        header = torch.full((12,), -1, dtype=torch.int64, device=x.device)
        header[0], header[1] = codes.get(x.dtype, -1), x.ndim
        header[2 : 2 + x.ndim] = torch.tensor(x.shape)
        headers = [h.tolist() for h in self.all(header, f"comparing the shapes of {what}")]
        lengths = [h[2 + free] for h in headers]
        fixed = [h[: 2 + free] + h[3 + free :] for h in headers]
        for r, other in enumerate(fixed):
            if other != fixed[self.rank]:
                raise ValueError(
                    f"{what} has shape {tuple(headers[self.rank][2 : 2 + x.ndim])} on rank {self.rank} and "
                    f"{tuple(n for n in headers[r][2:] if n >= 0)} on rank {r} (or another dtype); "
                    "only the length in time may differ"
                )
        return lengths
