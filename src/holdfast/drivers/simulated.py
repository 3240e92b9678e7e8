"""The simulated driver: programs run in virtual time, on a simulated network, from a seed.

Theory of operation: whatever happens is an event in a heap: a time, a number, a function and its
two arguments. The clock jumps from one event to the next, and between two nothing happens, so an
hour passes in the time that its events take. Events of one time happen in the order in which they
were asked for, deadlines after everything else: what comes at the last moment is in time. A
program takes part as a `Task`; each of its operations ends by an event of its own, so programs
that run at the same time take turns at every operation. Nothing here reads a clock, an address in
memory or a hash of a string: the same seed gives the same history.

Programs that several threads run follow each other. They are the ones that run in production.
"""

from __future__ import annotations

import errno
import os
import random
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf
from threading import RLock
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from zlib import crc32

from holdfast import ops
from holdfast.drivers.simulated_asyncio import Bridge
from holdfast.drivers.simulated_operations import PERFORM, await_data
from holdfast.drivers.simulated_pipes import FIRST_RETRY
from holdfast.drivers.simulated_streams import Connection, Peer, Stream
from holdfast.drivers.simulated_tasks import EndlessWait, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Connection", "EndlessWait", "Instant", "Network", "Peer", "Task", "World"]

T = TypeVar("T")

#: Added to an event's number, so that it comes after all others of its time.
_LATE = 1 << 60

#: As many alarms of tasks that are over are not worth a look at all events.
_STALE = 1000


class Network(Protocol):
    """What lies between those who connect and the hosts; each is known by a name.

    ``bandwidth``: bytes a second of each direction of a connection.
    """

    @property
    def bandwidth(self) -> float:
        """Bytes a second; infinity where sending takes no time."""

    def delay(self, source: str, target: str, size: int, again: float) -> float:
        """Return after how many seconds so many bytes arrive; infinity when they are cut off.

        ``again``: after how many seconds they are sent again when they are lost once. How long
        they take to be sent, by the bandwidth, is no part of it.
        """

    def refuses(self, source: str, target: str) -> bool:
        """Tell whether a connection is refused on the way."""


class Instant:
    """The network that takes no time and loses nothing."""

    bandwidth = inf

    def delay(self, source: str, target: str, size: int, again: float) -> float:
        """Return zero."""
        return 0.0

    def refuses(self, source: str, target: str) -> bool:
        """Refuse nobody."""
        return False


class Listener:
    """An address that takes connections; ``after`` seconds later than it could, infinity: never."""

    __slots__ = ("accept", "after")

    def __init__(self, accept: Callable[[Connection], Peer | None]) -> None:
        self.accept = accept
        self.after = 0.0


