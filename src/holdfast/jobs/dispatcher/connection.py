"""A connection to a host: TLS around lines, one call at a time.

TLS is done here on memory, not by the event loop: its own way can neither resume a session nor
hand a request out together with the last message of the handshake.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Protocol, cast

from holdfast.jobs.dispatcher.tls import UnknownCertificate
from holdfast.jobs.keeping import PROTOCOL
from holdfast.wire.jsonlines import LineParser, LineTooLong

if TYPE_CHECKING:
    from holdfast.jobs.dispatcher.hosts import Hosts
    from holdfast.jobs.dispatcher.registry import Host

__all__ = ["Garbage", "HostConnection", "Owner"]

_PIECE = 1 << 18


class Garbage(Exception):
    """What the host sent is not what a host may send."""


class Owner(Protocol):
    """Whom a connection belongs to."""

    def received(self, lines: list[bytes]) -> None:
        """Take complete lines."""

    def lost(self, error: Exception | None) -> None:
        """Take the end of the connection, unless the owner has closed it; None: it was closed."""


class HostConnection(asyncio.Protocol):
    """Send a request as soon as the handshake is done, and hand its owner what comes.

    ``limit`` is the longest line, in bytes.
    """

    def __init__(self, hosts: Hosts, host: Host, limit: int) -> None:
        self._owner: Owner | None = None
        self._hosts = hosts
        self.host = host
        self._request = b""
        self._parser = LineParser(limit)
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = hosts.tls.wrap(host, self._incoming, self._outgoing)
        self._transport: asyncio.Transport | None = None
        #: Whether the handshake is done.
        self.secure = False
        self._reusable = False
        self._kept = False
        self._paused = False

    def call(self, owner: Owner, request: bytes) -> None:
        """Belong to an owner, and send its request now or when that can be done."""
        self._owner = owner
        if self.secure:
            self._tls.write(request)
            self._flush()
        else:
            self._request = request

    def close(self, owner: Owner) -> None:
        """Close the connection if it is still this owner's, who hears no more of it."""
        if self._owner is owner:
            self.drop()

    def release(self) -> None:
        """Leave the owner, whose call is over, to be of use for another one."""
        self._owner = None
        left = self._parser.held or self._tls.pending() or self._incoming.pending
        if self._reusable and not (left or self._paused):
            self._hosts.keep(self)
        else:
            self.drop()

    def drop(self) -> None:
        """Close the connection, which is nobody's."""
        self._owner = None
        if self._transport is not None:
            self._transport.abort()

    def pause(self) -> None:
        """Take nothing more from the host for now."""
        if not self._paused:
            self._paused = True
            assert self._transport is not None
            self._transport.pause_reading()

    def resume(self) -> None:
        """Take what the host sends again."""
        if self._paused and self._owner is not None:
            self._paused = False
            assert self._transport is not None
            self._transport.resume_reading()

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake."""
        self._transport = cast("asyncio.Transport", transport)
        self._hosts.prepare(transport.get_extra_info("socket"))
        if self._owner is None:
            self._transport.abort()
        else:
            self._handshake()

    def data_received(self, data: bytes) -> None:
        """Decrypt what came and hand it on."""
        if self._owner is None:  # nothing was asked
            self._lost(None)
            return
        self._incoming.write(data)
        if self.secure or self._handshake():
            self._read()

    def eof_received(self) -> bool:
        """Take the end of what the host sends as the end of the connection."""
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """Tell the owner."""
        self._lost(error)

    def _handshake(self) -> bool:
        try:
            self._tls.do_handshake()
            self._hosts.tls.check(self._tls)
        except ssl.SSLWantReadError:
            self._flush()
            return False
        except (ssl.SSLError, UnknownCertificate) as error:
            self._hosts.tls.forget(self.host)
            self._flush()
            known = isinstance(error, (ssl.SSLCertVerificationError, UnknownCertificate))
            self._lost(error if known else Garbage(f"TLS: {_reason(error)}"))
            return False
        self.secure = True
        self._reusable = self._tls.selected_alpn_protocol() == PROTOCOL
        self._tls.write(self._request)
        self._request = b""
        self._flush()
        return True

    def _flush(self) -> None:
        assert self._transport is not None
        if self._outgoing.pending:
            self._transport.write(self._outgoing.read())

    def _read(self) -> None:
        """Hand on all lines that are there; the owner may close the connection at each."""
        while self._owner is not None:
            try:
                data = self._tls.read(_PIECE)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                data = b""
            except ssl.SSLError as error:
                self._lost(Garbage(f"TLS: {_reason(error)}"))
                return
            if not data:
                self._lost(None)
                return
            try:
                lines = self._parser.feed(data)
            except LineTooLong as error:
                if error.lines:
                    self._owner.received(error.lines)
                self._lost(Garbage(str(error)))
                return
            if lines:
                if not self._kept:
                    self._kept = True
                    self._hosts.tls.keep(self.host, self._tls)
                self._owner.received(lines)
        if self._outgoing.pending:  # an answer of TLS itself, such as to an update of keys
            self._flush()

    def _lost(self, error: Exception | None) -> None:
        owner, self._owner = self._owner, None
        self._reusable = False
        if owner is not None:
            owner.lost(error)
        else:
            self._hosts.lost(self)
        if self._transport is not None:
            self._transport.abort()


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    return reason.lower().replace("_", " ") if reason else str(error)
