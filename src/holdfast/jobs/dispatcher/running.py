"""A job that runs: its connection to the host, its time limits, and what the host says."""

from __future__ import annotations

import asyncio
import errno
import ssl
from typing import TYPE_CHECKING

from holdfast.jobs.dispatcher.connection import Garbage
from holdfast.jobs.dispatcher.recorder import Recorder
from holdfast.jobs.dispatcher.tls import UnknownCertificate
from holdfast.jobs.endings import End, error_end
from holdfast.jobs.fields import Invalid, received
from holdfast.jobs.host_messages import parse_acknowledgement, parse_host_reply
from holdfast.jobs.messages import REPLY_LIMIT
from holdfast.wire.jsonlines import DEPTH, WireError, decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.jobs.dispatcher.hosts import Hosts
    from holdfast.jobs.dispatcher.job import Job
    from holdfast.jobs.dispatcher.registry import Host
    from holdfast.jobs.dispatcher.store import Record, Store

__all__ = ["LINE_LIMIT", "Run"]

#: The longest line of a host: what is made of it for the client is a little longer.
LINE_LIMIT = REPLY_LIMIT - 64

_PACKET = b'{"stream":'
_RESULT = b'{"result":'
_ERROR = b'{"error":'

# What goes wrong on this machine, and not on the way.
_OWN = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL})


class Run:
    """One run of one job; ``finished`` is called with its end when all packets are recorded."""

    def __init__(
        self,
        job: Job,
        record: Record,
        host: Host,
        store: Store,
        hosts: Hosts,
        connect_timeout: float,
        finished: Callable[[Job, bytes], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._job = job
        self._host = host
        self._finished = finished
        self._recorder = Recorder(job, store, self._caught_up)
        self._streams: bool | None = None
        self._ended = False
        self._paused = False
        self._timeout = record.timeout
        self._max_exec_time = record.max_exec_time
        self._connect_timeout = connect_timeout
        kept = hosts.take(host)
        self._connection = kept or hosts.new(host)
        self._began = self._heard = self._loop.time()
        self._timer = self._loop.call_at(self._deadline()[0], self._check)
        self._connecting: asyncio.Task[None] | None = None
        self._connection.call(self, _request(record, host))
        if kept is None:
            self._connecting = self._loop.create_task(self._connect())

    def stop(self, end: bytes) -> bool:
        """End the job so; return False if it has ended already.

        The host ends the procedure when the connection closes.
        """
        if self._ended:
            return False
        self._ended = True
        self._timer.cancel()
        if self._connecting is not None:
            self._connecting.cancel()
        self._connection.close(self)
        self._recorder.finish(lambda: self._finished(self._job, end))
        return True

    async def _connect(self) -> None:
        host = self._host
        try:
            await self._loop.create_connection(lambda: self._connection, host.address, host.port)
        except (OSError, UnicodeError) as error:  # the latter for addresses that are no names
            self.lost(error)
        finally:
            self._connecting = None

    # Time.

    def _deadline(self) -> tuple[float, str, str]:
        """Return when the time is up, and what the error then is: its type and message."""
        limit = self._max_exec_time
        earliest = (self._began + limit, "timeout", f"the call took longer than {limit} s")
        if not self._paused and self._heard + self._timeout < earliest[0]:
            silence = f"the host was silent for {self._timeout} s"
            earliest = (self._heard + self._timeout, "timeout", silence)
        if not self._connection.secure and self._began + self._connect_timeout < earliest[0]:
            silence = self._about(f"no connection within {self._connect_timeout:g} s")
            earliest = (self._began + self._connect_timeout, "network_error", silence)
        return earliest

    def _check(self) -> None:
        """End the job if its time is up: the timer was set for what was known then."""
        deadline, type, message = self._deadline()
        if self._loop.time() >= deadline:
            self._fail(type, message)
        else:
            self._timer = self._loop.call_at(deadline, self._check)

    def _caught_up(self) -> None:
        """Listen to the host again."""
        if self._paused and not self._ended:
            self._paused = False
            # It could not be heard meanwhile.
            self._heard = self._loop.time()
            self._timer.cancel()
            self._check()
            self._connection.resume()

    # The connection.

    def received(self, lines: list[bytes]) -> None:
        """Take what the host says."""
        self._heard = self._loop.time()
        try:
            for line in lines:
                end = self._take(line)
                if end is not None:
                    if line is lines[-1] and not end.startswith(_ERROR):
                        self._connection.release()
                    self.stop(end)
                    return
        except Invalid as error:
            self._fail("protocol_error", self._about(error.message))
            return
        self._recorder.write()
        if self._recorder.full and not self._paused:
            self._paused = True
            self._connection.pause()

    def lost(self, error: Exception | None) -> None:
        """Take the end of the connection, which came before the end of the call."""
        if error is None:
            self._fail("network_error", self._about("closed the connection before the call's end"))
        elif isinstance(error, Garbage):
            self._fail("protocol_error", self._about(str(error)))
        elif isinstance(error, (ssl.SSLCertVerificationError, UnknownCertificate)):
            reason = getattr(error, "verify_message", None) or error
            self._fail("network_error", self._about(f"its certificate is not accepted: {reason}"))
        else:
            own = isinstance(error, OSError) and error.errno in _OWN
            text = (error.strerror if isinstance(error, OSError) else None) or str(error)
            type = "os_error" if own else "network_error"
            self._fail(type, self._about(text or error.__class__.__name__))

    def _take(self, line: bytes) -> bytes | None:
        """Take one message; return the line that ends the job, if it is that. Raises Invalid."""
        if self._streams is None:
            acknowledged = parse_acknowledgement(received(line))
            if isinstance(acknowledged, End):
                return _encoded(acknowledged)
            self._streams = acknowledged
            return None
        if self._streams:
            value = _value(line, _PACKET)
            if value is not None:
                self._recorder.add(value)
                return None
        if (value := _value(line, _RESULT)) is not None:
            return b"".join((_RESULT, value, b"}\n"))
        reply = parse_host_reply(received(line), self._streams)
        if isinstance(reply, End):
            return _encoded(reply)
        self._recorder.add(encode(reply.data)[:-1])
        return None

    def _fail(self, type: str, message: str) -> None:
        self.stop(encode(error_end(type, message)))

    def _about(self, text: str) -> str:
        host = self._host
        return f"{host.name} ({host.address}:{host.port}): {text}"


def _request(record: Record, host: Host) -> bytes:
    procedure = encode(record.procedure)[:-1]
    auth = encode({"user": host.user, "password": host.password})[:-1]
    return b'{"harp":1,"procedure":%b,"arguments":%b,"auth":%b}\n' % (
        procedure,
        record.arguments,
        auth,
    )


def _value(line: bytes, prefix: bytes) -> bytes | None:
    """Return the bytes of the value in a message with nothing else, None where it takes a look.

    The value is checked on its own: of ``{"stream":1,"stream":2}`` what is between the ends is
    no value.
    """
    if not (line.startswith(prefix) and line.endswith(b"}")):
        return None
    value = line[len(prefix) : -1]
    # The message is one level deeper than its value.
    if value.count(b"[") + value.count(b"{") >= DEPTH:
        return None
    try:
        decode(value)
    except WireError:
        return None
    return value.strip(b" \t\r")


def _encoded(end: End) -> bytes:
    return encode(end.to_message())
