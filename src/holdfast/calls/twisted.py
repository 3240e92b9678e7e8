"""Twisted mode: treq on agents of Twisted's, and what their errors and responses mean.

It is the extra ``holdfast[twisted]``, imported when a function turns out to be for Twisted.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, TypeAlias

from holdfast.calls.agents import absolute, split
from holdfast.calls.sources import note_source
from holdfast.drivers.twisted import Driver  # which says what to install, when it is missing
from holdfast.errors import InvalidRequest
from holdfast.http.headers import is_baggage
from holdfast.http.proxies import Proxies
from holdfast.http.requests import IDEMPOTENT

try:
    from treq.client import HTTPClient
    from twisted.internet import error as internet_error
    from twisted.internet.defer import CancelledError, Deferred, fail, succeed
    from twisted.python.failure import Failure
    from twisted.web import client as twisted_client
    from twisted.web.error import SchemeNotSupported
    from twisted.web.http_headers import Headers
    from twisted.web.iweb import IResponse
except ImportError as missing:
    raise ImportError(
        "this needs Twisted and treq: install them with `pip install 'holdfast[twisted]'`"
    ) from missing

from holdfast.calls.twisted_bodies import body_of
from holdfast.calls.twisted_endpoints import Endpoints
from holdfast.calls.twisted_responses import (
    RequestTimeout,
    let_go_of_redirects,
    let_go_of_response,
)
from holdfast.calls.twisted_tls import policy_of

# Which have no types.
HTTPConnectionPool: Any = twisted_client.HTTPConnectionPool
ProxyAgent: Any = twisted_client.ProxyAgent
URI: Any = twisted_client.URI

#: Scheme, host and port.
Place: TypeAlias = tuple[bytes, bytes, int]

if TYPE_CHECKING:
    from holdfast.calls.call import Call
    from holdfast.calls.options import Options
    from holdfast.calls.settings import Settings

__all__ = ["TwistedServices", "perform"]

#: Seconds that a connection is kept.
_KEPT = 60

# Raised before anything is sent.
_UNSENT = (
    internet_error.ConnectError,
    internet_error.DNSLookupError,
    internet_error.ConnectingCancelledError,
    SchemeNotSupported,
    InvalidRequest,
)


class CallAgent(twisted_client.Agent):
    """The agent of an attempt: one of Twisted's, on the connections of its dependency."""

    #: Of the attempt.
    call: Call | None = None
    reactor: Any = None
    #: Whether its user has said that requests may be repeated.
    unwatched = False
    #: Scheme, host and port of the request that is made with its redirects; None for any.
    home: Place | None = None

    @classmethod
    def on(cls, reactor: Any, endpoints: Any, pool: Any, call: Call | None) -> CallAgent:
        """Return an agent on these connections."""
        make: Any = cls.usingEndpointFactory
        agent: CallAgent = make(reactor, endpoints, pool)
        agent.call = call
        agent.reactor = reactor
        return agent

    def of_request(self, url: bytes) -> CallAgent:
        """Return an agent for one request with its redirects."""
        agent = self.on(self.reactor, self._endpointFactory, self._pool, self.call)
        agent.home = _place(url)
        return agent

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: Any = None,
    ) -> Deferred[IResponse]:
        """Issue a request; see ``twisted.web.client.Agent``."""
        call = self.call
        deferred = self._issued(method, uri, self._traced(uri, headers), bodyProducer)
        unsafe = (
            call is not None
            and not self.unwatched
            and method.decode("latin-1").upper() not in IDEMPOTENT
        )
        if call is not None and unsafe:
            call.unsafe += 1

        def failed(failure: Any) -> Any:
            if call is not None and unsafe and failure.check(*_UNSENT):
                call.unsafe -= 1
            if _was_cancelled(failure):
                raise CancelledError from failure.value
            return failure

        return deferred.addErrback(failed)

    def _traced(self, uri: bytes, headers: Headers | None) -> Headers | None:
        """Return headers with those of the trace; another origin gets none of its baggage."""
        inject = self.call.inject if self.call is not None else None
        away = self.home is not None and self.home != _place(uri)
        if inject is None and not away:
            return headers
        traced = headers.copy() if headers is not None else Headers({})
        for name, value in inject() if inject is not None else ():
            traced.setRawHeaders(name, [value])
        if away:
            for raw, _ in list(traced.getAllRawHeaders()):
                if is_baggage(raw.decode("latin-1")):
                    traced.removeHeader(raw)
        return traced

    def _issued(self, method: bytes, uri: bytes, headers: Any, body: Any) -> Deferred[Any]:
        proxied = self._endpointFactory.proxy_of(uri)
        if proxied is None:
            return super().request(method, uri, headers, body)
        endpoint, lines = proxied
        headers = headers.copy() if headers is not None else Headers({})
        for name, value in lines:
            headers.setRawHeaders(name, [value])
        agent = ProxyAgent(endpoint, self.reactor, self._pool)
        proxied_to: Deferred[Any] = agent.request(method, uri, headers, body)
        return proxied_to


