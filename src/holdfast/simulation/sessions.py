"""The connections of simulated hosts: requests cut out of bytes, and replies put into them."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from holdfast.simulation.requests import Asked, Reply, head_of, response_of, size_of_body

if TYPE_CHECKING:
    from holdfast.drivers.simulated import Connection
    from holdfast.simulation.hosts import Host

__all__ = ["Job", "Session"]

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Job:
    """One request in a host; ``session`` is None when its client went away."""

    __slots__ = ("asked", "session", "working")

    def __init__(self, asked: Asked, session: Session) -> None:
        self.asked = asked
        self.session: Session | None = session
        self.working = False  # whether a worker is at it


class Session:
    """A connection of a host, and the request that is served on it."""

    __slots__ = ("_data", "_leaving", "_told", "connection", "host", "job")

    def __init__(self, host: Host, connection: Connection) -> None:
        self.host = host
        self.connection = connection
        self.job: Job | None = None
        self._data = b""
        self._told = False  # to go on with the body
        self._leaving = False

    def received(self, data: bytes) -> None:
        """Take bytes, and have a request served when there is one and none is being served."""
        self._data = self._data + data if self._data else data
        if self.job is None:
            self._next()

    def ended(self, error: OSError | None) -> None:
        """Note that the client went away."""
        job, self.job = self.job, None
        self.host.left(self, job)

    def lose(self) -> None:
        """Forget what is served."""
        if self.job is not None:
            self.job.session = None
            self.job.working = False
            self.job = None

    def leave(self) -> None:
        """Close the connection when nothing is served on it any more."""
        self._leaving = True
        if self.job is None:
            self._close()

    def answer(self, job: Job, reply: Reply) -> None:
        """Send a reply, or let the connection suffer the fate that it tells."""
        if reply.fate == "reset" or isinstance(reply.fate, OSError):
            self.host.closed(self)
            self.lose()
            self.connection.reset(reply.fate if isinstance(reply.fate, OSError) else None)
        elif reply.fate == "close":
            self._close()
        else:
            bodiless = job.asked.method == "HEAD"
            self.connection.send(response_of(reply, bodiless))
            self._continue(job, (reply, 0))

    def _continue(self, job: Job, progress: tuple[Reply, int]) -> None:
        """Send a piece of the body if it is time, and see to the next one."""
        if job.session is None:
            return
        reply, index = progress
        world = self.host.world
        if index < len(reply.pieces) and job.asked.method != "HEAD":
            seconds = reply.pieces[index][0] * self.host.factor
            if seconds < inf:
                world.push(world.now + seconds, self._piece, job, progress)
        elif reply.fate == "cut":
            self._close()
        else:
            self.job = None
            if self._leaving:
                self._close()
            elif self._data:
                self._next()

    def _piece(self, job: Job, progress: tuple[Reply, int]) -> None:
        if self.host.frozen:
            self.host.postpone(self._piece, job, progress)
        elif job.session is not None:
            reply, index = progress
            self.connection.send(reply.pieces[index][1])
            self._continue(job, (reply, index + 1))

    def _close(self) -> None:
        self.host.closed(self)
        self.lose()
        self.connection.close()

    def _next(self) -> None:
        """Cut a request out of what came."""
        data = self._data
        found = head_of(data)
        if found is None:
            return
        head, start = found
        size = size_of_body(head, data, start)
        if size is None:
            if head.expects and not self._told and len(data) == start:
                self._told = True
                self.connection.send(_CONTINUE)
            return
        end = start + size
        body = data[start:end] if size else b""
        self._data = data[end:] if end < len(data) else b""
        self._told = False
        host = self.host
        asked = Asked(
            head.method, head.target, head.text, body, host.world.now, self.connection.source
        )
        self.job = job = Job(asked, self)
        host.begin(job)
