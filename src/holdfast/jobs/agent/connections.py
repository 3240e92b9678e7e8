"""One connection: a request, checked in the order in which it can be wrong, and then a call.

A caller that asked for it may send another request when the call is over: see
`holdfast.jobs.keeping`.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, cast

from holdfast.jobs.agent.authentication import Busy
from holdfast.jobs.agent.calls import Call
from holdfast.jobs.keeping import PROTOCOL
from holdfast.jobs.messages import HostRequest, Invalid, host_error, read_host_request
from holdfast.wire.jsonlines import LineParser, LineTooLong, encode

if TYPE_CHECKING:
    from holdfast.jobs.agent.service import Service

__all__ = ["Connection"]

logger = logging.getLogger("holdfast.jobs.agent.calls")


class Connection(asyncio.Protocol):
    """What the event loop tells of a connection. The service knows all of them."""

    __slots__ = (
        "_call",
        "_counted",
        "_kept",
        "_number",
        "_parser",
        "_service",
        "_transport",
        "_who",
    )

    def __init__(self, service: Service) -> None:
        self._service = service
        self._transport: asyncio.Transport | None = None
        self._parser: LineParser | None = LineParser(service.config.limits.request_bytes)
        self._call: Call | None = None
        self._counted = False
        self._kept = False
        self._number = 0
        self._who = "?"

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the request."""
        self._transport = cast("asyncio.Transport", transport)
        tls = transport.get_extra_info("ssl_object")
        self._kept = tls is not None and tls.selected_alpn_protocol() == PROTOCOL
        self._service.arrived(self)

    def data_received(self, data: bytes) -> None:
        """Take the request; whatever else comes is of no interest."""
        if self._parser is None:
            self._kept = False
            return
        try:
            lines = self._parser.feed(data)
        except LineTooLong as error:
            self.refuse("invalid_request", str(error))
            return
        if lines:
            if self._parser.held or len(lines) > 1:
                self._kept = False
            self._parser = None
            self._number = self._service.requested(self)
            self._request(lines[0])
        else:
            self._service.arriving(self)

    def eof_received(self) -> None:
        """Cancel the call: who does not listen any more closes like this."""
        self._cancel()

    def connection_lost(self, error: Exception | None) -> None:
        """Cancel the call, if it still runs."""
        self._transport = None
        self._cancel()
        self._service.left(self)

    def _cancel(self) -> None:
        self._parser = None
        if self._call is not None and not self._call.over:
            self._service.processes.leave(self._call)
            self._call.cancel()
        self._release()

    def pause_writing(self) -> None:
        """Stop the process, because the caller is slower."""
        if self._call is not None and not self._call.over:
            self._call.pause()

    def resume_writing(self) -> None:
        """Go on."""
        if self._call is not None and not self._call.over:
            self._call.resume()

    # The request.

    def _request(self, line: bytes) -> None:
        try:
            request = read_host_request(line)
        except Invalid as invalid:
            self.refuse(invalid.type, invalid.message)
            return
        del line
        self._who = f"call {self._number}: {request.user!r} from {self._peer()}"
        try:
            allowed = self._service.authentication.check(request.user, request.password)
        except Busy as busy:
            self.refuse("system_error", str(busy))
            return
        if isinstance(allowed, bool):
            self._authenticated(request, allowed)
        else:
            allowed.add_done_callback(lambda allowed: self._hashed(request, allowed))

    def _hashed(self, request: HostRequest, allowed: asyncio.Future[bool]) -> None:
        if self._transport is None or self._transport.is_closing():
            allowed.exception()  # nobody asks any more
        elif allowed.exception() is not None:
            self.refuse("system_error", str(allowed.exception()))
        else:
            self._authenticated(request, allowed.result())

    def _authenticated(self, request: HostRequest, allowed: bool) -> None:
        service = self._service
        if not allowed:
            self.refuse("auth_error", "wrong user or password")
            return
        limits = service.config.limits
        if service.closing:
            self.refuse("shutdown", "the daemon is being stopped")
        elif service.processes.broken is not None:
            self.refuse("procedure_loading_error", service.processes.broken)
        elif (offered := service.processes.offered.get(request.procedure)) is None:
            self.refuse("no_such_procedure", f"there is no procedure {request.procedure!r}")
        elif service.calls >= limits.calls:
            self.refuse("system_error", f"{service.calls} calls run already: try again later")
        else:
            service.calls += 1
            self._counted = True
            self._call = Call(
                self,
                self._who,
                request.procedure,
                request.arguments,
                offered,
                limits.grace,
                limits.reply_bytes,
            )
            service.processes.take(self._call)

    def _peer(self) -> str:
        peer = self._transport and self._transport.get_extra_info("peername")
        return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "?"

    # What is sent.

    def write(self, data: bytes) -> None:
        """Send lines."""
        if self._transport is not None:
            self._transport.write(data)

    def over(self, again: bool = False) -> None:
        """Send what is left; then close, or wait for another request if that may be."""
        self._release()
        if again and self._kept and not self._service.closing:
            self._call = None
            self._parser = LineParser(self._service.config.limits.request_bytes)
            self._service.waiting(self)
        else:
            self.close()

    def close(self) -> None:
        """Close when everything is sent."""
        if self._transport is not None:
            self._transport.close()

    def refuse(self, type: str, message: str) -> None:
        """Send an error instead of a call, or in the middle of it, and close."""
        self._parser = None
        self._service.requested(self)
        if self._call is not None:
            if not self._call.over:
                self._service.processes.leave(self._call)
                self._call.refuse(type, message)
            return
        logger.info("%s, %s: %s", self._who, type, message)
        self.write(encode(host_error(type, message)))
        self.over()

    def abort(self) -> None:
        """Close without sending what is left."""
        if self._transport is not None:
            self._transport.abort()

    def _release(self) -> None:
        """Make room for another call, once."""
        if self._counted:
            self._counted = False
            self._service.calls -= 1
