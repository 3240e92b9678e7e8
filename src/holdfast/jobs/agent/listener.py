"""The port of the daemon: TCP connections until their TLS handshake is done.

Until then nobody knows who it is, and every one costs 50 KB. So there is a limit, and where it is
reached the one that has taken longest gives way: who does a handshake needs milliseconds for it,
who only means to take up room has no end of time.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from typing import TYPE_CHECKING

from holdfast.jobs.listening import keep_alive

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from holdfast.jobs.agent.config import Limits

__all__ = ["Listener"]

logger = logging.getLogger("holdfast.jobs.agent")

#: Connections that the system keeps until they are accepted.
BACKLOG = 1024

#: Seconds to wait for something to be free, when there are no more descriptors.
PAUSE = 0.5

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Listener:
    """Accepts connections, and gives those whose handshake succeeds to a protocol."""

    def __init__(
        self, protocol: Callable[[], asyncio.Protocol], tls: ssl.SSLContext, limits: Limits
    ) -> None:
        self.limits = limits
        self._protocol = protocol
        self._tls = tls
        # In the order of their coming.
        self._handshakes: dict[asyncio.Task[None], None] = {}
        self._socket: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None

    def listen(self, address: str, port: int) -> str:
        """Accept connections from now on; return the address. Raises OSError."""
        self._socket = sock = _socket(address, port)
        self._accepting = asyncio.get_running_loop().create_task(self._accept(sock))
        host, port = sock.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def close(self) -> None:
        """Accept no more, and close what has not got through its handshake."""
        tasks = list(self._handshakes)
        if self._accepting is not None:
            tasks.append(self._accepting)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self._socket is not None:
            self._socket.close()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, _ = await loop.sock_accept(listening)
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    logger.error("connections have to wait: %s", error)
                    await asyncio.sleep(PAUSE)
                continue  # otherwise the caller has gone already
            if len(self._handshakes) >= self.limits.connections:
                oldest = next(iter(self._handshakes))
                del self._handshakes[oldest]
                oldest.cancel()
            task = loop.create_task(self._handshake(sock))
            self._handshakes[task] = None
            task.add_done_callback(self._done)

    async def _handshake(self, sock: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._protocol,
                sock,
                ssl=self._tls,
                ssl_handshake_timeout=self.limits.request_time,
                ssl_shutdown_timeout=self.limits.grace or 0.1,
            )
        except OSError:
            pass  # of TLS, too: there is nobody to answer

    def _done(self, task: asyncio.Task[None]) -> None:
        self._handshakes.pop(task, None)
        if not task.cancelled() and task.exception() is not None:
            logger.error("a connection failed", exc_info=task.exception())


def _socket(address: str, port: int) -> socket.socket:
    """Return a listening socket, whose options those that it accepts inherit."""
    if address in ("", "*"):
        if socket.has_dualstack_ipv6():
            sock = socket.create_server(
                ("", port), family=socket.AF_INET6, backlog=BACKLOG, dualstack_ipv6=True
            )
        else:
            sock = socket.create_server(("", port), backlog=BACKLOG)
    else:
        family, _, _, _, place = socket.getaddrinfo(
            address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.create_server(place[:2], family=family, backlog=BACKLOG)
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    keep_alive(sock)
    return sock
