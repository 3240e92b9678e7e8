"""Both ends of a simulated connection.

Theory of operation: a connection is two `Pipe`s, each a direction. `Stream` is the end of the
program, `Connection` the end of a host, driven by events: a host's `Peer` is told of what arrives.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from math import inf
from typing import TYPE_CHECKING, Protocol

from holdfast.drivers.simulated_pipes import Pipe

if TYPE_CHECKING:
    from holdfast.drivers.simulated import Task, World

__all__ = ["Connection", "Peer", "Stream"]

#: Bytes underway or unread by the host, above which a program that sends waits.
WINDOW = 1 << 18


class Peer(Protocol):
    """What a host does with one connection."""

    def received(self, data: bytes) -> None:
        """Take what the client sent."""

    def ended(self, error: OSError | None) -> None:
        """Note that the client closed the connection, or that it broke."""


class Stream:
    """The program's end of a connection."""

    __slots__ = (
        "closed",
        "connection",
        "ended",
        "error",
        "name",
        "out",
        "pieces",
        "rest",
        "sender",
        "trusted",
        "unread",
        "waiter",
        "world",
    )

    def __init__(self, world: World, source: str, name: str) -> None:
        self.world = world
        self.name = name  # the host's address
        self.trusted = inf  # in a simulation it is known whether the host has spoken
        self.pieces: deque[bytes | memoryview] = deque()
        self.ended = False
        self.error: OSError | None = None
        self.closed = False
        self.waiter: Task | None = None  # who receives
        self.sender: Task | None = None  # who waits for room to send
        self.rest = memoryview(b"")  # what is left to be sent
        self.unread = 0  # bytes underway, or not read by the host
        self.connection = Connection(self, source)
        self.out = Pipe(world, source, name, Connection.arrive, self.connection, self.broken)

    def __repr__(self) -> str:
        return f"<Stream to {self.name}{', closed' if self.closed else ''}>"

    # What programs call.

    def usable(self, idle: float) -> bool:
        """Tell whether the stream is open and the host neither closed nor spoke."""
        return not self.closed and not self.ended and not self.pieces

    def close(self) -> None:
        """Close it; the host hears of it after the network's delay."""
        if self.closed:
            return
        self.closed = True
        self.trusted = -1.0
        self.pieces.clear()
        if self.error is None:
            self.out.carry(b"")

    def forget(self) -> None:
        """Drop it without a word."""
        self.closed = True
        self.trusted = -1.0

    # What the driver calls.

    def check(self) -> None:
        """Raise what keeps a program from sending."""
        if self.closed:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        if self.error is not None:
            raise again(self.error)

    def send(self, data: bytes, task: Task) -> bool:
        """Send all of the data, or what there is room for; the task then waits for more room."""
        size = len(data)
        if self.unread + size <= WINDOW:
            if size:
                self.unread += size
                self.out.carry(data)
            return True
        self.rest = memoryview(data)
        self.sender = task
        self._fill()
        return False

    def room(self, size: int) -> None:
        """Note that the host has read so many bytes."""
        self.unread -= size
        if self.sender is not None:
            self._fill()
            if not self.rest:
                task, self.sender = self.sender, None
                self.world.sent(task)

    def _fill(self) -> None:
        free = WINDOW - self.unread
        if free > 0:
            piece = bytes(self.rest[:free])
            self.rest = self.rest[free:]
            self.unread += len(piece)
            self.out.carry(piece)

    def take(self, limit: int) -> bytes:
        """Return what was received, b"" at the end; raise when the connection broke."""
        if self.closed:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        if self.pieces:
            data = self.pieces[0]
            if len(data) > limit:
                view = memoryview(data)
                self.pieces[0] = view[limit:]
                return bytes(view[:limit])
            self.pieces.popleft()
            if not self.pieces and not self.ended:
                self.trusted = inf
            return data if data.__class__ is bytes else bytes(data)
        if self.error is not None:
            raise again(self.error)
        return b""

    def arrive(self, data: bytes | OSError) -> None:
        """Hand what the host sent to the program that waits, or keep it."""
        if self.closed:
            return
        if isinstance(data, OSError):
            self.broken(data)
            return
        waiter = self.waiter
        if data:
            if waiter is not None and waiter.limit >= len(data):
                self.waiter = None
                self.world.step(waiter, data)
                return
            self.pieces.append(data)
        else:
            self.ended = True
        self.trusted = -1.0
        if waiter is not None:
            self.waiter = None
            self.world.receive(waiter, waiter.turn)

    def broken(self, error: OSError) -> None:
        """Note that the connection is of no use, and tell the program that waits."""
        if self.error is not None or self.closed:
            return
        self.error = error
        self.ended = True
        self.trusted = -1.0
        waiter = self.waiter or self.sender
        self.waiter = self.sender = None
        if waiter is not None:
            self.world.throw(waiter, again(error))


class Connection:
    """A host's end of a connection."""

    __slots__ = ("_paused", "_pending", "back", "closed", "peer", "source", "stream", "world")

    def __init__(self, stream: Stream, source: str) -> None:
        self.stream = stream
        self.world = stream.world
        self.source = source  # who connected
        self.peer: Peer | None = None
        self.closed = False
        self.back = Pipe(self.world, stream.name, source, Stream.arrive, stream, self.broken)
        self._paused = False
        self._pending: deque[bytes | OSError] = deque()

    def __repr__(self) -> str:
        return f"<Connection of {self.stream.name} from {self.source}>"

    # What hosts call.

    def send(self, data: bytes) -> None:
        """Send data; there is always room."""
        if not self.closed and data:
            self.back.carry(data)

    def close(self) -> None:
        """Close it after what was sent; where something came that nobody read, that is a reset."""
        if not self.closed:
            self.closed = True
            self.back.carry(reset() if self._pending else b"")

    def reset(self, error: OSError | None = None) -> None:
        """Break it: the program's next operation, or the one that waits, fails."""
        if not self.closed:
            self.closed = True
            self.back.carry(error or reset())

    def vanish(self) -> None:
        """Know nothing of it any more, as after a loss of power: nobody is told."""
        self.closed = True
        self.peer = None
        self.back.drop()

    def pause(self) -> None:
        """Read nothing more; a program that sends much will wait."""
        self._paused = True

    def resume(self) -> None:
        """Read what has come, and what will."""
        self._paused = False
        while self._pending and not self._paused:
            self.arrive(self._pending.popleft())

    # What the driver calls.

    def arrive(self, data: bytes | OSError) -> None:
        """Tell the peer what came."""
        if self.peer is None and self.stream.name in self.world.dark:
            self.stream.out.hold(data)  # nobody acknowledges it
        elif self.closed:
            if isinstance(data, bytes) and data:
                self.back.carry(reset())  # so systems answer to what belongs to no connection
        elif self._paused:
            self._pending.append(data)
        elif isinstance(data, OSError):
            self.broken(data)
        elif data:
            assert self.peer is not None
            self.stream.room(len(data))
            self.peer.received(data)
        else:
            self.broken(None)

    def broken(self, error: OSError | None) -> None:
        """Tell the peer that it is over."""
        if not self.closed:
            self.closed = True
            assert self.peer is not None
            self.peer.ended(error)


def reset() -> OSError:
    """Return the error of a connection that the other side reset."""
    return ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))


def again(error: OSError) -> OSError:
    """Return an error of its own for each raise: tracebacks must not mix."""
    return type(error)(*error.args)
