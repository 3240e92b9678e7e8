"""What a client of blocks knows, and its programs: without I/O, for every driver."""

from __future__ import annotations

import os
import random as random_module
import threading
import weakref
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any

from holdfast import ops
from holdfast.blocks.cache import KeepBlockCache
from holdfast.blocks.counters import Counters
from holdfast.blocks.errors import ArgumentError, KeepRequestError
from holdfast.blocks.locators import BLOCK, EMPTY, KeepLocator
from holdfast.blocks.placement import Services
from holdfast.blocks.reading import Reading
from holdfast.blocks.receiving import LARGE, md5
from holdfast.blocks.service import KeepService
from holdfast.blocks.services import ServiceList, settings
from holdfast.blocks.timeouts import (
    DEFAULT_PROXY_TIMEOUT,
    DEFAULT_TIMEOUT,
    for_attempt,
    seconds_of,
    timeout_of,
)
from holdfast.blocks.writing import Writing
from holdfast.http.origins import Origin
from holdfast.http.pools import ConnectionPool, Transport
from holdfast.policy.coalescing import Flights
from holdfast.policy.deadline import OUTER, inherited

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from holdfast.blocks.cache import BlockCache
    from holdfast.blocks.placement import Service
    from holdfast.blocks.requests import Fields
    from holdfast.http.limits import Timeout
    from holdfast.ops import Program

__all__ = ["KeepCore"]

_CORES: weakref.WeakSet[KeepCore] = weakref.WeakSet()


