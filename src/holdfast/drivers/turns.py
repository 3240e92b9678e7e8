"""Several programs on one thread: each runs until it would have to wait, then the next one.

Theory of operation: a *strand* is one program in progress. It is *ready* (in a queue, with what
is to be sent or thrown into it) or *parked* with the operation that it waits for, under a number
of its own that also orders equal deadlines. What ends the wait (a socket, a signal, a deadline)
takes the strand out of ``_parked``; a late end finds nothing there and is ignored.
"""

from __future__ import annotations

import heapq
import selectors
import socket
import threading
from collections import deque
from contextlib import suppress
from itertools import count
from math import inf
from time import monotonic
from typing import Any

from holdfast import ops
from holdfast.drivers.lookups import Lookup
from holdfast.drivers.sockets import READ, TRY, WRITE, abandon, events_of, socket_of

#: How many operations a strand may do in one go, without having to wait.
_TURN = 64

_EVENTS = {READ: selectors.EVENT_READ, WRITE: selectors.EVENT_WRITE}


class _Strand:
    __slots__ = (
        "children",
        "events",
        "fileno",
        "group",
        "index",
        "lookup",
        "number",
        "operation",
        "program",
    )

    def __init__(self, program: ops.Program[Any], group: _Group | None, index: int) -> None:
        self.program = program
        self.group = group
        self.index = index
        self.number = -1
        self.operation: Any = None
        self.fileno = -1
        self.events = 0
        self.lookup: Lookup | None = None
        self.children: _Group | None = None


class _Group:
    """An ``All`` or ``First`` in progress; ``parent`` is the strand that asked for it."""

    __slots__ = ("first", "left", "parent", "results", "strands")

    def __init__(self, operation: ops.All | ops.First, parent: _Strand | None) -> None:
        self.first = isinstance(operation, ops.First)
        self.parent = parent
        self.strands = [_Strand(p, self, i) for i, p in enumerate(operation.programs)]
        self.results: list[Any] = [None] * len(self.strands)
        self.left = len(self.strands)


