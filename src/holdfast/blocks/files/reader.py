"""A stored file as a binary file object."""

from __future__ import annotations

import io
import os
import threading
from bisect import bisect_right
from typing import TYPE_CHECKING

from holdfast.blocks.locators import KeepLocator
from holdfast.blocks.segments import stripped

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from holdfast.blocks.segments import Segment
    from holdfast.ops import Buffer

__all__ = ["BlockFile"]


class BlockFile(io.RawIOBase):
    """Reads a file from its blocks: seekable, for a `io.BufferedReader`; safe among threads.

    ``get`` returns a block, and ``prefetch`` has one fetched in the background: the next
    ``ahead`` ones of what is being read. The block that was read last is kept.
    """

    def __init__(
        self,
        name: str,
        segments: Sequence[Segment],
        get: Callable[[str], bytes],
        prefetch: Callable[[str], object],
        ahead: int,
    ) -> None:
        super().__init__()
        self.name = name
        self.mode = "rb"
        self._segments = segments
        self._starts = []
        self._size = 0
        for segment in segments:
            self._starts.append(self._size)
            self._size += segment.size
        self._get = get
        self._prefetch = prefetch
        self._ahead = ahead
        self._position = 0
        self._lock = threading.RLock()
        self._kept: tuple[str, bytes] = ("", b"")
        #: The blocks up to this segment were asked for in the background.
        self._asked = 0

    def __repr__(self) -> str:
        return f"<BlockFile {self.name!r}: {self._size} bytes>"

    def readable(self) -> bool:
        """Return True."""
        self._check()
        return True

    def seekable(self) -> bool:
        """Return True."""
        self._check()
        return True

    def _check(self) -> None:
        if self.closed:
            raise ValueError(f"{self.name}: the file is closed")

    def tell(self) -> int:
        """Return the position."""
        self._check()
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position, from the start, from here, or from the end, and return it."""
        self._check()
        with self._lock:
            bases = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}
            if whence not in bases:
                raise ValueError(f"{self.name}: whence is 0, 1 or 2, not {whence!r}")
            position = bases[whence] + offset
            if position < 0:
                raise ValueError(f"{self.name}: there is no position {position}")
            self._position = position
            return position

    def readinto(self, buffer: Buffer) -> int:  # type: ignore[override]
        """Read up to the end of a block; returns how many bytes, 0 at the end of the file."""
        self._check()
        with memoryview(buffer) as view, view.cast("B") as room, self._lock:
            part = self._part(self._position, len(room))
            room[: len(part)] = part
            self._position += len(part)
            return len(part)

    def readall(self) -> bytes:
        """Read all up to the end of the file."""
        self._check()
        with self._lock:
            data = self.pread(max(self._size - self._position, 0), self._position)
            self._position += len(data)
            return data

    def pread(self, size: int, offset: int) -> bytes:
        """Return up to so many bytes from an offset on, wherever the position is."""
        self._check()
        if size < 0 or offset < 0:
            raise ValueError(f"{self.name}: size and offset are numbers, from 0")
        parts = []
        while size and (part := self._part(offset, size)):
            parts.append(bytes(part))
            offset += len(part)
            size -= len(part)
        return b"".join(parts)

    def _part(self, position: int, size: int) -> memoryview:
        """Return bytes from a position on, up to the end of a block, or none at the end."""
        if not size or position >= self._size:
            return memoryview(b"")
        index = bisect_right(self._starts, position) - 1
        segment = self._segments[index]
        data = self._block(index)
        offset = position - self._starts[index]
        begin = segment.offset + offset
        return memoryview(data)[begin : begin + min(size, segment.size - offset)]

    def _block(self, index: int) -> bytes:
        locator = self._segments[index].locator
        kept, data = self._kept
        if kept == locator:
            return data
        self._look_ahead(index)
        data = self._get(locator)
        size = KeepLocator(locator).size
        if len(data) != size:
            raise OSError(f"{self.name}: {stripped(locator)} has {len(data)} bytes")
        self._kept = (locator, data)
        return data

    def _look_ahead(self, index: int) -> None:
        """Have the next blocks fetched, each once as long as the reading goes on forwards."""
        until = min(index + 1 + self._ahead, len(self._segments))
        begin = index + 1
        if begin <= self._asked <= until:
            begin = self._asked
        self._asked = until
        here = self._segments[index].locator
        for segment in self._segments[begin:until]:
            if segment.locator != here:
                self._prefetch(segment.locator)

    def close(self) -> None:
        """Forget the block that was kept."""
        if not self.closed:
            self._kept = ("", b"")
        super().close()
