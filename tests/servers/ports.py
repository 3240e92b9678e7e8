"""Addresses on loopback that behave in one known way.

A test that closes a port and expects it to refuse has a race: another process may be
given the number, and a client that connects to a free port of the ephemeral range may
even meet itself. A socket that is bound and never listens takes the number out of
circulation, and the kernel refuses every connection to it.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

BACKLOG = 512
"""As many waiting connections as a burst of a test may bring."""


def format_address(host: str, port: int) -> str:
    """Format a host and a port as they stand in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def family_of(host: str) -> socket.AddressFamily:
    """Tell the address family of a numeric host."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def bound_socket(host: str, port: int = 0) -> socket.socket:
    """Return a TCP socket bound to a port, which others of this user may bind as well."""
    sock = socket.socket(family_of(host), socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, port))
    except BaseException:
        sock.close()
        raise
    return sock


class ReservedPort:
    """Hold a system-picked port for servers that stop and start again on it.

    While nobody listens on the port, connections to it are refused.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Bind `port` on `host`, or one that the system picks."""
        self.host = host
        self._socket = bound_socket(host, port)
        self.port: int = self._socket.getsockname()[1]

    def listen(self) -> socket.socket:
        """Return a new socket that listens on the port."""
        sock = bound_socket(self.host, self.port)
        sock.listen(BACKLOG)
        return sock

    def close(self) -> None:
        """Give the port back to the system."""
        self._socket.close()


@contextlib.contextmanager
def refusing_address(host: str = "127.0.0.1") -> Iterator[tuple[str, int]]:
    """Give a host and a port that refuse every connection."""
    port = ReservedPort(host)
    try:
        yield host, port.port
    finally:
        port.close()


@contextlib.contextmanager
def unanswering_address(host: str = "127.0.0.1") -> Iterator[tuple[str, int]]:
    """Give a host and a port where connecting neither succeeds nor fails.

    The queue of a listening socket that nobody accepts from is filled; Linux then drops
    the first packet of every other connection, as an unreachable host does.
    """
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket(family_of(host), socket.SOCK_STREAM))
        listening.bind((host, 0))
        listening.listen(0)
        address = listening.getsockname()[:2]
        # A queue of length zero takes one connection; the second makes sure that it is full.
        for _ in range(2):
            filler = stack.enter_context(socket.socket(family_of(host), socket.SOCK_STREAM))
            filler.setblocking(False)
            filler.connect_ex(address)
        yield address