class KeepCore:
    """The services, connections, cache and counters of a client; safe among threads.

    See `KeepClient` for the arguments. ``local``: whether there are no services. ``threaded``:
    whether large blocks are hashed on threads. ``clock`` and ``random`` are the driver's.
    """

    def __init__(
        self,
        api_client: Any = None,
        proxy: str | None = None,
        timeout: float | tuple[float, ...] | None = DEFAULT_TIMEOUT,
        proxy_timeout: float | tuple[float, ...] | None = DEFAULT_PROXY_TIMEOUT,
        api_token: str | None = None,
        block_cache: BlockCache | None = None,
        num_retries: int = 0,
        *,
        local: bool = False,
        threaded: bool = True,
        clock: Callable[[], float] = monotonic,
        random: Callable[[], float] = random_module.random,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self.timeouts = seconds_of(timeout, DEFAULT_TIMEOUT)
        self.proxy_timeouts = seconds_of(proxy_timeout, DEFAULT_PROXY_TIMEOUT)
        self.retries = retries_of(num_retries)
        self.clock = clock
        self.random = random
        self.cache: BlockCache = KeepBlockCache() if block_cache is None else block_cache
        self._reclaim = self.cache.reclaim
        self.counters = Counters()
        self._threaded = threaded
        self._api_client = api_client
        self.token: str | None = None
        self.services = ServiceList(Services(()))
        verify = True
        if not local:
            self.services, self.token, verify = settings(api_client, proxy, api_token, environ)
        self.transport = Transport(
            verify=verify, auth=self.token, headers={"Accept-Encoding": "identity"}, clock=clock
        )
        #: Calls a function that blocks, where the driver's thread must not.
        self.offload: Callable[..., Any] | None = None
        #: What else begins anew in a forked process.
        self.on_fork: list[Callable[[], None]] = []
        self._pools: dict[str, ConnectionPool] = {}
        self._flights = Flights()
        self._lock = threading.Lock()
        _CORES.add(self)

    def request_id(self) -> str | None:
        """Return the API object's request id, if it has one."""
        return getattr(self._api_client, "request_id", None)

    def service(self, service: Service, fields: Fields) -> KeepService:
        """Return a service as one operation sees it."""
        pool = self._pools.get(service.root)
        if pool is None:
            pool = self._pool(service)
        counters = self.counters
        return KeepService(
            service.root,
            pool,
            counters.uploads,
            counters.downloads,
            fields,
            secret=self.token,
            threaded=self._threaded,
            reclaim=self._reclaim,
        )

    def _pool(self, service: Service) -> ConnectionPool:
        origin = Origin.parse(service.root)
        if service.uuid.startswith("K@"):
            # Locators may name any number of clusters: the pools of the last ones are kept.
            return self.transport.route(origin, trusted=True)
        with self._lock:
            pool = self._pools.get(service.root)
            if pool is None:
                pool = self._pools[service.root] = ConnectionPool(origin, self.transport)
            return pool

    def timeout(self, proxy: bool, attempt: int, bandwidth: bool) -> Timeout:
        """Return the limits of a request in an attempt, counted from 0."""
        seconds = self.proxy_timeouts if proxy else self.timeouts
        return timeout_of(for_attempt(seconds, attempt) if attempt else seconds, bandwidth)

    def close(self) -> None:
        """Close the kept connections."""
        for pool in self._pools.values():
            pool.close()
        self.transport.close()

    def forget(self) -> None:
        """Begin anew in a forked process, where the threads of the parent are not."""
        self._lock = threading.Lock()
        self._flights = Flights()
        self.services.forget_flights()
        self.counters.forget_locks()
        self.cache.forget_locks()
        for function in self.on_fork:
            function()

    # The programs.

    def get(
        self,
        text: str,
        retries: int | None = None,
        request_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Program[bytes]:
        """Return the blocks of one or more locators, with commas between, as one.

        Raises KeepReadError, ValueError.
        """
        if "," in text:
            parts = []
            locators = text.split(",")
            for one in locators:
                KeepLocator(one)  # before anything is fetched
            for one in locators:
                block = yield from self.get(one, retries, request_id, headers)
                parts.append(block)
            return b"".join(parts)
        locator = KeepLocator(text)
        self.counters.gets.add(1)
        md5sum = locator.md5sum
        if md5sum == EMPTY.md5sum and not locator.size:
            return b""
        data: bytes | None = None
        if not headers:
            if not self.cache.slow:
                data = self.cache.get(md5sum)
            elif md5sum in self.cache:
                data = yield self._offloaded(self.cache.get, md5sum)
        if data is not None:
            self.counters.hits.add(1)
            return data
        self.counters.misses.add(1)
        times = self.retries if retries is None else retries_of(retries)
        if headers:
            return (yield from self._fetch(locator, times, request_id, headers))
        # Fetched already, perhaps, for somebody else.
        deadline = inf if OUTER.get() is None else inherited(self.clock)
        while (flight := self._flights.begin(md5sum)) is None:
            other = yield from self._flights.wait(md5sum, deadline)
            if other is None:
                continue
            if not isinstance(other.result, _Failed):
                return other.result  # type: ignore[no-any-return]
            if other.result.text == text:
                raise other.result.copy()
            # It had other hints, or another signature: that says nothing of this one.
        with flight:
            try:
                data = yield from self._fetch(locator, times, request_id, None)
            except KeepRequestError as error:
                flight.land(_Failed(error, text))
                raise
            flight.land(data)
            return data

    def _fetch(
        self,
        locator: KeepLocator,
        retries: int,
        request_id: str | None,
        headers: Mapping[str, str] | None,
    ) -> Program[bytes]:
        one = yield from Reading(self, "GET", locator, retries, request_id, headers).run()
        data = one.content
        if not self.cache.slow:
            self.cache.set(locator.md5sum, data)
        else:
            yield self._offloaded(self.cache.set, locator.md5sum, data)
        return data

    def head(
        self,
        text: str,
        retries: int | None = None,
        request_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Program[KeepService]:
        """Find a service that has the block; raises KeepReadError, ValueError."""
        locator = KeepLocator(text)
        times = self.retries if retries is None else retries_of(retries)
        return (yield from Reading(self, "HEAD", locator, times, request_id, headers).run())

    def put(
        self,
        data: ops.Buffer | str,
        copies: int = 2,
        retries: int | None = None,
        request_id: str | None = None,
        classes: Iterable[str] | None = None,
    ) -> Program[str]:
        """Store a block and return its locator; raises KeepWriteError, ArgumentError."""
        block = block_of(data)
        if copies.__class__ is not int or copies < 0:
            raise ArgumentError(f"copies is a number, from 0, not {copies!r}")
        self.counters.puts.add(1)
        if len(block) < LARGE:
            digest = md5(block)
        else:
            digest = yield self._offloaded(md5, block)
        if not copies:
            return f"{digest}+{len(block)}"
        times = self.retries if retries is None else retries_of(retries)
        writing = Writing(self, digest, block, copies, classes or (), times, request_id)
        return (yield from writing.run())

    def _offloaded(self, function: Callable[..., Any], *arguments: Any) -> ops.Invoke:
        if self.offload is None:
            return ops.Invoke(function, *arguments)
        return ops.Invoke(self.offload, function, *arguments)


class _Failed:
    """A fetch that failed, of a locator: those who waited for it fail in the same way."""

    __slots__ = ("error", "text")

    def __init__(self, error: KeepRequestError, text: str) -> None:
        self.error = error
        self.text = text

    def copy(self) -> KeepRequestError:
        """Return an error of one's own: one that many raise would collect the frames of all."""
        error = self.error
        return type(error)(
            error.message, error.request_errors().items(), error.label, error.request_id
        )


def retries_of(value: int) -> int:
    """Return a number of retries; raises ArgumentError for anything else."""
    if value.__class__ is not int or value < 0:
        raise ArgumentError(f"num_retries is a number, from 0, not {value!r}")
    return value


def block_of(data: ops.Buffer | str) -> ops.Buffer:
    """Return the bytes of a block: a str as UTF-8; raises ArgumentError."""
    if isinstance(data, str):
        data = data.encode()
    elif not isinstance(data, bytes):
        if not isinstance(data, bytearray | memoryview):
            raise ArgumentError(f"a block is made of bytes or str, not {type(data).__name__}")
        view = memoryview(data)
        data = view.cast("B") if view.c_contiguous else view.tobytes()
    if len(data) > BLOCK:
        raise ArgumentError(f"a block has at most {BLOCK} bytes, not {len(data)}")
    return data


def _after_fork() -> None:
    for core in list(_CORES):
        core.forget()


os.register_at_fork(after_in_child=_after_fork)
