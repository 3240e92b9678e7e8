"""Connections that carry JSON, one value a line: for protocols of one's own."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from holdfast.drivers import blocking
from holdfast.errors import HoldfastError, NetworkError
from holdfast.http.failures import translated
from holdfast.http.limits import Timeout
from holdfast.http.pools import ConnectionPool, Transport
from holdfast.jobs.errors import CommunicationError, InvalidCall
from holdfast.jobs.exchanges import failed
from holdfast.jobs.lines import Lines
from holdfast.jobs.messages import REPLY_LIMIT
from holdfast.jobs.places import CAFile, place, seconds
from holdfast.lifetimes import Closing
from holdfast.policy.deadline import inherited
from holdfast.wire.jsonlines import WireError, encode

if TYPE_CHECKING:
    from typing import Self

    from holdfast.http.tls import CertTypes
    from holdfast.ops import Program

__all__ = ["BaseConnection", "BaseSSLConnection", "JSONConnection", "JSONSSLConnection", "Link"]


class Link:
    """A connection as programs, made anew at each `connect`; see `JSONConnection`."""

    def __init__(
        self,
        pool: ConnectionPool,
        connect_timeout: float | None,
        timeout: float | None,
        max_line: int,
    ) -> None:
        self.pool = pool
        self.lines: Lines | None = None
        self.timeout = seconds("timeout", timeout)
        self._limits = Timeout(None, seconds("connect_timeout", connect_timeout), self.timeout)
        self._max_line = max_line

    def connect(self) -> Program[None]:
        """Connect, after closing what there was."""
        self.close()
        try:
            connection = yield from self.pool.connect(self._limits, self._until(None))
        except HoldfastError as error:
            raise failed(error, error.summary) from error
        self.lines = Lines(connection, self._max_line)

    def send(self, value: Any) -> Program[None]:
        """Send a value."""
        try:
            line = encode(value)
        except WireError as error:
            raise InvalidCall(str(error)) from None
        lines = self._open()
        sent = False
        until = self._until(self.timeout)
        try:
            yield from lines.send(line, until)
            sent = True
        except (OSError, HoldfastError) as error:
            raise self._failed(error) from error
        finally:
            if not sent:  # part of the line, perhaps, so that no other one may follow
                self.close()

    def receive(self, timeout: float | None = None) -> Program[Any]:
        """Receive a value; ``timeout`` replaces the one for each wait."""
        lines = self._open()
        received = False
        until = self._until(timeout or self.timeout)
        try:
            value = yield from lines.receive(until)
            received = True
            return value
        except (OSError, HoldfastError) as error:
            received = isinstance(error, TimeoutError)  # what comes late is there still
            raise self._failed(error) from error
        finally:
            if not received:
                self.close()

    def close(self) -> None:
        """Close the connection, if there is one."""
        lines, self.lines = self.lines, None
        if lines is not None:
            lines.close()

    def _open(self) -> Lines:
        if self.lines is None:
            raise CommunicationError(f"{self.pool.name}: the connection is closed")
        return self.lines

    def _until(self, limit: float | None) -> float:
        clock = self.pool.clock
        return min(inherited(clock), inf if limit is None else clock() + limit)

    def _failed(self, error: Exception) -> CommunicationError:
        if not isinstance(error, (HoldfastError, TimeoutError, ConnectionError)):
            error = NetworkError(str(error))
        outer = inherited(self.pool.clock)
        failure = translated(error, self.pool, self._limits, outer)
        return failed(failure, failure.summary)


class BaseConnection:
    """What the blocking and the asynchronous class have in common."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        connect_timeout: float | None = 5.0,
        timeout: float | None = None,
        max_line: int = REPLY_LIMIT,
    ) -> None:
        self._begin(link_of(host, port, False, None, None, connect_timeout, timeout, max_line))

    def _begin(self, link: Link) -> None:
        self._link = link

    @classmethod
    def of(cls, link: Link) -> Self:
        """Return the connection that a link is already."""
        connection = cls.__new__(cls)
        connection._link = link
        return connection

    def __repr__(self) -> str:
        state = "closed" if self._link.lines is None else "open"
        return f"<{type(self).__name__} {self._link.pool.name} {state}>"

    def __del__(self) -> None:
        if "_link" in self.__dict__:
            self._link.close()


class BaseSSLConnection(BaseConnection):
    """The same over TLS."""

    def __init__(
        self,
        host: str,
        port: int,
        ca_file: CAFile = None,
        *,
        cert: CertTypes = None,
        connect_timeout: float | None = 5.0,
        timeout: float | None = None,
        max_line: int = REPLY_LIMIT,
    ) -> None:
        self._begin(link_of(host, port, True, ca_file, cert, connect_timeout, timeout, max_line))


class JSONConnection(BaseConnection, Closing):
    """A TCP connection, reading and writing JSON lines; a context manager.

    It is connected when it was made. ``connect_timeout`` and ``timeout``: seconds for connecting,
    and for each wait after that; None is no limit. ``max_line``: the most bytes in a line that
    comes. All methods raise CommunicationError.
    """

    def _begin(self, link: Link) -> None:
        super()._begin(link)
        self.connect()

    def connect(self) -> None:
        """Connect to the address, which a new object is already."""
        blocking.run(self._link.connect())

    def send(self, obj: Any) -> None:
        """Send an object as a line; raises InvalidCall for what JSON cannot carry."""
        blocking.run(self._link.send(obj))

    def receive(self) -> Any:
        """Receive a line, and return the object that it is."""
        return blocking.run(self._link.receive())

    def close(self) -> None:
        """Close the connection."""
        self._link.close()


class JSONSSLConnection(BaseSSLConnection, JSONConnection):
    """The same over TLS.

    ``ca_file``: the certificates that the server's is verified against, and its name, too; None
    verifies nothing. ``cert``: the client's own, as in requests.
    """


def link_of(
    host: str,
    port: int,
    tls: bool,
    ca_file: CAFile,
    cert: CertTypes,
    connect_timeout: float | None,
    timeout: float | None,
    max_line: int,
) -> Link:
    """Return a link to an address; without ``ca_file`` it verifies nothing."""
    verify = False if ca_file is None else ca_file
    transport = Transport(verify=verify, cert=cert, max_idle=0)
    pool = ConnectionPool(place(host, port, tls), transport)
    return Link(pool, connect_timeout, timeout, max_line)
