"""Blocks go away: into the trash, and in the end for good; and the list of those that shall."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from holdfast.blocks.locators import KeepLocator
from holdfast.blocks.server.refusals import Refused
from holdfast.blocks.server.volumes import BlockMissing, BlockTooNew, VolumeError
from holdfast.blocks.server.worklist import Worklist

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.blocks.server.metrics import Metrics
    from holdfast.blocks.server.mounts import Mounts
    from holdfast.blocks.server.volumes import Volume
    from holdfast.blocks.server.workers import Workers

__all__ = ["Trash", "TrashRequest", "entries"]

logger = logging.getLogger("holdfast.blocks.server")

#: How often blocks beyond their deadline are looked for, in seconds.
EMPTYING = 3600.0


@dataclass(frozen=True, slots=True)
class TrashRequest:
    """One entry of a trash list: a block with a certain time, on one mount or on all."""

    md5sum: str
    mtime_ns: int
    mount: str

    @classmethod
    def of(cls, entry: dict[str, Any]) -> TrashRequest:
        """Return the entry in a list; raises ValueError."""
        mtime = entry.get("block_mtime")
        mount = entry.get("mount_uuid") or ""
        if not isinstance(mtime, int) or isinstance(mtime, bool) or not isinstance(mount, str):
            raise ValueError("block_mtime is a number, and mount_uuid is text")
        return cls(KeepLocator(entry["locator"]).md5sum, mtime, mount)


class Trash:
    """Removes blocks that are older than signatures hold, so that nobody can count on them.

    ``enabled``: whether blocks are removed at all. ``lifetime``: how many seconds they stay in
    the trash; 0: they go at once. ``ttl``: how long signatures hold, in seconds. ``now``: tells
    the seconds since the epoch.
    """

    def __init__(
        self,
        mounts: Mounts,
        workers: Workers,
        metrics: Metrics,
        *,
        enabled: bool,
        lifetime: int,
        ttl: int,
        now: Callable[[], float],
    ) -> None:
        self.enabled = enabled
        self._mounts = mounts
        self._workers = workers
        self._metrics = metrics
        self._lifetime = lifetime
        self._ttl = ttl
        self._now = now
        #: The list that was sent last.
        self.requests: Worklist[TrashRequest] = Worklist(metrics.pending.labels("trash"))

    def remove(self, volume: Volume, md5sum: str) -> None:
        """Remove a block from a volume; raises BlockTooNew and VolumeError."""
        now = self._now()
        deadline = int(now) + self._lifetime if self._lifetime else 0
        volume.trash(md5sum, int((now - self._ttl) * 1e9), deadline)
        self._mounts.clear(volume, md5sum)
        self._metrics.trashed.inc()

    async def work(self) -> None:
        """Work off the list, for ever."""
        while True:
            await self._workers.run(self._carry_out, await self.requests.next())

    def _carry_out(self, request: TrashRequest) -> None:
        for volume in self._mounts:
            if not volume.writable or request.mount not in ("", volume.uuid):
                continue
            try:
                # Whoever asks has seen it with that time. If it was touched since, it is in use.
                if volume.stat(request.md5sum).mtime_ns == request.mtime_ns:
                    self.remove(volume, request.md5sum)
            except (BlockMissing, BlockTooNew):
                continue
            except VolumeError as error:
                self._metrics.volume_errors.labels(volume.uuid).inc()
                logger.warning("%s on %s: not trashed: %s", request.md5sum, volume.uuid, error)

    async def empty_regularly(self) -> None:
        """Remove what is beyond its deadline, for ever."""
        while True:
            await self._workers.run(self.empty)
            await asyncio.sleep(EMPTYING)

    def empty(self) -> None:
        """Remove what is beyond its deadline."""
        for volume in self._mounts:
            if not volume.writable:
                continue
            try:
                emptied = volume.empty(self._now())
            except VolumeError as error:
                self._metrics.volume_errors.labels(volume.uuid).inc()
                logger.warning("the trash of %s was not emptied: %s", volume.uuid, error)
                continue
            if emptied.blocks:
                self._metrics.emptied.inc(emptied.blocks)
                logger.info("%d blocks with %d bytes left the trash of %s", *emptied, volume.uuid)


def entries(data: Any) -> list[dict[str, Any]]:
    """Return the entries of a list that was sent; raises Refused."""
    if not isinstance(data, list) or not all(isinstance(one, dict) for one in data):
        raise Refused(400, "not a JSON list of objects")
    return data
