"""How much of a large block is handed from thread to thread at a time.

Each hand-over wakes a thread and the event loop, for as long as some ten KiB are hashed. So parts
are large while few blocks are under way, and small when many are, so that all fit into memory.
"""

from __future__ import annotations

__all__ = ["CHUNK", "FEW", "LARGEST", "MEMORY", "Parts"]

#: The least that is handed over, in bytes, and what parts are a multiple of.
CHUNK = 512 * 1024
#: The most: beyond that, hand-overs are too few to matter.
LARGEST = 4 * CHUNK
#: What all transfers may have in memory together, three parts of each besides what is in the
#: buffers of connections; more when there are so many that not even the smallest parts fit.
MEMORY = 96 * 1024 * 1024

#: How many transfers one thread is enough for, the event loop's own.
FEW = 4


class Parts:
    """The parts of all transfers of a service."""

    def __init__(self) -> None:
        self._transfers = 0

    def begin(self) -> None:
        """Count a transfer."""
        self._transfers += 1

    def end(self) -> None:
        """Count a transfer no more."""
        self._transfers -= 1

    @property
    def few(self) -> bool:
        """Whether so few are under way that other threads need not help the event loop."""
        return self._transfers <= FEW

    @property
    def size(self) -> int:
        """How many bytes the next part of a transfer should have."""
        share = MEMORY // (3 * self._transfers)
        return max(min(share, LARGEST) // CHUNK, 1) * CHUNK
