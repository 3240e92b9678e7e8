"""Blocks are read, and checked to be what their hashes say; on threads, since all of it blocks.

Of several copies the first good one serves. A copy that is not what it should be is noted, so that
the others go first from then on, and is no answer: the bytes of a small block are checked before
any of them is given out, and a large one is checked first when there is a reason to doubt it.
"""

from __future__ import annotations

import hashlib
import logging
import time
from typing import TYPE_CHECKING, TypeVar

from holdfast.blocks import receiving
from holdfast.blocks.server.parts import CHUNK
from holdfast.blocks.server.refusals import Refused
from holdfast.blocks.server.volumes import BlockMissing, VolumeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.blocks.server.metrics import Metrics
    from holdfast.blocks.server.mounts import Mounts
    from holdfast.blocks.server.volumes import BlockReader, Volume

__all__ = ["INLINE", "WHOLE", "Reading", "digest", "is_content"]

T = TypeVar("T")

logger = logging.getLogger("holdfast.blocks.server")

#: The largest block that is read and checked as a whole before it is sent, in bytes.
WHOLE = 1024 * 1024
#: The largest block that is read on the event loop when it is in memory: reading and hashing
#: 16 KiB takes less than changing threads.
INLINE = 16 * 1024


def is_content(md5sum: str, data: bytes) -> bool:
    """Return whether bytes are what a hash says."""
    return receiving.md5(data) == md5sum


def digest(reader: BlockReader) -> tuple[str, int]:
    """Return the hash and the size of what is left of an open block."""
    md5 = hashlib.md5(usedforsecurity=False)
    size = 0
    while data := reader.read(CHUNK):
        md5.update(data)
        size += len(data)
    return md5.hexdigest(), size


class Reading:
    """Reads from the volumes of a service."""

    def __init__(self, mounts: Mounts, metrics: Metrics) -> None:
        self._mounts = mounts
        self._metrics = metrics

    def cached(self, md5sum: str, size: int) -> bytes | None:
        """Return a small block that is at hand and correct; without waiting for anything."""
        for volume in self._mounts.in_order(md5sum):
            try:
                data = volume.peek(md5sum, size)
            except VolumeError:
                continue
            if data is None or len(data) != size or not is_content(md5sum, data):
                return None  # whatever it is, the long way finds out
            return data
        return None

    def whole(self, md5sum: str, size: int) -> bytes:
        """Return a block of a known and small size, checked; raises Refused."""

        def read(reader: BlockReader) -> tuple[str, int, bytes]:
            data = reader.read(size + 1)
            md5 = hashlib.md5(data, usedforsecurity=False)
            if len(data) <= size:
                return md5.hexdigest(), len(data), data
            found = len(data)
            while more := reader.read(CHUNK):
                md5.update(more)
                found += len(more)
            return md5.hexdigest(), found, b""

        return self._first_good(md5sum, size, read)

    def check(self, md5sum: str, size: int | None) -> int:
        """Read and check a block, and return its size; raises Refused."""

        def read(reader: BlockReader) -> tuple[str, int, int]:
            found, length = digest(reader)
            return found, length, length

        return self._first_good(md5sum, size, read)

    def _first_good(
        self, md5sum: str, size: int | None, read: Callable[[BlockReader], tuple[str, int, T]]
    ) -> T:
        """Read the copies until one is what it should be, and return what reading it gave.

        ``read`` returns the hash, the size, and its result.
        """
        corrupt = failed = other = False
        for volume in self._mounts.in_order(md5sum):
            try:
                with volume.open(md5sum) as reader:
                    found, length, result = read(reader)
            except BlockMissing:
                self._mounts.clear(volume, md5sum)
                continue
            except VolumeError as error:
                self.failed(volume, md5sum, error)
                failed = True
                continue
            if found != md5sum:
                self.blame(volume, md5sum)
                corrupt = True
                continue
            self._mounts.clear(volume, md5sum)
            if size is None or length == size:
                return result
            other = True
        if corrupt:
            raise Refused(502, "the block is corrupt")
        if failed:
            raise Refused(503, "the block cannot be read")
        if other:
            raise Refused(404, "the block has another size")
        raise Refused(404, "no such block")

    def open(self, md5sum: str, size: int) -> tuple[Volume, BlockReader]:
        """Open a block of a known size, to be checked as it is read; raises Refused.

        A copy that cannot be right, or once was not, is checked before.
        """
        for volume in self._mounts.in_order(md5sum):
            if self._mounts.suspect(volume, md5sum):
                continue
            try:
                reader = volume.open(md5sum)
            except BlockMissing:
                continue
            except VolumeError as error:
                self.failed(volume, md5sum, error)
                continue
            if reader.size == size:
                return volume, reader
            reader.close()
        # None that is beyond doubt. When one of them is good nevertheless, it is clear from now on.
        self.check(md5sum, size)
        for volume in self._mounts.in_order(md5sum):
            if not self._mounts.suspect(volume, md5sum):
                try:
                    return volume, volume.open(md5sum)
                except VolumeError:
                    continue
        raise Refused(503, "the block was removed just now")

    def open_at_once(self, md5sum: str, size: int) -> tuple[Volume, BlockReader] | None:
        """Do the same, but only if that takes no wait, and there is no doubt; else return None."""
        for volume in self._mounts.in_order(md5sum):
            if self._mounts.suspect(volume, md5sum):
                break
            try:
                reader = volume.open_at_once(md5sum)
            except BlockMissing:
                continue
            except VolumeError:
                break
            if reader is not None:
                if reader.size == size:
                    return volume, reader
                reader.close()
            break
        return None

    def blame(self, volume: Volume, md5sum: str) -> None:
        """Note that a copy is corrupt."""
        if self._mounts.blame(volume, md5sum, time.time()):
            logger.error("%s is corrupt on %s", md5sum, volume.uuid)
            self._metrics.corrupt.labels(volume.uuid).inc()

    def failed(self, volume: Volume, md5sum: str, error: VolumeError) -> None:
        """Note that a volume did not do what it should."""
        logger.warning("%s on %s: %s", md5sum, volume.uuid, error)
        self._metrics.volume_errors.labels(volume.uuid).inc()
