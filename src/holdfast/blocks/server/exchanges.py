"""One request and its answer, on ASGI: without the objects that frameworks make of them."""

from __future__ import annotations

import asyncio
import random
import re
from typing import TYPE_CHECKING

from holdfast.blocks.locators import BLOCK
from holdfast.blocks.server.access import token_of
from holdfast.blocks.server.parts import CHUNK
from holdfast.blocks.server.refusals import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from starlette.types import Receive, Scope, Send

    from holdfast.blocks.server.bulk import Bulk

__all__ = ["TEXT", "Disconnected", "Exchange", "length_of", "request_id_of"]

#: How long a body that nobody wants is read, in seconds: who sends it reads the answer only then.
LINGER = 5.0

#: The type of all answers that are text.
TEXT = (b"content-type", b"text/plain; charset=utf-8")
_CLOSE = (b"connection", b"close")


#: What is echoed of a request's id: nothing that a header or a log should not have.
_ID = re.compile(rb"[!-~]{1,200}")


def request_id_of(given: bytes) -> bytes:
    """Return the id of a request: the one that was given, or else a new one."""
    return given if _ID.fullmatch(given) else b"req-%020x" % random.getrandbits(80)


def length_of(value: bytes) -> int:
    """Return a Content-Length, of which the parser has checked that it has digits alone."""
    # Of some thousand digits, such as noughts, Python makes no number; no body is as long.
    return int(value) if len(value) <= 20 else 10**20


class Disconnected(Exception):
    """The client has gone."""


class Exchange:
    """A request that is being answered."""

    __slots__ = (
        "_body_over",
        "_bulk",
        "_clock",
        "_headers",
        "_lingers",
        "_receive",
        "_received",
        "_rest",
        "_send",
        "_start_bulk",
        "_transport",
        "expects",
        "expired",
        "length",
        "method",
        "path",
        "request_id",
        "started",
        "status",
        "task",
        "token",
        "waiting_since",
    )

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, clock: Callable[[], float]
    ) -> None:
        self._clock = clock
        #: Since when it waits for the client, None when it does not.
        self.waiting_since: float | None = None
        #: Whether it was given up, because that took too long.
        self.expired = False
        self.task = asyncio.current_task()
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self._receive = receive
        self._send = send
        # uvicorn says nothing when what is sent goes nowhere.
        self._transport: asyncio.Transport | None = scope.get("transport")
        self._headers: list[tuple[bytes, bytes]] = scope["headers"]
        #: The request's Content-Length; 0 without a body, None when nobody knows.
        self.length: int | None = 0
        #: Whether the client waits for our word before it sends the body.
        self.expects = False
        self.token = ""
        #: What the answer's status is, once it has begun.
        self.status = 0
        self.request_id = b""
        for name, value in self._headers:
            if name == b"content-length":
                self.length = length_of(value)
            elif name == b"transfer-encoding":
                self.length = None
            elif name == b"authorization":
                self.token = token_of(value)
            elif name == b"x-request-id":
                self.request_id = value
            elif name == b"expect":
                self.expects = value.lower() == b"100-continue"
        self.request_id = request_id_of(self.request_id)
        self._body_over = self.length == 0
        self._lingers = False  # whether it reads what nobody wants, in a time of its own
        self._received = 0  # bytes of the body
        self._rest: bytes | memoryview = b""  # those of them for which there was no room
        self._start_bulk: Callable[[int], Bulk | None] | None = scope.get("bulk")
        self._bulk: Bulk | None = None

    def header(self, name: bytes) -> str:
        """Return a header of the request, empty without one."""
        for one, value in self._headers:
            if one == name:
                return value.decode("latin-1")
        return ""

    async def piece(self) -> bytes:
        """Return the next piece of the body, empty at its end; raises Disconnected."""
        while not self._body_over:
            self._waits()
            try:
                message = await self._receive()
            finally:
                self.waiting_since = None
            if message["type"] != "http.request":
                raise Disconnected
            self._body_over = not message.get("more_body", False)
            data: bytes = message.get("body", b"")
            self._received += len(data)
            if data:
                return data
        return b""

    async def receive_into(self, room: Callable[[], memoryview]) -> int:
        """Receive the next bytes of the body into a buffer; return how many, 0 at its end.

        ``room`` gives the buffer, once there are bytes for it. Raises Disconnected.
        """
        if self._body_over and not self._rest:
            return 0
        if self._bulk is not None:
            self._waits()
            try:
                return await self._bulk.receive_into(room, self._waits)
            finally:
                self.waiting_since = None
                self._body_over = not self._bulk.left
        if not self._rest:
            self._rest = memoryview(await self.piece())
            if not self._rest:
                return 0
        view = room()
        size = min(len(view), len(self._rest))
        view[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        if not self._rest and self.length is not None and self._start_bulk is not None:
            left = self.length - self._received
            if left >= CHUNK:
                self._bulk = self._start_bulk(left)
        return size

    def _waits(self) -> None:
        if not self._lingers:
            self.waiting_since = self._clock()

    async def body(self, limit: int) -> bytes:
        """Return the whole body, refused beyond ``limit`` bytes; raises Disconnected."""
        pieces = []
        size = 0
        while piece := await self.piece():
            size += len(piece)
            if size > limit:
                raise Refused(413, f"the body has more than {limit} bytes")
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Send the head of the answer."""
        self.status = status
        await self._send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [(b"x-request-id", self.request_id), *headers],
            }
        )

    async def send(self, data: bytes | bytearray, *, more: bool = False) -> None:
        """Send a part of the answer's body; raises Disconnected when more is of no use."""
        if len(data) <= CHUNK:
            await self._send_chunk(data, more)
            return
        # Each chunk has its own wait: who reads slowly is not one who does not read.
        with memoryview(data) as view:
            for at in range(0, len(data), CHUNK):
                await self._send_chunk(view[at : at + CHUNK], more or at + CHUNK < len(data))

    async def _send_chunk(self, data: bytes | bytearray | memoryview, more: bool) -> None:
        if more and self._transport is not None and self._transport.is_closing():
            raise Disconnected
        self.waiting_since = self._clock()
        try:
            await self._send({"type": "http.response.body", "body": data, "more_body": more})
        finally:
            self.waiting_since = None

    @property
    def drained(self) -> bool:
        """Whether all that was sent has been taken by the system."""
        return self._transport is not None and not self._transport.get_write_buffer_size()

    async def answer(
        self, status: int, data: bytes, headers: Iterable[tuple[bytes, bytes]] = ()
    ) -> None:
        """Send an answer."""
        await self.start(status, [(b"content-length", b"%d" % len(data)), *headers])
        await self.send(data)

    async def refuse(self, error: Refused) -> None:
        """Send why the request is refused, as a line."""
        data = f"{error.text}\n".encode()
        headers = [(b"content-length", b"%d" % len(data)), TEXT]
        if self._body_over:
            await self.start(error.status, headers)
            await self.send(data)
            return
        # The rest of the body must not be taken for the next request.
        await self.start(error.status, [*headers, _CLOSE])
        await self.send(data, more=True)
        if not self.expects:
            await self._linger()
        await self.send(b"")

    async def _linger(self) -> None:
        """Read what still comes, lest the connection is reset before the answer is read."""
        left = 2 * BLOCK
        scrap = memoryview(bytearray(1 << 16))
        self._lingers = True
        try:
            async with asyncio.timeout(LINGER):
                while left > 0 and (size := await self.receive_into(lambda: scrap)):
                    left -= size
        except (TimeoutError, Disconnected):
            pass
