"""Blocks are stored on as many volumes as they need: on threads, since all of it blocks.

A volume that has the block already is not written to. What arrives is compared with what is there,
and when it is the same to the last byte only the time is set anew. When it is not, the stored one
is either corrupt, and is replaced, or another block with the same hash, which has to be refused.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from holdfast.blocks.locators import BLOCK
from holdfast.blocks.server.parts import CHUNK
from holdfast.blocks.server.reading import digest
from holdfast.blocks.server.refusals import Refused
from holdfast.blocks.server.volumes import BlockMissing, VolumeError, VolumeFull
from holdfast.lifetimes import Closing

if TYPE_CHECKING:
    from collections.abc import Iterable

    from holdfast.blocks.server.mounts import Mounts, Shortfall
    from holdfast.blocks.server.reading import Reading
    from holdfast.blocks.server.volumes import BlockReader, BlockWriter, Volume

__all__ = ["Storing"]

logger = logging.getLogger("holdfast.blocks.server")


class Storing(Closing):
    """One block on its way to its volumes; a context manager that gives up what is not finished.

    ``size``: the most bytes it can have. ``classes``: the storage classes that it needs.
    ``only``: the one volume that is meant, where it is not for us to choose.
    """

    def __init__(
        self,
        mounts: Mounts,
        reading: Reading,
        md5sum: str,
        *,
        size: int = BLOCK,
        classes: Iterable[str] = ("default",),
        only: Volume | None = None,
    ) -> None:
        self._mounts = mounts
        self._reading = reading
        self._md5sum = md5sum
        self.size = size
        self.kept: Shortfall = mounts.shortfall(only.classes if only else classes)
        self._left = [only] if only else self._candidates()
        self._copies: list[_Copy] = []
        #: Whether a volume has failed.
        self.failed = False
        self._full = True  # whether every failure was for want of room

    def _candidates(self) -> list[Volume]:
        """Return the volumes that may be chosen: first those that have the block."""
        volumes = [one for one in self._mounts.in_order(self._md5sum) if one.writable]
        if len(volumes) > 1:
            volumes.sort(key=lambda volume: not self._has(volume))
        return volumes

    def _has(self, volume: Volume) -> bool:
        try:
            volume.stat(self._md5sum)
        except VolumeError:
            return False
        return True

    def close(self) -> None:
        """Give up the copies that are not finished."""
        while self._copies:
            self._close(self._copies.pop())

    def _close(self, copy: _Copy) -> None:
        try:
            copy.close()
        except VolumeError as error:
            self._reading.failed(copy.volume, self._md5sum, error)

    def open(self) -> bool:
        """Open as many copies as are still needed; return whether there are any."""
        planned = self._mounts.shortfall(self.kept.kept)
        planned.kept.update(self.kept.kept)
        for copy in self._copies:
            planned.add(copy.volume)
        left = self._left
        self._left = []
        for volume in left:
            if not planned.needs(volume):
                self._left.append(volume)
                continue
            try:
                self._copies.append(_Copy(volume, self._md5sum, self.size))
            except VolumeError as error:
                self._failed(volume, error)
                continue
            planned.add(volume)
        return bool(self._copies)

    def write(self, data: bytes | bytearray) -> None:
        """Add bytes to every copy; raises Refused when the last one has failed."""
        for copy in list(self._copies):
            try:
                copy.write(data)
            except VolumeError as error:
                self._copies.remove(copy)
                self._close(copy)
                self._failed(copy.volume, error)
        if not self._copies:
            raise self.refusal()

    def finish(self) -> None:
        """Store the copies for good, now that the bytes are known to be the block's."""
        while self._copies:
            copy = self._copies.pop(0)
            try:
                corrupt = copy.finish()
            except _OtherBlock:
                logger.error("another block with the hash %s was refused", self._md5sum)
                raise Refused(500, "another block has this hash") from None
            except VolumeError as error:
                self._failed(copy.volume, error)
                continue
            finally:
                self._close(copy)
            if corrupt:
                self._reading.blame(copy.volume, self._md5sum)
                logger.warning("%s was replaced on %s", self._md5sum, copy.volume.uuid)
            self._mounts.clear(copy.volume, self._md5sum)
            self.kept.add(copy.volume)

    def store(self, data: bytes) -> None:
        """Store a block that is in memory, on other volumes where some fail."""
        self.add(data)
        while self.open():
            try:
                self.write(data)
            except Refused:
                continue  # there may be more volumes
            self.finish()
        if not self.kept.replicas:
            raise self.refusal()

    def add(self, data: bytes) -> bool:
        """Store a block on volumes that do not have it, up to the first that does.

        Returns whether it has all its copies now.
        """
        passed = []
        while self._left:
            volume = self._left.pop(0)
            added = False
            if self.kept.needs(volume):
                try:
                    added = volume.add(self._md5sum, data)
                except VolumeError as error:
                    self._failed(volume, error)
                    continue
                if not added:
                    self._left.insert(0, volume)
                    break
            if added:
                self._mounts.clear(volume, self._md5sum)
                self.kept.add(volume)
            else:
                passed.append(volume)
        self._left = passed + self._left
        return bool(self.kept.replicas) and not any(map(self.kept.needs, self._left))

    def _failed(self, volume: Volume, error: VolumeError) -> None:
        self.failed = True
        if not isinstance(error, VolumeFull):
            self._full = False
        self._reading.failed(volume, self._md5sum, error)

    def refusal(self) -> Refused:
        """Return why no copy could be stored."""
        # 507 sends the client elsewhere for good; the volumes that are left may have room.
        needed = [volume for volume in self._left if self.kept.needs(volume)]
        if self._full and self._mounts_writable() and not needed:
            return Refused(507, "no space left")
        return Refused(503, "the block could not be stored")

    def _mounts_writable(self) -> bool:
        return any(volume.writable and self.kept.needs(volume) for volume in self._mounts)


