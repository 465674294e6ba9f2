"""Compile a kernel with numba; keep it on disk where that is possible and quietly go without where it is not."""

from contextlib import suppress
from typing import Any

from numba import njit
from numba.core.caching import FunctionCache


class _ForgivingCache(FunctionCache):
    """numba's disk cache, in which an unreadable or unwritable folder means "compile again", not an error."""

    def load_overload(self, sig, target_context):
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # a truncated or foreign cache file raises almost anything
            with suppress(Exception):
                self.flush()  # an empty index, so that the kernel compiled next can be saved
            return None

    def save_overload(self, sig, data):
        with suppress(OSError):  # read-only install, full disk, folder removed since the probe
            super().save_overload(sig, data)


def kernel(function=None, /, *, fastmath: bool | set[str] = False, **options) -> Any:
    """``numba.njit(nogil=True)`` with a disk cache that can be missing.

    Pass `fastmath` a set of flags out of {"reassoc", "contract", "nsz", "arcp"}; never True, which breaks NaN checks.
    """
    if function is None:
        return lambda f: kernel(f, fastmath=fastmath, **options)
    if fastmath is True:
        raise ValueError("fastmath=True lets the compiler assume that there is no NaN; name the flags instead")
    dispatcher: Any = njit(nogil=True, fastmath=fastmath, error_model="numpy", **options)(function)
    with suppress(RuntimeError, OSError):  # numba found no folder that it may write to
        dispatcher._cache = _ForgivingCache(function)
    return dispatcher
