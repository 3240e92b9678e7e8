"""What the C library does with memory that was given back."""

from __future__ import annotations

__all__ = ["keep_freed_memory"]

# Of mallopt(3): the size from which on memory is asked from the system for each object; how much
# that is free stays with the process; how many parts of memory there are, one for all threads, so
# that each can use what another one has freed.
_M_MMAP_THRESHOLD, _SEPARATE = -3, 4 << 20
_M_TRIM_THRESHOLD, _KEPT = -1, 64 << 20
_M_ARENA_MAX, _ARENAS = -8, 1


def keep_freed_memory() -> None:
    """Let the process keep some memory that it has freed, where the C library can.

    Large bodies come in pieces of 256 KiB. To get each from the system and give it back costs a
    third of the system's time for storing a block: memory is handed out 4 KiB at a time.
    """
    try:
        import ctypes

        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, ImportError, OSError):
        return
    mallopt(_M_ARENA_MAX, _ARENAS)
    mallopt(_M_MMAP_THRESHOLD, _SEPARATE)
    mallopt(_M_TRIM_THRESHOLD, _KEPT)