def _place(url: bytes) -> Place:
    uri = URI.fromBytes(url)
    return uri.scheme, uri.host, uri.port


def _was_cancelled(failure: Any) -> bool:
    """Tell whether a failed request is one that was cancelled, which Twisted wraps."""
    reasons = getattr(failure.value, "reasons", None) or ()
    return any(reason.check(CancelledError) for reason in reasons)


class _Pool(HTTPConnectionPool):  # type: ignore[misc]
    """Kept connections; once closed, it also closes what is given back later."""

    closed = False

    def _putConnection(self, key: Any, connection: Any) -> None:
        if self.closed:
            connection.transport.loseConnection()
        else:
            super()._putConnection(key, connection)


class TwistedServices:
    """The connections of a dependency on a reactor."""

    asynchronous = False

    def __init__(self, settings: Settings, driver: Driver | None = None) -> None:
        self._settings = settings
        self._driver = driver if driver is not None else Driver(settings.reactor)
        self.clock = self._driver.clock
        policy_of(settings.context_factory)  # so that a wrong one is an error here
        self._kept: tuple[Any, Endpoints] | None = None

    @property
    def reactor(self) -> Any:
        """The reactor."""
        return self._driver.reactor

    def agent(self, call: Call | None, persistent: bool = True) -> CallAgent:
        """Return the agent of an attempt."""
        pool, endpoints = self._connections()
        if not persistent:
            pool = HTTPConnectionPool(self.reactor, persistent=False)
        return CallAgent.on(self.reactor, endpoints, pool, call)

    def _connections(self) -> tuple[Any, Endpoints]:
        if self._kept is None:
            # Not before: until then the program may choose a reactor.
            settings = self._settings
            pool = _Pool(self.reactor)
            pool.maxPersistentPerHost = settings.http_pool_size
            pool.cachedConnectionTimeout = _KEPT
            policy = policy_of(settings.context_factory)
            proxies = Proxies(trust_env=settings.use_proxy)
            endpoints = Endpoints(self.reactor, policy, settings.connect_timeout, proxies)
            self._kept = pool, endpoints
        return self._kept

    def close(self) -> Deferred[Any]:
        """Close the kept connections; the Deferred fires when they are."""
        kept, self._kept = self._kept, None
        if kept is None:
            return succeed(None)
        pool = kept[0]
        pool.closed = True
        closing: Deferred[Any] = pool.closeCachedConnections()
        return closing


def perform(
    agent: Any, reactor: Any, call: Call | None, method: str, url: str, options: Options
) -> Deferred[Any]:
    """Make a request by treq."""
    if call is None and isinstance(agent, CallAgent):
        call = agent.call  # ``Http(call.agent)``
    if reactor is None:
        reactor = Driver(None).reactor
    try:
        origin, target = split(absolute(url, call))
        if origin.unix is not None:
            raise InvalidRequest("Unix sockets are not for Twisted mode")
        # A pool that keeps nothing says so itself; on another's agent, the server has to be told.
        closing = not options.persistent and call is None
        request = options.request(method, target, None, closing=closing)
        if call is not None and not options.persistent:
            agent = call.services.agent(call, persistent=False)
        url = f"{origin.url}{request.target}"
        if isinstance(agent, CallAgent):
            agent = agent.of_request(url.encode("ascii"))
            if options.idempotent is not None:
                agent.unwatched = True  # the user's word counts instead of the method's
                if call is not None and not options.idempotent:
                    call.unsafe += 1
        note_source(call, options.data)
        body, kind = body_of(options.data, reactor)
        headers = Headers({})
        for name, value in request.headers:
            headers.addRawHeader(name, value)
        if kind is not None and not headers.hasHeader("content-type"):
            headers.setRawHeaders("content-type", [kind])
        if origin.credentials is not None and not headers.hasHeader("authorization"):
            headers.setRawHeaders("authorization", [origin.credentials])
        deferred: Deferred[Any] = HTTPClient(agent).request(
            request.method,
            url,
            headers=headers,
            data=body,
            allow_redirects=options.allow_redirects,
            reactor=reactor,
        )
    except Exception as error:
        return fail(error)
    deferred.addCallbacks(let_go_of_redirects, let_go_of_response)
    left = inf
    if call is not None and call.deadline < inf:
        left = call.deadline - call.services.clock()
    return _limited(deferred, reactor, options.timeout, left)


def _limited(
    deferred: Deferred[Any], reactor: Any, timeout: float | None, left: float
) -> Deferred[Any]:
    """Cancel a request when its time is over."""
    seconds = min(timeout if timeout is not None else inf, left)
    if seconds == inf:
        return deferred
    over = False

    def expire() -> None:
        nonlocal over
        over = True
        deferred.cancel()

    alarm = reactor.callLater(max(seconds, 0.0), expire)

    def settled(result: Any) -> Any:
        if alarm.active():
            alarm.cancel()
        if over and isinstance(result, Failure):
            raise RequestTimeout(f"no answer within {seconds:.3g} s") from result.value
        return result

    return deferred.addBoth(settled)