class Turns:
    """The selector loop; one object for each outermost ``All`` or ``First``."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._ready: deque[tuple[_Strand, Any, bool]] = deque()
        self._parked: dict[int, _Strand] = {}
        self._deadlines: list[tuple[float, int]] = []
        self._numbers = count()
        self._bell_lock = threading.Lock()
        self._bell: tuple[socket.socket, socket.socket] | None = None
        self._signalled: deque[int] = deque()

    def run(self, operation: ops.All | ops.First) -> Any:
        """Run the operation's programs and return what the operation returns."""
        outermost = _Strand(_answer(operation), None, 0)
        self._ready.append((outermost, None, False))
        try:
            while True:
                # Those that become ready meanwhile come after a look at the sockets and the clock.
                for _ in range(len(self._ready)):
                    if not self._ready:
                        break  # the winner of a First has ended the others
                    strand, value, raised = self._ready.popleft()
                    try:
                        self._turn(strand, value, raised)
                    except StopIteration as stop:
                        return stop.value
                self._wait()
        finally:
            if outermost.children is not None:
                self._close(outermost.children)
            self._selector.close()
            with self._bell_lock:
                bell, self._bell = self._bell, None
            for end in bell or ():
                end.close()

    def _turn(self, strand: _Strand, value: Any, raised: bool) -> None:
        """Run one strand until it is parked, over, or has done enough for others to go on."""
        for _ in range(_TURN):
            try:
                step = strand.program.throw if raised else strand.program.send
                operation = step(value)
            except StopIteration as stop:
                self._over(strand, stop.value, None)
                return
            except Exception as error:
                self._over(strand, None, error)
                return
            try:
                parked, value = self._begin(strand, operation)
                if parked:
                    return
                raised = False
            except BaseException as error:
                value, raised = error, True
        self._ready.append((strand, value, raised))

    def _over(self, strand: _Strand, result: Any, error: Exception | None) -> None:
        group = strand.group
        if group is None:
            if error is not None:
                raise error
            raise StopIteration(result)
        group.left -= 1
        parent = group.parent
        assert parent is not None
        if group.first and error is None:
            self._resume(parent, (strand.index, result))
            self._close(group)
            return
        group.results[strand.index] = error if error is not None else result
        if group.left == 0:
            if group.first:
                self._resume(parent, ExceptionGroup("every program failed", group.results), True)
            else:
                self._resume(parent, group.results)

    def _begin(self, strand: _Strand, operation: Any) -> tuple[bool, Any]:
        """Begin an operation: (False, its result), or (True, None) when the strand is parked."""
        kind = operation.__class__
        if kind in TRY:
            if operation.deadline <= monotonic():
                raise TimeoutError
            try:
                return False, TRY[kind](operation)
            except BlockingIOError:
                fileno = socket_of(operation)
                self._park(strand, operation, operation.deadline)
                strand.events = _EVENTS[events_of(operation)]
                self._selector.register(fileno, strand.events, strand.number)
                strand.fileno = fileno
                return True, None
        if kind is ops.Invoke:
            return False, operation.function(*operation.arguments)
        if kind is ops.All or kind is ops.First:
            if not operation.programs:
                if kind is ops.First:
                    raise ValueError("First needs a program")
                return False, []
            strand.children = group = _Group(operation, strand)
            self._ready.extend((child, None, False) for child in group.strands)
            return True, None
        if kind is ops.Sleep:
            until = operation.until
            self._park(strand, operation, -inf if ops.instant and until < inf else until)
            return True, None
        if kind is ops.Resolve:
            strand.lookup = Lookup(operation.host, operation.port)
            signal = strand.lookup.signal
        else:
            signal = operation.signal
        self._park(strand, operation, operation.deadline)
        self._hang_bell()
        number = strand.number
        if signal.listen(lambda: self._ring(number)):
            self._ring(number)
        return True, None

    def _park(self, strand: _Strand, operation: Any, deadline: float) -> None:
        strand.operation = operation
        strand.number = number = next(self._numbers)
        self._parked[number] = strand
        if deadline < inf:
            heapq.heappush(self._deadlines, (deadline, number))

    def _hang_bell(self) -> None:
        """Have a way for other threads to end a select."""
        if self._bell is None:
            self._bell = socket.socketpair()
            for end in self._bell:
                end.setblocking(False)
            self._selector.register(self._bell[0], selectors.EVENT_READ, -1)

    def _ring(self, number: int) -> None:
        """Say, from any thread, that a parked strand's signal was fired."""
        self._signalled.append(number)
        with self._bell_lock:  # so that nobody rings what is closed, or its number's next owner
            if self._bell is not None:
                with suppress(BlockingIOError):  # full: it rings already
                    self._bell[1].send(b"\0")

    def _wait(self) -> None:
        """Wait until at least one parked strand can go on, or pretend to."""
        timeout: float | None = None
        while self._deadlines and self._deadlines[0][1] not in self._parked:
            heapq.heappop(self._deadlines)
        if self._ready or self._signalled:
            timeout = 0
        elif self._deadlines:
            timeout = max(min(self._deadlines[0][0] - monotonic(), 3600.0), 0)
        for key, _ in self._selector.select(timeout):
            if key.data == -1:
                assert self._bell is not None
                self._bell[0].recv(4096)
            else:
                self._retry(self._parked[key.data])
        while self._signalled:
            strand = self._parked.get(self._signalled.popleft())
            if strand is not None:
                self._signal_fired(strand)
        self._expire()

    def _retry(self, strand: _Strand) -> None:
        operation = strand.operation
        try:
            result = TRY[operation.__class__](operation)
        except BlockingIOError:
            events = _EVENTS[events_of(operation)]
            if events != strand.events:  # all is sent, the answer is still to come
                strand.events = events
                self._selector.modify(strand.fileno, events, strand.number)
            return
        except Exception as error:
            self._resume(strand, error, True)
        else:
            self._resume(strand, result)

    def _signal_fired(self, strand: _Strand) -> None:
        if strand.lookup is None:
            self._resume(strand, None)
            return
        try:
            result = strand.lookup.result()
        except Exception as error:
            self._resume(strand, error, True)
        else:
            self._resume(strand, result)

    def _expire(self) -> None:
        now = monotonic()
        while self._deadlines and self._deadlines[0][0] <= now:
            strand = self._parked.get(heapq.heappop(self._deadlines)[1])
            if strand is None:
                continue
            if strand.operation.__class__ is ops.Sleep:
                self._resume(strand, None)
            else:
                operation = strand.operation
                self._unpark(strand)
                abandon(operation)
                self._resume(strand, TimeoutError(), True)

    def _resume(self, strand: _Strand, value: Any, raised: bool = False) -> None:
        self._unpark(strand)
        strand.children = None
        self._ready.append((strand, value, raised))

    def _unpark(self, strand: _Strand) -> None:
        self._parked.pop(strand.number, None)
        if strand.fileno >= 0:
            # A connect that failed has closed its socket, which left the selector's map as it was.
            self._selector.unregister(strand.fileno)
            strand.fileno = -1
        elif strand.lookup is not None:
            strand.lookup.signal.listen(None)
        elif isinstance(strand.operation, ops.Wait):
            strand.operation.signal.listen(None)
        strand.lookup = strand.operation = None

    def _close(self, group: _Group) -> None:
        """End what still runs of a group, innermost first."""
        for strand in group.strands:
            if strand.children is not None:
                self._close(strand.children)
                strand.children = None
            operation = strand.operation
            self._unpark(strand)
            if operation is not None:
                abandon(operation)
            with suppress(Exception):  # what goes wrong in a loser's clean-up is not the winner's
                strand.program.close()
        ended = set(map(id, group.strands))
        self._ready = deque(item for item in self._ready if id(item[0]) not in ended)


def _answer(operation: ops.All | ops.First) -> ops.Program[Any]:
    return (yield operation)
