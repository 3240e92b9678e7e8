"""What the blocking and the asynchronous client have in common."""

from __future__ import annotations

import os
import random as random_module
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from holdfast.blocks.copies import KeepWriterQueue
from holdfast.blocks.core import KeepCore
from holdfast.blocks.errors import ArgumentError, KeepReadError
from holdfast.blocks.localstore import LocalStore
from holdfast.blocks.locators import KeepLocator
from holdfast.blocks.placement import weight
from holdfast.blocks.requests import Fields
from holdfast.blocks.service import KeepService
from holdfast.blocks.threads import KeepWriterThread, KeepWriterThreadPool
from holdfast.blocks.timeouts import DEFAULT_PROXY_TIMEOUT, DEFAULT_TIMEOUT, Seconds, for_attempt

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from holdfast.blocks.cache import BlockCache
    from holdfast.blocks.counters import Counter
    from holdfast.blocks.placement import Service, Services
    from holdfast.blocks.service import KeepService as OneService
    from holdfast.ops import Program

__all__ = ["Driver", "KeepBase", "checked_method"]


class Driver(Protocol):
    """What runs the programs of a client instead of its thread or event loop."""

    def clock(self) -> float:
        """Return the time, in seconds."""

    def random(self) -> float:
        """Return a number from 0 to 1."""

    def run(self, program: Program[Any]) -> Any:
        """Run a program to its end, for a `KeepClient`."""

    async def arun(self, program: Program[Any]) -> Any:
        """Run a program to its end, for an `AsyncKeepClient`."""