class _OtherBlock(Exception):
    """The stored block is another one with the same hash."""


class _Copy:
    """A copy on one volume: compared as long as the stored one is the same, else written."""

    def __init__(self, volume: Volume, md5sum: str, size: int) -> None:
        self.volume = volume
        self._md5sum = md5sum
        self._size = size
        self._same = 0  # bytes that were the same
        self._reader: BlockReader | None = None
        self._writer: BlockWriter | None = None
        self._different = False
        try:
            self._reader = volume.open(md5sum)
        except BlockMissing:
            self._writer = volume.create(md5sum, size)

    def write(self, data: bytes | bytearray) -> None:
        if self._writer is None:
            assert self._reader is not None
            if self._reader.read(len(data)) == data:
                self._same += len(data)
                return
            self._diverge()
        assert self._writer is not None
        self._writer.write(data)

    def _diverge(self) -> None:
        """Begin to write, with what was the same until now."""
        self._different = True
        self._close_reader()
        self._writer = self.volume.create(self._md5sum, self._size)
        left = self._same
        with self.volume.open(self._md5sum) as reader:
            while left:
                data = reader.read(min(left, CHUNK))
                if not data:
                    raise VolumeError("the stored block was changed while it was compared")
                self._writer.write(data)
                left -= len(data)

    def finish(self) -> bool:
        """Store it; return whether a corrupt one was replaced."""
        if self._writer is None:
            assert self._reader is not None
            if not self._reader.read(1):
                self.volume.touch(self._md5sum)
                return False
            self._diverge()
        assert self._writer is not None
        if self._different and self._is_good():
            raise _OtherBlock
        self._writer.commit()
        return self._different

    def _is_good(self) -> bool:
        """Return whether the stored block is what its hash says."""
        try:
            with self.volume.open(self._md5sum) as reader:
                return digest(reader)[0] == self._md5sum
        except BlockMissing:
            return False

    def close(self) -> None:
        self._close_reader()
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def _close_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()
