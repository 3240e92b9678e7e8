"""The parts of one service, made from its configuration, and what it does by itself."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from holdfast.blocks.server.access import Access
from holdfast.blocks.server.metrics import Metrics
from holdfast.blocks.server.mounts import Mounts
from holdfast.blocks.server.pulls import Pulls
from holdfast.blocks.server.reading import Reading
from holdfast.blocks.server.remotes import Remotes
from holdfast.blocks.server.scrub import Scrub
from holdfast.blocks.server.trash import Trash
from holdfast.blocks.server.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from typing import Any

    from holdfast.blocks.server.config import Config
    from holdfast.blocks.server.exchanges import Exchange
    from holdfast.blocks.server.volumes import Volume

__all__ = ["Service"]

logger = logging.getLogger("holdfast.blocks.server")

#: How long requests that were given up may take to clean up, in seconds.
CLEANING = 10.0


class Service:
    """A block service on volumes, within a running event loop.

    It owns the volumes and closes them. ``now``: tells the seconds since the epoch.
    """

    def __init__(
        self, config: Config, volumes: Sequence[Volume], now: Callable[[], float] = time.time
    ) -> None:
        self.config = config
        self.mounts = Mounts(volumes, config.copies)
        self.metrics = Metrics(self.mounts)
        self.workers = Workers(config.threads)
        self.reading = Reading(self.mounts, self.metrics)
        self.access = Access(
            key=config.signing_key.encode(),
            ttl=config.signature_ttl,
            system_token=config.system_token,
            tokens=config.tokens,
            now=now,
        )
        self.remotes = Remotes(self.mounts, self.reading, self.workers, config.remotes)
        self.trash = Trash(
            self.mounts,
            self.workers,
            self.metrics,
            enabled=config.trash,
            lifetime=config.trash_lifetime,
            ttl=config.signature_ttl,
            now=now,
        )
        self.pulls = Pulls(self.mounts, self.remotes, self.access, self.metrics)
        self.scrub = Scrub(
            self.mounts,
            self.reading,
            self.workers,
            self.metrics,
            rate=config.scrub_rate or 1.0,
            pause=config.scrub_pause,
        )
        #: The requests in progress.
        self.exchanges: set[Exchange] = set()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to do what is done by itself."""
        self._begin(self.pulls.work, self._give_up_idle)
        if self.config.trash:
            self._begin(self.trash.work, self.trash.empty_regularly)
        if self.config.scrub_rate:
            self._begin(self.scrub.work)

    def _begin(self, *functions: Callable[[], Coroutine[Any, Any, None]]) -> None:
        for function in functions:
            task = asyncio.get_running_loop().create_task(function(), name=function.__qualname__)
            task.add_done_callback(_ended)
            self._tasks.append(task)

    async def _give_up_idle(self) -> None:
        """Give up requests whose clients neither send nor read, for ever."""
        idle = self.config.idle_timeout
        clock = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(idle / 4)
            late = clock() - idle
            for exchange in list(self.exchanges):
                since = exchange.waiting_since
                if since is not None and since < late and exchange.task is not None:
                    exchange.expired = True
                    exchange.task.cancel()

    async def stop(self) -> None:
        """End all of it, and close the volumes."""
        # Those that the server has given up, and that still have to clean up after themselves.
        requests = [one.task for one in self.exchanges if one.task is not None]
        if requests:
            await asyncio.wait(requests, timeout=CLEANING)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.remotes.close()
        self.workers.close()
        for volume in self.mounts:
            volume.close()


def _ended(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.critical("%s has ended", task.get_name(), exc_info=error)
