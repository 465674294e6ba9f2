"""`progress=`: False, True for a tqdm bar on stderr, or a callable that is told (done, total).

The total is None where nobody knows it.
"""

import threading
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any


@contextmanager
def reporting(progress: bool | Callable[[int, Any], None], total: int | None, unit: str):
    """Give a function that counts what is done, from any thread."""
    if progress is False or progress is None:
        yield lambda count: None
        return
    done, lock = 0, threading.Lock()
    bar = None
    if progress is True:
        from tqdm import tqdm

        bar = tqdm(total=total, unit=unit, unit_scale=True)
    elif not callable(progress):
        raise TypeError(f"progress={progress!r}: pass False, True or a callable of (done, total)")

    def advance(count: int) -> None:
        nonlocal done
        with lock:
            done += count
            if bar is not None:
                bar.update(count)
            elif callable(progress):
                progress(done, total)

    try:
        yield advance
    finally:
        if bar is not None:
            bar.close()
