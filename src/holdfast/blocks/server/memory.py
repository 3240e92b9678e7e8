"""A volume in memory, which ends with the process: for tests, and to try things out."""

from __future__ import annotations

import threading
import time
from io import BytesIO
from typing import TYPE_CHECKING

from holdfast.blocks.locators import BLOCK
from holdfast.blocks.server.folder_identity import new_uuid
from holdfast.blocks.server.volumes import (
    RESERVE,
    BlockMissing,
    BlockTooNew,
    Emptied,
    Stored,
    VolumeError,
    VolumeFull,
)
from holdfast.lifetimes import Closing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["MemoryVolume"]


class MemoryVolume:
    """A volume in memory; see `Volume`.

    ``capacity``: in bytes. ``clock``: tells the nanoseconds since the epoch.
    """

    def __init__(
        self,
        *,
        capacity: int = 16 * BLOCK,
        read_only: bool = False,
        uuid: str = "",
        classes: tuple[str, ...] = ("default",),
        replication: int = 1,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.uuid = uuid or new_uuid()
        self.device_id = self.uuid
        self.quick = True
        self.writable = not read_only
        self.classes = classes
        self.replication = replication
        self._capacity = capacity
        self._clock = clock
        self._lock = threading.Lock()
        self._blocks: dict[str, tuple[bytes, int]] = {}
        self._trash: dict[tuple[str, int], bytes] = {}

    def peek(self, md5sum: str, limit: int) -> bytes | None:
        """Return a block."""
        data, _ = self._get(md5sum)
        return data if len(data) <= limit else None

    def _get(self, md5sum: str) -> tuple[bytes, int]:
        try:
            return self._blocks[md5sum]
        except KeyError:
            raise BlockMissing(md5sum) from None

    def _changing(self) -> threading.Lock:
        if not self.writable:
            raise VolumeError("the volume is read-only")
        return self._lock

    def open(self, md5sum: str, *, once: bool = False) -> _Reader:
        """Open a block to be read."""
        return _Reader(self._get(md5sum)[0])

    open_at_once = open

    def add(self, md5sum: str, data: bytes) -> bool:
        """Store a block, unless there is one of that hash; tells whether it did."""
        with self._changing():
            if md5sum in self._blocks:
                return False
            if self.free() < RESERVE:
                raise VolumeFull("the volume is full")
            self._blocks[md5sum] = data, self._clock()
            return True

    def create(self, md5sum: str, size: int = BLOCK) -> _Writer:
        """Begin to write a block."""
        with self._changing():
            if self.free() < RESERVE:
                raise VolumeFull("the volume is full")
        return _Writer(self, md5sum)

    def put(self, md5sum: str, data: bytes) -> None:
        """Store a block, whatever its bytes are."""
        with self._lock:
            self._blocks[md5sum] = data, self._clock()

    def stat(self, md5sum: str) -> Stored:
        """Return what is known about a block."""
        data, mtime = self._get(md5sum)
        return Stored(md5sum, len(data), mtime)

    def touch(self, md5sum: str) -> None:
        """Set a block's time to now."""
        with self._changing():
            self._blocks[md5sum] = self._get(md5sum)[0], self._clock()

    def trash(self, md5sum: str, older_than: int, deadline: int) -> None:
        """Take a block away: into the trash, or for good."""
        with self._changing():
            data, mtime = self._get(md5sum)
            if mtime >= older_than:
                raise BlockTooNew(md5sum)
            del self._blocks[md5sum]
            if deadline:
                self._trash[md5sum, deadline] = data

    def untrash(self, md5sum: str) -> None:
        """Bring a block back from the trash."""
        with self._changing():
            deadlines = [deadline for one, deadline in self._trash if one == md5sum]
            if not deadlines:
                raise BlockMissing(md5sum)
            data = self._trash.pop((md5sum, max(deadlines)))
            self._blocks[md5sum] = self._blocks.get(md5sum, (data,))[0], self._clock()

    def index(self, prefix: str = "") -> Iterator[Stored]:
        """Iterate over the blocks."""
        with self._lock:
            blocks = list(self._blocks.items())
        for md5sum, (data, mtime) in blocks:
            if md5sum.startswith(prefix):
                yield Stored(md5sum, len(data), mtime)

    def empty(self, now: float) -> Emptied:
        """Remove what was in the trash beyond its deadline."""
        with self._lock:
            over = [key for key in self._trash if key[1] <= now]
            return Emptied(len(over), sum(len(self._trash.pop(key)) for key in over))

    def free(self) -> int:
        """Return how many bytes are free."""
        blocks = sum(len(data) for data, _ in list(self._blocks.values()))
        return self._capacity - blocks - sum(len(data) for data in list(self._trash.values()))

    def close(self) -> None:
        """Do nothing."""


class _Reader(Closing):
    def __init__(self, data: bytes) -> None:
        self.size = len(data)
        self._file = BytesIO(data)

    def close(self) -> None:
        self._file.close()

    def read(self, size: int) -> bytes:
        return self._file.read(size)

    def read_at_once(self, buffer: bytearray | memoryview) -> bool:
        if len(buffer) > self.size - self._file.tell():
            return False
        self._file.readinto(buffer)
        return True


class _Writer(Closing):
    def __init__(self, volume: MemoryVolume, md5sum: str) -> None:
        self._volume = volume
        self._md5sum = md5sum
        self._data = bytearray()

    def close(self) -> None:
        self._data.clear()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._data += data

    def commit(self) -> None:
        self._volume.put(self._md5sum, bytes(self._data))
