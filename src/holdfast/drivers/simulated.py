"""The simulated driver: programs run in virtual time, on a simulated network, from a seed.

Theory of operation: whatever happens is an event in a heap: a time, a number, a function and its
two arguments. The clock jumps from one event to the next, and between two nothing happens, so an
hour passes in the time that its events take. Events of one time happen in the order in which they
were asked for, deadlines after everything else: what comes at the last moment is in time. A
program takes part as a `Task`; each of its operations ends by an event of its own, so programs
that run at the same time take turns at every operation. Nothing here reads a clock, an address in
memory or a hash of a string: the same seed gives the same history.

A world is of one thread. Its programs are the ones that run in production.
"""

from __future__ import annotations

import errno
import os
import random
import socket
from functools import partial
from heapq import heappop, heappush
from itertools import count
from math import inf
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from zlib import crc32

from holdfast import ops
from holdfast.drivers.simulated_asyncio import Bridge
from holdfast.drivers.simulated_dialing import knock
from holdfast.drivers.simulated_streams import Connection, Peer, Stream
from holdfast.drivers.simulated_tasks import EndlessWait, Group, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Connection", "EndlessWait", "Instant", "Network", "Peer", "Task", "World"]

T = TypeVar("T")

#: Added to an event's number, so that it comes after all others of its time.
_LATE = 1 << 60


class Network(Protocol):
    """What lies between those who connect and the hosts; each is known by a name."""

    def delay(self, source: str, target: str, size: int) -> float:
        """Return after how many seconds so many bytes arrive; infinity when they are lost."""

    def refuses(self, source: str, target: str) -> bool:
        """Tell whether a connection is refused on the way."""


