"""`progress=`: False, True for a tqdm bar on stderr, or a callable that is told (done, total)."""

from collections.abc import Callable
from contextlib import contextmanager


@contextmanager
def reporting(progress: bool | Callable[[int, int], None], total: int, unit: str):
    """Yield ``report(done)``."""
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
