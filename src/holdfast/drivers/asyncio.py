"""The asyncio driver: a program runs as a coroutine, on asyncio's own loops or on uvloop's.

A call that goes well makes one future (to wait for the answer) and neither a task nor a timer:
each stream has one timer, armed when a wait begins that would end before it, and otherwise left to
fire and look again.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import socket
from asyncio import _get_running_loop, get_running_loop
from collections import deque
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from holdfast import ops
from holdfast.drivers.expiry import Expiry
from holdfast.drivers.lookups import Lookup
from holdfast.drivers.sockets import connect_unix
from holdfast.ops import Receive, RoundTrip

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Stream", "run"]

T = TypeVar("T")

#: Bytes received and not yet asked for, above which reading pauses.
HIGH_WATER = 1 << 18

#: Data larger than this is handed to the transport in pieces, which bounds its buffer, and with a
#: turn of the loop between them, in which a broken connection is noticed.
PIECE = 1 << 16


#: Why a stream is of no use; a kept connection is then replaced, as one that the peer closed.
FOREIGN = "the connection belongs to another event loop"


class Stream(asyncio.Protocol):
    """A connected transport and what it received."""

    __slots__ = (
        "_alarm",
        "_drain",
        "_error",
        "_gone",
        "_paused",
        "_size",
        "_transport",
        "alarm_at",
        "deadline",
        "ended",
        "full",
        "loop",
        "pieces",
        "trusted",
        "waiter",
        "write",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.trusted = 1.0
        self.pieces: deque[bytes] = deque()
        self.ended = False
        self.full = False  # the transport's buffer
        self.waiter: asyncio.Future[bytes] | None = None
        self.deadline = inf  # of the wait in progress
        self.alarm_at = inf  # when the timer looks whether a wait took too long
        self._alarm: asyncio.TimerHandle | None = None
        self._size = 0
        self._paused = False
        self._gone = False
        self._error: Exception | None = None
        self._drain: asyncio.Future[bytes] | None = None
        self._transport: Any = None
        self.write: Callable[[ops.Buffer], None] = self._refuse

    def __repr__(self) -> str:
        return f"<Stream {'ended' if self.ended else 'open'}>"

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport
        self.write = self._transport.write

    def data_received(self, data: bytes) -> None:
        """Hand data to the program that waits, or keep it."""
        waiter = self.waiter
        if waiter is not None:
            self.waiter = None
            try:
                waiter.set_result(data)
                return
            except asyncio.InvalidStateError:
                pass  # it was cancelled
        self.trusted = -1.0  # for the next request: nobody may have asked for this
        self.pieces.append(data)
        self._size += len(data)
        if self._size > HIGH_WATER and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def eof_received(self) -> None:
        """Tell the program that waits; asyncio then closes the transport."""
        self._end(None)

    def connection_lost(self, error: Exception | None) -> None:
        """Tell whoever waits, to send or to receive."""
        self._gone = True
        self._end(error)
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        drain, self._drain = self._drain, None
        if drain is not None and not drain.done():
            drain.set_exception(error or ConnectionResetError("connection lost"))

    def pause_writing(self) -> None:
        """Note that the transport's buffer is full."""
        self.full = True

    def resume_writing(self) -> None:
        """Let the program that sends go on."""
        self.full = False
        drain, self._drain = self._drain, None
        if drain is not None and not drain.done():
            drain.set_result(b"")

    def _end(self, error: Exception | None) -> None:
        self.ended = True
        self.trusted = -1.0
        self.write = self._refuse
        if self._error is None:
            self._error = error
        waiter, self.waiter = self.waiter, None
        if waiter is not None and not waiter.done():
            if error is not None:
                waiter.set_exception(error)
            else:
                waiter.set_result(b"")

    # What programs and the driver call.

    def usable(self, idle: float) -> bool:
        """Tell whether this is the running loop's stream and the peer neither closed nor spoke."""
        return (
            not self.ended
            and not self.pieces
            and self.loop is asyncio.get_running_loop()
            and not self._transport.is_closing()
        )

    def close(self) -> None:
        """Drop the connection, unsent data included."""
        self.ended = True
        self.pieces.clear()
        # asyncio's transports cannot always be aborted once they have said that they are gone.
        if self._gone or self.loop.is_closed():
            return
        if _get_running_loop() is self.loop:
            self._transport.abort()
        else:
            self.loop.call_soon_threadsafe(self._transport.abort)

    def forget(self) -> None:
        """Drop a stream whose loop, and transport, are the parent process's."""
        self.ended = True
        self.trusted = -1.0

    def _refuse(self, data: ops.Buffer) -> None:
        raise self._error or ConnectionResetError("the peer closed the connection")

    def take(self) -> bytes | None:
        """Return what was received, b"" at the end of the stream, None when there is nothing."""
        if self.pieces:
            data = self.pieces.popleft()
            if not self.pieces and not self.ended:
                self.trusted = 1.0
            self._size -= len(data)
            if self._paused and self._size <= HIGH_WATER // 2:
                self._paused = False
                self._transport.resume_reading()
            return data
        if self._error is not None:
            raise self._error
        return b"" if self.ended else None

    def untake(self, data: bytes) -> None:
        """Put back what was received and did not fit."""
        self.trusted = -1.0
        self.pieces.appendleft(data)
        self._size += len(data)

    def received(self, deadline: float) -> asyncio.Future[bytes]:
        """Return a future of the next data."""
        if self.loop is not get_running_loop():
            raise ConnectionResetError(FOREIGN)
        self.waiter = waiter = self.loop.create_future()
        self.deadline = deadline
        if self.alarm_at > deadline:
            self.watch()
        return waiter

    def drained(self, deadline: float) -> asyncio.Future[bytes]:
        """Return a future of the transport's buffer having room again."""
        self._drain = drain = self.loop.create_future()
        self.deadline = deadline
        if self.alarm_at > deadline:
            self.watch()
        return drain

    def watch(self) -> None:
        """Have the timer ring at the deadline of the wait that begins.

        Raises TimeoutError when that is over: a peer that never ceases to send ends each wait
        before the timer rings, and must not carry a program past its deadline.
        """
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
            self.alarm_at = inf
        remaining = self.deadline - monotonic()
        if remaining <= 0:
            self.waiter = self._drain = None
            raise TimeoutError
        # A millisecond late rather than early: loops round to it, and early means once more.
        self._alarm = self.loop.call_later(remaining + 0.001, self._ring)
        self.alarm_at = self.deadline

    def _ring(self) -> None:
        self._alarm = None
        self.alarm_at = inf
        waiting = [f for f in (self.waiter, self._drain) if f is not None and not f.done()]
        if not waiting:
            return
        remaining = self.deadline - monotonic()
        if remaining > 0:
            if self.deadline < inf:
                self._alarm = self.loop.call_later(remaining + 0.001, self._ring)
                self.alarm_at = self.deadline
            return
        self.waiter = self._drain = None
        for future in waiting:
            future.set_exception(TimeoutError())


