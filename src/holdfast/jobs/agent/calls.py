"""One call, in the daemon: between its process and its caller.

Lines go from the process to the caller as they are, whole lines only; the first one that is neither
the acknowledgement nor a packet ends the call, and nothing follows it: the connection may be used
for another call. Where the caller does not read, the process is not read from either, and stops at
its next packet.
"""

from __future__ import annotations

import asyncio
import logging
import marshal
import os
import signal
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from holdfast.jobs.agent.output import Output
from holdfast.jobs.agent.records import ACKNOWLEDGED
from holdfast.jobs.agent.replies import ending, kind_of
from holdfast.jobs.messages import host_error
from holdfast.wire.jsonlines import encode

if TYPE_CHECKING:
    from holdfast.jobs.agent.parent import Offered, Parent, Spare

__all__ = ["Call", "Caller"]

logger = logging.getLogger("holdfast.jobs.agent.calls")

#: What is read from a process at once, in bytes.
PIECE = 1 << 16

#: What fits into any pipe that is empty, in bytes.
ATOMIC = 4096

#: Seconds for which an acknowledgement waits for the result, to travel with it: many procedures are
#: quicker than a message.
LATE = 0.002

#: No process exits like that: it has not been heard of yet.
_UNKNOWN = -1


class Caller(Protocol):
    """The connection that a call came from."""

    def write(self, data: bytes) -> None:
        """Send lines; `Call.pause` is called when there are more than enough."""

    def over(self, again: bool = False) -> None:
        """Send what is left; ``again``: the connection may be used for another call."""


