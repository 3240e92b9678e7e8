"""`AsyncKeepClient`: `KeepClient` for event loops."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from holdfast.blocks.base import KeepBase, checked_method, local_locator, signature_headers
from holdfast.blocks.locators import KeepLocator
from holdfast.blocks.prefetch import THREADS, failed
from holdfast.drivers import asyncio as asyncio_driver
from holdfast.lifetimes import AsyncClosing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from holdfast import ops
    from holdfast.blocks.base import Driver
    from holdfast.blocks.placement import Service
    from holdfast.blocks.service import KeepService

__all__ = ["AsyncKeepClient"]


class AsyncKeepClient(KeepBase, AsyncClosing):
    """Stores blocks on Keep services, and reads them, in an event loop.

    Arguments, methods and errors are those of `KeepClient`; what blocks (the API object, a cache
    on disk, a local store) runs on threads.
    """

    def _begin(self, driver: Driver | None, threads: int | None) -> None:
        self._run: Callable[[ops.Program[Any]], Awaitable[Any]]
        self._run = asyncio_driver.run if driver is None else driver.arun
        if driver is None:
            self._core.offload = self._core.services.offload = asyncio.to_thread
        self._prefetch_limit = threads or THREADS
        self._ahead: list[str] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def get(
        self,
        loc_s: str,
        num_retries: int | None = None,
        request_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """Return a block; see `KeepClient.get`."""
        if self._store is not None:
            return await self.local_store_get(loc_s)
        block: bytes = await self._run(self._core.get(loc_s, num_retries, request_id, headers))
        return block

    async def head(
        self,
        loc_s: str,
        num_retries: int | None = None,
        request_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bool:
        """Return True when a service has a block; see `KeepClient.head`."""
        if self._store is not None:
            return await self.local_store_head(loc_s)
        await self._run(self._core.head(loc_s, num_retries, request_id, headers))
        return True

    async def _get_or_head(
        self,
        loc_s: str,
        method: str = "GET",
        num_retries: int | None = None,
        request_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes | bool:
        """Get a block, or see whether it is there; see `KeepClient`."""
        act = self.head if checked_method(method) == "HEAD" else self.get
        return await act(loc_s, num_retries, request_id, headers)

    async def put(
        self,
        data: ops.Buffer | str,
        copies: int = 2,
        num_retries: int | None = None,
        request_id: str | None = None,
        classes: Iterable[str] | None = None,
    ) -> str:
        """Store a block and return its locator; see `KeepClient.put`."""
        if self._store is not None:
            return await self.local_store_put(data)
        program = self._core.put(data, copies, num_retries, request_id, classes)
        locator: str = await self._run(program)
        return locator

    async def refresh_signature(self, loc: str) -> str:
        """Return the local locator of a block on another cluster, which is fetched for it."""
        service = await self._run(self._core.head(loc, headers=signature_headers()))
        return local_locator(service, loc)

    async def get_from_cache(self, loc: str) -> bytes | None:
        """Return a block if the cache has it, None otherwise."""
        cache = self._core.cache
        md5sum = KeepLocator(loc).md5sum
        if cache.slow:
            return await asyncio.to_thread(cache.get, md5sum)
        return cache.get(md5sum)

    def block_prefetch(self, locator: str) -> None:
        """Fetch a block into the cache, by a task of the running event loop."""
        if self._store is not None or self.is_cached(locator):
            return
        self._ahead.append(locator)
        if len(self._tasks) < self._prefetch_limit:
            task = asyncio.get_running_loop().create_task(self._fetch_ahead())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _fetch_ahead(self) -> None:
        while self._ahead:
            try:
                await self.get(self._ahead.pop(0))
            except Exception as error:
                failed(error)

    async def build_services_list(self, force_rebuild: bool = False) -> list[Service]:
        """Return the services, listed (again) if need be."""
        services = self._core.services.known(float("inf"), again=force_rebuild)
        return list((await self._run(services)).all)

    async def weighted_service_roots(
        self, locator: KeepLocator | str, force_rebuild: bool = False, need_writable: bool = False
    ) -> list[str]:
        """Return the URLs of the services in the order in which they are asked for a block."""
        services = await self._run(self._core.services.known(float("inf"), again=force_rebuild))
        return [one.root for one in self._order(services, locator, need_writable)]

    async def map_new_services(
        self,
        roots_map: dict[str, KeepService],
        locator: KeepLocator | str,
        force_rebuild: bool,
        need_writable: bool,
        headers: Mapping[str, str] | None = None,
    ) -> list[str]:
        """Add a `KeepService` for each URL that a map does not have; returns them in order."""
        services = await self._run(self._core.services.known(float("inf"), again=force_rebuild))
        return self._mapped(roots_map, self._order(services, locator, need_writable), headers)

    async def local_store_put(
        self, data: ops.Buffer | str, copies: int = 1, num_retries: int | None = None
    ) -> str:
        """Store a block as a file; ``copies`` and ``num_retries`` mean nothing."""
        return await asyncio.to_thread(self._local().put, data)

    async def local_store_get(self, loc_s: str, num_retries: int | None = None) -> bytes:
        """Return a block of the local store."""
        return await asyncio.to_thread(self._local().get, loc_s)

    async def local_store_head(self, loc_s: str, num_retries: int | None = None) -> bool:
        """Return True when the local store has a block; raises NotFoundError."""
        return await asyncio.to_thread(self._local().head, loc_s)

    async def aclose(self) -> None:
        """Close the kept connections, and end what is fetched in the background."""
        self._ahead.clear()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._core.close()
