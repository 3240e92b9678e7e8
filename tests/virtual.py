"""A driver of programs in virtual time, with endpoints that are Python functions.

Theory of operation: whatever a program asks for becomes an event in a heap, to happen now or
later; the clock jumps from one event to the next, and between two events nothing happens. Events
of one time happen in the order in which they were asked for, so a run is repeatable, and programs
that run at the same time take turns at every single operation. A wait that nothing will ever end
is an AssertionError.

    world = World()
    host = world.host("10.0.0.1:80", lambda asked: Reply(after=0.1))
    assert world.run(core.call(request)).status_code == 200
    assert world.now == world.start + 0.1
"""

from __future__ import annotations

import heapq
import itertools
import random
import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, TypeVar

from holdfast import ops

T = TypeVar("T")

_PARKED = object()


@dataclass(frozen=True)
class Asked:
    """One request, as the endpoint received it at ``time``."""

    method: str
    target: str
    head: str
    body: bytes
    time: float


@dataclass(frozen=True)
class Reply:
    """What an endpoint does with a request, ``after`` some seconds; infinity is silence.

    ``pieces`` of the body follow the head, each with the seconds before it. ``fate`` is
    ``"answer"``, or instead of an answer ``"reset"`` or ``"close"``, or after all the pieces
    ``"cut"``: less than what the head has promised.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    after: float = 0.0
    pieces: Sequence[tuple[float, bytes]] = ()
    fate: str = "answer"

    def arrivals(self, now: float, head_only: bool) -> list[tuple[float, bytes | OSError]]:
        """Return what the client will receive, and when."""
        at = now + self.after
        if self.fate == "reset":
            return [(at, ConnectionResetError(104, "Connection reset by peer"))]
        if self.fate == "close":
            return [(at, b"")]
        length = len(self.body) + sum(len(piece) for _, piece in self.pieces)
        length += 10 if self.fate == "cut" else 0
        lines = [f"HTTP/1.1 {self.status} X", f"Content-Length: {length}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        head = "\r\n".join([*lines, "", ""]).encode()
        came: list[tuple[float, bytes | OSError]] = [(at, head if head_only else head + self.body)]
        for pause, piece in self.pieces if not head_only else ():
            at += pause
            came.append((at, piece))
        return [*came, (at, b"")] if self.fate == "cut" else came


class Host:
    """An endpoint: how it takes connections (or does not), and what it answers.

    ``up`` false refuses connections; ``connect_after`` is how long one takes, in seconds.
    """

    def __init__(self, world: World, behave: Callable[[Asked], Reply]) -> None:
        self.world = world
        self.behave = behave
        self.up = True
        self.connect_after = 0.0
        self.connects = 0
        self.asked: list[Asked] = []
        self.streams: list[Stream] = []

    @property
    def open(self) -> int:
        """How many connections the client holds open."""
        return sum(not stream.closed for stream in self.streams)


class Stream:
    """The client's end of a connection."""

    trusted = 0.0

    def __init__(self, host: Host) -> None:
        self.host = host
        self.closed = False
        self.coming: deque[tuple[float, bytes | OSError]] = deque()
        self._sent = b""
        host.streams.append(self)

    def close(self) -> None:
        self.closed = True

    def usable(self, idle: float) -> bool:
        return not self.closed and not self.coming

    def send(self, data: bytes) -> None:
        """Take bytes; the host answers each request that is complete."""
        assert not self.closed
        self._sent += data
        while (end := self._sent.find(b"\r\n\r\n") + 4) > 3:
            head = self._sent[:end].decode("latin-1")
            length = re.search(r"(?mi)^content-length: (\d+)", head)
            if "Transfer-Encoding: chunked" in head:
                last = self._sent.find(b"0\r\n\r\n", end) + 5
                size = last - end if last > 4 else 1 << 62
            else:
                size = int(length[1]) if length else 0
            if len(self._sent) < end + size:
                return
            body, self._sent = self._sent[end : end + size], self._sent[end + size :]
            method, target, _ = head.split(" ", 2)
            asked = Asked(method, target, head, body, self.host.world.now)
            self.host.asked.append(asked)
            reply = self.host.behave(asked)
            self.coming.extend(reply.arrivals(asked.time, method == "HEAD"))

    def receive(self, limit: int) -> bytes:
        """Take what has come; the end and an error stay."""
        assert not self.closed
        data = self.coming[0][1]
        if isinstance(data, OSError):
            raise data
        if len(data) > limit:
            self.coming[0] = (self.coming[0][0], data[limit:])
        elif data:
            self.coming.popleft()
        return data[:limit]