class World:
    """A clock, randomness, a network, who listens in it, and the programs that run in it.

    ``seed``: the same one gives the same history. ``start``: what the clock shows at first, in
    seconds. ``network``: by default one without delay or loss. ``history``: called with a line
    for each event.

        world = World(seed=1)
        Network(world, latency=0.001)
        host = Host(world, "10.0.0.1:80", lambda asked: Reply(after=0.1))
        response = world.run(core.call(request))
        assert world.now == 0.104  # there and back, to connect and to ask
    """

    def __init__(
        self,
        seed: int = 0,
        start: float = 0.0,
        *,
        network: Network | None = None,
        history: Callable[[str], object] | None = None,
    ) -> None:
        self.seed = seed
        self.began = self.now = start
        self.random = random.Random(seed).random
        self.network: Network = network if network is not None else Instant()
        self.history = history
        #: Addresses of host names; a name that listens itself needs none.
        self.names: dict[str, Sequence[str]] = {}
        #: Hosts without power: nothing reaches them, nothing comes from them.
        self.dark: set[str] = set()
        self.known: set[str] = set()  # every address that ever listened
        self.listeners: dict[str, Listener] = {}
        self.stale = 0  # alarms of tasks that are over
        self._events: list[tuple[float, int, Callable[[Any, Any], None], Any, Any]] = []
        self._order = count().__next__
        self.number = count(1).__next__
        self.bridge = Bridge(self)
        self._running = RLock()

    def __repr__(self) -> str:
        return f"<World at {self.now:g} s, {len(self._events)} events to come>"

    # What its users call.

    def clock(self) -> float:
        """Return the virtual time in seconds."""
        return self.now

    def randomness(self, name: str) -> random.Random:
        """Return a generator of its own for a part of the world.

        So what one part draws changes nothing for the others.
        """
        return random.Random(f"{self.seed}/{name}")

    def run(self, program: ops.Program[T], source: str = "client") -> T:
        """Run a program to its end and return its result.

        ``source`` names who runs it, for the network. Raises what the program raises, and
        EndlessWait when nothing is left to happen.
        """
        with self._running:
            task = self.start(program, source=source)
            try:
                while not task.done:
                    if not self._events:
                        raise EndlessWait(self.waits(task))
                    self.happen()
            except BaseException:
                task.cancel()
                raise
        return task.result()  # type: ignore[no-any-return]

    async def arun(self, program: ops.Program[T], source: str = "client") -> T:
        """Run a program to its end from asyncio, at the same time as others.

        Time goes on when every program waits and the event loop has nothing else to do. What a
        function of the user's returns is awaited.
        """
        return await self.bridge.run(program, source)  # type: ignore[no-any-return]

    def start(
        self,
        program: ops.Program[Any],
        done: Callable[[Task], object] | None = None,
        *,
        source: str = "client",
    ) -> Task:
        """Start a program, which goes on whenever time does; ``done`` is called at its end."""
        task = Task(self, program, source, self.number(), done)
        self.push(self.now, Task.begin, task, None)
        return task

    def advance(self, seconds: float) -> None:
        """Let time pass, and happen what happens until then."""
        if not seconds >= 0:
            raise ValueError(f"seconds must be 0 or more, not {seconds!r}")
        self.run_until(self.now + seconds)

    def run_until(self, time: float) -> None:
        """Let happen what happens until a time, and let it be that time."""
        events = self._events
        while events and events[0][0] <= time:
            self.happen()
        if time < inf:
            self.now = max(self.now, time)

    def at(self, time: float, function: Callable[..., object], *arguments: Any) -> None:
        """Call a function at a time, or now when that has passed."""
        self.push(time if time > self.now else self.now, _call, function, arguments)

    def listen(self, address: str, accept: Callable[[Connection], Peer | None]) -> Listener:
        """Take connections to an address: ``name:port``, ``[v6]:port`` or ``unix:/path``.

        ``accept`` is called with each, and returns who is told what arrives; None refuses it, an
        OSError is thrown into the program that connects.
        """
        if address in self.listeners:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        self.known.add(address)
        listener = self.listeners[address] = Listener(accept)
        return listener

    def unlisten(self, address: str) -> None:
        """Refuse connections to an address from now on."""
        self.listeners.pop(address, None)

    # What events, hosts and streams call.

    @property
    def next(self) -> float:
        """When the next event happens; infinity when none does."""
        return self._events[0][0] if self._events else inf

    def push(self, time: float, function: Callable[[Any, Any], None], a: Any, b: Any) -> None:
        """Have ``function(a, b)`` called at a time, which has not passed."""
        heappush(self._events, (time, self._order(), function, a, b))

    def happen(self) -> None:
        """Let the next event happen."""
        self.now, order, function, a, b = heappop(self._events)
        if self.history is not None:
            what = f"{self.now!r} {order & (_LATE - 1)} {function.__qualname__}"
            self.history(f"{what} {_told(a)} {_told(b)}")
        function(a, b)

    def delay(self, source: str, target: str, size: int, again: float = FIRST_RETRY) -> float:
        """Return how long bytes are underway; infinity when they are lost."""
        if self.dark and (source in self.dark or target in self.dark):
            return inf
        return self.network.delay(source, target, size, again)

    def step(self, task: Task, value: Any) -> None:
        """Send a result into a program and perform what it asks for next."""
        task.turn += 1
        task.deadline = inf
        task.running = True
        try:
            operation = task.send(value)
        except BaseException as error:
            task.running = False
            task.ended(error)
        else:
            task.running = False
            self._begin(task, operation)

    def throw(self, task: Task, error: BaseException) -> None:
        """Throw an error into a program and perform what it asks for next."""
        task.turn += 1
        task.deadline = inf
        task.running = True
        try:
            operation = task.program.throw(error)
        except BaseException as raised:
            task.running = False
            task.ended(raised)
        else:
            task.running = False
            self._begin(task, operation)

    def sent(self, task: Task) -> None:
        """Go on with a task all of whose data was taken."""
        if task.operation.__class__ is ops.Send:
            self.push(self.now, Task.resume, task, task.turn)
        else:
            await_data(task, task.operation)

    def receive(self, task: Task, turn: int) -> None:
        """Give a task what its stream has received."""
        if turn != task.turn:
            return
        operation: Any = task.operation
        stream: Stream = operation.stream
        try:
            if operation.__class__ is ops.ReceiveInto:
                data = stream.take(len(operation.buffer))
                operation.buffer[: len(data)] = data
                value: Any = len(data)
            else:
                value = stream.take(operation.limit)
        except OSError as error:
            self.throw(task, error)
        else:
            self.step(task, value)

    def later(self, task: Task, value: Any = None, error: BaseException | None = None) -> None:
        """End a task's operation in an event of its own, now."""
        task.value = value
        task.error = error
        self.push(self.now, Task.resume if error is None else Task.fail, task, task.turn)

    def waits(self, task: Task) -> str:
        """Say what a program waits for."""
        return f"nothing will ever end this wait: {task.described()}, at {self.now:g} s"

    def _begin(self, task: Task, operation: Any) -> None:
        task.operation = operation
        if task.closing:  # it was cancelled by what it did itself
            task.cancel(task.reason)
            return
        try:
            PERFORM[operation.__class__](task, operation)
        except Exception as error:
            self.later(task, error=error)

    def until(self, task: Task, deadline: float) -> None:
        """Have the operation time out at its deadline, unless it is over before."""
        task.deadline = deadline
        if deadline < task.alarm:
            task.alarm = deadline
            heappush(self._events, (deadline, _LATE + self._order(), Task.ring, task, deadline))

    def forget_alarm(self) -> None:
        """Note that an alarm is of no use any more; when most events are such, they are dropped.

        Else each call would be kept until its deadline, which may be hours after its end.
        """
        self.stale += 1
        if self.stale > _STALE and self.stale * 2 > len(self._events):
            self.stale = 0
            self._events[:] = [event for event in self._events if not _void(event)]
            heapify(self._events)


def _void(event: tuple[float, int, Callable[[Any, Any], None], Any, Any]) -> bool:
    """Tell whether an event is an alarm that nobody needs."""
    at, _, function, task, _ = event
    return function is Task.ring and (task.done or task.alarm != at)


def _call(function: Callable[..., object], arguments: Sequence[Any]) -> None:
    function(*arguments)


def _told(argument: Any) -> str:
    """Return how the history names an argument: never by where it is in memory."""
    if isinstance(argument, bytes):
        return f"{len(argument)} bytes {crc32(argument):08x}"
    if isinstance(argument, Task):
        return f"task {argument.number}"
    if isinstance(argument, Stream | Connection | OSError | int | float | str):
        return repr(argument)
    return getattr(argument, "__qualname__", type(argument).__name__)