async def run(program: ops.Program[T]) -> T:
    """Run a program to its end in the running event loop and return its result.

    Raises what the program raises. When the awaiting task is cancelled, ``CancelledError`` is
    thrown into the program, which gives back what it holds.
    """
    send = program.send
    step: Callable[[Any], Any] = send
    value: Any = None
    try:
        while True:
            try:
                operation = step(value)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]
            step = send
            try:
                kind = operation.__class__
                if kind is RoundTrip:
                    stream = operation.stream
                    if stream.loop is not get_running_loop():
                        raise ConnectionResetError(FOREIGN)
                    stream.write(operation.data)
                    if stream.full:
                        await stream.drained(operation.deadline)
                    if stream.pieces or stream.ended:
                        value = stream.take()
                    else:
                        # As in `Stream.received`, without the call.
                        value = stream.waiter = stream.loop.create_future()
                        stream.deadline = deadline = operation.deadline
                        if stream.alarm_at > deadline:
                            stream.watch()
                        value = await value
                elif kind is Receive:
                    stream = operation.stream
                    value = stream.take()
                    if value is None:
                        value = await stream.received(operation.deadline)
                else:
                    value = await _PERFORM[kind](operation)
            except BaseException as error:
                value = error
                step = program.throw
    finally:
        value = None  # an exception must not keep its own frame alive


