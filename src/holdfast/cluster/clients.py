"""`Cluster` and `AsyncCluster`: the plain API, with the names of requests and httpx."""

from __future__ import annotations

import random as random_module
from collections.abc import Coroutine, Iterable
from functools import lru_cache, partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypedDict, TypeVar, overload

from holdfast.cluster.core import EJECTION, POLICY, ClusterCore
from holdfast.cluster.hosts import shown
from holdfast.cluster.lifetimes import AsyncClosing, Closing
from holdfast.cluster.streams import AsyncStream, Stream
from holdfast.drivers import asyncio as asyncio_driver
from holdfast.drivers import blocking
from holdfast.errors import InvalidRequest, NoEndpointError
from holdfast.http.bodies import body_of
from holdfast.http.limits import Timeout, TimeoutTypes
from holdfast.http.pools import Transport
from holdfast.http.redirects import DEFAULT
from holdfast.http.requests import Request
from holdfast.http.responses import Response
from holdfast.wire.http1 import LIMITS, Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import EllipsisType
    from typing import Unpack

    from holdfast.cluster.balancing import BalancerTypes, SlowStart
    from holdfast.cluster.checking import Check
    from holdfast.cluster.discovery import Discovery
    from holdfast.cluster.endpoints import Endpoint
    from holdfast.cluster.health import Ejection
    from holdfast.cluster.hosts import HostTypes
    from holdfast.http.bodies import ContentTypes
    from holdfast.http.headers import HeaderTypes
    from holdfast.http.pools import AuthTypes
    from holdfast.http.tls import CertTypes, VerifyTypes
    from holdfast.ops import Program
    from holdfast.policy import Policy
    from holdfast.policy.events import Listener

__all__ = ["AsyncCluster", "Cluster", "Driver", "Options"]

R = TypeVar("R")

_OPTIONS = frozenset(
    {
        "content",
        "data",
        "expect_continue",
        "follow_redirects",
        "headers",
        "idempotent",
        "into",
        "json",
        "key",
        "max_body",
        "params",
        "timeout",
    }
)


class Options(TypedDict, total=False):
    """The keyword arguments of a call.

    ``params``: the query, as a mapping or pairs. ``headers``: a mapping or pairs. One body of:
    ``json``, an object; ``content``, bytes, str, a binary file or an iterable of bytes; ``data``,
    a form as a mapping or pairs. ``timeout``: seconds in all, ``(connect, read)``, a `Timeout`,
    or None. ``follow_redirects``: a flag or the most to follow. ``idempotent``: whether the
    request may be repeated when it may have been carried out; by default its method tells.
    ``expect_continue``: ask before the body is sent. ``into``: a writable buffer for the answer's
    body. ``max_body``: the answer's size limit in bytes, decoded. ``key``: for balancers that
    send the same key to the same endpoint; by default the target.
    """

    params: Mapping[str, Any] | Iterable[tuple[str, Any]] | None
    headers: HeaderTypes | None
    json: Any
    content: ContentTypes | None
    data: Any
    timeout: TimeoutTypes
    follow_redirects: bool | int
    idempotent: bool | None
    expect_continue: bool
    into: Any
    max_body: int | None
    key: Any


class Driver(Protocol):
    """What runs a cluster's programs instead of the thread or the event loop.

    With a true ``upkeep`` the threads of `Upkeep` are started; otherwise it is the driver's owner
    who runs ``cluster.core.upkeep.program()``.
    """

    def clock(self) -> float:
        """Return the time, in seconds."""

    def random(self) -> float:
        """Return a number from 0 to 1."""

    def run(self, program: Program[Any]) -> Any:
        """Run a program to its end, for a `Cluster`."""

    async def arun(self, program: Program[Any]) -> Any:
        """Run a program to its end, for an `AsyncCluster`."""


