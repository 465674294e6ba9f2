"""`progress=`: False, True for a tqdm bar on stderr, or a callable that is told (done, total)."""

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

FINE = 100


@contextmanager
def reporting(progress: bool | Callable[[int, int], None], total: int, unit: str, operand: Any = None):
    """Yield ``report(done)``.

    Where passes over the operand are long, a stage has `FINE` steps, and the blocks of a pass move the count.
    """
    if operand is None or not operand.in_blocks or progress is False or progress is None:
        with _plain(progress, total, unit) as report:
            yield report
        return
    with _plain(progress, FINE * total, f"% of a {unit}") as report:
        stage = furthest = 0

        def tick(block: int, blocks: int) -> None:
            nonlocal furthest
            reached = FINE * stage + min(FINE * block // blocks, FINE - 1)
            if reached > furthest:  # a second pass within a stage moves nothing until it is further than the first
                report(furthest := reached)

        def finished(done: int) -> None:
            nonlocal stage, furthest
            stage, furthest = done, FINE * done
            report(furthest)

        operand.counter.tick = tick
        try:
            yield finished
        finally:
            operand.counter.tick = None


@contextmanager
def _plain(progress: bool | Callable[[int, int], None], total: int, unit: str):
    if progress is False or progress is None:
        yield lambda done: None
    elif progress is True:
        from tqdm import tqdm

        with tqdm(total=total, unit=unit) as bar:

            def report(done: int) -> None:
                bar.update(done - bar.n)

            yield report
    elif callable(progress):
        yield lambda done: progress(done, total)
    else:
        raise TypeError(f"progress={progress!r}; pass False, True or a callable progress(done, total)")
