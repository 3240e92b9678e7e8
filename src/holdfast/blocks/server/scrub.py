"""All blocks are read again and again, so that corrupt ones are found while there are copies."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
from itertools import islice
from typing import TYPE_CHECKING

from holdfast.blocks.server.parts import CHUNK
from holdfast.blocks.server.volumes import BlockMissing, VolumeError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from holdfast.blocks.server.metrics import Metrics
    from holdfast.blocks.server.mounts import Mounts
    from holdfast.blocks.server.reading import Reading
    from holdfast.blocks.server.volumes import BlockReader, Stored, Volume
    from holdfast.blocks.server.workers import Workers

__all__ = ["Scrub"]

logger = logging.getLogger("holdfast.blocks.server")

#: The first digits by which the blocks are gone through.
DIGITS = "0123456789abcdef"

#: How many blocks are listed at a time: never all of them are in memory.
LISTED = 1000


class Scrub:
    """Reads every block of every volume, and notes the corrupt ones.

    ``rate``: how many bytes per second at most. ``pause``: seconds between one time through all of
    them and the next.
    """

    def __init__(
        self,
        mounts: Mounts,
        reading: Reading,
        workers: Workers,
        metrics: Metrics,
        *,
        rate: float,
        pause: float,
    ) -> None:
        self._mounts = mounts
        self._reading = reading
        self._workers = workers
        self._metrics = metrics
        self._rate = rate
        self._pause = pause
        self._ahead = 0.0  # the loop's time at which all that was read would have been allowed
        #: How often it went through all blocks, and through how many this time.
        self.rounds = 0
        self.blocks = 0

    async def work(self) -> None:
        """Scrub, for ever."""
        while True:
            await self.round()
            await asyncio.sleep(self._pause)

    async def round(self) -> None:
        """Read every block once."""
        self.blocks = 0
        # In any order: a service that is started often would always see the same blocks.
        for digit in random.sample(DIGITS, len(DIGITS)):
            for volume in self._mounts:
                await self._volume(volume, digit)
        self.rounds += 1
        self._metrics.scrubs.inc()
        logger.info("scrubbed %d copies; corrupt: %d", self.blocks, len(self._mounts.corrupt()))

    async def _volume(self, volume: Volume, digit: str) -> None:
        listing = volume.index(digit)
        while True:
            try:
                blocks = await self._workers.run(_some, listing)
            except VolumeError as error:
                self._reading.failed(volume, digit, error)
                return
            if not blocks:
                return
            for block in blocks:
                try:
                    await self._block(volume, block.md5sum)
                except BlockMissing:
                    continue
                except VolumeError as error:
                    self._reading.failed(volume, block.md5sum, error)

    async def _block(self, volume: Volume, md5sum: str) -> None:
        reader = await self._workers.run(_open, volume, md5sum)
        md5 = hashlib.md5(usedforsecurity=False)
        try:
            while size := await self._workers.run(_read, reader, md5):
                self._metrics.scrubbed.inc(size)
                await self._wait(size)
        finally:
            await self._workers.run(reader.close)
        self.blocks += 1
        if md5.hexdigest() == md5sum:
            self._mounts.clear(volume, md5sum)
        else:
            self._reading.blame(volume, md5sum)

    async def _wait(self, size: int) -> None:
        now = asyncio.get_running_loop().time()
        self._ahead = max(self._ahead, now) + size / self._rate
        # Not for every small block: a second's worth may be read at once.
        if self._ahead - now > 1.0:
            await asyncio.sleep(self._ahead - now - 0.5)


def _some(listing: Iterator[Stored]) -> list[Stored]:
    return list(islice(listing, LISTED))


def _open(volume: Volume, md5sum: str) -> BlockReader:
    return volume.open(md5sum, once=True)


def _read(reader: BlockReader, md5: Any) -> int:
    data = reader.read(CHUNK)
    md5.update(data)
    return len(data)
