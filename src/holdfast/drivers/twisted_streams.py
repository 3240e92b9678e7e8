"""Streams on Twisted's transports."""

from __future__ import annotations

import errno
import os
import socket
from collections import deque
from math import inf
from threading import get_ident
from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPullProducer
from twisted.internet.protocol import Protocol
from zope.interface import implementer  # type: ignore[import-untyped]

from holdfast.drivers.twisted_tasks import PARKED

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.python.failure import Failure

    from holdfast import ops
    from holdfast.drivers.twisted import Driver
    from holdfast.drivers.twisted_dialing import Dialing
    from holdfast.drivers.twisted_tasks import Task

__all__ = ["FOREIGN", "Stream"]

#: Bytes received and not yet asked for, above which reading pauses.
HIGH_WATER = 1 << 18

#: Why a stream is of no use; a kept connection is then replaced, as one that the peer closed.
FOREIGN = "the connection belongs to another reactor"


@implementer(IPullProducer)
class Stream(Protocol):
    """A connected transport and what it received."""

    def __init__(self, driver: Driver, dialing: Dialing) -> None:
        self.driver = driver
        self.trusted = 1.0
        self.pieces: deque[bytes] = deque()
        self.ended = False
        self.drained = True  # whether the system has taken all that was written
        self.waiter: Task | None = None  # for data
        self.buffer: memoryview | None = None  # where it wants them
        self.sender: Task | None = None  # who waits until all is sent
        self.deadline = inf  # of the wait in progress
        self.alarm_at = inf  # when the timer looks whether a wait took too long
        self._then: Callable[[], Any] | None = None  # what the sender goes on with
        self._alarm: Any = None
        self._size = 0
        self._paused = False
        self._closed = False
        self._error: Exception | None = None
        self._dialing: Dialing | None = dialing
        self._thread = get_ident()
        self._transport: Any = None

    def __repr__(self) -> str:
        return f"<Stream {'ended' if self.ended else 'open'}>"

    # What the transport calls.

    def connectionMade(self) -> None:
        """Prepare the transport, and hand the stream to the program that connects."""
        self._transport = self.transport
        if (no_delay := getattr(self._transport, "setTcpNoDelay", None)) is not None:
            no_delay(True)
        # As a pull producer it is told whenever the transport has nothing left to send.
        self._transport.registerProducer(self, False)
        dialing, self._dialing = self._dialing, None
        assert dialing is not None
        dialing.connected(self)

    def dataReceived(self, data: bytes) -> None:
        """Hand data to the program that waits, or keep it."""
        if self._closed:
            return
        waiter = self.waiter
        if waiter is not None:
            self.waiter = None
            waiter.resume(data if self.buffer is None else self.fill(self.buffer, data))
            return
        self.trusted = -1.0  # for the next request: nobody may have asked for this
        self.pieces.append(data)
        self._size += len(data)
        if self._size > HIGH_WATER and not self._paused:
            self._paused = True
            self._transport.pauseProducing()

    def connectionLost(self, reason: Failure | None = None) -> None:
        """Tell whoever waits, to send or to receive."""
        self._silence()
        error: Exception | None = None
        if reason is not None and not isinstance(reason.value, ConnectionDone):
            # Twisted does not keep what the system said; nearly always it is this.
            error = ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        self.ended = True
        self.trusted = -1.0
        self._error = self._error or error
        sender, self.sender = self.sender, None
        waiter, self.waiter = self.waiter, None
        if sender is not None:
            sender.fail(error or ConnectionResetError("connection lost"))
        if waiter is not None:
            if error is not None:
                waiter.fail(error)
            else:
                waiter.resume(b"" if self.buffer is None else 0)

    def resumeProducing(self) -> None:
        """Let the program that sends go on."""
        self.drained = True
        sender, self.sender = self.sender, None
        if sender is not None:
            assert self._then is not None
            sender.go_on(self._then)

    def stopProducing(self) -> None:
        """Leave the rest to `connectionLost`, which follows."""

    # What programs and the driver call.

    def usable(self, idle: float) -> bool:
        """Tell whether this is the reactor's thread and the peer neither closed nor spoke."""
        return not self.ended and not self.pieces and self._thread == get_ident()

    def close(self) -> None:
        """Drop the connection, unsent data included."""
        if self._closed:
            return
        self._closed = self.ended = True
        self.trusted = -1.0
        self.pieces.clear()
        if self._thread == get_ident():
            self._drop()
        else:
            self.driver.reactor.callFromThread(self._drop)

    def forget(self) -> None:
        """Drop a stream whose reactor, and transport, are the parent process's."""
        self._closed = self.ended = True
        self.trusted = -1.0

    def give_up(self) -> None:
        """Leave the task that waits alone."""
        self.waiter = self.sender = self.buffer = None

    def write(self, data: ops.Buffer) -> None:
        """Hand some data to the transport, which takes all of it; see `drain`."""
        if self.ended:
            raise self._error or ConnectionResetError("the peer closed the connection")
        self.drained = False
        # The transport keeps what it cannot send at once, and the caller may change a buffer.
        self._transport.write(data if data.__class__ is bytes else bytes(data))

    def take(self) -> bytes | None:
        """Return what was received, b"" at the end of the stream, None when there is nothing."""
        if self.pieces:
            data = self.pieces.popleft()
            if not self.pieces and not self.ended:
                self.trusted = 1.0
            self._size -= len(data)
            if self._paused and self._size <= HIGH_WATER // 2:
                self._paused = False
                if not self.ended:
                    self._transport.resumeProducing()
            return data
        if self._error is not None:
            raise self._error
        return b"" if self.ended else None

    def fill(self, buffer: memoryview, data: bytes) -> int:
        """Put data into a buffer, keep what does not fit, and return how much did."""
        size = min(len(data), len(buffer))
        buffer[:size] = memoryview(data)[:size]
        if size < len(data):
            self.trusted = -1.0
            self.pieces.appendleft(data[size:])
            self._size += len(data) - size
        return size

    def receive(self, task: Task, deadline: float, buffer: memoryview | None = None) -> Any:
        """Have a task wait for data."""
        self.buffer = buffer
        self.deadline = deadline
        if self.alarm_at > deadline:
            self._watch()
        self.waiter = task
        task.waiting = self
        return PARKED

    def drain(self, task: Task, deadline: float, then: Callable[[], Any]) -> Any:
        """Have a task wait until the system has taken all, and go on with a function."""
        self.deadline = deadline
        if self.alarm_at > deadline:
            self._watch()
        self._then = then
        self.sender = task
        task.waiting = self
        return PARKED

    def _watch(self) -> None:
        """Have the timer ring at the deadline of the wait that begins.

        Raises TimeoutError when that is over: a peer that never ceases to send ends each wait
        before the timer rings, and must not carry a program past its deadline.
        """
        self._silence()
        remaining = self.deadline - self.driver.clock()
        if remaining <= 0:
            raise TimeoutError
        self._alarm = self.driver.reactor.callLater(remaining, self._ring)
        self.alarm_at = self.deadline

    def _ring(self) -> None:
        self._alarm = None
        self.alarm_at = inf
        task = self.waiter or self.sender
        if task is None or self.deadline == inf:
            return
        try:
            self._watch()
        except TimeoutError as error:
            self.waiter = self.sender = None
            task.fail(error)

    def _silence(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
            self.alarm_at = inf

    def _drop(self) -> None:
        self._silence()
        transport = self._transport
        if not transport.connected:
            return
        transport.unregisterProducer()
        # By itself the transport would first send all that it has, for which it may wait for ever,
        # and its abort resets the connection, which is no way to close one that is kept.
        try:
            transport.getHandle().shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the peer was faster
        transport.loseConnection()
