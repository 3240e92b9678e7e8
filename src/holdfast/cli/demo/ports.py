"""Ports of loopback that stay reserved while nobody listens on them."""

from __future__ import annotations

import socket

__all__ = ["ReservedPort", "bound"]


def bound(port: int) -> socket.socket:
    """Return a socket bound to a port of loopback, which this user may bind once more."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("127.0.0.1", port))
    except BaseException:
        sock.close()
        raise
    return sock


class ReservedPort:
    """A port that the system picked, held for a server that is killed and started again.

    A socket that is bound and never listens keeps the number from everyone else, and the kernel
    refuses every connection to it.
    """

    def __init__(self) -> None:
        self._socket = bound(0)
        self.port: int = self._socket.getsockname()[1]

    def close(self) -> None:
        """Give the port back to the system."""
        self._socket.close()
