"""Large buffers in large pages of memory.

The system gives memory out when it is first touched, 4 KiB at a time, and for 64 MiB that takes
half as long as the MD5 of as much. With pages of 2 MiB, for which Linux has to be asked, it is a
fraction of that. The allocator of Python's bytes does not ask. Some of it can be had beforehand.
"""

from __future__ import annotations

import mmap
import sys
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["give_out", "in_large_pages"]

_HUGE: int | None = getattr(mmap, "MADV_HUGEPAGE", None)
#: MADV_POPULATE_WRITE, since Linux 5.14, for which Python has no name.
_POPULATE = 23 if sys.platform == "linux" else None


def in_large_pages(buffer: memoryview) -> None:
    """Have a writable buffer, of which nothing was touched yet, in large pages where that can be.

    It is advice: whether the system takes it makes no difference to what is in the buffer.
    """
    _advise(buffer, _HUGE)


def give_out(buffer: memoryview) -> bool:
    """Have the system give out a writable buffer's memory now; return whether it did.

    What is in the buffer stays as it is, even while another thread writes there.
    """
    return _advise(buffer, _POPULATE)


def _advise(buffer: memoryview, advice: int | None) -> bool:
    """Advise the system on the pages that a buffer has for itself; return whether it obeyed."""
    madvise = _madvise()
    if madvise is None or advice is None:
        return False
    import ctypes

    start = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
    page = mmap.PAGESIZE
    first = -(-start // page) * page
    length = (start + len(buffer)) // page * page - first
    return length > 0 and madvise(first, length, advice) == 0


@cache
def _madvise() -> Callable[[int, int, int], Any] | None:
    """Return the system's function, None where there is none."""
    try:
        import ctypes

        madvise = ctypes.CDLL(None).madvise
        madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    except (AttributeError, ImportError, OSError):
        return None
    return madvise
