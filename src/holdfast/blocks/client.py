"""`KeepClient`: blocks on Keep services, with the names of the Arvados SDK."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from holdfast.blocks.base import KeepBase, checked_method, local_locator, signature_headers
from holdfast.blocks.locators import KeepLocator
from holdfast.blocks.prefetch import THREADS, Prefetch
from holdfast.drivers import blocking
from holdfast.lifetimes import Closing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from holdfast import ops
    from holdfast.blocks.base import Driver
    from holdfast.blocks.placement import Service
    from holdfast.blocks.service import KeepService

__all__ = ["KeepClient"]


class KeepClient(KeepBase, Closing):
    """Stores blocks on Keep services, and reads them; safe to share among threads.

    ``api_client``: an API object that lists the services: its
    ``keep_services().accessible().execute()["items"]`` is asked. ``proxy``: or the URLs of
    services, with spaces between; by default those of ``ARVADOS_KEEP_SERVICES``, or
    ``ARVADOS_KEEP_PROXY``; ``""`` is none. ``timeout``: seconds to connect, which double with each
    attempt; seconds of an interval; and the least bandwidth over any such interval, in bytes per
    second. ``proxy_timeout``: the same for proxies. ``api_token``: without an api_client, which
    has one; by default that of ``ARVADOS_API_TOKEN``. ``local_store``: a folder for the blocks,
    instead of services; by default ``KEEP_LOCAL_STORE``; ``""`` is none. ``block_cache``: a
    `KeepBlockCache`. ``num_retries``: how many rounds over the services there may be after a
    first one that failed. ``session``: not used. ``num_prefetch_threads``: how many blocks are
    fetched ahead at a time.

    Raises ArgumentError for settings that make no client.
    """

    def _begin(self, driver: Driver | None, threads: int | None) -> None:
        self._run: Callable[[ops.Program[Any]], Any]
        self._run = blocking.run if driver is None else driver.run
        this = weakref.ref(self)
        self._prefetch = Prefetch(lambda text: _ahead(this, text), threads or THREADS)
        self._core.on_fork.append(self._prefetch.forget)

    def get(
        self,
        loc_s: str,
        num_retries: int | None = None,
        request_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """Return a block; of several locators, with commas between, the blocks as one.

        ``num_retries``: rounds over the services after a first one that failed; ``request_id``:
        sent with each request, by default a random one; ``headers``: sent with each request, which
        then is not answered from the cache. Raises NotFoundError when no service has it,
        KeepReadError when none gave it, and ValueError for what is no locator.
        """
        if self._store is not None:
            return self.local_store_get(loc_s)
        block: bytes = self._run(self._core.get(loc_s, num_retries, request_id, headers))
        return block

    def head(
        self,
        loc_s: str,
        num_retries: int | None = None,
        request_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bool:
        """Return True when a service has a block; arguments and errors as of `get`."""
        if self._store is not None:
            return self.local_store_head(loc_s)
        self._run(self._core.head(loc_s, num_retries, request_id, headers))
        return True

    def _get_or_head(
        self,
        loc_s: str,
        method: str = "GET",
        num_retries: int | None = None,
        request_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes | bool:
        """Get a block, or see whether it is there: ``method`` is GET or HEAD."""
        act = self.head if checked_method(method) == "HEAD" else self.get
        return act(loc_s, num_retries, request_id, headers)

    def put(
        self,
        data: ops.Buffer | str,
        copies: int = 2,
        num_retries: int | None = None,
        request_id: str | None = None,
        classes: Iterable[str] | None = None,
    ) -> str:
        """Store a block and return its locator, signed by the last service that stored it.

        ``data``: bytes, or str, which is encoded as UTF-8. ``copies``: on how many services; 0
        sends nothing. ``classes``: storage classes that each are to have so many copies. Raises
        KeepWriteError when fewer copies were written, ArgumentError for what is no block.
        """
        if self._store is not None:
            return self.local_store_put(data)
        locator: str = self._run(self._core.put(data, copies, num_retries, request_id, classes))
        return locator

    def refresh_signature(self, loc: str) -> str:
        """Return the local locator of a block on another cluster, which is fetched for it."""
        return local_locator(self._run(self._core.head(loc, headers=signature_headers())), loc)

    def get_from_cache(self, loc: str) -> bytes | None:
        """Return a block if the cache has it, None otherwise."""
        return self._core.cache.get(KeepLocator(loc).md5sum)

    def block_prefetch(self, locator: str) -> None:
        """Fetch a block into the cache, in the background."""
        if self._store is None and not self.is_cached(locator):
            self._prefetch.add(locator)

    def stop_prefetch_threads(self) -> None:
        """Forget the blocks that are still to be fetched, and wait for those that are coming."""
        self._prefetch.stop()

    def build_services_list(self, force_rebuild: bool = False) -> list[Service]:
        """Return the services, listed (again) if need be."""
        services = self._core.services.known(float("inf"), again=force_rebuild)
        return list(self._run(services).all)

    def weighted_service_roots(
        self, locator: KeepLocator | str, force_rebuild: bool = False, need_writable: bool = False
    ) -> list[str]:
        """Return the URLs of the services in the order in which they are asked for a block."""
        services = self._run(self._core.services.known(float("inf"), again=force_rebuild))
        return [one.root for one in self._order(services, locator, need_writable)]

    def map_new_services(
        self,
        roots_map: dict[str, KeepService],
        locator: KeepLocator | str,
        force_rebuild: bool,
        need_writable: bool,
        headers: Mapping[str, str] | None = None,
    ) -> list[str]:
        """Add a `KeepService` for each URL that a map does not have yet.

        Returns the URLs in the order of `weighted_service_roots`.
        """
        services = self._run(self._core.services.known(float("inf"), again=force_rebuild))
        return self._mapped(roots_map, self._order(services, locator, need_writable), headers)

    def local_store_put(
        self, data: ops.Buffer | str, copies: int = 1, num_retries: int | None = None
    ) -> str:
        """Store a block as a file; ``copies`` and ``num_retries`` mean nothing."""
        return self._local().put(data)

    def local_store_get(self, loc_s: str, num_retries: int | None = None) -> bytes:
        """Return a block of the local store."""
        return self._local().get(loc_s)

    def local_store_head(self, loc_s: str, num_retries: int | None = None) -> bool:
        """Return True when the local store has a block; raises NotFoundError."""
        return self._local().head(loc_s)

    def close(self) -> None:
        """Close the kept connections, and wait for blocks that come in the background."""
        self._prefetch.stop()
        self._core.close()


def _ahead(this: weakref.ref[KeepClient], locator: str) -> None:
    client = this()
    if client is not None:
        client.get(locator)
