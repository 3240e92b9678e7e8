"""Sockets for the blocking driver: a stream, and operations on it that never wait."""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from typing import TYPE_CHECKING, Any

from holdfast import ops

if TYPE_CHECKING:
    from collections.abc import Callable

READ = select.POLLIN
WRITE = select.POLLOUT

SEND_FLAGS = socket.MSG_DONTWAIT | getattr(socket, "MSG_NOSIGNAL", 0)


#: The state of a round trip whose data was sent.
SENT = object()


#: Seconds that a receive blocks in the system call itself; longer waits go through poll.
PATIENCE = 0.005


class Stream:
    """A connected socket.

    The socket blocks, though for `PATIENCE` only (SO_RCVTIMEO): an answer that comes soon costs
    one system call, where ``settimeout`` would add a ``poll`` to each. Who waits longer waits in
    ``poll``, which knows the deadline, also after a signal came in between.
    """

    __slots__ = ("recv", "send", "sock")

    # Whoever calls in a row need not look each time whether the peer closed or spoke in between,
    # which it could also do a moment after the look.
    trusted = 0.01

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.recv = sock.recv
        self.send = sock.send
        patience = struct.pack("@ll", 0, int(PATIENCE * 1e6))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, patience)

    def __repr__(self) -> str:
        return f"<Stream {self.sock.fileno()}>"

    def usable(self, idle: float) -> bool:
        """Peek whether the peer closed or spoke out of turn; only worth it after a pause."""
        if idle < self.trusted:
            return True
        try:
            self.sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def close(self) -> None:
        """Close the socket."""
        self.sock.close()

    forget = close  # the parent's own descriptor stays open


# Tries do their operation without waiting. One that would have to wait raises BlockingIOError and
# is called again once the socket that `socket_of` names is ready.


def _try_receive(operation: ops.Receive | ops.RoundTrip) -> bytes:
    stream: Any = operation.stream
    return stream.sock.recv(operation.limit, socket.MSG_DONTWAIT)  # type: ignore[no-any-return]


def _try_receive_into(operation: ops.ReceiveInto) -> int:
    stream: Any = operation.stream
    return stream.sock.recv_into(operation.buffer, 0, socket.MSG_DONTWAIT)  # type: ignore[no-any-return]


def _try_send(operation: ops.Send | ops.RoundTrip) -> None:
    stream: Any = operation.stream
    data = operation.state
    if data is None:
        data = operation.data
    try:
        while True:
            sent = stream.sock.send(data, SEND_FLAGS)
            if sent == len(data):
                operation.state = None
                return
            data = memoryview(data)[sent:]
    except BlockingIOError:
        operation.state = data
        raise
    except BaseException:
        operation.state = None
        raise


def _try_round_trip(operation: ops.RoundTrip) -> bytes:
    if operation.state is not SENT:
        _try_send(operation)
        operation.state = SENT
    try:
        data = _try_receive(operation)
    except BlockingIOError:
        raise
    except BaseException:
        operation.state = None
        raise
    operation.state = None
    return data


def _try_connect(operation: ops.Connect) -> Stream:
    sock = operation.state
    if sock is None:
        family, address = operation.address
        sock = operation.state = socket.socket(family, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            if operation.source is not None:
                sock.bind(operation.source)
            if family == socket.AF_UNIX:
                connect_unix(sock, address)
            else:
                sock.connect(address)
        except BlockingIOError:
            raise
        except BaseException:
            abandon(operation)
            raise
    elif code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        abandon(operation)
        raise OSError(code, os.strerror(code))
    operation.state = None
    sock.setblocking(True)
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return Stream(sock)


def connect_unix(sock: socket.socket, address: Any) -> None:
    """Connect a non-blocking Unix socket, which succeeds or fails at once.

    When the listener's queue is full the kernel says "try again", not "wait": such a socket
    becomes writable without ever being connected.
    """
    try:
        sock.connect(address)
    except BlockingIOError:
        raise ConnectionRefusedError(
            errno.ECONNREFUSED, "the socket's queue of connections is full"
        ) from None


def abandon(operation: ops.Operation) -> None:
    """Give back what a try holds that will not be called again."""
    if isinstance(operation, ops.Connect) and operation.state is not None:
        operation.state.close()
        operation.state = None
    elif isinstance(operation, (ops.Send, ops.RoundTrip)):
        operation.state = None


TRY: dict[type, Callable[[Any], Any]] = {
    ops.Receive: _try_receive,
    ops.ReceiveInto: _try_receive_into,
    ops.Send: _try_send,
    ops.RoundTrip: _try_round_trip,
    ops.Connect: _try_connect,
}


def events_of(operation: Any) -> int:
    """Return what a try waits for: READ or WRITE."""
    kind = operation.__class__
    if kind is ops.Receive or kind is ops.ReceiveInto:
        return READ
    return READ if kind is ops.RoundTrip and operation.state is SENT else WRITE


def socket_of(operation: Any) -> int:
    """Return the number of the socket that a try waits for."""
    sock = operation.state if operation.__class__ is ops.Connect else operation.stream.sock
    return sock.fileno()  # type: ignore[no-any-return]
