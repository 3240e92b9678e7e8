"""Connections to hosts: new ones, and those that are kept for another call."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from holdfast.jobs.dispatcher.connection import HostConnection
from holdfast.jobs.keeping import CALLER_IDLE

if TYPE_CHECKING:
    from holdfast.jobs.dispatcher.registry import Host
    from holdfast.jobs.dispatcher.tls import HostTls

__all__ = ["Hosts"]

#: How many connections to a host are kept.
KEPT = 64

_USER_TIMEOUT: int | None = getattr(socket, "TCP_USER_TIMEOUT", None)


class Hosts:
    """Gives connections to hosts.

    A host that knows `holdfast.jobs.keeping` is called on connections that are kept from one call
    to the next. ``tls``: how they are secured. ``limit``: the longest line of a host, in bytes.
    ``patience``: the seconds after which a connection is broken whose end does not confirm that it
    has received a request; a new connection has a limit of its own, a kept one only this.
    """

    def __init__(self, tls: HostTls, limit: int, patience: float) -> None:
        self.tls = tls
        self._limit = limit
        self._patience = max(1, min(int(patience * 1000), (1 << 31) - 1))
        # By address; the one that was used last is used next.
        self._kept: dict[tuple[str, int], dict[HostConnection, float]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def take(self, host: Host) -> HostConnection | None:
        """Return a kept connection to a host, or None."""
        kept = self._kept.get((host.address, host.port))
        if not kept:
            return None
        connection, since = kept.popitem()
        if asyncio.get_running_loop().time() - since <= CALLER_IDLE:
            return connection
        # The loop was busy: the others are older.
        connection.drop()
        self._drop(kept)
        return None

    def new(self, host: Host) -> HostConnection:
        """Return a connection that is still to be made.

        Raises ValueError when the address is none, nor a name; OSError when memory is short.
        """
        return HostConnection(self, host, self._limit)

    def keep(self, connection: HostConnection) -> None:
        """Keep a connection whose call is over."""
        host = connection.host
        kept = self._kept.setdefault((host.address, host.port), {})
        if self._closed or len(kept) >= KEPT:
            connection.drop()
            return
        loop = asyncio.get_running_loop()
        kept[connection] = loop.time()
        if self._timer is None:
            self._timer = loop.call_later(CALLER_IDLE, self._expire)

    def lost(self, connection: HostConnection) -> None:
        """Forget a kept connection that the host has closed."""
        host = connection.host
        self._kept.get((host.address, host.port), {}).pop(connection, None)

    def prepare(self, sock: socket.socket | None) -> None:
        """Set what holds for every connection."""
        if sock is not None and _USER_TIMEOUT is not None:
            sock.setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT, self._patience)

    def close(self) -> None:
        """Close what is kept, and keep nothing more: calls that run go on."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for kept in self._kept.values():
            self._drop(kept)

    def _drop(self, kept: dict[HostConnection, float]) -> None:
        while kept:
            kept.popitem()[0].drop()

    def _expire(self) -> None:
        """Close the connections that have waited too long."""
        loop = asyncio.get_running_loop()
        self._timer = None
        oldest = loop.time()
        for address, kept in list(self._kept.items()):
            for connection, since in list(kept.items()):
                if since > loop.time() - CALLER_IDLE:
                    oldest = min(oldest, since)
                    break
                del kept[connection]
                connection.drop()
            if not kept:
                del self._kept[address]
        if self._kept:
            self._timer = loop.call_at(oldest + CALLER_IDLE, self._expire)
