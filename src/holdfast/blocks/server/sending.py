"""Large blocks are sent while they are read and checked, with few parts of them in memory.

A part is sent when it is known to be right, or else while it is hashed; the last part waits until
all of the hash is right, so that a corrupt block never goes out as a complete one.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import deque
from itertools import islice
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
        volume, reader = await self._workers.run(self._reading.open, md5sum, size)
        known = self._sums.get(md5sum)
        check: _ByHash | _BySums
        if known is None:
            check = _ByHash(self._workers, reader, md5sum)
        else:
            check = _BySums(self._workers, reader, known)
        reading: Job[bytes] | None = None
        self._workers.parts.begin()
        try:
            part = await check.read()
            await exchange.start(200, [(b"content-length", b"%d" % size), *headers])
            left = size - len(part)
            while left > 0 and part:
                reading = check.read()
                check.begin(part)
                await exchange.send(part, more=True)
                self._metrics.sent.inc(len(part))
                await check.keep_up()
                part = await reading
                left -= len(part)
            sums = await check.finish(part)
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
                if reading is not None:
                    await over([reading])
            finally:
                await self._workers.run(reader.close)
        # Nothing was sent: another copy may be right, or this one after all.
        await self.send(exchange, md5sum, size, headers)


class _ByHash:
    """While one part is sent, it is hashed after the one before, and the next one is read."""

    def __init__(self, workers: Workers, reader: BlockReader, md5sum: str) -> None:
        self._workers = workers
        self._reader = reader
        self._md5sum = md5sum
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._sums = array("Q")
        self._lane = Lane(workers)
        self._hashing: deque[Job[None]] = deque()

    def read(self) -> Job[bytes]:
        """Read the next part."""
        return self._workers.run(self._reader.read, self._workers.parts.size)

    def begin(self, part: bytes) -> None:
        """Hash a part after those before it."""
        self._hashing.append(self._lane.run(self._hash, part))

    async def keep_up(self) -> None:
        """Wait until no more than one part is still to be hashed."""
        if len(self._hashing) > 1:
            await self._hashing.popleft()

    async def finish(self, part: bytes) -> array[int] | None:
        """Return the sums of all chunks, None when the block is not what its hash says."""
        await self._lane.run(self._hash, part)
        return self._sums if self._md5.hexdigest() == self._md5sum else None

    def _hash(self, part: bytes) -> None:
        self._md5.update(part)
        self._sums.extend(sums_of(part))


class _BySums:
    """Each part is read and checked while the one before is sent."""

    def __init__(self, workers: Workers, reader: BlockReader, sums: array[int]) -> None:
        self._workers = workers
        self._reader = reader
        self._sums = sums
        self._left = iter(sums)

    def read(self) -> Job[bytes]:
        wanted = list(islice(self._left, self._workers.parts.size // CHUNK))
        return self._workers.run(checked, self._reader, wanted)

    def begin(self, part: bytes) -> None:
        pass

    async def keep_up(self) -> None:
        pass

    async def finish(self, part: bytes) -> array[int]:
        return self._sums