class Instant:
    """The network that takes no time and loses nothing."""

    def delay(self, source: str, target: str, size: int) -> float:
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
        self._known: set[str] = set()  # every address that ever listened
        self.listeners: dict[str, Listener] = {}
        self._events: list[tuple[float, int, Callable[[Any, Any], None], Any, Any]] = []
        self._order = count().__next__
        self._number = count(1).__next__
        self._bridge = Bridge(self)
        self._perform: dict[type, Callable[[Task, Any], None]] = {
            ops.RoundTrip: self._round_trip,
            ops.Send: self._send,
            ops.Receive: self._receive,
            ops.ReceiveInto: self._receive,
            ops.Sleep: self._sleep,
            ops.Wait: self._wait,
            ops.Invoke: self._invoke,
            ops.Connect: self._connect,
            ops.Resolve: self._resolve,
            ops.All: self._together,
            ops.First: self._together,
        }

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
        return await self._bridge.run(program, source)  # type: ignore[no-any-return]

    def start(
        self,
        program: ops.Program[Any],
        done: Callable[[Task], object] | None = None,
        *,
        source: str = "client",
    ) -> Task:
        """Start a program, which goes on whenever time does; ``done`` is called at its end."""
        task = Task(self, program, source, self._number(), done)
        self.push(self.now, Task.begin, task, None)
        return task

    def advance(self, seconds: float) -> None:
        """Let time pass, and happen what happens until then."""
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
        self._known.add(address)
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

    def delay(self, source: str, target: str, size: int) -> float:
        """Return how long bytes are underway; infinity when they are lost."""
        if self.dark and (source in self.dark or target in self.dark):
            return inf
        return self.network.delay(source, target, size)

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
            self.push(self.now, _resume, task, task.turn)
        else:
            self._await_data(task, task.operation)

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
        self.push(self.now, _resume if error is None else _raise, task, task.turn)

    def waits(self, task: Task) -> str:
        """Say what a program waits for."""
        return f"nothing will ever end this wait: {task.described()}, at {self.now:g} s"

    # How each operation is performed.

    def _begin(self, task: Task, operation: Any) -> None:
        task.operation = operation
        if task.closing:  # it was cancelled by what it did itself
            task.cancel(task.reason)
            return
        try:
            self._perform[operation.__class__](task, operation)
        except Exception as error:
            self.later(task, error=error)

    def until(self, task: Task, deadline: float) -> None:
        """Have the operation time out at its deadline, unless it is over before."""
        task.deadline = deadline
        if deadline < task.alarm:
            task.alarm = deadline
            heappush(self._events, (deadline, _LATE + self._order(), Task.ring, task, deadline))

    def _round_trip(self, task: Task, operation: ops.RoundTrip) -> None:
        if operation.deadline <= self.now:
            raise TimeoutError
        stream: Any = operation.stream
        stream.check()
        data = operation.data
        if data.__class__ is not bytes:
            data = bytes(data)
        if stream.send(data, task):
            self._await_data(task, operation)
        else:
            self.until(task, operation.deadline)

    def _send(self, task: Task, operation: ops.Send) -> None:
        if operation.deadline <= self.now:
            raise TimeoutError
        stream: Any = operation.stream
        stream.check()
        if stream.send(bytes(operation.data), task):
            self.push(self.now, _resume, task, task.turn)
        else:
            self.until(task, operation.deadline)

    def _receive(self, task: Task, operation: ops.Receive | ops.ReceiveInto) -> None:
        if operation.deadline <= self.now:
            raise TimeoutError
        self._await_data(task, operation)

    def _await_data(
        self, task: Task, operation: ops.RoundTrip | ops.Receive | ops.ReceiveInto
    ) -> None:
        stream: Any = operation.stream
        if stream.pieces or stream.ended or stream.closed:
            self.push(self.now, self.receive, task, task.turn)
            return
        task.limit = -1 if isinstance(operation, ops.ReceiveInto) else operation.limit
        stream.waiter = task
        self.until(task, operation.deadline)

    def _sleep(self, task: Task, operation: ops.Sleep) -> None:
        until = operation.until
        if until < inf:
            if until < self.now or ops.instant:
                until = self.now
            self.push(until, _resume, task, task.turn)

    def _wait(self, task: Task, operation: ops.Wait) -> None:
        turn = task.turn
        if operation.signal.listen(partial(self._fired, task, turn)):
            self.push(self.now, _resume, task, turn)
        elif operation.deadline <= self.now:
            operation.signal.listen(None)
            raise TimeoutError
        else:
            self.until(task, operation.deadline)

    def _fired(self, task: Task, turn: int) -> None:
        self.push(self.now, _resume, task, turn)

    def _invoke(self, task: Task, operation: ops.Invoke) -> None:
        task.running = True  # as long as what it calls
        try:
            value = operation.function(*operation.arguments)
        except Exception as error:
            self.later(task, error=error)
            return
        finally:
            task.running = False
        if task.closing:
            task.cancel(task.reason)
        elif task.asynchronous and hasattr(value, "__await__"):
            self._bridge.wait(task, value)
            self.until(task, operation.deadline)
        else:
            self.later(task, value)

    def _resolve(self, task: Task, operation: ops.Resolve) -> None:
        host = operation.host
        addresses = self.names.get(host)
        if addresses is None and _address(host, operation.port) in self._known:
            addresses = [host]
        if addresses is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        self.later(task, [(_family(name), (name, operation.port)) for name in addresses])

    def _connect(self, task: Task, operation: ops.Connect) -> None:
        if operation.deadline <= self.now:
            raise TimeoutError
        family, address = operation.address
        name = f"unix:{address}" if family == socket.AF_UNIX else _address(*address[:2])
        task.target = name
        task.origin = operation.source[0] if operation.source is not None else task.source
        task.tries = 0
        self.until(task, operation.deadline)
        knock(task, task.turn)

    def _together(self, task: Task, operation: ops.All | ops.First) -> None:
        first = isinstance(operation, ops.First)
        if not operation.programs:
            if first:
                raise ValueError("First needs a program")
            self.later(task, [])
            return
        task.children = Group(task, first)
        for program in operation.programs:
            child = Task(self, program, task.source, self._number(), None, task.children)
            child.asynchronous = task.asynchronous
            task.children.tasks.append(child)
            self.push(self.now, Task.begin, child, None)
        task.children.left = len(task.children.tasks)


def _resume(task: Task, turn: int) -> None:
    if turn == task.turn:
        value, task.value = task.value, None
        task.world.step(task, value)


def _raise(task: Task, turn: int) -> None:
    if turn == task.turn:
        error, task.error = task.error, None
        assert error is not None
        task.world.throw(task, error)


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


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
