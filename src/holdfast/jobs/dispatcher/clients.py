"""One connection of a client, its requests one after the other."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any, cast

from holdfast.jobs.dispatcher.answers import answer, answer_at_once, error_line
from holdfast.jobs.dispatcher.store import StoreError
from holdfast.jobs.fields import Invalid
from holdfast.jobs.messages import REQUEST_LIMIT
from holdfast.jobs.requests import FollowRequest, ReadRequest, ResultRequest, read_request
from holdfast.wire.jsonlines import LineParser, LineTooLong

if TYPE_CHECKING:
    from holdfast.jobs.dispatcher.answers import Reply
    from holdfast.jobs.dispatcher.port import ClientPort
    from holdfast.jobs.dispatcher.security import Permit
    from holdfast.jobs.dispatcher.streaming import ResultWaiter, Stream
    from holdfast.jobs.requests import Request

__all__ = ["ClientConnection"]

log = logging.getLogger(__name__)

#: How many seconds a client has to read why its connection will be closed.
LINGER = 5.0


class ClientConnection(asyncio.Protocol):
    """Reads requests, answers each before the next."""

    # There may be thousands of them that wait for something.
    __slots__ = (
        "_activity",
        "_advancing",
        "_busy",
        "_certificate",
        "_closing",
        "_held",
        "_lines",
        "_parser",
        "_peer",
        "_port",
        "_refusal",
        "_transport",
        "paused",
    )

    def __init__(self, port: ClientPort) -> None:
        self._port = port
        self._transport: asyncio.Transport | None = None
        self._parser = LineParser(REQUEST_LIMIT)
        self._lines: deque[bytes] | None = None
        #: Whether the client's buffer is full.
        self.paused = False
        # A request is being answered; if that takes more than a look, by the activity.
        self._busy = False
        self._activity: ResultWaiter | Stream | None = None
        self._advancing = False
        # The client sends no more, or is not listened to any more.
        self._closing = False
        self._refusal = b""
        self._held = False
        self._peer = ""
        self._certificate: dict[str, Any] | None = None

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection."""
        self._transport = cast("asyncio.Transport", transport)
        if not self._port.enter(self):
            self._transport.abort()
            self._transport = None
            return
        peer = transport.get_extra_info("peername")
        self._peer = f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "a local client"
        self._certificate = transport.get_extra_info("peercert")
        self._port.rests(self)

    def data_received(self, data: bytes) -> None:
        """Take requests."""
        if self._closing or self._transport is None:
            return
        try:
            lines = self._parser.feed(data)
        except LineTooLong as error:
            lines = error.lines
            self._closing = True
            self._refusal = error_line("parse_error", str(error))
        if lines:
            if self._lines is None:
                self._lines = deque(lines)
            else:
                self._lines += lines
        self._advance()

    def eof_received(self) -> bool:
        """Answer what was asked, but wait for no job: whoever asked has gone."""
        if self._transport is None:
            return False
        self._closing = True
        if self._activity is not None and self._activity.waits:
            self._transport.close()
        self._advance()
        # TLS cannot be closed on one side.
        encrypted = self._transport.get_extra_info("ssl_object") is not None
        return not encrypted and not self._transport.is_closing()

    def connection_lost(self, error: Exception | None) -> None:
        """Forget the client; what it has submitted stays."""
        self._port.leave(self)
        self._transport = None
        self._lines = None
        if self._activity is not None:
            self._activity.close()
            self._activity = None

    def pause_writing(self) -> None:
        """Take notice that the client's buffer is full."""
        self.paused = True

    def resume_writing(self) -> None:
        """Send more."""
        self.paused = False
        if self._activity is not None:
            self._activity.resumed()
        else:
            self._advance()

    # Called by what answers.

    def write(self, data: bytes) -> None:
        """Send something."""
        if self._transport is not None:
            self._transport.write(data)

    def done(self) -> None:
        """Go on to the next request."""
        self._busy = False
        self._activity = None
        self._advance()

    def break_off(self) -> None:
        """Close the connection when what was written is sent, and answer nothing more."""
        self._closing = self._busy = True
        self._activity = None
        self._lines = None
        self.close()

    def close(self) -> None:
        """Close the connection when what was written is sent."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close the connection now."""
        if self._transport is not None:
            self._transport.abort()

    def expire(self) -> None:
        """Close a connection that has rested too long; what was written gets as much time."""
        if self._transport is None or self._transport.is_closing():
            self.abort()
            return
        self.close()
        self._port.rests(self)

    def _advance(self) -> None:
        """Answer requests for as long as none has to wait."""
        if self._advancing or self._transport is None:
            return
        self._advancing = True
        try:
            while self._lines and not self._busy and not self.paused:
                self._handle(self._lines.popleft())
        finally:
            self._advancing = False
        if self._closing and not self._lines and not self._busy:
            self._finish()
        else:
            self._hold(bool(self._lines))
        if not self._busy and not self._lines:
            self._port.rests(self)

    def _hold(self, hold: bool) -> None:
        """Take no more from a client as long as requests wait that it has sent already."""
        if hold != self._held and not self._closing:
            self._held = hold
            assert self._transport is not None
            if hold:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def _finish(self) -> None:
        """Close the connection of a client that can ask no more."""
        transport = self._transport
        assert transport is not None
        if not self._refusal:
            transport.close()
        elif not transport.is_closing():
            # Closing while the client still sends would take the answer from it.
            transport.write(self._refusal)
            self._refusal = b""
            asyncio.get_running_loop().call_later(LINGER, transport.abort)
            if transport.can_write_eof():
                transport.write_eof()
            if self._held:
                self._held = False
                transport.resume_reading()

    # Answering.

    def _handle(self, line: bytes) -> None:
        port = self._port
        port.works(self)
        try:
            request = read_request(line)
            permit = port.security.permit(request, self._peer, self._certificate)
            reply = answer_at_once(port.dispatcher, self, request, permit)
        except Invalid as error:
            self.write(error_line(error.type, error.message))
            return
        if reply is not None:
            self._begin(reply)
            return
        self._busy = True
        task = asyncio.get_running_loop().create_task(self._answer(request, permit))
        port.tasks.add(task)
        task.add_done_callback(port.tasks.discard)

    async def _answer(self, request: Request, permit: Permit) -> None:
        reply: Reply
        try:
            reply = await answer(self._port.dispatcher, self, request, permit)
        except Invalid as error:
            reply = error_line(error.type, error.message)
        except StoreError as error:
            if isinstance(request, (ResultRequest, FollowRequest, ReadRequest)):
                # An error would look like that of the job.
                log.warning("a question about job %r is not answered: %s", request.job_id, error)
                self.break_off()
                return
            reply = error_line("os_error", str(error))
        except Exception:
            # The request may have secrets in its arguments.
            log.exception("a %s from %s failed", type(request).__name__, self._peer)
            if isinstance(request, (ResultRequest, FollowRequest, ReadRequest)):
                self.break_off()  # as above
                return
            reply = error_line("system_error", "the dispatcher failed; its log says how")
        self._busy = False
        self._begin(reply)
        self._advance()

    def _begin(self, reply: Reply) -> None:
        if isinstance(reply, bytes):
            self.write(reply)
        elif self._transport is not None:
            if self._closing and reply.waits and not self._refusal:
                self._transport.close()
                return
            self._busy = True
            self._activity = reply
            reply.begin()