async def _send(operation: ops.Send) -> None:
    stream: Any = operation.stream
    view = memoryview(operation.data)
    for start in range(0, len(view), PIECE):
        if operation.deadline <= monotonic():
            raise TimeoutError
        stream.write(view[start : start + PIECE])
        if stream.full:
            await stream.drained(operation.deadline)
        elif start + PIECE < len(view):
            await asyncio.sleep(0)


async def _receive_into(operation: ops.ReceiveInto) -> int:
    stream: Any = operation.stream
    data = stream.take()
    if data is None:
        data = await stream.received(operation.deadline)
    size = min(len(data), len(operation.buffer))
    operation.buffer[:size] = memoryview(data)[:size]
    if size < len(data):
        stream.untake(data[size:])
    return size


async def _connect(operation: ops.Connect) -> Stream:
    loop = asyncio.get_running_loop()
    family, address = operation.address
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if operation.source is not None:
            sock.bind(operation.source)
        async with Expiry(operation.deadline):
            make: Callable[..., Any]
            if family == socket.AF_UNIX:
                connect_unix(sock, address)
                make = loop.create_unix_connection
            else:
                try:
                    await loop.sock_connect(sock, address)
                except OSError as error:
                    if error.errno is None:
                        raise
                    # Loops word it in their own ways.
                    raise OSError(error.errno, os.strerror(error.errno)) from None
                # asyncio does it by itself only where the protocol was named.
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                make = loop.create_connection
            _, stream = await make(lambda: Stream(loop), sock=sock)
    except BaseException:
        sock.close()
        raise
    return stream


async def _resolve(operation: ops.Resolve) -> list[ops.Address]:
    # Not by the loop: its executor is the user's, and one hung look-up would keep it from ending.
    lookup = Lookup(operation.host, operation.port)
    await _wait(ops.Wait(lookup.signal, operation.deadline))
    return lookup.result()


async def _sleep(operation: ops.Sleep) -> None:
    if ops.instant and operation.until < inf:
        await asyncio.sleep(0)
        return
    await asyncio.sleep(operation.until - monotonic())
    while (remaining := operation.until - monotonic()) > 0:  # noqa: ASYNC110
        await asyncio.sleep(remaining)  # uvloop rounds to milliseconds


async def _wait(operation: ops.Wait) -> None:
    loop = asyncio.get_running_loop()
    happened = loop.create_future()

    def tell() -> None:
        try:
            loop.call_soon_threadsafe(_settle, happened)
        except RuntimeError:
            pass  # the loop was closed: nobody waits any more

    if operation.signal.listen(tell):
        return
    try:
        async with Expiry(operation.deadline):
            await happened
    finally:
        operation.signal.listen(None)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def _invoke(operation: ops.Invoke) -> Any:
    result = operation.function(*operation.arguments)
    if inspect.isawaitable(result):
        async with Expiry(operation.deadline):
            return await result
    await asyncio.sleep(0)  # lets others go on while a body comes out of an iterator
    return result


async def _all(operation: ops.All) -> list[Any]:
    return await asyncio.gather(
        *[run(program) for program in operation.programs], return_exceptions=True
    )


async def _first(operation: ops.First) -> tuple[int, Any]:
    if not operation.programs:
        raise ValueError("First needs a program")
    winner: list[tuple[int, Any]] = []

    async def contend(index: int, program: ops.Program[Any]) -> None:
        result = await run(program)
        if winner:
            return
        winner.append((index, result))
        # Now, so that no other one can return in the same turn of the loop.
        for task in tasks:
            if task is not asyncio.current_task():
                task.cancel()

    tasks = [
        asyncio.ensure_future(contend(index, program))
        for index, program in enumerate(operation.programs)
    ]
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    if winner:
        return winner[0]
    raise BaseExceptionGroup("every program failed", [e for e in errors if e is not None])


_PERFORM: dict[type, Callable[[Any], Any]] = {
    ops.Send: _send,
    ops.ReceiveInto: _receive_into,
    ops.Connect: _connect,
    ops.Resolve: _resolve,
    ops.Sleep: _sleep,
    ops.Wait: _wait,
    ops.Invoke: _invoke,
    ops.All: _all,
    ops.First: _first,
}