class _Caller(Generic[R]):
    """What both clusters share; R is what a call returns."""

    def __init__(
        self,
        hosts: Iterable[HostTypes] | str | Discovery,
        *,
        policy: Policy = POLICY,
        balancer: BalancerTypes = "p2c",
        ejection: Ejection | None = EJECTION,
        headers: HeaderTypes | None = None,
        auth: AuthTypes = None,
        timeout: TimeoutTypes | EllipsisType = ...,
        follow_redirects: bool | int = False,
        verify: VerifyTypes = True,
        cert: CertTypes = None,
        proxy: str | None = None,
        no_proxy: str | Iterable[str] | None = None,
        trust_env: bool = False,
        max_idle: int = 100,
        idle_timeout: float = 60.0,
        limits: Limits = LIMITS,
        source_address: tuple[str, int] | None = None,
        slow_start: SlowStart | None = None,
        check: Check | None = None,
        listeners: Iterable[Listener] = (),
        driver: Driver | None = None,
        clock: Callable[[], float] | None = None,
        random: Callable[[], float] | None = None,
    ) -> None:
        if isinstance(hosts, str):
            hosts = [hosts]
        elif isinstance(hosts, Iterable):
            hosts = list(hosts)
            if not hosts:
                raise NoEndpointError("a cluster needs at least one host")
        if driver is not None:
            self._drive(driver)
            clock = clock or driver.clock
            random = random or driver.random
        clock = clock or monotonic
        transport = Transport(
            verify=verify,
            cert=cert,
            auth=auth,
            headers=headers,
            proxy=proxy,
            no_proxy=no_proxy,
            trust_env=trust_env,
            max_idle=max_idle,
            idle_timeout=idle_timeout,
            limits=limits,
            source_address=source_address,
            clock=clock,
        )
        self._core = ClusterCore(
            hosts,
            policy=policy,
            balancer=balancer,
            ejection=ejection,
            slow_start=slow_start,
            check=check,
            transport=transport,
            listeners=listeners,
            clock=clock,
            random=random or random_module.random,
        )
        if driver is None or getattr(driver, "upkeep", False):
            self._core.upkeep.start()
        self._timeout = Timeout(total=policy.timeout)
        if timeout is not ...:
            self._timeout = Timeout.of(timeout, self._timeout)
        self._redirects = _count(follow_redirects)
        # Requests that are just a path are the most common ones, and often the same again.
        self._plain_get = lru_cache(maxsize=1024)(
            partial(Request, "GET", timeout=self._timeout, redirects=self._redirects)
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._core.endpoints!r}>"

    @property
    def core(self) -> ClusterCore:
        """The state and the programs behind it: for telemetry, and for drivers of one's own."""
        return self._core

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """All endpoints, in the order of the hosts, with their load and health."""
        return self._core.endpoints.all

    def request(self, method: str, path: str, **options: Unpack[Options]) -> R:
        """Call the cluster: one endpoint, and others when that fails, as the policy says.

        Returns a `Response`, also for error statuses. Raises `HoldfastError`: an `OSError` for
        what the network did, a `ValueError` (`InvalidRequest`) for arguments; its ``attempts``
        tell what was tried.
        """
        return self._run(self._core.call(self._build(method, path, options)))  # type: ignore[no-any-return]

    def get(self, path: str, **options: Unpack[Options]) -> R:
        """Send a GET; see `request`."""
        if options or path.__class__ is not str:  # what is no path is refused there
            return self.request("GET", path, **options)
        # A long path is rarely the same again, and would fill the memory of paths.
        if len(path) > 256:
            return self.request("GET", path)
        return self._run(self._core.call(self._plain_get(path)))  # type: ignore[no-any-return]

    def head(self, path: str, **options: Unpack[Options]) -> R:
        """Send a HEAD; see `request`."""
        return self.request("HEAD", path, **options)

    def options(self, path: str, **options: Unpack[Options]) -> R:
        """Send an OPTIONS; see `request`."""
        return self.request("OPTIONS", path, **options)

    def delete(self, path: str, **options: Unpack[Options]) -> R:
        """Send a DELETE; see `request`."""
        return self.request("DELETE", path, **options)

    def post(self, path: str, **options: Unpack[Options]) -> R:
        """Send a POST; see `request`."""
        return self.request("POST", path, **options)

    def put(self, path: str, **options: Unpack[Options]) -> R:
        """Send a PUT; see `request`."""
        return self.request("PUT", path, **options)

    def patch(self, path: str, **options: Unpack[Options]) -> R:
        """Send a PATCH; see `request`."""
        return self.request("PATCH", path, **options)

    def listen(self, listener: Listener) -> None:
        """Have a function called with each `holdfast.policy.Event`, where it happens."""
        self._core.listen(listener)

    def unlisten(self, listener: Listener) -> None:
        """End the listening of a function."""
        self._core.unlisten(listener)

    #: Runs a program: the driver.
    _run: Callable[[Program[Any]], Any]

    def _drive(self, driver: Driver) -> None:
        raise NotImplementedError

    def _build(self, method: str, path: str, options: Options, stream: bool = False) -> Request:
        if not options and not stream:
            return Request(method, path, self._timeout, self._redirects)
        if not options.keys() <= _OPTIONS:
            unknown = ", ".join(sorted(options.keys() - _OPTIONS))
            raise TypeError(f"unknown option of a call: {unknown}")
        get = options.get
        timeout = self._timeout
        if "timeout" in options:
            timeout = Timeout.of(options["timeout"], timeout)
        follow = get("follow_redirects")
        return Request(
            method,
            path,
            timeout,
            self._redirects if follow is None else _count(follow),
            params=get("params"),
            headers=get("headers"),
            body=body_of(get("content"), get("json"), get("data")),
            expect_continue=get("expect_continue", False),
            idempotent=get("idempotent"),
            into=get("into"),
            max_body=get("max_body"),
            key=get("key"),
            stream=stream,
        )

    def _broadcast(
        self,
        method: str,
        path: str,
        hosts: Iterable[str] | None,
        return_exceptions: bool,
        options: Options,
    ) -> Program[list[Any]]:
        endpoints = self.endpoints
        if hosts is not None:
            names = {endpoint.name: endpoint for endpoint in endpoints}
            try:
                endpoints = tuple(names[shown(host)] for host in hosts)
            except KeyError as error:
                raise ValueError(f"{error.args[0]!r} is not a host of this cluster") from None
        if "into" in options:
            raise InvalidRequest("a broadcast has many answers, and into= one buffer")
        # A body that can be sent only once cannot be sent to all.
        requests = [(endpoint, self._build(method, path, options)) for endpoint in endpoints]
        if len(requests) > 1 and (body := requests[0][1].body) is not None and not body.shared:
            raise ValueError("a broadcast needs a body in memory: json, data or bytes")
        results = yield from self._core.broadcast(requests)
        if not return_exceptions:
            for result in results:
                if isinstance(result, BaseException):
                    raise result
        return results


