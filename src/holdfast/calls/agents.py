"""HTTP for functions that run in threads and in asyncio: one exchange at a time, never repeated."""

from __future__ import annotations

import re
import ssl
import threading
from collections import OrderedDict
from functools import partial
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any

from holdfast.calls.options import Options
from holdfast.calls.sources import note_source
from holdfast.errors import DeadlineExceeded, HoldfastError, InvalidRequest, ReadTimeout
from holdfast.http.bodies import SourceError, body_of
from holdfast.http.failures import translated
from holdfast.http.origins import Origin
from holdfast.http.pools import ConnectionPool, Transport
from holdfast.http.redirects import fetch
from holdfast.policy import Limit, Limiter
from holdfast.wire.http1 import WireError

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.calls.call import Call
    from holdfast.calls.settings import Settings
    from holdfast.http.requests import Request
    from holdfast.http.responses import Response
    from holdfast.ops import Program

__all__ = ["PLACES", "Agent", "Connections", "absolute", "split"]

#: So many netlocs are remembered, with their circuits and connections; then the least used go.
PLACES = 1000

_ENDLESS = 1 << 30
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def absolute(url: str, call: Call | None) -> str:
    """Return the URL that a call means: a relative one is below the netloc of its attempt."""
    if not isinstance(url, str):
        raise InvalidRequest(f"a URL is a string, not {type(url).__name__}")
    if _ABSOLUTE.match(url):
        return url
    if call is None or not call.netloc:
        raise InvalidRequest(
            f"{url.partition('?')[0]!r} is relative, and there is no netloc to ask: give "
            "fault_tolerant a load_balancer, or an absolute URL"
        )
    if call.protocol.lower() not in ("http", "https", "http+unix"):
        raise InvalidRequest(
            f"call.http speaks HTTP, and the load balancer chose the protocol {call.protocol!r}"
        )
    return f"{call.protocol}://{call.netloc}{url if url.startswith('/') else '/' + url}"


class Connections:
    """The connections of one dependency: a pool for each origin, with a bound each."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = monotonic) -> None:
        context = settings.context_factory
        if context is not None and not isinstance(context, ssl.SSLContext):
            raise TypeError(
                "fault_tolerant: context_factory must be an ssl.SSLContext (in Twisted mode, with "
                f"a reactor, a context factory of Twisted's), not {context!r}"
            )
        self.clock = clock
        self.connect_timeout = settings.connect_timeout
        self._size = settings.http_pool_size
        transport = partial(
            Transport,
            verify=True if context is None else context,
            trust_env=settings.use_proxy,
            clock=clock,
        )
        self._transport = transport(max_idle=self._size)
        self._fleeting = transport(max_idle=0)
        self._pools: OrderedDict[Origin, tuple[ConnectionPool, Limiter]] = OrderedDict()
        self._lock = threading.Lock()

    def pool(self, origin: Origin, persistent: bool) -> tuple[ConnectionPool, Limiter]:
        """Return the pool of an origin, and what bounds its connections."""
        oldest = None
        with self._lock:
            found = self._pools.get(origin)
            if found is None:
                limiter = Limiter(Limit(self._size, queue=_ENDLESS))
                found = ConnectionPool(origin, self._transport), limiter
                self._pools[origin] = found
                if len(self._pools) > PLACES:
                    oldest = self._pools.popitem(last=False)[1]
            self._pools.move_to_end(origin)
        if oldest is not None:
            oldest[0].close()
        return found if persistent else (ConnectionPool(origin, self._fleeting), found[1])

    def close(self) -> None:
        """Close the kept connections."""
        with self._lock:
            pools = list(self._pools.values())
            self._pools.clear()
        for pool, _ in pools:
            pool.close()
        for transport in (self._transport, self._fleeting):
            transport.close()


class Agent:
    """Makes single HTTP exchanges: the service below `Http`.

    In plain functions its methods return a `holdfast.Response`, in asynchronous ones an awaitable
    of it.
    """

    def __init__(
        self,
        connections: Connections,
        run: Callable[[Program[Response]], Any],
        call: Call | None = None,
    ) -> None:
        self._connections = connections
        self._run = run
        self._call = call

    def request(self, method: str, url: str, headers: Any = None, body: Any = None) -> Any:
        """Exchange a request for a response, whatever its status, following no redirects."""
        return self.perform(method, url, Options(headers=headers, data=body, allow_redirects=False))

    def perform(self, method: str, url: str, options: Options) -> Any:
        """Make a request with the options of `Http.request`."""
        return self._run(self._exchange(method, url, options))

    def _exchange(self, method: str, url: str, options: Options) -> Program[Response]:
        connections, call = self._connections, self._call
        clock = connections.clock
        origin, target = split(absolute(url, call))
        data, timeout, persistent = options.data, options.timeout, options.persistent
        if hasattr(data, "startProducing"):
            raise InvalidRequest("an IBodyProducer is for Twisted mode: give data as bytes here")
        body = body_of(None, None, data)
        note_source(call, data, body)
        request = options.request(
            method, target, connections.connect_timeout, body, closing=not persistent
        )
        if call is not None and call.inject is not None:
            for name, value in call.inject():
                request = request.with_header(name, value)
        began = clock()
        deadline = call.deadline if call is not None else inf
        own = began + timeout if timeout is not None else inf
        until = min(deadline, own)
        unsafe = call is not None and not request.idempotent
        if call is not None and unsafe:
            call.unsafe += 1
        try:
            response = yield from self._bounded(request, origin, until, persistent)
        except HoldfastError as error:
            if call is not None and unsafe and not error.sent:
                call.unsafe -= 1
            if isinstance(error, DeadlineExceeded) and own < deadline:
                late = ReadTimeout(f"{origin.name}: no complete answer within {timeout:g} s")
                late.sent = error.sent
                raise late from None
            raise
        response.tried = origin.name
        response.seconds = clock() - began
        return response

    def _bounded(
        self, request: Request, origin: Origin, until: float, persistent: bool
    ) -> Program[Response]:
        pool, limiter = self._connections.pool(origin, persistent)
        if not limiter.try_acquire():
            try:
                yield from limiter.acquire(until)
            except TimeoutError:
                error = DeadlineExceeded(f"{origin.name}: no free connection before the deadline")
                error.sent = error.fault = False
                raise error from None
        try:
            return (yield from fetch(pool, request, until))
        except SourceError as own:
            raise own.error from None
        except (OSError, WireError, HoldfastError) as error:
            raise translated(error, pool, request.timeout, until) from error
        finally:
            limiter.release()


def split(url: str) -> tuple[Origin, str]:
    """Return the server of an absolute URL, and the target there."""
    scheme, _, rest = url.partition("://")
    end = re.search(r"[/?#]", rest)
    netloc, target = (rest[: end.start()], rest[end.start() :]) if end else (rest, "/")
    origin = Origin.parse(f"{scheme.lower()}://{netloc}")
    return origin, target if target.startswith("/") else "/" + target