class Task:
    """A program in progress."""

    def __init__(self, program: ops.Program[Any], over: Callable[[Task], None] | None) -> None:
        self.program = program
        self.over = over
        self.turn = 0  # events of earlier turns are void
        self.waits: ops.Operation | None = None
        self.children: list[Task] = []
        self.done = False
        self.value: Any = None
        self.error: BaseException | None = None

    def result(self) -> Any:
        """Return the program's result, or raise what it raised."""
        assert self.done, "the program still runs"
        if self.error is not None:
            raise self.error
        return self.value


class World:
    """The driver, its clock, its randomness and its hosts."""

    def __init__(self, seed: int = 0, start: float = 1000.0) -> None:
        self.start = self.now = start
        self.random = random.Random(seed).random
        self.hosts: dict[str, Host] = {}
        self.names: dict[str, Sequence[str]] = {}
        self._events: list[tuple[float, int, Task, int, Callable[[], Any]]] = []
        self._order = itertools.count()
        self._perform: dict[type, Callable[[Task, Any], None]] = {
            ops.Sleep: lambda task, op: self._later(op.until, task, lambda: None),
            ops.Send: lambda task, op: self._later(
                self.now, task, lambda: op.stream.send(bytes(op.data))
            ),
            ops.Invoke: lambda task, op: self._later(
                self.now, task, lambda: op.function(*op.arguments)
            ),
            ops.RoundTrip: self._round_trip,
            ops.Receive: self._receive,
            ops.ReceiveInto: self._receive,
            ops.Resolve: self._resolve,
            ops.Connect: self._connect,
            ops.Wait: self._wait,
            ops.All: self._together,
            ops.First: self._together,
        }

    def clock(self) -> float:
        """Return the virtual time."""
        return self.now

    def host(self, name: str, behave: Callable[[Asked], Reply] | Reply | None = None) -> Host:
        """Add a host by ``address:port``, which always replies the same or as a function says."""
        reply = behave if isinstance(behave, Reply) else Reply()
        self.hosts[name] = Host(self, behave if callable(behave) else lambda asked: reply)
        return self.hosts[name]

    def run(self, program: ops.Program[T]) -> T:
        """Run a program to its end and return its result."""
        task = self.begin(program)
        while not task.done:
            assert self._events, f"{task.waits} waits for ever"
            self._happen()
        return task.result()  # type: ignore[no-any-return]

    def begin(self, program: ops.Program[Any]) -> Task:
        """Start a program, which goes on whenever the clock does."""
        return self._begin(program, None)

    def advance(self, seconds: float) -> None:
        """Let time pass, and happen what happens until then."""
        until = self.now + seconds
        while self._events and self._events[0][0] <= until:
            self._happen()
        self.now = until

    def cancel(self, task: Task, error: BaseException | None = None) -> None:
        """Close a program, or throw an error into it, where it waits now."""
        if task.done:
            return
        task.turn += 1
        for child in task.children:
            self.cancel(child)
        if isinstance(task.waits, ops.Wait):
            task.waits.signal.listen(None)
        if error is not None:
            self._step(task, error, True)
            return
        task.done = True
        task.program.close()

    def _begin(self, program: ops.Program[Any], over: Callable[[Task], None] | None) -> Task:
        task = Task(program, over)
        self._later(self.now, task, lambda: None)
        return task

    def _later(self, time: float, task: Task, action: Callable[[], Any]) -> None:
        if time < inf:
            event = (max(time, self.now), next(self._order), task, task.turn, action)
            heapq.heappush(self._events, event)

    def _happen(self) -> None:
        time, _, task, turn, action = heapq.heappop(self._events)
        if task.done or turn != task.turn:
            return
        self.now = max(self.now, time)
        try:
            value, raised = action(), False
        except Exception as error:
            value, raised = error, True
        if value is not _PARKED:
            self._step(task, value, raised)

    def _step(self, task: Task, value: Any, raised: bool) -> None:
        task.turn += 1
        try:
            task.waits = (task.program.throw if raised else task.program.send)(value)
        except StopIteration as stop:
            task.value = stop.value
        except BaseException as error:
            task.error = error
        else:
            self._perform[type(task.waits)](task, task.waits)
            return
        task.done = True
        if task.over is not None:
            task.over(task)

    def _round_trip(self, task: Task, op: ops.RoundTrip) -> None:
        def send() -> object:
            stream: Any = op.stream
            stream.send(bytes(op.data))
            self._receive(task, op)
            return _PARKED

        self._later(self.now, task, send)

    def _receive(self, task: Task, op: ops.Receive | ops.RoundTrip | ops.ReceiveInto) -> None:
        stream: Any = op.stream

        def take() -> Any:
            if not isinstance(op, ops.ReceiveInto):
                return stream.receive(op.limit)
            data = stream.receive(len(op.buffer))
            op.buffer[: len(data)] = data
            return len(data)

        at = stream.coming[0][0] if stream.coming else inf
        if at <= max(op.deadline, self.now):
            self._later(at, task, take)
        else:
            self._later(op.deadline, task, _time_out)

    def _resolve(self, task: Task, op: ops.Resolve) -> None:
        def look_up() -> list[ops.Address]:
            if op.host not in self.names:
                raise OSError(-2, "Name or service not known")
            return [(2, (address, op.port)) for address in self.names[op.host]]

        self._later(self.now, task, look_up)

    def _connect(self, task: Task, op: ops.Connect) -> None:
        address, port = op.address[1][:2]
        host = self.hosts[f"{address}:{port}"]
        host.connects += 1

        def finish() -> Stream:
            if not host.up:
                raise ConnectionRefusedError(111, "Connection refused")
            return Stream(host)

        at = self.now + host.connect_after
        if at <= op.deadline:
            self._later(at, task, finish)
        else:
            self._later(op.deadline, task, _time_out)

    def _wait(self, task: Task, op: ops.Wait) -> None:
        turn = task.turn

        def fired() -> None:
            if turn == task.turn:
                self._later(self.now, task, lambda: None)

        def time_out() -> None:
            op.signal.listen(None)
            raise TimeoutError

        if op.signal.listen(fired):
            fired()
        else:
            self._later(op.deadline, task, time_out)

    def _together(self, task: Task, op: ops.All | ops.First) -> None:
        turn = task.turn

        def over(child: Task) -> None:
            if turn != task.turn:
                return
            first = isinstance(op, ops.First)
            if first and child.error is None:
                for other in task.children:
                    self.cancel(other)
                self._later(self.now, task, lambda: (task.children.index(child), child.value))
            elif all(other.done for other in task.children):
                self._later(self.now, task, lambda: _all_of(task.children, first))

        task.children = [self._begin(program, over) for program in op.programs]
        if not task.children:
            self._later(self.now, task, lambda: _all_of((), isinstance(op, ops.First)))


def _time_out() -> None:
    raise TimeoutError


def _all_of(children: Sequence[Task], first: bool) -> list[Any]:
    if first:
        errors = [child.error for child in children if isinstance(child.error, Exception)]
        raise ExceptionGroup("every program failed", errors)
    return [child.value if child.error is None else child.error for child in children]
