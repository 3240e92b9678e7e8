"""The cache of blocks: in memory, or on disk, behind one face."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Protocol

from holdfast.blocks.diskcache import DiskCache
from holdfast.blocks.errors import ArgumentError
from holdfast.blocks.reuse import memory_of

if TYPE_CHECKING:
    import io
    import os

__all__ = ["BlockCache", "KeepBlockCache", "MemoryCache"]

#: How many bytes, and how many blocks, are kept in memory.
MEMORY = 256 * 1024 * 1024
SLOTS = 512


class BlockCache(Protocol):
    """What a client keeps blocks in, by their hashes; safe among threads."""

    #: Whether it waits for a disk, which an event loop must not.
    slow: bool

    def get(self, md5sum: str) -> bytes | None:
        """Return a block, which counts as used; None when it is not there."""

    def set(self, md5sum: str, data: bytes) -> None:
        """Keep a block, and let go of those that were used longest ago."""

    def reclaim(self, size: int) -> io.BytesIO | None:
        """Return the memory of a block that would be let go of for one of so many bytes.

        None when there is none of the same size, or when it is in use.
        """

    def __contains__(self, md5sum: object) -> bool: ...

    def clear(self) -> None:
        """Let go of all blocks."""

    def forget_locks(self) -> None:
        """Have locks that nobody holds, in a forked process."""


class MemoryCache:
    """Blocks in memory: at most ``size`` bytes and ``slots`` blocks."""

    slow = False

    def __init__(self, size: int = MEMORY, slots: int = SLOTS) -> None:
        self._size = size
        self._slots = slots
        self._blocks: OrderedDict[str, bytes] = OrderedDict()
        self._held = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._blocks)

    def __repr__(self) -> str:
        return f"<MemoryCache: {len(self._blocks)} blocks, {self._held} bytes>"

    def __contains__(self, md5sum: object) -> bool:
        return md5sum in self._blocks

    def get(self, md5sum: str) -> bytes | None:
        """Return a block, which counts as used; None when it is not there."""
        with self._lock:
            data = self._blocks.get(md5sum)
            if data is not None:
                self._blocks.move_to_end(md5sum)
            return data

    def set(self, md5sum: str, data: bytes) -> None:
        """Keep a block, and let go of those that were used longest ago."""
        if len(data) > self._size:
            return
        with self._lock:
            known = self._blocks.pop(md5sum, None)
            if known is not None:
                self._held -= len(known)
            while self._blocks and self._is_full_for(len(data)):
                _, oldest = self._blocks.popitem(last=False)
                self._held -= len(oldest)
            self._blocks[md5sum] = data
            self._held += len(data)

    def reclaim(self, size: int) -> io.BytesIO | None:
        """Return the memory of a block that would be let go of for one of so many bytes.

        None when there is none of the same size, or when it is in use.
        """
        with self._lock:
            if not self._blocks or not self._is_full_for(size):
                return None
            oldest = next(iter(self._blocks))
            if len(self._blocks[oldest]) != size:
                return None
            memory = memory_of(self._blocks, oldest)
            if memory is not None:
                self._held -= size
            return memory

    def _is_full_for(self, size: int) -> bool:
        """Return whether a block has to go for one of so many bytes."""
        return self._held + size > self._size or len(self._blocks) >= self._slots

    def clear(self) -> None:
        """Let go of all blocks."""
        with self._lock:
            self._blocks.clear()
            self._held = 0

    def forget_locks(self) -> None:
        """Have a lock that nobody holds, in a forked process."""
        self._lock = threading.Lock()


class KeepBlockCache:
    """The blocks that were used last, in memory or on disk.

    ``cache_max``: bytes, 0 for the default: 256 MiB of memory; of a disk the smallest of a tenth
    of it, a quarter of what is free, and 64 MiB for each slot. ``max_slots``: blocks, 0 for the
    default: 512 in memory; on disk an eighth of how many files a process may open.
    ``disk_cache``: keep them in the folder ``disk_cache_dir``, by default one of the user's
    caches: they survive the process, and several processes may share the folder. Raises
    KeepCacheError when it cannot be used.
    """

    def __init__(
        self,
        cache_max: int = 0,
        max_slots: int = 0,
        disk_cache: bool = False,
        disk_cache_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        if cache_max < 0 or max_slots < 0:
            raise ArgumentError("cache_max and max_slots are 0 or more")
        self._store: BlockCache
        if disk_cache:
            self._store = DiskCache(disk_cache_dir, cache_max, max_slots)
        else:
            self._store = MemoryCache(cache_max or MEMORY, max_slots or SLOTS)
        self.slow = self._store.slow
        self.get = self._store.get
        self.set = self._store.set
        self.reclaim = self._store.reclaim
        self.clear = self._store.clear

    def __repr__(self) -> str:
        return f"<KeepBlockCache {self._store!r}>"

    def __contains__(self, md5sum: object) -> bool:
        return md5sum in self._store

    def forget_locks(self) -> None:
        """Have locks that nobody holds, in a forked process."""
        self._store.forget_locks()
