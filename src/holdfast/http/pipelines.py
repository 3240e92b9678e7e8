"""Several requests on one connection before the first answer is there (RFC 9112 9.3.2)."""

from __future__ import annotations

from collections import deque
from itertools import islice
from math import inf
from typing import TYPE_CHECKING

from holdfast.errors import HoldfastError, NetworkError, ProtocolError, Truncated
from holdfast.http.bodies import BytesBody
from holdfast.http.exchange import exchange, receive_head, send_request
from holdfast.http.failures import translated
from holdfast.http.readers import BodyReader
from holdfast.http.responses import Response
from holdfast.wire.http1 import WireError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.http.connections import Connection
    from holdfast.http.pools import ConnectionPool
    from holdfast.http.requests import Request
    from holdfast.ops import Program

__all__ = ["Pipeline"]

#: Requests under way at once. Both bounds keep what the server may have to hold back small enough
#: for the buffers in between, so that neither side waits for the other for ever.
DEPTH = 16
BYTES = 1 << 16


class Pipeline:
    """Requests to one origin, answered in order.

    `next` is a program for the next response. When the connection breaks, what has no answer yet
    is sent again on another one if every request of it is idempotent; otherwise that is an error.
    A request without a body in memory, and HEAD, go alone.
    """

    def __init__(self, pool: ConnectionPool, requests: Sequence[Request]) -> None:
        self._pool = pool
        self._waiting = deque(requests)
        self._sent: deque[Request] = deque()
        self._connection: Connection | None = None
        self._lost: NetworkError | None = None  # what keeps the rest from being sent
        self._answered = False  # whether this connection has answered anything
        self._depth = DEPTH

    def next(self) -> Program[Response | None]:
        """Return the next response, None after the last."""
        if not self._sent and not self._waiting:
            self._give_back()
            return None
        if self._lost is not None:
            raise self._lost
        total = (self._sent or self._waiting)[0].timeout.total
        deadline = inf if total is None else self._pool.clock() + total
        while True:
            if not self._sent and _alone(self._waiting[0]):
                self._give_back()
                return (yield from exchange(self._pool, self._waiting.popleft(), deadline))
            try:
                yield from self._send(deadline)
                return (yield from self._receive(deadline))
            except NetworkError as error:
                answered = self._answered
                self._drop()
                damaged = isinstance(error, ProtocolError) and not isinstance(error, Truncated)
                if damaged or not all(request.idempotent for request in self._sent):
                    raise
                # The server closed after some answers, as many do after a number of requests.
                if not answered:
                    if len(self._sent) < 2:
                        raise
                    # It may not like pipelines; or a reset, which its closing brought on by what
                    # was still being sent, has destroyed its answer.
                    self._depth = 1
                self._send_again()

    def _send(self, deadline: float) -> Program[None]:
        """Send what fits, and at least one when nothing is under way."""
        size = sum(map(_size, self._sent))
        batch: list[Request] = []
        connection = self._connection
        while self._waiting and len(self._sent) < self._depth:
            request = self._waiting[0]
            size += _size(request)
            if _alone(request) or (self._sent and size > BYTES):
                break
            if connection is None:
                sure = not all(request.idempotent for request in islice(self._waiting, DEPTH))
                connection = self._pool.take(sure)
            if connection is None:
                connection = yield from self._pool.connect(request.timeout, deadline)
            self._answered = self._answered or connection.used
            connection.parser.pipelined = True
            connection.parser.bodiless = False
            self._connection = connection
            self._sent.append(self._waiting.popleft())
            batch.append(request)
        if batch:
            assert connection is not None
            try:
                yield from self._send_batch(connection, batch, deadline)
            except OSError as error:
                raise translated(error, self._pool, batch[0].timeout, deadline) from error

    def _send_batch(
        self, connection: Connection, batch: list[Request], deadline: float
    ) -> Program[None]:
        """Send requests, small ones at once: a server that closes after one has got them all."""
        small: list[bytes] = []
        try:
            for request in batch:
                data, body = request.whole(self._pool.prefix, self._pool.defaults)
                if body is None:
                    small.append(data)
                    continue
                yield from connection.send(b"".join(small), deadline)
                small.clear()
                broken = yield from send_request(connection, self._pool, request, deadline)
                if broken is not None:
                    return
            yield from connection.send(b"".join(small), deadline)
        except ConnectionError:
            pass  # the answers that are on their way come first

    def _receive(self, deadline: float) -> Program[Response]:
        connection = self._connection
        assert connection is not None
        request = self._sent[0]
        try:
            message = yield from receive_head(connection, self._pool, request.timeout, deadline)
            response = Response(request, self._pool.origin, message)
            reader = BodyReader(
                connection, self._pool, request, message, deadline, False, pipelined=True
            )
            response.content = yield from reader.read_all()
        except (OSError, WireError, HoldfastError) as error:
            raise translated(error, self._pool, request.timeout, deadline) from error
        connection.parser.next()
        self._sent.popleft()
        self._answered = True
        if not message.keep_alive:
            self._drop()
            if message.closing or all(request.idempotent for request in self._sent):
                # What follows a last answer was not carried out (RFC 9112 9.6).
                self._send_again()
            else:
                self._lost = NetworkError(
                    f"{self._pool.name}: it closed the connection after an answer; requests "
                    "that followed may have been carried out"
                )
        return response

    def _send_again(self) -> None:
        self._waiting.extendleft(reversed(self._sent))
        self._sent.clear()

    def _give_back(self) -> None:
        connection = self._connection
        if connection is None:
            return
        if connection.parser.surplus or connection.parser.heard:
            self._drop()
            return
        self._connection = None
        self._answered = False
        connection.parser.pipelined = False
        self._pool.give(connection)

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        self._answered = False
        if connection is not None:
            connection.close()

    def close(self) -> None:
        """Give the connection back, or up when answers are still to come."""
        if self._sent:
            self._drop()
        else:
            self._give_back()


def _alone(request: Request) -> bool:
    body = request.body
    return request.method == "HEAD" or not (body is None or isinstance(body, BytesBody))


def _size(request: Request) -> int:
    body = request.body
    return len(request.target) + (body.length or 0 if body is not None else 0)