class Cluster(Closing, _Caller[Response]):
    """Hosts that are called as one, from threads.

    Safe to share among threads. Use it as a context manager, or `close` it.

    ``hosts``: strings such as ``"name:port"``, ``"https://name/base"``, ``"[::1]:8000"`` or
    ``"unix:/path"``, `Host` objects with weights and priorities, or a `Discovery` that keeps the
    list up to date. ``policy``: what is done so that calls survive. ``balancer``: ``"p2c"``
    (power of two choices), another name, or a `Balancer`. ``ejection``: when endpoints that fail
    are left out, None for never; ``slow_start``: how those that come (back) get their share;
    ``check``: active checks. ``listeners`` are called with every event.

    ``headers`` and ``auth`` (a pair, or a bearer token) go with each request. ``timeout``: a
    `Timeout` when more than the policy's total is to be said. ``verify``, ``cert``, ``proxy``,
    ``no_proxy``, ``trust_env`` as in requests and httpx. ``max_idle`` connections are kept for
    each host, ``idle_timeout`` seconds long; ``limits`` bound the head of an answer;
    ``source_address`` is the local ``(host, port)``. ``driver``, ``clock`` and ``random`` are for
    tests and simulations: see `holdfast.testing`.
    """

    _run = staticmethod(blocking.run)
    _later = False

    def _drive(self, driver: Driver) -> None:
        self._run = driver.run
        self._later = getattr(driver, "later", False)

    def stream(self, method: str, path: str, **options: Unpack[Options]) -> Stream:
        """Call the cluster, and leave the body of the answer to be read: a context manager.

        The call's total time ends with the head of the answer; for each part of the body the
        limits ``read`` and ``min_bandwidth`` hold. With a driver whose ``run`` returns a Deferred,
        streams are those of an `AsyncCluster`: TypeError.
        """
        if self._later:
            raise TypeError(
                "Cluster.stream blocks while it reads, which this driver cannot do: in a coroutine "
                "use `async with AsyncCluster(hosts, driver=driver).stream(...)`"
            )
        return Stream(self._core.call(self._build(method, path, options, stream=True)), self._run)

    @overload
    def broadcast(
        self,
        method: str,
        path: str,
        *,
        hosts: Iterable[str] | None = None,
        return_exceptions: Literal[False] = False,
        **options: Unpack[Options],
    ) -> list[Response]: ...

    @overload
    def broadcast(
        self,
        method: str,
        path: str,
        *,
        hosts: Iterable[str] | None = None,
        return_exceptions: bool,
        **options: Unpack[Options],
    ) -> list[Response | Exception]: ...

    def broadcast(
        self,
        method: str,
        path: str,
        *,
        hosts: Iterable[str] | None = None,
        return_exceptions: bool = False,
        **options: Unpack[Options],
    ) -> Any:
        """Call every host, or the named ones, at the same time, once each.

        Returns the responses in the order of the hosts. When a host cannot be reached its error
        is raised after the others have finished, or stands in its place in the list.
        """
        return self._run(self._broadcast(method, path, hosts, return_exceptions, options))


