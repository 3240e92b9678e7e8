"""A request's body on its way out, piece by piece, each of which has its time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.errors import InvalidRequest, TooSlow
from holdfast.http.bodies import BytesBody, SourceError
from holdfast.http.pace import Pace
from holdfast.wire.http1 import LAST_CHUNK, encode_chunk

if TYPE_CHECKING:
    from holdfast import ops
    from holdfast.http.bodies import Body
    from holdfast.http.connections import Connection
    from holdfast.http.limits import Timeout
    from holdfast.http.pools import ConnectionPool
    from holdfast.ops import Program

__all__ = ["next_wait", "send_body"]

#: How much of bytes in memory is sent at a time, at first, and once the peer was seen to be quick:
#: a piece must not take long where it is slow.
LEAST = 1 << 18
MOST = 1 << 20
#: A peer is quick that took so many bytes, which is more than waits in the system's buffers, each
#: piece of them within so many seconds.
ENOUGH = 1 << 22
QUICK = 0.05


def next_wait(pool: ConnectionPool, timeout: Timeout, deadline: float) -> float:
    """Return until when to wait for the peer now."""
    return deadline if timeout.read is None else min(deadline, pool.clock() + timeout.read)


def send_body(
    connection: Connection, pool: ConnectionPool, body: Body, timeout: Timeout, deadline: float
) -> Program[None]:
    """Send a body; raises what the connection does, and SourceError."""
    upload = _Upload(connection, pool, timeout, deadline)
    if isinstance(body, BytesBody):
        if timeout.read is None:
            yield from connection.send(body.data, deadline)
        else:
            yield from _send_bytes(upload, memoryview(body.data))
        return
    pieces = yield from body.pieces()
    left = body.length
    while True:
        try:
            piece = yield from pieces.next(deadline)
        except SourceError as failed:
            if isinstance(failed.error, TimeoutError) and pool.clock() >= deadline:
                raise TimeoutError from failed.error
            raise
        if piece is None:
            break
        if left is not None:
            if len(piece) > left:
                raise InvalidRequest("the file to send has grown since the request was made")
            left -= len(piece)
        data = encode_chunk(piece) if left is None else piece
        if data:
            yield from upload.send(data)
        if left == 0:
            return
    if left is None:
        yield from connection.send(LAST_CHUNK, next_wait(pool, timeout, deadline))
    elif left:
        raise InvalidRequest("the file to send is shorter than when the request was made")


def _send_bytes(upload: _Upload, view: memoryview) -> Program[None]:
    quickly = 0
    while view:
        size = LEAST if quickly < ENOUGH else MOST
        took = yield from upload.send(view[:size])
        quickly = quickly + size if took < QUICK else 0
        view = view[size:]


class _Upload:
    """Sends pieces, each within its time, and all of them at the pace that is asked for."""

    def __init__(
        self, connection: Connection, pool: ConnectionPool, timeout: Timeout, deadline: float
    ) -> None:
        self._connection = connection
        self._pool = pool
        self._timeout = timeout
        self._deadline = deadline
        self._pace = Pace.of(timeout)
        self._waited = 0.0

    def send(self, data: ops.Buffer) -> Program[float]:
        """Send a piece; return how long it has taken, in seconds."""
        began = self._pool.clock()
        wait = next_wait(self._pool, self._timeout, self._deadline)
        if self._pace is None:
            yield from self._connection.send(data, wait)
            return self._pool.clock() - began
        until = began + self._pace.until - self._waited
        try:
            yield from self._connection.send(data, min(until, wait))
        except TimeoutError:
            if self._pool.clock() < until:
                raise
            raise TooSlow(
                f"it took the body slower than {self._timeout.min_bandwidth:g} bytes/s"
            ) from None
        took = self._pool.clock() - began
        self._waited += took
        self._pace.moved(len(data), self._waited)
        return took
