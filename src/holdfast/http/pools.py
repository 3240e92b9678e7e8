"""Kept connections, and what all connections of a client have in common."""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from math import inf
from time import monotonic
from typing import TYPE_CHECKING

from holdfast._version import __version__
from holdfast.errors import InvalidRequest
from holdfast.http import connections, encodings
from holdfast.http.headers import HeaderTypes, pairs, stays
from holdfast.http.origins import basic_auth
from holdfast.http.proxies import Proxies
from holdfast.http.requests import FRAMING, Defaults
from holdfast.http.responses import Response
from holdfast.http.tls import CertTypes, VerifyTypes, tls_context
from holdfast.wire.http1 import LIMITS, Limits

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable
    from typing import TypeAlias

    from holdfast.http.connections import Connection
    from holdfast.http.limits import Timeout
    from holdfast.http.origins import Origin
    from holdfast.http.requests import Request
    from holdfast.ops import Program

    #: Basic authentication as (user, password), or a bearer token.
    AuthTypes: TypeAlias = tuple[str, str] | str | None

__all__ = ["ConnectionPool", "Transport"]

#: Redirects may lead to this many other origins before the oldest is forgotten.
_ROUTES = 32


class Transport:
    """How connections are made: TLS, proxies, default headers, limits.

    ``verify`` and ``cert`` as in requests; ``auth`` is ``(user, password)`` or a bearer token;
    ``headers`` are sent with each request that does not set them itself; ``max_idle`` connections
    are kept for each origin, for ``idle_timeout`` seconds at most; ``limits`` bound the head of an
    answer; ``source_address`` is the local ``(host, port)`` to connect from.
    """

    def __init__(
        self,
        *,
        verify: VerifyTypes = True,
        cert: CertTypes = None,
        auth: AuthTypes = None,
        headers: HeaderTypes | None = None,
        proxy: str | None = None,
        no_proxy: str | Iterable[str] | None = None,
        trust_env: bool = False,
        max_idle: int = 100,
        idle_timeout: float = 60.0,
        limits: Limits = LIMITS,
        source_address: tuple[str, int] | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.max_idle = max_idle
        self.idle_timeout = idle_timeout
        self.limits = limits
        self.source_address = source_address
        self.clock = clock
        self.proxies = Proxies(proxy, no_proxy, trust_env)
        self._headers = [
            ("User-Agent", f"holdfast/{__version__}"),
            ("Accept", "*/*"),
            ("Accept-Encoding", encodings.ACCEPTED),
        ]
        mine = pairs(headers)
        names = {name.lower() for name, _ in mine}
        if names & FRAMING:
            raise InvalidRequest(f"{', '.join(names & FRAMING)}: set by the body of each request")
        self._headers = [item for item in self._headers if item[0].lower() not in names] + mine
        self._authorization = _authorization(auth)
        self._tls = (verify, cert)
        self._context: ssl.SSLContext | None = None
        self._routes: OrderedDict[tuple[Origin, bool], ConnectionPool] = OrderedDict()
        self._lock = threading.Lock()
        if cert is not None or not isinstance(verify, bool):
            self.context()  # so that a wrong file is an error here, not in the first call

    def context(self) -> ssl.SSLContext:
        """Return the TLS context, made at its first use: it takes 10 ms."""
        with self._lock:
            if self._context is None:
                self._context = tls_context(*self._tls)
            return self._context

    def defaults(self, origin: Origin, trusted: bool) -> Defaults:
        """Return the default headers for an origin; credentials only when it is trusted."""
        headers = self._headers
        if not trusted:
            headers = [item for item in headers if not stays(item[0])]
        if not any(name.lower() == "host" for name, _ in headers):
            headers = [("Host", origin.unscoped.netloc), *headers]
        authorization = origin.credentials or (self._authorization if trusted else None)
        if authorization is not None:
            headers = [item for item in headers if item[0].lower() != "authorization"]
            headers.append(("Authorization", authorization))
        return Defaults(headers)

    def route(self, origin: Origin, trusted: bool) -> ConnectionPool:
        """Return the pool of an origin that a redirect led to; credentials if it is trusted."""
        key = origin, trusted
        with self._lock:
            pool = self._routes.get(key)
            if pool is None:
                pool = self._routes[key] = ConnectionPool(origin, self, trusted)
            self._routes.move_to_end(key)
            oldest = self._routes.popitem(last=False)[1] if len(self._routes) > _ROUTES else None
        if oldest is not None:
            oldest.close()
        return pool

    def close(self) -> None:
        """Close the connections that redirects left behind."""
        with self._lock:
            routes = list(self._routes.values())
            self._routes.clear()
        for pool in routes:
            pool.close()


#: All pools there are, for `_after_fork`.
_POOLS: weakref.WeakSet[ConnectionPool] = weakref.WeakSet()


def _after_fork() -> None:
    """Leave kept connections to the parent: two processes on one would mix their answers up."""
    for pool in list(_POOLS):
        pool.forget()


os.register_at_fork(after_in_child=_after_fork)


class ConnectionPool:
    """The kept connections of one origin; the last one given back is taken first.

    Safe to share among threads.
    """

    __slots__ = (
        "__weakref__",
        "_closed",
        "_idle",
        "_idle_timeout",
        "_trim_at",
        "clock",
        "defaults",
        "max_idle",
        "name",
        "origin",
        "prefix",
        "proxy",
        "transport",
    )

    def __init__(
        self, origin: Origin, transport: Transport, trusted: bool = True, name: str = ""
    ) -> None:
        self.origin = origin
        self.name = name or origin.name  # how errors name it
        self.transport = transport
        self.clock = transport.clock
        self.max_idle = transport.max_idle
        self._idle_timeout = transport.idle_timeout
        self.defaults = transport.defaults(origin, trusted)
        self.proxy = transport.proxies.of(origin)
        self.prefix = origin.base
        if self.proxy is not None and origin.scheme == "http":
            self.prefix = origin.url
            self.defaults = Defaults(self.defaults.headers + self.proxy.headers)
        self._idle: list[Connection] = []
        self._closed = False
        self._trim_at = -inf  # when to look for connections that are too old
        _POOLS.add(self)

    def __len__(self) -> int:
        return len(self._idle)

    def __repr__(self) -> str:
        return f"<ConnectionPool {self.origin.name}: {len(self._idle)} idle>"

    def take(self, sure: bool) -> Connection | None:
        """Return a kept connection, None when there is none.

        ``sure`` asks for a check of each, for a request that could not be sent again.
        """
        while True:
            try:
                connection = self._idle.pop()  # atomic
            except IndexError:
                return None
            idle = self.clock() - connection.idle_since
            trusted = connection.tls is None and idle < connection.stream.trusted
            if trusted and idle < self._idle_timeout and not sure:
                return connection
            if idle < self._idle_timeout and connection.usable(inf if sure else idle):
                return connection
            connection.close()

    def give(self, connection: Connection) -> None:
        """Keep a connection whose exchange is complete, or close it when there are enough."""
        parser = connection.parser
        parser.message = None
        parser.bodiless = False
        parser.pieces.clear()
        connection.used = True
        connection.idle_since = now = self.clock()
        self._idle.append(connection)  # atomic
        if now >= self._trim_at or len(self._idle) > self.max_idle or self._closed:
            self._trim(now)

    def begin(self, request: Request, deadline: float, now: float) -> Connection | None:
        """Prepare an ordinary exchange, which needs no program of its own.

        The request is ``ordinary``. Returns a kept connection whose ``round_trip`` is to be
        performed, and its result given to `accept`; or None: `exchange` does the whole of it.
        """
        try:
            connection = self._idle.pop()
        except IndexError:
            return None
        idle = now - connection.idle_since
        if (
            idle >= connection.stream.trusted
            or idle >= self._idle_timeout
            or connection.tls is not None
        ):
            self._idle.append(connection)
            return None
        operation = connection.round_trip
        defaults, data = request.sent
        if defaults is not self.defaults:
            data = request.head(self.prefix, self.defaults)
        operation.data = data
        operation.deadline = deadline
        return connection

    def accept(
        self, connection: Connection, request: Request, data: bytes, now: float
    ) -> Response | None:
        """Return the response that a round trip brought by now, and keep the connection.

        None when there is more to it; `exchange` goes on from what the parser has by then.
        """
        parser = connection.parser
        if len(data) == parser.known_size and data.startswith(parser.known.head):  # type: ignore[union-attr]
            message = parser.known
            assert message is not None
            response = Response(request, self.origin, message)
            response.content = data[len(message.head) :]
        else:
            if not data:
                return None
            parser.feed(data)
            message = parser.message
            if message is None or not parser.complete or message.encoding or message.status == 408:
                return None
            response = Response(request, self.origin, message)
            pieces = parser.pieces
            response.content = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            if not message.keep_alive or parser.surplus:
                connection.close()
                return response
            parser.message = None
            pieces.clear()
        # As `give`, without the call.
        connection.used = True
        connection.idle_since = now
        self._idle.append(connection)
        if now >= self._trim_at or len(self._idle) > self.max_idle or self._closed:
            self._trim(now)
        return response

    def _trim(self, now: float) -> None:
        """Close what is too many or too old, the oldest first."""
        self._trim_at = now + self._idle_timeout / 10
        while True:
            try:
                oldest = self._idle.pop(0)
            except IndexError:
                return
            most = -1 if self._closed else self.max_idle - 1
            if len(self._idle) <= most and now - oldest.idle_since <= self._idle_timeout:
                self._idle.insert(0, oldest)
                return
            oldest.close()

    def forget(self) -> None:
        """Drop what is idle in a forked process: the connections are the parent's."""
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.stream.forget()

    def connect(self, timeout: Timeout, deadline: float) -> Program[Connection]:
        """Open a connection that the pool does not know yet."""
        return connections.connect(
            self.origin,
            self.name,
            timeout,
            deadline,
            self.clock,
            limits=self.transport.limits,
            context=self.transport.context,
            proxy=self.proxy,
            source=self.transport.source_address,
        )

    def close(self) -> None:
        """Close what is idle; what is in use is closed when it is given back."""
        self._closed = True
        self._trim(self.clock())


def _authorization(auth: AuthTypes) -> str | None:
    if auth is None:
        return None
    if isinstance(auth, str):
        return f"Bearer {auth}"
    try:
        user, password = auth
        return basic_auth(user, password)
    except (TypeError, ValueError):
        raise InvalidRequest("auth is (user, password), or a bearer token as a string") from None
