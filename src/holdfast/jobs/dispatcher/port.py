"""The client port as a whole: which connections there are, how many, and for how long.

A connection *rests* while nothing of what it asked for is on its way: it has sent no request yet,
or all are answered. It may rest for a while, and when there are too many connections, the one that
has rested longest gives way to a new one. A connection that waits for a job does not rest.
"""

from __future__ import annotations

import asyncio
import logging
import resource
from typing import TYPE_CHECKING

from holdfast.jobs.dispatcher.clients import ClientConnection
from holdfast.jobs.dispatcher.security import Security

if TYPE_CHECKING:
    from holdfast.jobs.dispatcher.config import Config
    from holdfast.jobs.dispatcher.dispatcher import Dispatcher

__all__ = ["ClientPort"]

log = logging.getLogger(__name__)

#: How many seconds answers may take that are being looked for when the port closes.
LINGER = 5.0

#: How often it is said that connections are turned away, in seconds.
COMPLAINT = 60.0


class ClientPort:
    """What the connections of clients share."""

    def __init__(self, dispatcher: Dispatcher, config: Config) -> None:
        self.dispatcher = dispatcher
        self.configure(config)
        self.connections: set[ClientConnection] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        # Those that rest, and since when: the one that has longest is the first.
        self._resting: dict[ClientConnection, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._complained: float | None = None

    def configure(self, config: Config) -> None:
        """Take what a configuration says of clients: who may ask for what, how many, how long."""
        self.security = Security(config)
        self._rest = config.idle_timeout
        # What is left is for the hosts, the store and those who administer.
        allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.most = min(config.max_connections, allowed * 3 // 4)

    def __call__(self) -> ClientConnection:
        """Return the protocol of a new connection."""
        return ClientConnection(self)

    def enter(self, connection: ClientConnection) -> bool:
        """Take in a new connection; return False if there is no room."""
        if len(self.connections) >= self.most:
            oldest = next(iter(self._resting), None)
            self._complain(
                "new ones are turned away" if oldest is None else "silent ones are closed"
            )
            if oldest is None:
                return False
            self.leave(oldest)
            oldest.abort()
        self.connections.add(connection)
        return True

    def leave(self, connection: ClientConnection) -> None:
        """Forget a connection."""
        self.connections.discard(connection)
        self._resting.pop(connection, None)

    def rests(self, connection: ClientConnection) -> None:
        """Take notice that a connection rests, from now on unless it has before."""
        if connection in self.connections and connection not in self._resting:
            loop = asyncio.get_running_loop()
            self._resting[connection] = loop.time()
            if self._timer is None:
                self._timer = loop.call_later(self._rest, self._expire)

    def works(self, connection: ClientConnection) -> None:
        """Take notice that a connection does not rest any more."""
        self._resting.pop(connection, None)

    async def close(self) -> None:
        """Finish the answers that are being looked for, then close all connections."""
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=LINGER)
        for connection in list(self.connections):
            connection.close()
        if self._timer is not None:
            self._timer.cancel()

    def _expire(self) -> None:
        """Close the connections that have rested too long; the timer may be early."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection, since in list(self._resting.items()):
            if since + self._rest > now:
                break
            self.works(connection)
            connection.expire()
        oldest = next(iter(self._resting.values()), None)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if oldest is None else loop.call_at(oldest + self._rest, self._expire)

    def _complain(self, what: str) -> None:
        now = asyncio.get_running_loop().time()
        if self._complained is None or now - self._complained >= COMPLAINT:
            self._complained = now
            log.warning("there are %d clients, as many as there may be: %s", self.most, what)
