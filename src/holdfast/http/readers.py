"""The body of a response, read whole, piece by piece, or into a given buffer."""

from __future__ import annotations

import io
from math import inf
from typing import TYPE_CHECKING, Any

from holdfast.errors import HoldfastError, NetworkError, TooLarge, TooSlow, Truncated
from holdfast.http.encodings import decoder
from holdfast.http.failures import translated
from holdfast.http.pace import Pace
from holdfast.wire.http1 import LENGTH, WireError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from holdfast.http.connections import Connection
    from holdfast.http.pools import ConnectionPool
    from holdfast.http.requests import Request
    from holdfast.ops import Program
    from holdfast.wire.http1 import Message

__all__ = ["BodyReader", "NoBody"]

#: Seconds before the least bandwidth is asked for.
GRACE = 1.0

#: Bytes asked for at once: more would have the system map new pages for each.
PIECE = 1 << 16


class NoBody:
    """The reader of a body that there is none of: of a response that no host has sent."""

    deadline = inf

    def __init__(self) -> None:
        self.on_close: list[Callable[[Exception | None], None]] = []

    def read(self) -> Program[bytes]:
        """Return b"", the end."""
        self.close()
        yield from ()
        return b""

    read_all = read

    def close(self) -> None:
        """Tell those who wait for the end."""
        on_close, self.on_close = self.on_close, []
        for tell in on_close:
            tell(None)


