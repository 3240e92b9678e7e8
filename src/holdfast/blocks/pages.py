"""Large buffers in large pages of memory.

The system gives memory out when it is first touched, 4 KiB at a time, and for 64 MiB that takes
half as long as the MD5 of as much. With pages of 2 MiB, for which Linux has to be asked, it is a
fraction of that. The allocator of Python's bytes does not ask.
"""

from __future__ import annotations

import mmap
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["in_large_pages"]

_ADVICE: int | None = getattr(mmap, "MADV_HUGEPAGE", None)


def in_large_pages(buffer: memoryview) -> None:
    """Have a writable buffer, of which nothing was touched yet, in large pages where that can be.

    It is advice: whether the system takes it makes no difference to what is in the buffer.
    """
    advise = _advise()
    if advise is None:
        return
    import ctypes

    start = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
    page = mmap.PAGESIZE
    first = -(-start // page) * page
    length = (start + len(buffer)) // page * page - first
    if length > 0:
        advise(first, length, _ADVICE)


@cache
def _advise() -> Callable[[int, int, int | None], Any] | None:
    """Return the system's function, None where there is none."""
    if _ADVICE is None:
        return None
    try:
        import ctypes

        advise = ctypes.CDLL(None).madvise
        advise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    except (AttributeError, ImportError, OSError):
        return None
    return advise
