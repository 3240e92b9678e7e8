"""A server that plays scripts of raw bytes.

A script is a sequence of steps, of which bytes are one: they are sent. Connection n
plays the n-th script; connections beyond the last script play the last one again.

    hello = [Receive(), response(200, b"hello"), Receive(), Reset()]
    with ScriptedServer(hello) as server:
        ...
    assert [request.target for request in server.requests] == ["/a", "/b"]

A script ends quietly where the client has gone; the connection is closed at its end. A
request that breaks the protocol, and one that does not come in time, is raised when the
server's context ends.
"""

from __future__ import annotations

import os
import ssl
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self, TypeAlias

from tests.servers.connection import Connection
from tests.servers.listening import Listener
from tests.servers.messages import PeerClosed, Request

STEP_LIMIT = 30.0
"""Seconds that a step waits for the client or for an event of the test."""


class Step(Protocol):
    """One thing that a server does with a connection."""

    def play(self, connection: Connection) -> None:
        """Do it."""
        ...


Script: TypeAlias = Sequence[Step | bytes]


def play(script: Script, connection: Connection) -> None:
    """Play the steps of a script, one after the other."""
    for step in script:
        if isinstance(step, bytes):
            connection.send(step)
        else:
            step.play(connection)


@dataclass(frozen=True)
class Receive:
    """Receive and record a request; without its body, if `body` is false."""

    body: bool = True
    timeout: float = STEP_LIMIT

    def play(self, connection: Connection) -> None:
        """Read the request."""
        connection.sock.settimeout(self.timeout)
        request = connection.reader.head()
        if self.body:
            connection.reader.body(request)
        connection.server.note(request)


@dataclass(frozen=True)
class ReceiveBody:
    """Receive the body of the last request, whose head alone was received."""

    timeout: float = STEP_LIMIT

    def play(self, connection: Connection) -> None:
        """Read the body into the request recorded last on this connection."""
        assert isinstance(connection.server, ScriptedServer)
        connection.sock.settimeout(self.timeout)
        request = connection.server.requests_on(connection.number)[-1]
        connection.reader.body(request)


@dataclass(frozen=True)
class ReceiveBytes:
    """Receive and forget a number of bytes, whatever they are."""

    size: int
    timeout: float = STEP_LIMIT

    def play(self, connection: Connection) -> None:
        """Read the bytes."""
        connection.sock.settimeout(self.timeout)
        connection.reader.exactly(self.size)


@dataclass(frozen=True)
class ReceiveEnd:
    """Wait until the client closes, and record what it sent before in `server.leftovers`."""

    timeout: float = STEP_LIMIT

    def play(self, connection: Connection) -> None:
        """Read up to the end."""
        assert isinstance(connection.server, ScriptedServer)
        connection.sock.settimeout(self.timeout)
        connection.server.leftovers[connection.number] = connection.reader.drain()


@dataclass(frozen=True)
class Send:
    """Send bytes, in one piece."""

    data: bytes

    def play(self, connection: Connection) -> None:
        """Send them."""
        connection.send(self.data)


@dataclass(frozen=True)
class SendSlowly:
    """Send bytes in pieces of `chunk`, one every `interval` seconds.

    With a `pace`, each piece is sent when the test releases the semaphore once more, and
    no time is involved.
    """

    data: bytes
    chunk: int = 1
    interval: float = 0.01
    pace: threading.Semaphore | None = None

    def play(self, connection: Connection) -> None:
        """Send the pieces."""
        for start in range(0, len(self.data), self.chunk):
            if self.pace is None:
                connection.wait(None, self.interval)
            else:
                self._await_pace(self.pace, connection)
            connection.send(self.data[start : start + self.chunk])

    def _await_pace(self, pace: threading.Semaphore, connection: Connection) -> None:
        for _ in range(int(STEP_LIMIT / 0.05)):
            if pace.acquire(timeout=0.05):
                return
            if connection.server.stopping:
                raise PeerClosed
        raise AssertionError("the test never released the next piece")


@dataclass(frozen=True)
class SendForever:
    """Send the same bytes again and again until the client closes, or up to a limit."""

    data: bytes
    limit: int = 1 << 28

    def play(self, connection: Connection) -> None:
        """Send and send."""
        block = self.data * max(1, (1 << 16) // len(self.data))
        for _ in range(max(1, self.limit // len(block))):
            connection.send(block)


@dataclass(frozen=True)
class Wait:
    """Wait for an event of the test, and fail when it does not come."""

    event: threading.Event
    timeout: float = STEP_LIMIT

    def play(self, connection: Connection) -> None:
        """Wait, or end quietly with the client or the server."""
        if not connection.wait(self.event, self.timeout):
            raise AssertionError("the test never set the event of a Wait step")


@dataclass(frozen=True)
class Hold:
    """Keep the connection open and silent.

    It lasts until the event is set, the client closes, or the server stops.
    """

    until: threading.Event | None = None
    timeout: float = STEP_LIMIT

    def play(self, connection: Connection) -> None:
        """Say nothing."""
        connection.wait(self.until, self.timeout)


@dataclass(frozen=True)
class Close:
    """Close the connection with FIN."""

    def play(self, connection: Connection) -> None:
        """Close it, and end the script."""
        connection.close()
        raise PeerClosed


@dataclass(frozen=True)
class HalfClose:
    """Send FIN and go on with the script, which may receive still."""

    def play(self, connection: Connection) -> None:
        """Shut down the sending side."""
        connection.shut_down_sending()


@dataclass(frozen=True)
class Reset:
    """Close the connection with RST."""

    def play(self, connection: Connection) -> None:
        """Reset it, and end the script."""
        connection.reset()
        raise PeerClosed


@dataclass(frozen=True)
class Repeat:
    """Play steps a number of times, or until the client closes."""

    script: Script
    times: int | None = None

    def play(self, connection: Connection) -> None:
        """Play them again and again."""
        left = self.times
        while left is None or left > 0:
            play(self.script, connection)
            left = None if left is None else left - 1


class ScriptedServer(Listener):
    """Play a script to each connection and record what came in.

    `requests` has every request in the order of arrival, `leftovers` the bytes that a
    `ReceiveEnd` step found, by connection number.
    """

    def __init__(
        self,
        *scripts: Script,
        host: str = "127.0.0.1",
        path: str | os.PathLike[str] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Take the scripts of the first, second, … connection."""
        if not scripts:
            raise ValueError("a scripted server needs a script")
        super().__init__(host, path=path, tls=tls)
        self.requests: list[Request] = []
        self.leftovers: dict[int, bytes] = {}
        self._scripts = scripts

    def serve(self, connection: Connection) -> None:
        """Play the connection's script."""
        play(self._scripts[min(connection.number, len(self._scripts) - 1)], connection)

    def note(self, request: Request) -> None:
        """Record a request."""
        with self.changed:
            self.requests.append(request)
            super().note(request)

    def requests_on(self, connection: int) -> list[Request]:
        """Return the requests that came over one connection."""
        with self.changed:
            return [request for request in self.requests if request.connection == connection]

    def wait_for_requests(self, count: int, timeout: float = 10.0) -> Self:
        """Wait until `count` requests have come."""
        self.wait_for(lambda: len(self.requests) >= count, timeout)
        return self
