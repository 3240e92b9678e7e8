"""Listening sockets, and connections until their TLS handshake is done.

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

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

__all__ = ["Listener"]

logger = logging.getLogger(__name__)

#: Connections that the system keeps until they are accepted.
BACKLOG = 1024

#: Seconds to wait for something to be free, when there are no more descriptors.
PAUSE = 0.5

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

# Seconds without a sign of life before the system asks whether a peer is there, and between its
# questions; after so many without an answer the connection is broken. Who waits for a job says
# nothing for hours.
_KEEPALIVE = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))


class Listener:
    """Accepts connections, and gives a protocol those whose handshake succeeds, if TLS is on."""

    def __init__(
        self, protocol: Callable[[], asyncio.Protocol], tls: ssl.SSLContext | None
    ) -> None:
        self._protocol = protocol
        self._tls = tls
        # In the order of their coming.
        self._handshakes: dict[asyncio.Task[None], None] = {}
        self._accepting: dict[asyncio.Task[None], socket.socket] = {}

    def limit(self, most: int, handshake: float, shutdown: float) -> None:
        """Say how many handshakes there may be, and the seconds TLS may take to begin and end."""
        self._most = most
        self._times: dict[str, float] = {}
        if self._tls is not None:
            self._times = {"ssl_handshake_timeout": handshake, "ssl_shutdown_timeout": shutdown}

    def listen(self, address: str, port: int) -> list[str]:
        """Accept connections from now on; return the addresses. Raises OSError."""
        sockets = _listening(address, port)
        for sock in sockets:
            self._accepting[asyncio.get_running_loop().create_task(self._accept(sock))] = sock
        return [_address_of(sock) for sock in sockets]

    async def close(self) -> None:
        """Accept no more, and close what has not got through its handshake."""
        tasks = [*self._handshakes, *self._accepting]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for sock in self._accepting.values():
            sock.close()
        self._accepting.clear()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, _ = await loop.sock_accept(listening)
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    logger.error("connections have to wait: %s", error)
                    await asyncio.sleep(PAUSE)
                continue  # otherwise the peer has gone already
            if len(self._handshakes) >= self._most:
                oldest = next(iter(self._handshakes))
                del self._handshakes[oldest]
                oldest.cancel()
            task = loop.create_task(self._begin(sock))
            self._handshakes[task] = None
            task.add_done_callback(self._done)

    async def _begin(self, sock: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._protocol, sock, ssl=self._tls, **self._times
            )
        except OSError:
            pass  # of TLS, too: there is nobody to answer

    def _done(self, task: asyncio.Task[None]) -> None:
        self._handshakes.pop(task, None)
        if not task.cancelled() and task.exception() is not None:
            logger.error("a connection failed", exc_info=task.exception())


def _listening(address: str, port: int) -> list[socket.socket]:
    """Return non-blocking sockets that listen on each address of a name; raises OSError.

    No name, or ``*``, is every address. What is set here, those that they accept inherit.
    """
    sockets: list[socket.socket] = []
    try:
        if address not in ("", "*"):
            found = socket.getaddrinfo(
                address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            for family, place in dict.fromkeys((one[0], one[4]) for one in found):
                sockets.append(socket.create_server(place[:2], family=family, backlog=BACKLOG))
        elif socket.has_dualstack_ipv6():
            sockets.append(
                socket.create_server(
                    ("", port), family=socket.AF_INET6, backlog=BACKLOG, dualstack_ipv6=True
                )
            )
        else:
            sockets.append(socket.create_server(("", port), backlog=BACKLOG))
    except OSError:
        for sock in sockets:
            sock.close()
        raise
    for sock in sockets:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _keep_alive(sock)
    return sockets


def _keep_alive(sock: socket.socket) -> None:
    """Let a socket, and those that it accepts, notice peers that have vanished."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE:
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _address_of(sock: socket.socket) -> str:
    """Return where a socket listens, as ``host:port``."""
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
