"""Threads by one rule: serial nogil kernels under our own pool, and BLAS held to what the pool leaves over."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from operator import index
from typing import TypeVar

from threadpoolctl import ThreadpoolController

T = TypeVar("T")
R = TypeVar("R")

_controllers: dict[int, ThreadpoolController] = {}


def available_cores() -> int:
    """Cores that this process may use, which a container or ``taskset`` can make fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def resolve_workers(workers: int | None) -> int:
    """None: every core the process may use; a negative number counts from there, as in scipy.fft (-1 is all)."""
    cores = available_cores()
    if workers is None:
        return cores
    try:
        workers = index(workers)
    except TypeError:
        raise TypeError(f"workers={workers!r} is not an integer; pass a number of threads, or None for all") from None
    if workers == 0 or workers < -cores:
        raise ValueError(f"workers={workers} asks for no thread; pass workers>=1, or None for all {cores} cores")
    return workers if workers > 0 else workers + cores + 1


def thread_map(function: Callable[[T], R], jobs: Iterable[T], workers: int) -> list[R]:
    """``[function(job) for job in jobs]`` on up to `workers` threads; a new pool each time, so that forks are safe."""
    jobs = list(jobs)
    if workers <= 1 or len(jobs) <= 1:
        return [function(job) for job in jobs]
    with ThreadPoolExecutor(min(workers, len(jobs))) as pool:
        # Each job runs in a copy of the caller's context, which is where numpy keeps np.errstate.
        futures = [pool.submit(copy_context().run, function, job) for job in jobs]
        return [future.result() for future in futures]


@contextmanager
def blas_threads(count: int):
    """Hold every BLAS of the process to `count` threads; more threads than cores run 2-4 times slower."""
    pid = os.getpid()
    if pid not in _controllers:
        import scipy.linalg  # noqa: F401  (scipy brings a BLAS of its own, which must be loaded to be found)

        _controllers.clear()
        _controllers[pid] = ThreadpoolController()
    with _controllers[pid].limit(limits=count, user_api="blas"):
        yield
