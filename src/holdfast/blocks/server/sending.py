"""Large blocks are sent while they are read and checked, with few parts of them in memory.

A part is sent when it is known to be right, or else while it is hashed; the last part waits until
all of the hash is right, so that a corrupt block never goes out as a complete one.
"""

from __future__ import annotations

import asyncio
import hashlib
from array import array
from collections import deque
from typing import TYPE_CHECKING

from holdfast.blocks.server.parts import CHUNK
from holdfast.blocks.server.refusals import Refused
from holdfast.blocks.server.sums import Damaged, Sums, checked, sums_of
from holdfast.blocks.server.volumes import VolumeError
from holdfast.blocks.server.workers import Lane, over

if TYPE_CHECKING:
    from holdfast.blocks.server.exchanges import Exchange
    from holdfast.blocks.server.metrics import Metrics
    from holdfast.blocks.server.reading import Reading
    from holdfast.blocks.server.volumes import BlockReader
    from holdfast.blocks.server.workers import Job, Workers

__all__ = ["CutShort", "Sending"]


class CutShort(Exception):
    """A block was found corrupt when parts of it had been sent: the answer must not be complete."""


class Sending:
    """Sends large blocks of a service."""

    def __init__(self, reading: Reading, workers: Workers, metrics: Metrics) -> None:
        self._reading = reading
        self._workers = workers
        self._metrics = metrics
        self._sums = Sums()

    async def send(
        self, exchange: Exchange, md5sum: str, size: int, headers: list[tuple[bytes, bytes]]
    ) -> None:
        """Answer with a block; raises Refused when nothing was sent yet, or CutShort."""
        known = self._sums.get(md5sum)
        # What was read before is likely to be in memory: it is opened, read and closed here, then.
        opened = None if known is None else self._reading.open_at_once(md5sum, size)
        if opened is None:
            volume, reader = await self._workers.run(self._reading.open, md5sum, size)
        else:
            volume, reader = opened
        source: _ByHash | _BySums
        if known is None:
            source = _ByHash(self._workers, reader, md5sum)
        else:
            source = _BySums(self._workers, reader, known)
        self._workers.parts.begin()
        try:
            source.begin(CHUNK)  # little, for the client has nothing to do yet
            part = await source.next()
            await exchange.start(200, [(b"content-length", b"%d" % size), *headers])
            left = size - len(part)
            while left > 0 and part:
                source.begin(self._workers.parts.size)
                source.take(part)
                await exchange.send(part, more=True)
                self._metrics.sent.inc(len(part))
                if exchange.drained:
                    source.reuse(part)
                await source.keep_up()
                part = await source.next()
                left -= len(part)
            sums = await source.finish(part)
            if left or sums is None:
                raise Damaged
            self._sums.learn(md5sum, sums)
            await exchange.send(part)
            self._metrics.sent.inc(len(part))
            return
        except Damaged:
            self._sums.forget(md5sum)
            self._reading.blame(volume, md5sum)
            if exchange.status:
                raise CutShort from None
        except VolumeError as error:
            self._reading.failed(volume, md5sum, error)
            if exchange.status:
                raise CutShort from None
            raise Refused(503, "the block cannot be read") from None
        finally:
            self._workers.parts.end()
            try:
                await source.over()
            finally:
                if opened is None:
                    await self._workers.run(reader.close)
                else:
                    reader.close()
        # Nothing was sent: another copy may be right, or this one after all.
        await self.send(exchange, md5sum, size, headers)


class _Source:
    """The parts of a block, in their order; the next one is read while the last one is sent."""

    def __init__(self, workers: Workers, reader: BlockReader) -> None:
        self._workers = workers
        self._reader = reader
        self._coming: Job[bytes] | None = None

    def begin(self, size: int) -> None:
        """Have the next part read, of so many bytes."""
        self._coming = self._workers.run(self._reader.read, size)

    async def next(self) -> bytes | bytearray:
        """Return the part that was begun."""
        assert self._coming is not None
        part = await self._coming
        self._coming = None
        return part

    async def over(self) -> None:
        """Wait until nothing is being read."""
        if self._coming is not None:
            await over([self._coming])


class _ByHash(_Source):
    """While one part is sent, it is hashed after the one before, and the next one is read."""

    def __init__(self, workers: Workers, reader: BlockReader, md5sum: str) -> None:
        super().__init__(workers, reader)
        self._md5sum = md5sum
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._sums = array("Q")
        self._lane = Lane(workers)
        self._hashing: deque[Job[None]] = deque()

    def take(self, part: bytes | bytearray) -> None:
        """Hash a part after those before it."""
        self._hashing.append(self._lane.run(self._hash, part))

    def reuse(self, part: bytes | bytearray) -> None:
        """Take a part back that is not needed any more: it was sent to its last byte."""

    async def keep_up(self) -> None:
        """Wait until no more than one part is still to be hashed."""
        if len(self._hashing) > 1:
            await self._hashing.popleft()

    async def finish(self, part: bytes | bytearray) -> array[int] | None:
        """Return the sums of all chunks, None when the block is not what its hash says."""
        await self._lane.run(self._hash, part)
        return self._sums if self._md5.hexdigest() == self._md5sum else None

    def _hash(self, part: bytes | bytearray) -> None:
        self._md5.update(part)
        self._sums.extend(sums_of(part))


class _BySums(_Source):
    """Each part is checked by itself before it is sent.

    What the system has in memory is read and checked here, a chunk at a time: to hand it over takes
    a third as long again, and two threads more that want a processor while the client hashes.
    """

    def __init__(self, workers: Workers, reader: BlockReader, sums: array[int]) -> None:
        super().__init__(workers, reader)
        self._sums = sums
        self._at = 0  # chunks
        self._size = 0
        self._at_hand = True
        self._spare = bytearray()  # to be had, it would have to be zeroed first

    def begin(self, size: int) -> None:
        self._size = size
        if not self._at_hand or not self._workers.parts.few:
            self._read()

    def _read(self) -> None:
        wanted = self._sums[self._at : self._at + self._size // CHUNK].tolist()
        self._at += len(wanted)
        self._coming = self._workers.run(checked, self._reader, wanted)

    async def next(self) -> bytes | bytearray:
        if self._coming is None:
            await asyncio.sleep(0)  # others have their turn, however fast this client is
            chunk = self._at_once()
            if chunk is not None:
                return chunk
            self._at_hand = False
            self._read()
        return await super().next()

    def _at_once(self) -> bytearray | None:
        """Return the next chunk, None when it is not in memory; raises Damaged."""
        size = min(CHUNK, self._reader.size - self._at * CHUNK)
        part, self._spare = self._spare, bytearray()
        if len(part) != size:
            part = bytearray(size)
        if not self._reader.read_at_once(part):
            return None
        if sums_of(part)[0] != self._sums[self._at]:
            raise Damaged
        self._at += 1
        return part

    def take(self, part: bytes | bytearray) -> None:
        pass

    def reuse(self, part: bytes | bytearray) -> None:
        if isinstance(part, bytearray):
            self._spare = part

    async def keep_up(self) -> None:
        pass

    async def finish(self, part: bytes | bytearray) -> array[int]:
        return self._sums
