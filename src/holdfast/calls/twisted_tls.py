"""TLS of Twisted's agents: whom it trusts, and how it is agreed on within the connect timeout."""

from __future__ import annotations

import inspect
import ipaddress
from typing import TYPE_CHECKING, Any

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError
from twisted.internet.error import TimeoutError as ConnectionTooSlow
from twisted.internet.interfaces import (
    IHandshakeListener,
    IOpenSSLClientConnectionCreator,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.web.client import BrowserLikePolicyForHTTPS, ResponseNeverReceived
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Encrypted", "limited", "policy_of"]


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


@implementer(IStreamClientEndpoint)
class Encrypted:
    """An endpoint under TLS, which is connected when both sides have agreed on keys.

    Twisted's ``wrapClientTLS`` is so as soon as there is a connection: who then says nothing more
    is waited for until the very end, and an error in a context factory is never heard of.
    """

    def __init__(self, endpoint: Any, creator: Any, reactor: Any, timeout: float | None) -> None:
        self._endpoint = endpoint
        self._creator = creator
        self._reactor = reactor
        self._timeout = timeout

    def connect(self, factory: Any) -> Deferred[Any]:
        """Connect, and agree on keys, both within the connect timeout."""
        begun: list[Handshake] = []

        def cancel(_: Any) -> None:
            connecting.cancel()
            for handshake in begun:
                handshake.give_up()

        done: Deferred[Any] = Deferred(cancel)

        def build() -> Handshake:
            handshake = Handshake(factory, done)
            begun.append(handshake)
            return handshake

        layered: Any = TLSMemoryBIOFactory
        creator = _Telling(self._creator, done)
        layer = layered(creator, True, Factory.forProtocol(build), clock=self._reactor)
        connecting = self._endpoint.connect(layer)
        connecting.addErrback(lambda failure: None if done.called else done.errback(failure))
        return limited(done, cancel, self._reactor, self._timeout, "TLS was not agreed on")


@implementer(IOpenSSLClientConnectionCreator)
class _Telling:
    """Tells when a connection for TLS cannot be made; Twisted would only log it."""

    def __init__(self, creator: Any, done: Deferred[Any]) -> None:
        self._creator = creator
        self._done = done

    def clientConnectionForTLS(self, protocol: Any) -> Any:
        """Return a connection of pyOpenSSL's; one that sends nothing when there is none."""
        try:
            return self._creator.clientConnectionForTLS(protocol)
        except Exception as error:
            if not self._done.called:
                self._done.errback(error)
            return SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)


@implementer(IHandshakeListener)
class Handshake(Protocol):
    """The agreement on keys, after which the protocol of the connection takes the transport."""

    def __init__(self, factory: Any, done: Deferred[Any]) -> None:
        self._factory = factory
        self._done = done

    def connectionMade(self) -> None:
        """Go on, unless that has failed already."""
        if self._done.called:
            self.give_up()

    def handshakeCompleted(self) -> None:
        """Hand over."""
        if self._done.called:
            self.give_up()
            return
        transport: Any = self.transport
        protocol = self._factory.buildProtocol(transport.getPeer())
        transport.wrappedProtocol = protocol
        protocol.makeConnection(transport)
        self._done.callback(protocol)

    def connectionLost(self, reason: Any = None) -> None:
        """Tell why there is no agreement."""
        if self._done.called:
            return
        if reason is not None and reason.check(SSL.Error) and not reason.check(SSL.SysCallError):
            # Of certificates, above all. So it is worded by Twisted's agents.
            refused: Any = ResponseNeverReceived
            self._done.errback(refused([reason]))
            return
        lost: Any = ConnectError
        self._done.errback(lost(string="the connection was closed before TLS was agreed on"))

    def give_up(self) -> None:
        """Close the connection: nobody waits for it."""
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()


def limited(
    done: Deferred[Any],
    cancel: Callable[[Any], None],
    reactor: Any,
    timeout: float | None,
    what: str,
) -> Deferred[Any]:
    """Return a Deferred that fails when it has not fired in time, and is then cancelled."""
    if timeout is None or done.called:
        return done

    def expire() -> None:
        late: Any = ConnectionTooSlow
        done.errback(late(string=f"{what} in time"))
        cancel(None)

    alarm = reactor.callLater(timeout, expire)

    def settled(result: Any) -> Any:
        if alarm.active():
            alarm.cancel()
        return result

    return done.addBoth(settled)
