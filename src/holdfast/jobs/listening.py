"""What the listening sockets of the daemon and of the dispatcher have in common."""

from __future__ import annotations

import socket

__all__ = ["keep_alive"]

# Seconds without a sign of life before the system asks whether a peer is there, and between its
# questions; after so many without an answer the connection is broken. Who waits for a job says
# nothing for hours.
_KEEPALIVE = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))


def keep_alive(sock: socket.socket) -> None:
    """Let a listening socket notice peers that have vanished; those it accepts inherit it."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE:
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