class Call:
    """A call from the moment it was allowed until its end was sent, or its caller has gone.

    ``name``, ``arguments``: of the procedure. ``said``: who calls, for the log. ``grace``: the
    seconds that the process has after its own limit. ``reply_bytes``: the most that is kept of a
    line whose end has not come.
    """

    __slots__ = (
        "_alarm",
        "_caller",
        "_closed",
        "_grace",
        "_held",
        "_late",
        "_late_timer",
        "_loop",
        "_name",
        "_offered",
        "_parent",
        "_paused",
        "_pid",
        "_replies",
        "_reply_bytes",
        "_request",
        "_request_pipe",
        "_said",
        "_started",
        "_status",
        "_watching",
        "over",
    )

    def __init__(
        self,
        caller: Caller,
        said: str,
        name: str,
        arguments: Any,
        offered: Offered,
        grace: float,
        reply_bytes: int,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._caller = caller
        self._said = said
        self._name = name
        self._request: bytes | memoryview = marshal.dumps((name, arguments))
        self._offered = offered
        self._grace = grace
        self._reply_bytes = reply_bytes
        self._held = bytearray()  # a line whose end has not come
        self._late = b""  # the acknowledgement, while it waits
        self._late_timer: asyncio.TimerHandle | None = None
        self._started = monotonic()
        self._alarm: asyncio.TimerHandle | None = None
        self._request_pipe = -1
        self._replies = -1
        self._parent: Parent | None = None
        self._pid = 0
        self._paused = False
        self._watching = False
        self._closed = False  # by the process
        self._status: int | None = _UNKNOWN
        self.over = False

    # What happens to it.

    def run(self, spare: Spare) -> None:
        """Hand the call to a process."""
        self._parent = spare.parent
        self._pid = spare.pid
        self._request_pipe = spare.request
        self._replies = spare.replies
        if len(self._request) > ATOMIC:
            os.set_blocking(spare.request, False)
        spare.parent.watched[spare.pid] = self._exited
        logger.info("%s: %s, process %d", self._said, self._name, spare.pid)
        Output(self._loop, spare.output, f"{self._name}[{spare.pid}]")
        if self._offered.timeout is not None:
            # The process has its own alarm. This is for one that does not mind it.
            self._alarm = self._loop.call_later(self._offered.timeout + self._grace, self._expire)
        self._writable()
        self._watch(True)

    def pause(self) -> None:
        """Read no more from the process for now."""
        self._paused = True
        self._watch(False)

    def resume(self) -> None:
        """Read again."""
        self._paused = False
        if self._status != _UNKNOWN:
            self._drain()
        elif self._replies >= 0 and not self._closed:
            self._watch(True)

    def cancel(self) -> None:
        """End the process: the caller has gone."""
        if not self.over:
            self._end("cancelled", kill=True)

    def refuse(self, type: str, message: str) -> None:
        """End the call with an error, and its process if there is one."""
        if not self.over:
            self._caller.write(self._late + encode(host_error(type, message)))
            self._end(type, kill=True)
            self._caller.over()

    # What the process does.

    def _writable(self) -> None:
        """Send the request, or what is left of it."""
        try:
            sent = os.write(self._request_pipe, self._request)
        except BlockingIOError:
            sent = 0
        except OSError:
            sent = len(self._request)  # it has died, which is noticed when it is read from
        first = isinstance(self._request, bytes)
        self._request = memoryview(self._request)[sent:]
        if not self._request:
            self._close_request(first)
        elif first:
            self._loop.add_writer(self._request_pipe, self._writable)

    def _close_request(self, first: bool) -> None:
        if not first:
            self._loop.remove_writer(self._request_pipe)
        os.close(self._request_pipe)
        self._request_pipe = -1

    def _watch(self, on: bool) -> None:
        if on is self._watching:
            return
        self._watching = on
        if on:
            self._loop.add_reader(self._replies, self._readable)
        else:
            self._loop.remove_reader(self._replies)

    def _readable(self) -> None:
        try:
            data = os.read(self._replies, PIECE)
        except BlockingIOError:
            if self._status != _UNKNOWN:
                self._died()  # what it has started keeps the pipe open
            return
        except OSError:
            data = b""
        if data:
            self._forward(data)
            return
        self._closed = True
        self._watch(False)
        if self._status != _UNKNOWN:
            self._died()
        else:
            assert self._parent is not None
            self._parent.ask(self._pid)

    def _exited(self, status: int | None) -> None:
        """Hear how the process has exited; what it sent before is still to be read."""
        self._status = status
        if self._closed:
            self._died()
        else:
            self._drain()

    def _drain(self) -> None:
        while not (self.over or self._paused):
            self._readable()

    def _forward(self, data: bytes) -> None:
        """Send the caller the lines that are complete, and see whether one of them is the end."""
        end = data.rfind(b"\n") + 1
        held = self._held
        if end < len(data):
            # An array, because a long line comes in many pieces.
            if end or not held:
                self._held = bytearray(data[end:])
            else:
                held += data
            if len(self._held) > self._reply_bytes:
                self.refuse("system_error", "the procedure's process sent a line without end")
                return
        elif held:
            self._held = bytearray()
        if not end:
            return
        data = bytes(held) + data[:end] if held else data[:end]
        if data == ACKNOWLEDGED:
            self._late = data
            self._late_timer = self._loop.call_later(LATE, self._send_late)
            return
        if self._late_timer is not None:
            self._late_timer.cancel()
            self._late_timer = None
            data = self._late + data
            self._late = b""
        last = ending(data)
        if last < 0:
            self._caller.write(data)
            return
        line = data[last : data.index(b"\n", last) + 1]
        kind = kind_of(line)
        if kind is None:
            self._late = data[:last]
            self.refuse("system_error", "the procedure's process sent what is no message")
            return
        self._caller.write(data[:last] + line)
        self._end(kind, kill=False)
        self._caller.over(kind in ("result", "exception"))

    def _send_late(self) -> None:
        self._late_timer = None
        late, self._late = self._late, b""
        self._caller.write(late)

    def _died(self) -> None:
        status = self._status
        if status is None or status == _UNKNOWN:
            how = "has gone"
        elif os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            try:
                how = f"was ended by {signal.Signals(number).name}"
            except ValueError:
                how = f"was ended by signal {number}"
        else:
            how = f"exited with {os.WEXITSTATUS(status)}"
        self.refuse("system_error", f"the procedure's process {how} before the call's end")

    def _expire(self) -> None:
        self.refuse(
            "timeout", f"{self._name} took longer than its {self._offered.timeout:g} seconds"
        )

    def _end(self, how: str, *, kill: bool) -> None:
        self.over = True
        for timer in (self._alarm, self._late_timer):
            if timer is not None:
                timer.cancel()
        if self._parent is not None:
            self._parent.watched.pop(self._pid, None)
            self._watch(False)
            if self._request_pipe >= 0:
                self._close_request(False)
            if kill:
                self._parent.end(self._pid)
            os.close(self._replies)
            self._replies = -1
        # That it began is on record. What ends well, as most calls do, needs no second line.
        level = logging.DEBUG if how == "result" else logging.INFO
        if logger.isEnabledFor(level):
            seconds = monotonic() - self._started
            logger.log(level, "%s: %s, %s after %.3f s", self._said, self._name, how, seconds)
