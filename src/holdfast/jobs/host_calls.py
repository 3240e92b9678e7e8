"""One call of a procedure on a host daemon, as programs."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from holdfast.errors import HoldfastError, ProtocolError
from holdfast.http.failures import translated
from holdfast.http.limits import Timeout
from holdfast.http.pools import ConnectionPool, Transport
from holdfast.jobs.asking import arguments_of, value_of
from holdfast.jobs.errors import InvalidCall
from holdfast.jobs.exchanges import failed, remote_error
from holdfast.jobs.fields import Invalid
from holdfast.jobs.lines import Lines
from holdfast.jobs.messages import (
    End,
    HostPacket,
    HostRequest,
    parse_acknowledgement,
    parse_host_reply,
    parse_host_request,
)
from holdfast.jobs.places import CAFile, place, seconds
from holdfast.jobs.results import Result
from holdfast.policy.deadline import inherited
from holdfast.wire.jsonlines import WireError, decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.http.tls import CertTypes
    from holdfast.jobs.errors import CommunicationError
    from holdfast.ops import Program

__all__ = ["HostCall", "HostCore"]


class HostCore:
    """A host daemon, and how it is called; see `HarpServer`."""

    def __init__(
        self,
        host: str,
        user: str,
        password: str,
        port: int,
        ca_file: CAFile,
        cert: CertTypes,
        connect_timeout: float | None,
        reply_timeout: float | None,
        timeout: float | None,
        max_line: int,
    ) -> None:
        for name, value in (("user", user), ("password", password)):
            given: object = value
            if not isinstance(given, str):
                raise InvalidCall(f"{name} must be a string")
        self.user = user
        self.password = password
        verify = False if ca_file is None else ca_file
        transport = Transport(verify=verify, cert=cert, max_idle=0)
        self.pool = ConnectionPool(place(host, port, True), transport)
        self.reply_timeout = seconds("reply_timeout", reply_timeout)
        self.timeout = seconds("timeout", timeout)
        self.connect_timeout = seconds("connect_timeout", connect_timeout)
        self.max_line = max_line

    @property
    def clock(self) -> Callable[[], float]:
        """The clock of all limits."""
        return self.pool.clock

    def call(
        self, procedure: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Program[Any | HostCall]:
        """Call a procedure; returns its result, or the call where it streams."""
        arguments = arguments_of(args, kwargs)
        request = HostRequest(procedure, arguments, self.user, self.password)
        try:
            line = encode(request.to_message())
            parse_host_request(decode(line))
        except (WireError, Invalid) as error:
            what = getattr(error, "message", None) or str(error)
            raise InvalidCall(f"call {procedure}: {what}") from None
        call = HostCall(self, procedure)
        streams = False
        try:
            streams = yield from call.begin(line)
            if streams:
                return call
            result = yield from call.next()
            assert isinstance(result, Result)
            return result.value
        finally:
            if not streams:
                call.close()


class HostCall:
    """One call: closing it before its end cancels it."""

    def __init__(self, core: HostCore, procedure: str) -> None:
        self._core = core
        self._procedure = procedure
        self._lines: Lines | None = None
        self._streams = False

    def begin(self, line: bytes) -> Program[bool]:
        """Connect and send the request; returns whether the procedure streams."""
        core = self._core
        limits = Timeout(None, core.connect_timeout, core.reply_timeout)
        begun = False
        try:
            connection = yield from core.pool.connect(limits, inherited(core.clock))
            self._lines = lines = Lines(connection, core.max_line)
            yield from lines.send(line, self._until(core.reply_timeout))
            reply = yield from lines.receive(self._until(core.reply_timeout))
            begun = True
        except (OSError, HoldfastError) as error:
            raise self._failed(error, core.reply_timeout) from error
        finally:
            if not begun:
                self.close()
        try:
            acknowledged = parse_acknowledgement(reply)
        except Invalid as invalid:
            raise self._malformed(invalid) from None
        if isinstance(acknowledged, End):
            self.close()
            raise remote_error(acknowledged)
        self._streams = acknowledged
        return acknowledged

    def next(self) -> Program[HostPacket | Result]:
        """Return the next packet, or the result; raises RemoteException and RemoteError."""
        core, lines = self._core, self._lines
        assert lines is not None
        reply: HostPacket | End | None = None
        try:
            message = yield from lines.receive(self._until(core.timeout))
            reply = parse_host_reply(message, self._streams)
        except Invalid as invalid:
            raise self._malformed(invalid) from None
        except (OSError, HoldfastError) as error:
            raise self._failed(error, core.timeout) from error
        finally:
            if not isinstance(reply, HostPacket):
                self.close()
        return reply if isinstance(reply, HostPacket) else Result(value_of(reply, self._procedure))

    def close(self) -> None:
        """Close the connection."""
        if self._lines is not None:
            self._lines.close()

    def _until(self, limit: float | None) -> float:
        outer = inherited(self._core.clock)
        return outer if limit is None else min(outer, self._core.clock() + limit)

    def _malformed(self, invalid: Invalid) -> CommunicationError:
        self.close()
        return self._failed(ProtocolError(f"the answer is malformed: {invalid.message}"), None)

    def _failed(self, error: Exception, silence: float | None) -> CommunicationError:
        core = self._core
        outer = inherited(core.clock)
        failure = translated(error, core.pool, Timeout(None, read=silence), min(outer, inf))
        return failed(failure, f"call {self._procedure}: {failure.summary}")
