"""An accepted connection, as a test server sees it."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import threading
import time
from typing import Protocol

from tests.servers.messages import PeerClosed, Request, RequestReader

LINGER_NOT_AT_ALL = struct.pack("ii", 1, 0)
_LOOK_AGAIN = 0.01


class Host(Protocol):
    """What a connection needs of the server that accepted it."""

    changed: threading.Condition
    stopping: bool

    def note(self, request: Request) -> None:
        """Count a request that was read."""
        ...


class Connection:
    """One accepted connection.

    `number` counts from 0 since the server was made, `server_name` is what the client asked
    for by SNI, `upstreams` are sockets that end with the connection.
    """

    def __init__(self, server: Host, sock: socket.socket, number: int) -> None:
        """Wrap an accepted socket."""
        self.server = server
        self.sock = sock
        self.number = number
        self.reader = RequestReader(self.receive, number)
        self.server_name: str | None = None
        self.upstreams: list[socket.socket] = []

    def receive(self, size: int) -> bytes:
        """Receive up to `size` bytes; nothing at the end."""
        try:
            return self.sock.recv(size)
        except OSError as error:
            if isinstance(error, TimeoutError):
                raise
            raise PeerClosed from error

    def send(self, data: bytes | memoryview) -> None:
        """Send all of the data."""
        try:
            self.sock.sendall(data)
        except OSError as error:
            if isinstance(error, TimeoutError):
                raise
            raise PeerClosed from error

    def wait(self, event: threading.Event | None, timeout: float) -> bool:
        """Wait for an event of the test, and return whether it came in time.

        Raises PeerClosed as soon as the client has gone or the server stops. Without an
        event, only these end the wait before its time.
        """
        event = event or threading.Event()
        hung_up = select.poll()
        # Half a closing suffices: a client that still reads is of no interest here.
        hung_up.register(self.sock, select.POLLRDHUP)
        limit = time.monotonic() + timeout
        while (left := limit - time.monotonic()) > 0:
            if event.wait(min(left, _LOOK_AGAIN)):
                return True
            if self.server.stopping or hung_up.poll(0):
                raise PeerClosed
        return event.is_set()

    def close(self) -> None:
        """Close as a server does that has read everything: with FIN, not RST."""
        with self.server.changed:
            with contextlib.suppress(OSError):
                self.sock.setblocking(False)
            if isinstance(self.sock, ssl.SSLSocket):
                # Tell the client that the end is meant; its answer is not awaited.
                with contextlib.suppress(OSError, ValueError):
                    self.sock.unwrap()
            # Closing with unread data would reset the connection, and a reset may destroy
            # what the client has not read yet. A client that never stops gets its reset.
            with contextlib.suppress(OSError):
                for _ in range(64):
                    if not socket.socket.recv(self.sock, 1 << 16):
                        break
            self._close_all()

    def reset(self) -> None:
        """Close with RST."""
        with self.server.changed:
            with contextlib.suppress(OSError):
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT_AT_ALL)
            self._close_all()

    def shut_down_sending(self) -> None:
        """Send FIN and keep receiving."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.sock, socket.SHUT_WR)

    def shut_down(self) -> None:
        """Wake the connection's thread from whatever it does with its sockets."""
        for sock in [self.sock, *self.upstreams]:
            with contextlib.suppress(OSError):
                # Not SSLSocket.shutdown, which takes the TLS state from a reader.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def _close_all(self) -> None:
        for sock in [self.sock, *self.upstreams]:
            sock.close()