class KeepBase:
    """The arguments, and what needs no waiting."""

    DEFAULT_TIMEOUT = DEFAULT_TIMEOUT
    DEFAULT_PROXY_TIMEOUT = DEFAULT_PROXY_TIMEOUT

    KeepService = KeepService
    KeepWriterQueue = KeepWriterQueue
    KeepWriterThreadPool = KeepWriterThreadPool
    KeepWriterThread = KeepWriterThread

    def __init__(
        self,
        api_client: Any = None,
        proxy: str | None = None,
        timeout: float | tuple[float, ...] | None = DEFAULT_TIMEOUT,
        proxy_timeout: float | tuple[float, ...] | None = DEFAULT_PROXY_TIMEOUT,
        api_token: str | None = None,
        local_store: str | os.PathLike[str] | None = None,
        block_cache: BlockCache | None = None,
        num_retries: int = 0,
        session: Any = None,
        num_prefetch_threads: int | None = None,
        *,
        driver: Driver | None = None,
    ) -> None:
        if local_store is None:
            local_store = os.environ.get("KEEP_LOCAL_STORE", "")
        self.local_store = os.fspath(local_store)
        self._store = LocalStore(self.local_store) if self.local_store else None
        if num_prefetch_threads is not None and num_prefetch_threads < 1:
            raise ArgumentError("num_prefetch_threads is a number, from 1")
        self._core = KeepCore(
            api_client,
            proxy,
            timeout,
            proxy_timeout,
            api_token,
            block_cache,
            num_retries,
            local=self._store is not None,
            threaded=driver is None,
            clock=monotonic if driver is None else driver.clock,
            random=random_module.random if driver is None else driver.random,
        )
        self._begin(driver, num_prefetch_threads)

    def _begin(self, driver: Driver | None, threads: int | None) -> None:
        """Choose what runs the programs, and what fetches blocks ahead."""
        raise NotImplementedError

    def __repr__(self) -> str:
        where = self.local_store or ", ".join(one.root for one in self._known)
        return f"<{type(self).__name__} {where or 'services not listed yet'}>"

    @property
    def core(self) -> KeepCore:
        """The state and the programs behind it: for drivers of one's own."""
        return self._core

    @property
    def num_retries(self) -> int:
        """How often failed requests are repeated, unless a call says otherwise."""
        return self._core.retries

    @property
    def timeout(self) -> Seconds:
        """The timeout of services that are no proxies."""
        return self._core.timeouts

    @property
    def proxy_timeout(self) -> Seconds:
        """The timeout of proxies."""
        return self._core.proxy_timeouts

    @property
    def block_cache(self) -> BlockCache:
        """The cache."""
        return self._core.cache

    @property
    def upload_counter(self) -> Counter:
        """The bytes that services have taken."""
        return self._core.counters.uploads

    @property
    def download_counter(self) -> Counter:
        """The bytes that services have sent."""
        return self._core.counters.downloads

    @property
    def get_counter(self) -> Counter:
        """The blocks that were asked for."""
        return self._core.counters.gets

    @property
    def put_counter(self) -> Counter:
        """The blocks that were to be stored."""
        return self._core.counters.puts

    @property
    def hits_counter(self) -> Counter:
        """The blocks that the cache had."""
        return self._core.counters.hits

    @property
    def misses_counter(self) -> Counter:
        """The blocks that the cache did not have."""
        return self._core.counters.misses

    @property
    def using_proxy(self) -> bool:
        """Whether some of the services, as far as they are known, are no disks."""
        return self._any_nondisk_services(self._known)

    @property
    def _known(self) -> Sequence[Service]:
        services = self._core.services.services
        return () if services is None else services.readable

    def current_timeout(self, attempt_number: int) -> Seconds:
        """Return the timeout of an attempt, counted from 0: the time to connect doubles.

        It is that of proxies when there are some among the services.
        """
        return for_attempt(self.proxy_timeout if self.using_proxy else self.timeout, attempt_number)

    def is_cached(self, locator: str) -> bool:
        """Return whether the cache has a block."""
        return KeepLocator(locator).md5sum in self._core.cache

    def _any_nondisk_services(self, service_list: Iterable[Service]) -> bool:
        """Return whether some services are no disks."""
        return any(service.kind != "disk" for service in service_list)

    def _service_weight(self, data_hash: str, service_uuid: str) -> str:
        """Return the weight of a service for a block."""
        return weight(data_hash, service_uuid)

    @staticmethod
    def _check_loop_result(result: tuple[Any, int]) -> bool | None:
        """Return True for a result, False when there is nobody left to ask, None to go on.

        ``result``: what a round brought, and how many services it could ask.
        """
        outcome, services = result
        if outcome is not None and outcome is not False:
            return True
        return None if services else False

    def _local(self) -> LocalStore:
        if self._store is None:
            raise ArgumentError("there is no local store: it is the argument local_store")
        return self._store

    def _order(
        self, services: Services, locator: KeepLocator | str, need_writable: bool
    ) -> Sequence[Service]:
        if isinstance(locator, str):
            locator = KeepLocator(locator)
        return services.to_write(locator.md5sum) if need_writable else services.to_read(locator)

    def _mapped(
        self,
        roots_map: dict[str, OneService],
        order: Sequence[Service],
        headers: Mapping[str, str] | None,
    ) -> list[str]:
        """Add the services that a map does not have yet; returns their URLs, in order."""
        fields = Fields("", headers)
        for service in order:
            if service.root not in roots_map:
                roots_map[service.root] = self._core.service(service, fields)
        return [service.root for service in order]


def checked_method(method: str) -> str:
    """Return the method of a request for a block; raises ArgumentError."""
    if method not in ("GET", "HEAD"):
        raise ArgumentError(f"a block is asked for by GET or HEAD, not {method!r}")
    return method


def signature_headers() -> dict[str, str]:
    """Return the headers that ask for a block's local signature."""
    now = datetime.now(UTC).replace(tzinfo=None).isoformat()
    return {"X-Keep-Signature": f"local, {now}Z"}


def local_locator(service: OneService, locator: str) -> str:
    """Return the locator that a service answered with; raises KeepReadError."""
    signed = service.header("x-keep-locator")
    if not signed:
        name = KeepLocator(locator).stripped()
        raise KeepReadError(f"{service.root} gave no local signature for {name}")
    return signed
