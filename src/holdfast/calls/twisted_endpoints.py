"""How Twisted's agents connect: with which TLS, and through which proxy."""

from __future__ import annotations

import inspect
import ipaddress
import re
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import ConnectError
from twisted.internet.error import TimeoutError as ConnectionTooSlow
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.web.client import URI, BrowserLikePolicyForHTTPS
from twisted.web.error import SchemeNotSupported
from twisted.web.iweb import IAgentEndpointFactory, IPolicyForHTTPS
from zope.interface import implementer  # type: ignore[import-untyped]

from holdfast.http.origins import Origin
from holdfast.http.proxies import Proxies, Proxy

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Endpoints", "policy_of"]

#: Bytes of a proxy's answer to CONNECT.
_HEAD = 1 << 14


def policy_of(given: Any) -> Any:
    """Return the policy for TLS that a context factory means; raises TypeError for none."""
    if given is None:
        usual: Any = BrowserLikePolicyForHTTPS
        return usual()
    if IPolicyForHTTPS.providedBy(given):
        return given
    if IOpenSSLClientConnectionCreator.providedBy(given):
        return _Always(given)
    if callable(getattr(given, "getContext", None)):
        return _Always(None, given)
    raise TypeError(
        "fault_tolerant: context_factory must be a context factory of Twisted's in Twisted mode "
        "(an IPolicyForHTTPS, or something with getContext such as ssl.ClientContextFactory), "
        f"not {given!r}"
    )


@implementer(IPolicyForHTTPS)
class _Always:
    """The same way to make TLS connections, whatever the host."""

    def __init__(self, creator: Any, factory: Any = None) -> None:
        self._creator = creator
        self._factory = factory

    def creatorForNetloc(self, hostname: bytes, port: int) -> Any:
        """Return what makes the connections to a host."""
        return self._creator or _Creator(self._factory, hostname, port)


@implementer(IOpenSSLClientConnectionCreator)
class _Creator:
    """Makes TLS connections in the context of an old context factory, which checks for itself."""

    def __init__(self, factory: Any, hostname: bytes, port: int) -> None:
        self._factory = factory
        self._hostname = hostname
        self._port = port

    def clientConnectionForTLS(self, protocol: Any) -> Any:
        """Return a connection of pyOpenSSL's."""
        from OpenSSL import SSL

        make = self._factory.getContext
        # ``ssl.ClientContextFactory`` takes nothing, web clients' factories host and port.
        where = (self._hostname, self._port) if _takes_two(make) else ()
        connection = SSL.Connection(make(*where), None)
        try:
            ipaddress.ip_address(self._hostname.decode("ascii"))
        except ValueError:
            connection.set_tlsext_host_name(self._hostname)
        return connection


def _takes_two(function: Any) -> bool:
    try:
        inspect.signature(function).bind(b"", 0)
    except (TypeError, ValueError):
        return False
    return True


@implementer(IAgentEndpointFactory)
class Endpoints:
    """Endpoints for URIs; those of TLS through a tunnel where there is a proxy."""

    def __init__(
        self, reactor: Any, policy: Any, connect_timeout: float | None, proxies: Proxies
    ) -> None:
        self._reactor = reactor
        self._policy = policy
        self._timeout = connect_timeout
        self._proxies = proxies
        self._to_proxies: dict[Origin, HostnameEndpoint] = {}

    def endpointForURI(self, uri: URI) -> Any:
        """Return the endpoint to connect to for a URI."""
        scheme, host = uri.scheme.decode("ascii"), uri.host.decode("ascii")
        if scheme not in ("http", "https"):
            raise SchemeNotSupported(f"the scheme is http or https, not {scheme!r}")
        proxy = self._proxy_of(uri) if scheme == "https" else None
        endpoint: Any = self._to(host, uri.port)
        if proxy is not None:
            endpoint = Tunnel(
                self._through(proxy),
                f"{_bracketed(host)}:{uri.port}",
                proxy,
                self._reactor,
                self._timeout,
            )
        if scheme == "http":
            return endpoint
        creator = self._policy.creatorForNetloc(uri.host, uri.port)
        return Encrypted(endpoint, creator, self._reactor)

    def proxy_of(self, uri: bytes) -> tuple[Any, list[tuple[str, str]]] | None:
        """Return the proxy that takes a whole URI of plain HTTP, and what it is told."""
        parse: Any = URI.fromBytes
        parsed = parse(uri)
        proxy = self._proxy_of(parsed) if parsed.scheme == b"http" else None
        if proxy is None:
            return None
        return self._through(proxy), proxy.headers

    def _proxy_of(self, uri: URI) -> Proxy | None:
        host = _bracketed(uri.host.decode("ascii"))
        return self._proxies.of(Origin.parse(f"{uri.scheme.decode('ascii')}://{host}:{uri.port}"))

    def _through(self, proxy: Proxy) -> HostnameEndpoint:
        # One for all requests: by it the pool knows the connections that it has kept.
        origin = proxy.origin
        endpoint = self._to_proxies.get(origin)
        if endpoint is None:
            endpoint = self._to_proxies[origin] = self._to(origin.host, origin.port)
        return endpoint

    def _to(self, host: str, port: int) -> HostnameEndpoint:
        timeout: Any = self._timeout  # None, too, which its types do not know
        return HostnameEndpoint(self._reactor, host, port, timeout=timeout)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


