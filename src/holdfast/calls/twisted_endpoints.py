"""How Twisted's agents connect, and through which proxy."""

from __future__ import annotations

import re
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.web.client import URI
from twisted.web.error import SchemeNotSupported
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer  # type: ignore[import-untyped]

from holdfast.calls.twisted_tls import Encrypted, limited
from holdfast.http.origins import Origin
from holdfast.http.proxies import Proxies, Proxy

__all__ = ["Endpoints"]

#: Bytes of a proxy's answer to CONNECT.
_HEAD = 1 << 14


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
        return Encrypted(endpoint, creator, self._reactor, self._timeout)

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
        # A proxy may accept the connection, and say nothing.
        return limited(done, cancel, self._reactor, self._timeout, "the proxy opened no tunnel")


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
