"""The other end of a simulated stream, as much like a socket as the suite needs."""

from __future__ import annotations

import errno
import socket
from collections import deque
from typing import Any

from holdfast import ops
from holdfast.drivers.simulated import Connection, World


class SimulatedSocket:
    """A connection in the hands of a test; it reads only when it is asked to."""

    def __init__(self, world: World, connection: Connection) -> None:
        self._world = world
        self._connection = connection
        self._data = bytearray()
        self._ended = False
        connection.pause()

    # What the driver calls.

    def received(self, data: bytes) -> None:
        self._data += data

    def ended(self, error: OSError | None) -> None:
        self._ended = True

    # What a test calls.

    def recv(self, size: int) -> bytes:
        """Return what has come, or comes when the world goes on."""
        self._connection.resume()
        while not self._data and not self._ended:
            assert self._world.next <= self._world.now, "nothing was sent"
            self._world.happen()
        self._connection.pause()
        data = bytes(self._data[:size])
        del self._data[:size]
        return data

    def answer(self, prefix: bytes) -> None:
        """Answer what comes next."""

        def received(data: bytes) -> None:
            self._connection.send(prefix + data)
            del self.received
            self._connection.pause()

        self.received = received  # type: ignore[method-assign]
        self._connection.resume()

    def sendall(self, data: bytes) -> None:
        """Send data, in pieces as a system does."""
        for start in range(0, len(data), 1 << 16):
            self._connection.send(data[start : start + (1 << 16)])

    def close(self) -> None:
        self._connection.close()

    def getpeername(self) -> tuple[str, int]:
        return self._connection.source, 0


class SimulatedListening:
    """A simulated address that takes connections."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._accepted: deque[SimulatedSocket] = deque()
        self._all: list[SimulatedSocket] = []
        world.listen("127.0.0.1:8000", self._take)

    def _take(self, connection: Connection) -> SimulatedSocket:
        peer = SimulatedSocket(self._world, connection)
        self._accepted.append(peer)
        self._all.append(peer)
        return peer

    @property
    def address(self) -> ops.Address:
        return socket.AF_INET, ("127.0.0.1", 8000)

    def accept(self) -> Any:
        """Return the next connection."""
        if not self._accepted:
            raise OSError(errno.EAGAIN, "nobody connected")
        return self._accepted.popleft()

    def close_accepted(self) -> None:
        """Close the peers' ends."""
        for peer in self._all:
            peer.close()
