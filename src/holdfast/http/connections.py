"""One connection: a stream, TLS perhaps, and the parser of what comes in."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from holdfast import ops
from holdfast.errors import (
    CertificateError,
    ConnectError,
    ConnectTimeout,
    DeadlineExceeded,
    HoldfastError,
    NetworkError,
    ProxyError,
    ResolveError,
)
from holdfast.http.tls import TLSLayer
from holdfast.wire.http1 import LIMITS, Limits, ResponseParser, encode_headers, encode_target

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from holdfast.http.limits import Timeout
    from holdfast.http.origins import Origin
    from holdfast.http.proxies import Proxy
    from holdfast.ops import Program

__all__ = ["Connection", "connect"]

#: Bytes asked for at once: the answers of most calls, whole.
RECEIVE = 1 << 16


class Connection:
    """A connection to one origin, used by one exchange (or one pipeline) at a time."""

    __slots__ = (
        "idle_since",
        "parser",
        "receiving",
        "round_trip",
        "sending",
        "stream",
        "tls",
        "used",
    )

    def __init__(self, stream: ops.Stream, tls: TLSLayer | None, limits: Limits) -> None:
        self.stream = stream
        self.tls = tls
        self.parser = ResponseParser(limits)
        self.used = False  # whether an exchange was completed on it
        self.idle_since = 0.0
        # Operations are used again for each call: the hot path makes no new ones.
        self.sending = ops.Send(stream, b"", inf)
        self.receiving = ops.Receive(stream, RECEIVE, inf)
        self.round_trip = ops.RoundTrip(stream, b"", RECEIVE, inf)

    def send(self, data: ops.Buffer, deadline: float) -> Program[None]:
        """Send all of the data."""
        if self.tls is not None:
            yield from self.tls.send(data, deadline)
            return
        operation = self.sending
        operation.data = data
        operation.deadline = deadline
        yield operation
        operation.data = b""

    def receive(self, deadline: float, limit: int = RECEIVE) -> Program[bytes]:
        """Return some data, b"" at the end of the stream."""
        if self.tls is not None:
            return (yield from self.tls.receive(limit, deadline))
        operation = self.receiving
        operation.limit = limit
        operation.deadline = deadline
        data: bytes = yield operation
        return data

    def receive_into(self, buffer: memoryview, deadline: float) -> Program[int]:
        """Receive straight into a buffer; returns how many bytes, 0 at the end."""
        if self.tls is not None:
            return (yield from self.tls.receive_into(buffer, deadline))
        size: int = yield ops.ReceiveInto(self.stream, buffer, deadline)
        return size

    def usable(self, idle: float) -> bool:
        """Tell whether it may carry another request; see `holdfast.ops.Stream.usable`."""
        return (self.tls is None or not self.tls.pending) and self.stream.usable(idle)

    def close(self) -> None:
        """Close it at once."""
        self.stream.close()


def connect(
    origin: Origin,
    name: str,
    timeout: Timeout,
    deadline: float,
    clock: Callable[[], float],
    *,
    limits: Limits = LIMITS,
    context: Callable[[], ssl.SSLContext] | None = None,
    proxy: Proxy | None = None,
    source: tuple[str, int] | None = None,
) -> Program[Connection]:
    """Connect to an origin, through a proxy perhaps, and agree on TLS.

    ``context`` makes the TLS context for https; ``source`` is the local address to bind.
    Raises ConnectError, ConnectTimeout or DeadlineExceeded.
    """
    if proxy is not None:
        name = f"{name} through the proxy {proxy.origin.name}"
    until = deadline
    if timeout.connect is not None:
        until = min(deadline, clock() + timeout.connect)
    stream: ops.Stream | None = None
    ready = False
    try:
        stream = yield from _open(proxy.origin if proxy else origin, until, clock, source)
        layer = None
        if origin.scheme == "https":
            if proxy is not None:
                yield from _tunnel(stream, origin, proxy, limits, until)
            assert context is not None
            layer = TLSLayer(stream, context(), origin.unscoped.host)
            yield from layer.handshake(until)
        ready = True
        return Connection(stream, layer, limits)
    except TimeoutError:
        if clock() >= deadline:
            late = DeadlineExceeded(f"{name}: no connection before the deadline")
            late.sent = False
            raise late from None
        limit = "" if timeout.connect is None else f" within {timeout.connect:g} s"
        raise ConnectTimeout(f"{name}: no connection{limit}") from None
    except CertificateError as error:
        raise CertificateError(f"{name}: {error}") from None
    except HoldfastError:
        raise
    except OSError as error:
        raise ConnectError(f"{name}: {_plain(error)}") from error
    finally:
        if not ready and stream is not None:
            stream.close()


def _open(
    origin: Origin, until: float, clock: Callable[[], float], source: tuple[str, int] | None
) -> Program[ops.Stream]:
    """Try each address of a host in turn, leaving time for those that follow."""
    address = origin.address
    if address is not None:
        addresses = [address]
    else:
        try:
            addresses = yield ops.Resolve(origin.host, origin.port, until)
        except TimeoutError:
            raise
        except (OSError, UnicodeError) as error:
            raise ResolveError(
                f"{origin.name}: the host name is not known ({_plain(error)})"
            ) from error
    failure: Exception | None = None
    for index, address in enumerate(addresses):
        share = until
        if until < inf:
            now = clock()
            share = now + (until - now) / (len(addresses) - index)
        try:
            stream: ops.Stream = yield ops.Connect(address, share, source)
            return stream
        except OSError as error:  # TimeoutError is one
            failure = error
    raise failure or ConnectError(f"{origin.name}: the host name has no address")


def _tunnel(
    stream: ops.Stream, origin: Origin, proxy: Proxy, limits: Limits, until: float
) -> Program[None]:
    """Have the proxy connect to the origin (RFC 9110 9.3.6)."""
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    target = f"{host}:{origin.port}"
    headers = encode_headers([("Host", target), *proxy.headers])
    head = b"CONNECT %b HTTP/1.1\r\n%b\r\n" % (encode_target(target), headers)
    yield ops.Send(stream, head, until)
    parser = ResponseParser(limits)
    parser.bodiless = True
    while parser.message is None:
        data = yield ops.Receive(stream, RECEIVE, until)
        if not data:
            raise ProxyError(f"{proxy.origin.name}: the proxy closed the connection")
        try:
            parser.feed(data)
        except ValueError as error:
            raise ProxyError(f"{proxy.origin.name}: the proxy: {error}") from None
    message = parser.message
    if not 200 <= message.status < 300 or parser.surplus:
        raise ProxyError(
            f"{proxy.origin.name}: the proxy answered {message.status} "
            f"{message.reason.decode('latin-1')} to CONNECT {target}"
        )


def _plain(error: Exception) -> str:
    """Return what the system says, without the error's number."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).lower() if not isinstance(error, NetworkError) else str(text)
