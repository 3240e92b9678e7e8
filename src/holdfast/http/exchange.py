"""One exchange: a request on a kept or new connection, and its response."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.errors import HoldfastError, NetworkError, Truncated
from holdfast.http.connections import RECEIVE
from holdfast.http.failures import translated
from holdfast.http.readers import BodyReader
from holdfast.http.responses import Response
from holdfast.http.sending import next_wait, send_body
from holdfast.wire.http1 import WireError

if TYPE_CHECKING:
    from holdfast.http.connections import Connection
    from holdfast.http.limits import Timeout
    from holdfast.http.pools import ConnectionPool
    from holdfast.http.requests import Request
    from holdfast.ops import Program
    from holdfast.wire.http1 import Message

__all__ = ["Started", "exchange", "receive_head", "send_request", "start"]

#: How long to wait for 100 (Continue) before the body is sent all the same, in seconds (curl's).
CONTINUE = 1.0


class StaleConnection(NetworkError):
    """A kept connection was closed by the server before any byte of the answer."""


class Started:
    """A request that was sent, and whose answer is to be received."""

    __slots__ = ("broken", "connection", "deadline", "request")

    def __init__(
        self, connection: Connection, request: Request, deadline: float, broken: OSError | None
    ) -> None:
        self.connection = connection
        self.request = request
        self.deadline = deadline
        self.broken = broken

    def close(self) -> None:
        """Give the answer up."""
        self.connection.close()


def start(pool: ConnectionPool, request: Request, deadline: float) -> Program[Started]:
    """Send a request; `exchange` goes on from what this returns."""
    connection = pool.take(not request.idempotent or not request.replayable)
    if connection is None:
        connection = yield from pool.connect(request.timeout, deadline)
    started = None
    try:
        broken = yield from send_request(connection, pool, request, deadline)
        started = Started(connection, request, deadline, broken)
        return started
    except (OSError, WireError, HoldfastError) as error:
        raise translated(error, pool, request.timeout, deadline) from error
    finally:
        if started is None:
            connection.close()


def exchange(
    pool: ConnectionPool, request: Request, deadline: float, started: Started | None = None
) -> Program[Response]:
    """Send a request to a pool's origin and return the response.

    The body was read, unless the request says ``stream``: then the response has a reader, which
    owns the connection. A kept connection that turns out to be closed is replaced, once, when the
    request may be repeated. Raises NetworkError, CallTimeout and their subclasses.
    """
    timeout = request.timeout
    if started is not None:
        connection: Connection | None = started.connection
    else:
        connection = pool.take(request.body is not None or not request.idempotent)
    while True:
        if connection is None:
            connection = yield from pool.connect(timeout, deadline)
        owned = True
        try:
            parser = connection.parser
            parser.bodiless = request.method == "HEAD"
            broken: OSError | None = None
            if started is not None:
                broken = started.broken
            else:
                broken = yield from send_request(connection, pool, request, deadline)
            message = parser.message
            if message is None:
                message = yield from receive_head(connection, pool, timeout, deadline, broken)
            if message.status == 408 and connection.used and request.replayable:
                # It gave the connection up while we sent: it carried nothing out (RFC 9110).
                stale = StaleConnection("it timed out the kept connection")
                stale.sent = False
                raise stale
            response = Response(request, pool.origin, message)
            reader = BodyReader(connection, pool, request, message, deadline, broken is None)
            owned = False  # the reader's, from here on
            if request.stream:
                response.reader = reader
            else:
                # The buffer is for the answer, not for the pages of redirects on the way to it.
                passing = request.redirects and response.is_redirect
                response.content = yield from reader.read_all(None if passing else request.into)
            return response
        except StaleConnection as error:
            if not request.replayable or not (request.idempotent or not error.sent):
                broken = NetworkError(error.summary)
                raise translated(broken, pool, request.timeout, deadline) from error
        except (OSError, WireError, HoldfastError) as error:
            raise translated(error, pool, request.timeout, deadline) from error
        finally:
            if owned:
                connection.close()
        connection = started = None


def send_request(
    connection: Connection, pool: ConnectionPool, request: Request, deadline: float
) -> Program[OSError | None]:
    """Send a request; returns the error when the peer did not take all of it.

    It may have answered all the same: a server that refuses a long body closes early.
    """
    data, body = request.whole(pool.prefix, pool.defaults)
    try:
        yield from connection.send(data, next_wait(pool, request.timeout, deadline))
        if body is not None:
            if request.expect_continue and not (
                yield from _may_continue(connection, pool, deadline)
            ):
                return BrokenPipeError("it did not want the body")
            yield from send_body(connection, pool, body, request.timeout, deadline)
    except (TimeoutError, HoldfastError):
        raise
    except ConnectionError as error:
        return error
    return None


def _may_continue(connection: Connection, pool: ConnectionPool, deadline: float) -> Program[bool]:
    """Wait for 100 (Continue), for a while; False when a final answer came instead."""
    parser = connection.parser
    parser.continued = False
    until = min(deadline, pool.clock() + CONTINUE)
    while not parser.continued:
        try:
            data = yield from connection.receive(until)
        except TimeoutError:
            if until == deadline:
                raise
            return True
        if not data:
            raise ConnectionResetError("it closed the connection")
        parser.feed(data)
        if parser.message is not None:
            return False
    return True


def receive_head(
    connection: Connection,
    pool: ConnectionPool,
    timeout: Timeout,
    deadline: float,
    broken: OSError | None = None,
) -> Program[Message]:
    """Receive until the head of the oldest answer is there; the parser keeps the message.

    ``broken`` is what went wrong while sending, to be raised when there is no answer either.
    """
    parser = connection.parser
    if parser.pipelined:
        parser.feed(b"")  # it may be there already
    while parser.message is None:
        until = next_wait(pool, timeout, deadline)
        try:
            if connection.tls is None:
                operation = connection.receiving
                operation.limit = RECEIVE
                operation.deadline = until
                data = yield operation
            else:
                data = yield from connection.tls.receive(RECEIVE, until)
        except ConnectionError as error:
            if connection.used and not parser.heard:
                raise StaleConnection(f"it closed the kept connection ({error})") from error
            raise broken or error from None
        if not data:
            if parser.heard:
                raise Truncated("it closed the connection in the middle of the headers")
            if connection.used:
                raise StaleConnection("it closed the kept connection")
            raise broken or NetworkError("it closed the connection without an answer")
        parser.feed(data)
    return parser.message
