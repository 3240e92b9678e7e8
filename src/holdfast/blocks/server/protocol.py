"""uvicorn's HTTP protocol, with a method that its parser does not know, and answers in one piece.

llhttp knows a list of methods, and TOUCH is not among them. So a request that begins with TOUCH is
shown to it as one with another method of which we make no use, and gets its own name back when its
head is complete.

uvicorn writes the head of an answer and its body one after the other. For a small block that is a
second system call here, and often a second one for the client, which costs as much as reading the
block; so a head waits for what is written next.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BlockProtocol"]

TOUCH = b"TOUCH "
STAND_IN = b"REBIND "


#: The most bytes that are copied to be sent together with the head.
TOGETHER = 64 * 1024

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

    def write(self, data: bytes) -> None:
        head = self._head
        if head:
            self._head = b""
            if len(data) <= TOGETHER:
                self._write(head + data)
                return
            self._write(head)
        elif data.startswith(b"HTTP/1.1 ") and not data.startswith(_INTERIM):
            self._head = data
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

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin with a connection."""
        super().connection_made(transport)
        self.transport = _OnePiece(transport)

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
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Note that what comes belongs to a message."""
        self._between = False
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Give the method its name back."""
        super().on_headers_complete()
        if self._touching:
            self._touching = False
            self.scope["method"] = "TOUCH"

    def on_body(self, body: bytes) -> None:
        """Hand over a piece of the body, without copying it when it is the only one that waits."""
        cycle: Any = self.cycle
        if cycle.body or cycle.response_complete:
            super().on_body(body)
            return
        cycle.body = body
        if len(body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_message_complete(self) -> None:
        """Note that the next bytes begin a message, if they come by themselves."""
        self._between = True
        super().on_message_complete()