class BodyReader:
    """Reads one body and then gives the connection back; owns it until then.

    `read` is a program for the next piece. `close` may be called at any time: a connection whose
    body was not read to its end is closed. ``on_close`` functions are called once, with the
    error that ended the reading or None. ``pipelined``: answers to other requests follow on the
    same connection, which stays with the pipeline.
    """

    def __init__(
        self,
        connection: Connection,
        pool: ConnectionPool,
        request: Request,
        message: Message,
        deadline: float,
        reusable: bool,
        *,
        pipelined: bool = False,
    ) -> None:
        limit = request.max_body
        if limit is not None and message.length > limit and not connection.parser.complete:
            raise TooLarge(f"the body is {message.length} bytes long, more than {limit}")
        self._decoder = decoder(message.encoding, limit) if message.encoding else None
        self._decoded: Iterator[bytes] = iter(())
        # Nothing can be raised from here on: now the connection is the reader's.
        self._connection: Connection | None = connection
        self._pool = pool
        self._request = request
        self._timeout = request.timeout
        self._message = message
        self._parser = connection.parser
        self._reusable = reusable
        self._pipelined = pipelined
        self._received = 0
        self._complete = False
        self._waited = 0.0  # seconds, for the least bandwidth
        self._pace = None if request.timeout.interval is None else Pace.of(request.timeout)
        self._past = False  # whether a part was received past the parser
        # Without a limit for each wait, a streamed body has the total for it.
        timeout = request.timeout
        self._wait = timeout.total if request.stream and timeout.read is None else timeout.read
        self.deadline = deadline
        self.on_close: list[Callable[[Exception | None], None]] = []

    def read(self) -> Program[bytes]:
        """Return the next decoded piece of the body, b"" at its end."""
        while True:
            try:
                # One piece at a time, for a small one may decode to very many.
                for decoded in self._decoded:
                    return decoded
                data = yield from self._piece()
                if self._decoder is None:
                    return data
                if not data:
                    self._decoder.finish()
                    return b""
                self._decoded = self._decoder.decode(data)
            except (OSError, WireError, HoldfastError) as error:
                raise self._failed(error) from error

    def read_all(self, into: Any = None) -> Program[Any]:
        """Return the whole body; of ``into``, a writable buffer, the part that was filled."""
        try:
            if into is not None:
                return (yield from self._read_into(memoryview(into).cast("B")))
            if self._direct and not self._parser.complete:
                return (yield from self._read_known())
            pieces = []
            while data := (yield from self.read()):
                pieces.append(data)
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)
        except (OSError, WireError, HoldfastError) as error:
            raise self._failed(error) from error
        finally:
            self.close()

    def read_some(self, view: memoryview, most: int | None = None) -> Program[int]:
        """Receive the next part of the body into a buffer; returns how many bytes, 0 at the end.

        The buffer has room for all that is left of the body. ``most``: bytes that are received at
        a time, as far as that can be chosen.
        """
        try:
            return (yield from self._fill(view, len(view), most))
        except (OSError, WireError, HoldfastError) as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> HoldfastError:
        """Give the connection up; returns the error that tells why."""
        failure = translated(error, self._pool, self._timeout, self.deadline)
        self.close(failure)
        return failure

    @property
    def _direct(self) -> bool:
        """Whether the body can be received past the parser."""
        return self._decoder is None and self._message.framing == LENGTH and not self._pipelined

    def _read_into(self, view: memoryview) -> Program[memoryview]:
        filled = 0
        while size := (yield from self._fill(view[filled:], len(view))):
            filled += size
        return view[:filled]

    def _fill(self, view: memoryview, room: int, most: int | None = None) -> Program[int]:
        """Receive a part of the body; ``room`` is how long the buffer was at first."""
        if self._direct:
            if self._message.length - self._received > len(view):
                raise TooLarge(f"the body is {self._message.length} bytes long, the buffer {room}")
            if not self._parser.pieces and not self._parser.complete:
                return (yield from self._receive_into(view[:most]))
        data = yield from self.read()
        if len(data) > len(view):
            raise TooLarge(f"the body does not fit into {room} bytes")
        view[: len(data)] = data
        return len(data)

    def _read_known(self) -> Program[bytes]:
        """Receive a body of known length straight into the bytes that are returned.

        The promised length is not believed at once: the space doubles as the body comes in.
        """
        length = self._message.length - self._received
        whole = io.BytesIO()
        while self._parser.pieces:
            whole.write((yield from self.read()))
        filled = whole.tell()
        while filled < length:
            whole.seek(min(length, max(filled * 2, PIECE)) - 1)
            whole.write(b"\0")
            with whole.getbuffer() as view:
                while filled < len(view):
                    with view[filled:] as rest:
                        filled += yield from self._receive_into(rest)
        yield from self.read()  # the end, which gives the connection back
        return whole.getvalue()  # no copy: BytesIO shares its bytes

    def _piece(self) -> Program[bytes]:
        message = self._message
        parser = self._parser
        while True:
            connection = self._connection
            if connection is None:
                if self._complete:
                    return b""
                raise NetworkError("the response was closed before its end")
            if parser.pieces:
                data = parser.pieces.pop(0)
                self._count(len(data))
                return data
            if parser.complete:
                self._finish()
                return b""
            if message.framing == LENGTH and not self._pipelined:
                left = message.length - self._received
                data = yield from self._receive(connection, min(left, PIECE))
                if len(data) > left:
                    parser.surplus = True
                    data = data[:left]
                self._past = True
                self._count(len(data))
                if self._received == message.length:
                    parser.skip_body()
                return data
            data = yield from self._receive(connection, PIECE)
            if data:
                parser.feed(data)

    def _receive_into(self, view: memoryview) -> Program[int]:
        """Receive a part of a body of known length past the parser."""
        connection = self._connection
        if connection is None:
            raise NetworkError("the response was closed before its end")
        left = self._message.length - self._received
        began = self._pool.clock()
        try:
            # Released at once: what exports its memory cannot grow.
            with view[:left] as part:
                size: int = yield from connection.receive_into(part, self._until(began))
        except TimeoutError:
            raise self._too_late(began) from None
        if not size:
            raise self._truncated()
        self._waited += self._pool.clock() - began
        self._past = True
        self._count(size)
        if self._received == self._message.length:
            self._parser.skip_body()
        return size

    def _receive(self, connection: Connection, limit: int) -> Program[bytes]:
        began = self._pool.clock()
        try:
            data = yield from connection.receive(self._until(began), limit)
        except TimeoutError:
            raise self._too_late(began) from None
        if not data and not self._parser.end():
            raise self._truncated()
        self._waited += self._pool.clock() - began
        return data

    def _until(self, now: float) -> float:
        """Return when a wait that begins now ends."""
        until = self.deadline
        if self._wait is not None:
            until = min(until, now + self._wait)
        rate = self._timeout.min_bandwidth
        if self._pace is not None:
            until = min(until, now + self._pace.until - self._waited)
        elif rate is not None:
            # Only waiting counts: the time between reads is the reader's own.
            until = min(until, now + GRACE + self._received / rate - self._waited)
        return until

    def _too_late(self, began: float) -> Exception:
        """Return the error for the limit that ended a wait."""
        now = self._pool.clock()
        waited = self._waited + now - began
        rate = self._timeout.min_bandwidth
        if now >= self.deadline or rate is None:
            return TimeoutError()
        enough = GRACE + self._received / rate if self._pace is None else self._pace.until
        if waited < enough:
            return TimeoutError()
        return TooSlow(
            f"the body came in slower than {rate:g} bytes/s "
            f"({self._received} bytes in {waited:.3g} s)"
        )

    def _truncated(self) -> Truncated:
        promised = f" of {self._message.length}" if self._message.framing == LENGTH else ""
        return Truncated(
            f"it closed the connection in the middle of the body ({self._received}{promised} bytes)"
        )

    def _count(self, size: int) -> None:
        self._received += size
        if self._pace is not None:
            self._pace.moved(size, self._waited)
        limit = self._request.max_body
        if limit is not None and self._received > limit:
            raise TooLarge(f"the body is longer than {limit} bytes")

    def _finish(self) -> None:
        connection, self._connection = self._connection, None
        self._complete = True
        if connection is None or self._pipelined:
            return
        if (
            self._reusable
            and self._message.keep_alive
            and not self._parser.surplus
            # What follows a body that went past the parser, nobody has seen yet.
            and (not self._past or connection.usable(inf))
        ):
            self._pool.give(connection)
        else:
            connection.close()
        self._tell(None)

    def _tell(self, error: Exception | None) -> None:
        listeners, self.on_close = self.on_close, []
        for listener in listeners:
            listener(error)

    def close(self, error: Exception | None = None) -> None:
        """Give the connection back, or up when the body was not received to its end."""
        if self._parser.complete and error is None:
            self._finish()
            return
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
            self._tell(error)
