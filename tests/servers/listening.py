"""The part that all threaded test servers share: listen, accept, count, end.

Each accepted connection has a thread that runs `serve(connection)`. Whatever that waits
for has a bound, and `stop` wakes it: the sockets are shut down under its feet, which it
sees as a peer that has gone.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from tests.servers.connection import Connection
from tests.servers.messages import BadRequest, PeerClosed, Request
from tests.servers.ports import BACKLOG, ReservedPort, format_address

IDLE_LIMIT = 60.0
"""Seconds after which a server gives up a silent connection: no test lasts as long."""

JOIN_LIMIT = 10.0


class Listener:
    """Accept connections in threads; a context manager that leaves nothing behind.

    `host` is a numeric address of loopback; `path` listens on a Unix socket instead;
    `tls` is a server-side context, used by this server alone, as its SNI callback is set.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        *,
        port: int = 0,
        path: str | os.PathLike[str] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Reserve the address; `start` listens on it."""
        self.path = None if path is None else os.fspath(path)
        self.tls = tls
        self.host = host
        self.changed = threading.Condition()
        self.stopping = False
        self.connection_count = 0
        self.request_count = 0
        self.handshake_failures: list[Exception] = []
        self.failures: list[Exception] = []
        self._open: dict[Connection, threading.Thread] = {}
        self._accepting: threading.Thread | None = None
        if tls is not None:
            tls.sni_callback = self._note_server_name
        self._reserved = ReservedPort(host, port) if self.path is None else None
        self.port = self._reserved.port if self._reserved else 0

    def serve(self, connection: Connection) -> None:
        """Serve one connection, which is closed afterwards."""
        raise NotImplementedError

    @property
    def address(self) -> str:
        """Return `host:port`, or the path of the Unix socket."""
        return self.path or format_address(self.host, self.port)

    @property
    def url(self) -> str:
        """Return the server's base URL, without a slash at its end."""
        return f"{'https' if self.tls else 'http'}://{format_address(self.host, self.port)}"

    @property
    def open_connections(self) -> int:
        """Return the number of connections that are open now."""
        return len(self._open)

    def note(self, request: Request) -> None:
        """Count a request that was read."""
        with self.changed:
            self.request_count += 1
            self.changed.notify_all()

    def wait_for(self, condition: Callable[[], bool], timeout: float = 10.0) -> None:
        """Wait until a condition on this server's counts and records holds."""
        with self.changed:
            if not self.changed.wait_for(condition, timeout):
                raise AssertionError(f"not within {timeout} s; {self!r}")

    def start(self) -> Self:
        """Listen, on the same address as before."""
        if self._accepting is not None:
            raise RuntimeError("the server is running")
        if self._reserved is not None:
            listening = self._reserved.listen()
        else:
            assert self.path is not None
            listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)
            listening.bind(self.path)
            listening.listen(BACKLOG)
        self.stopping = False
        self._woken, self._waker = socket.socketpair()
        self._accepting = threading.Thread(
            target=self._accept, args=(listening,), name=f"accept {self.address}", daemon=True
        )
        self._accepting.start()
        return self

    def stop(self) -> None:
        """Stop listening and close every connection, as the end of the process would."""
        if self._accepting is None:
            return
        self.stopping = True
        self._waker.send(b"x")
        threads = [self._accepting, *self._end_connections()]
        limit = time.monotonic() + JOIN_LIMIT
        for thread in threads:
            thread.join(max(0.0, limit - time.monotonic()))
        self._woken.close()
        self._waker.close()
        self._accepting = None
        if self.path is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)
        if any(thread.is_alive() for thread in threads):
            raise RuntimeError(f"threads that do not end: {self!r}")

    def drop_connections(self) -> None:
        """Close every connection and go on listening."""
        threads = self._end_connections()
        for thread in threads:
            thread.join(JOIN_LIMIT)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.stop()
        finally:
            if self._reserved is not None:
                self._reserved.close()
        # The test's own failure says more than what it led to here.
        if error is None and self.failures:
            raise self.failures[0]

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self.address} connections={self.connection_count}"
            f" open={self.open_connections} requests={self.request_count}>"
        )

    def _end_connections(self) -> list[threading.Thread]:
        with self.changed:
            for connection in self._open:
                connection.shut_down()
            return list(self._open.values())

    def _accept(self, listening: socket.socket) -> None:
        with listening, selectors.DefaultSelector() as selector:
            listening.setblocking(False)
            selector.register(listening, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while True:
                selector.select()
                if self.stopping:
                    return
                with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
                    self._open_connection(listening.accept()[0])

    def _open_connection(self, sock: socket.socket) -> None:
        sock.settimeout(IDLE_LIMIT)
        if self.path is None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self.changed:
            # `stop` sets `stopping` first: a connection is either refused here or ended there.
            if self.stopping:
                sock.close()
                return
            connection = Connection(self, sock, self.connection_count)
            self.connection_count += 1
            thread = threading.Thread(
                target=self._run,
                args=(connection,),
                name=f"serve {self.address} #{connection.number}",
                daemon=True,
            )
            self._open[connection] = thread
            thread.start()
            self.changed.notify_all()

    def _run(self, connection: Connection) -> None:
        try:
            if self._handshake(connection):
                self.serve(connection)
        except PeerClosed:
            pass
        except (BadRequest, TimeoutError, AssertionError, OSError) as error:
            self.failures.append(error)
        finally:
            connection.close()
            with self.changed:
                del self._open[connection]
                self.changed.notify_all()

    def _handshake(self, connection: Connection) -> bool:
        if self.tls is None:
            return True
        try:
            with self.changed:
                # Wrapping moves the descriptor, which `stop` must not miss.
                connection.sock = self.tls.wrap_socket(
                    connection.sock, server_side=True, do_handshake_on_connect=False
                )
            connection.sock.do_handshake()
        except OSError as error:
            with self.changed:
                self.handshake_failures.append(error)
                self.changed.notify_all()
            return False
        return True

    def _note_server_name(self, sock: object, name: str | None, context: ssl.SSLContext) -> None:
        with self.changed:
            for connection in self._open:
                if connection.sock is sock:
                    connection.server_name = name