@implementer(IStreamClientEndpoint)
class Encrypted:
    """An endpoint under TLS: as Twisted's ``wrapClientTLS``, but on a reactor of one's own."""

    def __init__(self, endpoint: Any, creator: Any, reactor: Any) -> None:
        self._endpoint = endpoint
        self._creator = creator
        self._reactor = reactor

    def connect(self, factory: Any) -> Any:
        """Connect, and agree on keys with the first bytes."""
        layered: Any = TLSMemoryBIOFactory
        layer = layered(self._creator, True, factory, clock=self._reactor)
        connecting = self._endpoint.connect(layer)
        return connecting.addCallback(lambda protocol: protocol.wrappedProtocol)


class ProxyRefused(ConnectError):
    """The HTTP proxy refused to open a tunnel."""


@implementer(IStreamClientEndpoint)
class Tunnel:
    """An endpoint behind an HTTP proxy, by CONNECT."""

    def __init__(
        self, endpoint: Any, netloc: str, proxy: Proxy, reactor: Any, timeout: float | None
    ) -> None:
        self._endpoint = endpoint
        self._reactor = reactor
        self._timeout = timeout
        lines = [f"CONNECT {netloc} HTTP/1.1", f"Host: {netloc}"]
        lines += [f"{name}: {value}" for name, value in proxy.headers]
        self._request = "\r\n".join([*lines, "", ""]).encode("latin-1")

    def connect(self, factory: Any) -> Deferred[Any]:
        """Connect to the proxy, and through it, both within the connect timeout."""
        opening: list[Opening] = []

        def cancel(_: Any) -> None:
            connecting.cancel()
            for protocol in opening:
                protocol.give_up()

        done: Deferred[Any] = Deferred(cancel)

        def build() -> Opening:
            protocol = Opening(self._request, factory, done)
            opening.append(protocol)
            return protocol

        connecting = self._endpoint.connect(Factory.forProtocol(build))
        connecting.addErrback(lambda failure: None if done.called else done.errback(failure))
        if self._timeout is not None and not done.called:
            alarm = self._reactor.callLater(self._timeout, expire, done, cancel)
            done.addBoth(settled, alarm)
        return done


def expire(done: Deferred[Any], cancel: Callable[[Any], None]) -> None:
    """Give up a connection that takes too long: a proxy may accept it, and say nothing."""
    late: Any = ConnectionTooSlow
    if not done.called:
        done.errback(late(string="the proxy opened no tunnel in time"))
    cancel(None)


def settled(result: Any, alarm: Any) -> Any:
    """Stop the alarm of a connection that is made, or has failed."""
    if alarm.active():
        alarm.cancel()
    return result


class Opening(Protocol):
    """The opening of a tunnel, whose protocol then takes the transport over."""

    def __init__(self, request: bytes, factory: Any, done: Deferred[Any]) -> None:
        self._request = request
        self._factory = factory
        self._done = done
        self._head = b""

    def connectionMade(self) -> None:
        """Ask for the tunnel."""
        transport: Any = self.transport
        transport.write(self._request)

    def dataReceived(self, data: bytes) -> None:
        """Read the proxy's answer."""
        self._head += data
        head, end, rest = self._head.partition(b"\r\n\r\n")
        if not end:
            if len(self._head) > _HEAD:
                self._refuse("its answer is too long")
            return
        status = head.partition(b"\r\n")[0].split(b" ", 2)[1:2]
        if rest or not (status and re.fullmatch(rb"2\d\d", status[0])):
            shown = status[0].decode("latin-1", "replace")[:20] if status else "nothing"
            self._refuse(f"it answered {shown}")
            return
        self._hand_over()

    def connectionLost(self, reason: Any = None) -> None:
        """Tell that there is no tunnel."""
        self._refuse("it closed the connection")

    def give_up(self) -> None:
        """Close the connection: nobody waits for the tunnel."""
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()

    def _hand_over(self) -> None:
        transport: Any = self.transport
        protocol = self._factory.buildProtocol(transport.getPeer())
        transport.protocol = protocol
        protocol.makeConnection(transport)
        if not self._done.called:
            self._done.callback(protocol)

    def _refuse(self, why: str) -> None:
        if not self._done.called:
            refused: Any = ProxyRefused
            self._done.errback(refused(string=f"the proxy opened no tunnel: {why}"))
            self.give_up()
