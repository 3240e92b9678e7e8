"""Simulated hosts: functions that answer requests, or queues with workers that take time.

Theory of operation: each connection has a `Session`, which cuts requests out of the bytes and
has one of them served at a time, in order, as servers of HTTP/1.1 do. A request is a `Job`,
which ends with a reply. Whatever is to happen later is an event that carries the job; an event of
a job that the host does not know any more, after a crash, finds it abandoned and does nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import inf, isfinite
from typing import TYPE_CHECKING, Any, TypeAlias

from holdfast.simulation.requests import Asked, Reply
from holdfast.simulation.services import Service
from holdfast.simulation.sessions import Job, Session

if TYPE_CHECKING:
    import random as random_module

    from holdfast.drivers.simulated import Connection, World

__all__ = ["Asked", "Behaviour", "Host", "Reply", "Service"]

#: How a host answers: a function, the same reply each time, or a queue with workers.
Behaviour: TypeAlias = "Callable[[Asked], Reply] | Reply | Service"

_OK = Reply()


class Host:
    """A host that listens at an address of a world.

    ``behaviour``: a function from `Asked` to `Reply`, a `Reply`, or a `Service`; it may be replaced
    at any time. ``record``: keep what was asked, in ``asked``.

    Counts: ``requests`` that came, ``served`` (answered, errors too), ``rejected`` (of those, 503
    because the queue was full), ``wasted`` (worked on for a client that had gone away),
    ``connects``.
    """

    def __init__(
        self,
        world: World,
        address: str,
        behaviour: Behaviour | None = None,
        *,
        record: bool = False,
    ) -> None:
        self.world = world
        self.address = address
        self.behaviour: Behaviour = behaviour if behaviour is not None else Reply()
        self.asked: list[Asked] = []
        self.requests = self.served = self.rejected = self.wasted = self.connects = 0
        self.busy = 0
        self._connect_after = 0.0
        #: False refuses new connections; those that are open stay.
        self.accepts = True
        self.up = False
        self.frozen = False
        self._record = record
        self.factor = 1.0
        self._random: random_module.Random = world.randomness(address)
        self._sessions: dict[Session, None] = {}  # a set that knows its order
        self._queue: deque[Job] = deque()
        self._late: list[tuple[Callable[[Any, Any], None], Any, Any]] = []
        self.restart()

    def __repr__(self) -> str:
        state = "frozen" if self.frozen else "up" if self.up else "down"
        return f"<Host {self.address} {state}: {self.busy} busy, {self.queued} queued>"

    @property
    def queued(self) -> int:
        """How many requests wait for a worker."""
        return len(self._queue)

    @property
    def open(self) -> int:
        """How many connections are open."""
        return len(self._sessions)

    @property
    def connect_after(self) -> float:
        """How long it takes to be connected to, besides the network, in seconds."""
        return self._connect_after

    @connect_after.setter
    def connect_after(self, seconds: float) -> None:
        self._connect_after = self._listener.after = seconds

    # What goes wrong.

    def crash(self, silent: bool = False) -> None:
        """Lose all connections and all work, and take no connections.

        Clients see resets and refused connections, as when a process dies; with ``silent`` they
        see nothing at all, as when a machine loses its power.
        """
        self.world.unlisten(self.address)
        sessions, self._sessions = self._sessions, {}
        for session in sessions:
            session.lose()
            if silent:
                session.connection.vanish()
            else:
                session.connection.reset()
        if silent:
            self.world.dark.add(self.address)
        self._queue.clear()
        self._late.clear()
        self.busy = 0
        self.up = self.frozen = False

    def restart(self) -> None:
        """Come back, as new, after a crash or a stop; the pace stays."""
        if self.up:
            self.crash()
        self.world.dark.discard(self.address)
        self._listener = self.world.listen(self.address, self._accept)
        self._listener.after = self._connect_after
        self.up = True
        self.frozen = False

    def stop(self) -> None:
        """Take no further connections, and close each when nothing is served on it."""
        self.world.unlisten(self.address)
        self.up = False
        for session in list(self._sessions):
            session.leave()

    def slow(self, factor: float) -> None:
        """Take so many times as long for everything from now on; 1 is the usual pace."""
        if isinstance(factor, bool) or not isfinite(factor) or factor <= 0:
            raise ValueError(f"factor must be a number above 0, not {factor!r}")
        self.factor = factor

    def freeze(self) -> None:
        """Do nothing, though the system still takes connections and bytes, until `thaw`."""
        self.frozen = True
        for session in self._sessions:
            session.connection.pause()

    def thaw(self) -> None:
        """Go on after a `freeze`, with all that has come meanwhile."""
        if not self.frozen:
            return
        self.frozen = False
        late, self._late = self._late, []
        for function, a, b in late:
            function(a, b)
        for session in list(self._sessions):
            session.connection.resume()

    # How a connection and a request go their way.

    def _accept(self, connection: Connection) -> Session | None:
        if not self.accepts:
            return None
        self.connects += 1
        session = Session(self, connection)
        self._sessions[session] = None
        if self.frozen:
            connection.pause()
        return session

    def begin(self, job: Job) -> None:
        """Serve a request."""
        self.requests += 1
        if self._record:
            self.asked.append(job.asked)
        behaviour = self.behaviour
        if isinstance(behaviour, Service):
            if self.busy < behaviour.workers:
                self._work(job, behaviour)
            elif len(self._queue) < behaviour.queue:
                self._queue.append(job)
            else:
                self.rejected += 1
                self._finish(job, Reply(503))
            return
        self._reply(job, behaviour)

    def _reply(self, job: Job, behaviour: Reply | Callable[[Asked], Reply]) -> None:
        reply = behaviour if isinstance(behaviour, Reply) else behaviour(job.asked)
        if reply.after < inf:
            after = reply.after * self.factor
            self.world.push(self.world.now + after, self._finish, job, reply)

    def _work(self, job: Job, service: Service) -> None:
        """Have a worker take a request."""
        self.busy += 1
        job.working = True
        random = self._random.random
        reply, time = _OK, service.time
        if service.errors and random() < service.errors:
            reply, time = Reply(service.status), service.time_of_errors
        elif service.body:
            reply = Reply(body=service.body)
        seconds = time.sample(random) * self.factor  # type: ignore[union-attr]
        self.world.push(self.world.now + seconds, self._worked, job, reply)

    def _worked(self, job: Job, reply: Reply) -> None:
        """Note that a worker is done with a request."""
        if self.frozen:
            self.postpone(self._worked, job, reply)
        elif job.working:
            job.working = False
            if job.session is None:
                self.wasted += 1
            self._finish(job, reply)
            self._free()

    def _free(self) -> None:
        """Have the worker that has become free take the next request."""
        self.busy -= 1
        service = self.behaviour
        if not isinstance(service, Service):  # it was replaced
            while self._queue:
                self._reply(self._queue.popleft(), service)
            return
        while self._queue and self.busy < service.workers:
            self._work(self._queue.popleft(), service)

    def _finish(self, job: Job, reply: Reply) -> None:
        if self.frozen:
            self.postpone(self._finish, job, reply)
        elif job.session is not None:
            self.served += 1
            job.session.answer(job, reply)

    # What sessions call besides `begin`.

    def postpone(self, function: Callable[[Any, Any], None], a: Any, b: Any) -> None:
        """Call a function when the host is not frozen any more."""
        self._late.append((function, a, b))

    def closed(self, session: Session) -> None:
        """Forget a connection that the host closed."""
        self._sessions.pop(session, None)

    def left(self, session: Session, job: Job | None) -> None:
        """Note that a client went away, perhaps before its answer."""
        self._sessions.pop(session, None)
        if job is None:
            return
        job.session = None
        service = self.behaviour
        if not isinstance(service, Service) or service.abandoned != "drop":
            return
        if job.working:
            job.working = False
            self._free()
        elif job in self._queue:
            self._queue.remove(job)  # it keeps nobody else out