class AsyncCluster(AsyncClosing, _Caller[Coroutine[Any, Any, Response]]):
    """Hosts that are called as one, from asyncio; everything else as in `Cluster`.

    Use it as an asynchronous context manager, or `aclose` it.
    """

    _run = staticmethod(asyncio_driver.run)

    def _drive(self, driver: Driver) -> None:
        self._run = driver.arun

    def stream(self, method: str, path: str, **options: Unpack[Options]) -> AsyncStream:
        """Call the cluster, and leave the body to be read: an asynchronous context manager.

        See `Cluster.stream`.
        """
        request = self._build(method, path, options, stream=True)
        return AsyncStream(self._core.call(request), self._run)

    @overload
    async def broadcast(
        self,
        method: str,
        path: str,
        *,
        hosts: Iterable[str] | None = None,
        return_exceptions: Literal[False] = False,
        **options: Unpack[Options],
    ) -> list[Response]: ...

    @overload
    async def broadcast(
        self,
        method: str,
        path: str,
        *,
        hosts: Iterable[str] | None = None,
        return_exceptions: bool,
        **options: Unpack[Options],
    ) -> list[Response | Exception]: ...

    async def broadcast(
        self,
        method: str,
        path: str,
        *,
        hosts: Iterable[str] | None = None,
        return_exceptions: bool = False,
        **options: Unpack[Options],
    ) -> Any:
        """Call every host, or the named ones, at the same time; see `Cluster.broadcast`."""
        return await self._run(self._broadcast(method, path, hosts, return_exceptions, options))


def _count(follow: Any) -> int:
    """Return how many redirects ``follow_redirects`` means."""
    if isinstance(follow, bool):
        return DEFAULT if follow else 0
    if not isinstance(follow, int) or follow < 0:
        raise InvalidRequest(f"follow_redirects is a flag or a count, not {follow!r}")
    return follow
