"""uvicorn's HTTP protocol, with a method that its parser does not know, and answers in one piece.

llhttp knows a list of methods, and TOUCH is not among them. So a request that begins with TOUCH is
shown to it as one with another method of which we make no use, and gets its own name back when its
head is complete.

A GET or a PUT that the application can answer at once is answered within the parser's callback,
without what uvicorn makes for each request: a task, an event, and messages.

llhttp takes a head of any length, for as long as its bytes come, and so do trailers and the
extensions of chunks. All that is no body has a limit here, and a head has to come in time.

uvicorn writes the head of an answer and its body one after the other. For a small block that is a
second system call here, and often a second one for the client, which costs as much as reading the
block; so a head waits for what is written next.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from holdfast.blocks.server.application import Application
from holdfast.blocks.server.bulk import Bulk

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BlockProtocol"]

TOUCH = b"TOUCH "
STAND_IN = b"REBIND "


#: The most bytes that are copied to be sent together with the head.
TOGETHER = 64 * 1024

#: The most bytes of a head, or of anything else between two pieces of a body.
HEAD = 64 * 1024

#: How long a head may take to come, from when it is begun or the connection made, in seconds.
HEAD_TIME = 60.0

_INTERIM = b"HTTP/1.1 1"


class _OnePiece:
    """A transport that keeps the head of an answer until something follows it."""

    __slots__ = ("_head", "_write", "is_closing", "transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.is_closing: Callable[[], bool] = transport.is_closing
        self._write: Callable[[Any], None] = transport.write
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)

    def write(self, data: bytes | memoryview) -> None:
        head = self._head
        if head:
            self._head = b""
            if len(data) <= TOGETHER:
                self._write(b"".join((head, data)))
                return
            self._write(head)
        elif data[:9] == b"HTTP/1.1 " and data[:10] != _INTERIM:
            self._head = bytes(data)
            return
        self._write(data)

    def flush(self) -> None:
        head, self._head = self._head, b""
        if head:
            self._write(head)

    def close(self) -> None:
        self.flush()
        self.transport.close()


class BlockProtocol(HttpToolsProtocol):
    """HTTP/1.1 with TOUCH."""

    transport: Any

    _between = True  # messages: the next bytes are those of a new one
    _touching = False
    _begun = b""  # bytes of which nobody knows yet whether they become TOUCH
    _answered = False  # whether the request in progress was answered at once
    _held: list[bytes] | None = None  # the body of one that may be, when all of it is there
    _moved = False  # whether what came last has completed a head, or brought some body
    _overhead = 0  # bytes since then
    _late: asyncio.TimerHandle | None = None  # when the head that is expected is too late

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin with a connection."""
        super().connection_made(transport)
        self.transport = _OnePiece(transport)
        # uvicorn may have put something of its own around it.
        if isinstance(self.app, Application):
            self._get = self.app.get  # type: ignore[method-assign]
            self._takes_put = self.app.takes_put  # type: ignore[method-assign]
            self._put = self.app.put  # type: ignore[method-assign]
        self._late = self.loop.call_later(HEAD_TIME, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """End with a connection."""
        self._in_time()
        super().connection_lost(exc)

    def _in_time(self) -> None:
        late, self._late = self._late, None
        if late is not None:
            late.cancel()

    def _give_up(self) -> None:
        self._late = None
        self.transport.close()

    def on_response_complete(self) -> None:
        """Send what nothing has followed: the answer to HEAD."""
        self.transport.flush()
        super().on_response_complete()

    def data_received(self, data: bytes) -> None:
        """Take bytes from the network."""
        if self._between:
            if self._begun:
                data, self._begun = self._begun + data, b""
            if data.startswith(TOUCH):
                self._touching = True
                data = STAND_IN + data[len(TOUCH) :]
            elif len(data) < len(TOUCH) and TOUCH.startswith(data):
                self._begun = data
                return
        self._moved = False
        super().data_received(data)
        if self._held is not None and not self.transport.is_closing():
            try:
                self._let_go()  # the rest of it is still to come
            except Exception:  # which the parser tells of when it happens in its callbacks
                self.send_400_response("Invalid HTTP request received.")
        if self._moved:
            self._overhead = 0
            return
        self._overhead += len(data)
        if self.transport.is_closing():
            return
        if self._overhead > HEAD:
            self.send_400_response("Too much that is no body.")
        elif not self._between and self._late is None and self._idle:
            self._late = self.loop.call_later(HEAD_TIME, self._give_up)

    @property
    def _idle(self) -> bool:
        """Whether no request is in progress but one whose head is to come."""
        cycle: Any = self.cycle
        return cycle is None or cycle.response_complete

    def on_message_begin(self) -> None:
        """Note that what comes belongs to a message."""
        self._between = False
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Answer at once, or begin to; give the method its name back."""
        self._moved = True
        self._in_time()
        if self._plain:
            method = self.parser.get_method()
            if method == b"GET":
                answer = self._get(self.url, self.headers)
                if answer is not None:
                    self._answered = True
                    self._answer(answer)
                    return
            elif method == b"PUT" and self._takes_put(self.headers):
                self._held = []
                return
        self._begin()

    def _begin(self) -> None:
        """Give a request to the application."""
        self._unset_keepalive_if_required()  # which the answer before has set
        super().on_headers_complete()
        self.scope["transport"] = self.transport  # type: ignore[typeddict-unknown-key]
        self.scope["bulk"] = self.bulk  # type: ignore[typeddict-unknown-key]
        if self._touching:
            self._touching = False
            self.scope["method"] = "TOUCH"

    @property
    def _plain(self) -> bool:
        """Whether nothing is in an answer's way: other answers, a slow reader, a limit."""
        return (
            self._idle
            and not self.pipeline
            and not self.flow.write_paused
            and not self.transport.is_closing()
            and self.limit_concurrency is None
            and self.parser.get_http_version() == "1.1"
        )

    def _answer(self, answer: bytes) -> None:
        self.transport.transport.write(answer)  # which is in one piece
        self.on_response_complete()

    def _let_go(self) -> None:
        """Give a request to the application, with what has come of its body."""
        held, self._held = self._held, None
        assert held is not None
        self._begin()
        if held:
            self.on_body(b"".join(held))

    def _get(self, path: bytes, headers: list[tuple[bytes, bytes]]) -> bytes | None:
        """Return the whole answer to a GET that needs no wait."""
        return None

    def _takes_put(self, headers: list[tuple[bytes, bytes]]) -> bool:
        """Return whether `_put` is worth a try."""
        return False

    def _put(self, path: bytes, headers: list[tuple[bytes, bytes]], data: bytes) -> bytes | None:
        """Return the whole answer to a PUT that needs no wait."""
        return None

    def on_body(self, body: bytes) -> None:
        """Hand over a piece of the body, without copying it when it is the only one that waits."""
        self._moved = True
        if self._held is not None:
            self._held.append(body)
            return
        cycle: Any = self.cycle
        if cycle.body or cycle.response_complete:
            super().on_body(body)
            return
        cycle.body = body
        if len(body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()

    def bulk(self, left: int) -> Bulk | None:
        """Take the rest of a body past the parser, so many bytes; None while some waits here."""
        if self.cycle.body or self.transport.is_closing():
            return None
        self.flow.pause_reading()
        return Bulk(self, self.transport.transport, left)

    def body_over(self) -> None:
        """Go on after a body that went past the parser."""
        self.parser = httptools.HttpRequestParser(self)  # this one is still in the middle of it
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn has it
        self.on_message_complete()
        self.flow.resume_reading()

    def on_message_complete(self) -> None:
        """Note that the next bytes begin a message, if they come by themselves."""
        self._between = self._moved = True
        if self._answered:
            self._answered = False
            return
        if self._held is not None:
            answer = self._put(self.url, self.headers, b"".join(self._held))
            if answer is not None:
                self._held = None
                self._answer(answer)
                return
            self._let_go()
        super().on_message_complete()
