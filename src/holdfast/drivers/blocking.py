"""The blocking driver: programs run on the caller's thread.

One program alone waits in the system call itself. Several programs at once (``All``, ``First``)
share one selector loop on the same thread. A helper thread exists only while a host name is
looked up, because the system's resolver knows no deadline.
"""

from __future__ import annotations

import select
import threading
from math import inf
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, TypeVar

from holdfast import ops
from holdfast.drivers.lookups import Lookup
from holdfast.drivers.sockets import (
    SEND_FLAGS,
    SENT,
    TRY,
    Stream,
    abandon,
    events_of,
    socket_of,
)
from holdfast.drivers.turns import Turns
from holdfast.ops import Receive, RoundTrip

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Stream", "run"]

T = TypeVar("T")


def run(program: ops.Program[T]) -> T:
    """Run a program to its end on this thread and return its result.

    Raises what the program raises. An exception in the thread itself, such as
    ``KeyboardInterrupt``, is thrown into the program, which gives back what it holds.
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
                    value = _round_trip(operation)
                elif kind is Receive:
                    value = _receive(operation)
                else:
                    value = _PERFORM[kind](operation)
            except BaseException as error:
                value = error
                step = program.throw
    finally:
        value = None  # an exception must not keep its own frame alive


def _round_trip(operation: ops.RoundTrip) -> bytes:
    stream: Any = operation.stream
    data = operation.data
    try:
        sent = stream.send(data, SEND_FLAGS)
    except BlockingIOError:
        sent = 0
    if sent == len(data):
        try:
            return stream.recv(operation.limit)  # type: ignore[no-any-return]
        except BlockingIOError:
            operation.state = SENT
    else:
        operation.state = memoryview(data)[sent:]
    return _patiently(operation)  # type: ignore[no-any-return]


def _receive(operation: ops.Receive) -> bytes:
    stream: Any = operation.stream
    if operation.deadline <= monotonic():  # the peer may never cease to send
        raise TimeoutError
    try:
        return stream.recv(operation.limit)  # type: ignore[no-any-return]
    except BlockingIOError:
        return _patiently(operation)  # type: ignore[no-any-return]


def _receive_into(operation: ops.ReceiveInto) -> int:
    stream: Any = operation.stream
    if operation.deadline <= monotonic():
        raise TimeoutError
    try:
        return stream.sock.recv_into(operation.buffer)  # type: ignore[no-any-return]
    except BlockingIOError:
        return _patiently(operation)  # type: ignore[no-any-return]


def _patiently(operation: Any) -> Any:
    """Try, and wait for the one socket in between, until the deadline."""
    attempt = TRY[operation.__class__]
    if operation.deadline <= monotonic():
        raise TimeoutError
    while True:
        try:
            return attempt(operation)
        except BlockingIOError:
            pass
        try:
            _await_socket(socket_of(operation), events_of(operation), operation.deadline)
        except BaseException:
            abandon(operation)
            raise


def _await_socket(fileno: int, events: int, deadline: float) -> None:
    poll = select.poll()
    poll.register(fileno, events)
    while True:
        remaining = deadline - monotonic()
        if remaining <= 0:
            raise TimeoutError
        # One hour at most: poll takes milliseconds in a C int.
        if poll.poll(min(remaining, 3600.0) * 1000 + 1):
            return


def _sleep(operation: ops.Sleep) -> None:
    if ops.instant and operation.until < inf:
        return
    while (remaining := operation.until - monotonic()) > 0:
        sleep(min(remaining, 1e6))  # infinity is too long for the system


def _wait(operation: ops.Wait) -> None:
    woken = threading.Lock()
    woken.acquire()
    if operation.signal.listen(woken.release):
        return
    remaining = operation.deadline - monotonic()
    if not woken.acquire(timeout=max(min(remaining, threading.TIMEOUT_MAX), 0)):
        operation.signal.listen(None)
        raise TimeoutError


def _resolve(operation: ops.Resolve) -> list[ops.Address]:
    lookup = Lookup(operation.host, operation.port)
    _wait(ops.Wait(lookup.signal, operation.deadline))
    return lookup.result()


def _invoke(operation: ops.Invoke) -> Any:
    return operation.function(*operation.arguments)


def _together(operation: ops.All | ops.First) -> Any:
    return Turns().run(operation)


_PERFORM: dict[type, Callable[[Any], Any]] = {
    ops.ReceiveInto: _receive_into,
    ops.Send: _patiently,
    ops.Connect: _patiently,
    ops.Sleep: _sleep,
    ops.Wait: _wait,
    ops.Invoke: _invoke,
    ops.Resolve: _resolve,
    ops.All: _together,
    ops.First: _together,
}
